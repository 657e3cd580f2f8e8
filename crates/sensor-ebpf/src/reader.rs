//! The reader: takes what the kernel has, joins it, and sends observations.
//!
//! A round reads perf first, then the rings: so the exec of a process is in hand before its library loads are looked at.
//! Records of both are taken in the order of their times. At an exec fanotify is read until the program's event is found:
//! the kernel queues it before it reports the exec.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lru::LruCache;
use model::{
    Text,
    channel::Sender,
    event::{
        Cgroup, Event, FileFacts, LibraryLoad, Loss, LossSource, Observation, Payload, ProcessKey,
        Sensor, SensorCondition, SensorState,
    },
    limits,
    provenance::MissingReason,
};
use rustix::{
    event::{Timespec, epoll},
    fs::{Mode, OFlags},
};

use crate::{
    Config, Shared,
    bpf::{KernelCounters, Probes},
    clock::{self, Clock},
    content::{self, Content, Delivered},
    decode::{ExecRecord, Header, Mapping, PerfRecord, Record, fanotify_events},
    loads::{self, Loads},
    marks::{self, Marks},
    memfds::Memfds,
    opened::Opened,
    running::{self, Hierarchies, Running},
    sys,
};

/// Records taken per ring and round: a few milliseconds of work. A new container's mounts wait at most as long for their
/// marks.
const BATCH_RECORDS_MAX: usize = 256;

/// While things happen the reader looks this often instead of being woken for each of them.
const NAP: Duration = Duration::from_millis(3);

/// After as long without anything new the reader sleeps until it is woken.
const NAPS_BEFORE_SLEEP: u32 = 7;

/// Longest sleep: what has no wake-up of its own (missed runs, expiry) is looked at as often.
const SLEEP: Duration = Duration::from_secs(1);

/// Priority of the reader's thread, from 19 (lowest) to -20.
const READER_NICE: i32 = -15;

/// Bytes of one read: 682 events, each with a descriptor.
const FANOTIFY_READ_BYTES: usize = 16 * 1024;

/// Reads per round of events that belong to no exec: bounds how long the rings wait.
const FANOTIFY_READS_MAX: usize = 64;

/// Time between taking a record's time and its being there to read: records of the last moment are left for the next
/// round, since an older one may still come.
const WRITE_NS_MAX: u64 = 50_000;

/// How often the kernel's counters are read: a loss is known at most this long after.
const COUNT_INTERVAL: Duration = Duration::from_millis(20);

/// Naps taken, per read of fanotify, for descriptors to be closed by the receiver.
const DESCRIPTOR_WAITS_MAX: u32 = 30;

/// Processes remembered that have ended: as many as can end while one round's records wait.
const ENDED_MAX: usize = 4096;

const TOKEN_OTHER: u64 = 0;

/// Records kept for the next round at most. Above, order gives way: it takes more than one full buffer of each CPU.
const PENDING_MAX: usize = 65_536;

/// A process that is not the host's.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    start_ns: u64,
    mnt_namespace: u32,
    cgroup_id: u64,
    /// Program of its last exec.
    program_inode: u64,
    /// By the inode, and by `stat`.
    program_devices: [u64; 2],
    program_mount: u32,
}

/// A record of either kind, on one time line.
enum Item {
    Ring(Record),
    Perf(PerfRecord),
}

impl Item {
    fn boot_ns(&self) -> u64 {
        match self {
            Self::Ring(record) => record.header().boot_ns,
            Self::Perf(record) => record.boot_ns(),
        }
    }
}

