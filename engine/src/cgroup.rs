//! What this process may use: the machine's memory and CPUs, or less where its control groups say so.
//!
//! A control group limits all groups below it, so the least of this process's group and of all above it counts, as far as
//! they are mounted here. Version 2, version 1 and both side by side are read. Everything is read below a root folder.

use std::fs;
use std::path::{Path, PathBuf};

/// A limit, and where it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<T> {
    /// The limit.
    pub limit: T,
    /// The file that says so.
    pub source: String,
}

/// What this process may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowance {
    /// Bytes of memory: the machine's, or less. `None` where the system does not say.
    pub memory: Option<Found<u64>>,
    /// CPUs' worth of time; `None` without a quota.
    pub cpus: Option<Found<f64>>,
}

/// Memory of everything but the tables that the default budget leaves free at least: the databases' buffers and caches,
/// connections, files that are hashed. Measured during an import: 100 MB.
const BESIDE_TABLES: u64 = 384 << 20;

impl Allowance {
    /// Reads it; the root folder is `/` but for tests.
    pub fn read(root: &Path) -> Self {
        let groups = Groups::read(root);
        let mut found = Self { memory: machine_memory(root), cpus: None };
        for folder in groups.folders("memory") {
            for (file, read) in MEMORY_FILES {
                let path = folder.join(file);
                let limit = fs::read_to_string(&path).ok().and_then(|text| read(&text));
                least(&mut found.memory, limit, root, &path);
            }
        }
        for folder in groups.folders("cpu") {
            for file in ["cpu.max", "cpu.cfs_quota_us"] {
                let path = folder.join(file);
                least(&mut found.cpus, cpus(&folder, file), root, &path);
            }
        }
        found
    }

    /// What the tables may take where nobody says: most of the memory, and so little that the rest has room.
    pub fn tables_bytes(&self) -> Option<u64> {
        let limit = self.memory.as_ref()?.limit;
        Some((limit / 5 * 4).min(limit.saturating_sub(BESIDE_TABLES)).max(limit / 4))
    }

    /// Shards where nobody says: a CPU is left to the control plane.
    pub fn shards(&self) -> usize {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let quota = self.cpus.as_ref().map_or(cpus, |quota| quota.limit.floor() as usize);
        cpus.min(quota).saturating_sub(1).max(1)
    }
}

type ReadLimit = fn(&str) -> Option<u64>;

/// Files with limits of memory, of version 2 and of version 1. What is beyond `memory.high` is slowed down to a stop.
const MEMORY_FILES: [(&str, ReadLimit); 4] = [
    ("memory.max", number),
    ("memory.high", number),
    ("memory.limit_in_bytes", number),
    ("memory.stat", |text| {
        text.lines().find_map(|line| number(line.strip_prefix("hierarchical_memory_limit ")?))
    }),
];

/// A number; `max` is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn cpus(folder: &Path, file: &str) -> Option<f64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    let (quota, period) = match text.trim().split_once(' ') {
        Some((quota, period)) => (number(quota)?, number(period)?),
        // Version 1; without a quota it is -1.
        None => (number(&text)?, number(&fs::read_to_string(folder.join("cpu.cfs_period_us")).ok()?)?),
    };
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

fn least<T: PartialOrd>(found: &mut Option<Found<T>>, limit: Option<T>, root: &Path, path: &Path) {
    let Some(limit) = limit else { return };
    if found.as_ref().is_none_or(|found| limit < found.limit) {
        let source = Path::new("/").join(path.strip_prefix(root).unwrap_or(path)).display().to_string();
        *found = Some(Found { limit, source });
    }
}

fn machine_memory(root: &Path) -> Option<Found<u64>> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let limit = number(total.trim().trim_end_matches("kB"))?.checked_mul(1024)?;
    Some(Found { limit, source: "/proc/meminfo".to_string() })
}

/// The control groups of this process, and where they are mounted.
struct Groups {
    root: PathBuf,
    /// Controllers (none for version 2) and path, as `/proc/self/cgroup` has them.
    paths: Vec<(Vec<String>, PathBuf)>,
    mounts: Vec<Mount>,
}

/// A mounted hierarchy.
struct Mount {
    /// Of version 1: its controllers.
    controllers: Option<Vec<String>>,
    /// What of the hierarchy is mounted, and where.
    from: PathBuf,
    at: PathBuf,
}

impl Groups {
    fn read(root: &Path) -> Self {
        let read = |path| fs::read_to_string(root.join(path)).unwrap_or_default();
        let paths = read("proc/self/cgroup").lines().filter_map(read_group).collect();
        let mounts = read("proc/self/mountinfo").lines().filter_map(read_mount).collect();
        Self { root: root.to_path_buf(), paths, mounts }
    }

    /// The folders of this process's group and of all above it, in every hierarchy that has this controller.
    fn folders(&self, controller: &str) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for mount in &self.mounts {
            let has = |controllers: &[String]| controllers.iter().any(|name| name == controller);
            let of = |(controllers, _): &&(Vec<String>, PathBuf)| match &mount.controllers {
                Some(mounted) => has(mounted) && has(controllers),
                None => controllers.is_empty(),
            };
            let Some((_, path)) = self.paths.iter().find(of) else { continue };
            let at = self.root.join(relative(&mount.at));
            // Of a path that is not below what is mounted (of another namespace), the mounted group is all there is.
            let below = path.strip_prefix(&mount.from).unwrap_or(Path::new(""));
            let below = if below.is_absolute() { relative(below) } else { below };
            let hidden = below.components().any(|part| part == std::path::Component::ParentDir);
            let group = if hidden { at.clone() } else { at.join(below) };
            folders.extend(
                group.ancestors().take_while(|folder| folder.starts_with(&at)).map(Path::to_path_buf),
            );
        }
        folders
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// `4:memory:/path`, or `0::/path` of version 2.
fn read_group(line: &str) -> Option<(Vec<String>, PathBuf)> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    Some((names(controllers), path.into()))
}

