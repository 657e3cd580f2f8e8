//! Programs, scripts and libraries that may be out of reach soon, opened as they are executed or mapped.
//!
//! fanotify cannot watch memfds, nor a mount that was made a moment ago or never got a place in the tree. What is run from there
//! may be gone when its process ends: opening `/proc/PID/exe` when the exec is read from the ring came too late for four of five
//! memfds that end at once. The same holds for a script that was executed by a descriptor, for one that an interpreter's arguments
//! name (deleted by its first line, as droppers are), and for a library that nobody has read yet.
//!
//! So the probe tells of such an exec or load a second time, to a thread of the CPU that it runs on, with the lowest real-time
//! priority. It is woken before the system call returns, and the scheduler takes it before the first instruction of the
//! program or library. No other exec or load pays for that. Which programs are interpreters, the enricher says: it reads them whole.

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
use model::Text;
use rustix::{
    event::epoll,
    fs::{Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
    thread::{CpuSet, sched_setaffinity},
};

use crate::{
    Shared,
    content::is_of_second_half,
    decode::{Arguments, Header, Record, record},
    reader::READER_NICE,
    sys,
};

/// Descriptors held of each kind until the exec or load is read, and as many on their way to the reader: what a loop executes in
/// a tenth of a second, the longest that the reader should be behind. What a descriptor led to (libraries, and scripts) has room
/// of its own: libraries are mapped much faster than programs are executed. All of it is half of
/// [`model::limits::DESCRIPTORS_HELD_MAX`], which counts these, too; what arguments name comes on top, and is let go when half of
/// those are in use.
const HELD_MAX: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");

/// Arguments that are looked at for a script.
const NAMED_MAX: usize = 5;

/// Execs on their way to the thread that may have to wait.
const COLD_MAX: usize = 64;

/// How long one is held whose exec was lost: a memfd's memory is not freed meanwhile (it stays charged to the container).
const HELD_TIME_MAX: Duration = Duration::from_secs(10);

/// Of each thread: it formats a path and opens it.
const STACK_BYTES: usize = 64 * 1024;

/// An exec or load: the process, and when (CLOCK_BOOTTIME).
type Moment = (u32, u64);

/// What a thread has opened, `O_PATH`; `None` when it could not, so that nobody waits for it.
type Opened<T> = (Moment, Option<T>);

/// What arguments name, by the name that they give it.
type Named = Vec<(Text, OwnedFd)>;

/// A name that leads through what the kernel does not have in memory: somebody may have to be waited for.
struct Cold {
    root: Arc<OwnedFd>,
    path: Text,
    /// What it is for the process when nothing is there.
    own: Option<OwnedFd>,
    /// As the argument gives it.
    name: Text,
}

/// Files of one kind.
#[derive(Debug)]
struct Files<T> {
    /// From the threads. A channel, not a lock: the reader could be put to sleep with a lock in its hands.
    opened: Receiver<Opened<T>>,
    held: LruCache<Moment, (Option<T>, Instant)>,
}

impl<T> Files<T> {
    fn new() -> (SyncSender<Opened<T>>, Self) {
        let (sender, opened) = sync_channel(HELD_MAX.get());
        let held = LruCache::new(HELD_MAX);
        (sender, Self { opened, held })
    }

    fn take(&mut self, moment: Moment) -> Option<T> {
        self.receive();
        // What is left says that there is nothing to wait for.
        self.held.peek_mut(&moment)?.0.take()
    }

    fn is_decided(&mut self, moment: Moment) -> bool {
        self.receive();
        self.held.contains(&moment)
    }

    fn receive(&mut self) {
        for (moment, fd) in self.opened.try_iter() {
            self.held.put(moment, (fd, Instant::now()));
        }
    }

    fn expire(&mut self, now: Instant) {
        self.receive();
        while let Some((_, (_, since))) = self.held.peek_lru()
            && now.duration_since(*since) > HELD_TIME_MAX
        {
            self.held.pop_lru();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Prompt {
    programs: Files<OwnedFd>,
    by_descriptor: Files<OwnedFd>,
    named: Files<Named>,
    /// What somebody had to be waited for, the same way. Nobody waits for it.
    named_late: Files<Named>,
    /// Superblocks of memfds.
    memfd_devices: Vec<u64>,
    threads: Vec<JoinHandle<()>>,
}

impl Prompt {
    /// Opens files from now on, on the CPUs that have a ring.
    pub(crate) fn new(rings: &[(u32, MapHandle)], shared: &Arc<Shared>) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, memfd_create};
        // The kernel's own mounts of shmem and of hugetlbfs.
        let memfd_devices = [
            MemfdFlags::CLOEXEC,
            MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB,
        ]
        .into_iter()
        .filter_map(|flags| memfd_create(c"", flags).ok())
        .filter_map(|fd| Some(fstat(fd).ok()?.st_dev))
        .collect();
        let (program_sender, programs) = Files::new();
        let (descriptor_sender, by_descriptor) = Files::new();
        let (named_sender, named) = Files::new();
        let (late_sender, named_late) = Files::new();
        let cold = spawn_waiting(late_sender)?;
        let threads = rings
            .iter()
            .map(|(cpu, ring)| {
                let senders = Senders {
                    programs: program_sender.clone(),
                    by_descriptor: descriptor_sender.clone(),
                    named: named_sender.clone(),
                    cold: cold.clone(),
                };
                spawn(*cpu, ring, Arc::clone(shared), senders)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            programs,
            by_descriptor,
            named,
            named_late,
            memfd_devices,
            threads,
        })
    }

    /// Whether files of this device are memfds (or SysV or anonymous shared memory).
    pub(crate) fn is_memfd(&self, device: u64) -> bool {
        self.memfd_devices.contains(&device)
    }

    /// The program of an exec, `O_PATH`.
    pub(crate) fn take_program(&mut self, pid: u32, boot_ns: u64) -> Option<OwnedFd> {
        self.programs.take((pid, boot_ns))
    }

    /// The library of a load, or the script of an exec, that was reached by a descriptor, `O_PATH`.
    pub(crate) fn take_descriptor_file(&mut self, pid: u32, boot_ns: u64) -> Option<OwnedFd> {
        self.by_descriptor.take((pid, boot_ns))
    }

    /// What the arguments of an exec name.
    pub(crate) fn take_named(&mut self, pid: u32, boot_ns: u64) -> Named {
        let mut files = self.named.take((pid, boot_ns)).unwrap_or_default();
        files.extend(self.named_late.take((pid, boot_ns)).into_iter().flatten());
        files
    }

    /// Whether [`Prompt::take_named`] has what did not have to be waited for, or will not have it.
    pub(crate) fn is_named_decided(&mut self, pid: u32, boot_ns: u64) -> bool {
        self.named.is_decided((pid, boot_ns))
    }

    /// Whether [`Prompt::take_program`] has it, or will not have it.
    pub(crate) fn is_program_decided(&mut self, pid: u32, boot_ns: u64) -> bool {
        self.programs.is_decided((pid, boot_ns))
    }

    /// Whether [`Prompt::take_descriptor_file`] has it, or will not have it.
    pub(crate) fn is_descriptor_file_decided(&mut self, pid: u32, boot_ns: u64) -> bool {
        self.by_descriptor.is_decided((pid, boot_ns))
    }

    /// Lets go of those held too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.programs.expire(now);
        self.by_descriptor.expire(now);
        self.named.expire(now);
        self.named_late.expire(now);
    }

    /// Waits for the threads, which end when the sensor is being stopped.
    pub(crate) fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic has been printed by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Where a thread sends what it has opened.
struct Senders {
    programs: SyncSender<Opened<OwnedFd>>,
    by_descriptor: SyncSender<Opened<OwnedFd>>,
    named: SyncSender<Opened<Named>>,
    cold: SyncSender<(Moment, Vec<Cold>)>,
}

impl Senders {
    /// Full when the reader is far behind: the newest is let go, and its event will say so.
    fn open(&self, record: Record) {
        let Header {
            process, boot_ns, ..
        } = *record.header();
        let moment = (process.pid, boot_ns);
        match record {
            Record::Prompt {
                tid,
                descriptor: None,
                ..
            } => {
                let _ = self.programs.try_send((moment, open(tid, "exe")));
            }
            Record::Prompt {
                tid,
                descriptor: Some(descriptor),
                ..
            } => {
                let file = open(tid, &format!("fd/{descriptor}"));
                let _ = self.by_descriptor.try_send((moment, file));
            }
            Record::Arguments(arguments) => {
                let (files, cold) = open_named(*arguments);
                let _ = self.named.try_send((moment, Some(files)));
                if !cold.is_empty() {
                    let _ = self.cold.try_send((moment, cold));
                }
            }
            _ => {}
        }
    }
}

fn spawn(
    cpu: u32,
    ring: &MapHandle,
    shared: Arc<Shared>,
    senders: Senders,
) -> io::Result<JoinHandle<()>> {
    let wait = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(&wait, ring, data, epoll::EventFlags::IN)?;
    epoll::add(&wait, &shared.stop, data, epoll::EventFlags::IN)?;
    let mut builder = RingBufferBuilder::new();
    builder
        .add(ring, move |bytes| {
            if let Ok(record) = record(bytes) {
                senders.open(record);
            }
            0
        })
        .map_err(io::Error::other)?;
    let ring = builder.build().map_err(io::Error::other)?;
    std::thread::Builder::new()
        .name(format!("sensor-exec/{cpu}"))
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
            while !shared.is_stopping.load(Ordering::Relaxed) {
                let mut events = [epoll::Event {
                    flags: epoll::EventFlags::empty(),
                    data: epoll::EventData::new_u64(0),
                }];
                let _ = epoll::wait(&wait, &mut events, None);
                ring.consume_raw_n(HELD_MAX.get());
            }
        })
}

