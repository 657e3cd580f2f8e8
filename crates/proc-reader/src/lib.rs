//! What `/proc` tells of a process: its first thread's files or, when that one has ended and others go on, another's.
//!
//! A program may end its first thread alone (pthread_exit(3) in `main`). From then on `/proc/PID` has no root, program, memory
//! and namespaces; `/proc/TID` of each other thread has what they share.
//!
//! A process may end, and its pid be given to another, between any two calls: callers compare what they get with what the
//! kernel reported.

#![forbid(unsafe_code)]

use std::{fs::File, io::Read, os::fd::OwnedFd};

use rustix::fs::{Mode, OFlags};

/// Threads asked besides the first. One that has ended is gone as a rule, so that the next one asked answers.
const THREADS_MAX: usize = 16;

/// The first answer, which is asked for by thread. `None` when the process is gone.
pub fn of_any_thread<T>(pid: u32, mut ask: impl FnMut(u32) -> Option<T>) -> Option<T> {
    ask(pid).or_else(|| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let others = threads
            .flatten()
            .filter_map(|thread| thread.file_name().to_str()?.parse().ok())
            .filter(|&thread| thread != pid);
        others.take(THREADS_MAX).find_map(ask)
    })
}

/// Opens a file of a process (`mountinfo`), or what a link leads to (`exe`, `root`, `fd/3`), close-on-exec.
pub fn open(pid: u32, name: &str, flags: OFlags) -> Option<OwnedFd> {
    of_any_thread(pid, |thread| {
        let path = format!("/proc/{thread}/{name}");
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ok()
    })
}

/// Up to `bytes_max` bytes of a file of a process. `None` when there are none: so are files of a thread that has ended.
pub fn read(pid: u32, name: &str, bytes_max: u64) -> Option<Vec<u8>> {
    of_any_thread(pid, |thread| {
        let mut bytes = Vec::new();
        File::open(format!("/proc/{thread}/{name}"))
            .ok()?
            .take(bytes_max)
            .read_to_end(&mut bytes)
            .ok()?;
        (!bytes.is_empty()).then_some(bytes)
    })
}

/// Where a link of a process leads to.
pub fn link(pid: u32, name: &str) -> Option<Vec<u8>> {
    of_any_thread(pid, |thread| {
        let target = rustix::fs::readlink(format!("/proc/{thread}/{name}"), Vec::new());
        target.ok().map(std::ffi::CString::into_bytes)
    })
}

/// Number of a process's namespace of that kind (`mnt`, `pid`).
pub fn namespace(pid: u32, kind: &str) -> Option<u32> {
    of_any_thread(pid, |thread| {
        let stat = rustix::fs::stat(format!("/proc/{thread}/ns/{kind}")).ok()?;
        u32::try_from(stat.st_ino).ok()
    })
}

/// The rest of a path that means something to one process alone: `fd/3` of `/dev/fd/3` and of `/proc/self/fd/3`, `cwd/x` of
/// `/proc/self/cwd/x`. `pid` is the process's number in its own namespace, when that is known: it may call itself by that.
pub fn below_own(path: &[u8], pid: Option<u32>) -> Option<&[u8]> {
    if path == b"/dev/stdin" {
        return Some(b"fd/0");
    }
    if path.starts_with(b"/dev/fd/") {
        return path.strip_prefix(b"/dev/");
    }
    let (name, rest) = split_at_slash(path.strip_prefix(b"/proc/")?)?;
    let is_own = matches!(name, b"self" | b"thread-self") || (pid.is_some() && parse(name) == pid);
    // Threads share what is looked for here.
    let of_thread = rest.strip_prefix(b"task/").and_then(split_at_slash);
    is_own.then(|| of_thread.map_or(rest, |(_, rest)| rest))
}

/// What is in front of the first slash, and behind it.
pub fn split_at_slash(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().position(|&byte| byte == b'/')?;
    Some((path.get(..slash)?, path.get(slash + 1..)?))
}

/// A pid or the number of a descriptor, as a name in `/proc`.
pub fn parse(number: &[u8]) -> Option<u32> {
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_process_own_is_found_by_all_names_of_it() {
        for (path, expected) in [
            ("/dev/stdin", Some("fd/0")),
            ("/dev/fd/3", Some("fd/3")),
            ("/proc/self/fd/3", Some("fd/3")),
            ("/proc/thread-self/cwd/x/y", Some("cwd/x/y")),
            ("/proc/self/task/9/root/x", Some("root/x")),
            ("/proc/7/fd/3", Some("fd/3")),
            ("/proc/8/fd/3", None),
            ("/proc/self", None),
            ("/tmp/proc/self/fd/3", None),
        ] {
            let own = |pid| below_own(path.as_bytes(), pid);
            assert_eq!(own(Some(7)), expected.map(str::as_bytes), "{path}");
            let is_by_number = path.starts_with("/proc/7/");
            assert_eq!(own(None).is_some(), expected.is_some() && !is_by_number);
        }
    }

    #[test]
    fn the_first_thread_is_asked_first_and_the_others_when_it_has_no_answer() {
        let pid = std::process::id();
        assert_eq!(of_any_thread(pid, Some), Some(pid));
        // A test has a thread of its own beside the first.
        let other = of_any_thread(pid, |thread| (thread != pid).then_some(thread)).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{other}/status")).unwrap();
        assert!(status.contains(&format!("Tgid:\t{pid}\n")), "{status}");
        assert_eq!(of_any_thread(u32::MAX, |_| None::<()>), None);
    }

    #[test]
    fn nothing_read_is_no_answer() {
        let pid = std::process::id();
        assert_eq!(read(pid, "comm", 1).unwrap().len(), 1);
        assert_eq!(read(pid, "comm", 0), None);
        assert_eq!(read(u32::MAX, "comm", 1), None);
        assert!(namespace(pid, "mnt").unwrap() > 0);
        assert_eq!(link(pid, "exe"), {
            let path = std::env::current_exe().unwrap();
            Some(path.into_os_string().into_encoded_bytes())
        });
    }
}
