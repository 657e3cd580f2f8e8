//! Processes of containers: what each one runs, who started it, which container it is in.
//!
//! Filled from exec, fork and exit events. A forked child has its parent's program until it execs. Ended processes stay
//! for a while, since a library load may be reported after the exit. Bounded by bytes, of which each container has a share:
//! one that has more than that loses its ended processes first, then those not heard of for the longest time.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lru::LruCache;
use model::{
    Text, Timestamp,
    enriched::{Ancestor, Container, EnvVariable, Process},
    event::ProcessKey,
    limits::{
        ANCESTOR_ARGS_BYTES_MAX, ANCESTORS_MAX, ENV_NAME_BYTES_MAX, PROCESSES_BYTES_MAX,
        PROCESSES_MAX,
    },
    proc_files::environment,
};
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

/// Bytes that a process takes at least, in all the maps.
const ENTRY_BYTES: usize = 2 * size_of::<Entry>() + 64;

const _: () = assert!(PROCESSES_BYTES_MAX / ENTRY_BYTES <= PROCESSES_MAX);

/// What is kept when room is made: going through all processes must not happen with each new one.
const BYTES_KEPT: usize = PROCESSES_BYTES_MAX / 8 * 7;

/// How long an ended process is remembered.
const EXITED_KEPT_NS: u64 = 5_000_000_000;

/// Variables whose values are kept: they decide which code is loaded, or where traffic goes. The finding's builder hides
/// what looks like a secret in them (a proxy's password).
const ENV_VALUES_KEPT: &[&[u8]] = &[
    b"OPENSSL_CONF",
    b"OPENSSL_ENGINES",
    b"OPENSSL_MODULES",
    b"LD_PRELOAD",
    b"LD_AUDIT",
    b"LD_LIBRARY_PATH",
    b"GCONV_PATH",
    b"http_proxy",
    b"https_proxy",
    b"all_proxy",
    b"HTTP_PROXY",
    b"HTTPS_PROXY",
    b"ALL_PROXY",
];

/// What a process runs; shared with children that have not called exec.
#[derive(Debug)]
pub(crate) struct Program {
    process: Mutex<Arc<Process>>,
    /// The number of the parked event whose files are still being hashed, 0 when there is none.
    parked: AtomicU64,
}

impl Program {
    pub(crate) fn new(process: Arc<Process>, parked: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            process: Mutex::new(process),
            parked: AtomicU64::new(parked.unwrap_or(0)),
        })
    }

    pub(crate) fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn parked(&self) -> Option<u64> {
        Some(self.parked.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }

    /// Later events wait for one more, until [`Self::go_on`].
    pub(crate) fn wait_for(&self, number: u64) {
        self.parked.store(number, Ordering::Relaxed);
    }

    pub(crate) fn go_on(&self) {
        self.parked.store(0, Ordering::Relaxed);
    }

    /// Writes something into the process, which children share.
    pub(crate) fn change(&self, write: impl FnOnce(&mut Process)) -> Arc<Process> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        write(Arc::make_mut(&mut process));
        Arc::clone(&process)
    }

    /// All files are known: writes them into the process, which children share.
    pub(crate) fn finish(&self, write: impl FnOnce(&mut Process)) -> Arc<Process> {
        let process = self.change(write);
        self.go_on();
        process
    }
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) container: Arc<Container>,
    pub(crate) program: Arc<Program>,
    parent: ProcessKey,
    first_seen: Timestamp,
    /// It runs what its parent ran.
    is_inherited: bool,
    has_exited: bool,
    bytes: usize,
    /// What those below it are told of it, once it has some and its own files are known.
    told: Option<Arc<Ancestor>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ProcessTable {
    entries: LruCache<ProcessKey, Entry, FxBuildHasher>,
    /// Start times of the processes with a pid, in the order they were heard of.
    by_pid: FxHashMap<u32, SmallVec<[u64; 1]>>,
    exited: VecDeque<(Timestamp, ProcessKey)>,
    bytes: usize,
    /// The same by the container's id.
    held: FxHashMap<String, usize>,
}

impl Default for ProcessTable {
    fn default() -> Self {
        Self {
            entries: LruCache::unbounded_with_hasher(FxBuildHasher),
            by_pid: FxHashMap::default(),
            exited: VecDeque::new(),
            bytes: 0,
            held: FxHashMap::default(),
        }
    }
}

