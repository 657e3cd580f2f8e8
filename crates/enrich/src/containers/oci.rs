//! The OCI runtime configuration (`config.json` of a bundle) and libcontainer's `state.json`.
//!
//! Formats: the OCI runtime specification, `config.md` and `config-linux.md`; `libcontainer.State` of runc.

use std::collections::BTreeMap;

use model::{
    Timestamp,
    enriched::{Mount, Settings},
    limits::{COMMAND_WORDS_MAX, ENV_COUNT_MAX, MOUNTS_MAX},
};
use serde::Deserialize;

use super::bound::{self, or_default};

/// Environment variables whose values are kept even when values are redacted: they name the Cloud Run service or job, and
/// hold no secret. <https://cloud.google.com/run/docs/container-contract#env-vars>
pub const ENV_VALUES_KEPT: &[&str] = &[
    "CLOUD_RUN_EXECUTION",
    "CLOUD_RUN_JOB",
    "CLOUD_RUN_TASK_ATTEMPT",
    "CLOUD_RUN_TASK_COUNT",
    "CLOUD_RUN_TASK_INDEX",
    "CLOUD_RUN_WORKER_POOL",
    "K_CONFIGURATION",
    "K_REVISION",
    "K_SERVICE",
];

/// Capabilities that no engine grants by default and that a privileged container has.
const PRIVILEGED_CAPABILITIES: &[&str] = &[
    "CAP_DAC_READ_SEARCH",
    "CAP_NET_ADMIN",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
];

/// What matters of a bundle's `config.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The settings, bounded.
    pub settings: Settings,
    /// Annotations, all of them.
    pub annotations: BTreeMap<String, String>,
    /// `linux.cgroupsPath`: a path, or `slice:prefix:id` with the systemd driver.
    pub cgroups_path: String,
    /// All mounts as (destination, source), the engine's own ones too.
    pub mounts: Vec<(String, String)>,
}

/// Reads a bundle's `config.json`. `report_env_values` keeps the values of all environment variables.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn parse_config(bytes: &[u8], report_env_values: bool) -> Result<Config, serde_json::Error> {
    let spec: Spec = serde_json::from_slice(bytes)?;
    let privileged = spec.linux.seccomp.is_none()
        && PRIVILEGED_CAPABILITIES.iter().all(|capability| {
            spec.process
                .capabilities
                .bounding
                .iter()
                .any(|has| has == capability)
        });
    let label = [
        &spec.process.apparmor_profile,
        &spec.process.selinux_label,
        &spec.linux.mount_label,
    ]
    .into_iter()
    .find(|label| !label.is_empty());
    let settings = Settings {
        command: command(&spec.process.args),
        env: env(&spec.process.env, report_env_values),
        user: format!("{}:{}", spec.process.user.uid, spec.process.user.gid),
        privileged,
        capabilities: spec
            .process
            .capabilities
            .bounding
            .iter()
            // There are 41 now, and at most 64 fit the kernel's sets.
            .take(64)
            .map(|capability| bound::name(capability))
            .collect(),
        seccomp: spec.linux.seccomp.is_some(),
        security_label: label.map(|label| bound::name(label)),
        no_new_privileges: spec.process.no_new_privileges,
        read_only_root: spec.root.readonly,
        host_namespaces: host_namespaces(&spec.linux.namespaces),
        mounts: spec
            .mounts
            .iter()
            .filter(|mount| !is_own_mount(mount))
            .take(MOUNTS_MAX)
            .map(|mount| Mount {
                destination: bound::name(&mount.destination),
                source: bound::name(&mount.source),
                kind: bound::name(mount.kind()),
                writable: !mount.options.iter().any(|option| option == "ro"),
            })
            .collect(),
    };
    Ok(Config {
        settings,
        annotations: spec.annotations,
        cgroups_path: spec.linux.cgroups_path,
        mounts: spec
            .mounts
            .into_iter()
            .map(|mount| (mount.destination, mount.source))
            .collect(),
    })
}

/// A command's words, bounded.
pub(super) fn command(words: &[String]) -> Vec<String> {
    words
        .iter()
        .take(COMMAND_WORDS_MAX)
        .map(|word| bound::name(word))
        .collect()
}

/// `NAME=value` lines as names with the values that may be kept, bounded.
pub(super) fn env(lines: &[String], report_env_values: bool) -> Vec<(String, Option<String>)> {
    lines
        .iter()
        .take(ENV_COUNT_MAX)
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let is_kept = report_env_values || ENV_VALUES_KEPT.contains(&name);
            (bound::name(name), is_kept.then(|| bound::name(value)))
        })
        .collect()
}