/// What a link of a thread leads to: the program that it has just executed, or what it is mapping. Not for reading: a FUSE server
/// would be asked, which may not answer. Nor by `map_files`, which waits for a lock that the process can hold for as long as it
/// likes.
fn open(tid: u32, link: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{tid}/{link}"), flags, Mode::empty()).ok()
}

/// What the first arguments name that are no options, and the standard input. No server is waited for here, which may never answer:
/// what is not in the kernel's memory is looked for where only a disk has to be waited for. The rest is left to another thread,
/// which has the time that the interpreter takes to start.
fn open_named(arguments: Arguments) -> (Named, Vec<Cold>) {
    let Arguments { tid, args, cwd, .. } = arguments;
    let (mut files, mut cold) = (Vec::new(), Vec::new());
    if arguments.has_input
        && let Some(input) = open(tid, "fd/0")
    {
        files.push((Text::from("/dev/stdin"), input));
    }
    let is_option = |arg: &Text| arg.is_empty() || arg.as_bytes().starts_with(b"-");
    let names = args.into_iter().skip(1).filter(|arg| !is_option(arg));
    let mut root = None;
    for name in names.take(NAMED_MAX) {
        let path = match &cwd {
            _ if name.as_bytes().starts_with(b"/") => name.clone(),
            Some(cwd) => Text::from([cwd.as_bytes(), b"/", name.as_bytes()].concat()),
            None => continue,
        };
        let root = root.get_or_insert_with(|| open(tid, "root").map(Arc::new));
        let Some(root) = root else {
            break;
        };
        // Linux before 5.12 cannot be asked for the first.
        let is_cold = |error| matches!(error, Errno::AGAIN | Errno::INVAL | Errno::XDEV);
        let mut found = open_below(root, &path, ResolveFlags::CACHED);
        if arguments.has_local_root && found.as_ref().is_err_and(|error| is_cold(*error)) {
            found = open_below(root, &path, ResolveFlags::NO_XDEV);
        }
        // A link that only the process itself can follow, unless the container has something else there.
        let own = || open_own(tid, root, cwd.as_ref(), &path);
        match found {
            Err(error) if is_cold(error) => cold.push(Cold {
                root: Arc::clone(root),
                own: own(),
                path,
                name,
            }),
            found => files.extend(found.ok().or_else(own).map(|found| (name, found))),
        }
    }
    files.retain(|(_, file)| !is_of_second_half(file));
    (files, cold)
}

