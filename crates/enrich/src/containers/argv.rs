//! Reads what an engine's own process (a shim, conmon, runc) was started with, to find the files of engines with custom roots.

use std::path::{Path, PathBuf};

use super::process::{absolute, path_of};

/// An engine's process that watches over a container from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineProcess {
    /// `containerd-shim-runc-v2`, of containerd or Docker.
    Shim {
        /// containerd's namespace (`moby` for Docker, `k8s.io` for CRI).
        namespace: String,
        /// The container, or the pod's first one.
        id: String,
        /// Its working directory: the bundle.
        bundle: PathBuf,
    },
    /// conmon, of Podman or CRI-O.
    Conmon {
        /// The container.
        id: String,
        /// The bundle, which is the container's `userdata` directory.
        bundle: PathBuf,
        /// Podman's `--root`, from the command conmon runs at the end.
        storage_root: Option<PathBuf>,
        /// The log file, when it is one.
        log_path: Option<PathBuf>,
    },
    /// runc (or crun, youki) in the foreground.
    Runc {
        /// `--root`, where the state of all its containers is.
        root: Option<PathBuf>,
        /// `--bundle`, or its working directory when it makes a container there.
        bundle: Option<PathBuf>,
        /// The container.
        id: String,
    },
}

impl EngineProcess {
    /// The container that it names.
    pub fn id(&self) -> &str {
        match self {
            Self::Shim { id, .. } | Self::Conmon { id, .. } | Self::Runc { id, .. } => id,
        }
    }
}

/// Reads `/proc/PID/cmdline`; `directory` is the process's working directory. `None` for anything but an engine's process.
pub fn parse(cmdline: &[u8], directory: &Path) -> Option<EngineProcess> {
    let cmdline = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    let mut args = cmdline.split(|&byte| byte == 0);
    let program = args.next()?.rsplit(|&byte| byte == b'/').next()?;
    let args: Vec<&[u8]> = args.collect();
    match program {
        b"conmon" => parse_conmon(&args, directory),
        b"runc" | b"crun" | b"youki" => parse_runc(&args, directory),
        _ if program.starts_with(b"containerd-shim") => Some(EngineProcess::Shim {
            namespace: text(value_of(&args, &[b"-namespace", b"--namespace"])?)?,
            id: text(value_of(&args, &[b"-id", b"--id"])?)?,
            bundle: directory.to_owned(),
        }),
        _ => None,
    }
}

fn parse_conmon(args: &[&[u8]], directory: &Path) -> Option<EngineProcess> {
    let id = text(value_of(args, &[b"-c", b"--cid"])?)?;
    let bundle = absolute(directory, value_of(args, &[b"-b", b"--bundle"])?);
    let exit_args: Vec<&[u8]> = args
        .windows(2)
        .filter_map(|pair| match pair {
            [flag, value] if *flag == b"--exit-command-arg" => Some(*value),
            _ => None,
        })
        .collect();
    let log_path = value_of(args, &[b"-l", b"--log-path"]).and_then(|value| {
        let path = value
            .strip_prefix(b"k8s-file:".as_slice())
            .or_else(|| value.strip_prefix(b"json-file:".as_slice()))
            .unwrap_or(value);
        path.starts_with(b"/").then(|| path_of(path))
    });
    Some(EngineProcess::Conmon {
        id,
        bundle,
        storage_root: value_of(&exit_args, &[b"--root"]).map(|root| absolute(directory, root)),
        log_path,
    })
}

/// Options of runc that take a value as the next argument, of all commands that name a container.
const RUNC_VALUE_OPTIONS: &[&[u8]] = &[
    b"--additional-gids",
    b"--apparmor",
    b"--cap",
    b"--cgroup",
    b"--cgroup-manager",
    b"--console-socket",
    b"--criu",
    b"--cwd",
    b"--env",
    b"--log",
    b"--log-format",
    b"--pid-file",
    b"--pidfd-socket",
    b"--preserve-fds",
    b"--process",
    b"--process-label",
    b"--root",
    b"--rootless",
    b"--user",
    b"-c",
    b"-e",
    b"-g",
    b"-p",
    b"-u",
];

