//! What a sensor saw, before anything else is known about it.

use std::{os::fd::OwnedFd, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Text, Timestamp, provenance::MissingReason};

/// One event together with the descriptors the kernel handed over for it.
///
/// The descriptors refer to the very files that were opened for execution (fanotify `FAN_OPEN_EXEC`, the
/// program of a process that has just executed a memfd), whatever has happened to their paths since. They are closed when the observation is dropped.
#[derive(Debug)]
pub struct Observation {
    /// The event itself.
    pub event: Event,
    /// The program or library of the event, when its content is not known under [`FileKey`] already.
    pub file: Option<OwnedFd>,
    /// Of each of [`Exec::scripts`], likewise.
    pub scripts: Vec<Option<OwnedFd>>,
    /// What the arguments of an exec name, if the program may run scripts.
    pub named: Option<Box<Named>>,
}

/// What arguments named when the first instruction of the program was still to come: a script may be gone a moment later.
#[derive(Debug, Default)]
pub struct Named {
    /// Some of the first arguments, as they were given, or `/dev/stdin`; and what was there, opened with `O_PATH`.
    pub files: Vec<(Text, OwnedFd)>,
    /// The program as the probe saw it, when the sensor is to be told whether it runs scripts.
    pub program: Option<FileKey>,
}

/// One observed thing: who, where, when and what.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened, by the kernel's clock.
    pub time: Timestamp,
    /// The process that did it. For [`Payload::Loss`] and [`Payload::SensorState`], the agent's own.
    pub process: ProcessKey,
    /// Control group of that process. `None` from sources that do not tell (perf); the process table then knows.
    pub cgroup: Option<Arc<Cgroup>>,
    /// What was done.
    pub payload: Payload,
}

/// A process for as long as the host is up: the pid alone is reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ProcessKey {
    /// Thread group id in the host's pid namespace.
    pub pid: u32,
    /// `task_struct.start_boottime` of the group leader, nanoseconds since boot (CLOCK_BOOTTIME). 0 when the source does
    /// not tell (perf, fanotify).
    pub start_ns: u64,
}

/// A control group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cgroup {
    /// `kernfs_node.id`, unique per hierarchy until reboot.
    pub id: u64,
    /// Path from the hierarchy's root, e.g. `/docker/<id>`.
    pub path: Text,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A program replaced the process's image (`sched_process_exec`).
    Exec(Box<Exec>),
    /// A new process (`sched_process_fork`, thread group leaders only). The event's process is the child.
    Fork {
        /// Who forked.
        parent: ProcessKey,
    },
    /// A process ended (`sched_process_exit` of the last thread).
    Exit,
    /// A file was mapped executable (`PERF_RECORD_MMAP2`), after exec's own mappings.
    LibraryLoad(Box<LibraryLoad>),
    /// A file without a known format was given to execve, which failed with ENOEXEC: what follows is that the caller, a
    /// shell, reads it as a script. Seen by fanotify only.
    ExecNoFormat {
        /// The file. Boxed: it is rare, and forks and exits are not.
        file: Box<FileFacts>,
    },
    /// Some events were lost.
    Loss(Loss),
    /// A sensor started, stopped, or cannot see something.
    SensorState(SensorState),
}

