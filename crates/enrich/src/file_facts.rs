//! What can be found out about a file beyond what the event says: through its descriptor, or for want of one, `/proc`.

use std::os::fd::OwnedFd;

use model::{
    Text,
    event::{FileFacts, FileKey},
    limits::PATH_BYTES_MAX,
};
use rustix::fs::{OFlags, fstat};

use crate::{proc, provenance::open_below};

/// Where else a file may be opened.
#[derive(Clone, Copy)]
pub(crate) enum Fallback {
    /// `/proc/PID/exe`.
    Exe,
    /// `/proc/PID/map_files`.
    Mapping(u64, u64),
    None,
}

impl Fallback {
    /// Opens the file of those facts. The process may run something else by now, or be another one: then it is `None`.
    pub(crate) fn open(self, pid: u32, facts: &FileFacts) -> Option<OwnedFd> {
        let link = match self {
            Self::Exe => "exe".to_owned(),
            Self::Mapping(start, end) => format!("map_files/{start:x}-{end:x}"),
            Self::None => return None,
        };
        let fd = proc::open_link(pid, &link)?;
        let found = proc::key_of(&fstat(&fd).ok()?);
        let is_same = facts.key.is_some_and(|seen| {
            (seen.inode, seen.size, seen.mtime_ns) == (found.inode, found.size, found.mtime_ns)
        });
        is_same.then_some(fd)
    }
}

/// What a descriptor tells that the event did not: the mount, and the path from the root of the mount namespace when the
/// process has another root.
pub(crate) fn complete_facts(pid: u32, facts: &mut FileFacts, fd: &OwnedFd) {
    if facts.mount_id == 0 {
        facts.mount_id = proc::mount_id_of(fd).unwrap_or(0);
    }
    if let Ok(stat) = fstat(fd) {
        facts.key.get_or_insert(proc::key_of(&stat));
        facts.link_count = proc::link_count(&stat);
    }
    if facts.is_memfd {
        return;
    }
    let path = proc::path_of(fd).unwrap_or_default();
    let mut found = path.as_bytes();
    // The link count proves nothing on an overlay, where a deleted file of the image still has its lower name.
    if facts.path.as_bytes().ends_with(GONE) && !has_name(pid, &facts.path, facts.key) {
        facts.path.truncate(facts.path.len() - GONE.len());
        found = found.strip_suffix(GONE).unwrap_or(found);
    }
    if found.strip_suffix(GONE) == Some(facts.path.as_bytes()) {
        return;
    }
    // The path at the time of the event counts, not one that the file was renamed to since.
    let is_longer = found.len() > facts.path.len() && found.ends_with(facts.path.as_bytes());
    if is_longer && found.len() <= PATH_BYTES_MAX {
        facts.path = Text::from(found);
    }
}

/// What the kernel appends to the path of a file that has no name any more.
const GONE: &[u8] = b" (deleted)";

/// The path is the file's name as it is, in the root of a process.
fn has_name(pid: u32, path: &Text, key: Option<FileKey>) -> bool {
    let root = proc_reader::open(pid, "root", OFlags::PATH | OFlags::DIRECTORY);
    let named = root.and_then(|root| open_below(&root, path.as_bytes()));
    let stat = named.and_then(|named| fstat(&named).ok());
    stat.is_some_and(|stat| key.is_some_and(|key| key.inode == stat.st_ino))
}