pub(crate) struct Reader {
    shared: Arc<Shared>,
    sender: Sender<Observation>,
    probes: Probes,
    marks: Option<Marks>,
    loads: Option<Loads>,
    /// Root directories of containers, by process. For one round: they must not keep a container's mounts.
    roots: HashMap<u32, OwnedFd>,
    /// Processes to report before anything else.
    already_running: Vec<Running>,
    /// Taken, but newer than something that may still be in a ring.
    pending: Vec<Item>,
    /// Programs that fanotify did not tell of, opened as soon as their exec was read. By process and time.
    early: HashMap<(u32, u64), Content>,
    /// Processes that ended a moment ago: what they opened or mapped may be read after their end.
    ended: LruCache<u32, Known>,
    memfds: Memfds,
    /// More was in the rings than one round takes.
    is_backlog: bool,
    /// Waited on while napping: what must not wait, and control.
    nap: OwnedFd,
    /// Waited on while asleep: everything.
    sleep: OwnedFd,
    clock: Clock,
    opened: Opened,
    delivered: Delivered,
    processes: LruCache<u32, Known>,
    cgroups: LruCache<u64, Arc<Cgroup>>,
    reported: KernelCounters,
    /// Records that could not be decoded, not reported yet.
    undecodable: u64,
    counted: Instant,
    /// See [`Probes::missed_runs`]; looked at once a second.
    missed_runs: (u64, u64),
    looked: Instant,
    fanotify_lost: Option<Instant>,
    fanotify_buffer: Vec<u8>,
    own: ProcessKey,
    expired: Instant,
}

/// The receiver is gone.
struct Closed;

impl Reader {
    pub(crate) fn new(
        config: &Config,
        probes: Probes,
        shared: Arc<Shared>,
        sender: Sender<Observation>,
    ) -> io::Result<Self> {
        let nap = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let sleep = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let other = epoll::EventData::new_u64(TOKEN_OTHER);
        // Edge-triggered: a ring that has data nobody must be woken for does not end a nap.
        epoll::add(
            &nap,
            &probes.exec_ring,
            other,
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        epoll::add(
            &nap,
            &probes.process_ring,
            other,
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        epoll::add(&nap, &shared.wake, other, epoll::EventFlags::IN)?;
        epoll::add(&sleep, &nap, other, epoll::EventFlags::IN)?;

        let mut states = vec![running(Sensor::Ebpf, "execs, forks and exits are seen")];
        let marks = match sys::fanotify_init()
            .and_then(|group| Marks::new(group, rustix::io::dup(&nap)?))
        {
            Ok(marks) => {
                epoll::add(&sleep, marks.group(), other, epoll::EventFlags::IN)?;
                states.push(running(
                    Sensor::Fanotify,
                    "executed files are read when they are opened",
                ));
                Some(marks)
            }
            Err(error) => {
                states.push(SensorState {
                    sensor: Sensor::Fanotify,
                    condition: SensorCondition::Lost,
                    detail: format!(
                        "fanotify is not usable ({error}): programs that end at once, scripts and files without format \
                         are not read; run with CAP_SYS_ADMIN on a kernel with CONFIG_FANOTIFY"
                    ),
                });
                None
            }
        };
        // From here on nothing can start unseen; what runs now is reported from `/proc`.
        let already_running = running::list();
        let memfds = Memfds::new(&probes.memfd_rings, &shared)?;
        let mut marks = marks;
        let now = Instant::now();
        for running in &already_running {
            if let Some(marks) = &mut marks {
                marks.saw(running.mnt_namespace, running.process.pid, now);
            }
        }
        let loads = match Loads::new(config.perf_pages, &sleep) {
            Ok(loads) => {
                states.push(running(Sensor::Perf, "library loads are seen"));
                Some(loads)
            }
            Err(error) => {
                states.push(SensorState {
                    sensor: Sensor::Perf,
                    condition: SensorCondition::Lost,
                    detail: format!(
                        "perf events are not usable ({error}): library loads are not seen; run with CAP_PERFMON on a \
                         kernel with CONFIG_PERF_EVENTS"
                    ),
                });
                None
            }
        };
        *shared.states.lock().unwrap_or_else(PoisonError::into_inner) = states;
        let one = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            shared,
            sender,
            probes,
            marks,
            loads,
            roots: HashMap::new(),
            already_running,
            pending: Vec::new(),
            early: HashMap::new(),
            ended: LruCache::new(one(ENDED_MAX)),
            memfds,
            is_backlog: false,
            nap,
            sleep,
            clock: Clock::new(),
            opened: Opened::new(),
            delivered: Delivered::new(),
            processes: LruCache::new(one(limits::PROCESSES_MAX)),
            cgroups: LruCache::new(one(limits::CONTAINERS_MAX)),
            reported: KernelCounters::default(),
            undecodable: 0,
            counted: Instant::now(),
            missed_runs: (0, 0),
            looked: Instant::now(),
            fanotify_lost: None,
            fanotify_buffer: vec![0; FANOTIFY_READ_BYTES],
            own: ProcessKey {
                pid: std::process::id(),
                start_ns: 0,
            },
            expired: Instant::now(),
        })
    }

