//! An event with its context: the process and its ancestors, the container, the files with hash, provenance and matches.
//!
//! This is what detectors judge and what a recording holds.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Text, Timestamp,
    event::{
        Cgroup, Credentials, FileKey, Loss, Namespaces, ProcessKey, SensorCondition, SensorState,
        Stdio,
    },
    provenance::{Evidence, MissingReason, Provenance, Sha256},
};

/// One event and all that is known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnrichedEvent {
    /// When it happened.
    pub time: Timestamp,
    /// The container it happened in. `None` on the host, and for events about the agent itself.
    pub container: Option<Arc<Container>>,
    /// The process that did it. `None` for events about the agent itself.
    pub process: Option<Arc<Process>>,
    /// What was done.
    pub payload: EnrichedPayload,
}

/// What happened, with judged files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrichedPayload {
    /// The process runs [`Process::binary`], and [`Process::script`] when it interprets one.
    Exec,
    /// A file was mapped executable.
    LibraryLoad {
        /// The file.
        library: Arc<File>,
    },
    /// The process (a shell) was asked to run a file without a known format, and reads it as a script instead:
    /// [`Process::script`] is that file.
    ScriptRun,
    /// Some events were lost: of the container, when there is one.
    Loss(Loss),
    /// Files that ran or were loaded in the container could not be hashed, so that no indicator was asked about them.
    Unhashed {
        /// How many, by the reason.
        files: BTreeMap<MissingReason, u64>,
    },
    /// A sensor changed its state.
    SensorState(SensorState),
    /// A container is not covered, or only in part.
    NotCovered {
        /// What is not seen, for a person, in one sentence.
        what: String,
    },
}

impl EnrichedPayload {
    /// The kind alone, for dispatch.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Exec => EventKind::Exec,
            Self::LibraryLoad { .. } => EventKind::LibraryLoad,
            Self::ScriptRun => EventKind::ScriptRun,
            Self::Loss(_) | Self::Unhashed { .. } => EventKind::Loss,
            Self::SensorState(_) => EventKind::SensorState,
            Self::NotCovered { .. } => EventKind::NotCovered,
        }
    }

    /// Says that what was reported before is over: a sensor that sees again, a loss of nothing.
    pub fn is_end(&self) -> bool {
        match self {
            Self::SensorState(state) => state.condition == SensorCondition::Recovered,
            Self::Loss(loss) => loss.count == 0,
            Self::Unhashed { files } => files.is_empty(),
            _ => false,
        }
    }
}

/// Kinds of [`EnrichedPayload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// A program started.
    Exec,
    /// A file was mapped executable.
    LibraryLoad,
    /// A shell reads a file that execve refused.
    ScriptRun,
    /// Events were lost, or files could not be hashed.
    Loss,
    /// A sensor changed its state.
    SensorState,
    /// A container is not covered.
    NotCovered,
}

/// A process as it was at its last exec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Host pid and start time.
    pub key: ProcessKey,
    /// Pid in the container's pid namespace, 0 when not known.
    pub pid_in_namespace: u32,
    /// `comm`: at most 15 bytes, and the process may change it.
    pub name: Text,
    /// The program: the file the kernel runs.
    pub binary: Option<Arc<File>>,
    /// The script, when `binary` interprets one.
    pub script: Option<Arc<File>>,
    /// Arguments, `argv[0]` included.
    pub args: Vec<Text>,
    /// Some arguments were cut.
    pub args_truncated: bool,
    /// Environment. Values are kept only for the names that decide what gets loaded (see `enrich`). Shared by
    /// processes that have the same.
    pub env: Arc<Vec<EnvVariable>>,
    /// Some variables, or the name of one, were cut.
    pub env_truncated: bool,
    /// Working directory inside the container.
    pub cwd: Text,
    /// Who it runs as.
    pub credentials: Credentials,
    /// Where it runs.
    pub namespaces: Namespaces,
    /// Standard input, output and error.
    pub stdio: [Stdio; 3],
    /// The parent, its parent and so on up to the container's first process, at most
    /// [`crate::limits::ANCESTORS_MAX`]. Shared, since what a shell starts has the same ones again and again.
    pub ancestors: Vec<Arc<Ancestor>>,
    /// When it did its last exec. `None` when it was running before the watch began.
    pub exec_time: Option<Timestamp>,
    /// Control group.
    pub cgroup: Option<Arc<Cgroup>>,
}

/// One variable of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVariable {
    /// The name.
    pub name: Text,
    /// The value, or `None` when it is redacted.
    pub value: Option<Text>,
}

/// A process above another one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Host pid and start time.
    pub key: ProcessKey,
    /// Pid in the container's pid namespace, 0 when not known.
    pub pid_in_namespace: u32,
    /// `comm`.
    pub name: Text,
    /// Path of its program, when known.
    pub path: Option<Text>,
    /// Its arguments.
    pub args: Vec<Text>,
    /// Some of them were cut. Recordings of before it was noted lack it.
    #[serde(default)]
    pub args_truncated: bool,
    /// Its user.
    pub uid: u32,
}

