//! The script among an interpreter's arguments, and its bytes.
//!
//! `sh x`, `python3 -u x.py` and `busybox sh x` run `x` as surely as `#!` does, and nothing in the kernel says so. Which
//! argument it is follows from each interpreter's own options.

use std::os::fd::OwnedFd;

use model::{Text, enriched::Process, event::FileFacts, provenance::MissingReason};
use rustix::fs::{Mode, OFlags, fstat};

use crate::{
    file_kind::Interpreter,
    proc::{self, key_of},
    provenance::open_below,
};

/// Descriptors of an interpreter that are looked at when the script's name is gone.
const DESCRIPTORS_MAX: usize = 256;

/// busybox's names of its shell.
const BUSYBOX_SHELLS: &[&[u8]] = &[b"sh", b"ash", b"hush", b"bash"];

/// The argument that names a script file, when there is one.
pub fn script_argument(interpreter: Interpreter, args: &[Text]) -> Option<&Text> {
    let mut args = args;
    if interpreter == Interpreter::Busybox {
        let mut name = args.first()?.file_name();
        if name.starts_with(b"busybox") {
            args = args.get(1..)?;
            name = args.first()?.file_name();
        }
        // A login shell's name begins with a dash.
        if !BUSYBOX_SHELLS.contains(&name.strip_prefix(b"-").unwrap_or(name)) {
            return None;
        }
    }
    let options = Options::of(interpreter);
    let mut rest = args.get(1..)?.iter();
    while let Some(arg) = rest.next() {
        let bytes = arg.as_bytes();
        match bytes {
            b"--" => return rest.next(),
            b"-" | b"" => return None,
            [b'-', b'-', ..] => {
                if options
                    .long_programs
                    .iter()
                    .any(|name| is_long_option(bytes, name))
                {
                    return None;
                }
                if options.long_with_value.contains(&bytes) {
                    rest.next();
                }
            }
            [sign @ (b'-' | b'+'), letters @ ..] => {
                if *sign == b'+' && interpreter != Interpreter::Shell {
                    return Some(arg);
                }
                match short_options(&options, letters) {
                    Short::Program => return None,
                    Short::File(Some(_)) => return None,
                    Short::File(None) => return rest.next(),
                    Short::ValueFollows => {
                        rest.next();
                    }
                    Short::Flags => {}
                }
            }
            _ => return Some(arg),
        }
    }
    None
}

/// How one interpreter reads options.
struct Options {
    /// What follows is a program text or a module, not a file: `-c`, `-e`, `-m`.
    programs: &'static [u8],
    /// Its value is the next argument, or the rest of this one.
    with_value: &'static [u8],
    /// Its value is the script.
    files: &'static [u8],
    long_programs: &'static [&'static [u8]],
    long_with_value: &'static [&'static [u8]],
}

impl Options {
    fn of(interpreter: Interpreter) -> Self {
        let (programs, with_value, files): (&[u8], &[u8], &[u8]) = match interpreter {
            Interpreter::Shell | Interpreter::Busybox => (b"cs", b"oO", b""),
            Interpreter::Python => (b"cm", b"WXQ", b""),
            Interpreter::Perl => (b"eEvV", b"", b""),
            Interpreter::Ruby => (b"ev", b"rIECFTKx", b""),
            Interpreter::Node => (b"ep", b"rC", b""),
            Interpreter::Php => (b"rBREamiv", b"dczt", b"fF"),
            Interpreter::Lua => (b"v", b"el", b""),
            Interpreter::Tcl => (b"", b"", b""),
        };
        let (long_programs, long_with_value): (&[&[u8]], &[&[u8]]) = match interpreter {
            Interpreter::Shell | Interpreter::Busybox => (
                &[b"--command", b"--help", b"--version"],
                &[b"--rcfile", b"--init-file"],
            ),
            Interpreter::Node => (
                &[
                    b"--eval",
                    b"--print",
                    b"--interactive",
                    b"--version",
                    b"--help",
                ],
                &[b"--require", b"--import", b"--loader", b"--conditions"],
            ),
            Interpreter::Php => (&[b"--run", b"--interactive", b"--version", b"--help"], &[]),
            _ => (&[b"--version", b"--help"], &[b"--encoding"]),
        };
        Self {
            programs,
            with_value,
            files,
            long_programs,
            long_with_value,
        }
    }
}

enum Short<'a> {
    Flags,
    ValueFollows,
    Program,
    File(Option<&'a [u8]>),
}

/// One argument of joined single-letter options.
fn short_options<'a>(options: &Options, letters: &'a [u8]) -> Short<'a> {
    for (at, letter) in letters.iter().enumerate() {
        let rest = letters.get(at + 1..).filter(|rest| !rest.is_empty());
        if options.programs.contains(letter) {
            return Short::Program;
        }
        if options.files.contains(letter) {
            return Short::File(rest);
        }
        if options.with_value.contains(letter) {
            return if rest.is_some() {
                Short::Flags
            } else {
                Short::ValueFollows
            };
        }
        // Perl's -I/dir, -Mmodule, -i.bak and the like: the rest is the value.
        if letter.is_ascii_uppercase() || *letter == b'/' {
            return Short::Flags;
        }
    }
    Short::Flags
}

fn is_long_option(arg: &[u8], name: &[u8]) -> bool {
    arg.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'='))
}

/// A script file, found for a process.
pub(crate) struct Script {
    pub(crate) facts: FileFacts,
    pub(crate) path_used: Text,
    pub(crate) fd: Option<OwnedFd>,
}

