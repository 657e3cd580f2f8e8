//! Identity of opened files, and which contents the enricher has been given already.

use std::{
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::SystemTime,
};

use lru::LruCache;
use model::{Text, Timestamp, event::FileKey, limits};
use rustix::fs::{AtFlags, Stat, Statx, StatxFlags};

use crate::decode::Seen;

/// Half of the enricher's own memory, so that what is remembered here is remembered there.
const DELIVERED_MAX: NonZeroUsize =
    NonZeroUsize::new(limits::HASH_CACHE_ENTRIES_MAX / 2).expect("the limit is more than one");

/// BINPRM_BUF_SIZE of include/uapi/linux/binfmts.h: what the kernel reads of a script.
const SCRIPT_HEAD_BYTES: usize = 256;

/// How the kernel takes a file that is given to execve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Elf,
    /// Begins with `#!`.
    Script {
        /// As it is written there.
        interpreter: Text,
    },
    /// Neither: fails with ENOEXEC, unless binfmt_misc knows it.
    Other,
}

/// A file that was opened for execution.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) key: FileKey,
    pub(crate) kind: Kind,
    pub(crate) link_count: u32,
    /// 0 when it was not asked for: an exec tells the mount of its program itself.
    pub(crate) mount_id: u32,
    /// Empty for ELF files: an exec tells the path of its program itself.
    pub(crate) path: Text,
    /// `None` when its bytes were handed over before.
    pub(crate) fd: Option<OwnedFd>,
    /// A later change of the file is sure to change its key.
    pub(crate) is_settled: bool,
    /// Its bytes are wanted, but too many descriptors are open.
    pub(crate) is_overload: bool,
}

impl Content {
    /// The bytes of what was seen are, or are about to be, the enricher's, and a change of them is sure to change the key.
    pub(crate) fn settles(&self, seen: &Seen) -> bool {
        let key = FileKey {
            device: seen.key.device,
            ..self.key
        };
        self.is_settled && !self.is_overload && seen.keys().contains(&key)
    }

    /// A program whose bytes were handed over before.
    pub(crate) fn known(key: FileKey, link_count: u32) -> Self {
        Self {
            key,
            kind: Kind::Elf,
            link_count,
            mount_id: 0,
            path: Text::default(),
            fd: None,
            is_settled: true,
            is_overload: false,
        }
    }
}

/// Descriptors from which on the reader waits for the enricher to close some.
const DESCRIPTORS_MANY: usize = limits::DESCRIPTORS_HELD_MAX / 4 * 3;

/// Contents whose bytes went to the enricher.
#[derive(Debug)]
pub(crate) struct Delivered {
    keys: LruCache<FileKey, Kind>,
    /// One that was looked at since the last question was [`is_one_of_many`].
    has_many_descriptors: bool,
}

impl Delivered {
    pub(crate) fn new() -> Self {
        Self {
            keys: LruCache::new(DELIVERED_MAX),
            has_many_descriptors: false,
        }
    }

    pub(crate) fn contains(&mut self, key: &FileKey) -> bool {
        self.keys.get(key).is_some()
    }

    /// The same, which does not count as a use of it.
    pub(crate) fn remembers(&self, key: &FileKey) -> bool {
        self.keys.contains(key)
    }

    /// Whether most of the descriptors that may be open were, since the last time that it was asked.
    pub(crate) fn takes_many_descriptors(&mut self) -> bool {
        std::mem::take(&mut self.has_many_descriptors)
    }

    /// Takes a descriptor in: closes it at once when its bytes are known.
    pub(crate) fn content(&mut self, fd: OwnedFd) -> Option<Content> {
        match self.look(&fd)? {
            (content, false) => Some(content),
            (content, true) => Some(Content {
                fd: Some(fd),
                ..content
            }),
        }
    }

    /// The same for a file that may have changed under its key: its bytes are wanted in any case, and are not known afterwards.
    pub(crate) fn unsettled(&mut self, fd: OwnedFd) -> Option<Content> {
        let (content, _) = self.look(&fd)?;
        let is_overload = is_one_too_many(&fd);
        Some(Content {
            fd: (!is_overload).then_some(fd),
            is_settled: false,
            is_overload,
            ..content
        })
    }