/// A program, library or script that was run or loaded, and what is known about its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Path from the container's root, resolved; `/memfd:NAME` for a memfd.
    pub path: Text,
    /// The path that was asked for, when it differs (a symlink, `/proc/self/fd/3`).
    pub path_used: Option<Text>,
    /// Its bytes.
    pub content: Content,
    /// Identity of the content on this host.
    pub key: Option<FileKey>,
    /// The verdict.
    pub provenance: Provenance,
    /// What the verdict rests on.
    pub evidence: Evidence,
    /// Threat intelligence that knows these bytes.
    pub matches: Vec<IndicatorMatch>,
    /// What the bytes are.
    pub kind: FileKind,
    /// First bytes of a script, at most [`crate::limits::CONTENTS_BYTES_MAX`]. `None` for ELF files.
    pub contents: Option<Text>,
    /// It is a memfd: memory only, on no filesystem.
    pub is_memfd: bool,
}

impl File {
    /// The hash, when the bytes are known.
    pub fn sha256(&self) -> Option<Sha256> {
        match self.content {
            Content::Known { sha256, .. } => Some(sha256),
            Content::Missing { .. } => None,
        }
    }
}

/// Bytes of a file, by their digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The whole file was hashed.
    Known {
        /// Digest of all bytes.
        sha256: Sha256,
        /// Number of bytes hashed.
        size: u64,
    },
    /// It was not.
    Missing {
        /// Why.
        reason: MissingReason,
    },
}

/// What bytes are, judged by themselves and never by a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Not looked at, or unreadable.
    #[default]
    Unknown,
    /// The `openssl` command-line program.
    OpensslProgram,
    /// A program that interprets scripts given as an argument (a shell, Python, Perl, ...).
    Interpreter,
    /// The dynamic loader (`ld.so`).
    DynamicLoader,
    /// Another ELF executable.
    Program,
    /// An ELF shared object without an entry as a program.
    SharedObject,
    /// Starts with `#!`.
    Script,
    /// None of these: text, or another format.
    Data,
}

/// An indicator that matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndicatorMatch {
    /// The list, e.g. the file it came from.
    pub list: String,
    /// The entry: the hash as listed.
    pub entry: String,
    /// When the list was imported.
    pub date: Option<Timestamp>,
    /// Malware family or other name, when the list gives one.
    pub family: Option<String>,
}

/// Engine that runs a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// runc on a bundle, nothing above it.
    Runc,
    /// Podman.
    Podman,
    /// containerd (ctr, nerdctl, or CRI).
    Containerd,
    /// Docker.
    Docker,
    /// CRI-O.
    Crio,
    /// Isolated like a container, but no engine's files were found.
    #[default]
    Unknown,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// The engine's full id.
    pub id: String,
    /// Its name; the id again when it has none.
    pub name: String,
    /// Who runs it.
    pub engine: Engine,
    /// Image reference as configured, e.g. `example.test/app:v1`; it may be a mutable tag.
    pub image: String,
    /// Digest of the image (`sha256:...`): the repository digest when known, else the image id.
    pub image_digest: Option<String>,
    /// Labels, sorted by name.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Pod, when Kubernetes or Podman says so.
    pub pod: Option<Pod>,
    /// Control group path.
    pub cgroup: Text,
    /// How it was set up, for an investigator.
    pub settings: Settings,
    /// Where its standard output is written on the host, when it is written to a file.
    pub log_path: Option<String>,
}

/// A Kubernetes pod (or a Podman pod with the same words).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod uid.
    pub uid: String,
    /// Name of the container in the pod.
    pub container: String,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
}

/// A container's settings, from the OCI configuration and the engine's own files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Command and arguments of the first process.
    pub command: Vec<String>,
    /// Environment of the first process; values are redacted unless the configuration asks for them.
    pub env: Vec<(String, Option<String>)>,
    /// `uid:gid` of the first process.
    pub user: String,
    /// Started with all privileges (all capabilities, no seccomp filter).
    pub privileged: bool,
    /// Bounding capabilities, e.g. `CAP_SYS_ADMIN`.
    pub capabilities: Vec<String>,
    /// A seccomp filter is set.
    pub seccomp: bool,
    /// AppArmor or SELinux label.
    pub security_label: Option<String>,
    /// `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// The root filesystem is read only.
    pub read_only_root: bool,
    /// Namespaces shared with the host: `pid`, `net`, `ipc`, `mnt`, `user`, `uts`, `cgroup`.
    pub host_namespaces: Vec<String>,
    /// Mounts, the engine's own (proc, sys, ...) left out.
    pub mounts: Vec<Mount>,
}

/// One mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path in the container.
    pub destination: String,
    /// Path on the host, or the kind of filesystem.
    pub source: String,
    /// `bind`, `tmpfs`, ...
    pub kind: String,
    /// It can be written.
    pub writable: bool,
}
