//! From a control group and a pid to the container: which engine runs it, its image, its settings.
//!
//! Start with [`Containers::resolve`]. The path of the control group names the container ([`cgroup`]); the engine's files
//! describe it ([`oci`], [`docker`], [`podman`]). Where an engine keeps its files is known for default installations; for others it is
//! read from the engine's own process above the container ([`argv`]), which runs outside and is trusted. Nothing that runs
//! inside is asked.

pub mod argv;
pub mod bolt;
mod bound;
pub mod cgroup;
pub mod containerd;
pub mod crio;
pub mod docker;
mod files;
mod finder;
pub mod libpod;
pub mod log;
pub mod oci;
pub mod podman;
mod process;
pub mod sqlite;
mod unnamed;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use lru::LruCache;
use model::{
    Text, Timestamp,
    enriched::{Container, Engine},
    event::Cgroup,
    limits::{
        CGROUPS_MAX, CONTAINERS_MAX, METADATA_LIVES_MAX, METADATA_TRIES_MAX, NAMESPACES_HELD_MAX,
    },
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use self::{
    files::Stamp,
    finder::Finder,
    process::{Lineage, Member, Proc},
    unnamed::Found,
};

/// Time until metadata that was not complete is looked up again.
const RETRY_AFTER: Duration = Duration::from_millis(2);

/// How long the first events of a container wait for its engine to describe it.
const DESCRIPTION_WAIT: Duration = Duration::from_secs(1);

/// Going through all processes of the host takes at most one in so many parts of the time: containers that nobody describes
/// may start by the dozen.
const SCAN_SHARE: u32 = 10;

/// How long it is believed that a process was alive at a time: the clock of events can be set back.
const ALIVE_KEPT: Duration = Duration::from_millis(20);

/// Containers whose description is awaited at one time. The events of more go on with what is known.
const AWAITED_MAX: usize = 256;

/// Processes of one container that are asked about it until its metadata is complete.
const WITNESSES_MAX: usize = 8;

/// Where and how to look.
#[derive(Clone, Debug)]
pub struct Config {
    /// The host's root directory: `/`, or where it is mounted when the agent itself runs in a container. Engine files are
    /// read below it, and processes in its `proc`.
    pub host_root: PathBuf,
    /// More directories where engines keep their files, as the host names them; each is tried as any engine's. Only needed
    /// for containers whose engine left no process behind, such as `runc --root DIR run --detach`.
    pub extra_roots: Vec<PathBuf>,
    /// Keep the values of the environment of containers. Off, only those in [`oci::ENV_VALUES_KEPT`] are kept.
    pub report_env_values: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host_root: PathBuf::from("/"),
            extra_roots: Vec::new(),
            report_env_values: false,
        }
    }
}

/// Where a process runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// On the host: in no engine's control group, and in the host's mount namespace or root directory.
    Host,
    /// In a container, of an unknown engine at worst.
    Container(Arc<Container>),
}

/// Every container seen, and which control groups and mount namespaces belong to it.
#[derive(Debug)]
pub struct Containers {
    proc: Proc,
    finder: Finder,
    hasher: RandomState,
    /// Answers that hold as long as the control group exists: its id is not used again before a reboot.
    cgroups: LruCache<Key, Answer>,
    /// Answers that rest on a mount namespace, whose number is used again soon. Each holds while one of its processes lives.
    namespaces: LruCache<Key, Held>,
    known: LruCache<Arc<Identity>, Known>,
    /// Those whose engine is still to describe them, and until when their events wait for it.
    awaited: Vec<(Arc<Identity>, Instant)>,
    /// When all processes of the host may be gone through again for engines'.
    next_scan: Instant,
}

/// Control group and mount namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    cgroup_id: u64,
    mnt_namespace: u32,
    /// Keyed hash: sources that do not tell an id tell a path.
    path_hash: u64,
}

#[derive(Clone, Debug)]
enum Answer {
    Host,
    Container(Arc<Identity>),
}

#[derive(Debug)]
struct Held {
    answer: Answer,
    process: OwnedFd,
    /// When it was last found alive, by the clock of events and by one that nobody sets.
    alive: Option<(Timestamp, Instant)>,
}

impl Held {
    /// Whether its process lived at `time`. What lives now did so when the events happened that were waiting to be read: these
    /// come by the dozen, and asking costs more than the rest of a look-up.
    fn was_alive(&mut self, time: Timestamp, now: Instant) -> bool {
        let was_asked = |(alive, asked): (Timestamp, Instant)| {
            time <= alive && now.saturating_duration_since(asked) < ALIVE_KEPT
        };
        if self.alive.is_some_and(was_asked) {
            return true;
        }
        let asked = Timestamp::from(SystemTime::now());
        let is_alive = is_running(&self.process);
        self.alive = is_alive.then_some((asked, now));
        is_alive
    }
}

