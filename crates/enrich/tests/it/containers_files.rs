//! Containers from what engines leave on disk, on hosts made of files: `testdata/containers` holds what real engines wrote at
//! their default places (CRI-O's by hand, after its documentation).

#![allow(clippy::unwrap_used)]

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use enrich::containers::{Config, Containers, Resolution, bolt, containerd, libpod};
use model::{Text, Timestamp, enriched, event::Cgroup};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/containers");
pub(crate) const PODMAN: &str = "37e405510cd38bee749422cb37ac5518ce6b105d335f38d40a745270139dc7b3";
const DOCKER: &str = "c2d4e53cee95e825b80845db039581d5c583fc56f855a03ffd6b6af8c2b0c3bb";
const SANDBOX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const FRONT: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const CRIO: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
const HOST: u32 = 100;

/// A host's root directory.
pub(crate) struct Host(tempfile::TempDir);

impl Host {
    /// With the files of these engines.
    pub(crate) fn with(engines: &[&str]) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for engine in engines {
            copy(&Path::new(DATA).join(engine), host.0.path());
        }
        host.process(1, 0, "/init.scope", HOST, &["/sbin/init"], "/");
        host
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A process. Those of the host's mount namespace have the host's root, others another.
    fn process(&self, pid: u32, parent: u32, cgroup: &str, mnt: u32, argv: &[&str], cwd: &str) {
        let directory = self.path(&format!("proc/{pid}"));
        fs::create_dir_all(directory.join("ns")).unwrap();
        let zeros = " 0".repeat(17);
        fs::write(
            directory.join("stat"),
            format!("{pid} (a) b) R {parent}{zeros} {}\n", pid * 10),
        )
        .unwrap();
        fs::write(directory.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        fs::write(
            directory.join("cmdline"),
            argv.iter()
                .map(|arg| format!("{arg}\0"))
                .collect::<String>(),
        )
        .unwrap();
        symlink(format!("mnt:[{mnt}]"), directory.join("ns/mnt")).unwrap();
        symlink(cwd, directory.join("cwd")).unwrap();
        let root = if mnt == HOST {
            self.0.path().to_owned()
        } else {
            fs::create_dir_all(self.path("another-root")).unwrap();
            self.path("another-root")
        };
        symlink(root, directory.join("root")).unwrap();
    }

    pub(crate) fn containers(&self) -> Containers {
        Containers::new(Config {
            host_root: self.0.path().to_owned(),
            ..Config::default()
        })
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn resolve(containers: &mut Containers, cgroup: &str, pid: u32, mnt: u32) -> Resolution {
    // Without an id, so that paths alone tell control groups apart.
    let cgroup = Cgroup {
        id: 0,
        path: cgroup.into(),
    };
    containers.resolve(&cgroup, pid, mnt, SystemTime::now().into(), Instant::now())
}

pub(crate) fn container(
    containers: &mut Containers,
    cgroup: &str,
    pid: u32,
) -> Arc<enriched::Container> {
    match resolve(containers, cgroup, pid, 200) {
        Resolution::Container(container) => container,
        Resolution::Host => panic!("{cgroup}"),
    }
}

#[test]
fn podman_in_a_pod() {
    let host = Host::with(&["podman"]);
    let userdata = format!("/var/lib/containers/storage/overlay-containers/{PODMAN}/userdata");
    let log = format!("k8s-file:{userdata}/ctr.log");
    let argv = ["/usr/bin/conmon", "-c", PODMAN, "-b", &userdata, "-l", &log];
    host.process(7, 1, "/libpod_parent/conmon", HOST, &argv, "/");
    let cgroup = format!("/libpod_parent/libpod-{PODMAN}");
    host.process(8, 7, &cgroup, 200, &["sleep"], "/");
    let mut containers = host.containers();
    let found = container(&mut containers, &cgroup, 8);
    assert_eq!(found.engine, enriched::Engine::Podman);
    assert_eq!(found.name, "web");
    assert_eq!(found.image, "example.test/app:v1");
    assert_eq!(
        found.image_digest.as_deref(),
        Some("sha256:6dd663b4f77132b3f53bd8deb6c7d916472453372f948eab4e5d1fd4f620c7ab")
    );
    assert_eq!(found.labels.get("team").map(String::as_str), Some("x"));
    let pod = found.pod.as_ref().unwrap();
    assert_eq!((pod.name.as_str(), pod.container.as_str()), ("shop", "web"));
    assert_eq!(pod.labels.get("tier").map(String::as_str), Some("front"));
    assert_eq!(
        containers.log_tail(&found, 5),
        [Text::from("started"), Text::from("half a line")]
    );
}

#[test]
fn docker() {
    let host = Host::with(&["docker"]);
    let mut containers = host.containers();
    let cgroup = format!("/system.slice/docker-{DOCKER}.scope");
    let found = container(&mut containers, &format!("{cgroup}/init.scope"), 8);
    assert_eq!(found.engine, enriched::Engine::Docker);
    assert_eq!(found.id, DOCKER);
    assert_eq!(found.cgroup, cgroup.as_str().into());
    assert_eq!(found.name, "web");
    assert_eq!(found.image, "example.test/app:v1");
    assert_eq!(
        found.created.unwrap().to_string().get(..10),
        Some("2026-11-22")
    );
    assert_eq!(containers.log_tail(&found, 5), [Text::from("started")]);
    // Its log may have been moved to where a container can write links.
    let log = found.log_path.as_ref().unwrap().trim_start_matches('/');
    fs::remove_file(host.path(log)).unwrap();
    symlink(host.path("proc/1/stat"), host.path(log)).unwrap();
    assert!(containers.log_tail(&found, 5).is_empty());
}

#[test]
fn containerd_with_names_of_its_own() {
    let host = Host::with(&["containerd"]);
    let bundle = "/run/containerd/io.containerd.runtime.v2.task/default/ct1";
    let shim = [
        "/usr/bin/containerd-shim-runc-v2",
        "-namespace",
        "default",
        "-id",
        "ct1",
    ];
    host.process(
        7,
        1,
        "/system.slice/containerd.service",
        HOST,
        &shim,
        bundle,
    );
    host.process(8, 7, "/default/ct1", 200, &["sleep"], "/");
    let mut containers = host.containers();
    let found = container(&mut containers, "/default/ct1", 8);
    assert_eq!(found.engine, enriched::Engine::Containerd);
    assert_eq!(found.id, "ct1");
    assert_eq!(found.image, "example.test/app:v1");
    assert_eq!(
        found.image_digest.as_deref(),
        Some("sha256:44b916b4368f02c94c298394bb433ad9dc10fffb318471fc121bc59873e24ef1")
    );
    assert_eq!(found.labels.get("team").map(String::as_str), Some("x"));
    assert!(found.created.is_some());
    assert_eq!(
        resolve(&mut containers, "/system.slice/containerd.service", 7, HOST),
        Resolution::Host
    );
}

#[test]
fn kubernetes_by_containerd() {
    let host = Host::with(&["containerd"]);
    let pod = "/kubepods/burstable/pod0f1e2d3c-1111-2222-3333-444455556666";
    let mut containers = host.containers();
    let found = container(&mut containers, &format!("{pod}/{FRONT}"), 8);
    assert_eq!(found.engine, enriched::Engine::Containerd);
    assert_eq!((found.id.as_str(), found.name.as_str()), (FRONT, "front"));
    let found = found.pod.as_ref().unwrap();
    assert_eq!(
        [&found.namespace, &found.name, &found.uid, &found.container],
        [
            "shop",
            "web-0",
            "0f1e2d3c-1111-2222-3333-444455556666",
            "front"
        ]
    );
    assert_eq!(found.labels.get("app").map(String::as_str), Some("web"));
    let sandbox = container(&mut containers, &format!("{pod}/{SANDBOX}"), 9);
    assert_eq!(sandbox.id, SANDBOX);
}

#[test]
fn kubernetes_by_crio() {
    let host = Host::with(&["crio"]);
    let slice = "/kubepods.slice/kubepods-burstable.slice/\
                 kubepods-burstable-pod0f1e2d3c_1111_2222_3333_444455556666.slice";
    let mut containers = host.containers();
    let found = container(&mut containers, &format!("{slice}/crio-{CRIO}.scope"), 8);
    assert_eq!(found.engine, enriched::Engine::Crio);
    assert_eq!(found.name, "front");
    assert_eq!(found.image, "example.test/front:v3");
    assert_eq!(
        found.image_digest.as_deref(),
        Some("sha256:4b6f2c1d0e9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c")
    );
    assert_eq!(
        found.created.unwrap().to_string(),
        "2026-03-01T12:00:00.25Z"
    );
    let pod = found.pod.as_ref().unwrap();
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str()),
        ("shop", "web-0")
    );
    let settings = &found.settings;
    assert_eq!(settings.user, "1000:1000");
    assert!(settings.read_only_root && settings.no_new_privileges && settings.seccomp);
    assert!(settings.security_label.is_some());
    assert_eq!(settings.host_namespaces, ["user"]);
    let mounts: Vec<&str> = settings
        .mounts
        .iter()
        .map(|mount| mount.destination.as_str())
        .collect();
    assert_eq!(mounts, ["/etc/hosts", "/data"]);
    let values: Vec<Option<&str>> = settings
        .env
        .iter()
        .map(|(_, value)| value.as_deref())
        .collect();
    assert_eq!(values, [None, None, Some("front-00002")]);
}

#[test]
fn a_host_that_is_itself_a_container() {
    let host = Host(tempfile::tempdir().unwrap());
    copy(&Path::new(DATA).join("docker"), host.0.path());
    let outer = format!("/docker/{PODMAN}");
    host.process(1, 0, &outer, HOST, &["/sbin/init"], "/");
    let mut containers = host.containers();
    assert_eq!(
        resolve(&mut containers, &format!("{outer}/system.slice"), 1, HOST),
        Resolution::Host
    );
    let found = container(&mut containers, &format!("{outer}/docker/{DOCKER}"), 8);
    assert_eq!(found.name, "web");
}

/// A process of which a descriptor can be had; what it does does not matter.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("100000").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_namespaces_number_is_trusted_only_while_its_process_lives() {
    let host = Host::with(&[]);
    let mut containers = host.containers();
    let (first, second) = (Sleeper::start(), Sleeper::start());
    let pid = first.0.id();
    host.process(pid, 1, "/", 200, &["sh"], "/");
    let before = container(&mut containers, "/", pid);
    assert_eq!(container(&mut containers, "/", pid).id, before.id);
    let asked = Instant::now();
    drop(first);
    // What happened before it was asked about is told later.
    let in_root = Cgroup {
        id: 0,
        path: "/".into(),
    };
    let earlier = containers.resolve(&in_root, pid, 200, Timestamp(0), asked);
    assert!(matches!(earlier, Resolution::Container(found) if found.id == before.id));
    fs::remove_dir_all(host.path(&format!("proc/{pid}"))).unwrap();
    host.process(second.0.id(), 1, "/", 200, &["sh"], "/");
    let after = container(&mut containers, "/", second.0.id());
    assert_ne!(after.id, before.id);
}

