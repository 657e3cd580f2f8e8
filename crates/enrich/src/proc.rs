//! The few things read from `/proc` about processes of containers.
//!
//! A process may end, and its pid be reused, between any two calls: every answer is an `Option`, and callers compare
//! what they get with what the kernel reported.

use std::{
    io::Read,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use model::{Text, event::FileKey, proc_files};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, StatxFlags};

/// Bytes of a small file of `/proc` (stat, fdinfo, cgroup).
const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The identity of a content, from `fstat`.
pub(crate) fn key_of(stat: &Stat) -> FileKey {
    FileKey {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// Number of names, from `fstat`.
pub(crate) fn link_count(stat: &Stat) -> u32 {
    u32::try_from(stat.st_nlink).unwrap_or(u32::MAX)
}

fn nanoseconds(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds.try_into().unwrap_or(0))
}

/// True for a regular file: the only kind that is ever opened for reading.
pub(crate) fn is_regular(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
}

/// Opens for reading what an `O_PATH` descriptor refers to, when it is a regular file.
///
/// Opening a container's path directly could block on a fifo or have side effects on a device.
pub(crate) fn reopen_regular(path_fd: &OwnedFd) -> Option<OwnedFd> {
    if !is_regular(&rustix::fs::fstat(path_fd).ok()?) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", path_fd.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// Opens a magic link of `/proc/PID` (`exe`, `fd/3`, `map_files/...`) for reading, when it leads to a regular file.
pub(crate) fn open_link(pid: u32, link: &str) -> Option<OwnedFd> {
    reopen_regular(&proc_reader::open(pid, link, OFlags::PATH)?)
}

/// Whether a process runs in that control group, of any hierarchy.
pub(crate) fn is_in(pid: u32, cgroup: &Text) -> bool {
    let cgroups = read_small(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
    cgroup_paths(&cgroups).any(|path| path == cgroup.as_bytes())
}

/// Paths of a `/proc/PID/cgroup`, whose lines are `NUMBER:CONTROLLERS:PATH`.
pub(crate) fn cgroup_paths(cgroups: &[u8]) -> impl Iterator<Item = &[u8]> {
    cgroups
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.splitn(3, |&byte| byte == b':').nth(2))
}

/// The path of an open file from the root of its mount namespace. A name that is gone ends in ` (deleted)`.
pub(crate) fn path_of(fd: &impl AsFd) -> Option<Text> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new()).ok()?;
    Some(Text::from(path.into_bytes()))
}

/// The mount an open file was reached through, as numbered in `mountinfo`. Nobody is asked for that.
pub(crate) fn mount_id_of(fd: &impl AsFd) -> Option<u32> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(fd, c"", flags, StatxFlags::MNT_ID).ok()?;
    u32::try_from(stat.stx_mnt_id).ok()
}

/// Reads at most [`SMALL_FILE_BYTES_MAX`] bytes of a file of `/proc`.
pub(crate) fn read_small(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(SMALL_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// Parent and start time (nanoseconds since boot, in steps of [`proc_files::TICK_NS`]) of a process.
pub(crate) fn parent_and_start(pid: u32) -> Option<(u32, u64)> {
    proc_files::parent_and_start(&read_small(&format!("/proc/{pid}/stat"))?)
}

/// Device and inode of a process's root directory.
pub(crate) fn root_directory(pid: u32) -> Option<(u64, u64)> {
    let root = rustix::fs::stat(format!("/proc/{pid}/root")).ok()?;
    Some((root.st_dev, root.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_tells_its_mount_and_path() {
        let file = tempfile::tempfile().unwrap();
        assert!(mount_id_of(&file).unwrap() > 0);
        assert!(path_of(&file).unwrap().as_bytes().ends_with(b" (deleted)"));
    }

    #[test]
    fn the_parent_of_this_process_is_found() {
        let (parent, start_ns) = parent_and_start(std::process::id()).unwrap();
        assert_eq!(parent, std::os::unix::process::parent_id());
        assert!(start_ns > parent_and_start(1).unwrap().1);
    }
}
