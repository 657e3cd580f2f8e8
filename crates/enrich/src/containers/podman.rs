//! Podman's files: the container and image lists of containers/storage.

use model::Timestamp;
use serde::Deserialize;

use super::bound::or_default;

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
