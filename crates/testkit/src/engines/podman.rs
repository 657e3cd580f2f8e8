//! Podman with its own storage, and runc below it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use super::{Container, Directory, Engine, Run};
use crate::{Image, command, unique};

/// `nobody`: a user without rights, and without ids for others. Of an image's owners only root is there.
const USER_ID: u32 = 65534;

/// A private Podman. It has no daemon.
#[derive(Debug)]
pub struct Podman {
    directory: Directory,
    is_rootless: bool,
}

impl Podman {
    /// Sets up its directories.
    pub fn start() -> Self {
        Self::prepare(false)
    }

    /// The same, of a user without rights: its containers are in no control group of their own, and it has a user namespace and
    /// mounts of its own, which a process of it holds.
    pub fn rootless() -> Self {
        Self::prepare(true)
    }

    fn prepare(is_rootless: bool) -> Self {
        let directory = Directory::new("podman");
        let write = |name: &str, text: &str| {
            fs::write(directory.join(name), text).expect("writing Podman's configuration");
        };
        write(
            "storage.conf",
            &format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/storage\"\nrunroot = \"{0}/run\"\n",
                directory.path().display()
            ),
        );
        // Limits that root may set without CAP_SYS_RESOURCE; locks in a file, not in memory shared with other instances.
        write(
            "containers.conf",
            "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=4096:4096\"]\n\
             [engine]\nlock_type = \"file\"\n",
        );
        write(
            "policy.json",
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        );
        if is_rootless {
            std::os::unix::fs::chown(directory.path(), Some(USER_ID), None)
                .expect("giving the directory to the user");
        }
        Self {
            directory,
            is_rootless,
        }
    }

    fn podman(&self) -> Command {
        let mut podman = if self.is_rootless {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={USER_ID}"))
                .arg(format!("--regid={USER_ID}"))
                .args(["--clear-groups", "podman"]);
            command
        } else {
            Command::new("podman")
        };
        podman
            .current_dir(self.directory.path())
            .env("HOME", self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .env(
                "CONTAINERS_STORAGE_CONF",
                self.directory.join("storage.conf"),
            )
            .env("CONTAINERS_CONF", self.directory.join("containers.conf"))
            .arg("--runtime=runc")
            .arg("--cgroup-manager=cgroupfs")
            .arg("--events-backend=file")
            .arg("--log-level=error")
            .arg(format!("--tmpdir={}/tmp", self.directory.path().display()));
        podman
    }

    fn inspect(&self, name: &str) -> Container {
        let text = command::run(self.podman().args([
            "inspect",
            "--type=container",
            "--format={{.Id}} {{.State.Pid}} {{.Name}}",
            name,
        ]));
        super::docker::parse_inspected(&text)
    }
}

impl Engine for Podman {
    fn name(&self) -> &'static str {
        if self.is_rootless {
            "rootless podman"
        } else {
            "podman"
        }
    }

    fn load(&mut self, image: &Image) {
        let archive = self.directory.join(&unique("image"));
        image.write_docker_archive(&archive);
        command::run(
            self.podman()
                .args(["load", "--signature-policy"])
                .arg(self.directory.join("policy.json"))
                .arg("-i")
                .arg(&archive),
        );
        fs::remove_file(archive).expect("removing the archive");
    }

    fn run(&mut self, run: &Run) -> Container {
        command::run(
            self.podman()
                .args(["run", "--detach", "--pull=never", "--log-driver=k8s-file"])
                .args(run.docker_options()),
        );
        self.inspect(&run.name)
    }

    fn run_to_end(&mut self, run: &Run) -> Output {
        command::output(
            self.podman()
                .args(["run", "--rm", "--pull=never", "--log-driver=k8s-file"])
                .args(run.docker_options()),
        )
    }

    fn exec(&self, container: &Container, command: &[&str]) -> Output {
        command::output(self.podman().args(["exec", &container.id]).args(command))
    }

    fn restart(&mut self, container: &Container) -> Container {
        command::run(self.podman().args(["restart", "--time=0", &container.id]));
        self.inspect(&container.id)
    }

    fn remove(&mut self, container: &Container) {
        command::run(
            self.podman()
                .args(["rm", "--force", "--time=0", &container.id]),
        );
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        command::output(self.podman().args(["rm", "--force", "--all", "--time=0"]));
        if self.is_rootless {
            // Ends the process that holds its namespaces.
            command::output(self.podman().args(["system", "migrate"]));
        }
    }
}