    /// Reads until it is told to stop or the receiver is gone.
    pub(crate) fn run(mut self) {
        // The receiver is gone, or all is done: either way there is nothing left to say.
        let _ = self.read();
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        crate::signal(&self.shared.stop);
        self.memfds.join();
    }

    fn read(&mut self) -> Result<(), Closed> {
        // Descriptors of short-lived programs are there for microseconds: on a busy machine an ordinary thread comes too
        // late. Refused without CAP_SYS_NICE, which costs some of them.
        let _ = rustix::process::setpriority_process(None, READER_NICE);
        self.report_running()?;
        let mut quiet = 0;
        loop {
            if self.shared.is_stopping.load(Ordering::Relaxed) {
                self.probes.detach();
                while self.round(true)? {}
                return Ok(());
            }
            let was_busy = self.round(false)?;
            quiet = if was_busy { 0 } else { quiet + 1 };
            if quiet < NAPS_BEFORE_SLEEP {
                let nap = if self.is_backlog { Duration::ZERO } else { NAP };
                self.wait(nap, false);
                continue;
            }
            // Records written before the flag is seen do not wake: look once more behind it.
            self.probes.set_asleep(true);
            if self.round(false)? {
                quiet = 0;
            } else {
                self.wait(SLEEP, true);
            }
            self.probes.set_asleep(false);
        }
    }

    /// Sends the processes of containers that ran before, and their libraries.
    fn report_running(&mut self) -> Result<(), Closed> {
        let hierarchies = Hierarchies::new();
        let host = match &self.marks {
            Some(marks) => marks.host_mnt_namespace(),
            None => marks::host().map_or(0, |(_, number)| number),
        };
        let list = std::mem::take(&mut self.already_running);
        let all = list
            .iter()
            .map(|running| (running.process.pid, *running))
            .collect();
        for running in &list {
            let pid = running.process.pid;
            let Some(cgroup) = hierarchies.cgroup(pid) else {
                continue;
            };
            if running.mnt_namespace == host && !running::looks_like_container(&cgroup) {
                continue;
            }
            let Some(mut exec) = running::exec(running, &all) else {
                continue;
            };
            let mut fd = None;
            match self.open_exe(pid) {
                Some(mut content) => {
                    exec.file.key = Some(content.key);
                    exec.file.link_count = content.link_count;
                    exec.file.mount_id = content.mount_id;
                    exec.file.filesystem = self.filesystem(running.mnt_namespace, content.mount_id);
                    exec.file.is_memfd = self.memfds.is_memfd(content.key.device);
                    fd = self.delivered.deliver(&mut content);
                    if content.is_overload {
                        exec.file.missing = Some(MissingReason::Overload);
                    }
                }
                None => exec.file.missing = Some(MissingReason::ProcessGone),
            }
            let cgroup = self.cgroup(cgroup.id, &cgroup.path);
            self.processes.put(
                pid,
                Known {
                    start_ns: running.process.start_ns,
                    mnt_namespace: running.mnt_namespace,
                    cgroup_id: cgroup.id,
                    program_inode: exec.file.key.map_or(0, |key| key.inode),
                    program_devices: [exec.file.key.map_or(0, |key| key.device); 2],
                    program_mount: exec.file.mount_id,
                },
            );
            let header = Header {
                boot_ns: running.process.start_ns,
                process: running.process,
                mnt_namespace: running.mnt_namespace,
                cgroup_id: cgroup.id,
            };
            self.send_observation(Observation {
                event: Event {
                    time: self.clock.wall(header.boot_ns),
                    process: header.process,
                    cgroup: Some(cgroup),
                    payload: Payload::Exec(Box::new(exec)),
                },
                file: fd,
                script: None,
            })?;
            for mapping in running::mappings(pid, header.boot_ns) {
                self.load(mapping)?;
            }
        }
        self.roots.clear();
        Ok(())
    }

