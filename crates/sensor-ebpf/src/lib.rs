//! The sensor for Linux hosts: eBPF probes for exec, fork, exit and library loads, fanotify for the bytes of executed files,
//! perf records for library loads where the probes cannot tell them, and `/proc` for what ran before.
//!
//! Start with [`start`]; [`probe`] says what the host can do. [`decode`] is the part that reads kernel bytes.
//!
//! Invariants: one thread reads everything, so that what belongs together is in hand together; nothing here waits for
//! or changes the watched processes; what cannot be seen is a [`model::SensorState`], a [`model::Loss`] or a
//! [`model::MissingReason`], never silence. Unsafe code is in `sys.rs`, and two calls of it in `self_test.rs`.

mod bpf;
mod clock;
mod content;
pub mod decode;
mod familiar;
mod loads;
mod marks;
mod opened;
mod probe;
mod prompt;
mod reader;
mod running;
mod self_test;
mod sys;

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    thread::JoinHandle,
    time::Duration,
};

pub use bpf::Error as BpfError;
use libbpf_rs::MapHandle;
use model::{
    event::{FileKey, Observation, SensorState},
    limits,
};
pub use probe::{Capability, probe};
use rustix::event::EventfdFlags;
pub use self_test::run_in_overlay;

/// When the reader has not looked for as long while it is to end, it hangs. Far more than a look takes with a busy receiver.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How often it is looked whether the reader has ended: a thread cannot be joined with a deadline.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// Settings of the sensor.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of the ring buffer of execs, a power of two and a multiple of the page size.
    pub exec_ring_bytes: u32,
    /// Bytes of the ring buffer of forks and exits, likewise.
    pub process_ring_bytes: u32,
    /// Bytes of the ring buffer of library loads, likewise.
    pub load_ring_bytes: u32,
    /// Pages of each CPU's buffer of library loads, a power of two, where perf tells them.
    pub perf_pages: usize,
    /// Library loads are taken from perf, as on kernels whose mappings the probes cannot tell.
    pub loads_by_perf: bool,
}

impl Default for Config {
    /// At 20,000 execs a second of about 1.5 KiB, the exec ring holds a quarter of a second.
    fn default() -> Self {
        Self {
            exec_ring_bytes: 8 * 1024 * 1024,
            process_ring_bytes: 1024 * 1024,
            load_ring_bytes: 1024 * 1024,
            perf_pages: 64,
            loads_by_perf: false,
        }
    }
}

/// Why the sensor could not start. Without eBPF there is nothing to report; fanotify and perf may be missing, which
/// [`Sensors::states`] tells.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The probes did not load.
    #[error("the eBPF sensor could not start")]
    Bpf(#[from] BpfError),
    /// Something that every process may do failed.
    #[error("could not {action}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The reader does not come to its end: it waits for a file that it opens, and in the kernel. It goes on to hold the sender.
#[derive(Debug, thiserror::Error)]
#[error("the sensor hangs")]
pub struct Hangs;

/// What the sensor has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Execs outside of what was declared the host's. Each is an observation or counted in `exec_losses`.
    pub execs: u64,
    /// Execs of which no observation came, since the ring buffer was full.
    pub exec_losses: u64,
    /// Forks and exits, likewise.
    pub process_events: u64,
    /// Forks and exits that were lost.
    pub process_losses: u64,
    /// Files opened for execution.
    pub fanotify_events: u64,
    /// Times that the fanotify queue overflowed.
    pub fanotify_losses: u64,
    /// Executable mappings; the host's are included where perf tells them.
    pub mappings: u64,
    /// Executable mappings of which no record came.
    pub mapping_losses: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Mounts that could not be watched.
    pub mount_failures: u64,
}

/// The counters as the reader keeps them.
#[derive(Debug, Default)]
pub(crate) struct SharedCounters {
    pub(crate) execs: AtomicU64,
    pub(crate) exec_losses: AtomicU64,
    pub(crate) process_events: AtomicU64,
    pub(crate) process_losses: AtomicU64,
    pub(crate) fanotify_events: AtomicU64,
    pub(crate) fanotify_losses: AtomicU64,
    pub(crate) mappings: AtomicU64,
    pub(crate) mapping_losses: AtomicU64,
    pub(crate) undecodable: AtomicU64,
    pub(crate) mount_failures: AtomicU64,
}

/// What the reader shares with its owner.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) counters: SharedCounters,
    pub(crate) states: Mutex<Vec<SensorState>>,
    pub(crate) is_stopping: AtomicBool,
    /// When the reader last began to look at what there is (CLOCK_BOOTTIME).
    pub(crate) looked_ns: AtomicU64,
    /// Mount namespaces that were declared the host's since the reader last looked.
    pub(crate) ignored_namespaces: Mutex<Vec<u32>>,
    /// An eventfd that wakes the reader.
    pub(crate) wake: OwnedFd,
    /// An eventfd that is readable once everything has to end.
    pub(crate) stop: OwnedFd,
}

/// Makes an eventfd readable.
fn signal(eventfd: &OwnedFd) {
    // Fails only when the counter is at its maximum, and then it is readable.
    let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
}

/// The running sensor.
#[derive(Debug)]
pub struct Sensors {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    feedback: Feedback,
}

/// What the enricher tells the kernel.
#[derive(Clone, Debug)]
pub struct Feedback {
    shared: Arc<Shared>,
    ignored: Arc<MapHandle>,
    runs_scripts: Arc<MapHandle>,
}