/// `id parent device FROM AT options … - TYPE source CONTROLLERS`.
fn read_mount(line: &str) -> Option<Mount> {
    let (place, what) = line.split_once(" - ")?;
    let (mut place, mut what) = (place.split(' ').skip(3), what.split(' '));
    let (from, at) = (unescaped(place.next()?), unescaped(place.next()?));
    let controllers = match what.next()? {
        "cgroup2" => None,
        "cgroup" => Some(names(what.nth(1)?)),
        _ => return None,
    };
    Some(Mount { controllers, from: from.into(), at: at.into() })
}

fn names(list: &str) -> Vec<String> {
    list.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect()
}

/// A path as the kernel writes it: blanks, tabs, line ends and backslashes are `\` and three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_string(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const GB: u64 = 1 << 30;

    /// A machine of 25 GiB with these files.
    fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in
            [("proc/meminfo", "MemTotal:       26214400 kB\nMemFree: 1 kB\n")].iter().chain(files)
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn memory(files: &[(&str, &str)]) -> (u64, String) {
        let found = Allowance::read(machine(files).path()).memory.unwrap();
        (found.limit, found.source)
    }

    const V2: (&str, &str) = (
        "proc/self/mountinfo",
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    );

    #[test]
    fn without_a_group_it_is_the_machines() {
        assert_eq!(memory(&[]), (25 * GB, "/proc/meminfo".to_string()));
        assert_eq!(Allowance::read(machine(&[]).path()).cpus, None);
        let none = Allowance::read(Path::new("/nowhere"));
        assert_eq!((none.memory.clone(), none.tables_bytes()), (None, None));
    }

    #[test]
    fn the_least_of_all_groups_above_counts_in_version_2() {
        let files = [
            V2,
            ("proc/self/cgroup", "0::/system.slice/outer.service/inner\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/outer.service/memory.max", "734003200\n"),
            ("sys/fs/cgroup/system.slice/outer.service/inner/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/outer.service/inner/memory.high", "2147483648\n"),
            ("sys/fs/cgroup/system.slice/cpu.max", "250000 100000\n"),
            ("sys/fs/cgroup/system.slice/outer.service/inner/cpu.max", "max 100000\n"),
        ];
        let source = "/sys/fs/cgroup/system.slice/outer.service/memory.max".to_string();
        assert_eq!(memory(&files), (700 << 20, source));
        let found = Allowance::read(machine(&files).path());
        let source = "/sys/fs/cgroup/system.slice/cpu.max".to_string();
        assert_eq!(found.cpus, Some(Found { limit: 2.5, source }));
        assert!(found.shards() <= 1);
        let high = [&files[..], &[("sys/fs/cgroup/system.slice/memory.high", "104857600\n")]].concat();
        assert_eq!(memory(&high).0, 100 << 20, "what is slowed down to a stop is no memory");
    }

    #[test]
    fn in_a_container_the_mounted_group_is_its_own() {
        let namespaced = [V2, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "1073741824\n")];
        assert_eq!(memory(&namespaced), (GB, "/sys/fs/cgroup/memory.max".to_string()));
        // A process of elsewhere: its path leads out of the namespace.
        let elsewhere =
            [V2, ("proc/self/cgroup", "0::/../other\n"), ("sys/fs/cgroup/memory.max", "1073741824\n")];
        assert_eq!(memory(&elsewhere).0, GB);
        // Without a namespace of groups: the path is the host's, and only the part below is mounted.
        let bound = [
            ("proc/self/mountinfo", "9 8 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"),
            ("proc/self/cgroup", "0::/docker/abc/worker\n"),
            ("sys/fs/cgroup/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/worker/memory.max", "1073741824\n"),
        ];
        assert_eq!(memory(&bound), (GB, "/sys/fs/cgroup/worker/memory.max".to_string()));
    }

    #[test]
    fn version_1_and_both_side_by_side_are_read() {
        let mounts = "\
31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 24 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 24 0:30 / /sys/fs/cgroup/a\\040b rw - cgroup cgroup rw,freezer
35 1 8:1 / / rw - ext4 /dev/root rw
";
        let groups = "4:memory:/jobs/one\n3:cpu,cpuacct:/jobs\n1:name=systemd:/x\n0::/x\n";
        let unlimited = "9223372036854771712\n";
        let files = [
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", groups),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", unlimited),
            ("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes", unlimited),
            ("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "150000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(memory(&files), (GB, "/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes".to_string()));
        assert_eq!(Allowance::read(machine(&files).path()).cpus.unwrap().limit, 1.5);
        // What limits groups that are not mounted here is in the statistics of those that are.
        let stat = "cache 1\nhierarchical_memory_limit 734003200\n";
        let inside = [&files[..], &[("sys/fs/cgroup/memory/jobs/one/memory.stat", stat)]].concat();
        assert_eq!(memory(&inside).0, 700 << 20);
    }

    #[test]
    fn the_tables_leave_room_for_the_rest() {
        let tables = |limit| {
            let memory = Some(Found { limit, source: String::new() });
            Allowance { memory, cpus: None }.tables_bytes().unwrap()
        };
        assert_eq!(tables(25 * GB), 20 * GB);
        assert_eq!(tables(700 << 20), (700 - 384) << 20);
        assert_eq!(tables(400 << 20), 100 << 20);
    }
}