fn parse_runc(args: &[&[u8]], directory: &Path) -> Option<EngineProcess> {
    let mut root = None;
    let mut bundle = None;
    let mut command = None;
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        if let Some(value) = arg.strip_prefix(b"--root=".as_slice()) {
            root = Some(absolute(directory, value));
        } else if arg == b"--root" {
            root = Some(absolute(directory, args.next()?));
        } else if let Some(value) = arg.strip_prefix(b"--bundle=".as_slice()) {
            bundle = Some(absolute(directory, value));
        } else if arg == b"--bundle" || arg == b"-b" {
            bundle = Some(absolute(directory, args.next()?));
        } else if RUNC_VALUE_OPTIONS.contains(&arg) {
            args.next()?;
        } else if arg.starts_with(b"-") {
            // A switch, or `--name=value`.
        } else if command.is_none() {
            command = Some(arg);
        } else {
            let command = command?;
            if ![&b"run"[..], b"create", b"exec", b"restore", b"start"].contains(&command) {
                return None;
            }
            let makes = [&b"run"[..], b"create", b"restore"].contains(&command);
            return Some(EngineProcess::Runc {
                root,
                bundle: bundle.or_else(|| makes.then(|| directory.to_owned())),
                id: text(arg)?,
            });
        }
    }
    None
}

fn value_of<'a>(args: &[&'a [u8]], names: &[&[u8]]) -> Option<&'a [u8]> {
    args.windows(2).find_map(|pair| match pair {
        [name, value] if names.contains(name) => Some(*value),
        _ => None,
    })
}

/// An id or a name: no separator, so that it can be part of a path.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_name = !text.is_empty() && !text.contains('/') && text != "." && text != "..";
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command_line: &str, expect: Option<EngineProcess>) {
        let cmdline: String = command_line
            .split(' ')
            .map(|arg| format!("{arg}\0"))
            .collect();
        assert_eq!(
            parse(cmdline.as_bytes(), Path::new("/cwd")),
            expect,
            "{command_line}"
        );
    }

    #[test]
    fn shims() {
        check(
            "/usr/bin/containerd-shim-runc-v2 -namespace default -id ct1 -address /run/c.sock",
            Some(EngineProcess::Shim {
                namespace: "default".into(),
                id: "ct1".into(),
                bundle: "/cwd".into(),
            }),
        );
        check("containerd-shim-runc-v2 -namespace default -id ../x", None);
        check("containerd-shim-runc-v2 -id", None);
    }

    #[test]
    fn conmon_says_where_the_storage_is() {
        check(
            "/usr/bin/conmon --api-version 1 -c c1 -u c1 -r /usr/bin/runc -b /s/overlay-containers/c1/userdata \
             -n web -l k8s-file:/s/overlay-containers/c1/userdata/ctr.log --exit-command /usr/bin/podman \
             --exit-command-arg --root --exit-command-arg /s --exit-command-arg --runroot --exit-command-arg /r",
            Some(EngineProcess::Conmon {
                id: "c1".into(),
                bundle: "/s/overlay-containers/c1/userdata".into(),
                storage_root: Some("/s".into()),
                log_path: Some("/s/overlay-containers/c1/userdata/ctr.log".into()),
            }),
        );
        check(
            "conmon -c c1 -b rel -l journald",
            Some(EngineProcess::Conmon {
                id: "c1".into(),
                bundle: "/cwd/rel".into(),
                storage_root: None,
                log_path: None,
            }),
        );
    }

    #[test]
    fn runc_in_the_foreground() {
        let runc = |root: Option<&str>, bundle: Option<&str>| {
            Some(EngineProcess::Runc {
                root: root.map(PathBuf::from),
                bundle: bundle.map(PathBuf::from),
                id: "c1".into(),
            })
        };
        check(
            "runc --root /r run --bundle /b c1",
            runc(Some("/r"), Some("/b")),
        );
        check(
            "runc --root=r --debug run -d -b b c1",
            runc(Some("/cwd/r"), Some("/cwd/b")),
        );
        check(
            "runc create --bundle=/b --pid-file /p c1",
            runc(None, Some("/b")),
        );
        check(
            "runc exec -t -e A=B --user 1:1 c1 sh -c id",
            runc(None, None),
        );
        check("/usr/sbin/runc run c1", runc(None, Some("/cwd")));
        check("runc list", None);
        check("runc --root", None);
        check("runc init", None);
        check("bash -c runc run c1", None);
    }
}