/// Namespaces that the container does not get for itself. One that it joins counts when it is the host's by path; another
/// container's does not.
fn host_namespaces(own: &[Namespace]) -> Vec<String> {
    const KINDS: &[(&str, &str)] = &[
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("mount", "mnt"),
        ("user", "user"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
    ];
    KINDS
        .iter()
        .filter(|(kind, _)| {
            !own.iter()
                .any(|namespace| namespace.kind == *kind && !namespace.path.starts_with("/proc/1/"))
        })
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

/// Mounts that every container gets from its engine.
fn is_own_mount(mount: &MountSpec) -> bool {
    let destination = mount.destination.as_str();
    match mount.kind() {
        "proc" | "sysfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2" => true,
        "tmpfs" => matches!(destination, "/dev" | "/dev/shm") || destination.starts_with("/sys/"),
        _ => {
            let directory = mount
                .source
                .rsplit_once('/')
                .map_or("", |(before, _)| before);
            let is_engine_directory = directory.contains("/containers/")
                || directory.ends_with("/userdata")
                || directory.contains("/sandboxes/");
            is_engine_directory
                && matches!(
                    destination,
                    "/etc/hostname"
                        | "/etc/hosts"
                        | "/etc/resolv.conf"
                        | "/run/.containerenv"
                        | "/dev/shm"
                )
        }
    }
}

/// What matters of libcontainer's `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The container's id.
    pub id: String,
    /// Host pid of its first process.
    pub init_pid: u32,
    /// Start of that process, clock ticks since boot.
    pub init_start_ticks: u64,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Where its bundle is.
    pub bundle: Option<String>,
    /// Directories of its control groups, by controller; the unified hierarchy is the empty name.
    pub cgroup_paths: BTreeMap<String, String>,
}

impl State {
    /// Whether its control group, in some hierarchy mounted below `/sys/fs/cgroup`, is `cgroup`.
    pub fn is_in(&self, cgroup: &str) -> bool {
        self.cgroup_paths.iter().any(|(controller, directory)| {
            let Some(below) = directory.strip_prefix("/sys/fs/cgroup") else {
                return false;
            };
            // Version 1 and hybrid mount each hierarchy in a directory of its own.
            let in_hierarchy = if controller.is_empty() {
                below.strip_prefix("/unified").unwrap_or(below)
            } else {
                below
                    .strip_prefix('/')
                    .and_then(|below| below.find('/').and_then(|at| below.get(at..)))
                    .unwrap_or(below)
            };
            in_hierarchy == cgroup
        })
    }
}

/// Reads libcontainer's `state.json`.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn parse_state(bytes: &[u8]) -> Result<State, serde_json::Error> {
    let state: StateFile = serde_json::from_slice(bytes)?;
    Ok(State {
        id: state.id,
        init_pid: state.init_process_pid,
        init_start_ticks: state.init_process_start,
        created: Timestamp::parse(&state.created),
        bundle: state
            .config
            .labels
            .iter()
            .find_map(|label| label.strip_prefix("bundle="))
            .map(str::to_owned),
        cgroup_paths: state.cgroup_paths,
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(deserialize_with = "or_default")]
    process: Process,
    #[serde(deserialize_with = "or_default")]
    root: Root,
    #[serde(deserialize_with = "or_default")]
    mounts: Vec<MountSpec>,
    #[serde(deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    linux: Linux,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Process {
    #[serde(deserialize_with = "or_default")]
    user: User,
    #[serde(deserialize_with = "or_default")]
    args: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    capabilities: Capabilities,
    no_new_privileges: bool,
    apparmor_profile: String,
    selinux_label: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    uid: u32,
    gid: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    #[serde(deserialize_with = "or_default")]
    bounding: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Root {
    readonly: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MountSpec {
    destination: String,
    source: String,
    #[serde(rename = "type")]
    filesystem: String,
    #[serde(deserialize_with = "or_default")]
    options: Vec<String>,
}

impl MountSpec {
    /// The specification lets a bind mount leave its type out, or call it `none`.
    fn kind(&self) -> &str {
        let is_bind = || {
            self.options
                .iter()
                .any(|option| option == "bind" || option == "rbind")
        };
        match self.filesystem.as_str() {
            "" | "none" if is_bind() => "bind",
            kind => kind,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    cgroups_path: String,
    #[serde(deserialize_with = "or_default")]
    namespaces: Vec<Namespace>,
    seccomp: Option<serde::de::IgnoredAny>,
    mount_label: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StateFile {
    id: String,
    init_process_pid: u32,
    init_process_start: u64,
    created: String,
    #[serde(deserialize_with = "or_default")]
    cgroup_paths: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    config: StateConfig,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StateConfig {
    #[serde(deserialize_with = "or_default")]
    labels: Vec<String>,
}
