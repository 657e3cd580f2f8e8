//! Containers by Podman, containerd and Docker: load the image, run it, remove both. The clients' own environment
//! variables (`CONTAINERS_CONF`, `CONTAINERD_ADDRESS`, `DOCKER_HOST`, ...) are honored because the clients are what runs.

use std::{path::Path, process::Command};

use anyhow::Result;
use rustix::process::{Resource, getrlimit};

use super::{
    archive,
    container::{CLEAN_UP_LIMIT, Job, RUN_LIMIT},
    external,
};

/// Runs the job with Podman.
pub(crate) fn run_podman(job: &Job<'_>) -> Result<()> {
    let archive = pack(job)?;
    let _removed = Removed(vec![
        podman(&["rm", "--force", &job.name]),
        podman(&["rmi", "--force", &job.reference]),
    ]);
    let mut load = podman(&["load", "--input"]);
    external::succeed(load.arg(&archive), RUN_LIMIT, Some(job.interrupt))?;
    let mut run = podman(&[
        "run",
        "--interactive",
        "--network",
        "none",
        "--pull",
        "never",
        "--name",
        &job.name,
    ]);
    // Podman's defaults raise these limits, which a root without CAP_SYS_RESOURCE may not.
    for (name, resource, most) in [
        ("nofile", Resource::Nofile, 1024),
        ("nproc", Resource::Nproc, 4096),
    ] {
        let limit = getrlimit(resource)
            .maximum
            .map_or(most, |maximum| maximum.min(most));
        run.arg("--ulimit").arg(format!("{name}={limit}:{limit}"));
    }
    job.run(run.arg(&job.reference))
}

/// `podman` with what the host forces on it: without systemd it must manage cgroups and events by itself, and crun, its
/// default runtime, refuses hosts that mix cgroup v1 and v2.
pub(crate) fn podman(arguments: &[&str]) -> Command {
    let mut command = Command::new("podman");
    if !Path::new("/run/systemd/system").exists() {
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file"]);
    }
    if Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() && external::find("runc").is_some()
    {
        command.args(["--runtime", "runc"]);
    }
    command.args(arguments);
    command
}

/// Runs the job with containerd, through `ctr`.
pub(crate) fn run_containerd(job: &Job<'_>) -> Result<()> {
    let archive = pack(job)?;
    let _removed = Removed(vec![
        ctr(&["tasks", "delete", "--force", &job.name]),
        ctr(&["containers", "delete", &job.name]),
        ctr(&["images", "remove", "--sync", &job.reference]),
    ]);
    let mut import = ctr(&["images", "import"]);
    external::succeed(import.arg(&archive), RUN_LIMIT, Some(job.interrupt))?;
    job.run(&mut ctr(&["run", &job.reference, &job.name]))
}

/// `ctr` with these arguments.
pub(crate) fn ctr(arguments: &[&str]) -> Command {
    let mut command = Command::new("ctr");
    command.args(arguments);
    command
}

/// Runs the job with Docker.
pub(crate) fn run_docker(job: &Job<'_>) -> Result<()> {
    let archive = pack(job)?;
    let _removed = Removed(vec![
        docker(&["rm", "--force", &job.name]),
        docker(&["rmi", "--force", &job.reference]),
    ]);
    let mut load = docker(&["load", "--input"]);
    external::succeed(load.arg(&archive), RUN_LIMIT, Some(job.interrupt))?;
    let mut run = docker(&[
        "run",
        "--interactive",
        "--network",
        "none",
        "--pull",
        "never",
    ]);
    job.run(run.args(["--name", &job.name, &job.reference]))
}

/// `docker` with these arguments.
pub(crate) fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments);
    command
}

fn pack(job: &Job<'_>) -> Result<std::path::PathBuf> {
    let path = job.directory.join("image.tar");
    let command: Vec<&str> = job.command.iter().map(String::as_str).collect();
    archive::write(&job.image, &path, &job.reference, &command, job.label)?;
    Ok(path)
}

/// Commands that are run when it is dropped. Those that have nothing to do fail, which is fine.
struct Removed(Vec<Command>);

impl Drop for Removed {
    fn drop(&mut self) {
        for command in &mut self.0 {
            let _ = external::run(command, CLEAN_UP_LIMIT, None);
        }
    }
}