impl ProcessTable {
    /// A child begins with its parent's program. Parents that are not in a container are not known here.
    pub(crate) fn fork(&mut self, child: ProcessKey, parent: ProcessKey, time: Timestamp) {
        let Some(parent) = self.find(parent, time) else {
            return;
        };
        let Some(entry) = self.entries.get(&parent) else {
            return;
        };
        let entry = Entry {
            container: Arc::clone(&entry.container),
            program: Arc::clone(&entry.program),
            parent,
            first_seen: time,
            is_inherited: true,
            has_exited: false,
            bytes: ENTRY_BYTES,
            told: None,
        };
        self.insert(child, entry);
    }

    /// A process runs a program. `parent` is used when its fork was not seen.
    pub(crate) fn exec(
        &mut self,
        key: ProcessKey,
        container: &Arc<Container>,
        program: Arc<Program>,
        parent: ProcessKey,
        time: Timestamp,
    ) {
        let bytes = weight(&program.process());
        let known = self.entries.peek(&key);
        let entry = Entry {
            container: Arc::clone(container),
            program,
            parent: known.map_or(parent, |known| known.parent),
            first_seen: known.map_or(time, |known| known.first_seen),
            is_inherited: false,
            has_exited: known.is_some_and(|known| known.has_exited),
            bytes,
            told: None,
        };
        self.insert(key, entry);
    }

    pub(crate) fn exit(&mut self, key: ProcessKey, time: Timestamp) {
        let Some(key) = self.find(key, time) else {
            return;
        };
        if let Some(entry) = self.entries.peek_mut(&key)
            && !entry.has_exited
        {
            entry.has_exited = true;
            self.exited.push_back((time, key));
        }
    }

    /// Those that have not ended, with their container and program.
    pub(crate) fn running(
        &self,
    ) -> impl Iterator<Item = (ProcessKey, Arc<Container>, Arc<Program>)> {
        let running = self.entries.iter().filter(|(_, entry)| !entry.has_exited);
        running.map(|(&key, entry)| {
            let (container, program) = (&entry.container, &entry.program);
            (key, Arc::clone(container), Arc::clone(program))
        })
    }

    /// Ids of the containers that have a process.
    pub(crate) fn containers(&self) -> HashSet<&str> {
        let running = self.entries.iter().filter(|(_, entry)| !entry.has_exited);
        running
            .map(|(_, entry)| entry.container.id.as_str())
            .collect()
    }

    /// Ends those that do not run any more: the sensor lost ends.
    pub(crate) fn end_gone(&mut self, time: Timestamp, is_running: impl Fn(ProcessKey) -> bool) {
        for (&key, entry) in &mut self.entries {
            if !entry.has_exited && !is_running(key) {
                entry.has_exited = true;
                self.exited.push_back((time, key));
            }
        }
    }

    /// Forgets a process that has left its container.
    pub(crate) fn forget(&mut self, key: ProcessKey) {
        self.remove(key);
    }

