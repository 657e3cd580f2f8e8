//! A runc container whose root is an overlay of the host's files, with a tmpfs, a bind mount and its own control group.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// Removes everything when it is dropped.
pub(crate) struct Container {
    pub(crate) name: String,
    dir: PathBuf,
    is_running: Option<Child>,
}

/// Compiled once for all tests.
fn stimulus() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stimulus");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stimulus.c");
        run(Command::new("cc")
            .args(["-static", "-O1", "-s", "-Wall", "-o"])
            .arg(&program)
            .arg(source));
        program
    })
}

/// Holds the first CPU every other millisecond, against all that do not have a high real-time priority. Lets go when dropped.
pub(crate) struct HeldCpu(Child);

impl HeldCpu {
    pub(crate) fn new() -> Self {
        let held = Command::new("taskset")
            .args(["--cpu-list", "0", "chrt", "--fifo", "50"])
            .arg(stimulus())
            .arg("hold")
            .stdin(Stdio::piped())
            .spawn();
        Self(held.unwrap())
    }
}

impl Drop for HeldCpu {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait().unwrap();
        // Without the priority nothing was held.
        assert!(status.success() || std::thread::panicking(), "{status}");
    }
}

impl Container {
    /// Makes the root filesystem. Nothing runs yet.
    pub(crate) fn new(test: &str) -> Self {
        let container = Self::empty(test, &std::env::temp_dir());
        // A filesystem of its own, so that the overlay's layers lie on two, and nothing is written to disk.
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&container.dir));
        container.fill("layer", &format!("{}/layer:/", container.dir.display()));
        container
    }

    /// The same on the disk of the host's files, as containers are as a rule.
    pub(crate) fn on_disk(test: &str) -> Self {
        let container = Self::empty(test, Path::new(env!("CARGO_TARGET_TMPDIR")));
        // A layer must not be in another one: what is brought along has been written by the container, as it were.
        container.fill("upper", "/");
        container
    }

    fn empty(test: &str, parent: &Path) -> Self {
        let name = format!("hwt-{}-{test}", std::process::id());
        let dir = parent.join(&name);
        fs::create_dir(&dir).unwrap();
        Self {
            name,
            dir,
            is_running: None,
        }
    }

    /// Mounts the overlay over `lower`, with the stimulus in the directory `layer`.
    fn fill(&self, layer: &str, lower: &str) {
        let dir = &self.dir;
        for part in ["upper", "work", "root", "volume", "bundle"] {
            fs::create_dir(dir.join(part)).unwrap();
        }
        // `/bin` is a link on the host: the stimulus gets a directory of its own.
        let layer = dir.join(layer);
        fs::create_dir_all(layer.join("stimulus")).unwrap();
        fs::create_dir(layer.join("volume")).unwrap();
        fs::copy(stimulus(), layer.join("stimulus/s")).unwrap();
        let options = format!(
            "lowerdir={lower},upperdir={0}/upper,workdir={0}/work",
            dir.display()
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(dir.join("root")));
    }

    /// Puts a file into the image.
    pub(crate) fn add(&self, path: &str, content: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.join("root").join(path.trim_start_matches('/'));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The same for an image that [`Container::new`] made, in a way that the kernel has not looked at the file by that path yet.
    pub(crate) fn add_unseen(&self, path: &str, content: &[u8]) {
        let path = self.dir.join("layer").join(path.trim_start_matches('/'));
        fs::write(path, content).unwrap();
    }

    /// The control group's path as the kernel has it.
    pub(crate) fn cgroup(&self) -> String {
        format!("/hullwatch-test/{}", self.name)
    }

    /// Runs a command to its end, which must be a good one.
    pub(crate) fn run(&mut self, args: &[&str]) {
        let status = self.runc(args).stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "{args:?}: {status}");
    }

    /// Starts a command that runs until [`Container::end`].
    pub(crate) fn start(&mut self, args: &[&str]) {
        self.is_running = Some(self.runc(args).stdin(Stdio::piped()).spawn().unwrap());
    }

    /// Writes a line to the standard input of the command that was started.
    pub(crate) fn say(&mut self, line: &str) {
        let child = self.is_running.as_mut().expect("it was started");
        writeln!(child.stdin.as_ref().unwrap(), "{line}").unwrap();
    }

    /// Ends the standard input of the command that was started, and waits for it.
    pub(crate) fn end(&mut self) {
        let mut child = self.is_running.take().expect("it was started");
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    fn runc(&self, args: &[&str]) -> Command {
        let quoted: Vec<String> = args.iter().map(|arg| format!("{arg:?}")).collect();
        let dir = self.dir.display();
        let config = format!(
            r#"{{"ociVersion": "1.0.2",
            "process": {{"user": {{"uid": 0, "gid": 0}}, "args": [{args}], "cwd": "/tmp", "env": ["PATH=/usr/bin:/bin"],
                "capabilities": {{"bounding": [{caps}], "effective": [{caps}], "permitted": [{caps}]}}}},
            "root": {{"path": "{dir}/root"}},
            "mounts": [
                {{"destination": "/proc", "type": "proc", "source": "proc"}},
                {{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}},
                {{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}},
                {{"destination": "/volume", "type": "bind", "source": "{dir}/volume", "options": ["rbind"]}}],
            "linux": {{"cgroupsPath": "{cgroup}",
                "namespaces": [{{"type": "pid"}}, {{"type": "mount"}}, {{"type": "network"}}, {{"type": "ipc"}}]}}}}"#,
            args = quoted.join(", "),
            caps =
                r#""CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT""#,
            cgroup = self.cgroup(),
        );
        fs::write(self.dir.join("bundle/config.json"), config).unwrap();
        let mut command = Command::new("runc");
        command
            .arg("run")
            .arg("-b")
            .arg(self.dir.join("bundle"))
            .arg(&self.name);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut child) = self.is_running.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
        let _ = Command::new("runc")
            .args(["delete", "-f", &self.name])
            .stderr(Stdio::null())
            .status();
        for mount in [self.dir.join("root"), self.dir.clone()] {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(mount)
                .stderr(Stdio::null())
                .status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
