//! Podman's files: the container and image lists of containers/storage, and the configuration in libpod's database.

use std::collections::BTreeMap;

use model::Timestamp;
use serde::Deserialize;

use super::{bolt, bound::or_default};

/// One container of `DRIVER-containers/containers.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Name.
    pub name: Option<String>,
    /// Image reference.
    pub image: Option<String>,
    /// Image id, 64 hex digits.
    pub image_id: String,
    /// When it was created.
    pub created: Option<Timestamp>,
}

/// Finds a container in `containers.json`.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn parse_containers(bytes: &[u8], id: &str) -> Result<Option<Record>, serde_json::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Entry {
        id: String,
        #[serde(deserialize_with = "or_default")]
        names: Vec<String>,
        image: String,
        metadata: String,
        created: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "kebab-case")]
    struct Metadata {
        image_name: Option<String>,
    }
    let entries: Vec<Entry> = serde_json::from_slice(bytes)?;
    Ok(entries
        .into_iter()
        .find(|entry| entry.id == id)
        .map(|entry| Record {
            name: entry.names.into_iter().next(),
            image: serde_json::from_str::<Metadata>(&entry.metadata)
                .ok()
                .and_then(|metadata| metadata.image_name),
            image_id: entry.image,
            created: Timestamp::parse(&entry.created),
        }))
}

/// The manifest digest of an image, from `DRIVER-images/images.json`.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn parse_image_digest(
    bytes: &[u8],
    image_id: &str,
) -> Result<Option<String>, serde_json::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Entry {
        id: String,
        digest: String,
    }
    let entries: Vec<Entry> = serde_json::from_slice(bytes)?;
    Ok(entries
        .into_iter()
        .find(|entry| entry.id == image_id && !entry.digest.is_empty())
        .map(|entry| entry.digest))
}

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

/// A container's configuration and its pod's, from `bolt_state.db`. `None` when it is not there.
///
/// # Errors
/// When the database cannot be read.
pub fn look_up(
    source: &dyn bolt::Source,
    id: &str,
) -> Result<Option<(DatabaseConfig, Option<DatabasePod>)>, bolt::Error> {
    bolt::read(source, |database| {
        let Some(json) = config_of(database, b"ctr", id)? else {
            return Ok(None);
        };
        let Ok(config) = serde_json::from_slice::<DatabaseConfig>(&json) else {
            return Ok(None);
        };
        let pod = match config.pod.as_str() {
            "" => None,
            pod => config_of(database, b"pod", pod)?
                .and_then(|json| serde_json::from_slice(&json).ok()),
        };
        Ok(Some((config, pod)))
    })
}

fn config_of(
    database: &bolt::Database<'_>,
    kind: &[u8],
    id: &str,
) -> Result<Option<Vec<u8>>, bolt::Error> {
    match database.bucket(&[kind, id.as_bytes()])? {
        Some(bucket) => database.get(&bucket, b"config"),
        None => Ok(None),
    }
}