#[test]
fn a_process_with_the_hosts_root_becomes_a_container_when_its_root_changes() {
    let host = Host::with(&[]);
    let mut containers = host.containers();
    let sleeper = Sleeper::start();
    let pid = sleeper.0.id();
    host.process(pid, 1, "/prepared", 200, &["runc", "init"], "/");
    let root = host.path(&format!("proc/{pid}/root"));
    fs::remove_file(&root).unwrap();
    symlink(host.0.path(), &root).unwrap();
    for _ in 0..2 {
        assert_eq!(
            resolve(&mut containers, "/prepared", pid, 200),
            Resolution::Host
        );
    }
    fs::remove_file(&root).unwrap();
    symlink(host.path("another-root"), &root).unwrap();
    assert_eq!(container(&mut containers, "/prepared", pid).id, "prepared");
}

#[test]
fn metadata_that_comes_late_is_found_later() {
    let host = Host::with(&[]);
    let mut containers = host.containers();
    let cgroup = format!("/docker/{DOCKER}");
    let early = container(&mut containers, &cgroup, 8);
    assert_eq!(
        (early.engine, early.name.as_str()),
        (enriched::Engine::Docker, DOCKER)
    );
    copy(&Path::new(DATA).join("docker"), host.0.path());
    testkit::command::wait_for("the metadata", || {
        (container(&mut containers, &cgroup, 8).name == "web").then_some(())
    });
}

