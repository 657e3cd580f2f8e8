//! A Docker daemon with its own containerd, directories and socket.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{Container, Daemon, Directory, Engine, Run};
use crate::{Image, command, unique};

/// A private Docker daemon, without any network.
#[derive(Debug)]
pub struct Docker {
    // Dropped in this order: the daemon ends before its files are deleted.
    _daemon: Daemon,
    directory: Directory,
}

impl Docker {
    /// Starts the daemon and waits until it answers.
    pub fn start() -> Self {
        let directory = Directory::new("docker");
        let log = File::create(directory.join("log")).expect("creating the log");
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", directory.join("sock").display()))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dockerd, of the package docker.io");
        let docker = Self {
            _daemon: Daemon(daemon),
            directory,
        };
        command::wait_for("dockerd to answer", || {
            command::output(docker.docker().arg("version"))
                .status
                .success()
                .then_some(())
        });
        docker
    }

    fn docker(&self) -> Command {
        let mut docker = Command::new("docker");
        docker
            .env("DOCKER_CONFIG", self.directory.join("config"))
            .arg("--host")
            .arg(format!("unix://{}", self.directory.join("sock").display()));
        docker
    }

    fn inspect(&self, name: &str) -> Container {
        let text = command::run(self.docker().args([
            "inspect",
            "--type=container",
            "--format={{.Id}} {{.State.Pid}} {{.Name}}",
            name,
        ]));
        parse_inspected(&text)
    }
}

/// `ID PID NAME`, for Podman too.
pub(super) fn parse_inspected(text: &str) -> Container {
    let mut fields = text.split(' ');
    let mut next = || fields.next().expect("three fields").to_owned();
    Container {
        id: next(),
        pid: next().parse().expect("a pid"),
        name: next().trim_start_matches('/').to_owned(),
    }
}

impl Engine for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn load(&mut self, image: &Image) {
        let archive = self.directory.join(&unique("image"));
        image.write_docker_archive(&archive);
        command::run(self.docker().args(["load", "--input"]).arg(&archive));
        fs::remove_file(archive).expect("removing the archive");
    }

    fn run(&mut self, run: &Run) -> Container {
        command::run(
            self.docker()
                .args(["run", "--detach"])
                .args(run.docker_options()),
        );
        self.inspect(&run.name)
    }

    fn run_to_end(&mut self, run: &Run) -> Output {
        command::output(
            self.docker()
                .args(["run", "--rm"])
                .args(run.docker_options()),
        )
    }

    fn exec(&self, container: &Container, command: &[&str]) -> Output {
        command::output(self.docker().args(["exec", &container.id]).args(command))
    }

    fn restart(&mut self, container: &Container) -> Container {
        command::run(self.docker().args(["restart", "--time=0", &container.id]));
        self.inspect(&container.id)
    }

    fn remove(&mut self, container: &Container) {
        command::run(self.docker().args(["rm", "--force", &container.id]));
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = command::output(self.docker().args(["ps", "--all", "--quiet"]));
        for id in String::from_utf8_lossy(&all.stdout).lines() {
            command::output(self.docker().args(["rm", "--force", id]));
        }
    }
}
