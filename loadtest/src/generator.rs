//! The generator watching itself: a rate it could not have gone beyond says nothing of the server.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};
use rustix::time::{ClockId, clock_gettime};

/// From this share of its CPUs on the generator was what limited the run.
const BUSY_MAX: f64 = 0.95;
/// From this share of late sends on an open loop did not keep its schedule.
const LATE_MAX: f64 = 0.01;

/// The CPU time of a thread between two moments.
pub struct Watch {
    begun: Instant,
    cpu: Duration,
}

impl Watch {
    /// From now on, for the calling thread.
    pub fn start() -> Self {
        Self { begun: Instant::now(), cpu: cpu_time() }
    }

    /// CPU time and time passed since; to be asked by the same thread.
    pub fn read(&self) -> (Duration, Duration) {
        (cpu_time().saturating_sub(self.cpu), self.begun.elapsed())
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Keeps this process on one CPU. Threads started later inherit it.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    anyhow::ensure!(cpu < CpuSet::MAX_CPU, "--pin {cpu}: there is no such CPU");
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("--pin {cpu}: is it a CPU this process may use?"))
}

/// Lets the calling thread wake from a sleep when it is due: by default the kernel takes 50 µs more.
pub fn wake_on_time() {
    let _ = set_current_timer_slack(NonZeroU64::new(1)); // refused, sends are as late as they were
}

/// CPUs this process may use.
pub fn cpus() -> usize {
    sched_getaffinity(None)
        .map_or(1, |set| (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).count().max(1))
}

/// Why the generator was the bottleneck; `None` if it was not. `busy` is the CPU time of all threads in
/// `seconds`; of `sends` in an open loop `late` were late.
pub fn fault(busy: f64, seconds: f64, threads: usize, late: u64, sends: u64) -> Option<String> {
    let share = share(busy, seconds, threads);
    if share >= BUSY_MAX {
        return Some(format!(
            "the generator used {:.0} % of the CPUs it could: give it more (--connections, another --pin, a machine of its own)",
            share * 100.0
        ));
    }
    let lateness = late as f64 / sends.max(1) as f64;
    (lateness > LATE_MAX).then(|| {
        format!(
            "{:.1} % of the sends were over 1 ms late: the schedule was not kept, lower --rate",
            lateness * 100.0
        )
    })
}

/// CPU time over what the threads could have had.
pub fn share(busy: f64, seconds: f64, threads: usize) -> f64 {
    busy / (seconds * threads.min(cpus()) as f64).max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_or_late_generator_is_told_from_a_waiting_one() {
        assert_eq!(fault(2.0, 10.0, 1, 0, 1000), None);
        assert!(fault(9.9, 10.0, 1, 0, 1000).unwrap().contains("99 %"));
        assert!(fault(1.0, 10.0, 1, 20, 1000).unwrap().contains("2.0 %"));
        assert_eq!(fault(1.0, 10.0, 1, 0, 0), None);
    }

    #[test]
    fn a_watch_counts_work_and_not_sleep() {
        let watch = Watch::start();
        std::thread::sleep(Duration::from_millis(50));
        let (slept, passed) = watch.read();
        assert!(passed >= Duration::from_millis(50) && slept < passed / 2, "{slept:?} of {passed:?}");
    }
}
