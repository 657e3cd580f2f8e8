//! libpod's database: what Podman knows of its containers and pods and writes nowhere else.
//!
//! Podman 5 keeps it in SQLite (`libpod/sqlite_state.go`), before that in bbolt.

use std::{collections::BTreeMap, io, path::Path};

use rusqlite::OptionalExtension as _;
use serde::Deserialize;

use super::{bolt, bound::or_default, finder::Finder, sqlite};

/// What matters of a container's configuration in libpod's database.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DatabaseConfig {
    /// Labels of the container and its image.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// Id of its pod, empty when it has none.
    pub pod: String,
}

/// What matters of a pod's configuration in libpod's database.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DatabasePod {
    /// Name.
    pub name: String,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// What libpod's database has of one container.
pub type Configs = (DatabaseConfig, Option<DatabasePod>);

/// A container's configuration and its pod's, from `bolt_state.db` (Podman before version 5). `None` when it is not there.
///
/// # Errors
/// When the database cannot be read.
pub fn look_up_bolt(source: &dyn bolt::Source, id: &str) -> Result<Option<Configs>, bolt::Error> {
    bolt::read(source, |database| {
        configs(id, |kind, id| {
            let bucket = match kind {
                Kind::Container => b"ctr",
                Kind::Pod => b"pod",
            };
            match database.bucket(&[bucket, id.as_bytes()])? {
                Some(bucket) => database.get(&bucket, b"config"),
                None => Ok(None),
            }
        })
    })
}

/// Likewise from the bytes of `db.sql` and its write-ahead log.
///
/// # Errors
/// When the database cannot be read, and when it has no such table yet.
pub fn look_up_sqlite(
    database: Vec<u8>,
    wal: &[u8],
    id: &str,
) -> rusqlite::Result<Option<Configs>> {
    let database = sqlite::open(database, wal)?;
    configs(id, |kind, id| {
        let query = match kind {
            Kind::Container => "SELECT JSON FROM ContainerConfig WHERE ID = ?1",
            Kind::Pod => "SELECT JSON FROM PodConfig WHERE ID = ?1",
        };
        // Podman writes a blob where its schema says text.
        let json = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_bytes()?.to_vec());
        database.query_row(query, [id], json).optional()
    })
}

enum Kind {
    Container,
    Pod,
}

fn configs<E>(
    id: &str,
    mut get: impl FnMut(Kind, &str) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<Configs>, E> {
    let Some(json) = get(Kind::Container, id)? else {
        return Ok(None);
    };
    let Ok(config) = serde_json::from_slice::<DatabaseConfig>(&json) else {
        return Ok(None);
    };
    let pod = match config.pod.as_str() {
        "" => None,
        pod => get(Kind::Pod, pod)?.and_then(|json| serde_json::from_slice(&json).ok()),
    };
    Ok(Some((config, pod)))
}

/// Somebody is still going to write it.
pub(super) struct NotYet;

impl Finder {
    /// What libpod's database has of a container. Nothing when there is no database in any of its places, or one that is too
    /// large: then nothing is going to come.
    pub(super) fn libpod_configs(
        &self,
        storage: &Path,
        id: &str,
    ) -> Result<Option<Configs>, NotYet> {
        let mut found = Ok(None);
        // The second place is that of a `static_dir` of the administrator's.
        for file in ["db.sql", "libpod/db.sql"] {
            match self.read_sqlite(storage, file) {
                Ok(Some([database, wal])) => match look_up_sqlite(database, &wal, id) {
                    Ok(Some(configs)) => return Ok(Some(configs)),
                    Ok(None) => found = Err(NotYet),
                    Err(error) => {
                        tracing::debug!(%error, ?storage, file, "libpod's database cannot be read");
                        found = Err(NotYet);
                    }
                },
                Ok(None) => {}
                Err(NotYet) => found = Err(NotYet),
            }
        }
        // Podman before version 5; a later one may have left it behind.
        if let Ok(file) = self.files.open(storage, "libpod/bolt_state.db") {
            match look_up_bolt(&file, id) {
                Ok(Some(configs)) => return Ok(Some(configs)),
                Ok(None) | Err(_) => found = Err(NotYet),
            }
        }
        found
    }

    /// A SQLite database and its write-ahead log, read without its locks: what was read counts when nobody wrote to it
    /// meanwhile. `None` when it is not there or too large.
    fn read_sqlite(&self, storage: &Path, file: &str) -> Result<Option<[Vec<u8>; 2]>, NotYet> {
        let (wal_file, journal_file) = (format!("{file}-wal"), format!("{file}-journal"));
        let stamps =
            || [file, &wal_file, &journal_file].map(|file| self.files.stamp(storage, file));
        let [database, wal, journal] = stamps();
        if database.is_none() {
            return Ok(None);
        }
        // Pages of a transaction are being written, or were when the writer was killed: some are in the file already.
        if journal.is_some_and(|journal| journal.size > 0) {
            return Err(NotYet);
        }
        let read = |file: &str| match self.files.read(storage, file) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(None),
            Err(_) => Err(NotYet),
        };
        let bytes = read(file)?;
        let wal_bytes = match wal {
            Some(_) => read(&wal_file)?,
            None => Some(Vec::new()),
        };
        if stamps() != [database, wal, journal] {
            return Err(NotYet);
        }
        Ok(bytes.zip(wal_bytes).map(<[Vec<u8>; 2]>::from))
    }
}
