//! The host itself: what the sensors need of the kernel, privileges, limits.

use std::fs;

use rustix::{
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};

use super::{Check, Status};

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`: the initial pid namespace's inode number, the same on every host.
const PID_NAMESPACE_INITIAL: &str = "pid:[4026531836]";

/// Open files that a busy moment can take: descriptors of executed files that wait to be hashed.
const OPEN_FILES_WANTED: u64 = 4096;

pub(super) fn examine() -> Vec<Check> {
    let mut checks = sensors();
    checks.extend([privileges(), pid_namespace(), overlay(), open_files()]);
    checks
}

fn privileges() -> Check {
    const NAME: &str = "privileges";
    let wanted = [
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
        (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
    ];
    let effective = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => return Check::note(NAME, format!("capabilities cannot be read: {error}")),
    };
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(capability, _)| !effective.contains(*capability))
        .map(|(_, name)| *name)
        .collect();
    let user = rustix::process::geteuid().as_raw();
    if missing.is_empty() {
        return Check::ok(
            NAME,
            format!("user {user}, all capabilities that are needed"),
        );
    }
    Check::bad(
        NAME,
        Status::Failed,
        format!("user {user}, without {}", missing.join(", ")),
        "eBPF programs and fanotify need CAP_SYS_ADMIN, other processes' files need CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        "Run it as root: `sudo hullwatch doctor`.",
    )
}

pub(super) fn pid_namespace() -> Check {
    const NAME: &str = "pid namespace";
    match fs::read_link("/proc/self/ns/pid") {
        Ok(link) if link.as_os_str() == PID_NAMESPACE_INITIAL => Check::ok(NAME, "the host's"),
        Ok(_) => Check::bad(
            NAME,
            Status::Failed,
            "not the host's: this runs in a container",
            "the kernel's pids do not fit this /proc, so files of other containers cannot be found by pid",
            "Run it on the host, or in a container with the host's pid namespace (`--pid=host`).",
        ),
        Err(error) => Check::bad(
            NAME,
            Status::Failed,
            format!("/proc/self/ns/pid: {error}"),
            "without /proc nothing can be told about a process",
            "Mount proc at /proc.",
        ),
    }
}

fn overlay() -> Check {
    const NAME: &str = "overlay filesystem";
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay")
    {
        return Check::ok(NAME, "known to the kernel");
    }
    Check::note(
        NAME,
        "not loaded (it is when a container engine first uses it)",
    )
}

fn open_files() -> Check {
    const NAME: &str = "open files";
    let Some(limit) = getrlimit(Resource::Nofile).maximum else {
        return Check::ok(NAME, "no limit");
    };
    if limit >= OPEN_FILES_WANTED {
        return Check::ok(NAME, format!("at most {limit}"));
    }
    Check::bad(
        NAME,
        Status::Degraded,
        format!("at most {limit}"),
        "when many programs start at once, some of their files cannot be kept open until they are hashed",
        "Raise the limit, e.g. `ulimit -Hn 65536`, or LimitNOFILE= of the systemd unit.",
    )
}

/// What the sensors try for themselves, programs really loaded.
fn sensors() -> Vec<Check> {
    let probed = sensor_ebpf::probe().into_iter();
    let check = |capability: sensor_ebpf::Capability| Check {
        name: capability.name,
        status: match (capability.is_present, capability.is_required) {
            (true, _) => Status::Ok,
            (false, true) => Status::Failed,
            (false, false) => Status::Degraded,
        },
        found: capability.detail,
        cost: (!capability.is_present).then_some(capability.cost),
        advice: None,
    };
    probed.map(check).collect()
}