#[test]
fn a_container_that_is_started_again_is_asked_about_again() {
    let host = Host::with(&[]);
    let mut containers = host.containers();
    let mut name = |id: u64, now: Instant| {
        let cgroup = Cgroup {
            id,
            path: Text::from(format!("/docker/{DOCKER}").as_str()),
        };
        match containers.resolve(&cgroup, 8, 200, SystemTime::now().into(), now) {
            Resolution::Container(container) => container.name.clone(),
            Resolution::Host => panic!(),
        }
    };
    let mut now = Instant::now();
    // It is found, and then each try comes after twice the time of the one before.
    for _ in 0..=model::limits::METADATA_TRIES_MAX {
        now += Duration::from_secs(60);
        assert_eq!(name(1, now), DOCKER);
    }
    copy(&Path::new(DATA).join("docker"), host.0.path());
    now += Duration::from_secs(60);
    assert_eq!(name(1, now), DOCKER, "it is not asked about for ever");
    assert_eq!(name(2, now), "web");
    assert_eq!(name(1, now), "web");
}

#[test]
fn containers_that_are_gone_are_told_apart_though_their_namespaces_had_the_same_number() {
    let host = Host::with(&[]);
    let mut containers = host.containers();
    // No process has that number.
    let gone = 0x7fff_fff0;
    let first = container(&mut containers, "/first", gone);
    let second = container(&mut containers, "/second", gone);
    assert_eq!(
        (first.name.as_str(), second.name.as_str()),
        ("first", "second")
    );
    assert_eq!(container(&mut containers, "/first", gone).name, "first");
}

