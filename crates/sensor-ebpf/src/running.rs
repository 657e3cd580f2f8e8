//! Processes that ran before the watch began, from `/proc`.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use model::{
    Text,
    event::{Cgroup, Exec, FileFacts, Namespaces, ProcessKey, Stdio},
    limits,
    mountinfo::mountinfo,
    proc_files::{self, ProcFiles},
};
use rustix::fs::FileType;

use crate::{bpf, decode::Mapping};

/// Bytes of `/proc/PID/maps` that are read: about 30,000 mappings. `vm.max_map_count` allows twice as many.
const MAPS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of `/proc/PID/status` and `cgroup`.
const STATUS_BYTES_MAX: u64 = 64 * 1024;

/// A process that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) process: ProcessKey,
    pub(crate) mnt_namespace: u32,
}

/// All processes, the oldest first.
pub(crate) fn list() -> Vec<Running> {
    let mut running = bpf::running_processes().unwrap_or_else(|_| list_proc());
    running.sort_by_key(|running| (running.process.start_ns, running.process.pid));
    // One whose first thread has ended is told by each of the others.
    running.dedup_by_key(|running| running.process);
    running
}

/// Without the iterator: start times are rounded to the clock tick.
fn list_proc() -> Vec<Running> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let stat = proc_reader::read(pid, "stat", STATUS_BYTES_MAX)?;
            let (_, start_ns) = proc_files::parent_and_start(&stat)?;
            Some(Running {
                process: ProcessKey { pid, start_ns },
                mnt_namespace: proc_reader::namespace(pid, "mnt")?,
            })
        })
        .collect()
}

/// What `/proc` tells of a process, without its program's content. `None` when it is gone.
pub(crate) fn exec(running: &Running, all: &HashMap<u32, Running>) -> Option<Exec> {
    let pid = running.process.pid;
    let read_or_empty =
        |name, bytes_max| proc_reader::read(pid, name, bytes_max).unwrap_or_default();
    let namespace = |kind| proc_reader::namespace(pid, kind).unwrap_or_default();
    let told = proc_files::exec(
        pid,
        &ProcFiles {
            status: &proc_reader::read(pid, "status", STATUS_BYTES_MAX)?,
            cmdline: &read_or_empty("cmdline", limit(limits::ARGV_BYTES_MAX)),
            environ: &read_or_empty("environ", limit(limits::ENV_BYTES_MAX)),
            comm: &comm(pid),
        },
    );
    let path = link(pid, "exe");
    Some(Exec {
        file: FileFacts {
            path: path.clone(),
            ..FileFacts::default()
        },
        filename: path,
        cwd: link(pid, "cwd"),
        parent: all
            .get(&told.parent.pid)
            .map_or(told.parent, |parent| parent.process),
        namespaces: Namespaces {
            mnt: running.mnt_namespace,
            pid: namespace("pid"),
            net: namespace("net"),
            user: namespace("user"),
        },
        stdio: [stdio(pid, 0), stdio(pid, 1), stdio(pid, 2)],
        ..told
    })
}

/// The executable mappings of files.
pub(crate) fn mappings(pid: u32, boot_ns: u64) -> Vec<Mapping> {
    let maps = proc_reader::read(pid, "maps", MAPS_BYTES_MAX).unwrap_or_default();
    maps.split(|&byte| byte == b'\n')
        .filter_map(|line| mapping(pid, boot_ns, line))
        .collect()
}

