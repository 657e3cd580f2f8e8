//! Private instances of runc, Podman, containerd and Docker, each with its files in a temporary directory.

mod containerd;
mod docker;
mod podman;
mod runc;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Output},
    thread,
    time::Duration,
};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};

pub use self::{containerd::Containerd, docker::Docker, podman::Podman, runc::Runc};
use crate::Image;

/// A container engine that a test has for itself. Dropping it removes its containers, stops it and deletes its files.
pub trait Engine {
    /// `runc`, `podman`, `rootless podman`, `containerd` or `docker`.
    fn name(&self) -> &'static str;

    /// Makes an image known.
    fn load(&mut self, image: &Image);

    /// Starts a container and returns when its first process runs.
    fn run(&mut self, run: &Run) -> Container;

    /// Runs a container to its end, removes it (but not its bundle, with runc), and returns what came of it.
    fn run_to_end(&mut self, run: &Run) -> Output;

    /// Runs a command in a container, waits for it, and returns what came of it.
    fn exec(&self, container: &Container, command: &[&str]) -> Output;

    /// Stops the container and starts it again on the same root filesystem. It has a new first process then.
    fn restart(&mut self, container: &Container) -> Container;

    /// Stops and removes the container.
    fn remove(&mut self, container: &Container);

    /// The temporary directory with all files of the engine.
    fn directory(&self) -> &Path;
}

/// All four engines, started, as root.
pub fn all() -> Vec<Box<dyn Engine>> {
    vec![
        Box::new(Runc::start()),
        Box::new(Podman::start()),
        Box::new(Containerd::start()),
        Box::new(Docker::start()),
    ]
}

/// A running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's full id.
    pub id: String,
    /// Its name; the id again with runc and containerd, which have no names.
    pub name: String,
    /// Host pid of its first process.
    pub pid: u32,
}

/// How to start a container.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name, made unique by [`Run::new`].
    pub name: String,
    /// The image, loaded before.
    pub image: Image,
    /// Its command; empty for the image's.
    pub command: Vec<String>,
    /// Environment variables besides the image's.
    pub env: Vec<(String, String)>,
    /// Labels (annotations with runc).
    pub labels: Vec<(String, String)>,
    /// Bind mounts.
    pub volumes: Vec<Volume>,
    /// Paths of tmpfs mounts, writable and executable.
    pub tmpfs: Vec<String>,
    /// Mount the root filesystem read only.
    pub read_only_root: bool,
    /// Share the host's pid namespace.
    pub host_pid: bool,
    /// All capabilities, and whatever else the engine calls privileged.
    pub privileged: bool,
    /// More options of the engine's own `run` command. runc has none.
    pub options: Vec<String>,
}

/// A bind mount.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Directory or file on the host.
    pub source: PathBuf,
    /// Path in the container.
    pub destination: String,
    /// It can be written.
    pub writable: bool,
}

impl Run {
    /// A container of `image` with a name that begins with `name` and is unique on this machine.
    pub fn new(name: &str, image: &Image) -> Self {
        Self {
            name: crate::unique(name),
            image: image.clone(),
            command: Vec::new(),
            env: Vec::new(),
            labels: Vec::new(),
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            read_only_root: false,
            host_pid: false,
            privileged: false,
            options: Vec::new(),
        }
    }

    /// Another command than the image's.
    #[must_use]
    pub fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bind mount.
    #[must_use]
    pub fn volume(mut self, source: &Path, destination: &str, writable: bool) -> Self {
        self.volumes.push(Volume {
            source: source.to_owned(),
            destination: destination.to_owned(),
            writable,
        });
        self
    }

    /// Adds a tmpfs.
    #[must_use]
    pub fn tmpfs(mut self, path: &str) -> Self {
        self.tmpfs.push(path.to_owned());
        self
    }

    /// Adds an option of the engine's own `run` command.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Options that Podman and Docker share.
    fn docker_options(&self) -> Vec<String> {
        let mut options = vec!["--name".to_owned(), self.name.clone()];
        options.push("--network=none".to_owned());
        for (name, value) in &self.env {
            options.push(format!("--env={name}={value}"));
        }
        for (name, value) in &self.labels {
            options.push(format!("--label={name}={value}"));
        }
        for volume in &self.volumes {
            let mode = if volume.writable { "rw" } else { "ro" };
            options.push(format!(
                "--volume={}:{}:{mode}",
                volume.source.display(),
                volume.destination
            ));
        }
        for path in &self.tmpfs {
            options.push(format!("--tmpfs={path}:rw,exec,mode=1777"));
        }
        if self.read_only_root {
            options.push("--read-only".to_owned());
        }
        if self.host_pid {
            options.push("--pid=host".to_owned());
        }
        if self.privileged {
            options.push("--privileged".to_owned());
        }
        options.extend(self.options.iter().cloned());
        options.push(self.image.reference.clone());
        options.extend(self.command.iter().cloned());
        options
    }
}

/// A temporary directory that is unmounted before it is deleted.
#[derive(Debug)]
struct Directory(tempfile::TempDir);

impl Directory {
    fn new(engine: &str) -> Self {
        Self(
            tempfile::Builder::new()
                .prefix(&format!("hw-{engine}-"))
                .tempdir()
                .expect("a temporary directory"),
        )
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Directory {
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // Later mounts may lie below earlier ones.
        for line in mounts.lines().rev() {
            if let Some(target) = line.split(' ').nth(4)
                && Path::new(target).starts_with(self.path())
            {
                // One that cannot be unmounted shows as a directory that is left behind.
                let _ = unmount(target, UnmountFlags::DETACH);
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What conmon runs after its container (podman, in the background) may mount the storage again meanwhile.
        for _ in 0..100 {
            self.unmount();
            if fs::remove_dir_all(self.path()).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A daemon that is asked to end, and killed when it does not.
#[derive(Debug)]
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..500 {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