    fn open_exe(&mut self, pid: u32) -> Option<Content> {
        let fd = rustix::fs::open(
            format!("/proc/{pid}/exe"),
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY,
            Mode::empty(),
        )
        .ok()?;
        let mount_id = content::mount_id(&fd);
        let mut content = self.delivered.content(fd)?;
        content.mount_id = mount_id;
        Some(content)
    }

    fn wait(&mut self, time: Duration, is_sleep: bool) {
        let timeout = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or_default(),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        if is_sleep {
            let mut events = [none(); 8];
            let _ = epoll::wait(&self.sleep, &mut events, Some(&timeout));
        }
        let timeout = if is_sleep {
            Timespec::default()
        } else {
            timeout
        };
        let mut events = [none(); 64];
        let count = epoll::wait(&self.nap, &mut events, Some(&timeout)).unwrap_or_default();
        for event in events.into_iter().take(count) {
            let token = event.data.u64();
            if token == TOKEN_OTHER {
                continue;
            }
            let number = u32::try_from(token & u64::from(u32::MAX)).unwrap_or_default();
            if let Some(marks) = &mut self.marks {
                marks.changed(number);
            }
        }
    }

    /// One look at everything. True when there was something.
    fn round(&mut self, is_last: bool) -> Result<bool, Closed> {
        let now = Instant::now();
        let complete_until = clock::boot_ns().saturating_sub(WRITE_NS_MAX);
        self.clock.refresh(now);
        self.take_control();
        let mut is_waiting = self.marks.as_mut().is_some_and(|marks| marks.update(now));

        let mut items = std::mem::take(&mut self.pending);
        let (mut mappings, mut undecodable_loads) = (0, 0);
        if let Some(loads) = &mut self.loads {
            undecodable_loads = loads.drain(|record| {
                mappings += u64::from(matches!(record, PerfRecord::Mapping(_)));
                items.push(Item::Perf(record));
            });
        }
        add(&self.shared.counters.mappings, mappings);
        let batch = self.probes.drain(BATCH_RECORDS_MAX);
        for record in &batch.records {
            self.look_ahead(record, now);
        }
        // Behind a backlog of execs the other events wait: each one held has a descriptor open.
        self.is_backlog = batch.complete_until != u64::MAX;
        let mut fanotify_count = 0;
        for _ in 0..if self.is_backlog {
            0
        } else {
            FANOTIFY_READS_MAX
        } {
            let count = self.read_fanotify(now)?;
            fanotify_count += count;
            if count == 0 {
                break;
            }
        }
        let mut was_busy = !batch.records.is_empty() || fanotify_count > 0;
        items.extend(batch.records.into_iter().map(Item::Ring));
        // Times are taken before a record is written: a fork sorts before the child's exec, which sorts before its exit.
        items.sort_by_key(Item::boot_ns);
        if items.len() < PENDING_MAX && !is_last {
            let until = batch.complete_until.min(complete_until);
            let ready = items.partition_point(|item| item.boot_ns() <= until);
            self.pending.extend(items.drain(ready..));
            is_waiting |= !self.pending.is_empty();
        }
        for item in items.drain(..) {
            match item {
                Item::Ring(record) => self.record(record, now)?,
                Item::Perf(record) => was_busy |= self.perf(record, now)?,
            }
        }
        // Keeps the room for the next round.
        if self.pending.is_empty() {
            self.pending = items;
        }
        let expired = self.loads.as_mut().map(|loads| loads.release_expired(now));
        for mapping in expired.unwrap_or_default() {
            self.load(mapping)?;
        }
        for (pid, content) in self.opened.failed(now) {
            self.exec_no_format(pid, content)?;
        }
        is_waiting |= self.opened.is_waiting();
        self.roots.clear();
        if now.duration_since(self.looked) > Duration::from_secs(1) || is_last {
            self.looked = now;
            self.missed_runs = self.probes.missed_runs();
        }
        self.undecodable += batch.undecodable + undecodable_loads;
        if is_last || now.duration_since(self.counted) > COUNT_INTERVAL {
            self.counted = now;
            let undecodable = std::mem::take(&mut self.undecodable);
            self.report_losses(undecodable)?;
        }
        if now.duration_since(self.expired) > marks::EXPIRE_INTERVAL {
            self.expired = now;
            self.opened.expire(now);
            self.memfds.expire(now);
            if let Some(marks) = &mut self.marks {
                marks.expire();
            }
        }
        Ok(was_busy || is_waiting)
    }