    /// Forgets processes that ended some time before `now`, unless events wait for their files.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        while let Some((time, key)) = self.exited.front().copied() {
            if time.plus_ns(EXITED_KEPT_NS) > now {
                return;
            }
            self.exited.pop_front();
            let entry = self.entries.peek(&key);
            if entry.is_some_and(|entry| entry.program.parked().is_some()) {
                self.exited.push_back((now, key));
            } else {
                self.remove(key);
            }
        }
    }

    /// The key with its start time, for sources that only know a pid: the latest process with that pid that was heard of
    /// before `time`.
    pub(crate) fn find(&self, key: ProcessKey, time: Timestamp) -> Option<ProcessKey> {
        if key.start_ns != 0 {
            return self.entries.contains(&key).then_some(key);
        }
        let keys = self
            .by_pid
            .get(&key.pid)?
            .iter()
            .rev()
            .map(|&start_ns| ProcessKey {
                pid: key.pid,
                start_ns,
            });
        let mut keys = keys.peekable();
        let latest = keys.peek().copied();
        keys.find(|key| {
            self.entries
                .peek(key)
                .is_some_and(|entry| entry.first_seen <= time)
        })
        .or(latest)
    }

    pub(crate) fn contains(&self, key: ProcessKey) -> bool {
        self.entries.contains(&key)
    }

    pub(crate) fn get(&mut self, key: ProcessKey) -> Option<&Entry> {
        self.entries.get(&key)
    }

    /// The process for an event of its own, with its ancestors, also when it runs its parent's program.
    pub(crate) fn process(&mut self, key: ProcessKey) -> Option<Arc<Process>> {
        let entry = self.entries.get(&key)?.clone();
        let process = entry.program.process();
        if !entry.is_inherited || process.key == key {
            return Some(process);
        }
        let own = Arc::new(Process {
            key,
            pid_in_namespace: 0,
            ancestors: self.ancestors(entry.parent, &entry.container),
            ..Process::clone(&process)
        });
        Some(own)
    }

    /// The parent that a process has, or had when it was first heard of.
    pub(crate) fn parent(&self, key: ProcessKey) -> Option<ProcessKey> {
        self.entries.peek(&key).map(|entry| entry.parent)
    }

    /// `parent` and all above it in the same container.
    pub(crate) fn ancestors(
        &mut self,
        parent: ProcessKey,
        container: &Arc<Container>,
    ) -> Vec<Arc<Ancestor>> {
        let mut ancestors = Vec::new();
        let mut next = parent;
        while ancestors.len() < ANCESTORS_MAX {
            let Some(entry) = self.entries.get(&next) else {
                break;
            };
            if !Arc::ptr_eq(&entry.container, container) && entry.container.id != container.id {
                break;
            }
            let parent = entry.parent;
            ancestors.push(match &entry.told {
                Some(told) => Arc::clone(told),
                None => {
                    let ancestor = as_ancestor(next, entry);
                    let is_final = entry.program.parked().is_none();
                    self.tell(next, ancestor, is_final)
                }
            });
            if parent == next {
                break;
            }
            next = parent;
        }
        ancestors
    }

    /// Keeps what is told of a process.
    fn tell(&mut self, key: ProcessKey, ancestor: Ancestor, is_final: bool) -> Arc<Ancestor> {
        let bytes = ancestor_weight(&ancestor);
        let ancestor = Arc::new(ancestor);
        if is_final && let Some(entry) = self.entries.peek_mut(&key) {
            entry.told = Some(Arc::clone(&ancestor));
            entry.bytes += bytes;
            self.bytes += bytes;
            if let Some(held) = self.held.get_mut(&entry.container.id) {
                *held += bytes;
            }
            if self.bytes > PROCESSES_BYTES_MAX {
                self.make_room();
            }
        }
        ancestor
    }

    fn insert(&mut self, key: ProcessKey, entry: Entry) {
        self.hold(&entry);
        match self.entries.push(key, entry) {
            Some((_, old)) => self.let_go(&old),
            None => self.by_pid.entry(key.pid).or_default().push(key.start_ns),
        }
        if self.bytes > PROCESSES_BYTES_MAX {
            self.make_room();
        }
    }

    /// Forgets processes of the containers that have most, and looks at little more than these: in a storm of execs this is
    /// often.
    fn make_room(&mut self) {
        let share = fair_share(self.held.values().copied().collect(), BYTES_KEPT);
        let has_too_much = |table: &Self, key: &ProcessKey| {
            let held = |entry: &Entry| table.held.get(&entry.container.id);
            let held = table.entries.peek(key).and_then(held);
            held.is_some_and(|held| *held > share)
        };
        let mut kept = Vec::new();
        while self.bytes > BYTES_KEPT
            && let Some((time, key)) = self.exited.pop_front()
        {
            if has_too_much(self, &key) {
                self.remove(key);
            } else if self.entries.contains(&key) {
                kept.push((time, key));
            }
        }
        for ended in kept.into_iter().rev() {
            self.exited.push_front(ended);
        }
        if self.bytes <= BYTES_KEPT {
            return;
        }
        let oldest_first = self.entries.iter().rev();
        let running = oldest_first.filter(|(_, entry)| !entry.has_exited);
        let running: Vec<_> = running.map(|(&key, _)| key).collect();
        for key in running {
            if has_too_much(self, &key) {
                self.remove(key);
            }
        }
    }

    fn hold(&mut self, entry: &Entry) {
        self.bytes += entry.bytes;
        match self.held.get_mut(&entry.container.id) {
            Some(held) => *held += entry.bytes,
            None => {
                self.held.insert(entry.container.id.clone(), entry.bytes);
            }
        }
    }

    fn let_go(&mut self, entry: &Entry) {
        self.bytes -= entry.bytes;
        if let Some(held) = self.held.get_mut(&entry.container.id) {
            *held -= entry.bytes;
            if *held == 0 {
                self.held.remove(&entry.container.id);
            }
        }
    }

    fn remove(&mut self, key: ProcessKey) {
        let Some(entry) = self.entries.pop(&key) else {
            return;
        };
        self.let_go(&entry);
        if let Some(starts) = self.by_pid.get_mut(&key.pid) {
            starts.retain(|start_ns| *start_ns != key.start_ns);
            if starts.is_empty() {
                self.by_pid.remove(&key.pid);
            }
        }
    }
}

