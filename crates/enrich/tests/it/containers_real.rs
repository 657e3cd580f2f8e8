//! Real containers of all four engines, looked up the way the agent does: by the pid and control group of their processes.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Instant, SystemTime},
};

use enrich::containers::{Config, Containers, Resolution};
use model::{
    Text, Timestamp,
    enriched::{self, Mount},
    event::Cgroup,
};
use testkit::{Engine, Image, Run, engines, proc};

fn resolve(containers: &mut Containers, pid: u32) -> Resolution {
    let (id, path) = proc::cgroup(pid);
    let cgroup = Cgroup {
        id,
        path: path.into(),
    };
    containers.resolve(
        &cgroup,
        pid,
        proc::namespace(pid, "mnt"),
        SystemTime::now().into(),
        Instant::now(),
    )
}

fn container(containers: &mut Containers, pid: u32) -> Arc<enriched::Container> {
    match resolve(containers, pid) {
        Resolution::Container(container) => container,
        Resolution::Host => panic!("process {pid} passes for the host's"),
    }
}

/// What is the same for all engines; returns the container for what is not.
fn check(mut engine: Box<dyn Engine>, expect: enriched::Engine) -> Arc<enriched::Container> {
    let before = Timestamp::from(std::time::SystemTime::now());
    let image = Image::busybox("example.test/app:v1").label("maintainer", "someone");
    engine.load(&image);
    let shared = tempfile::tempdir().unwrap();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run = Run::new("web", &image)
        .command(&["/bin/sh", "-c", "echo started; sleep 100000 & wait"])
        .env("TOKEN", "secret-value")
        .env("K_SERVICE", "shop")
        .label("team", "x")
        .volume(shared.path(), "/shared", false)
        .tmpfs("/scratch");
    let running = engine.run(&run);

    let mut containers = Containers::new(Config::default());
    let found = container(&mut containers, running.pid);
    assert_eq!(found.engine, expect);
    assert_eq!(found.id, running.id);
    assert_eq!(found.name, running.name);
    assert_eq!(found.image, "example.test/app:v1");
    assert_eq!(found.labels.get("team").map(String::as_str), Some("x"));
    assert_eq!(
        found.labels.get("maintainer").map(String::as_str),
        Some("someone")
    );
    let created = found.created.expect("a creation time");
    let after = Timestamp::from(std::time::SystemTime::now());
    assert!(before < created && created < after, "{created}");
    assert_eq!(found.cgroup.to_json_string(), proc::cgroup(running.pid).1);

    let settings = &found.settings;
    assert_eq!(
        settings.command,
        ["/bin/sh", "-c", "echo started; sleep 100000 & wait"]
    );
    let env = |name: &str| {
        settings
            .env
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_deref())
    };
    assert_eq!(env("TOKEN"), Some(None), "named, but redacted");
    assert_eq!(env("K_SERVICE"), Some(Some("shop")));
    assert_eq!(settings.user, "0:0");
    assert!(!settings.privileged);
    assert!(settings.capabilities.contains(&"CAP_CHOWN".to_owned()));
    assert!(!settings.capabilities.contains(&"CAP_SYS_ADMIN".to_owned()));
    assert!(!settings.read_only_root);
    assert!(!settings.host_namespaces.contains(&"pid".to_owned()));
    assert!(!settings.host_namespaces.contains(&"mnt".to_owned()));
    let mounts: Vec<&Mount> = settings
        .mounts
        .iter()
        .filter(|mount| mount.destination != "/run")
        .collect();
    let destinations: Vec<&str> = mounts
        .iter()
        .map(|mount| mount.destination.as_str())
        .collect();
    assert!(
        destinations.len() == 2
            && destinations.contains(&"/shared")
            && destinations.contains(&"/scratch"),
        "{destinations:?}"
    );
    let volume = mounts
        .iter()
        .find(|mount| mount.destination == "/shared")
        .unwrap();
    assert_eq!(volume.source, shared.path().to_str().unwrap());
    assert!(!volume.writable);

    if found.log_path.is_some() {
        testkit::command::wait_for("the log", || {
            (containers.log_tail(&found, 10) == [Text::from("started")]).then_some(())
        });
    }

    // Its other processes, and a second look, give the very same container.
    let others = testkit::command::wait_for("the shell to start something", || {
        let pids = proc::pids_in_mnt_namespace(proc::namespace(running.pid, "mnt"));
        (pids.len() > 1).then_some(pids)
    });
    for pid in others {
        assert!(Arc::ptr_eq(&container(&mut containers, pid), &found));
    }
    assert_eq!(
        resolve(&mut containers, std::process::id()),
        Resolution::Host
    );

    // Control groups off, or left: the namespace and the engine's process above it are enough.
    let cgroup = Cgroup {
        id: 0,
        path: "/".into(),
    };
    let mnt_namespace = proc::namespace(running.pid, "mnt");
    let mut others = Containers::new(Config::default());
    for _ in 0..2 {
        match others.resolve(
            &cgroup,
            running.pid,
            mnt_namespace,
            SystemTime::now().into(),
            Instant::now(),
        ) {
            Resolution::Container(container) => {
                assert_eq!(container.id, found.id);
                assert_eq!(container.engine, found.engine);
                assert_eq!(container.image, found.image);
            }
            Resolution::Host => panic!("passes for the host's"),
        }
    }
    assert_eq!(others.iter().count(), 1);

    // Another init, another control group or namespace: still this container.
    let restarted = engine.restart(&running);
    assert_ne!(restarted.pid, running.pid);
    let again = container(&mut containers, restarted.pid);
    assert_eq!(again.id, found.id);
    assert_eq!(again.image, found.image);
    engine.remove(&restarted);
    found
}

