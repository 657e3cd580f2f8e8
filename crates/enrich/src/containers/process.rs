//! What `/proc` says about a process: its parent, namespaces, root, and the engine's process above it.

use std::{
    fs,
    io::Read,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use model::limits::{ARGV_BYTES_MAX, LINEAGE_MAX};

use super::{
    argv::{self, EngineProcess},
    cgroup,
};
use crate::proc::cgroup_paths;

/// Processes of engines listened to about one container, above it or anywhere.
const ENGINE_PROCESSES_MAX: usize = 4;

/// Bytes read of one of the small files of `/proc/PID`.
const PROC_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The host's `/proc`.
#[derive(Debug)]
pub(super) struct Proc {
    root: PathBuf,
    /// Mount namespace of the host's first process, 0 when it cannot be read.
    pub(super) host_mnt_namespace: u32,
    host_root: Option<(u64, u64)>,
    /// The cgroup that the host itself is in, when it is a container of another host.
    host_cgroup: Vec<u8>,
}

/// A process and those above it, up to the first that runs outside the container.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// Pids and start times, the process itself first. All in its container as far as namespaces and cgroups tell.
    pub(super) inside: Vec<Member>,
    /// The engine's processes above them, the nearest first: runc starts a container for a monitor that knows more.
    pub(super) engines: Vec<EngineProcess>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) pid: u32,
    /// `starttime` of `/proc/PID/stat`, clock ticks since boot.
    pub(super) start_ticks: u64,
    pub(super) mnt_namespace: u32,
}

impl Proc {
    pub(super) fn new(root: PathBuf) -> Self {
        let mut proc = Self {
            root,
            host_mnt_namespace: 0,
            host_root: None,
            host_cgroup: Vec::new(),
        };
        // The first process, or where it does not let itself be looked at, this one.
        proc.host_mnt_namespace = proc
            .mnt_namespace("1")
            .or_else(|| proc.mnt_namespace("self"))
            .unwrap_or(0);
        proc.host_root = proc.root_of("1").or_else(|| proc.root_of("self"));
        proc.host_cgroup = proc
            .cgroups("1")
            .iter()
            .find_map(|path| cgroup::parse(path).map(|named| named.cgroup.to_vec()))
            .unwrap_or_default();
        proc
    }

    /// `path` as the host sees it: without the cgroup that the host itself lives in.
    pub(super) fn below_host<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        match path.strip_prefix(self.host_cgroup.as_slice()) {
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest,
            _ => path,
        }
    }

    /// Inode number of a process's mount namespace.
    pub(super) fn mnt_namespace(&self, pid: &str) -> Option<u32> {
        let target = fs::read_link(self.path(pid, "ns/mnt")).ok()?;
        let number = target.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?;
        number.parse().ok()
    }

    /// Whether the process has the host's root directory. `None` when the process is gone.
    pub(super) fn has_host_root(&self, pid: &str) -> Option<bool> {
        let root = self.root_of(pid)?;
        Some(self.host_root == Some(root))
    }

    /// The process and those above it.
    pub(super) fn lineage(&self, pid: u32) -> Lineage {
        let mut lineage = Lineage::default();
        let mut next = pid;
        let mut outside = 0;
        // A container can make a chain of parents as long as it likes.
        for _ in 0..LINEAGE_MAX {
            let name = next.to_string();
            let Some((parent, start_ticks)) = self.stat(&name) else {
                break;
            };
            let Some(mnt_namespace) = self.mnt_namespace(&name) else {
                break;
            };
            if next != pid && self.is_outside(&name, mnt_namespace) {
                lineage.engines.extend(self.engine_process(&name));
                outside += 1;
            } else if outside == 0 {
                lineage.inside.push(Member {
                    pid: next,
                    start_ticks,
                    mnt_namespace,
                });
            } else {
                break;
            }
            if parent == 0 || outside == ENGINE_PROCESSES_MAX {
                break;
            }
            next = parent;
        }
        lineage
    }

    /// Engines' processes that name the container `id`, of all that run: for a container none of whose own processes is left
    /// to ask.
    pub(super) fn engine_processes_of(&self, id: &str) -> Vec<EngineProcess> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .filter_map(|name| {
                let process = self.engine_process(&name).filter(|it| it.id() == id)?;
                let mnt_namespace = self.mnt_namespace(&name)?;
                self.is_outside(&name, mnt_namespace).then_some(process)
            })
            .take(ENGINE_PROCESSES_MAX)
            .collect()
    }

    /// Runs on the host: in no container's control group, and with the host's mounts or at least its root (rootless Podman has
    /// mounts of its own). Only the word of such a process is taken.
    fn is_outside(&self, pid: &str, mnt_namespace: u32) -> bool {
        let sees_host =
            mnt_namespace == self.host_mnt_namespace || self.has_host_root(pid) == Some(true);
        sees_host
            && self
                .cgroups(pid)
                .iter()
                .all(|path| cgroup::parse(self.below_host(path)).is_none())
    }

    fn engine_process(&self, pid: &str) -> Option<EngineProcess> {
        let cmdline = self.read(pid, "cmdline", ARGV_BYTES_MAX as u64 * 4)?;
        let directory = fs::read_link(self.path(pid, "cwd")).unwrap_or_default();
        argv::parse(&cmdline, &directory)
    }

    /// Parent and start time.
    pub(super) fn stat(&self, pid: &str) -> Option<(u32, u64)> {
        let bytes = self.read(pid, "stat", PROC_FILE_BYTES_MAX)?;
        // The name in parentheses is the process's own choice; what follows the last one is the kernel's.
        let after = bytes.iter().rposition(|&byte| byte == b')')? + 1;
        let fields: Vec<&str> = std::str::from_utf8(bytes.get(after..)?)
            .ok()?
            .split_ascii_whitespace()
            .collect();
        // proc_pid_stat(5): field 3 is the first here, 4 is ppid, 22 is starttime.
        Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
    }

    /// Paths of all hierarchies.
    fn cgroups(&self, pid: &str) -> Vec<Vec<u8>> {
        let Some(bytes) = self.read(pid, "cgroup", PROC_FILE_BYTES_MAX) else {
            return Vec::new();
        };
        cgroup_paths(&bytes).map(<[u8]>::to_vec).collect()
    }

    fn root_of(&self, pid: &str) -> Option<(u64, u64)> {
        let root = fs::metadata(self.path(pid, "root")).ok()?;
        Some((root.dev(), root.ino()))
    }

    fn read(&self, pid: &str, name: &str, bytes_max: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.path(pid, name)).ok()?;
        file.take(bytes_max).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn path(&self, pid: &str, name: &str) -> PathBuf {
        self.root.join(pid).join(name)
    }
}

/// A path out of bytes.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

/// `path`, seen from `directory` when it is relative.
pub(super) fn absolute(directory: &Path, path: &[u8]) -> PathBuf {
    directory.join(path_of(path))
}