/// What tells containers apart on one host at one time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// Its engine drew an id at random; or it shares its control group, and a name has to do.
    Id(String),
    /// Its name is the user's choice, and its control group its own.
    Cgroup(Vec<u8>),
    /// Nobody named it: the outermost process in its mount namespace, by pid and start.
    Process(u32, u64),
    /// Likewise, and the process was gone. The namespace's number alone may be another container's by now.
    Gone(Key),
}

#[derive(Debug)]
struct Known {
    container: Arc<Container>,
    source: Option<(PathBuf, Stamp)>,
    /// Look-ups left, 0 when the metadata is complete.
    tries_left: u8,
    /// They were used up in vain.
    is_given_up: bool,
    /// Times that it may be asked about anew: a container makes control groups as it likes.
    lives_left: u8,
    retry_at: Instant,
    /// What to look up again.
    engine: Option<Engine>,
    /// The first processes seen in it. Most processes end before they are asked about; a container's first one does not.
    witnesses: Vec<u32>,
}

impl Containers {
    /// Nothing is known yet. Reads the host's mount namespace and root.
    pub fn new(config: Config) -> Self {
        let proc = Proc::new(config.host_root.join("proc"));
        if proc.host_mnt_namespace == 0 {
            tracing::warn!(
                "the host's mount namespace cannot be read: every process will pass for a container's"
            );
        }
        let size = |max| NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        Self {
            proc,
            finder: Finder::new(
                config.host_root,
                &config.extra_roots,
                config.report_env_values,
            ),
            hasher: RandomState::new(),
            cgroups: LruCache::new(size(CGROUPS_MAX)),
            namespaces: LruCache::new(size(NAMESPACES_HELD_MAX)),
            known: LruCache::new(size(CONTAINERS_MAX)),
            awaited: Vec::new(),
            next_scan: Instant::now(),
        }
    }

    /// The host's own mount namespace, 0 when it cannot be read.
    ///
    /// [`Resolution::Host`] for a control group in it may change: runc runs itself in that of a container before there is one to
    /// know. So it may for any other namespace, since its number is used again.
    pub fn host_mnt_namespace(&self) -> u32 {
        self.proc.host_mnt_namespace
    }