#[test]
fn a_container_that_is_gone_is_found_by_its_control_group_while_its_engine_remembers_it() {
    let host = Host::with(&["containerd"]);
    let mut containers = host.containers();
    let found = container(&mut containers, "/default/ct1", 0x7fff_fff0);
    assert_eq!(found.engine, enriched::Engine::Containerd);
    assert_eq!(found.image, "example.test/app:v1");
}

#[test]
fn a_process_of_a_container_that_entered_the_hosts_mounts_is_still_its_own() {
    let host = Host::with(&["containerd"]);
    let mut containers = host.containers();
    host.process(8, 1, "/default/ct1", 200, &["sleep"], "/");
    host.process(9, 8, "/default/ct1/below", HOST, &["sh"], "/");
    let found = container(&mut containers, "/default/ct1", 8);
    for cgroup in ["/default/ct1", "/default/ct1/below"] {
        assert_eq!(
            resolve(&mut containers, cgroup, 9, HOST),
            Resolution::Container(Arc::clone(&found))
        );
    }
    for cgroup in ["/default", "/default/ct10"] {
        assert_eq!(resolve(&mut containers, cgroup, 9, HOST), Resolution::Host);
    }
}

#[test]
fn a_container_cannot_speak_for_an_engine() {
    let host = Host::with(&["podman"]);
    // Inside the container something calls itself conmon, and names another bundle.
    let cgroup = format!("/libpod_parent/libpod-{PODMAN}");
    fs::create_dir_all(host.path("another-root/fake")).unwrap();
    let argv = [
        "conmon",
        "-c",
        PODMAN,
        "-b",
        "/another-root/fake",
        "-l",
        "/etc/shadow",
    ];
    host.process(8, 1, &cgroup, 200, &argv, "/");
    host.process(9, 8, &cgroup, 200, &["sleep"], "/");
    let found = container(&mut host.containers(), &cgroup, 9);
    assert_eq!(found.name, "web");
    assert_eq!(found.log_path, None);
}