    /// What a descriptor leads to, and whether its bytes are wanted.
    pub(crate) fn look(&mut self, fd: &OwnedFd) -> Option<(Content, bool)> {
        self.has_many_descriptors |= is_one_of_many(fd);
        let stat = rustix::fs::fstat(fd).ok()?;
        let key = file_key(&stat);
        let link_count = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
        let known = self.keys.get(&key).cloned();
        let is_known = known.is_some();
        let kind = known.unwrap_or_else(|| kind(fd));
        let (path, mount_id) = match kind {
            Kind::Elf => (Text::default(), 0),
            Kind::Script { .. } | Kind::Other => (path_of(fd, link_count), mount_id(fd)),
        };
        let is_overload = !is_known && is_one_too_many(fd);
        let is_settled = is_known || is_settled(&key, &kind, fd);
        let content = Content {
            key,
            kind,
            link_count,
            mount_id,
            path,
            fd: None,
            is_settled,
            is_overload,
        };
        Some((content, !is_known && !is_overload))
    }

    /// The descriptor to send with an observation: none when an earlier observation took the same bytes along.
    pub(crate) fn deliver(&mut self, content: &mut Content) -> Option<OwnedFd> {
        let fd = content.fd.take()?;
        if content.is_settled && self.keys.put(content.key, content.kind.clone()).is_some() {
            return None;
        }
        Some(fd)
    }
}

/// The kernel gives out the lowest free number: one as high says that most of those that may be open are.
pub(crate) fn is_one_of_many(fd: &OwnedFd) -> bool {
    usize::try_from(fd.as_raw_fd()).is_ok_and(|fd| fd >= DESCRIPTORS_MANY)
}

/// What arguments name is opened on the mere chance of a script: only while less than half of them are.
pub(crate) fn is_of_second_half(fd: &OwnedFd) -> bool {
    usize::try_from(fd.as_raw_fd()).is_ok_and(|fd| fd >= limits::DESCRIPTORS_HELD_MAX / 2)
}

/// One above the limit says that as many are open.
fn is_one_too_many(fd: &OwnedFd) -> bool {
    usize::try_from(fd.as_raw_fd()).is_ok_and(|fd| fd > limits::DESCRIPTORS_HELD_MAX)
}

/// The clock that stamps files may be behind by as much: a tick, at the lowest rate that kernels are built with.
const TICK_NS: i64 = 10_000_000;

/// The identity of a program or library at the `time` that it was run or mapped: its descriptor is opened later, and by then it
/// may have been overwritten.
///
/// What the probe saw counts only when it is older than a change since then. An overlay's own inode otherwise tells another
/// device than `stat` does, and times that lag behind writes through a mapping.
pub(crate) fn key_then(now: FileKey, seen: Option<FileKey>, time: Timestamp) -> FileKey {
    match seen {
        Some(seen)
            if (seen.mtime_ns, seen.ctime_ns) != (now.mtime_ns, now.ctime_ns)
                && i64::try_from(time.0).is_ok_and(|time| now.ctime_ns >= time - TICK_NS) =>
        {
            FileKey {
                device: now.device,
                ..seen
            }
        }
        _ => now,
    }
}

fn is_settled(key: &FileKey, kind: &Kind, fd: &OwnedFd) -> bool {
    let now = Timestamp::from(SystemTime::now());
    // Whether somebody has it mapped for writing is looked at by the probes, but not of a script: by the time of an exec the
    // kernel has let go of it.
    (*kind == Kind::Elf || key.is_written_back(now))
        && rustix::fs::fstatfs(fd).is_ok_and(|filesystem| key.is_settled(filesystem.f_type, now))
}

