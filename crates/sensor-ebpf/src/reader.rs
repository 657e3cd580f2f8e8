//! The reader: takes what the kernel has, joins it, and sends observations.
//!
//! A round reads library loads first, then execs: so the exec of a process is in hand before its loads are looked at. Records
//! of all kinds are taken in the order of their times. At an exec fanotify is read until the program's event is found:
//! the kernel queues it before it reports the exec.

mod already_running;
mod execs;
mod familiar_programs;
mod libraries;
mod say;

use std::{
    io,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

use lru::LruCache;
use model::{
    event::{Cgroup, LossSource, Observation, ProcessKey, Sensor, SensorCondition, SensorState},
    limits,
};
use rustc_hash::{FxBuildHasher, FxHashMap};
use rustix::event::{Timespec, epoll};

use crate::{
    Config, Shared,
    bpf::{Batch, KernelCounters, MissedRuns, Probes},
    clock::{self, Clock},
    content::{self, Content, Delivered},
    decode::{Header, PerfRecord, Record, fanotify_events},
    familiar::Familiar,
    loads::{Held, PerfBuffers, Root},
    marks::{self, Marks},
    opened::Opened,
    prompt::Prompt,
    running::{self, Running},
    sys,
};

/// Records taken per ring and round: a few milliseconds of work. A new container's mounts wait at most as long for their
/// marks.
const BATCH_RECORDS_MAX: usize = 256;

/// While things happen the reader looks this often instead of being woken for each of them.
const NAP: Duration = Duration::from_millis(3);

/// The same when they do not stop happening: a round costs as much as two execs, whatever it finds. Files that were opened for
/// execution wait in the kernel meanwhile; a library that is gone by then is told as such.
const LONG_NAP: Duration = Duration::from_millis(8);

/// And when they come in floods. Each time that the agent wakes up, what has the CPU moves to another one, and finds nothing of its
/// own in the caches there.
const FLOOD_NAP: Duration = Duration::from_millis(20);

/// Rounds in a row that found something, or naps that brought a flood, after which they are longer: some fifty milliseconds.
const BUSY_ROUNDS_MIN: u32 = 16;

/// Records that come during one nap in a flood: of a long nap, some six thousand a second.
const FLOOD_RECORDS_MIN: usize = 48;

/// After as long without anything new the reader sleeps until it is woken.
const NAPS_BEFORE_SLEEP: u32 = 7;

/// Longest sleep: what has no wake-up of its own (missed runs, expiry) is looked at as often.
const SLEEP: Duration = Duration::from_secs(1);

/// While asleep, how often it is looked whether a library was loaded, if perf tells: its buffers wake only when they fill. This
/// costs a look at two counters, a round much more; but waking up at all takes most of what the agent takes on an idle host.
/// The end of a process wakes the reader by itself, so that what it had mapped is not gone for long by then.
const LOAD_LOOK: Duration = Duration::from_millis(60);

/// Priority of the reader's thread, from 19 (lowest) to -20.
pub(crate) const READER_NICE: i32 = -15;

/// Events of one read, each with a descriptor.
const FANOTIFY_READ_EVENTS: u64 = 682;

/// They have 24 bytes each.
const FANOTIFY_READ_BYTES: usize = 16 * 1024;

/// Reads per round of events that belong to no exec: bounds how long the rings wait.
const FANOTIFY_READS_MAX: usize = 64;

/// Time between taking a record's time and its being there to read: records of the last moment are left for the next
/// round, since an older one may still come.
const WRITE_NS_MAX: u64 = 50_000;

/// Time that an event waits for a file that a prompt told of (see `prompt.rs`), and what came later with it. Opening takes some
/// 50 us, more when the machine beneath this one takes the CPU away; that it could not be opened is told likewise.
const PROMPT_NS_MAX: u64 = 20_000_000;

/// How often the kernel's counters are read: a loss is known at most this long after.
const COUNT_INTERVAL: Duration = Duration::from_millis(20);

/// Naps taken, per read of fanotify, for descriptors to be closed by the receiver.
const DESCRIPTOR_WAITS_MAX: u32 = 30;

/// Processes remembered that have ended: as many as can end while one round's records wait.
const ENDED_MAX: usize = 4096;

/// After ends of processes were lost, it is looked no more often than this which have ended.
const ENDS_LOST_WAIT: Duration = Duration::from_secs(2);

const TOKEN_OTHER: u64 = 0;
const TOKEN_WAKE: u64 = 1;

/// Observations that wait for the end of the round at most.
const UNSENT_MAX: usize = 128;

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
    sender: SyncSender<Observation>,
    unsent: Vec<Observation>,
    probes: Probes,
    marks: Option<Marks>,
    /// Where library loads come from when the probes do not tell them.
    perf: Option<PerfBuffers>,
    /// Mappings that wait for their exec.
    held: Held,
    /// Root directories of containers, by process. While something happens all the time: opening one takes a tenth of the
    /// reader's time.
    roots: FxHashMap<u32, Root>,
    /// When processes ended whose end is still to be reported: `/proc` need not be asked for what they have mapped.
    ends: Vec<(u32, u64)>,
    /// Processes to report before anything else.
    already_running: Vec<Running>,
    /// Taken, but newer than something that may still be in a ring.
    pending: Vec<Item>,
    /// Programs that fanotify did not tell of, opened as soon as their exec was read. By process and time.
    early: FxHashMap<(u32, u64), Content>,
    /// Processes that ended a moment ago, and when: what they opened or mapped may be read after their end. What happens to their
    /// pid later is another's, which may be of the host and never be announced.
    ended: LruCache<u32, (Known, u64), FxBuildHasher>,
    /// Ends were lost: when to look which processes have ended.
    ends_lost: Option<Instant>,
    prompt: Prompt,
    /// Of the last round, for its room.
    batch: Batch,
    /// More was in the rings than one round takes.
    is_backlog: bool,
    /// What was in the rings in the last round.
    records_of_round: usize,
    /// Waited on while napping: what must not wait, and control.
    nap: OwnedFd,
    /// Waited on while asleep: everything.
    sleep: OwnedFd,
    clock: Clock,
    opened: Opened,
    delivered: Delivered,
    familiar: Familiar,
    processes: LruCache<u32, Known, FxBuildHasher>,
    cgroups: LruCache<u64, Arc<Cgroup>, FxBuildHasher>,
    reported: KernelCounters,
    /// Records that could not be decoded, not reported yet.
    undecodable: u64,
    counted: Instant,
    /// See [`Probes::missed_runs`]; looked at once a second.
    missed_runs: MissedRuns,
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
        sender: SyncSender<Observation>,
    ) -> io::Result<Self> {
        let nap = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let sleep = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let other = epoll::EventData::new_u64(TOKEN_OTHER);
        // Not one within the other: asking a mount table whether it has changed takes the answer away, and an outer epoll asks.
        for epoll in [&nap, &sleep] {
            // Edge-triggered: a ring that has data nobody must be woken for does not end a nap.
            let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(epoll, &probes.exec_ring, other, edge)?;
            epoll::add(epoll, &probes.process_ring, other, edge)?;
            epoll::add(epoll, &probes.load_ring, other, edge)?;
            let wake = epoll::EventData::new_u64(TOKEN_WAKE);
            epoll::add(epoll, &shared.wake, wake, epoll::EventFlags::IN)?;
        }

        let mut states = vec![running(Sensor::Ebpf, "execs, forks and exits are seen")];
        let marks = match sys::fanotify_init()
            .and_then(|group| Marks::new(group, [rustix::io::dup(&nap)?, rustix::io::dup(&sleep)?]))
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
                        "fanotify is not usable ({error}): scripts and files without format are not read; run with \
                         CAP_SYS_ADMIN on a kernel with CONFIG_FANOTIFY"
                    ),
                });
                None
            }
        };
        // From here on nothing can start unseen; what runs now is reported from `/proc`.
        let already_running = running::list();
        let prompt = Prompt::new(&probes.prompt_rings, &shared)?;
        let mut marks = marks;
        let now = Instant::now();
        for running in &already_running {
            if let Some(marks) = &mut marks {
                marks.saw(running.mnt_namespace, running.process.pid, now);
            }
        }
        let perf = (!probes.tells_loads).then(|| PerfBuffers::new(config.perf_pages, &sleep));
        let perf = match perf.transpose() {
            Ok(perf) => {
                let by = if perf.is_some() {
                    "perf"
                } else {
                    "eBPF probes"
                };
                let detail = format!("library loads are seen, by {by}");
                states.push(running(Sensor::Perf, &detail));
                perf
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
            unsent: Vec::new(),
            probes,
            marks,
            perf,
            held: Held::default(),
            roots: FxHashMap::default(),
            ends: Vec::new(),
            already_running,
            pending: Vec::new(),
            early: FxHashMap::default(),
            ended: LruCache::with_hasher(one(ENDED_MAX), FxBuildHasher),
            ends_lost: None,
            prompt,
            batch: Batch::default(),
            is_backlog: false,
            records_of_round: 0,
            nap,
            sleep,
            clock: Clock::new(),
            opened: Opened::new(),
            delivered: Delivered::new(),
            familiar: Familiar::new(),
            processes: LruCache::with_hasher(one(limits::PROCESSES_MAX), FxBuildHasher),
            cgroups: LruCache::with_hasher(one(limits::CONTAINERS_MAX), FxBuildHasher),
            reported: KernelCounters::default(),
            undecodable: 0,
            counted: Instant::now(),
            missed_runs: MissedRuns::default(),
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
        self.prompt.join();
    }

    fn read(&mut self) -> Result<(), Closed> {
        // Descriptors of short-lived programs are there for microseconds: on a busy machine an ordinary thread comes too
        // late. Refused without CAP_SYS_NICE, which costs some of them.
        let _ = rustix::process::setpriority_process(None, READER_NICE);
        self.report_running()?;
        self.send_state(running(Sensor::Ebpf, "what ran before has been reported"))?;
        self.send_all()?;
        let (mut quiet, mut busy, mut floods, mut records) = (0, 0_u32, 0_u32, 0);
        loop {
            if self.shared.is_stopping.load(Ordering::Relaxed) {
                self.probes.detach();
                while self.round(true)? {}
                return Ok(());
            }
            let was_busy = self.round(false)?;
            (quiet, busy) = if was_busy {
                (0, busy.saturating_add(1))
            } else {
                (quiet + 1, 0)
            };
            records += self.records_of_round;
            // A backlog is what came during the same nap.
            if !self.is_backlog {
                let is_flood = records >= FLOOD_RECORDS_MIN;
                floods = if is_flood {
                    floods.saturating_add(1)
                } else {
                    0
                };
                records = 0;
            }
            if quiet < NAPS_BEFORE_SLEEP {
                let nap = match self.is_backlog {
                    true => Duration::ZERO,
                    false if busy < BUSY_ROUNDS_MIN => NAP,
                    false if floods < BUSY_ROUNDS_MIN => LONG_NAP,
                    false => FLOOD_NAP,
                };
                self.wait(nap, false);
                continue;
            }
            // Records written before the flag is seen do not wake: look once more behind it.
            self.probes.set_asleep(true);
            if self.round(false)? {
                quiet = 0;
            } else {
                self.sleep();
            }
            self.probes.set_asleep(false);
        }
    }

    /// Until something happens, a library is loaded somewhere, or [`SLEEP`] is over.
    fn sleep(&mut self) {
        let end = Instant::now() + SLEEP;
        let look = if self.perf.is_some() {
            LOAD_LOOK
        } else {
            SLEEP
        };
        while self.wait(look, true) == 0
            && Instant::now() < end
            && !self.perf.as_ref().is_some_and(PerfBuffers::has_records)
        {}
    }

    /// Returns how many events ended it.
    fn wait(&mut self, time: Duration, is_sleep: bool) -> usize {
        let timeout = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or_default(),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let epoll = if is_sleep { &self.sleep } else { &self.nap };
        let mut events = [none(); 64];
        let count = epoll::wait(epoll, &mut events, Some(&timeout)).unwrap_or_default();
        for event in events.into_iter().take(count) {
            let token = event.data.u64();
            if token == TOKEN_OTHER {
                continue;
            }
            if token == TOKEN_WAKE {
                self.take_control();
                continue;
            }
            let number = u32::try_from(token & u64::from(u32::MAX)).unwrap_or_default();
            if let Some(marks) = &mut self.marks {
                marks.changed(number);
            }
        }
        count
    }

    /// One look at everything. True when there was something.
    fn round(&mut self, is_last: bool) -> Result<bool, Closed> {
        let (now, boot_ns) = (Instant::now(), clock::boot_ns());
        self.shared.looked_ns.store(boot_ns, Ordering::Relaxed);
        let complete_until = boot_ns.saturating_sub(WRITE_NS_MAX);
        self.clock.refresh(now);
        // At the end nothing waits for a mount table to be due: what is mounted from now on is watched by nobody.
        let mut is_waiting = self.marks.as_mut().is_some_and(|marks| marks.update(now)) && !is_last;

        let mut items = std::mem::take(&mut self.pending);
        let (mut mappings, mut undecodable_loads) = (0, 0);
        if let Some(perf) = &mut self.perf {
            undecodable_loads = perf.drain(|record| {
                mappings += u64::from(matches!(record, PerfRecord::Mapping(_)));
                items.push(Item::Perf(record));
            });
        }
        add(&self.shared.counters.mappings, mappings);
        let empty = std::mem::take(&mut self.batch);
        let mut batch = self.probes.drain(BATCH_RECORDS_MAX, empty);
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
            // Whatever comes later is read in the next round, if there is one, or before the exec that it belongs to.
            let is_rest = if is_last {
                count == 0
            } else {
                count < FANOTIFY_READ_EVENTS
            };
            if is_rest {
                break;
            }
        }
        self.records_of_round = batch.records.len();
        let mut was_busy = !batch.records.is_empty() || fanotify_count > 0;
        items.extend(batch.records.drain(..).map(Item::Ring));
        // Times are taken before a record is written: a fork sorts before the child's exec, which sorts before its exit.
        items.sort_by_key(Item::boot_ns);
        if items.len() < PENDING_MAX && !is_last {
            let until = batch.complete_until.min(complete_until);
            let complete = items.partition_point(|item| item.boot_ns() <= until);
            let ready = items
                .iter()
                .take(complete)
                .position(|item| self.awaits_file(item, boot_ns))
                .unwrap_or(complete);
            self.pending.extend(items.drain(ready..));
            is_waiting |= !self.pending.is_empty();
        }
        for item in items.drain(..) {
            match item {
                Item::Ring(record) => self.record(record, now)?,
                Item::Perf(record) => was_busy |= self.perf(record, now)?,
            }
        }
        match self.pending.first() {
            None => self.ends.clear(),
            Some(next) => self.ends.retain(|&(_, end)| end >= next.boot_ns()),
        }
        // Keeps the room for the next round.
        if self.pending.is_empty() {
            self.pending = items;
        }
        for mapping in self.held.release_expired(now) {
            self.load(mapping)?;
        }
        for (pid, content) in self.opened.failed(now) {
            self.exec_no_format(pid, content)?;
        }
        is_waiting |= self.opened.is_waiting();
        if was_busy {
            self.roots.values_mut().for_each(Root::grow_old);
        } else {
            self.roots.clear();
        }
        if now.duration_since(self.looked) > Duration::from_secs(1) || is_last {
            self.looked = now;
            self.missed_runs = self.probes.missed_runs();
            self.tell_what_is_forgotten(now);
            if let Some(perf) = &mut self.perf {
                // Tried again in a second; until then, or for good, the self-test says that loads are not seen.
                let _ = perf.follow_cpus(&self.sleep);
            }
        }
        self.undecodable += std::mem::take(&mut batch.undecodable) + undecodable_loads;
        self.batch = batch;
        if is_last || now.duration_since(self.counted) > COUNT_INTERVAL {
            self.counted = now;
            let undecodable = std::mem::take(&mut self.undecodable);
            self.report_losses(undecodable)?;
        }
        if self.ends_lost.is_some_and(|due| due <= now) {
            self.ends_lost = None;
            self.end_gone();
        }
        if now.duration_since(self.expired) > marks::EXPIRE_INTERVAL {
            self.expired = now;
            self.roots.clear();
            self.opened.expire(now);
            self.prompt.expire(now);
            for program in self.familiar.expire(now) {
                self.probes.expect_no_longer(&program);
            }
            if let Some(marks) = &mut self.marks {
                marks.expire();
                let counters = &self.shared.counters;
                counters
                    .mount_failures
                    .store(marks.failures(), Ordering::Relaxed);
            }
        }
        self.send_all()?;
        Ok(was_busy || is_waiting)
    }

    /// Whether a file that a prompt told of is about to be opened. The reader can be faster than who opens it.
    fn awaits_file(&mut self, item: &Item, now_ns: u64) -> bool {
        let Item::Ring(record) = item else {
            return false;
        };
        let Header {
            boot_ns, process, ..
        } = *record.header();
        let (awaits_program, awaits_other, awaits_named) = match record {
            Record::Exec(exec) => (
                exec.has_prompt && !self.early.contains_key(&(process.pid, boot_ns)),
                exec.has_script_prompt,
                exec.has_arguments,
            ),
            Record::Load(load) => (false, load.has_prompt, false),
            _ => return false,
        };
        let is_young = now_ns.saturating_sub(boot_ns) < PROMPT_NS_MAX;
        is_young
            && ((awaits_program && !self.prompt.is_program_decided(process.pid, boot_ns))
                || (awaits_other && !self.prompt.is_descriptor_file_decided(process.pid, boot_ns))
                || (awaits_named && !self.prompt.is_named_decided(process.pid, boot_ns)))
    }

    fn take_control(&mut self) {
        // Fails when there is nothing, which wakes nobody.
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
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
        if self.marks.is_none() {
            return Ok(0);
        }
        self.wait_for_descriptors()?;
        let Some(marks) = &self.marks else {
            return Ok(0);
        };
        let (mut count, mut overflows, mut due) = (0, 0, Vec::new());
        match rustix::io::read(marks.group(), &mut self.fanotify_buffer) {
            Ok(read) => {
                let events = self.fanotify_buffer.get(..read).unwrap_or_default();
                for event in fanotify_events(events) {
                    count += 1;
                    overflows += u64::from(event.is_overflow);
                    let Some(fd) = event.fd.map(sys::own_event_fd) else {
                        continue;
                    };
                    let Some((mut content, is_wanted)) = self.delivered.look(&fd) else {
                        continue;
                    };
                    if is_wanted {
                        content.fd = Some(fd);
                    } else if self.familiar.is_due(&content.key)
                        && due.iter().all(|(key, _)| *key != content.key)
                    {
                        due.push((content.key, fd));
                    }
                    self.opened.push(event.pid, content, now);
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The event at hand is gone: no descriptor could be made for it.
            Err(_) => {
                count += 1;
                overflows += 1;
            }
        }
        for (key, fd) in due {
            self.leave_untold(key, fd, now);
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
    fn wait_for_descriptors(&mut self) -> Result<(), Closed> {
        if !self.delivered.takes_many_descriptors() {
            return Ok(());
        }
        for _ in 0..DESCRIPTOR_WAITS_MAX {
            // The kernel gives out the lowest free number.
            let next = rustix::io::fcntl_dupfd_cloexec(&self.shared.wake, 0);
            let is_free = next.is_ok_and(|fd| !content::is_one_of_many(&fd));
            if is_free || self.shared.is_stopping.load(Ordering::Relaxed) {
                break;
            }
            self.send_all()?;
            std::thread::sleep(NAP);
        }
        Ok(())
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
