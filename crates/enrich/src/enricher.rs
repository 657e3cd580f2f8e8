//! The stage between sensors and detectors: keeps the process table, finds containers, has files judged.
//!
//! Everything happens on the caller's thread but the reading of large files. An event whose file is still being read is
//! parked. Behind an exec, and behind a library of the dynamic loader, which may be the program that it runs, the later loads
//! of the same process wait; all others pass.

mod anew;
mod arrive;
mod files;
mod finish;

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use lru::LruCache;
use model::{
    Text, Timestamp,
    enriched::{Container, EnrichedEvent, EnrichedPayload},
    event::{Event, FileKey, LossSource, Observation, Payload, ProcessKey},
    limits::{
        EVENTS_PARKED_MAX, EVENTS_UNDESCRIBED_MAX, FILES_BYTES_MAX, FILES_MAX, HASH_BYTES_MAX,
        HOST_PROCESSES_MAX, OBSERVATIONS_PARKED_MAX,
    },
};
use rustc_hash::FxBuildHasher;

use anew::Loaded;

use crate::{
    container_state::{ContainerStates, NotCovered, Seen},
    containers::{self, Containers},
    draft::{Draft, FileId, Place, Wanted},
    hash::Block,
    judge::{Judge, Judged, Request, Scanner},
    losses::Losses,
    proc,
    process_table::ProcessTable,
    running,
    shares::Shares,
    slow::{Slow, Ticket},
    waiting_room::WaitingRoom,
    weighted::WeightedCache,
};

/// After ends of processes were lost, what is still in queues gets this long before the processes are looked at, however many
/// more are lost meanwhile.
const ENDS_LOST_WAIT: Duration = Duration::from_secs(2);

/// What the enricher is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where engines keep their files.
    pub containers: containers::Config,
    /// The host's root directory as this process sees it: `/`, unless it runs in a container of its own.
    pub host_root: PathBuf,
    /// Files larger than this are not hashed.
    pub hash_bytes_max: u64,
    /// Look for the image file that an added file was copied from also when no indicator knows the file.
    pub same_content_for_all_added: bool,
    /// The argument of programs that the agent runs to test itself, in its own control group. That one of them could not be
    /// hashed or compared with an image concerns nobody.
    pub own_argument: Option<Text>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            containers: containers::Config::default(),
            host_root: PathBuf::from("/"),
            hash_bytes_max: HASH_BYTES_MAX,
            same_content_for_all_added: false,
            own_argument: None,
        }
    }
}

/// What a sensor is told, so that it has less to tell.
pub trait Feedback {
    /// A control group and mount namespace have proved to be the host's own, whose events are of no use.
    fn ignore(&self, cgroup_id: u64, mnt_namespace: u32);

    /// Whether a program, as [`model::event::Named`] has it, runs scripts that its arguments name.
    fn classify(&self, program: &FileKey, runs_scripts: bool);
}

/// See the module.
pub struct Enricher {
    containers: Containers,
    states: ContainerStates,
    processes: ProcessTable,
    /// Processes that ran a program on the host, where some of them enter a container afterwards.
    host_processes: LruCache<ProcessKey, (), FxBuildHasher>,
    judge: Arc<Judge>,
    slow: Slow,
    block: Block,
    files: WeightedCache<FileId, Judged>,
    loaded: Loaded,
    feedback: Box<dyn Feedback + Send>,
    parked: HashMap<u64, Draft>,
    parked_shares: Shares,
    tickets: HashMap<Ticket, Wanted>,
    /// Answers for files that had to make room for smaller ones.
    displaced: Vec<(Ticket, Judged)>,
    /// Who else waits for contents that are being read: a sensor hands the same bytes over once.
    reading: HashMap<FileKey, Vec<(Wanted, Box<Request>)>>,
    /// Those that hold a descriptor of their own.
    reading_descriptors: usize,
    follower_shares: Shares,
    next_draft: u64,
    waiting: WaitingRoom,
    /// Finished events of containers that their engine is still to describe, by the container's id, each in order.
    undescribed: HashMap<String, Vec<EnrichedEvent>>,
    undescribed_shares: Shares,
    losses: Losses,
    /// Ends of processes were lost: when to look which have ended.
    ends_lost: Option<Instant>,
    /// Those that `losses` has been told about.
    scanner_failures: u64,
    own_argument: Option<Text>,
    /// Paths of the agent's own control groups, one a line.
    own_cgroups: Vec<u8>,
}

impl Enricher {
    /// An enricher that has seen nothing. Its threads start at once.
    pub fn new(
        config: Config,
        scanner: Box<dyn Scanner + Send>,
        feedback: Box<dyn Feedback + Send>,
    ) -> Self {
        let judge = Arc::new(Judge::new(
            scanner,
            config.hash_bytes_max,
            config.same_content_for_all_added,
        ));
        Self {
            containers: Containers::new(config.containers),
            states: ContainerStates::new(config.host_root),
            processes: ProcessTable::default(),
            host_processes: LruCache::with_hasher(
                NonZeroUsize::new(HOST_PROCESSES_MAX).unwrap_or(NonZeroUsize::MIN),
                FxBuildHasher,
            ),
            slow: Slow::start(Arc::clone(&judge)),
            judge,
            block: Block::default(),
            files: WeightedCache::new(FILES_MAX, FILES_BYTES_MAX),
            loaded: Loaded::default(),
            feedback,
            parked: HashMap::new(),
            parked_shares: Shares::new(EVENTS_PARKED_MAX, usize::MAX),
            displaced: Vec::new(),
            tickets: HashMap::new(),
            reading: HashMap::new(),
            reading_descriptors: 0,
            follower_shares: Shares::new(OBSERVATIONS_PARKED_MAX, usize::MAX),
            next_draft: 0,
            waiting: WaitingRoom::default(),
            undescribed: HashMap::new(),
            undescribed_shares: Shares::new(EVENTS_UNDESCRIBED_MAX, usize::MAX),
            losses: Losses::default(),
            ends_lost: None,
            scanner_failures: 0,
            own_argument: config.own_argument,
            own_cgroups: proc::read_small("/proc/self/cgroup").unwrap_or_default(),
        }
    }

