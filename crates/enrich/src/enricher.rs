//! The stage between sensors and detectors: keeps the process table, finds containers, has files judged.
//!
//! Everything happens on the caller's thread but the reading of large files. An event whose file is still being read is
//! parked, and with it the later events of the same process; all others pass.

use std::{
    cell::OnceCell,
    collections::HashMap,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use model::{
    Text, Timestamp,
    enriched::{Container, EnrichedEvent, EnrichedPayload, Process},
    event::{
        Cgroup, Event, Exec, FileFacts, FileKey, LibraryLoad, Observation, Payload, ProcessKey,
    },
    limits::{FILES_BYTES_MAX, FILES_MAX, OBSERVATIONS_PARKED_MAX},
    provenance::{MissingReason, Provenance, UnknownReason},
};

use crate::{
    container_state::{ContainerStates, NotCovered},
    containers::{self, Containers, Resolution},
    draft::{Draft, FileId, Kind, Part, Place, Slot, Wanted, ready, unfinished},
    file_facts::{Fallback, complete_facts},
    file_kind::Interpreter,
    hash::Block,
    judge::{Bytes, Judge, Judged, Request, Scanner},
    process_table::{ProcessTable, Program, keep_env},
    script::{open_script, script_argument},
    slow::{Slow, Ticket},
    waiting_room::WaitingRoom,
    weighted::WeightedCache,
};

/// What the enricher is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where engines keep their files.
    pub containers: containers::Config,
    /// The host's root directory as this process sees it: `/`, unless it runs in a container of its own.
    pub host_root: PathBuf,
    /// Files larger than this are not hashed. No limit by default: large files are read in turns and delay nobody.
    pub hash_bytes_max: u64,
    /// Look for the image file that an added file was copied from also when no indicator knows the file.
    pub same_content_for_all_added: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            containers: containers::Config::default(),
            host_root: PathBuf::from("/"),
            hash_bytes_max: u64::MAX,
            same_content_for_all_added: false,
        }
    }
}

/// What was not done, for the agent's own report. All count since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events about processes that are in no container, or that nobody ever announced.
    pub unknown_process: u64,
    /// Of those, dropped before their time since too many were waiting.
    pub unknown_process_overflow: u64,
    /// Files not hashed since too many were waiting.
    pub hash_overload: u64,
    /// Events let through with unfinished files since too many were parked.
    pub parked_overload: u64,
}

/// See the module.
pub struct Enricher {
    containers: Containers,
    states: ContainerStates,
    processes: ProcessTable,
    judge: Arc<Judge>,
    slow: Slow,
    block: Block,
    files: WeightedCache<FileId, Judged>,
    ignore: Box<dyn Fn(u64, u32) + Send>,
    parked: HashMap<u64, Draft>,
    tickets: HashMap<Ticket, Wanted>,
    /// Who else waits for contents that are being read: a sensor hands the same bytes over once.
    reading: HashMap<FileKey, Vec<(Wanted, Box<Request>)>>,
    followers: usize,
    next_draft: u64,
    waiting: WaitingRoom,
    /// Finished events of containers that their engine is still to describe, by the container's id, each in order.
    undescribed: HashMap<String, Vec<EnrichedEvent>>,
    undescribed_count: usize,
    counters: Counters,
}