/// A successful exec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exec {
    /// The file that the kernel runs: the program, or a script's interpreter.
    pub file: FileFacts,
    /// The scripts of a `#!` exec, at most [`crate::limits::SCRIPTS_NESTED_MAX`]: the one given to execve, the one that is its
    /// interpreter, and so on. The last one is what the program reads.
    pub scripts: Vec<FileFacts>,
    /// `linux_binprm.filename`: the path as given to execve (`/dev/fd/N` for execveat with an empty path).
    pub filename: Text,
    /// Arguments from `mm->arg_start`, after exec: the caller can no longer change what was passed.
    pub args: Vec<Text>,
    /// Some arguments were cut at [`crate::limits::ARGV_BYTES_MAX`] or [`crate::limits::ARGV_COUNT_MAX`].
    pub args_truncated: bool,
    /// Environment from `mm->env_start`, as it lies there: [`crate::proc_files::environment`] reads it. The enricher drops the
    /// values it must not keep.
    pub env: Text,
    /// Some of the environment was cut at [`crate::limits::ENV_BYTES_MAX`].
    pub env_truncated: bool,
    /// Working directory, seen from the process's root.
    pub cwd: Text,
    /// `task_struct.comm` after exec.
    pub comm: Text,
    /// The parent (`real_parent`'s group leader).
    pub parent: ProcessKey,
    /// Pid in the process's own pid namespace.
    pub pid_in_namespace: u32,
    /// Who it runs as.
    pub credentials: Credentials,
    /// Where it runs.
    pub namespaces: Namespaces,
    /// Standard input, output and error.
    pub stdio: [Stdio; 3],
    /// It was running before the watch began: read from `/proc`, no exec was seen.
    pub already_running: bool,
}

/// Ids of `task_struct.cred`, in the initial user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Effective capabilities as a bit set (`CAP_*` numbers).
    pub cap_effective: u64,
}

/// Inode numbers of the namespaces, as in `/proc/PID/ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Mount namespace.
    pub mnt: u32,
    /// Pid namespace.
    pub pid: u32,
    /// Network namespace.
    pub net: u32,
    /// User namespace.
    pub user: u32,
}

/// One of the three standard descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Stdio {
    /// Not open, or not looked at.
    #[default]
    Closed,
    /// A regular file or directory.
    File,
    /// A terminal or other character device.
    Device,
    /// A pipe or fifo.
    Pipe {
        /// Its inode: both ends share it.
        inode: u64,
    },
    /// A socket. Boxed: it is rare, and every process has room for three.
    Socket(Box<Socket>),
    /// Anything else (eventfd, epoll, ...).
    Other,
}

/// A socket as a standard descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// `AF_*`; 0 when it was not looked at.
    pub family: u16,
    /// Protocol state (`TCP_ESTABLISHED` is 1).
    pub state: u8,
    /// Local address and port, when the family is IP.
    pub local: Option<std::net::SocketAddr>,
    /// Remote address and port, when connected.
    pub peer: Option<std::net::SocketAddr>,
}

/// A file as the kernel knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Absolute path from the process's root, resolved (no symlink left); the name it had when it is deleted.
    pub path: Text,
    /// The path was longer than [`crate::limits::PATH_BYTES_MAX`].
    pub path_truncated: bool,
    /// What identifies its content. `None` when not even that could be had.
    pub key: Option<FileKey>,
    /// Number of names it has. 0 for a deleted file, a memfd, an O_TMPFILE.
    pub link_count: u32,
    /// Mount it was reached through (`mount.mnt_id`), 0 when not known.
    pub mount_id: u32,
    /// Filesystem name, e.g. `overlay`, `tmpfs`, `ext4`.
    pub filesystem: Text,
    /// On the kernel's internal shmem mount: a memfd (or SysV/anonymous shared memory), never reachable by path.
    pub is_memfd: bool,
    /// Its bytes can change while `key` stays the same: somebody has it mapped for writing, or the layer that an overlay has it in
    /// is on a filesystem that does not tell of that.
    pub is_unsettled: bool,
    /// Why no descriptor came with it and its content is not known either.
    pub missing: Option<MissingReason>,
}

/// Identity of a content: two equal keys mean equal bytes, once [`FileKey::is_settled`].
///
/// ctime is part of it since a same-size patch with `utimes` put back changes nothing else, and no system call sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileKey {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Nanoseconds since the epoch.
    pub ctime_ns: i64,
}