    /// Takes one observation and appends what is complete to `out`.
    pub fn observe(&mut self, observation: Observation, out: &mut Vec<EnrichedEvent>) {
        let Observation {
            event,
            file,
            scripts,
            named,
        } = observation;
        let Event {
            time,
            process: key,
            cgroup,
            payload,
        } = event;
        match payload {
            Payload::Exec(exec) => self.exec(time, key, cgroup, exec, file, scripts, named, out),
            Payload::Fork { parent } => {
                self.processes.fork(key, parent, time);
                if self.host_processes.contains(&parent) {
                    self.host_processes.put(key, ());
                }
                self.replay_waiting(key.pid, out);
            }
            Payload::Exit => {
                self.processes.exit(key, time);
                self.processes.expire(time);
            }
            payload @ (Payload::LibraryLoad(_) | Payload::ExecNoFormat { .. }) => {
                let event = Event {
                    time,
                    process: key,
                    cgroup,
                    payload,
                };
                self.of_known_process(
                    Observation {
                        event,
                        file,
                        scripts,
                        named,
                    },
                    out,
                    true,
                );
            }
            Payload::Loss(loss) => {
                if loss.source == LossSource::ProcessRing {
                    self.ends_lost
                        .get_or_insert(Instant::now() + ENDS_LOST_WAIT);
                }
                out.push(about_agent(time, EnrichedPayload::Loss(loss)));
            }
            Payload::SensorState(state) => {
                out.push(about_agent(time, EnrichedPayload::SensorState(state)));
            }
        }
    }

    /// Takes in files that were read meanwhile. Call it every few milliseconds while [`Self::has_pending`], and now and
    /// then otherwise.
    pub fn poll(&mut self, out: &mut Vec<EnrichedEvent>) {
        self.take_judged(out);
        self.give_out_described(out);
        while let Some(observation) = self.waiting.take_expired(Instant::now()) {
            self.of_unknown_process(observation, out);
        }
        let time = Timestamp::from(SystemTime::now());
        if self.ends_lost.is_some_and(|due| due <= Instant::now()) {
            self.ends_lost = None;
            self.processes.end_gone(time, running::is);
        }
        self.processes.expire(time);
        self.count_scanner_failures();
        for event in self.losses.due(Instant::now()) {
            self.emit(event, out);
        }
    }

    /// The end of the watch: gives out everything that is pending as far as it is known, and tells what is not. No large file is
    /// read from now on.
    pub fn finish(&mut self, out: &mut Vec<EnrichedEvent>) {
        while let Some(observation) = self.waiting.take_oldest() {
            self.of_unknown_process(observation, out);
        }
        // The last one that is put there is the first to be taken.
        for (ticket, request) in self.slow.stop().into_iter().rev() {
            if let Some(wanted) = self.tickets.get(&ticket) {
                let container = Arc::clone(&wanted.container);
                let judged = self.overloaded(&container, *request);
                self.displaced.push((ticket, judged));
            }
        }
        self.take_judged(out);
        self.count_scanner_failures();
        for event in self.losses.take() {
            self.emit(event, out);
        }
        self.release(out, |_| true);
    }

    fn count_scanner_failures(&mut self) {
        let failures = self.judge.scanner_failures();
        let more = failures.saturating_sub(self.scanner_failures);
        self.losses.lost(None, LossSource::Indicators, more);
        self.scanner_failures = failures;
    }

    /// Something is being read, or waits for its process or for its container's description, or a loss is still to be told.
    pub fn has_pending(&self) -> bool {
        !self.parked.is_empty()
            || !self.waiting.is_empty()
            || !self.undescribed.is_empty()
            || !self.losses.is_empty()
            || self.containers.has_awaited()
    }

    /// All containers remembered, ended ones too.
    pub fn containers(&self) -> impl Iterator<Item = Arc<Container>> {
        self.containers.iter()
    }

    /// Ids of the containers in which something runs, as far as it was seen.
    pub fn running(&self) -> HashSet<&str> {
        self.processes.containers()
    }

    /// The look-up of containers, for the last lines of their logs.
    pub fn container_lookup(&self) -> &Containers {
        &self.containers
    }

    /// Where the process is, with what is known of its container; and what is not, when it is met for the first time.
    fn place(
        &mut self,
        container: Arc<Container>,
        pid: u32,
        parent: Option<ProcessKey>,
        mnt_namespace: u32,
        seen: &Seen<'_>,
    ) -> (Place, Option<NotCovered>) {
        let host = self.containers.host_mnt_namespace();
        let (number, root, not_covered) = self.states.get(&container, pid, host, seen);
        let place = Place {
            container,
            number,
            root,
            pid,
            parent,
            mnt_namespace,
        };
        (place, not_covered)
    }

    fn tell_not_covered(
        &mut self,
        NotCovered(what): NotCovered,
        container: &Arc<Container>,
        time: Timestamp,
        out: &mut Vec<EnrichedEvent>,
    ) {
        let event = EnrichedEvent {
            time,
            container: Some(Arc::clone(container)),
            process: None,
            payload: EnrichedPayload::NotCovered { what },
        };
        self.emit(event, out);
    }
}

fn about_agent(time: Timestamp, payload: EnrichedPayload) -> EnrichedEvent {
    EnrichedEvent {
        time,
        container: None,
        process: None,
        payload,
    }
}
