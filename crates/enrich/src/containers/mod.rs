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
mod crio;
pub mod docker;
mod files;
mod finder;
pub mod log;
pub mod oci;
pub mod podman;
mod process;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use lru::LruCache;
use model::{
    Text,
    enriched::{Container, Engine},
    event::Cgroup,
    limits::{CGROUPS_MAX, CONTAINERS_MAX, METADATA_TRIES_MAX, NAMESPACES_HELD_MAX},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use self::{
    files::Stamp,
    finder::Finder,
    process::{Lineage, Member, Proc},
};

/// Time until metadata that was not complete is looked up again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

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
}

/// What tells containers apart on one host at one time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// It has a control group of its own.
    Cgroup(Vec<u8>),
    /// It shares one; its engine gave it an id.
    Id(Engine, String),
    /// Nobody named it: the outermost process in its mount namespace, by pid and start.
    Process(u32, u64),
}

#[derive(Debug)]
struct Known {
    container: Arc<Container>,
    source: Option<(PathBuf, Stamp)>,
    /// Look-ups left, 0 when the metadata is complete.
    tries_left: u8,
    retry_at: Instant,
    /// What to look up again.
    engine: Option<Engine>,
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
        }
    }

    /// The host's own mount namespace, 0 when it cannot be read. A process in it and in no container's control group is the
    /// host's for good; [`Resolution::Host`] for any other namespace may change, since its number is used again.
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

    /// Where the process `pid` in `cgroup` and `mnt_namespace` (0 when not known) runs.
    ///
    /// Never waits. The answer is remembered; metadata that its engine has not written yet is looked up again on later
    /// calls.
    pub fn resolve(&mut self, cgroup: &Cgroup, pid: u32, mnt_namespace: u32) -> Resolution {
        let key = Key {
            cgroup_id: cgroup.id,
            mnt_namespace,
            path_hash: self.hasher.hash_one(&cgroup.path),
        };
        let answer = match self.cgroups.get(&key) {
            Some(answer) => answer.clone(),
            None => match self.held(&key) {
                Some(Answer::Host) if self.proc.has_host_root(&pid.to_string()) == Some(false) => {
                    self.look_up(key, cgroup, pid)
                }
                Some(answer) => answer,
                None => self.look_up(key, cgroup, pid),
            },
        };
        let Answer::Container(identity) = answer else {
            return Resolution::Host;
        };
        match self.current(&identity, pid) {
            Some(container) => Resolution::Container(container),
            // It was forgotten while its control group was not.
            None => {
                self.cgroups.pop(&key);
                self.namespaces.pop(&key);
                match self.look_up(key, cgroup, pid) {
                    Answer::Host => Resolution::Host,
                    Answer::Container(identity) => self
                        .current(&identity, pid)
                        .map_or(Resolution::Host, Resolution::Container),
                }
            }
        }
    }

    /// A remembered answer that rests on a namespace, when the process that holds it is alive.
    fn held(&mut self, key: &Key) -> Option<Answer> {
        let held = self.namespaces.get(key)?;
        if is_running(&held.process) {
            return Some(held.answer.clone());
        }
        self.namespaces.pop(key);
        None
    }

    /// The container, with its metadata looked up again when that is due.
    fn current(&mut self, identity: &Arc<Identity>, pid: u32) -> Option<Arc<Container>> {
        let known = self.known.get_mut(identity)?;
        if known.tries_left == 0 || Instant::now() < known.retry_at {
            return Some(Arc::clone(&known.container));
        }
        known.tries_left -= 1;
        known.retry_at = Instant::now() + RETRY_AFTER;
        let lineage = self.proc.lineage(pid);
        if let Some(process) = &lineage.engine {
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
        }
        Some(Arc::clone(&known.container))
    }

    fn look_up(&mut self, key: Key, cgroup: &Cgroup, pid: u32) -> Answer {
        let path = self.proc.below_host(cgroup.path.as_bytes()).to_vec();
        if let Some(named) = cgroup::parse(&path) {
            let identity = Arc::new(Identity::Cgroup(named.cgroup.to_vec()));
            if !self.known.contains(&identity) {
                let lineage = self.lineage(pid);
                self.add(&identity, named.engine, named.id, named.cgroup, &lineage);
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
            self.cgroups.put(key, Answer::Host);
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
        self.look_up_unnamed(key, &path, &lineage, outermost, pid, mnt_namespace)
    }

    /// A container whose control group has no engine's name.
    fn look_up_unnamed(
        &mut self,
        key: Key,
        path: &[u8],
        lineage: &Lineage,
        outermost: Option<Member>,
        pid: u32,
        mnt_namespace: u32,
    ) -> Answer {
        let text = std::str::from_utf8(path).unwrap_or_default();
        let found = match self.finder.containerd_task(lineage, text) {
            Some((id, own)) => Some((Engine::Containerd, id, own)),
            None => self
                .finder
                .runc_state(lineage, text)
                .map(|(state, own)| (Engine::Runc, state.id, own)),
        };
        let (engine, id, own) = match found {
            Some(found) => found,
            None => {
                let named_by_process =
                    matches!(path.rsplit(|&byte| byte == b'/').next(), None | Some(b""));
                let id = if named_by_process {
                    format!("mnt-{mnt_namespace}")
                } else {
                    String::from_utf8_lossy(
                        path.rsplit(|&byte| byte == b'/').next().unwrap_or_default(),
                    )
                    .into_owned()
                };
                (Engine::Unknown, id, 0)
            }
        };
        let identity = Arc::new(match (engine, own) {
            (Engine::Unknown, _) => match outermost {
                Some(member) => Identity::Process(member.pid, member.start_ticks),
                None => Identity::Process(pid, 0),
            },
            (engine, 0) => Identity::Id(engine, id.clone()),
            (_, own) => Identity::Cgroup(path.get(..own).unwrap_or(path).to_vec()),
        });
        let is_same = self.known.peek(&identity).is_some_and(|known| {
            known
                .source
                .as_ref()
                .is_none_or(|(path, stamp)| self.finder.stamp(path).is_none_or(|now| now == *stamp))
        });
        if !is_same {
            let own_cgroup = if own == 0 {
                path
            } else {
                path.get(..own).unwrap_or(path)
            };
            let engine = Some(engine);
            self.add(&identity, engine, &id, own_cgroup, lineage);
        }
        let answer = Answer::Container(identity);
        if own == 0 {
            self.hold(key, &answer, outermost);
        } else {
            self.cgroups.put(key, answer.clone());
        }
        answer
    }

    fn lineage(&mut self, pid: u32) -> Lineage {
        let lineage = self.proc.lineage(pid);
        if let Some(process) = &lineage.engine {
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
    ) {
        let description = self.finder.describe(engine, id, lineage);
        let container = Arc::new(Container {
            cgroup: cgroup.into(),
            ..description.container
        });
        let is_final = description.is_complete || engine == Some(Engine::Unknown);
        let known = Known {
            container,
            source: description.source,
            tries_left: if is_final { 0 } else { METADATA_TRIES_MAX },
            retry_at: Instant::now() + RETRY_AFTER,
            engine,
        };
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
        if self
            .proc
            .stat(&member.pid.to_string())
            .map(|(_, start)| start)
            == Some(member.start_ticks)
        {
            let answer = answer.clone();
            self.namespaces.put(
                key,
                Held {
                    answer,
                    process: fd,
                },
            );
        }
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
