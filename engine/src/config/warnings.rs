//! Settings that are taken although they look wrong: each is said once, when the program starts.

use std::path::Path;

use super::{Config, environment};

/// Bytes of memory for tables below which no bank of a useful size loads.
const TABLES_MIN: u64 = 64 << 20;

/// What somebody set; the rest are defaults, which nobody needs to be warned of.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsSet {
    pub(super) memory_max: bool,
    pub(super) ffmpeg: bool,
}

impl Config {
    pub(super) fn doubts(&self, is_set: IsSet) -> Vec<String> {
        let mut doubts = Vec::new();
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in environment::unknown(names) {
            doubts.push(format!(
                "the environment variable {name} is no setting and is ignored: see `hashward serve --help`"
            ));
        }
        if let Some(bytes) = self.memory_max_bytes.filter(|_| is_set.memory_max) {
            doubts.extend(memory_doubt(bytes, self.allowance.memory.as_ref().map(|memory| memory.limit)));
        }
        let ffmpeg = &self.video.ffmpeg;
        if is_set.ffmpeg && !is_program(ffmpeg) {
            doubts.push(format!("--ffmpeg {} is no file: no video can be hashed by vpdq", ffmpeg.display()));
        }
        doubts
    }
}

fn memory_doubt(bytes: u64, machine: Option<u64>) -> Option<String> {
    match machine {
        Some(machine) if bytes > machine => Some(format!(
            "--memory-max-bytes {bytes} is more than the {machine} bytes that this process may use: it ends without memory \
             before the tables reach it"
        )),
        _ if bytes < TABLES_MIN => Some(format!(
            "--memory-max-bytes {bytes} is less than {TABLES_MIN}: banks of a useful size do not load"
        )),
        _ => None,
    }
}

/// Whether a program is there: a path as it stands, a name on the path of programs.
fn is_program(program: &Path) -> bool {
    if program.components().count() > 1 {
        return program.is_file();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_memory_is_doubted_below_the_least_and_above_the_machine() {
        let machine = Some(8 << 30);
        for (bytes, says) in [(100, "is less than"), (9 << 30, "is more than"), (u64::MAX, "is more than")] {
            assert!(memory_doubt(bytes, machine).is_some_and(|doubt| doubt.contains(says)), "{bytes}");
        }
        assert_eq!((memory_doubt(1 << 30, machine), memory_doubt(u64::MAX, None)), (None, None));
        assert!(is_program(Path::new("sh")) && !is_program(Path::new("/nowhere/ffmpeg")));
    }
}
