//! From the kernel's clock since boot to the time of day.

use std::time::{Duration, Instant, SystemTime};

use model::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The time of day at boot, by a look at both clocks from time to time.
#[derive(Debug)]
pub(crate) struct Clock {
    boot: u64,
    looked: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            boot: Timestamp::from(SystemTime::now())
                .0
                .saturating_sub(boot_ns()),
            looked: Instant::now(),
        }
    }

    /// Looks at the clocks again once a second: somebody may set the time of day.
    pub(crate) fn refresh(&mut self, now: Instant) {
        if now.duration_since(self.looked).as_secs() >= 1 {
            *self = Self::new();
        }
    }

    pub(crate) fn wall(&self, boot_ns: u64) -> Timestamp {
        Timestamp(self.boot).plus_ns(boot_ns)
    }
}

/// CLOCK_BOOTTIME.
pub(crate) fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Time since boot that the machine has slept.
pub(crate) fn slept() -> Duration {
    let awake = nanoseconds(ClockId::Monotonic);
    Duration::from_nanos(boot_ns().saturating_sub(awake))
}

/// Time that the calling thread has spent on a CPU.
pub(crate) fn thread_time() -> Duration {
    Duration::from_nanos(nanoseconds(ClockId::ThreadCPUTime))
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
