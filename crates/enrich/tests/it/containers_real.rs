//! Real containers of all four engines, looked up the way the agent does: by the pid and control group of their processes.

#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

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
    containers.resolve(&cgroup, pid, proc::namespace(pid, "mnt"))
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
    let others = proc::pids_in_mnt_namespace(proc::namespace(running.pid, "mnt"));
    assert!(others.len() > 1, "the shell and what it started");
    for pid in others {
        assert!(Arc::ptr_eq(&container(&mut containers, pid), &found));
    }
    assert_eq!(
        resolve(&mut containers, std::process::id()),
        Resolution::Host
    );

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