    /// What cannot wait for a record's turn: new mounts, and programs that only their process leads to.
    fn look_ahead(&mut self, record: &Record, now: Instant) {
        let header = record.header();
        let pid = header.process.pid;
        if let Some(marks) = &mut self.marks {
            match record {
                Record::Exit { .. } => marks.ends(pid, header.mnt_namespace),
                _ => marks.saw(header.mnt_namespace, pid, now),
            }
        }
        let Record::Exec(exec) = record else {
            return;
        };
        if self.is_watched(exec) {
            return;
        }
        if self.early.len() < PENDING_MAX
            && let Some(content) = self.content_by_proc(pid, &exec.exec.file)
        {
            self.early.insert((pid, header.boot_ns), content);
        }
        if let Some(marks) = &mut self.marks
            && !exec.exec.file.is_memfd
        {
            marks.used(header.mnt_namespace, exec.exec.file.mount_id, pid, now);
        }
    }

    fn take_control(&mut self) {
        let mut counter = [0; 8];
        // Empty most of the time.
        if rustix::io::read(&self.shared.wake, &mut counter).is_err() {
            return;
        }
        let ignored = std::mem::take(
            &mut *self
                .shared
                .ignored_namespaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if let Some(marks) = &mut self.marks {
            for number in ignored {
                marks.ignore(number);
            }
        }
    }

    /// Takes at most one buffer of events. Returns how many.
    fn read_fanotify(&mut self, now: Instant) -> Result<u64, Closed> {
        let Some(marks) = &self.marks else {
            return Ok(0);
        };
        self.wait_for_descriptors();
        let (mut count, mut overflows) = (0, 0);
        match rustix::io::read(marks.group(), &mut self.fanotify_buffer) {
            Ok(read) => {
                let events = self.fanotify_buffer.get(..read).unwrap_or_default();
                for event in fanotify_events(events) {
                    count += 1;
                    overflows += u64::from(event.is_overflow);
                    let fd = event.fd.map(sys::own_event_fd);
                    if let Some(content) = fd.and_then(|fd| self.delivered.content(fd)) {
                        self.opened.push(event.pid, content, now);
                    }
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The event at hand is gone: no descriptor could be made for it.
            Err(_) => {
                count += 1;
                overflows += 1;
            }
        }
        add(&self.shared.counters.fanotify_events, count);
        if overflows > 0 {
            self.fanotify_lost = Some(now);
            add(&self.shared.counters.fanotify_losses, overflows);
            self.send_loss(LossSource::Fanotify, overflows)?;
        }
        Ok(count)
    }

    /// Waits for the receiver when most of the descriptors that may be open are: the kernel keeps the files meanwhile. Not
    /// for long: they could be held by something else.
    fn wait_for_descriptors(&self) {
        let most = limits::DESCRIPTORS_HELD_MAX * 3 / 4;
        for _ in 0..DESCRIPTOR_WAITS_MAX {
            // The kernel gives out the lowest free number.
            let next = rustix::io::fcntl_dupfd_cloexec(&self.shared.wake, 0);
            let is_free =
                next.is_ok_and(|fd| usize::try_from(fd.as_raw_fd()).is_ok_and(|fd| fd < most));
            if is_free || self.shared.is_stopping.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(NAP);
        }
    }

    fn record(&mut self, record: Record, now: Instant) -> Result<(), Closed> {
        match record {
            Record::Exec(record) => self.exec(*record, now),
            Record::Fork { header, parent } => {
                self.saw(&header, now);
                let cgroup = self.cgroups.get(&header.cgroup_id).cloned();
                self.send(&header, cgroup, Payload::Fork { parent })
            }
            Record::Exit { header } => {
                let pid = header.process.pid;
                for content in self.opened.exited(pid) {
                    self.exec_no_format(pid, content)?;
                }
                self.release_loads(pid)?;
                if let Some(known) = self.processes.pop(&pid) {
                    self.ended.put(pid, known);
                }
                if let Some(marks) = &mut self.marks {
                    marks.exited(pid, header.mnt_namespace);
                }
                let cgroup = self.cgroups.get(&header.cgroup_id).cloned();
                self.send(&header, cgroup, Payload::Exit)
            }
            // Comes by another ring, to another reader.
            Record::Memfd(_) => Ok(()),
        }
    }

    fn saw(&mut self, header: &Header, now: Instant) {
        self.processes.put(
            header.process.pid,
            Known {
                start_ns: header.process.start_ns,
                mnt_namespace: header.mnt_namespace,
                cgroup_id: header.cgroup_id,
                ..Known::default()
            },
        );
        if let Some(marks) = &mut self.marks {
            marks.saw(header.mnt_namespace, header.process.pid, now);
        }
    }

    fn exec(&mut self, mut record: ExecRecord, now: Instant) -> Result<(), Closed> {
        let pid = record.header.process.pid;
        // Whatever was opened before the exec was reported is in the queue. Read on until it is found.
        let early = self.early.remove(&(pid, record.header.boot_ns));
        if early.is_none() && self.is_watched(&record) {
            while !self.opened.has(&record) && self.read_fanotify(now)? > 0 {}
        }
        let found = self.opened.take(&record);
        for content in found.failed {
            self.exec_no_format(pid, content)?;
        }
        let mut content = found.file.or(early);
        if content.is_none() {
            content = self.content_by_proc(pid, &record.exec.file);
        }
        self.saw(&record.header, now);
        if let (Some(known), Some(key)) = (self.processes.get_mut(&pid), record.exec.file.key) {
            known.program_inode = key.inode;
            let by_stat = content
                .as_ref()
                .map_or(key.device, |content| content.key.device);
            known.program_devices = [key.device, by_stat];
            known.program_mount = record.exec.file.mount_id;
        }
        let mut file_fd = None;
        match &mut content {
            Some(content) => {
                record.exec.file.key = Some(content.key);
                file_fd = self.delivered.deliver(content);
                if file_fd.is_none() && content.is_overload {
                    record.exec.file.missing = Some(MissingReason::Overload);
                }
            }
            None => {
                add(&self.shared.counters.files_missing, 1);
                record.exec.file.missing = Some(self.why_missing(&record, now));
            }
        }
        let mut script_fd = None;
        if record.interpreted {
            record.exec.script = Some(match found.script {
                Some(mut script) => {
                    script_fd = self.delivered.deliver(&mut script);
                    self.facts(&script, record.header.mnt_namespace)
                }
                None => FileFacts {
                    path: record.exec.filename.clone(),
                    missing: Some(self.why_missing(&record, now)),
                    ..FileFacts::default()
                },
            });
        }
        let cgroup = self.cgroup(record.header.cgroup_id, &record.cgroup_path);
        let event = Event {
            time: self.clock.wall(record.header.boot_ns),
            process: record.header.process,
            cgroup: Some(cgroup),
            payload: Payload::Exec(Box::new(record.exec)),
        };
        self.send_observation(Observation {
            event,
            file: file_fd,
            script: script_fd,
        })?;
        self.release_loads(pid)
    }

    /// Returns whether it was of interest.
    fn perf(&mut self, record: PerfRecord, now: Instant) -> Result<bool, Closed> {
        match record {
            PerfRecord::Lost { count, .. } => {
                add(&self.shared.counters.mapping_losses, count);
                self.send_loss(LossSource::LibraryBuffer, count)?;
                Ok(true)
            }
            PerfRecord::ExecBegins { pid, .. } => {
                if self.processes.contains(&pid)
                    && let Some(loads) = &mut self.loads
                {
                    loads.hold(pid, now);
                }
                Ok(false)
            }
            PerfRecord::Mapping(mapping) => {
                if self.known(mapping.pid).is_none() {
                    return Ok(false);
                }
                let ready = match &mut self.loads {
                    Some(loads) => loads.or_hold(mapping),
                    None => Some(mapping),
                };
                if let Some(mapping) = ready {
                    self.load(mapping)?;
                }
                Ok(true)
            }
            PerfRecord::Other => Ok(false),
        }
    }

    fn release_loads(&mut self, pid: u32) -> Result<(), Closed> {
        let released = self.loads.as_mut().map(|loads| loads.release(pid));
        for mapping in released.unwrap_or_default() {
            self.load(mapping)?;
        }
        Ok(())
    }

    fn load(&mut self, mapping: Mapping) -> Result<(), Closed> {
        let pid = mapping.pid;
        let Some(known) = self.known(pid) else {
            return Ok(());
        };
        // The exec has reported its program. On an overlay `stat` may give another device than the kernel's records have.
        let is_program =
            |device, inode| inode == known.program_inode && known.program_devices.contains(&device);
        if is_program(mapping.device, mapping.inode) {
            return Ok(());
        }
        let anchor = self
            .marks
            .as_ref()
            .and_then(|marks| marks.anchor(known.mnt_namespace));
        let root = anchor.and_then(|anchor| match self.roots.entry(anchor) {
            Entry::Occupied(entry) => Some(&*entry.into_mut()),
            Entry::Vacant(entry) => Some(&*entry.insert(loads::root_of(anchor)?)),
        });
        let mut content = self
            .opened
            .take_inode(pid, mapping.inode, mapping.device)
            .or_else(|| loads::content(&mapping, root.map(AsFd::as_fd), &mut self.delivered));
        if let Some(content) = &content
            && is_program(content.key.device, content.key.inode)
        {
            return Ok(());
        }
        let mut file = loads::facts(&mapping, content.as_ref());
        // `ld.so` comes from fanotify, which does not tell the mount. It is the program's as a rule.
        if file.mount_id == 0 && known.program_devices.contains(&mapping.device) {
            file.mount_id = known.program_mount;
        }
        file.is_memfd = file.key.is_some_and(|key| self.memfds.is_memfd(key.device));
        file.filesystem = self.filesystem(known.mnt_namespace, file.mount_id);
        let fd = content
            .as_mut()
            .and_then(|content| self.delivered.deliver(content));
        let cgroup = self.cgroups.get(&known.cgroup_id).cloned();
        self.send_observation(Observation {
            event: Event {
                time: self.clock.wall(mapping.boot_ns),
                process: ProcessKey {
                    pid,
                    start_ns: known.start_ns,
                },
                cgroup,
                payload: Payload::LibraryLoad(Box::new(LibraryLoad {
                    file,
                    address_start: mapping.address_start,
                    address_end: mapping.address_end,
                })),
            },
            file: fd,
            script: None,
        })
    }

    fn filesystem(&self, mnt_namespace: u32, mount_id: u32) -> Text {
        self.marks
            .as_ref()
            .and_then(|marks| marks.filesystem(mnt_namespace, mount_id))
            .cloned()
            .unwrap_or_default()
    }

    /// Facts of a script or file without format.
    fn facts(&self, content: &Content, mnt_namespace: u32) -> FileFacts {
        FileFacts {
            path: content.path.clone(),
            key: Some(content.key),
            link_count: content.link_count,
            mount_id: content.mount_id,
            filesystem: self.filesystem(mnt_namespace, content.mount_id),
            is_memfd: self.memfds.is_memfd(content.key.device),
            missing: content.is_overload.then_some(MissingReason::Overload),
            ..FileFacts::default()
        }
    }

    /// The program by way of the process, when fanotify had no mark on its mount: only while the process lives.
    fn content_by_proc(&mut self, pid: u32, file: &FileFacts) -> Option<Content> {
        let key = file.key?;
        if self.delivered.contains(&key) {
            return Some(Content::known(key, file.link_count));
        }
        let held = file
            .is_memfd
            .then(|| self.memfds.get(key.inode))
            .flatten()
            .and_then(|fd| self.delivered.content(fd));
        let content = held.or_else(|| self.open_exe(pid))?;
        // Otherwise the process has moved on to another program.
        (content.key.inode == key.inode && content.key.size == key.size).then_some(content)
    }

    /// Whether fanotify tells of executions on the mount that the program is on.
    fn is_watched(&self, record: &ExecRecord) -> bool {
        self.marks.as_ref().is_some_and(|marks| {
            marks.is_watched(
                record.header.mnt_namespace,
                record.exec.file.mount_id,
                record.header.boot_ns,
            )
        })
    }

    fn why_missing(&self, record: &ExecRecord, now: Instant) -> MissingReason {
        let file = &record.exec.file;
        if self
            .fanotify_lost
            .is_some_and(|lost| now.duration_since(lost) < Duration::from_secs(5))
        {
            MissingReason::NotificationLost
        } else if file.is_memfd || self.is_watched(record) {
            MissingReason::ProcessGone
        } else {
            MissingReason::NotWatched
        }
    }

    fn exec_no_format(&mut self, pid: u32, mut content: Content) -> Result<(), Closed> {
        let Some(known) = self.known(pid) else {
            return Ok(());
        };
        let cgroup = self.cgroups.get(&known.cgroup_id).cloned();
        let fd = self.delivered.deliver(&mut content);
        self.send_observation(Observation {
            event: Event {
                time: self.clock.wall(clock::boot_ns()),
                process: ProcessKey {
                    pid,
                    start_ns: known.start_ns,
                },
                cgroup,
                payload: Payload::ExecNoFormat {
                    file: self.facts(&content, known.mnt_namespace),
                },
            },
            file: fd,
            script: None,
        })
    }

    fn known(&mut self, pid: u32) -> Option<Known> {
        let known = self.processes.get(&pid).or_else(|| self.ended.get(&pid));
        known.copied()
    }

    fn cgroup(&mut self, id: u64, path: &Text) -> Arc<Cgroup> {
        if let Some(known) = self.cgroups.get(&id)
            && known.path == *path
        {
            return Arc::clone(known);
        }
        let cgroup = Arc::new(Cgroup {
            id,
            path: path.clone(),
        });
        self.cgroups.put(id, Arc::clone(&cgroup));
        cgroup
    }

    /// Says what the kernel counted as lost since the last time.
    fn report_losses(&mut self, undecodable: u64) -> Result<(), Closed> {
        let mut counters = self.probes.counters();
        counters.execs += self.missed_runs.0;
        counters.exec_losses += self.missed_runs.0;
        counters.process_events += self.missed_runs.1;
        counters.process_losses += self.missed_runs.1;
        let exec = counters
            .exec_losses
            .saturating_sub(self.reported.exec_losses);
        let process = counters
            .process_losses
            .saturating_sub(self.reported.process_losses);
        self.reported = counters;
        let shared = &self.shared.counters;
        shared.execs.store(counters.execs, Ordering::Relaxed);
        shared
            .exec_losses
            .store(counters.exec_losses, Ordering::Relaxed);
        shared
            .process_events
            .store(counters.process_events, Ordering::Relaxed);
        shared
            .process_losses
            .store(counters.process_losses, Ordering::Relaxed);
        add(&shared.undecodable, undecodable);
        for (source, count) in [
            (LossSource::ExecRing, exec),
            (LossSource::ProcessRing, process),
            (LossSource::Decode, undecodable),
        ] {
            if count > 0 {
                self.send_loss(source, count)?;
            }
        }
        Ok(())
    }

    fn send_loss(&self, source: LossSource, count: u64) -> Result<(), Closed> {
        self.send_observation(Observation {
            event: Event {
                time: self.clock.wall(clock::boot_ns()),
                process: self.own,
                cgroup: None,
                payload: Payload::Loss(Loss { source, count }),
            },
            file: None,
            script: None,
        })
    }

    fn send(
        &self,
        header: &Header,
        cgroup: Option<Arc<Cgroup>>,
        payload: Payload,
    ) -> Result<(), Closed> {
        self.send_observation(Observation {
            event: Event {
                time: self.clock.wall(header.boot_ns),
                process: header.process,
                cgroup,
                payload,
            },
            file: None,
            script: None,
        })
    }

    fn send_observation(&self, observation: Observation) -> Result<(), Closed> {
        self.sender.send_waiting(observation).map_err(|_| Closed)
    }
}

fn running(sensor: Sensor, detail: &str) -> SensorState {
    SensorState {
        sensor,
        condition: SensorCondition::Running,
        detail: detail.to_owned(),
    }
}

fn none() -> epoll::Event {
    epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