impl Enricher {
    /// `ignore(cgroup_id, mnt_namespace)` is called for pairs that are the host's own, whose events are of no use.
    pub fn new(
        config: Config,
        scanner: Box<dyn Scanner + Send>,
        ignore: Box<dyn Fn(u64, u32) + Send>,
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
            slow: Slow::start(Arc::clone(&judge)),
            judge,
            block: Block::default(),
            files: WeightedCache::new(FILES_MAX, FILES_BYTES_MAX),
            ignore,
            parked: HashMap::new(),
            tickets: HashMap::new(),
            reading: HashMap::new(),
            followers: 0,
            next_draft: 0,
            waiting: WaitingRoom::default(),
            undescribed: HashMap::new(),
            undescribed_count: 0,
            counters: Counters::default(),
        }
    }

    /// Takes one observation and appends what is complete to `out`.
    pub fn observe(&mut self, observation: Observation, out: &mut Vec<EnrichedEvent>) {
        let Observation {
            event,
            file,
            script,
        } = observation;
        let Event {
            time,
            process: key,
            cgroup,
            payload,
        } = event;
        match payload {
            Payload::Exec(exec) => self.exec(time, key, cgroup, *exec, file, script, out),
            Payload::Fork { parent } => {
                self.processes.fork(key, parent, time);
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
                        script,
                    },
                    out,
                    true,
                );
            }
            Payload::Loss(loss) => out.push(about_agent(time, EnrichedPayload::Loss(loss))),
            Payload::SensorState(state) => {
                out.push(about_agent(time, EnrichedPayload::SensorState(state)));
            }
        }
    }

    /// Takes in files that were read meanwhile. Call it every few milliseconds while [`Self::has_pending`], and now and
    /// then otherwise.
    pub fn poll(&mut self, out: &mut Vec<EnrichedEvent>) {
        while let Some((ticket, judged)) = self.slow.take_done() {
            let Some(wanted) = self.tickets.remove(&ticket) else {
                continue;
            };
            let key = wanted.id.as_ref().map(|id| id.key);
            self.remember(wanted.id.as_ref(), &judged);
            self.fill(&wanted, judged, out);
            let others = key.and_then(|key| self.reading.remove(&key));
            for (wanted, mut request) in others.into_iter().flatten() {
                if let Some(content) = key.and_then(|key| self.judge.cache.get_unsettled(&key)) {
                    request.bytes = Bytes::Known(content);
                }
                if let Slot::Ready(judged) = self.judge_or_queue(wanted.clone(), *request) {
                    self.fill(&wanted, judged, out);
                }
            }
        }
        if self.containers.has_awaited() {
            self.containers.look_again(Instant::now());
        }
        if !self.undescribed.is_empty() {
            let described: Vec<String> = self
                .undescribed
                .iter()
                .filter_map(|(id, events)| {
                    let container = events.first()?.container.as_ref()?;
                    (!self.containers.is_awaited(container)).then(|| id.clone())
                })
                .collect();
            self.release(out, |held| described.contains(&held.id));
        }
        self.counters.unknown_process += self.waiting.expire(Instant::now());
        self.processes.expire(Timestamp::from(SystemTime::now()));
    }

    /// Something is being read, or waits for its process or for its container's description.
    pub fn has_pending(&self) -> bool {
        !self.parked.is_empty()
            || !self.waiting.is_empty()
            || !self.undescribed.is_empty()
            || self.containers.has_awaited()
    }

    /// Asks the scanner anew for every file, also known ones: call it after the indicators have changed.
    pub fn forget_matches(&mut self) {
        self.files.clear();
    }

    /// All containers remembered, ended ones too.
    pub fn containers(&self) -> impl Iterator<Item = Arc<Container>> {
        self.containers.iter()
    }

    /// The look-up of containers, for the last lines of their logs.
    pub fn container_lookup(&self) -> &Containers {
        &self.containers
    }

    /// What was not done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    #[allow(clippy::too_many_arguments)]
    fn exec(
        &mut self,
        time: Timestamp,
        key: ProcessKey,
        cgroup: Option<Arc<Cgroup>>,
        mut exec: Exec,
        file: Option<OwnedFd>,
        script: Option<OwnedFd>,
        out: &mut Vec<EnrichedEvent>,
    ) {
        let mnt_namespace = exec.namespaces.mnt;
        let container = match &cgroup {
            Some(cgroup) => match self.containers.resolve(cgroup, key.pid, mnt_namespace) {
                Resolution::Container(container) => container,
                Resolution::Host => {
                    if mnt_namespace == self.containers.host_mnt_namespace() {
                        (self.ignore)(cgroup.id, mnt_namespace);
                    }
                    self.processes.forget(key);
                    return;
                }
            },
            None => match self.processes.get(key) {
                Some(entry) => Arc::clone(&entry.container),
                None => return,
            },
        };
        // Started from outside: by the engine, after a restart perhaps, on a root that was mounted anew.
        let is_entry = !self.processes.contains(key) && !self.processes.contains(exec.parent);
        if is_entry {
            let host = self.containers.host_mnt_namespace();
            self.states.check(&container, key.pid, mnt_namespace, host);
        }
        let seen = (&exec.file, file.is_some());
        let place = self.place(container, key.pid, mnt_namespace, time, seen, out);
        self.next_draft += 1;
        let number = self.next_draft;
        let (main_facts, script_facts) = (std::mem::take(&mut exec.file), exec.script.take());
        let used = std::mem::take(&mut exec.filename);
        // What was asked for is the script, when there is one.
        let (main_used, script_used) = match script_facts {
            Some(_) => (None, Some(used)),
            None => (Some(used), None),
        };
        let main = self.file(
            number,
            Part::Main,
            &place,
            main_facts.clone(),
            main_used,
            file,
            Fallback::Exe,
        );
        let script = script_facts.map(|facts| {
            self.file(
                number,
                Part::Script,
                &place,
                facts,
                script_used,
                script,
                Fallback::None,
            )
        });
        let parent = self.processes.parent(key).unwrap_or(exec.parent);
        let process = Process {
            key,
            pid_in_namespace: exec.pid_in_namespace,
            name: exec.comm,
            binary: match &main {
                Slot::Ready(judged) => Some(Arc::clone(&judged.file)),
                Slot::Waiting => Some(Arc::new(unfinished(main_facts))),
            },
            script: None,
            args: exec.args,
            args_truncated: exec.args_truncated,
            env: keep_env(exec.env),
            env_truncated: exec.env_truncated,
            cwd: exec.cwd,
            credentials: exec.credentials,
            namespaces: exec.namespaces,
            stdio: exec.stdio,
            ancestors: self.processes.ancestors(parent, &place.container),
            exec_time: (!exec.already_running).then_some(time),
            cgroup,
        };
        // The interpreter may have to be read first, and the script may be gone by then.
        let candidate = match (&main, &script) {
            (Slot::Waiting, None) => script_argument(Interpreter::Shell, &process.args)
                .map(|argument| (argument.clone(), open_script(&process, argument))),
            _ => None,
        };
        let program = Program::new(Arc::new(process), Some(number));
        self.processes.exec(
            key,
            &place.container,
            Arc::clone(&program),
            exec.parent,
            time,
        );
        let draft = Draft {
            time,
            place,
            kind: Kind::Exec {
                program,
                candidate,
                is_script_settled: script.is_some(),
            },
            main: Some(main),
            script,
            followers: Vec::new(),
        };
        self.go_on(number, draft, out);
        self.replay_waiting(key.pid, out);
    }

    /// Library loads and scripts without a known format: their process must be known.
    fn of_known_process(
        &mut self,
        mut observation: Observation,
        out: &mut Vec<EnrichedEvent>,
        may_wait: bool,
    ) {
        let time = observation.event.time;
        let Some(key) = self.processes.find(observation.event.process, time) else {
            if may_wait {
                let dropped = self.waiting.push(observation, Instant::now());
                self.counters.unknown_process += dropped;
                self.counters.unknown_process_overflow += dropped;
            } else {
                self.counters.unknown_process += 1;
            }
            return;
        };
        observation.event.process = key;
        let Some(entry) = self.processes.get(key) else {
            return;
        };
        if let Some(draft) = entry
            .program
            .parked()
            .and_then(|number| self.parked.get_mut(&number))
        {
            if self.followers < OBSERVATIONS_PARKED_MAX {
                self.followers += 1;
                draft.followers.push(observation);
                return;
            }
            self.counters.parked_overload += 1;
        }
        let container = self.containers.latest(&entry.container);
        let Some(process) = self.processes.process(key) else {
            return;
        };
        let facts = match &observation.event.payload {
            Payload::LibraryLoad(load) => &load.file,
            Payload::ExecNoFormat { file } => file,
            _ => return,
        };
        let seen = (facts, observation.file.is_some());
        let mnt_namespace = process.namespaces.mnt;
        let place = self.place(container, key.pid, mnt_namespace, time, seen, out);
        self.next_draft += 1;
        let number = self.next_draft;
        let draft = match observation.event.payload {
            Payload::LibraryLoad(load) => {
                let LibraryLoad {
                    file,
                    address_start,
                    address_end,
                } = *load;
                let fallback = Fallback::Mapping(address_start, address_end);
                Draft {
                    main: Some(self.file(
                        number,
                        Part::Main,
                        &place,
                        file,
                        None,
                        observation.file,
                        fallback,
                    )),
                    time,
                    place,
                    kind: Kind::LibraryLoad { process },
                    script: None,
                    followers: Vec::new(),
                }
            }
            Payload::ExecNoFormat { file } => {
                let slot = self.file(
                    number,
                    Part::Script,
                    &place,
                    file,
                    None,
                    observation.file,
                    Fallback::None,
                );
                // From now on this process runs the script, whether or not it is a fork of the shell.
                let program = Program::new(process, Some(number));
                self.processes
                    .exec(key, &place.container, Arc::clone(&program), key, time);
                Draft {
                    main: None,
                    script: Some(slot),
                    time,
                    place,
                    kind: Kind::ScriptRun { program },
                    followers: Vec::new(),
                }
            }
            _ => return,
        };
        self.go_on(number, draft, out);
    }

    /// One more file of a parked draft is known.
    fn fill(&mut self, wanted: &Wanted, judged: Judged, out: &mut Vec<EnrichedEvent>) {
        if let Some(mut draft) = self.parked.remove(&wanted.draft) {
            *draft.slot(wanted.part) = Some(Slot::Ready(judged));
            self.go_on(wanted.draft, draft, out);
        }
    }

    /// Emits the event when all its files are known, parks it otherwise.
    fn go_on(&mut self, number: u64, mut draft: Draft, out: &mut Vec<EnrichedEvent>) {
        if draft.is_waiting() {
            self.parked.insert(number, draft);
            return;
        }
        self.settle_script(number, &mut draft);
        if draft.is_waiting() {
            self.parked.insert(number, draft);
            return;
        }
        let (main, script) = (ready(draft.main), ready(draft.script));
        let (process, payload) = match draft.kind {
            Kind::Exec { program, .. } => {
                let finished = program.finish(|process| {
                    process.binary = main;
                    process.script = script;
                });
                (finished, EnrichedPayload::Exec)
            }
            Kind::ScriptRun { program } => (
                program.finish(|process| process.script = script),
                EnrichedPayload::ScriptRun,
            ),
            Kind::LibraryLoad { process } => match main {
                Some(library) => (process, EnrichedPayload::LibraryLoad { library }),
                None => return,
            },
        };
        let event = EnrichedEvent {
            time: draft.time,
            container: Some(draft.place.container),
            process: Some(process),
            payload,
        };
        self.emit(event, out);
        for follower in draft.followers {
            self.followers = self.followers.saturating_sub(1);
            self.of_known_process(follower, out, false);
        }
    }

    /// Gives an event out, unless its container's engine is still to describe it.
    fn emit(&mut self, event: EnrichedEvent, out: &mut Vec<EnrichedEvent>) {
        if let Some(container) = &event.container
            && self.containers.has_awaited()
            && self.containers.is_awaited(container)
        {
            if self.undescribed_count >= OBSERVATIONS_PARKED_MAX {
                self.counters.parked_overload += 1;
                self.release(out, |_| true);
            }
            self.undescribed_count += 1;
            let id = container.id.clone();
            self.undescribed.entry(id).or_default().push(event);
            return;
        }
        // It may have been described just now.
        if !self.undescribed.is_empty()
            && let Some(container) = event.container.clone()
        {
            self.release(out, |held| held.id == container.id);
        }
        out.push(event);
    }

    /// Gives out the events of those held containers.
    fn release(&mut self, out: &mut Vec<EnrichedEvent>, of: impl Fn(&Container) -> bool) {
        let containers = &self.containers;
        let described = self.undescribed.extract_if(|_, events| {
            let container = events.first().and_then(|event| event.container.as_ref());
            container.is_none_or(|container| of(container))
        });
        for mut event in described.flat_map(|(_, events)| events) {
            self.undescribed_count -= 1;
            if let Some(container) = &mut event.container {
                *container = containers.latest(container);
            }
            out.push(event);
        }
    }

    /// An interpreter runs the script that its arguments name.
    fn settle_script(&mut self, number: u64, draft: &mut Draft) {
        let Kind::Exec {
            program,
            candidate,
            is_script_settled,
        } = &mut draft.kind
        else {
            return;
        };
        if std::mem::replace(is_script_settled, true) {
            return;
        }
        let Some(Slot::Ready(Judged {
            interpreter: Some(interpreter),
            ..
        })) = &draft.main
        else {
            return;
        };
        let process = program.process();
        let Some(argument) = script_argument(*interpreter, &process.args) else {
            return;
        };
        let script = match candidate.take() {
            Some((candidate, script)) if candidate == *argument => script,
            _ => open_script(&process, argument),
        };
        drop(process);
        let used = Some(script.path_used);
        draft.script = Some(self.file(
            number,
            Part::Script,
            &draft.place,
            script.facts,
            used,
            script.fd,
            Fallback::None,
        ));
    }

    /// Judges a file now, or has it judged for a draft.
    #[allow(clippy::too_many_arguments)]
    fn file(
        &mut self,
        draft: u64,
        part: Part,
        place: &Place,
        mut facts: FileFacts,
        used: Option<Text>,
        fd: Option<OwnedFd>,
        fallback: Fallback,
    ) -> Slot {
        let links_seen = facts.link_count;
        let path_used = used.filter(|used| !used.is_empty() && *used != facts.path);
        let id = facts.key.map(|key| FileId {
            container: place.number,
            key,
            mount_id: facts.mount_id,
            mnt_namespace: place.mnt_namespace,
            is_unnamed: facts.link_count == 0,
            path: facts.path.clone(),
            path_used: path_used.clone(),
        });
        if let Some(judged) = id.as_ref().and_then(|id| self.files.get(id)) {
            return Slot::Ready(judged.clone());
        }
        let known = facts.key.and_then(|key| self.judge.cache.get(&key));
        let bytes = match (known, fd) {
            (Some(content), fd) => {
                fd.inspect(|fd| complete_facts(place.pid, &mut facts, fd));
                Bytes::Known(content)
            }
            (None, Some(fd)) => {
                complete_facts(place.pid, &mut facts, &fd);
                Bytes::Descriptor(fd)
            }
            (None, None) if facts.key.is_some_and(|key| self.reading.contains_key(&key)) => {
                Bytes::Missing(facts.missing.unwrap_or(MissingReason::ProcessGone))
            }
            (None, None) => self.bytes_without_descriptor(place.pid, &mut facts, fallback),
        };
        let mounts = self
            .states
            .mounts(place.number, place.mnt_namespace, place.pid, &facts);
        let request = Request {
            root: Some(Arc::clone(&place.root)),
            mounts,
            facts,
            path_used,
            links_seen,
            bytes,
            verdict: OnceCell::new(),
        };
        let wanted = Wanted {
            draft,
            part,
            container: place.number,
            id,
        };
        if matches!(request.bytes, Bytes::Missing(_))
            && let Some(key) = request.facts.key
            && let Some(others) = self.reading.get_mut(&key)
            && self.parked.len() < OBSERVATIONS_PARKED_MAX
        {
            others.push((wanted, Box::new(request)));
            return Slot::Waiting;
        }
        self.judge_or_queue(wanted, request)
    }

    fn judge_or_queue(&mut self, wanted: Wanted, request: Request) -> Slot {
        let request = match self.judge.fast(request, &mut self.block) {
            Ok(judged) => {
                self.remember(wanted.id.as_ref(), &judged);
                return Slot::Ready(judged);
            }
            Err(request) => request,
        };
        let is_room = self.parked.len() < OBSERVATIONS_PARKED_MAX;
        let submitted = if is_room {
            self.slow.submit(wanted.container, request)
        } else {
            Err(request)
        };
        match submitted {
            Ok(ticket) => {
                if let Some(id) = &wanted.id {
                    self.reading.entry(id.key).or_default();
                }
                self.tickets.insert(ticket, wanted);
                Slot::Waiting
            }
            Err(request) => {
                self.counters.hash_overload += 1;
                Slot::Ready(self.judge.overloaded(*request, &mut self.block))
            }
        }
    }

    /// The sensor holds this content for known, or could not open it: what can still be had.
    fn bytes_without_descriptor(
        &self,
        pid: u32,
        facts: &mut FileFacts,
        fallback: Fallback,
    ) -> Bytes {
        if let Some(content) = facts
            .key
            .and_then(|key| self.judge.cache.get_unsettled(&key))
        {
            return Bytes::Known(content);
        }
        match fallback.open(pid, facts) {
            Some(fd) => {
                complete_facts(pid, facts, &fd);
                Bytes::Descriptor(fd)
            }
            None => Bytes::Missing(facts.missing.unwrap_or(MissingReason::ProcessGone)),
        }
    }

    /// Keeps a judgement that will be the same next time.
    fn remember(&mut self, id: Option<&FileId>, judged: &Judged) {
        let Some(id) = id.filter(|id| self.judge.cache.get(&id.key).is_some()) else {
            return;
        };
        let is_lasting = match judged.file.provenance {
            Provenance::BuiltIn | Provenance::Modified | Provenance::Added => true,
            Provenance::Unknown(reason) => reason == UnknownReason::NoImage,
        };
        if is_lasting && judged.file.sha256().is_some() {
            let bytes = id.weight(&judged.file);
            self.files.put(id.clone(), judged.clone(), bytes);
        }
    }

    fn place(
        &mut self,
        container: Arc<Container>,
        pid: u32,
        mnt_namespace: u32,
        time: Timestamp,
        seen: (&FileFacts, bool),
        out: &mut Vec<EnrichedEvent>,
    ) -> Place {
        let host = self.containers.host_mnt_namespace();
        let (number, root, not_covered) = self.states.get(&container, pid, host, seen);
        if let Some(NotCovered(what)) = not_covered {
            let event = EnrichedEvent {
                time,
                container: Some(Arc::clone(&container)),
                process: None,
                payload: EnrichedPayload::NotCovered { what },
            };
            self.emit(event, out);
        }
        Place {
            container,
            number,
            root,
            pid,
            mnt_namespace,
        }
    }

    /// The process has been announced.
    fn replay_waiting(&mut self, pid: u32, out: &mut Vec<EnrichedEvent>) {
        for observation in self.waiting.take(pid) {
            self.of_known_process(observation, out, false);
        }
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
