//! The host itself: kernel, privileges, control groups, and the sensors by really starting them.

use std::fs;

use rustix::{
    process::{Resource, getrlimit},
    system::uname,
    thread::{CapabilitySet, capabilities},
};

use model::{
    channel,
    event::{Sensor, SensorCondition},
};

use super::{Check, Status};

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`: the initial pid namespace's inode number, the same on every host.
const PID_NAMESPACE_INITIAL: &str = "pid:[4026531836]";

/// Open files that a busy moment can take: descriptors of executed files that wait to be hashed.
const OPEN_FILES_WANTED: u64 = 4096;

pub(super) fn examine() -> Vec<Check> {
    let mut checks = vec![
        kernel(),
        btf(),
        privileges(),
        pid_namespace(),
        cgroups(),
        overlay(),
        open_files(),
    ];
    checks.extend(sensors());
    checks
}

fn kernel() -> Check {
    let name = uname();
    let release = name.release().to_string_lossy().into_owned();
    let found = format!("Linux {release}, {}", name.machine().to_string_lossy());
    match major_minor(&release) {
        Some(version) if version < (5, 8) => Check::bad(
            "kernel",
            Status::Failed,
            found,
            "eBPF ring buffers came with Linux 5.8; without them no exec is seen",
            "Use a newer kernel.",
        ),
        _ => Check::ok("kernel", found),
    }
}

fn major_minor(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn btf() -> Check {
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    match fs::metadata(PATH) {
        Ok(file) => Check::ok(
            "kernel types (BTF)",
            format!("{PATH}, {} KiB", file.len() / 1024),
        ),
        Err(error) => Check::bad(
            "kernel types (BTF)",
            Status::Failed,
            format!("{PATH}: {error}"),
            "the eBPF programs fit themselves to the kernel through it; without it no exec is seen",
            "Use a kernel with CONFIG_DEBUG_INFO_BTF=y (Debian 11, Ubuntu 20.10, RHEL 8.2 and later have it), and mount sysfs.",
        ),
    }
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

fn pid_namespace() -> Check {
    const NAME: &str = "pid namespace";
    match fs::read_link("/proc/self/ns/pid") {
        Ok(link) if link.as_os_str() == PID_NAMESPACE_INITIAL => Check::ok(NAME, "the host's"),
        Ok(_) => Check::bad(
            NAME,
            Status::Degraded,
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

fn cgroups() -> Check {
    const NAME: &str = "control groups";
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = |wanted: &str| {
        mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                Some((fields.next()?, fields.next()?))
            })
            .find(|(_, kind)| *kind == wanted)
            .map(|(path, _)| path.to_owned())
    };
    match (mounted("cgroup"), mounted("cgroup2")) {
        (None, Some(path)) => Check::ok(NAME, format!("version 2 at {path}")),
        (Some(_), Some(path)) => Check::ok(
            NAME,
            format!("versions 1 and 2 (hybrid), version 2 at {path}"),
        ),
        (Some(path), None) => Check::ok(NAME, format!("version 1, e.g. at {path}")),
        (None, None) => Check::bad(
            NAME,
            Status::Degraded,
            "none is mounted",
            "containers are told apart by their control groups",
            "Mount cgroup2 at /sys/fs/cgroup.",
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

/// Starts the sensors for a moment: what loads and attaches here does so when watching too.
fn sensors() -> Vec<Check> {
    const EBPF: &str = "eBPF programs";
    // Nobody listens: what they see in this moment is dropped.
    let (sender, _) = channel::bounded(1);
    let sensors = match sensor_ebpf::start(sensor_ebpf::Config::default(), sender) {
        Ok(sensors) => sensors,
        Err(error) => {
            return vec![Check::bad(
                EBPF,
                Status::Failed,
                format!("{:#}", anyhow::Error::from(error)),
                "without them no exec is seen",
                "Run as root, and see that the kernel has CONFIG_BPF_SYSCALL and BTF and is not in lockdown mode.",
            )];
        }
    };
    let states = sensors.states();
    sensors.stop();
    states
        .into_iter()
        .filter_map(|state| {
            let (name, cost) = match state.sensor {
                Sensor::Ebpf => (EBPF, "execs are not all seen"),
                Sensor::Fanotify => (
                    "fanotify",
                    "a program that is deleted at once cannot be hashed, nor can a script that a shell reads by itself",
                ),
                Sensor::Perf => ("perf events", "libraries that a program loads are not seen"),
                Sensor::Agent => return None,
            };
            Some(match state.condition {
                SensorCondition::Running => Check::ok(name, state.detail),
                SensorCondition::Lost | SensorCondition::Gap => Check::bad(
                    name,
                    Status::Degraded,
                    state.detail,
                    cost,
                    "Run as root on the host itself, with a kernel that has CONFIG_FANOTIFY and CONFIG_PERF_EVENTS.",
                ),
            })
        })
        .collect()
}