#[test]
fn runc() {
    check(Box::new(engines::Runc::start()), enriched::Engine::Runc);
}

#[test]
fn podman() {
    let found = check(Box::new(engines::Podman::start()), enriched::Engine::Podman);
    assert!(found.settings.seccomp);
    assert!(found.image_digest.as_deref().is_some_and(is_digest));
    assert!(
        found
            .log_path
            .as_deref()
            .is_some_and(|path| path.ends_with("/ctr.log"))
    );
}

#[test]
fn containerd() {
    let found = check(
        Box::new(engines::Containerd::start()),
        enriched::Engine::Containerd,
    );
    assert!(found.image_digest.as_deref().is_some_and(is_digest));
}

#[test]
fn docker() {
    let found = check(Box::new(engines::Docker::start()), enriched::Engine::Docker);
    assert!(found.settings.seccomp);
    assert!(found.image_digest.as_deref().is_some_and(is_digest));
    assert!(
        found
            .log_path
            .as_deref()
            .is_some_and(|path| path.ends_with("-json.log"))
    );
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|digits| model::provenance::Sha256::parse(digits).is_some())
}

#[test]
fn a_process_that_leaves_its_containers_control_group_stays_in_the_container() {
    let image = Image::busybox("example.test/app:v1");
    let mut docker = engines::Docker::start();
    docker.load(&image);
    let running = docker.run(&Run::new("escape", &image).command(&[
        "/bin/sh",
        "-c",
        "sleep 100000 & sleep 100000",
    ]));
    let mut containers = Containers::new(Config::default());
    let found = container(&mut containers, running.pid);

    let child = testkit::command::wait_for("the shell to start something", || {
        let pids = proc::pids_in_mnt_namespace(proc::namespace(running.pid, "mnt"));
        pids.into_iter().find(|pid| *pid != running.pid)
    });
    let mnt_namespace = proc::namespace(child, "mnt");
    // Into the root of the hierarchy, where the host's own processes are; and into a group that it made itself, named
    // after another container.
    let other = "0123456789abcdef".repeat(4);
    for path in [
        "/".to_owned(),
        format!("{}/docker/{other}", found.cgroup.to_json_string()),
    ] {
        let cgroup = Cgroup {
            id: 0,
            path: path.clone().into(),
        };
        match containers.resolve(
            &cgroup,
            child,
            mnt_namespace,
            SystemTime::now().into(),
            Instant::now(),
        ) {
            Resolution::Container(container) => assert!(Arc::ptr_eq(&container, &found), "{path}"),
            Resolution::Host => panic!("{path}"),
        }
    }
}