/// `f_type` of filesystems that do not stamp a file when it is written through a shared mapping whose pages were read before:
/// they have no `page_mkwrite`. tmpfs (memfds too), ramfs, hugetlbfs.
const NOT_STAMPED: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// Age of ctime from which a later change must show in it. Kernels before 6.13 stamp files with a clock that ticks every 1
/// to 10 ms: a file that is deleted and made anew within a tick can have the inode number, size and times of the old one,
/// but other bytes.
const SETTLED_NS: i64 = 100_000_000;

/// The same for files whose ctime is a whole second, as all are on some filesystems.
const SETTLED_WHOLE_SECOND_NS: i64 = 2_100_000_000;

/// Age of ctime from which a file that somebody has mapped is known by its key, too: of the writes to a page, only the first
/// stamps the file, until the page has been written to disk. That takes half a minute (`vm.dirty_expire_centisecs`), and longer
/// on a busy disk.
const WRITTEN_BACK_NS: i64 = 120_000_000_000;

impl FileKey {
    /// Whether a change from `now` on is sure to show in the key. `filesystem` is the `f_type` of statfs(2).
    ///
    /// An overlay whose upper layer is on a tmpfs is not told apart from others: see [`FileFacts::is_unsettled`].
    pub fn is_settled(&self, filesystem: i64, now: Timestamp) -> bool {
        let age = if self.ctime_ns % 1_000_000_000 == 0 {
            SETTLED_WHOLE_SECOND_NS
        } else {
            SETTLED_NS
        };
        !NOT_STAMPED.contains(&filesystem) && self.is_older_than(age, now)
    }

    /// Whether a change through a mapping is sure to show in it, too, where nobody can look whether there is one.
    pub fn is_written_back(&self, now: Timestamp) -> bool {
        self.is_older_than(WRITTEN_BACK_NS, now)
    }

    fn is_older_than(&self, age_ns: i64, now: Timestamp) -> bool {
        i64::try_from(now.0).is_ok_and(|now| now.saturating_sub(self.ctime_ns) > age_ns)
    }
}

/// An executable mapping of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct LibraryLoad {
    /// The file. Its key is `None` when the process was gone before the mapping could be opened.
    pub file: FileFacts,
    /// Start of the mapping, as in `/proc/PID/map_files`.
    pub address_start: u64,
    /// End of the mapping.
    pub address_end: u64,
}

/// Events that never arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Where they were lost.
    pub source: LossSource,
    /// How many. Exact for the ring buffer and perf; for fanotify each overflow counts as one and hides an unknown number.
    pub count: u64,
}

/// Places where events can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossSource {
    /// The eBPF ring buffer was full: execs.
    ExecRing,
    /// The eBPF ring buffer of forks and exits was full.
    ProcessRing,
    /// A perf buffer was full: library loads.
    LibraryBuffer,
    /// The fanotify queue overflowed: descriptors of executed files.
    Fanotify,
    /// The agent's own queue was full: what did not fit was judged without what it waited for.
    Queue,
    /// The process of a library load was not known: processes are remembered within a bound. The file alone was judged.
    UnknownProcess,
    /// A list of indicators could not be read: files that were not looked up in it.
    Indicators,
    /// A record could not be decoded.
    Decode,
}

/// What a sensor can say about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorState {
    /// Which sensor.
    pub sensor: Sensor,
    /// What is the matter.
    pub condition: SensorCondition,
    /// For a person, in one sentence.
    pub detail: String,
}

/// The parts of the Linux host sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensor {
    /// eBPF probes for exec, fork and exit.
    Ebpf,
    /// fanotify, for the bytes of executed files.
    Fanotify,
    /// perf MMAP2 records, for library loads.
    Perf,
    /// The agent as a whole.
    Agent,
}

/// See [`SensorState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorCondition {
    /// It sees.
    Running,
    /// It does not see any more, or never did.
    Lost,
    /// It did not see for a while, and does again.
    Gap,
    /// The same, since somebody stopped it in order.
    Stopped,
    /// What it said in the same words, with [`Self::Lost`], is over.
    Recovered,
    /// It saw, but what was found could not be stored for a while.
    Unstored,
}
