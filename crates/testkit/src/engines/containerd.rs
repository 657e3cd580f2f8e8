//! A containerd with its own directories, driven by `ctr`.

use std::{
    fs::{self, File},
    path::Path,
    process::{self, Command, Output, Stdio},
};

use super::{Container, Daemon, Directory, Engine, Run};
use crate::{Image, command, unique};

/// A private containerd, with a namespace of its own, since runtimes and control groups know containers by namespace and id.
#[derive(Debug)]
pub struct Containerd {
    // Dropped in this order: the daemon ends before its files are deleted.
    _daemon: Daemon,
    directory: Directory,
    namespace: String,
    runs: Vec<Run>,
}

impl Containerd {
    /// Starts the daemon and waits until it answers.
    pub fn start() -> Self {
        let directory = Directory::new("containerd");
        let path = directory.path().display();
        fs::write(
            directory.join("config.toml"),
            format!(
                "version = 2\nroot = \"{path}/root\"\nstate = \"{path}/state\"\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{path}/sock\"\n"
            ),
        )
        .expect("writing containerd's configuration");
        let log = File::create(directory.join("log")).expect("creating the log");
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(directory.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd, of the package containerd");
        let containerd = Self {
            _daemon: Daemon(daemon),
            directory,
            namespace: unique("hw"),
            runs: Vec::new(),
        };
        command::wait_for("containerd to answer", || {
            command::output(containerd.ctr().arg("version"))
                .status
                .success()
                .then_some(())
        });
        containerd
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address")
            .arg(self.directory.join("sock"))
            .args(["--namespace", &self.namespace]);
        ctr
    }

    /// File that the container's output goes to.
    fn log_path(&self, id: &str) -> String {
        format!("{}/{id}.log", self.directory.path().display())
    }

    fn inspect(&self, id: &str) -> Container {
        let list = command::run(self.ctr().args(["task", "list"]));
        let pid = list.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            (fields.next()? == id).then(|| fields.next()?.parse().ok())?
        });
        Container {
            id: id.to_owned(),
            name: id.to_owned(),
            pid: pid.unwrap_or_else(|| panic!("no task {id} in:\n{list}")),
        }
    }

    fn stop(&self, id: &str) {
        command::output(self.ctr().args(["task", "kill", "--signal=SIGKILL", id]));
        command::wait_for("the task to end", || {
            let removed = command::output(self.ctr().args(["task", "rm", id]));
            let gone = String::from_utf8_lossy(&removed.stderr).contains("not found");
            (removed.status.success() || gone).then_some(())
        });
    }
}

impl Engine for Containerd {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn load(&mut self, image: &Image) {
        let archive = self.directory.join(&unique("image"));
        image.write_docker_archive(&archive);
        command::run(self.ctr().args(["images", "import"]).arg(&archive));
        fs::remove_file(archive).expect("removing the archive");
    }

    fn run(&mut self, run: &Run) -> Container {
        let mut ctr = self.ctr();
        ctr.args(["run", "--detach"])
            .arg(format!("--log-uri=file://{}", self.log_path(&run.name)));
        add_options(&mut ctr, run);
        command::run(&mut ctr);
        self.runs.push(run.clone());
        self.inspect(&run.name)
    }

    fn run_to_end(&mut self, run: &Run) -> Output {
        let mut ctr = self.ctr();
        ctr.args(["run", "--rm"]);
        add_options(&mut ctr, run);
        command::output(&mut ctr)
    }

    fn exec(&self, container: &Container, command: &[&str]) -> Output {
        command::output(
            self.ctr()
                .args(["task", "exec", "--exec-id", &unique("exec"), &container.id])
                .args(command),
        )
    }

    fn restart(&mut self, container: &Container) -> Container {
        self.stop(&container.id);
        command::run(self.ctr().args([
            "task",
            "start",
            "--detach",
            &format!("--log-uri=file://{}", self.log_path(&container.id)),
            &container.id,
        ]));
        self.inspect(&container.id)
    }

    fn remove(&mut self, container: &Container) {
        self.stop(&container.id);
        command::run(self.ctr().args(["container", "rm", &container.id]));
        self.runs.retain(|run| run.name != container.id);
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for run in &self.runs {
            command::output(self.ctr().args(["task", "rm", "--force", &run.name]));
        }
    }
}

/// What stands between `ctr run` and the end of the line.
fn add_options(ctr: &mut Command, run: &Run) {
    for (name, value) in &run.env {
        ctr.arg(format!("--env={name}={value}"));
    }
    for (name, value) in &run.labels {
        ctr.arg(format!("--label={name}={value}"));
    }
    for volume in &run.volumes {
        let mode = if volume.writable { "rw" } else { "ro" };
        ctr.arg(format!(
            "--mount=type=bind,src={},dst={},options=rbind:{mode}",
            volume.source.display(),
            volume.destination
        ));
    }
    for path in &run.tmpfs {
        ctr.arg(format!(
            "--mount=type=tmpfs,src=tmpfs,dst={path},options=mode=1777"
        ));
    }
    if run.read_only_root {
        ctr.arg("--read-only");
    }
    if run.host_pid {
        // The first process does not everywhere let itself be looked at.
        ctr.arg(format!("--with-ns=pid:/proc/{}/ns/pid", process::id()));
    }
    if run.privileged {
        ctr.arg("--privileged");
    }
    ctr.args(&run.options);
    ctr.args([&run.image.reference, &run.name])
        .args(&run.command);
}
