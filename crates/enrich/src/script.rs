//! The script among an interpreter's arguments, and its bytes.
//!
//! `sh x`, `python3 -u x.py`, `busybox sh x` and `sh < x` run `x` as surely as `#!` does, and nothing in the kernel says so.
//! Which argument it is follows from each interpreter's own options; behind options, other files among the first arguments are
//! hashed as well, so that no option hides a script that is known.

use std::{os::fd::OwnedFd, time::SystemTime};

use model::{
    Text, Timestamp, enriched::Process, event::FileFacts, limits::SCRIPT_FILES_MAX,
    provenance::MissingReason,
};
use proc_reader::{below_own, parse, split_at_slash};
use rustix::fs::{
    FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat, openat2,
    readlinkat,
};

use crate::{
    file_kind::Interpreter,
    proc::{self, key_of},
    provenance::open_below,
    script_arguments::{candidates, is_first},
};

/// Links that are followed for one name, as the kernel does (`MAXSYMLINKS`); and as often again behind a link of `/proc`.
const LINKS_MAX: u32 = 40;

/// Descriptors of an interpreter that are looked at when the script's name is gone.
const DESCRIPTORS_MAX: usize = 256;

/// A script file, found for a process.
pub(crate) struct Script {
    pub(crate) facts: FileFacts,
    pub(crate) path_used: Text,
    pub(crate) fd: Option<OwnedFd>,
}

/// Opens the likeliest script of a program that is not yet known to be an interpreter.
pub(crate) fn open_early(process: &Process, args: &[Text]) -> Option<(Text, Script)> {
    let candidates = candidates(Interpreter::Shell, args, &process.stdio[0]);
    let likeliest = candidates.into_iter().next()?;
    let script = open_script(process, &likeliest);
    Some((likeliest, script))
}

/// Opens what may be the script of an interpreter that was started with those arguments, the likeliest first. `opened` is one
/// that was opened before; `named`, what the sensor has opened.
pub(crate) fn open_scripts(
    interpreter: Interpreter,
    process: &Process,
    args: &[Text],
    opened: Option<(Text, Script)>,
    named: &[(Text, OwnedFd)],
) -> Vec<Script> {
    let candidates = candidates(interpreter, args, &process.stdio[0]);
    let Some(likeliest) = candidates.first() else {
        return Vec::new();
    };
    let scripts = match opened {
        Some((candidate, script)) if candidate == *likeliest => vec![script],
        _ => open_likeliest(process, likeliest, named),
    };
    let is_found = scripts.iter().any(|script| script.fd.is_some());
    if is_found && is_first(interpreter, args, likeliest) {
        scripts
    } else {
        open_others(process, &candidates, scripts, named)
    }
}

/// The files that `argument` names, at least one: what the sensor has opened, and what is there by now, as in [`both`].
pub(crate) fn open_likeliest(
    process: &Process,
    argument: &Text,
    named: &[(Text, OwnedFd)],
) -> Vec<Script> {
    let now = open_script(process, argument);
    let Some(given) = open_given(named, argument) else {
        return vec![now];
    };
    let script = |fd| Script::of(process, argument, fd);
    both(given, now.fd).map(script).collect()
}

/// Opens those of `candidates` that are files for `process`. `likeliest` are those of the first of them, opened; it stays when no
/// other is a file.
fn open_others(
    process: &Process,
    candidates: &[Text],
    likeliest: Vec<Script>,
    named: &[(Text, OwnedFd)],
) -> Vec<Script> {
    let pid = process.key.pid;
    let is_gone = proc_reader::namespace(pid, "mnt").is_none();
    let is_found = likeliest.iter().any(|script| script.fd.is_some());
    let mut opened = Vec::new();
    for argument in candidates.iter().skip(1) {
        if opened.len() + 1 >= SCRIPT_FILES_MAX {
            break;
        }
        let path = join(&process.cwd, argument);
        let now = if is_gone {
            open_beside(process, &path)
        } else {
            open_named(process, &path)
        };
        let script = |fd| Script::of(process, argument, fd);
        match open_given(named, argument) {
            Some(given) => opened.extend(both(given, now).map(script)),
            None => opened.extend(now.map(script)),
        }
    }
    if is_found || opened.is_empty() {
        opened.splice(0..0, likeliest);
    }
    opened.truncate(SCRIPT_FILES_MAX);
    opened
}

/// What the sensor has opened for an argument, which may be gone by now.
fn open_given(named: &[(Text, OwnedFd)], argument: &Text) -> Option<OwnedFd> {
    let (_, file) = named.iter().find(|(name, _)| name == argument)?;
    proc::reopen_regular(file)
}

/// What the sensor has opened, and what is there by now if that is another file: who starts an interpreter can put its script there
/// after the exec.
fn both(given: OwnedFd, now: Option<OwnedFd>) -> impl Iterator<Item = OwnedFd> {
    let inode = |fd: &OwnedFd| fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let other = now.filter(|now| inode(now) != inode(&given));
    std::iter::once(given).chain(other)
}

