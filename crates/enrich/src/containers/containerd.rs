//! containerd's files: a task's OCI configuration, and the records of containers and images in `meta.db`.
//!
//! Buckets: `metadata/buckets.go` of containerd. Annotations: `pkg/cri/annotations`.

use std::collections::BTreeMap;

use model::{
    Timestamp,
    enriched::{Container, Engine, Pod},
    limits::LABELS_MAX,
};
use serde::Deserialize;

use super::{
    bolt::{self, Database},
    bound, oci,
};

/// Seconds from year 1, where Go's time begins, to 1970.
const UNIX_EPOCH_SECONDS: u64 = 62_135_596_800;

/// What matters of a container's record and its image's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Image reference.
    pub image: String,
    /// Digest of the image's manifest or index.
    pub digest: Option<String>,
    /// Labels of the container and its image.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Labels of the CRI sandbox.
    pub pod_labels: BTreeMap<String, String>,
    /// The log file, when CRI has one.
    pub log_path: Option<String>,
}

/// Looks a container up in `meta.db`. `sandbox` is the CRI sandbox it belongs to. `None` when it is not there.
///
/// # Errors
/// When the database cannot be read.
pub fn look_up(
    source: &dyn bolt::Source,
    namespace: &str,
    id: &str,
    sandbox: Option<&str>,
) -> Result<Option<Record>, bolt::Error> {
    bolt::read(source, |database| {
        let top: [&[u8]; 2] = [b"v1", namespace.as_bytes()];
        let [version, namespace] = top;
        let path: [&[u8]; 4] = [version, namespace, b"containers", id.as_bytes()];
        let Some(bucket) = database.bucket(&path)? else {
            return Ok(None);
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let image = database
            .get(&bucket, b"image")?
            .map(text)
            .unwrap_or_default();
        let target: [&[u8]; 5] = [version, namespace, b"images", image.as_bytes(), b"target"];
        let digest = match database.bucket(&target)? {
            Some(target) => database.get(&target, b"digest")?.map(text),
            None => None,
        };
        let pod_labels = match sandbox {
            Some(sandbox) => labels(
                database,
                &[version, namespace, b"containers", sandbox.as_bytes()],
            )?,
            None => BTreeMap::new(),
        };
        let mut extensions = path.to_vec();
        extensions.push(b"extensions");
        let log_path = match database.bucket(&extensions)? {
            Some(extensions) => database
                .get(&extensions, b"io.cri-containerd.container.metadata")?
                .and_then(|any| parse_log_path(&any)),
            None => None,
        };
        Ok(Some(Record {
            image,
            digest,
            labels: labels(database, &path)?,
            created: database
                .get(&bucket, b"createdat")?
                .and_then(|bytes| parse_time(&bytes)),
            pod_labels,
            log_path,
        }))
    })
}

fn labels(
    database: &Database<'_>,
    container: &[&[u8]],
) -> Result<BTreeMap<String, String>, bolt::Error> {
    let mut path = container.to_vec();
    path.push(b"labels");
    let Some(bucket) = database.bucket(&path)? else {
        return Ok(BTreeMap::new());
    };
    let entries = database.entries(&bucket, LABELS_MAX)?;
    let text = |bytes: &[u8]| bound::name(&String::from_utf8_lossy(bytes));
    Ok(entries
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect())
}

/// Go's `time.Time.MarshalBinary`: version, seconds since year 1 (big-endian), nanoseconds, zone.
fn parse_time(bytes: &[u8]) -> Option<Timestamp> {
    let (version, rest) = bytes.split_first()?;
    let (seconds, rest) = rest.split_first_chunk()?;
    let nanoseconds = rest.first_chunk()?;
    if !matches!(version, 1 | 2) {
        return None;
    }
    u64::from_be_bytes(*seconds)
        .checked_sub(UNIX_EPOCH_SECONDS)?
        .checked_mul(1_000_000_000)?
        .checked_add(u64::from(u32::from_be_bytes(*nanoseconds)))
        .map(Timestamp)
}

/// `LogPath` of CRI's own metadata: JSON, as the value (field 2) of a `google.protobuf.Any`.
fn parse_log_path(any: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Versioned {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Metadata {
        log_path: String,
    }
    let mut rest = any;
    while let Some((tag, after)) = rest.split_first() {
        let (length, after) = split_varint(after)?;
        let (value, after) = after.split_at_checked(length)?;
        if *tag == 0x12 {
            let versioned: Versioned = serde_json::from_slice(value).ok()?;
            return Some(versioned.metadata.log_path).filter(|path| !path.is_empty());
        }
        rest = after;
    }
    None
}

fn split_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    // Four bytes hold any length that a metadata file may have.
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// The sandbox that a task's OCI configuration names.
pub(super) fn sandbox_id(config: &oci::Config) -> Option<&str> {
    config
        .annotations
        .get("io.kubernetes.cri.sandbox-id")
        .map(String::as_str)
}

/// A container of its task's OCI configuration (settings, and CRI's annotations about pod and image) and its record.
pub(super) fn container(config: &oci::Config, record: Option<Record>) -> Container {
    let annotation = |name: &str| {
        config
            .annotations
            .get(&format!("io.kubernetes.cri.{name}"))
            .map(|value| bound::name(value))
    };
    let is_cri = annotation("container-type").is_some() || annotation("sandbox-name").is_some();
    let record = record.unwrap_or_default();
    // ctr and nerdctl give a container's labels to its task as annotations.
    let labels = if record.labels.is_empty() && !is_cri {
        bound::labels(&config.annotations)
    } else {
        record.labels
    };
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let pod = annotation("sandbox-name").map(|name| Pod {
        namespace: annotation("sandbox-namespace").unwrap_or_default(),
        name,
        uid: annotation("sandbox-uid").unwrap_or_else(|| label("io.kubernetes.pod.uid")),
        container: annotation("container-name").unwrap_or_default(),
        labels: record.pod_labels,
    });
    Container {
        name: annotation("container-name").unwrap_or_else(|| label("nerdctl/name")),
        engine: Engine::Containerd,
        image: annotation("image-name").unwrap_or_else(|| bound::name(&record.image)),
        image_digest: record.digest.map(|digest| bound::name(&digest)),
        labels,
        created: record.created,
        pod,
        settings: config.settings.clone(),
        log_path: record.log_path.map(|path| bound::name(&path)),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_in_cri_metadata() {
        let json = br#"{"Version":"v1","Metadata":{"ID":"1","LogPath":"/var/log/pods/a/0.log"}}"#;
        let mut any = b"\x0a\x04type\x12".to_vec();
        any.push(u8::try_from(json.len()).unwrap());
        any.extend_from_slice(json);
        assert_eq!(
            parse_log_path(&any).as_deref(),
            Some("/var/log/pods/a/0.log")
        );
        for length in 0..any.len() {
            assert_eq!(parse_log_path(any.get(..length).unwrap()), None);
        }
        assert_eq!(parse_log_path(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn go_time() {
        let bytes = b"\x01\x00\x00\x00\x0e\xe2\x94\x53\x1a\x1d\xef\x80\xe8\xff\xff";
        assert_eq!(
            parse_time(bytes).unwrap().to_string(),
            "2026-11-22T03:06:02.502235368Z"
        );
        assert_eq!(parse_time(b"\x01\x00"), None);
        assert_eq!(parse_time(&[1; 15]), None);
        assert_eq!(parse_time(&[0; 15]), None);
    }
}