pub(crate) fn file_key(stat: &Stat) -> FileKey {
    FileKey {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

pub(crate) fn statx_key(stat: &Statx) -> FileKey {
    let time =
        |time: &rustix::fs::StatxTimestamp| nanoseconds(time.tv_sec, u64::from(time.tv_nsec));
    FileKey {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        size: stat.stx_size,
        mtime_ns: time(&stat.stx_mtime),
        ctime_ns: time(&stat.stx_ctime),
    }
}

/// How a descriptor is looked at: nobody is asked, such as the server of a network filesystem, which may not answer.
pub(crate) const UNASKED: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::STATX_DONT_SYNC);

/// Mount that a descriptor was opened on; 0 before Linux 5.8.
pub(crate) fn mount_id(fd: impl AsFd) -> u32 {
    rustix::fs::statx(fd, c"", UNASKED, StatxFlags::MNT_ID)
        .ok()
        .and_then(|stat| u32::try_from(stat.stx_mnt_id).ok())
        .unwrap_or_default()
}

fn nanoseconds(seconds: i64, nanoseconds: u64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::try_from(nanoseconds).unwrap_or_default())
}

fn kind(fd: &OwnedFd) -> Kind {
    let mut head = [0; SCRIPT_HEAD_BYTES];
    let read = rustix::io::pread(fd, &mut head, 0).unwrap_or_default();
    match head.get(..read).unwrap_or_default() {
        [0x7f, b'E', b'L', b'F', ..] => Kind::Elf,
        [b'#', b'!', line @ ..] => Kind::Script {
            interpreter: interpreter(line),
        },
        _ => Kind::Other,
    }
}

/// What the kernel takes for the interpreter's path in what is behind `#!` (`load_script` of fs/binfmt_script.c).
fn interpreter(line: &[u8]) -> Text {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = line.iter().position(|byte| !is_blank(byte));
    let path = start
        .and_then(|start| line.get(start..))
        .unwrap_or_default();
    let is_end = |byte: &u8| is_blank(byte) || matches!(byte, b'\n' | 0);
    let path = path.split(is_end).next();
    Text::from(path.unwrap_or_default())
}

/// The path that the kernel knows for an open file, seen from the root of its mount tree.
pub(crate) fn path_of(fd: impl AsFd, link_count: u32) -> Text {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new()).unwrap_or_default();
    without_deleted(Text::from(path.into_bytes()), link_count)
}

/// Takes off the mark that the kernel puts behind the path of a file without a name.
pub(crate) fn without_deleted(mut path: Text, link_count: u32) -> Text {
    let stripped = path.as_bytes().strip_suffix(b" (deleted)").map(<[u8]>::len);
    if let Some(bytes) = stripped.filter(|_| link_count == 0) {
        path.truncate(bytes);
    }
    path.truncate(limits::PATH_BYTES_MAX);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_what_the_kernel_takes_for_it() {
        for (line, expected) in [
            ("/bin/sh\n", "/bin/sh"),
            (" \t/bin/sh -e\nset\n", "/bin/sh"),
            ("/bin/sh\t-e", "/bin/sh"),
            ("sh\0/bin/sh\n", "sh"),
            ("\n/bin/sh\n", ""),
            ("  ", ""),
        ] {
            assert_eq!(
                interpreter(line.as_bytes()),
                Text::from(expected),
                "{line:?}"
            );
        }
    }

    #[test]
    fn what_changed_after_the_exec_is_not_what_ran() {
        const EXEC_NS: i64 = 1_000_000_000_000;
        let key = |device, mtime_ns, ctime_ns| FileKey {
            device,
            inode: 1,
            size: 1,
            mtime_ns,
            ctime_ns,
        };
        let exec = Timestamp(EXEC_NS.unsigned_abs());
        let (old, later) = (EXEC_NS - 1_000_000_000, EXEC_NS + 1_000_000);
        for (now, seen, expected) in [
            // Unchanged; the probe sees another device on an overlay.
            (key(1, old, old), Some(key(9, old, old)), key(1, old, old)),
            // Written with its mtime put back; within a tick of the exec.
            (key(1, old, later), Some(key(9, old, old)), key(1, old, old)),
            (
                key(1, EXEC_NS, EXEC_NS - 1),
                Some(key(9, old, old)),
                key(1, old, old),
            ),
            // The overlay's times lag behind, or nothing was seen.
            (
                key(1, old + 5, old + 5),
                Some(key(9, old, old)),
                key(1, old + 5, old + 5),
            ),
            (key(1, old, later), None, key(1, old, later)),
        ] {
            assert_eq!(key_then(now, seen, exec), expected, "{now:?} {seen:?}");
        }
    }
}