/// The most that each may have so that all have `total` together: who has less keeps it, and the others share the rest.
fn fair_share(mut held: Vec<usize>, total: usize) -> usize {
    held.sort_unstable();
    let (mut left, mut others) = (total, held.len());
    for held in held {
        let share = left / others.max(1);
        if held > share {
            return share;
        }
        left -= held;
        others -= 1;
    }
    usize::MAX
}

/// Drops the values that may be secrets, and what is too long of names. True when a name was cut. What the process had `before` is
/// shared when it is the same: a program mostly has the environment of the one that started it.
pub(crate) fn keep_env(
    env: &Text,
    before: Option<&Arc<Vec<EnvVariable>>>,
) -> (Arc<Vec<EnvVariable>>, bool) {
    if let Some(before) = before.filter(|before| is_kept_as(env, before)) {
        return (Arc::clone(before), false);
    }
    let mut is_cut = false;
    let keep = |(name, value): (&[u8], &[u8])| {
        let kept = name.get(..ENV_NAME_BYTES_MAX);
        is_cut |= kept.is_some_and(|kept| kept != name);
        EnvVariable {
            name: kept.unwrap_or(name).into(),
            value: ENV_VALUES_KEPT.contains(&name).then(|| value.into()),
        }
    };
    let kept = environment(env.as_bytes()).map(keep).collect();
    (Arc::new(kept), is_cut)
}

/// Whether `kept` is what is kept of `env`, with no name cut. Which values are depends on the names alone.
fn is_kept_as(env: &Text, kept: &[EnvVariable]) -> bool {
    let mut kept = kept.iter();
    let is_next = |(name, value): (&[u8], &[u8])| {
        kept.next().is_some_and(|variable| {
            let kept_value = variable.value.as_ref();
            variable.name.as_bytes() == name
                && kept_value.is_none_or(|kept_value| kept_value.as_bytes() == value)
        })
    };
    environment(env.as_bytes()).all(is_next) && kept.next().is_none()
}

fn as_ancestor(key: ProcessKey, entry: &Entry) -> Ancestor {
    let process = entry.program.process();
    let is_own = !entry.is_inherited;
    let (args, is_cut) = cut_args(&process.args);
    Ancestor {
        key,
        pid_in_namespace: if is_own { process.pid_in_namespace } else { 0 },
        name: process.name.clone(),
        path: process.binary.as_ref().map(|file| file.path.clone()),
        args,
        args_truncated: is_cut || process.args_truncated,
        uid: process.credentials.uid,
    }
}

/// The first [`ANCESTOR_ARGS_BYTES_MAX`] bytes of arguments. True when there are more.
fn cut_args(args: &[Text]) -> (Vec<Text>, bool) {
    let mut left = ANCESTOR_ARGS_BYTES_MAX;
    let mut kept = Vec::new();
    for arg in args {
        let bytes = arg.as_bytes();
        if left == 0 || bytes.len() > left {
            kept.extend(bytes.get(..left).filter(|_| left > 0).map(Text::from));
            return (kept, true);
        }
        left = left.saturating_sub(bytes.len() + 1);
        kept.push(arg.clone());
    }
    (kept, false)
}

fn weight(process: &Process) -> usize {
    let args: usize = process.args.iter().map(Text::weight).sum();
    let env: usize = process
        .env
        .iter()
        .map(|variable| {
            let value = variable.value.as_ref();
            variable.name.weight() + value.map_or(size_of::<Text>(), Text::weight)
        })
        .sum();
    // As if none of them were shared.
    let ancestors: usize = process
        .ancestors
        .iter()
        .map(|ancestor| ancestor_weight(ancestor))
        .sum();
    ENTRY_BYTES + size_of::<Process>() + args + env + ancestors + process.cwd.len()
}

fn ancestor_weight(ancestor: &Ancestor) -> usize {
    let path = ancestor.path.as_ref().map_or(0, Text::weight);
    size_of::<Ancestor>() + ancestor.args.iter().map(Text::weight).sum::<usize>() + path
}

#[cfg(test)]
mod tests;