impl Feedback {
    /// Drops, from now on and in the kernel, the events of processes in this control group and mount namespace.
    pub fn ignore(&self, cgroup_id: u64, mnt_namespace: u32) {
        // When the kernel's table cannot take it, its events keep coming: more work, nothing missed.
        if bpf::ignore(&self.ignored, cgroup_id, mnt_namespace) {
            self.shared
                .ignored_namespaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(mnt_namespace);
            signal(&self.shared.wake);
        }
    }

    /// Says whether a program, as [`model::event::Named`] has it, runs scripts that its arguments name.
    pub fn classify(&self, program: &FileKey, runs_scripts: bool) {
        bpf::classify(&self.runs_scripts, program, runs_scripts);
    }
}

/// Loads and attaches everything, marks the mounts of all containers that run, and starts the reader.
///
/// Observations of processes that already run come first; the one behind them says that `Sensor::Ebpf` is running. The
/// reader waits while the queue is full (the kernel's ring buffers then fill and count): keep receiving, or drop the
/// receiver, until [`Sensors::stop`] has returned.
///
/// # Errors
/// When the eBPF probes cannot be loaded; the text says what to do.
pub fn start(config: Config, sender: SyncSender<Observation>) -> Result<Sensors, Error> {
    let system = |action| {
        move |source: rustix::io::Errno| Error::System {
            action,
            source: source.into(),
        }
    };
    let eventfd = || {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        rustix::event::eventfd(0, flags).map_err(system("create an eventfd"))
    };
    let shared = Arc::new(Shared {
        counters: SharedCounters::default(),
        states: Mutex::default(),
        is_stopping: AtomicBool::new(false),
        looked_ns: AtomicU64::new(clock::boot_ns()),
        ignored_namespaces: Mutex::default(),
        wake: eventfd()?,
        stop: eventfd()?,
    });
    prepare_descriptors(&shared.wake);
    let probes = bpf::load(&config)?;
    let feedback = Feedback {
        shared: Arc::clone(&shared),
        ignored: Arc::new(probes.map("ignored")?),
        runs_scripts: Arc::new(probes.map("runs_scripts")?),
    };
    let reader =
        reader::Reader::new(&config, probes, Arc::clone(&shared), sender).map_err(|source| {
            Error::System {
                action: "prepare the reader",
                source,
            }
        })?;
    let thread = std::thread::Builder::new()
        .name("sensor-ebpf".to_owned())
        .spawn(move || reader.run())
        .map_err(|source| Error::System {
            action: "start a thread",
            source,
        })?;
    Ok(Sensors {
        shared,
        thread: Some(thread),
        feedback,
    })
}

/// Descriptors are held for files that wait to be hashed; the usual soft limit of 1,024 is too few.
///
/// The kernel makes a process's table larger as it is used, and each time waits tens of milliseconds for an RCU grace
/// period when there are several threads: too long for what is to be opened promptly. So it is made large at once.
fn prepare_descriptors(any: &OwnedFd) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Failing leaves the limit as it is; files then are reported as not read for overload.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    let highest = i32::try_from(limits::DESCRIPTORS_HELD_MAX).unwrap_or(i32::MAX);
    let _ = rustix::io::fcntl_dupfd_cloexec(any, highest);
}

impl Sensors {
    /// What each part of the sensor can say about itself now.
    pub fn states(&self) -> Vec<SensorState> {
        self.shared
            .states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts since the start; those of the kernel are at most a few milliseconds old.
    pub fn counters(&self) -> Counters {
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            execs: get(&counters.execs),
            exec_losses: get(&counters.exec_losses),
            process_events: get(&counters.process_events),
            process_losses: get(&counters.process_losses),
            fanotify_events: get(&counters.fanotify_events),
            fanotify_losses: get(&counters.fanotify_losses),
            mappings: get(&counters.mappings),
            mapping_losses: get(&counters.mapping_losses),
            undecodable: get(&counters.undecodable),
            mount_failures: get(&counters.mount_failures),
        }
    }

    /// Whether the reader has ended, which it does only when it is told to: nothing is seen any more.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How long ago the reader began to look at what there is: about a second at most, unless it waits for a file that it opens
    /// (on FUSE or a network filesystem) or for the receiver. A time in which the machine slept counts.
    pub fn last_look(&self) -> Duration {
        let looked_ns = self.shared.looked_ns.load(Ordering::Relaxed);
        Duration::from_nanos(clock::boot_ns().saturating_sub(looked_ns))
    }

    /// A handle with which the enricher says what it has found.
    pub fn feedback(&self) -> Feedback {
        self.feedback.clone()
    }

    /// Detaches everything, sends what the kernel still has, and returns the final counts.
    ///
    /// # Errors
    /// When the reader hangs. What the kernel still has is lost then.
    pub fn stop(mut self) -> Result<Counters, Hangs> {
        self.join()?;
        Ok(self.counters())
    }

    fn join(&mut self) -> Result<(), Hangs> {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        signal(&self.shared.wake);
        signal(&self.shared.stop);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        while !thread.is_finished() {
            if self.last_look() > STOP_MAX {
                return Err(Hangs);
            }
            std::thread::sleep(STOP_LOOK);
        }
        // A panic of the reader has been printed by the panic hook; there is nothing to add.
        let _ = thread.join();
        Ok(())
    }
}

impl Drop for Sensors {
    fn drop(&mut self) {
        let _ = self.join();
    }
}