/// What the process alone is led to by a path. No server is waited for.
fn open_own(tid: u32, root: &OwnedFd, cwd: Option<&Text>, path: &Text) -> Option<OwnedFd> {
    let own = proc_reader::below_own(path.as_bytes(), None)?;
    if let Some(number) = own.strip_prefix(b"fd/") {
        return open(tid, &format!("fd/{}", proc_reader::parse(number)?));
    }
    let path = match own.strip_prefix(b"cwd/") {
        Some(rest) => Text::from([cwd?.as_bytes(), b"/", rest].concat()),
        None => Text::from([b"/", own.strip_prefix(b"root/")?].concat()),
    };
    open_below(root, &path, ResolveFlags::CACHED).ok()
}

fn open_below(root: &OwnedFd, path: &Text, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path.as_bytes(), flags, Mode::empty(), resolve)
}

/// A thread that opens what may have to be waited for: a disk, or a server of a container's own that never answers. It then ends
/// with the agent, and what is cold is opened by the enricher, which may come too late.
fn spawn_waiting(late: SyncSender<Opened<Named>>) -> io::Result<SyncSender<(Moment, Vec<Cold>)>> {
    let (sender, all) = sync_channel::<(Moment, Vec<Cold>)>(COLD_MAX);
    std::thread::Builder::new()
        .name("sensor-open".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Refused without CAP_SYS_NICE, which costs some of them.
            let _ = rustix::process::setpriority_process(None, READER_NICE);
            for (moment, cold) in all {
                let open = |cold: Cold| {
                    let found = open_below(&cold.root, &cold.path, ResolveFlags::empty());
                    Some((cold.name, found.ok().or(cold.own)?))
                };
                let files: Named = cold.into_iter().filter_map(open).collect();
                if !files.is_empty() {
                    let _ = late.try_send((moment, Some(files)));
                }
            }
        })?;
    Ok(sender)
}