/// Opens the file that `argument` names for `process`: below its root; when the name is gone, among the descriptors of the
/// interpreter, which keeps its script open; when the process is gone, below the root of an ancestor in the same mount namespace.
pub(crate) fn open_script(process: &Process, argument: &Text) -> Script {
    let path = join(&process.cwd, argument);
    let wanted = normalize(&path);
    let found = open_named(process, &path)
        .or_else(|| open_descriptor(process.key.pid, &wanted))
        .or_else(|| open_beside(process, &path));
    match found {
        Some(fd) => Script::of(process, argument, fd),
        None => Script {
            facts: FileFacts {
                path: wanted,
                missing: Some(MissingReason::ProcessGone),
                ..FileFacts::default()
            },
            path_used: argument.clone(),
            fd: None,
        },
    }
}

impl Script {
    fn of(process: &Process, argument: &Text, fd: OwnedFd) -> Self {
        Self {
            facts: script_facts(&fd, normalize(&join(&process.cwd, argument))),
            path_used: argument.clone(),
            fd: Some(fd),
        }
    }
}

/// Nobody looks whether a script is mapped for writing.
fn script_facts(fd: &OwnedFd, wanted: Text) -> FileFacts {
    let facts = facts_of(fd, wanted);
    let now = Timestamp::from(SystemTime::now());
    FileFacts {
        is_unsettled: facts.key.is_some_and(|key| !key.is_written_back(now)),
        ..facts
    }
}

/// The bytes of a script whose descriptor came with an earlier exec of its process: fanotify merges them. By then they may have
/// changed.
pub(crate) fn open_again(process: &Process, used: &Text, facts: &FileFacts) -> Option<OwnedFd> {
    let inode = |facts: &FileFacts| Some(facts.key?.inode);
    let found = open_script(process, used);
    found.fd.filter(|_| inode(&found.facts) == inode(facts))
}

pub(crate) fn facts_of(fd: &OwnedFd, wanted: Text) -> FileFacts {
    let stat = fstat(fd).ok();
    let path = proc::path_of(fd).map(|mut path| {
        let is_unnamed = stat.as_ref().is_some_and(|stat| stat.st_nlink == 0);
        if is_unnamed && path.as_bytes().ends_with(b" (deleted)") {
            path.truncate(path.len() - b" (deleted)".len());
        }
        path
    });
    FileFacts {
        is_memfd: path
            .as_ref()
            .is_some_and(|path| path.as_bytes().starts_with(b"/memfd:"))
            && stat.as_ref().is_some_and(|stat| stat.st_nlink == 0),
        path: path.unwrap_or(wanted),
        key: stat.as_ref().map(key_of),
        link_count: stat.map_or(0, |stat| u32::try_from(stat.st_nlink).unwrap_or(u32::MAX)),
        mount_id: proc::mount_id_of(fd).unwrap_or(0),
        ..FileFacts::default()
    }
}

/// First what is there by that name: a container can mount its own files on `/proc` and `/dev/fd`. No link of `/proc` is followed
/// for that.
fn open_named(process: &Process, path: &Text) -> Option<OwnedFd> {
    let pid = process.key.pid;
    let mut path = path.clone();
    for _ in 0..LINKS_MAX {
        let found = open_below_root(pid, &path);
        if found.is_some() {
            return found;
        }
        path = follow_links(pid, &path)?;
        let Some(own) = below_own(path.as_bytes(), Some(process.pid_in_namespace)) else {
            return open_held(pid, path.as_bytes());
        };
        if let Some(descriptor) = own.strip_prefix(b"fd/") {
            return open_own_descriptor(pid, descriptor);
        }
        path = match own.strip_prefix(b"cwd/") {
            Some(rest) => join(&process.cwd, &rest.into()),
            None => Text::from([b"/", own.strip_prefix(b"root/")?].concat()),
        };
    }
    None
}

