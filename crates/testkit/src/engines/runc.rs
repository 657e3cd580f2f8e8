//! runc on bundles made here, each with an overlay of the image's layers as its root.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

use super::{Container, Directory, Engine, Run};
use crate::{Image, command};

/// What runc grants by default.
const CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// runc in the foreground, as its own supervisor.
#[derive(Debug)]
pub struct Runc {
    directory: Directory,
    running: HashMap<String, Child>,
}

impl Runc {
    /// Sets up its directory.
    pub fn start() -> Self {
        Self {
            directory: Directory::new("runc"),
            running: HashMap::new(),
        }
    }

    fn runc(&self) -> Command {
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.directory.join("state"));
        runc
    }

    /// Makes the bundle of a container, with its root mounted.
    fn prepare(&self, run: &Run) -> PathBuf {
        let bundle = self.directory.join(&run.name);
        let lower = run.image.unpack_layers(&bundle.join("layers"));
        for name in ["rootfs", "upper", "work"] {
            fs::create_dir_all(bundle.join(name)).expect("creating the bundle");
        }
        let lower: Vec<String> = lower
            .iter()
            .map(|layer| layer.display().to_string())
            .collect();
        let options = format!(
            "lowerdir={},upperdir={1}/upper,workdir={1}/work",
            lower.join(":"),
            bundle.display()
        );
        let options = std::ffi::CString::new(options).expect("no NUL in a path");
        mount(
            "overlay",
            bundle.join("rootfs"),
            "overlay",
            MountFlags::empty(),
            &*options,
        )
        .expect("mounting an overlay needs root");
        fs::write(bundle.join("config.json"), config(run).to_string())
            .expect("writing the configuration");
        bundle
    }

    fn spawn(&mut self, id: &str) -> Container {
        let bundle = self.directory.join(id);
        let log = File::options()
            .create(true)
            .append(true)
            .open(bundle.join("log"))
            .expect("creating the log");
        let child = self
            .runc()
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(id)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("sharing the log"))
            .stderr(log)
            .spawn()
            .expect("runc, of the package runc");
        self.running.insert(id.to_owned(), child);
        let pid = command::wait_for("runc to start the container", || {
            let exited = self
                .running
                .get_mut(id)
                .and_then(|child| child.try_wait().ok().flatten());
            assert!(
                exited.is_none(),
                "runc ended: {}",
                fs::read_to_string(bundle.join("log")).unwrap_or_default()
            );
            let output = command::output(self.runc().args(["state", id]));
            let state: Value = serde_json::from_slice(&output.stdout).ok()?;
            (state.get("status")? == "running").then(|| state.get("pid")?.as_u64())?
        });
        Container {
            id: id.to_owned(),
            name: id.to_owned(),
            pid: u32::try_from(pid).expect("a pid"),
        }
    }

    fn stop(&mut self, id: &str) {
        command::output(self.runc().args(["kill", id, "KILL"]));
        if let Some(mut child) = self.running.remove(id) {
            // It ends with its container.
            let _ = child.wait();
        }
        command::output(self.runc().args(["delete", "--force", id]));
    }
}

impl Engine for Runc {
    fn name(&self) -> &'static str {
        "runc"
    }

    /// Nothing to do: each container unpacks its image.
    fn load(&mut self, _image: &Image) {}

    fn run(&mut self, run: &Run) -> Container {
        self.prepare(run);
        self.spawn(&run.name)
    }

    fn run_to_end(&mut self, run: &Run) -> Output {
        let bundle = self.prepare(run);
        command::output(
            self.runc()
                .args(["run", "--bundle"])
                .arg(&bundle)
                .arg(&run.name),
        )
    }

    fn exec(&self, container: &Container, command: &[&str]) -> Output {
        command::output(self.runc().args(["exec", &container.id]).args(command))
    }

    fn restart(&mut self, container: &Container) -> Container {
        self.stop(&container.id);
        self.spawn(&container.id)
    }

    fn remove(&mut self, container: &Container) {
        self.stop(&container.id);
        let bundle = self.directory.join(&container.id);
        unmount(bundle.join("rootfs"), UnmountFlags::DETACH).expect("unmounting the overlay");
        fs::remove_dir_all(bundle).expect("removing the bundle");
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        let ids: Vec<String> = self.running.keys().cloned().collect();
        for id in ids {
            self.stop(&id);
        }
    }
}

fn config(run: &Run) -> Value {
    let command = if run.command.is_empty() {
        run.image.command_words()
    } else {
        &run.command
    };
    let mut env = run.image.env_lines().to_vec();
    env.extend(
        run.env
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    let mut annotations = run.image.label_map().clone();
    annotations.extend(run.labels.iter().cloned());
    annotations.insert(
        "org.opencontainers.image.ref.name".to_owned(),
        run.image.reference.clone(),
    );
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "nodev", "mode=1777"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] }),
    ];
    for volume in &run.volumes {
        let mode = if volume.writable { "rw" } else { "ro" };
        mounts.push(json!({ "destination": volume.destination, "type": "bind",
            "source": volume.source, "options": ["rbind", mode] }));
    }
    for path in &run.tmpfs {
        mounts.push(
            json!({ "destination": path, "type": "tmpfs", "source": "tmpfs",
            "options": ["mode=1777"] }),
        );
    }
    let mut namespaces = vec!["network", "ipc", "uts", "mount"];
    if !run.host_pid {
        namespaces.push("pid");
    }
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    let mut capabilities = CAPABILITIES.to_vec();
    if run.privileged {
        capabilities.extend(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": command,
            "env": env,
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": run.read_only_root },
        "hostname": "runc",
        "mounts": mounts,
        "annotations": annotations,
        "linux": { "namespaces": namespaces },
    })
}
