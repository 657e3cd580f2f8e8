//! What this host can do, one thing at a time, for `hullwatch doctor`.

use std::path::Path;

use libbpf_rs::MapType;

use crate::{bpf, running::Hierarchies, sys};

/// One thing that the sensor needs or can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is, e.g. `eBPF ring buffer`.
    pub name: &'static str,
    /// Whether the host has it.
    pub is_present: bool,
    /// Without it the sensor does not start.
    pub is_required: bool,
    /// What was found, e.g. the kernel's version or the error.
    pub detail: String,
    /// What its absence costs, in one sentence.
    pub cost: &'static str,
}

/// Tries everything once. Needs the privileges of the agent; leaves nothing behind.
pub fn probe() -> Vec<Capability> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut found = vec![
        Capability {
            name: "Linux 5.8 or newer",
            is_present: is_linux((5, 8)),
            is_required: true,
            detail: release,
            cost: "Older kernels have no BPF ring buffer: nothing can be watched.",
        },
        Capability {
            name: "kernel type information (BTF)",
            is_present: Path::new("/sys/kernel/btf/vmlinux").exists(),
            is_required: true,
            detail: "/sys/kernel/btf/vmlinux".to_owned(),
            cost: "Without it the probes do not find the kernel's fields: nothing can be watched.",
        },
    ];
    let ring = MapType::RingBuf.is_supported();
    found.push(Capability {
        name: "eBPF ring buffer",
        is_present: matches!(ring, Ok(true)),
        is_required: true,
        detail: ring.map_or_else(|error| error.to_string(), present),
        cost: "Without it no event can be handed over: nothing can be watched.",
    });
    // Not by `ProgramType::Tracing`: libbpf tries an fentry program, which hosts refuse that take ours.
    let probes = bpf::check();
    found.push(Capability {
        name: "the sensor's own eBPF programs",
        is_present: probes.is_ok(),
        is_required: true,
        detail: probes.map_or_else(chain, |()| "accepted by the kernel".to_owned()),
        cost: "Without them nothing can be watched.",
    });
    let optional = [
        (
            "eBPF task iterator",
            crate::bpf::running_processes().map(|_| ()),
            "Without it start times of processes that ran before are rounded, and their end may not be matched.",
        ),
        (
            "fanotify FAN_OPEN_EXEC",
            sys::fanotify_init().and_then(|group| {
                let root =
                    rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
                sys::fanotify_mark(group, true, sys::Scope::Mount, root)
            }),
            "Without it scripts and files without format are not seen; each program is opened as it begins, which costs more.",
        ),
        (
            "fanotify marks on filesystems",
            sys::fanotify_init().and_then(|group| {
                let root =
                    rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
                sys::fanotify_mark(group, true, sys::Scope::Filesystem, root)
            }),
            "Without them execs in namespaces that a container makes by itself are hashed only while they run.",
        ),
        (
            "eBPF probes of mappings",
            match bpf::check_loads() {
                Ok(true) => Ok(()),
                Ok(false) if !bpf::traces_mappings() => {
                    Err(std::io::Error::other("need Linux 6.14 or newer"))
                }
                Ok(false) => Err(std::io::Error::other("this kernel's are unknown")),
                Err(error) => Err(std::io::Error::other(chain(error))),
            },
            "Without them perf tells library loads, which costs more, and one of a process that ends at once may not be read.",
        ),
        (
            "perf mapping records",
            sys::PerfBuffer::open(0, 1).map(|_| ()),
            "Without them, and without the probes of mappings, library loads are not seen: no library or OpenSSL finding.",
        ),
    ];
    found.extend(optional.map(|(name, result, cost)| Capability {
        name,
        is_present: result.is_ok(),
        is_required: false,
        detail: result.map_or_else(|error| error.to_string(), |()| present(true)),
        cost,
    }));
    let hierarchies = Hierarchies::new();
    found.push(Capability {
        name: "control groups",
        is_present: hierarchies.version().is_some(),
        is_required: false,
        detail: hierarchies
            .version()
            .unwrap_or("no hierarchy is mounted")
            .to_owned(),
        cost: "Without control groups containers cannot be told apart by engine.",
    });
    found
}

fn present(is_present: bool) -> String {
    if is_present {
        "works"
    } else {
        "not supported by the kernel"
    }
    .to_owned()
}

/// An error with its causes.
fn chain(error: bpf::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether the kernel is of this version or newer.
pub(crate) fn is_linux(version: (u32, u32)) -> bool {
    is_new_enough(
        &rustix::system::uname().release().to_string_lossy(),
        version,
    )
}

fn is_new_enough(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map_while(|word| word.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= version,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        for (release, expected) in [
            ("6.18.44-fc-v595", true),
            ("5.8.0", true),
            ("5.10.0-28-amd64", true),
            ("5.7.19", false),
            ("4.19.0-26-amd64", false),
            ("unknown", false),
        ] {
            assert_eq!(is_new_enough(release, (5, 8)), expected, "{release}");
        }
    }
}