/// Where links of the container's own lead to, up to what only the process can follow: a link of `/proc`, or what is not there.
/// `None` when `..` comes behind that, which may lead anywhere: better not read than taken for another.
fn follow_links(pid: u32, path: &Text) -> Option<Text> {
    let root = proc_reader::open(pid, "root", OFlags::PATH | OFlags::DIRECTORY)?;
    let parts_of = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|&byte| byte == b'/').rev();
        parts.map(<[u8]>::to_vec).collect()
    };
    let mut rest = parts_of(path.as_bytes());
    let (mut followed, mut links) = (Vec::new(), 0);
    while let Some(part) = rest.pop() {
        match &part[..] {
            b"" | b"." => continue,
            b".." => {
                let parent = followed.iter().rposition(|&byte| byte == b'/');
                followed.truncate(parent.unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let before = followed.len();
        followed.push(b'/');
        followed.extend_from_slice(&part);
        match look_at(&root, &followed) {
            Some(Step::Link(target)) => {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                let start = if target.starts_with(b"/") { 0 } else { before };
                followed.truncate(start);
                rest.extend(parts_of(&target));
            }
            Some(Step::Other) => {}
            None => break,
        }
    }
    for part in rest.iter().rev() {
        match &part[..] {
            b"" | b"." => {}
            b".." => return None,
            part => {
                followed.push(b'/');
                followed.extend_from_slice(part);
            }
        }
    }
    Some(Text::from(followed))
}

/// What a name is, below a root.
enum Step {
    /// A link, to this.
    Link(Vec<u8>),
    /// No link.
    Other,
}

/// What the last name of `path` is; `None` when it is not there, or a link that only a process can follow.
fn look_at(root: &OwnedFd, path: &[u8]) -> Option<Step> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, path, flags, Mode::empty(), resolve).ok()?;
    if !FileType::from_raw_mode(fstat(&found).ok()?.st_mode).is_symlink() {
        return Some(Step::Other);
    }
    if fstatfs(&found).ok()?.f_type == PROC_SUPER_MAGIC {
        return None;
    }
    let target = readlinkat(&found, "", Vec::new()).ok()?;
    Some(Step::Link(target.into_bytes()))
}

/// What is at `/proc/PID/fd/descriptor`.
fn open_own_descriptor(pid: u32, descriptor: &[u8]) -> Option<OwnedFd> {
    let link = |number| Some(format!("fd/{}", parse(number)?));
    // Below a directory that is open, as execveat(2) names it, too.
    match split_at_slash(descriptor) {
        None => proc::open_link(pid, &link(descriptor)?),
        Some((number, rest)) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            open_below(&proc_reader::open(pid, &link(number)?, flags)?, rest)
        }
    }
}

/// What another process of the container has open, by `/proc/1/fd/3`.
fn open_held(pid: u32, path: &[u8]) -> Option<OwnedFd> {
    let (holder, rest) = split_at_slash(path.strip_prefix(b"/proc/")?)?;
    let (holder, number) = (parse(holder)?, parse(rest.strip_prefix(b"fd/")?)?);
    let root = proc_reader::open(pid, "root", OFlags::PATH | OFlags::DIRECTORY)?;
    let directory = openat2(
        &root,
        format!("proc/{holder}/fd"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()?;
    // Whatever else the container has there could be links to anywhere.
    if fstatfs(&directory).ok()?.f_type != PROC_SUPER_MAGIC {
        return None;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat(&directory, number.to_string(), flags, Mode::empty()).ok()?;
    proc::reopen_regular(&found)
}

fn open_below_root(pid: u32, path: &Text) -> Option<OwnedFd> {
    let root = proc_reader::open(pid, "root", OFlags::PATH | OFlags::DIRECTORY)?;
    open_below(&root, path.as_bytes())
}

/// A shell that has read a short script ends within a millisecond. What started it sees the same files.
fn open_beside(process: &Process, path: &Text) -> Option<OwnedFd> {
    let mnt_namespace = Some(process.namespaces.mnt);
    let ancestors = process.ancestors.iter().map(|ancestor| ancestor.key.pid);
    ancestors
        .filter(|&pid| proc_reader::namespace(pid, "mnt") == mnt_namespace)
        .find_map(|pid| open_below_root(pid, path))
}

/// bash keeps its script on descriptor 255, dash on 10, others on 3.
fn open_descriptor(pid: u32, path: &Text) -> Option<OwnedFd> {
    let gone = [path.as_bytes(), b" (deleted)"].concat();
    proc_reader::of_any_thread(pid, |thread| {
        let entries = std::fs::read_dir(format!("/proc/{thread}/fd")).ok()?;
        entries.flatten().take(DESCRIPTORS_MAX).find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let target = rustix::fs::readlink(entry.path(), Vec::new()).ok()?;
            let is_it = target.as_bytes() == gone || target.as_bytes() == path.as_bytes();
            is_it.then(|| proc::open_link(thread, &format!("fd/{name}")))?
        })
    })
}

/// `argument` as an absolute path.
fn join(cwd: &Text, argument: &Text) -> Text {
    if argument.as_bytes().starts_with(b"/") {
        return argument.clone();
    }
    Text::from([cwd.as_bytes(), b"/", argument.as_bytes()].concat())
}

/// Leaves out `.`, `..` and doubled slashes. Not right after a symlink: it is for names that can no longer be opened.
fn normalize(path: &Text) -> Text {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.as_bytes().split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let mut normal = Vec::with_capacity(path.as_bytes().len());
    for part in parts {
        normal.push(b'/');
        normal.extend_from_slice(part);
    }
    Text::from(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_names_start_at_the_working_directory() {
        let absolute = |cwd: &str, path: &str| {
            normalize(&join(&Text::from(cwd), &Text::from(path))).to_string()
        };
        assert_eq!(absolute("/a/b", "./x"), "/a/b/x");
        assert_eq!(absolute("/", "../../x"), "/x");
        assert_eq!(absolute("/a", "/b//./x"), "/b/x");
    }
}
