//! Descriptors of memfds, taken when they are made.
//!
//! fanotify cannot watch memfds, and a program in one is gone when its process ends: opening `/proc/PID/exe` when the exec
//! is reported came too late for four of five that end at once. A probe at the end of `memfd_create` makes every system
//! call of the machine about 15 ns slower (92 to 107 ns measured for getppid), which no build notices.
//!
//! Each CPU has a thread for it, with the lowest real-time priority: it is woken on the CPU that the call runs on, and
//! the scheduler takes it before the call returns to its program. One thread for all CPUs came too late for a tenth of
//! them, and for half on a busy machine.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use libbpf_rs::{MapHandle, RingBufferBuilder};
use lru::LruCache;
use rustix::{
    event::epoll,
    fs::{Mode, OFlags, fstat},
    thread::{CpuSet, sched_setaffinity},
};

use crate::{
    Shared,
    decode::{MemfdRecord, Record, record},
    sys,
};

/// Descriptors held of memfds that were not executed yet: what a loop makes in a tenth of a second, the longest that the
/// reader should be behind.
const HELD_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Descriptors held of memfds that were executed, and may be again.
const EXECUTED_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// How long one is held: its memory is not freed meanwhile (it stays charged to the container).
const HELD_TIME_MAX: Duration = Duration::from_secs(10);

/// Wake-ups in [`WINDOW`] after which the thread rests for as long. A loop that makes memfds must not get this thread,
/// which nothing ordinary can interrupt, to keep a CPU for itself: this is about a tenth of one.
const WAKE_UPS_MAX: u32 = 2000;

/// See [`WAKE_UPS_MAX`].
const WINDOW: Duration = Duration::from_millis(100);

/// Of each thread: it formats two paths and opens them.
const STACK_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Memfds {
    /// What the thread has taken. A channel, not a lock: the reader could be put to sleep with a lock in its hands.
    taken: Receiver<Taken>,
    /// By inode number.
    held: LruCache<u64, (OwnedFd, Instant)>,
    executed: LruCache<u64, (OwnedFd, Instant)>,
    /// Superblocks of memfds.
    devices: Arc<[u64]>,
    threads: Vec<JoinHandle<()>>,
}

/// A memfd and its inode number.
#[derive(Debug)]
struct Taken {
    inode: u64,
    fd: OwnedFd,
}

impl Memfds {
    /// Takes memfds from now on, on the CPUs that have a ring.
    pub(crate) fn new(rings: &[(u32, MapHandle)], shared: &Arc<Shared>) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, memfd_create};
        // The kernel's own mounts of shmem and of hugetlbfs.
        let devices: Arc<[u64]> = [
            MemfdFlags::CLOEXEC,
            MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB,
        ]
        .into_iter()
        .filter_map(|flags| memfd_create(c"", flags).ok())
        .filter_map(|fd| Some(fstat(fd).ok()?.st_dev))
        .collect();
        let (sender, taken) = sync_channel(HELD_MAX.get());
        let threads = rings
            .iter()
            .map(|(cpu, ring)| {
                spawn(
                    *cpu,
                    ring,
                    Arc::clone(shared),
                    sender.clone(),
                    Arc::clone(&devices),
                )
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            taken,
            held: LruCache::new(HELD_MAX),
            executed: LruCache::new(EXECUTED_MAX),
            devices,
            threads,
        })
    }

    /// Whether files of this device are memfds (or SysV or anonymous shared memory).
    pub(crate) fn is_memfd(&self, device: u64) -> bool {
        self.devices.contains(&device)
    }

    /// The memfd with this inode number.
    pub(crate) fn get(&mut self, inode: u64) -> Option<OwnedFd> {
        self.receive();
        if let Some(executed) = self.held.pop(&inode) {
            self.executed.put(inode, executed);
        }
        let (fd, _) = self.executed.get(&inode)?;
        rustix::io::fcntl_dupfd_cloexec(fd, 0).ok()
    }

    /// Lets go of those held too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.receive();
        for held in [&mut self.held, &mut self.executed] {
            let expired: Vec<u64> = held
                .iter()
                .filter(|(_, (_, since))| now.duration_since(*since) > HELD_TIME_MAX)
                .map(|(&inode, _)| inode)
                .collect();
            for inode in expired {
                held.pop(&inode);
            }
        }
    }

    fn receive(&mut self) {
        for taken in self.taken.try_iter() {
            self.held.put(taken.inode, (taken.fd, Instant::now()));
        }
    }

    /// Waits for the threads, which end when the sensor is being stopped.
    pub(crate) fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic has been printed by the panic hook.
            let _ = thread.join();
        }
    }
}

fn spawn(
    cpu: u32,
    ring: &MapHandle,
    shared: Arc<Shared>,
    sender: SyncSender<Taken>,
    devices: Arc<[u64]>,
) -> io::Result<JoinHandle<()>> {
    let wait = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(&wait, ring, data, epoll::EventFlags::IN)?;
    epoll::add(&wait, &shared.stop, data, epoll::EventFlags::IN)?;
    let mut builder = RingBufferBuilder::new();
    builder
        .add(ring, move |bytes| {
            if let Ok(Record::Memfd(memfd)) = record(bytes)
                && let Some(taken) = take(&memfd, &devices)
            {
                // Full when the reader is far behind: the newest is let go, and its exec will say so.
                let _ = sender.try_send(taken);
            }
            0
        })
        .map_err(io::Error::other)?;
    let ring = builder.build().map_err(io::Error::other)?;
    std::thread::Builder::new()
        .name(format!("sensor-memfd/{cpu}"))
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Refused without CAP_SYS_NICE, or when the CPU is not the agent's: then more of them are missed, and their
            // execs say so.
            let mut cpus = CpuSet::new();
            if let Some(cpu) = usize::try_from(cpu)
                .ok()
                .filter(|cpu| *cpu < CpuSet::MAX_CPU)
            {
                cpus.set(cpu);
                let _ = sched_setaffinity(None, &cpus);
            }
            let _ = sys::run_ahead();
            let (mut window, mut wake_ups) = (Instant::now(), 0);
            while !shared.is_stopping.load(Ordering::Relaxed) {
                let mut events = [epoll::Event {
                    flags: epoll::EventFlags::empty(),
                    data: epoll::EventData::new_u64(0),
                }];
                let _ = epoll::wait(&wait, &mut events, None);
                ring.consume_raw_n(HELD_MAX.get());
                wake_ups += 1;
                if wake_ups >= WAKE_UPS_MAX {
                    if window.elapsed() < WINDOW {
                        std::thread::sleep(WINDOW);
                    }
                    (window, wake_ups) = (Instant::now(), 0);
                }
            }
        })
}

/// Opens a memfd that was just made. When its process was faster and has executed it, which closes it as a rule, the
/// program of the process is opened.
///
/// Not by `pidfd_getfd`: that waits for an exec that is under way, and a container can make one last.
fn take(record: &MemfdRecord, devices: &[u64]) -> Option<Taken> {
    let pid = record.header.process.pid;
    [
        format!("/proc/{pid}/fd/{}", record.fd),
        format!("/proc/{pid}/exe"),
    ]
    .iter()
    .find_map(|path| {
        // Only the device is looked at before opening: the number may mean something else by now, a fifo say.
        let is_memfd = |device| devices.contains(&device);
        if !is_memfd(rustix::fs::stat(path.as_str()).ok()?.st_dev) {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?;
        let stat = fstat(&fd).ok()?;
        is_memfd(stat.st_dev).then_some(Taken {
            inode: stat.st_ino,
            fd,
        })
    })
}
