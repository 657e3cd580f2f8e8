//! A container by runc alone: a bundle that we write, on an overlay that we mount.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

use super::{
    container::{CLEAN_UP_LIMIT, Job},
    external,
};

/// What Docker grants by default, less what concerns the network.
const CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Runs the job on its plain image directory, or on an overlay over it.
pub(crate) fn run(job: &Job<'_>, plain: bool) -> Result<()> {
    let overlay;
    let root = if plain {
        job.image.as_path()
    } else {
        overlay = Overlay::mount(&job.image, &job.directory)?;
        &overlay.merged
    };
    let bundle = job.directory.join("bundle");
    fs::create_dir(&bundle)?;
    fs::write(
        bundle.join("config.json"),
        serde_json::to_vec(&config(job, root))?,
    )?;
    // Declared after the overlay, thus dropped before it: a root in use cannot be unmounted.
    let _container = Container { name: &job.name };
    // The container's record under /run/runc stays until it is deleted, so a short life does not keep a watcher from
    // finding out what it was.
    let mut command = Command::new("runc");
    command
        .args(["run", "--keep", "--bundle"])
        .arg(&bundle)
        .arg(&job.name);
    job.run(&mut command)
}

/// Exists in runc's books until dropped.
struct Container<'a> {
    name: &'a str,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut command = Command::new("runc");
        command.args(["delete", "--force", self.name]);
        let _ = external::run(&mut command, CLEAN_UP_LIMIT, None);
    }
}

/// An overlay mount, until dropped.
struct Overlay {
    merged: PathBuf,
}

impl Overlay {
    fn mount(lower: &Path, directory: &Path) -> Result<Self> {
        let [upper, work, merged] = ["upper", "work", "rootfs"].map(|name| directory.join(name));
        for made in [&upper, &work, &merged] {
            fs::DirBuilder::new().mode(0o755).create(made)?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            escaped(lower)?,
            escaped(&upper)?,
            escaped(&work)?
        );
        let options = std::ffi::CString::new(options)?;
        mount(
            "overlay",
            &merged,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .with_context(|| {
            format!(
                "mounting an overlay under {} (set TMPDIR to a directory on ext4, xfs or tmpfs)",
                directory.display()
            )
        })?;
        Ok(Self { merged })
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = unmount(&self.merged, UnmountFlags::DETACH);
    }
}

/// Colons separate lower directories, commas options; both are escaped by a backslash (`Documentation/filesystems/overlayfs.rst`).
fn escaped(path: &Path) -> Result<String> {
    let path = path
        .to_str()
        .context("the temporary directory's name is not UTF-8")?;
    Ok(path
        .replace('\\', "\\\\")
        .replace(':', "\\:")
        .replace(',', "\\,"))
}

/// Namespaces of its own, a network namespace without any interface but loopback among them; no limits that would need
/// CAP_SYS_RESOURCE to set.
fn config(job: &Job<'_>, root: &Path) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": job.command,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [],
            "noNewPrivileges": true,
        },
        "root": { "path": root },
        "hostname": "simulation",
        "annotations": { job.label.0: job.label.1 },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=64k"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "nodev", "mode=1777", "size=16m"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "cgroupsPath": format!("/{}", job.name),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" },
                { "type": "network" },
                { "type": "ipc" },
                { "type": "uts" },
                { "type": "mount" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