/// `ADDRESS-ADDRESS PERMISSIONS OFFSET MAJOR:MINOR INODE   PATH`
fn mapping(pid: u32, boot_ns: u64, line: &[u8]) -> Option<Mapping> {
    let mut words = line.splitn(6, |&byte| byte == b' ');
    let addresses = std::str::from_utf8(words.next()?).ok()?;
    let (start, end) = addresses.split_once('-')?;
    let permissions = words.next()?;
    if !permissions.contains(&b'x') {
        return None;
    }
    let _offset = words.next()?;
    let device = std::str::from_utf8(words.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let hex = |text| u32::from_str_radix(text, 16).ok();
    let inode = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let path = words.next()?.trim_ascii_start();
    if inode == 0 || !path.starts_with(b"/") {
        return None;
    }
    Some(Mapping {
        pid,
        boot_ns,
        address_start: u64::from_str_radix(start, 16).ok()?,
        address_end: u64::from_str_radix(end, 16).ok()?,
        device: rustix::fs::makedev(hex(major)?, hex(minor)?),
        inode,
        path: Text::from(path),
        seen: None,
    })
}

/// Finds control groups' ids: where each hierarchy is mounted.
#[derive(Debug)]
pub(crate) struct Hierarchies {
    unified: Option<PathBuf>,
    /// By controller.
    v1: Vec<(&'static str, PathBuf)>,
}

impl Hierarchies {
    pub(crate) fn new() -> Self {
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mut found = Self {
            unified: None,
            v1: Vec::new(),
        };
        for mount in mountinfo(&table) {
            let Some(mountpoint) = mount.mountpoint.as_str().map(PathBuf::from) else {
                continue;
            };
            match mount.filesystem.as_bytes() {
                b"cgroup2" => found.unified = found.unified.or(Some(mountpoint)),
                b"cgroup" => {
                    let options = mount.super_options.as_str().unwrap_or_default().to_owned();
                    // The order in which the probe looks.
                    for controller in ["pids", "memory", "devices", "cpu"] {
                        if options.split(',').any(|option| option == controller) {
                            found.v1.push((controller, mountpoint.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Which versions are mounted.
    pub(crate) fn version(&self) -> Option<&'static str> {
        match (&self.unified, self.v1.is_empty()) {
            (Some(_), true) => Some("version 2"),
            (Some(_), false) => Some("hybrid: controllers in version 1, and version 2"),
            (None, false) => Some("version 1"),
            (None, true) => None,
        }
    }

    /// The control group that the probe would report.
    pub(crate) fn cgroup(&self, pid: u32) -> Option<Cgroup> {
        let table = proc_reader::read(pid, "cgroup", STATUS_BYTES_MAX)?;
        let table = String::from_utf8_lossy(&table).into_owned();
        let path_of = |controller: &str| {
            table.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':');
                let _id = parts.next()?;
                let mut controllers = parts.next()?.split(',');
                let path = parts.next()?;
                controllers.any(|name| name == controller).then_some(path)
            })
        };
        let unified = self
            .unified
            .as_deref()
            .and_then(|root| Some((root, path_of("")?)));
        let v1 = ["pids", "memory", "devices", "cpu"]
            .iter()
            .filter_map(|controller| {
                let (_, root) = self.v1.iter().find(|(name, _)| name == controller)?;
                Some((root.as_path(), path_of(controller)?))
            });
        let (root, path) = unified
            .into_iter()
            .chain(v1)
            .find(|(_, path)| *path != "/")
            .or(unified)?;
        Some(Cgroup {
            id: inode(&root.join(path.trim_start_matches('/'))).unwrap_or_default(),
            path: Text::from(path),
        })
    }
}

/// Whether an engine's name or a container id is in the path: a container that shares the host's mounts.
pub(crate) fn looks_like_container(cgroup: &Cgroup) -> bool {
    cgroup
        .path
        .as_bytes()
        .split(|&byte| byte == b'/')
        .any(|part| {
            part.windows(64)
                .any(|window| window.iter().all(u8::is_ascii_hexdigit))
        })
}

fn stdio(pid: u32, fd: u32) -> Stdio {
    let stat = proc_reader::of_any_thread(pid, |thread| {
        rustix::fs::stat(format!("/proc/{thread}/fd/{fd}")).ok()
    });
    let Some(stat) = stat else {
        return Stdio::Closed;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => Stdio::File,
        FileType::CharacterDevice | FileType::BlockDevice => Stdio::Device,
        FileType::Fifo => Stdio::Pipe { inode: stat.st_ino },
        // Family and peer are looked at in an exec only.
        FileType::Socket => Stdio::Socket(Box::default()),
        FileType::Symlink | FileType::Unknown => Stdio::Other,
    }
}

fn limit(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn link(pid: u32, name: &str) -> Text {
    proc_reader::link(pid, name)
        .map(|path| crate::content::without_deleted(Text::from(path), 0))
        .unwrap_or_default()
}

fn comm(pid: u32) -> Vec<u8> {
    let mut comm = proc_reader::read(pid, "comm", 64).unwrap_or_default();
    if comm.last() == Some(&b'\n') {
        comm.pop();
    }
    comm
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}