#[test]
fn another_root_is_a_container_of_no_engine_and_mounts_of_its_own_are_not() {
    let image = Image::busybox("example.test/app:v1");
    let directory = tempfile::tempdir().unwrap();
    let root = image.unpack_layers(directory.path()).remove(0);
    let spawn = |command: &mut Command| Running(command.stdout(Stdio::null()).spawn().unwrap());
    // As systemd does for PrivateTmp=.
    let service = spawn(Command::new("unshare").args(["--mount", "sleep", "100000"]));
    let stranger = spawn(
        Command::new("unshare")
            .args(["--mount", "--root"])
            .arg(&root)
            .args(["/bin/sleep", "100000"]),
    );
    for running in [&service, &stranger] {
        testkit::command::wait_for("sleep to run", || {
            let name = fs::read_to_string(format!("/proc/{}/comm", running.0.id())).ok()?;
            (name.trim() == "sleep").then_some(())
        });
    }

    let mut containers = Containers::new(Config::default());
    for _ in 0..2 {
        assert_eq!(resolve(&mut containers, service.0.id()), Resolution::Host);
    }
    let found = container(&mut containers, stranger.0.id());
    assert_eq!(found.engine, enriched::Engine::Unknown);
    assert!(!found.id.is_empty());
    assert!(Arc::ptr_eq(
        &container(&mut containers, stranger.0.id()),
        &found
    ));
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_name_used_again_is_another_container() {
    let (first, second) = (
        Image::busybox("example.test/app:v1"),
        Image::busybox("example.test/app:v2"),
    );
    let mut runc = engines::Runc::start();
    let mut run = Run::new("again", &first);
    let mut containers = Containers::new(Config::default());
    let running = runc.run(&run);
    assert_eq!(
        container(&mut containers, running.pid).image,
        first.reference
    );
    runc.remove(&running);
    run.image = second.clone();
    let running = runc.run(&run);
    assert_eq!(
        container(&mut containers, running.pid).image,
        second.reference
    );
}

#[test]
fn an_ended_process_is_in_the_container_of_its_control_group() {
    let image = Image::busybox("example.test/app:v1");
    let mut runc = engines::Runc::start();
    let running = runc.run(&Run::new("ended", &image));
    let mut containers = Containers::new(Config::default());
    let found = container(&mut containers, running.pid);
    let (_, path) = proc::cgroup(running.pid);
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let cgroup = Cgroup {
        id: 1,
        path: format!("{path}/session/1").into(),
    };
    // A mount namespace that is nobody's.
    match containers.resolve(
        &cgroup,
        child.id(),
        1,
        SystemTime::now().into(),
        Instant::now(),
    ) {
        Resolution::Container(container) => assert!(Arc::ptr_eq(&container, &found)),
        Resolution::Host => panic!("passes for the host's"),
    }
}

/// runc runs itself there before the container's first program.
#[test]
fn who_was_in_a_control_group_before_its_container_was_known_does_not_make_it_the_hosts() {
    let image = Image::busybox("example.test/app:v1");
    let mut runc = engines::Runc::start();
    let running = runc.run(&Run::new("entered", &image));
    let mut containers = Containers::new(Config::default());
    let (id, path) = proc::cgroup(running.pid);
    let cgroup = Cgroup {
        id,
        path: path.into(),
    };
    let own = std::process::id();
    let of_the_hosts_mounts = |containers: &mut Containers| {
        containers.resolve(
            &cgroup,
            own,
            proc::namespace(own, "mnt"),
            SystemTime::now().into(),
            Instant::now(),
        )
    };
    assert_eq!(of_the_hosts_mounts(&mut containers), Resolution::Host);
    let found = container(&mut containers, running.pid);
    assert_eq!(
        of_the_hosts_mounts(&mut containers),
        Resolution::Container(found)
    );
}
