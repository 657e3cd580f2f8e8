//! Podman 5's database, made here with the tables of its schema that matter and written to as Podman writes: values as blobs,
//! in exclusive transactions, with a rollback journal (5.0) or a write-ahead log (6.1).

use std::{fs, path::PathBuf, sync::Arc};

use enrich::containers::libpod;
use model::{
    Text,
    event::{Cgroup, Event, Exec, Namespaces, Observation, Payload, ProcessKey},
};
use rusqlite::{Connection, params};

use crate::{
    containers_files::{Host, PODMAN, container},
    overlay::Pipeline,
};

const STORAGE: &str = "var/lib/containers/storage";

const SCHEMA: &str = "
    CREATE TABLE IDNamespace(ID TEXT PRIMARY KEY NOT NULL);
    CREATE TABLE ContainerConfig(
        ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL, PodID TEXT, JSON TEXT NOT NULL,
        FOREIGN KEY (ID) REFERENCES IDNamespace(ID) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE PodConfig(ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL, JSON TEXT NOT NULL);";

/// A host with Podman's storage but no database.
fn host() -> Host {
    let host = Host::with(&["podman"]);
    fs::remove_file(host.path(&format!("{STORAGE}/libpod/bolt_state.db"))).unwrap();
    host
}

fn file(host: &Host) -> PathBuf {
    host.path(&format!("{STORAGE}/db.sql"))
}

fn create(host: &Host, journal_mode: &str) -> Connection {
    let db = Connection::open(file(host)).unwrap();
    db.pragma_update(None, "journal_mode", journal_mode)
        .unwrap();
    db.execute_batch(SCHEMA).unwrap();
    db
}

/// Writes the container and its pod into an open transaction.
fn add(db: &Connection) {
    let config = format!(
        r#"{{"id":"{PODMAN}","labels":{{"team":"x"}},"pod":"p1","padding":"{}"}}"#,
        "x".repeat(20_000)
    );
    db.execute("INSERT INTO IDNamespace VALUES (?)", [PODMAN])
        .unwrap();
    db.execute(
        "INSERT INTO ContainerConfig VALUES (?, 'web', 'p1', ?)",
        params![PODMAN, config.as_bytes()],
    )
    .unwrap();
    let pod = r#"{"name":"shop","labels":{"tier":"front"}}"#;
    db.execute(
        "INSERT INTO PodConfig VALUES ('p1', 'shop', ?)",
        [pod.as_bytes()],
    )
    .unwrap();
}

fn cgroup() -> String {
    format!("/libpod_parent/libpod-{PODMAN}")
}

/// The container's team and pod, from a host looked at for the first time.
fn described(host: &Host) -> Option<(String, String)> {
    let found = container(&mut host.containers(), &cgroup(), 8);
    assert_eq!(found.name, "web");
    let pod = found.pod.as_ref()?;
    assert_eq!(pod.labels.get("tier").map(String::as_str), Some("front"));
    Some((found.labels.get("team")?.clone(), pod.name.clone()))
}

fn files(host: &Host) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(host.path(STORAGE))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn labels_and_pod_are_found_once_the_transaction_is_whole() {
    let host = host();
    let expected = Some(("x".to_owned(), "shop".to_owned()));
    let db = create(&host, "delete");
    assert_eq!(described(&host), None);
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    add(&db);
    // Spilled to the file while the journal is hot.
    db.cache_flush().unwrap();
    let before = files(&host);
    assert!(before.iter().any(|(name, _)| name == "db.sql-journal"));
    assert_eq!(described(&host), None);
    assert_eq!(files(&host), before);
    db.execute_batch("COMMIT").unwrap();
    let before = files(&host);
    assert_eq!(described(&host), expected);
    drop(db);
    assert_eq!(described(&host), expected);
    assert_eq!(files(&host), before);
}

#[test]
fn what_stands_in_the_write_ahead_log_alone_is_found() {
    let host = host();
    let db = create(&host, "wal");
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    add(&db);
    db.cache_flush().unwrap();
    let before = files(&host);
    assert_eq!(described(&host), None);
    db.execute_batch("COMMIT").unwrap();
    let expected = Some(("x".to_owned(), "shop".to_owned()));
    let written = files(&host);
    assert_ne!(written, before);
    assert_eq!(described(&host), expected);
    assert_eq!(files(&host), written);
    // Afterwards in the file, under a log that is started anew and shorter than what is left of the old one.
    db.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
    assert_eq!(described(&host), expected);
    db.execute_batch("INSERT INTO IDNamespace VALUES ('another')")
        .unwrap();
    assert_eq!(described(&host), expected);
}

#[test]
fn events_wait_for_a_database_only_while_one_may_still_answer() {
    let host = host();
    assert!(!is_awaited(&host), "there is no database");
    let db = create(&host, "delete");
    assert!(is_awaited(&host), "it does not have the container yet");
    add(&db);
    assert!(!is_awaited(&host), "it has");
    db.execute_batch("BEGIN EXCLUSIVE; INSERT INTO IDNamespace VALUES ('another')")
        .unwrap();
    db.cache_flush().unwrap();
    assert!(is_awaited(&host), "it is being written to");
    db.execute_batch("COMMIT").unwrap();
    assert!(!is_awaited(&host));
    let database = fs::File::options().write(true).open(file(&host)).unwrap();
    database
        .set_len(model::limits::METADATA_BYTES_MAX + 1)
        .unwrap();
    assert!(!is_awaited(&host), "it is not read");
    fs::write(file(&host), "not a database, but long enough").unwrap();
    assert!(is_awaited(&host), "it cannot be read now");
}

/// The first event of the container is held back.
fn is_awaited(host: &Host) -> bool {
    let mut config = enrich::Config::default();
    config.containers.host_root = host.path("");
    let mut pipeline = Pipeline::with_config(config);
    let exec = Exec {
        namespaces: Namespaces {
            mnt: 200,
            ..Namespaces::default()
        },
        ..Exec::default()
    };
    let cgroup = Cgroup {
        id: 7,
        path: Text::from(cgroup().as_str()),
    };
    pipeline.observe(Observation {
        event: Event {
            time: model::Timestamp(1),
            // No process has that number.
            process: ProcessKey {
                pid: 0x7fff_fff0,
                start_ns: 1,
            },
            cgroup: Some(Arc::new(cgroup)),
            payload: Payload::Exec(Box::new(exec)),
        },
        file: None,
        scripts: Vec::new(),
        named: None,
    });
    // That its program could not be hashed is told.
    pipeline.enricher.poll(&mut pipeline.events);
    assert_eq!(pipeline.enricher.has_pending(), pipeline.events.is_empty());
    pipeline.enricher.has_pending()
}

#[test]
fn any_damage_to_database_and_log_is_survived() {
    let host = host();
    let db = create(&host, "wal");
    add(&db);
    let read = |suffix: &str| fs::read(format!("{}{suffix}", file(&host).display())).unwrap();
    let (database, wal) = (read(""), read("-wal"));
    let look_up = |database: &[u8], wal: &[u8]| {
        libpod::look_up_sqlite(database.to_vec(), wal, PODMAN)
            .ok()
            .flatten()
    };
    assert!(look_up(&database, &wal).is_some());
    let mut damaged = wal.clone();
    for length in (0..wal.len()).step_by(511) {
        let _ = look_up(&database, &wal[..length]);
    }
    // Headers of the log and of its first frames: a damaged log ends before the damage.
    for at in (0..56).chain(4096 + 56..4096 + 80) {
        for value in [0, 1, 0x7f, 0xff] {
            damaged[at] = value;
            let found = look_up(&database, &damaged);
            assert!(damaged[at] == wal[at] || found.is_none(), "byte {at}");
        }
        damaged[at] = wal[at];
    }
    drop(db);
    let whole = read("");
    let mut damaged = whole.clone();
    for at in (0..whole.len() / 4096).flat_map(|page| page * 4096..page * 4096 + 108) {
        for value in [0, 2, 0x0d, 0x7f, 0xff] {
            damaged[at] = value;
            let _ = look_up(&damaged, &[]);
        }
        damaged[at] = whole[at];
    }
}

#[test]
fn a_hostile_schema_ends_the_look_up() {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'x' ID, max(i) JSON FROM n";
    for schema in [
        format!("CREATE VIEW ContainerConfig AS {endless}"),
        // Every row must be looked at, since no index says where the id is.
        "CREATE TABLE ContainerConfig(ID, JSON);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000)
         INSERT INTO ContainerConfig SELECT i, '' FROM n"
            .to_owned(),
        "CREATE TABLE ContainerConfig(ID, JSON AS (printf('%.*c', 900000000, 'x')));
         INSERT INTO ContainerConfig VALUES ('x')"
            .to_owned(),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let db = Connection::open(file.path()).unwrap();
        db.execute_batch(&schema).unwrap();
        drop(db);
        let database = fs::read(file.path()).unwrap();
        let found = libpod::look_up_sqlite(database, &[], "x");
        assert!(found.is_err(), "{schema}: {found:?}");
    }
}