    /// All containers remembered, ended ones too.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Container>> {
        self.known
            .iter()
            .map(|(_, known)| Arc::clone(&known.container))
    }

    /// The last lines of a container's log, at most `lines_max` and [`model::limits::LOG_LINES_MAX`]. None when it does not
    /// log to a file, or the file cannot be read.
    pub fn log_tail(&self, container: &Container, lines_max: usize) -> Vec<Text> {
        self.finder.log_tail(container, lines_max)
    }

    /// Where the process `pid` in `cgroup` and `mnt_namespace` (0 when not known) ran at `time`, asked at `now`.
    ///
    /// Never waits. The answer is remembered; metadata that its engine has not written yet is looked up again on later
    /// calls.
    pub fn resolve(
        &mut self,
        cgroup: &Cgroup,
        pid: u32,
        mnt_namespace: u32,
        time: Timestamp,
        now: Instant,
    ) -> Resolution {
        let key = Key {
            cgroup_id: cgroup.id,
            mnt_namespace,
            path_hash: self.hasher.hash_one(&cgroup.path),
        };
        let remembered = self
            .cgroups
            .get(&key)
            .cloned()
            .or_else(|| self.held(&key, pid, time, now));
        match remembered {
            Some(Answer::Host) => return Resolution::Host,
            Some(Answer::Container(identity)) => {
                if let Some(container) = self.current(&identity, Some(pid), now) {
                    return Resolution::Container(container);
                }
            }
            None => {}
        }
        match self.look_up(key, cgroup, pid, now) {
            Answer::Host => Resolution::Host,
            Answer::Container(identity) => match self.known.get(&identity) {
                Some(known) => Resolution::Container(Arc::clone(&known.container)),
                // Looking up remembers it: not reached.
                None => Resolution::Host,
            },
        }
    }

    /// The container of a process that has ended, when it is one of those remembered and its control group tells.
    pub(crate) fn remembered(&self, cgroup: &Cgroup) -> Option<Arc<Container>> {
        let path = self.proc.below_host(cgroup.path.as_bytes());
        let known = match cgroup::parse(path) {
            Some(named) => self.known.peek(&Identity::Id(named.id.to_owned())),
            None => self.known.peek(&self.known_by_cgroup(path)?),
        };
        known.map(|known| Arc::clone(&known.container))
    }

    /// The known container whose own control group this is, or is above it.
    fn known_by_cgroup(&self, path: &[u8]) -> Option<Identity> {
        let ends = (1..path.len()).filter(|&at| path.get(at) == Some(&b'/'));
        let ends = ends.chain([path.len()]).rev();
        let prefixes = ends.filter_map(|end| path.get(..end));
        let mut identities = prefixes.map(|prefix| Identity::Cgroup(prefix.to_vec()));
        identities.find(|identity| self.known.contains(identity))
    }

    /// The container as it is described by now. What was given out before stays as it was.
    pub fn latest(&self, container: &Arc<Container>) -> Arc<Container> {
        let by_cgroup = || Identity::Cgroup(container.cgroup.as_bytes().to_vec());
        let known = self
            .known
            .peek(&Identity::Id(container.id.clone()))
            .or_else(|| self.known.peek(&by_cgroup()));
        match known {
            Some(known) if is_same(&known.container, container) => Arc::clone(&known.container),
            _ => Arc::clone(container),
        }
    }

    /// Some container's engine is still to describe it, and it is not too late for that.
    pub(crate) fn has_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// This container's engine is.
    pub(crate) fn is_awaited(&self, container: &Container) -> bool {
        self.awaited.iter().any(|(identity, _)| {
            self.known
                .peek(identity)
                .is_some_and(|known| known.tries_left > 0 && is_same(&known.container, container))
        })
    }

    /// Looks again for the descriptions that are awaited, where that is due.
    pub(crate) fn look_again(&mut self, now: Instant) {
        for (identity, until) in std::mem::take(&mut self.awaited) {
            self.current(&identity, None, now);
            let is_open = self
                .known
                .peek(&identity)
                .is_some_and(|known| known.tries_left > 0);
            if is_open && now < until {
                self.awaited.push((identity, until));
            }
        }
    }

    /// A remembered answer that rests on a namespace, when the process that holds it was alive at `time`.
    fn held(&mut self, key: &Key, pid: u32, time: Timestamp, now: Instant) -> Option<Answer> {
        let held = self.namespaces.get_mut(key)?;
        // A runtime prepares a container in a namespace with the host's root, and then changes the root.
        let is_stale = matches!(held.answer, Answer::Host)
            && self.proc.has_host_root(&pid.to_string()) == Some(false);
        if !is_stale && held.was_alive(time, now) {
            return Some(held.answer.clone());
        }
        self.namespaces.pop(key);
        None
    }

    /// The container, with its metadata looked up again when that is due. `pid` is one of its processes. `None` when it was
    /// forgotten, or when there is still hope to find its engine.
    fn current(
        &mut self,
        identity: &Arc<Identity>,
        pid: Option<u32>,
        now: Instant,
    ) -> Option<Arc<Container>> {
        let known = self.known.get_mut(identity)?;
        if known.tries_left == 0 {
            return Some(Arc::clone(&known.container));
        }
        if let Some(pid) = pid
            && known.witnesses.len() < WITNESSES_MAX
            && !known.witnesses.contains(&pid)
        {
            known.witnesses.push(pid);
        }
        if now < known.retry_at {
            return Some(Arc::clone(&known.container));
        }
        // Twice as long each time: soon enough for a container's first programs, late enough for a slow engine.
        let tries = METADATA_TRIES_MAX.saturating_sub(known.tries_left).min(10);
        known.retry_at = now + RETRY_AFTER * (1 << tries);
        known.tries_left -= 1;
        known.is_given_up = known.tries_left == 0;
        if known.engine == Some(Engine::Unknown) {
            return None;
        }
        let asked = pid.iter().chain(&known.witnesses);
        let lineages: Vec<Lineage> = asked.map(|&pid| self.proc.lineage(pid)).collect();
        let mut lineage = lineages
            .into_iter()
            .max_by_key(|lineage| lineage.engines.len())
            .unwrap_or_default();
        let begin = Instant::now();
        if lineage.engines.is_empty() && begin >= self.next_scan {
            lineage.engines = self.proc.engine_processes_of(&known.container.id);
            self.next_scan = Instant::now() + SCAN_SHARE * begin.elapsed();
        }
        for process in &lineage.engines {
            self.finder.learn(process);
        }
        let description = self
            .finder
            .describe(known.engine, &known.container.id, &lineage);
        if description.source.is_some() {
            let cgroup = known.container.cgroup.clone();
            known.container = Arc::new(Container {
                cgroup,
                ..description.container
            });
            known.source = description.source;
        }
        if description.is_complete {
            known.tries_left = 0;
            known.is_given_up = false;
        }
        Some(Arc::clone(&known.container))
    }

    /// Seen in a control group for the first time, and described in vain before: it may have been started again.
    fn is_worth_asking(&self, identity: &Identity) -> bool {
        self.known.peek(identity).is_some_and(|known| {
            known.is_given_up && known.lives_left > 0 && known.engine != Some(Engine::Unknown)
        })
    }

    fn look_up(&mut self, key: Key, cgroup: &Cgroup, pid: u32, now: Instant) -> Answer {
        let path = self.proc.below_host(cgroup.path.as_bytes()).to_vec();
        if let Some(named) = cgroup::parse(&path) {
            let identity = Arc::new(Identity::Id(named.id.to_owned()));
            // After a restart it has another control group, and may not have been described before.
            if self.current(&identity, Some(pid), now).is_none() || self.is_worth_asking(&identity)
            {
                let lineage = self.lineage(pid);
                self.add(
                    &identity,
                    named.engine,
                    named.id,
                    named.cgroup,
                    &lineage,
                    now,
                );
            }
            let answer = Answer::Container(identity);
            self.cgroups.put(key, answer.clone());
            return answer;
        }
        let mnt_namespace = match key.mnt_namespace {
            0 => self.proc.mnt_namespace(&pid.to_string()).unwrap_or(0),
            known => known,
        };
        if mnt_namespace == self.proc.host_mnt_namespace && mnt_namespace != 0 {
            // One of a container may have entered the host's.
            if let Some(identity) = self.known_by_cgroup(&path) {
                let answer = Answer::Container(Arc::new(identity));
                self.cgroups.put(key, answer.clone());
                return answer;
            }
            // Not remembered: an engine's own process enters the control group of a container that is known only later.
            return Answer::Host;
        }
        let lineage = self.lineage(pid);
        // The outermost process that shares the mount namespace.
        let outermost = lineage
            .inside
            .iter()
            .rfind(|member| member.mnt_namespace == mnt_namespace)
            .copied();
        if self.proc.has_host_root(&pid.to_string()) == Some(true) {
            self.hold(key, &Answer::Host, outermost);
            return Answer::Host;
        }
        match outermost {
            Some(outermost) => self.look_up_unnamed(key, &path, &lineage, Some(outermost), now),
            None => self.look_up_gone(key, &path, now),
        }
    }

    /// A container whose control group has no engine's name.
    fn look_up_unnamed(
        &mut self,
        key: Key,
        path: &[u8],
        lineage: &Lineage,
        outermost: Option<Member>,
        now: Instant,
    ) -> Answer {
        let text = std::str::from_utf8(path).unwrap_or_default();
        let found = self.finder.find(lineage, text).unwrap_or_else(|| Found {
            engine: Some(Engine::Unknown),
            id: unnamed_id(path, key.mnt_namespace, outermost),
            cgroup_bytes: 0,
        });
        let own_cgroup = path.get(..found.cgroup_bytes).unwrap_or_default();
        let identity = Arc::new(if found.engine == Some(Engine::Unknown) {
            match outermost {
                Some(outermost) => Identity::Process(outermost.pid, outermost.start_ticks),
                None => Identity::Gone(key),
            }
        } else if own_cgroup.is_empty() || cgroup::is_random_id(&found.id) {
            Identity::Id(found.id.clone())
        } else {
            Identity::Cgroup(own_cgroup.to_vec())
        });
        // An id that is not drawn at random may be another container's by now: look whether its file is the same.
        let is_same = self.known.peek(&identity).is_some_and(|known| {
            cgroup::is_random_id(&found.id)
                || known.engine == found.engine
                    && known.source.as_ref().is_none_or(|(file, stamp)| {
                        self.finder.stamp(file).is_none_or(|now| now == *stamp)
                    })
        });
        let has_own_cgroup = !own_cgroup.is_empty();
        if !is_same || self.is_worth_asking(&identity) {
            let cgroup = if has_own_cgroup { own_cgroup } else { path };
            self.add(&identity, found.engine, &found.id, cgroup, lineage, now);
        }
        let answer = Answer::Container(identity);
        if has_own_cgroup {
            self.cgroups.put(key, answer.clone());
        } else {
            self.hold(key, &answer, outermost);
        }
        answer
    }

    /// A process that has ended: the container that its control group is in, or whose mount namespace it had, or what can still
    /// be found of it.
    fn look_up_gone(&mut self, key: Key, path: &[u8], now: Instant) -> Answer {
        let mnt_namespace = key.mnt_namespace;
        if let Some(identity) = self.known_by_cgroup(path) {
            return Answer::Container(Arc::new(identity));
        }
        let held = self
            .namespaces
            .iter()
            .find(|(key, held)| key.mnt_namespace == mnt_namespace && is_running(&held.process));
        if let Some((_, held)) = held {
            return held.answer.clone();
        }
        let identity = Arc::new(Identity::Gone(key));
        if self.current(&identity, None, now).is_some() {
            return Answer::Container(identity);
        }
        // Its engine may still be there, to clean up. Most name the control group after the container.
        let name = path.rsplit(|&byte| byte == b'/').next();
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        let engines = name
            .filter(|name| !name.is_empty())
            .map(|name| self.proc.engine_processes_of(name));
        let lineage = Lineage {
            inside: Vec::new(),
            engines: engines.unwrap_or_default(),
        };
        for process in &lineage.engines {
            self.finder.learn(process);
        }
        self.look_up_unnamed(key, path, &lineage, None, now)
    }

    fn lineage(&mut self, pid: u32) -> Lineage {
        let lineage = self.proc.lineage(pid);
        for process in &lineage.engines {
            self.finder.learn(process);
        }
        lineage
    }

    fn add(
        &mut self,
        identity: &Arc<Identity>,
        engine: Option<Engine>,
        id: &str,
        cgroup: &[u8],
        lineage: &Lineage,
        now: Instant,
    ) {
        let description = self.finder.describe(engine, id, lineage);
        let container = Arc::new(Container {
            cgroup: cgroup.into(),
            ..description.container
        });
        // A container that stays without an engine keeps its count across look-ups, or it would be looked for for ever.
        let tries_left = match self.known.peek(identity) {
            Some(known) if known.engine == engine && engine == Some(Engine::Unknown) => {
                known.tries_left
            }
            _ if description.is_complete => 0,
            _ => METADATA_TRIES_MAX,
        };
        let lives_left = match self.known.peek(identity) {
            Some(known) if known.is_given_up => known.lives_left.saturating_sub(1),
            _ => METADATA_LIVES_MAX,
        };
        let known = Known {
            container,
            source: description.source,
            tries_left,
            is_given_up: false,
            lives_left,
            retry_at: now + RETRY_AFTER,
            engine,
            witnesses: lineage
                .inside
                .iter()
                .map(|member| member.pid)
                .take(WITNESSES_MAX)
                .collect(),
        };
        if known.tries_left > 0
            && engine != Some(Engine::Unknown)
            && self.awaited.len() < AWAITED_MAX
        {
            let until = now + DESCRIPTION_WAIT;
            self.awaited.push((Arc::clone(identity), until));
        }
        self.known.put(Arc::clone(identity), known);
    }

    /// Remembers an answer for as long as `process` runs. Without it nothing is remembered.
    fn hold(&mut self, key: Key, answer: &Answer, process: Option<Member>) {
        let Some(member) = process else { return };
        let pid = i32::try_from(member.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(fd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
            return;
        };
        // The pid may have been used again between reading it and opening it.
        let stat = self.proc.stat(&member.pid.to_string());
        if stat.is_some_and(|(_, start_ticks)| start_ticks == member.start_ticks) {
            let held = Held {
                alive: None,
                answer: answer.clone(),
                process: fd,
            };
            self.namespaces.put(key, held);
        }
    }
}

/// The same container, described sooner or later.
fn is_same(one: &Container, other: &Container) -> bool {
    one.id == other.id && one.cgroup == other.cgroup
}

/// An id for a container that nobody named: the last part of its control group, or else its mount namespace with the start of
/// its first process, since the namespace's number is used again.
fn unnamed_id(cgroup: &[u8], mnt_namespace: u32, first: Option<Member>) -> String {
    match cgroup.rsplit(|&byte| byte == b'/').next() {
        None | Some(b"") => {
            let start_ticks = first.map_or(0, |first| first.start_ticks);
            format!("mnt-{mnt_namespace}-{start_ticks}")
        }
        Some(last) => Text::from(last).to_json_string(),
    }
}

/// A process descriptor becomes readable when the process has ended.
fn is_running(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(0))
}