#[test]
fn hostile_metadata_is_bounded() {
    let host = Host::with(&["docker"]);
    let file = host.path(&format!(
        "var/lib/docker/containers/{DOCKER}/config.v2.json"
    ));
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let long = "\u{202e}é\n".repeat(100_000);
    json["Name"] = long.clone().into();
    json["Config"]["Labels"] = (0..10_000)
        .map(|number| (format!("label-{number}"), serde_json::json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    fs::write(&file, json.to_string()).unwrap();
    let found = container(&mut host.containers(), &format!("/docker/{DOCKER}"), 8);
    assert!(found.name.len() <= model::limits::NAME_BYTES_MAX);
    assert_eq!(found.labels.len(), model::limits::LABELS_MAX);
}

#[test]
fn any_damage_to_a_database_is_survived() {
    let whole = fs::read(format!(
        "{DATA}/containerd/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"
    ))
    .unwrap();
    let look_up = |bytes: &[u8]| containerd::look_up(&bytes, "default", "ct1", None);
    assert_eq!(
        look_up(&whole).unwrap().unwrap().image,
        "example.test/app:v1"
    );
    for length in [
        0,
        1,
        15,
        16,
        79,
        80,
        4095,
        4096,
        8192,
        20_000,
        whole.len() / 2,
    ] {
        let _ = look_up(whole.get(..length).unwrap());
    }
    // Every field of every page header and element has its turn: each byte of the first 64 of a page, with the values that
    // break a sum, a sign or a bound.
    let mut bytes = whole.clone();
    for page in 2..whole.len() / 4096 {
        for offset in 0..64 {
            let at = page * 4096 + offset;
            for value in [0, 1, 2, 0x7f, 0xff] {
                bytes[at] = value;
                let _ = look_up(&bytes);
            }
            bytes[at] = whole[at];
        }
    }
    let podman_database = fs::read(format!(
        "{DATA}/podman/var/lib/containers/storage/libpod/bolt_state.db"
    ))
    .unwrap();
    assert!(
        libpod::look_up_bolt(&podman_database.as_slice(), PODMAN)
            .unwrap()
            .is_some()
    );
    assert!(
        libpod::look_up_bolt(&podman_database.as_slice(), DOCKER)
            .unwrap()
            .is_none()
    );
}

/// A database that is in another state each time its first meta page is read; then in the last one.
struct Changing {
    states: Vec<Vec<u8>>,
    looks: std::cell::Cell<usize>,
}

impl bolt::Source for Changing {
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        if offset == 0 {
            self.looks.set(self.looks.get() + 1);
        }
        let now = (self.looks.get() - 1).min(self.states.len() - 1);
        self.states[now].as_slice().read(offset, length)
    }
}

#[test]
fn a_database_that_changes_while_it_is_read_is_read_again() {
    let older = fs::read(format!(
        "{DATA}/containerd/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"
    ))
    .unwrap();
    // The newest meta page is lost, which leaves the one before it: another transaction.
    let meta = |bytes: &[u8], page: usize| {
        u64::from_le_bytes(bytes[page * 4096 + 64..][..8].try_into().unwrap())
    };
    let newest = usize::from(meta(&older, 1) > meta(&older, 0));
    let newer = older.clone();
    let mut older = older;
    older[newest * 4096 + 64] ^= 0xff;
    let source = Changing {
        states: vec![older.clone(), newer.clone()],
        looks: std::cell::Cell::new(0),
    };
    let found = containerd::look_up(&source, "default", "ct1", None).unwrap();
    assert_eq!(found.unwrap().image, "example.test/app:v1");

    let source = Changing {
        states: [older, newer].into_iter().cycle().take(64).collect(),
        looks: std::cell::Cell::new(0),
    };
    assert!(matches!(
        containerd::look_up(&source, "default", "ct1", None),
        Err(bolt::Error::Changing)
    ));
}