/// Opens the file that `argument` names for `process`: below its root; when the name is gone, among the descriptors of the
/// interpreter, which keeps its script open; when the process is gone, below the root of an ancestor in the same mount
/// namespace.
pub(crate) fn open_script(process: &Process, argument: &Text) -> Script {
    let pid = process.key.pid;
    let given = join(&process.cwd, argument);
    let wanted = normalize(&given);
    let found = open_named(pid, &given)
        .or_else(|| open_descriptor(pid, &wanted))
        .or_else(|| open_beside(process, &given));
    let facts = match &found {
        None => FileFacts {
            path: wanted,
            missing: Some(MissingReason::ProcessGone),
            ..FileFacts::default()
        },
        Some(fd) => facts_of(fd, wanted),
    };
    Script {
        facts,
        path_used: argument.clone(),
        fd: found,
    }
}

pub(crate) fn facts_of(fd: &OwnedFd, wanted: Text) -> FileFacts {
    let stat = fstat(fd).ok();
    let path = proc::path_of(fd).map(|mut path| {
        let is_unnamed = stat.as_ref().is_some_and(|stat| stat.st_nlink == 0);
        if is_unnamed && path.0.ends_with(b" (deleted)") {
            path.0.truncate(path.0.len() - b" (deleted)".len());
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

fn open_named(pid: u32, path: &Text) -> Option<OwnedFd> {
    // `/dev/stdin`, `/dev/fd/3`, `/proc/self/fd/3`: links that mean something to the process alone.
    for prefix in [&b"/dev/fd/"[..], b"/proc/self/fd/"] {
        if let Some(number) = path.as_bytes().strip_prefix(prefix) {
            let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
            return proc::open_link(pid, &format!("fd/{number}"));
        }
    }
    if path.as_bytes() == b"/dev/stdin" {
        return proc::open_link(pid, "fd/0");
    }
    open_below_root(pid, path)
}

fn open_below_root(pid: u32, path: &Text) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()?;
    open_below(&root, path.as_bytes())
}

/// A shell that has read a short script ends within a millisecond. What started it sees the same files.
fn open_beside(process: &Process, path: &Text) -> Option<OwnedFd> {
    let mnt_namespace = Some(process.namespaces.mnt);
    let ancestors = process.ancestors.iter().map(|ancestor| ancestor.key.pid);
    ancestors
        .filter(|&pid| proc::mnt_namespace_of(pid) == mnt_namespace)
        .find_map(|pid| open_below_root(pid, path))
}

/// bash keeps its script on descriptor 255, dash on 10, others on 3.
fn open_descriptor(pid: u32, path: &Text) -> Option<OwnedFd> {
    let gone = [path.as_bytes(), b" (deleted)"].concat();
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    entries.flatten().take(DESCRIPTORS_MAX).find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let target = rustix::fs::readlink(entry.path(), Vec::new()).ok()?;
        let is_it = target.as_bytes() == gone || target.as_bytes() == path.as_bytes();
        is_it.then(|| proc::open_link(pid, &format!("fd/{name}")))?
    })
}

/// `argument` as an absolute path.
fn join(cwd: &Text, argument: &Text) -> Text {
    if argument.as_bytes().starts_with(b"/") {
        return argument.clone();
    }
    Text([cwd.as_bytes(), b"/", argument.as_bytes()].concat())
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
    Text(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(interpreter: Interpreter, line: &str) -> Option<String> {
        let args: Vec<Text> = line.split(' ').map(Text::from).collect();
        script_argument(interpreter, &args).map(Text::to_string)
    }

    #[test]
    fn options_are_skipped_and_programs_in_arguments_are_no_files() {
        use Interpreter::*;
        for (interpreter, line, expected) in [
            (Shell, "sh x.sh a b", Some("x.sh")),
            (Shell, "bash -e ./x -c", Some("./x")),
            (Shell, "bash -euo pipefail x", Some("x")),
            (Shell, "bash +x -o errexit -- -x", Some("-x")),
            (Shell, "bash --norc --rcfile r x", Some("x")),
            (Shell, "sh -c x.sh", None),
            (Shell, "sh -ec x.sh", None),
            (Shell, "sh -s x", None),
            (Shell, "sh", None),
            (Shell, "-bash", None),
            (Busybox, "busybox sh x", Some("x")),
            (Busybox, "/bin/busybox ash -x x", Some("x")),
            (Busybox, "sh x", Some("x")),
            (Busybox, "busybox cat x", None),
            (Busybox, "ls x", None),
            (Python, "python3 -u -W ignore x.py", Some("x.py")),
            (Python, "python3 -Wignore -Es x.py", Some("x.py")),
            (Python, "python3 -m http.server", None),
            (Python, "python3 -c print(1)", None),
            (Python, "python3 -", None),
            (Perl, "perl -w -I/lib -MPOSIX x.pl", Some("x.pl")),
            (Perl, "perl -ne print x", None),
            (Ruby, "ruby -r json -w x.rb", Some("x.rb")),
            (Node, "node --require a.js x.js", Some("x.js")),
            (Node, "node --eval=1 x.js", None),
            (Php, "php -d a=b -f x.php", Some("x.php")),
            (Php, "php -r code x", None),
            (Lua, "lua -l mod x.lua", Some("x.lua")),
            (Tcl, "tclsh x.tcl", Some("x.tcl")),
        ] {
            assert_eq!(script(interpreter, line).as_deref(), expected, "{line}");
        }
    }

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
