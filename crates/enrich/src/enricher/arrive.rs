//! From an observation to a draft of its event: which process and container it is about, which files are to be judged.

use std::{cell::OnceCell, os::fd::OwnedFd, sync::Arc, time::Instant};

use model::{
    Timestamp,
    enriched::{Container, EnrichedEvent, FileKind, Process},
    event::{
        Cgroup, Exec, FileFacts, LibraryLoad, LossSource, Named, Observation, Payload, ProcessKey,
    },
};

use super::Enricher;
use crate::{
    container_state::Seen,
    containers::Resolution,
    draft::{Draft, Kind, Part, Slot, unfinished},
    file_facts::Fallback,
    judge::{Bytes, Request},
    proc,
    process_table::{Program, keep_env},
    running,
    script::{open_again, open_early, open_script},
};

/// The pid of no process, for looking at files of one that is gone.
const NOBODY: u32 = 0;

impl Enricher {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn exec(
        &mut self,
        time: Timestamp,
        key: ProcessKey,
        cgroup: Option<Arc<Cgroup>>,
        mut exec: Box<Exec>,
        file: Option<OwnedFd>,
        scripts: Vec<Option<OwnedFd>>,
        named: Option<Box<Named>>,
        out: &mut Vec<EnrichedEvent>,
    ) {
        let mnt_namespace = exec.namespaces.mnt;
        let container = match &cgroup {
            Some(cgroup) => {
                match self
                    .containers
                    .resolve(cgroup, key.pid, mnt_namespace, time, Instant::now())
                {
                    Resolution::Container(container) => container,
                    Resolution::Host => {
                        // runc runs itself in the control group of a container before that is known, in the host's mounts. Were
                        // they ignored for it, nobody would see who leaves the container for them. But it came from outside.
                        if mnt_namespace == self.containers.host_mnt_namespace()
                            && proc::is_in(exec.parent.pid, &cgroup.path)
                        {
                            self.feedback.ignore(cgroup.id, mnt_namespace);
                        }
                        self.processes.forget(key);
                        self.host_processes.put(key, ());
                        self.learn(std::iter::once(file).chain(scripts));
                        return;
                    }
                }
            }
            None => match self.processes.get(key) {
                Some(entry) => Arc::clone(&entry.container),
                None => {
                    self.learn(std::iter::once(file).chain(scripts));
                    return;
                }
            },
        };
        self.host_processes.pop(&key);
        // Started from outside: by the engine, after a restart perhaps, on a root that was mounted anew.
        let is_entry = !self.processes.contains(key) && !self.processes.contains(exec.parent);
        if is_entry {
            let host = self.containers.host_mnt_namespace();
            self.states.check(&container, key.pid, mnt_namespace, host);
        }
        let seen = Seen {
            time,
            file: &exec.file,
            is_open: file.is_some(),
        };
        let (place, not_covered) =
            self.place(container, key.pid, Some(exec.parent), mnt_namespace, &seen);
        if let Some(not_covered) = not_covered
            && !self.is_own(&exec.args, cgroup.as_deref())
        {
            self.tell_not_covered(not_covered, &place.container, time, out);
        }
        self.next_draft += 1;
        let number = self.next_draft;
        let main_facts = std::mem::take(&mut exec.file);
        let script_facts = std::mem::take(&mut exec.scripts);
        let used = std::mem::take(&mut exec.filename);
        // What was asked for is the first script, when there is one.
        let is_script_certain = !script_facts.is_empty();
        let (main_used, mut script_used) = if is_script_certain {
            (None, Some(used))
        } else {
            (Some(used), None)
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
        let parent = self.processes.parent(key).unwrap_or(exec.parent);
        let before = self.processes.get(key).map(|entry| entry.program.process());
        let env_before = before.as_ref().map(|before| &before.env);
        let (env, is_env_cut) = keep_env(&exec.env, env_before);
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
            env,
            env_truncated: exec.env_truncated || is_env_cut,
            cwd: exec.cwd,
            credentials: exec.credentials,
            namespaces: exec.namespaces,
            stdio: exec.stdio,
            ancestors: self.processes.ancestors(parent, &place.container),
            exec_time: (!exec.already_running).then_some(time),
            cgroup,
        };
        let mut fds = scripts.into_iter();
        let mut scripts = Vec::new();
        for (at, mut facts) in script_facts.into_iter().enumerate() {
            let (used, mut fd) = (script_used.take(), fds.next().flatten());
            if let Some(used) = &used
                && facts.key.is_none()
            {
                // fanotify did not tell of it: what is there by that name has to do.
                let mut found = open_script(&process, used);
                // The sensor knows better why.
                found.facts.missing = found.facts.missing.and(facts.missing);
                (facts, fd) = (found.facts, found.fd);
            } else if fd.is_none() && facts.is_unsettled && facts.missing.is_none() {
                let used = used.as_ref();
                fd = used.and_then(|used| open_again(&process, used, &facts));
            }
            let part = Part::Script(at);
            let slot = self.file(number, part, &place, facts, used, fd, Fallback::None);
            scripts.push(slot);
        }
        // The interpreter may have to be read first, and the script may be gone by then.
        let is_opened = named.as_ref().is_some_and(|named| !named.files.is_empty());
        let candidate = match (&main, is_script_certain) {
            (Slot::Waiting, false) if !is_opened => open_early(&process, &process.args),
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
                named,
                is_script_settled: is_script_certain,
                is_script_certain,
            },
            main: Some(main),
            loaded: None,
            scripts,
            followers: Vec::new(),
        };
        self.go_on(number, draft, out);
        self.replay_waiting(key.pid, out);
    }

    /// Library loads and scripts without a known format: their process must be known.
    pub(super) fn of_known_process(
        &mut self,
        mut observation: Observation,
        out: &mut Vec<EnrichedEvent>,
        may_wait: bool,
    ) {
        let time = observation.event.time;
        let Some(key) = self.processes.find(observation.event.process, time) else {
            let in_vain = if may_wait && !self.host_processes.contains(&observation.event.process) {
                self.waiting.push(observation, Instant::now())
            } else {
                Some(observation)
            };
            if let Some(observation) = in_vain {
                self.of_unknown_process(observation, out);
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
            let container = &draft.place.container;
            if self.follower_shares.has_room(&container.id) {
                self.follower_shares.take(&container.id);
                draft.followers.push(observation);
                return;
            }
            self.losses.lost(Some(container), LossSource::Queue, 1);
        }
        let program = Arc::clone(&entry.program);
        let container = self.containers.latest(&entry.container);
        let Some(process) = self.processes.process(key) else {
            return;
        };
        self.judge_for(observation, container, process, Some(program), out);
    }

    /// Has the file judged that a process of a container loads or reads. `program` is what the process table has of it.
    fn judge_for(
        &mut self,
        observation: Observation,
        container: Arc<Container>,
        process: Arc<Process>,
        program: Option<Arc<Program>>,
        out: &mut Vec<EnrichedEvent>,
    ) {
        let (time, key) = (observation.event.time, process.key);
        let facts = match &observation.event.payload {
            Payload::LibraryLoad(load) => &load.file,
            Payload::ExecNoFormat { file } => file,
            _ => return,
        };
        let seen = Seen {
            time,
            file: facts,
            is_open: observation.file.is_some(),
        };
        let mnt_namespace = process.namespaces.mnt;
        // By now its pid may be another's.
        let pid = program.as_ref().map_or(NOBODY, |_| key.pid);
        let parent = self.processes.parent(key);
        let (place, not_covered) = self.place(container, pid, parent, mnt_namespace, &seen);
        if let Some(not_covered) = not_covered {
            self.tell_not_covered(not_covered, &place.container, time, out);
        }
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
                let library = self.file(
                    number,
                    Part::Main,
                    &place,
                    file,
                    None,
                    observation.file,
                    fallback,
                );
                // What the dynamic loader maps may be the program that it was told to run.
                let is_loader = process
                    .binary
                    .as_ref()
                    .is_some_and(|binary| binary.kind == FileKind::DynamicLoader);
                let is_held = is_loader && matches!(library, Slot::Waiting);
                let held = program.filter(|program| is_held && program.parked().is_none());
                if let Some(program) = &held {
                    program.wait_for(number);
                }
                Draft {
                    main: Some(library),
                    loaded: None,
                    time,
                    place,
                    kind: Kind::LibraryLoad { process, held },
                    scripts: Vec::new(),
                    followers: Vec::new(),
                }
            }
            Payload::ExecNoFormat { file } => {
                let slot = self.file(
                    number,
                    Part::Script(0),
                    &place,
                    *file,
                    None,
                    observation.file,
                    Fallback::None,
                );
                let is_known = program.is_some();
                let program = Program::new(process, Some(number));
                if is_known {
                    // From now on this process runs the script, whether or not it is a fork of the shell.
                    let container = &place.container;
                    self.processes
                        .exec(key, container, Arc::clone(&program), key, time);
                }
                Draft {
                    main: None,
                    loaded: None,
                    scripts: vec![slot],
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

    /// Its process was never announced: of the host, as a rule, where some go on to enter a container. One of a container was
    /// forgotten, or its exec was lost; what still runs is looked at anew. Of what does not, the file is judged by itself.
    pub(super) fn of_unknown_process(
        &mut self,
        observation: Observation,
        out: &mut Vec<EnrichedEvent>,
    ) {
        let (time, key) = (observation.event.time, observation.event.process);
        let is_hosts = self.host_processes.contains(&key);
        let cgroup = observation.event.cgroup.clone().filter(|_| !is_hosts);
        let mnt_namespace = proc_reader::namespace(key.pid, "mnt").filter(|_| running::is(key));
        let container = cgroup.as_ref().and_then(|cgroup| match mnt_namespace {
            None => self.containers.remembered(cgroup),
            Some(mnt_namespace) => {
                match self
                    .containers
                    .resolve(cgroup, key.pid, mnt_namespace, time, Instant::now())
                {
                    Resolution::Container(container) => Some(container),
                    Resolution::Host => None,
                }
            }
        });
        if container.is_some()
            && let Some(mnt_namespace) = mnt_namespace
            && let Some((mut exec, file)) = running::exec(key, mnt_namespace)
        {
            if let Some(parent) = self.processes.find(exec.parent, time) {
                exec.parent = parent;
            }
            self.exec(
                time,
                key,
                cgroup,
                Box::new(exec),
                Some(file),
                Vec::new(),
                None,
                out,
            );
            if self.processes.contains(key) {
                self.of_known_process(observation, out, false);
                return;
            }
        }
        if let Some(container) = container {
            let source = LossSource::UnknownProcess;
            self.losses.lost(Some(&container), source, 1);
            if self.has_bytes(&observation) {
                let process = Process {
                    key,
                    cgroup: observation.event.cgroup.clone(),
                    ..Process::default()
                };
                self.judge_for(observation, container, Arc::new(process), None, out);
                return;
            }
        }
        self.learn(std::iter::once(observation.file));
    }

    /// The bytes of the file are known, or can be read.
    fn has_bytes(&self, observation: &Observation) -> bool {
        let key = match &observation.event.payload {
            Payload::LibraryLoad(load) => load.file.key,
            Payload::ExecNoFormat { file } => file.key,
            _ => return false,
        };
        let is_known = |key| self.judge.cache.get_unsettled(&key).is_some();
        observation.file.is_some() || key.is_some_and(is_known)
    }

    /// Keeps what the bytes are of files that are of no interest: the sensor hands the same bytes over once, and a container
    /// may use them next.
    fn learn(&mut self, files: impl Iterator<Item = Option<OwnedFd>>) {
        for file in files.flatten() {
            let request = Request {
                root: None,
                mounts: None,
                facts: FileFacts::default(),
                path_used: None,
                links_seen: 0,
                bytes: Bytes::Descriptor(file),
                verdict: OnceCell::new(),
                listed_since: None,
            };
            if let Err(request) = self.judge.fast(request, &mut self.block) {
                // Nobody waits for the answer.
                let _ = self.slow.submit("", request);
            }
        }
    }

    /// The process has been announced.
    pub(super) fn replay_waiting(&mut self, pid: u32, out: &mut Vec<EnrichedEvent>) {
        for observation in self.waiting.take(pid) {
            self.of_known_process(observation, out, false);
        }
    }
}
