//! How many file descriptors the program may open, and who gets how many.
//!
//! Connections never get so many that the databases run out: a database that cannot open its files fails writes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ConfigError;

/// Descriptors for everything but connections: four databases with 512 files each, stored media, files and URLs being
/// hashed, the reactors' own.
const RESERVE: u64 = 2_560;
/// The most that Linux grants (`fs.nr_open`), where there is no limit.
const UNLIMITED: u64 = 1 << 20;
/// Descriptors of a shard beyond those of its connections: listener, rings, connections that are being closed.
const OF_SHARD: u64 = 128;
/// Connections of the admin port.
const ADMIN_CONNECTIONS: u64 = 1024;
/// Descriptors for which the table is made at the start, at most: 8 bytes each.
const TABLE_MAX: u64 = 1 << 18;
/// Connections of a shard, where nobody says otherwise and the limit allows.
const SHARD_CONNECTIONS: u64 = 1024;
/// Fewer connections than this are no service.
const CONNECTIONS_MIN: u64 = 64;

/// How many connections each port may have.
#[derive(Debug, PartialEq, Eq)]
pub struct Shares {
    /// Connections of a shard.
    pub connections: usize,
    /// Connections of the admin port.
    pub admin_connections: usize,
    /// What an operator should know of it.
    pub warning: Option<String>,
}

/// Returns the hard limit of this process.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(UNLIMITED)
}

/// Raises the soft limit to the hard one: 1 024, the usual one, is for programs that use `select`.
pub fn raise() -> std::io::Result<()> {
    let hard = limit();
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: limits.maximum })?;
    Ok(())
}

/// Has the kernel make this process's table of descriptors as large as it may become. Later each doubling would stop the
/// threads that open or accept something until every core has passed a quiet moment: tens of milliseconds on busy ones.
/// To be called before there are other threads.
pub fn enlarge(cores: usize, connections: usize) -> std::io::Result<()> {
    let (cores, connections) = (cores.max(1) as u64, connections as u64);
    let most = RESERVE + ADMIN_CONNECTIONS + cores.saturating_mul(OF_SHARD.saturating_add(connections));
    let last = most.min(limit()).min(TABLE_MAX).saturating_sub(1);
    let null = std::fs::File::open("/dev/null")?;
    rustix::io::fcntl_dupfd_cloexec(&null, i32::try_from(last).unwrap_or(i32::MAX))?; // closed again; the table stays
    Ok(())
}

/// Shares out a hard limit of `allowed` descriptors among `cores` shards and the admin port.
///
/// # Errors
/// Returns [`ConfigError::Descriptors`] if the connections that were asked for, or the fewest that make sense, do not fit.
pub fn share(allowed: u64, cores: usize, wanted: Option<usize>) -> Result<Shares, ConfigError> {
    let cores = cores.max(1) as u64;
    let fixed = RESERVE + cores * OF_SHARD;
    let free = allowed.saturating_sub(fixed);
    let admin = ADMIN_CONNECTIONS.min(free / 4).max(CONNECTIONS_MIN);
    let each = wanted.map_or(SHARD_CONNECTIONS, |wanted| wanted as u64);
    let needed = |each: u64| fixed.saturating_add(admin).saturating_add(cores.saturating_mul(each));
    let (connections, warning) = if needed(each) <= allowed {
        (each, None)
    } else {
        let fits = free.saturating_sub(admin) / cores;
        if wanted.is_some() || fits < CONNECTIONS_MIN {
            return Err(ConfigError::Descriptors {
                needed: needed(wanted.map_or(CONNECTIONS_MIN, |wanted| wanted as u64)),
                allowed,
            });
        }
        let warning = format!(
            "a shard accepts {fits} connections instead of {SHARD_CONNECTIONS}, because the process may have only \
             {allowed} file descriptors: raise the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd)"
        );
        (fits, Some(warning))
    };
    Ok(Shares { connections: connections as usize, admin_connections: admin as usize, warning })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_limits_give_the_defaults() {
        let shares = share(524_288, 16, None).unwrap();
        assert_eq!(shares, Shares { connections: 1024, admin_connections: 1024, warning: None });
    }

    #[test]
    fn the_table_is_made_for_every_connection() {
        enlarge(2, 1024).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let size: u64 = size.trim().parse().unwrap();
        assert!(size >= limit().min(5_000), "{size}");
    }

    #[test]
    fn a_low_limit_gives_fewer_connections_and_says_so() {
        let shares = share(4_096, 3, None).unwrap();
        assert!((64..1024).contains(&shares.connections), "{shares:?}");
        let taken = RESERVE + 3 * (OF_SHARD + shares.connections as u64) + shares.admin_connections as u64;
        assert!(taken <= 4_096, "{taken}");
        assert!(shares.warning.unwrap().contains("4096 file descriptors"));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        let error = share(1_024, 1, None).unwrap_err().to_string();
        assert!(error.contains("may have 1024") && error.contains("--connections-max"), "{error}");
        let error = share(65_536, 2, Some(100_000)).unwrap_err();
        let ConfigError::Descriptors { needed, allowed: 65_536 } = error else { panic!("{error}") };
        assert!(needed > 200_000);
        assert!(share(1 << 20, 2, Some(100_000)).is_ok());
        assert!(share(1 << 20, 1024, Some(usize::MAX)).is_err(), "no overflow");
    }
}
