//! Docker's files: `containers/ID/config.v2.json`, `hostconfig.json` and `image/DRIVER/repositories.json` in its data root.

use std::collections::BTreeMap;

use model::Timestamp;
use serde::Deserialize;

use super::bound::or_default;

/// What matters of `config.v2.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Name, without the slash that Docker puts before it.
    pub name: String,
    /// Image reference as given to `docker run`.
    pub image: String,
    /// Image id (`sha256:...`).
    pub image_id: String,
    /// Labels of the container and its image.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// The log file of the `json-file` driver.
    pub log_path: Option<String>,
    /// Storage driver, e.g. `overlay2`.
    pub driver: String,
    /// User as configured; may be a name.
    pub user: String,
    /// Command with arguments.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
}

/// Reads `config.v2.json`.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn parse_config(bytes: &[u8]) -> Result<Config, serde_json::Error> {
    let file: ConfigFile = serde_json::from_slice(bytes)?;
    let mut command = vec![file.path];
    command.extend(file.args);
    Ok(Config {
        name: file.name.strip_prefix('/').unwrap_or(&file.name).to_owned(),
        image: file.config.image,
        image_id: file.image,
        labels: file.config.labels,
        created: Timestamp::parse(&file.created),
        log_path: Some(file.log_path).filter(|path| !path.is_empty()),
        driver: file.driver,
        user: file.config.user,
        command,
        env: file.config.env,
    })
}

/// Reads `Privileged` of `hostconfig.json`.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn parse_privileged(bytes: &[u8]) -> Result<bool, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct HostConfig {
        #[serde(default)]
        privileged: bool,
    }
    serde_json::from_slice::<HostConfig>(bytes).map(|file| file.privileged)
}

/// The registry's digest of an image, from `repositories.json`: that of the same repository as `reference` first. `None` for
/// an image that was built or loaded here.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn parse_repo_digest(
    bytes: &[u8],
    reference: &str,
    image_id: &str,
) -> Result<Option<String>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct File {
        #[serde(default, deserialize_with = "or_default")]
        repositories: BTreeMap<String, BTreeMap<String, String>>,
    }
    let file: File = serde_json::from_slice(bytes)?;
    let mut found = None;
    for (repository, references) in &file.repositories {
        for (name, id) in references {
            if let Some((_, digest)) = name.split_once('@')
                && id == image_id
            {
                let is_same = reference
                    .strip_prefix(repository.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']));
                if is_same {
                    return Ok(Some(digest.to_owned()));
                }
                found.get_or_insert_with(|| digest.to_owned());
            }
        }
    }
    Ok(found)
}

/// The data root, from an OCI configuration's mounts: Docker mounts its own files over `/etc/hostname` and such. Relies on the
/// destination alone being the engine's, so the source must also end in this container's directory.
pub(super) fn data_root_of(mounts: &[(String, String)], id: &str) -> Option<String> {
    mounts.iter().find_map(|(destination, source)| {
        let file = destination.strip_prefix("/etc/")?;
        if !matches!(file, "hostname" | "hosts" | "resolv.conf") {
            return None;
        }
        source
            .strip_suffix(file)?
            .strip_suffix(&format!("/containers/{id}/"))
            .filter(|root| root.starts_with('/'))
            .map(str::to_owned)
    })
}

/// `data-root` of `/etc/docker/daemon.json`.
///
/// # Errors
/// When it is not JSON of that shape.
pub fn parse_data_root(bytes: &[u8]) -> Result<Option<String>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Daemon {
        data_root: Option<String>,
        graph: Option<String>,
    }
    serde_json::from_slice::<Daemon>(bytes).map(|daemon| daemon.data_root.or(daemon.graph))
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigFile {
    name: String,
    image: String,
    created: String,
    log_path: String,
    driver: String,
    path: String,
    #[serde(deserialize_with = "or_default")]
    args: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    config: ConfigSection,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigSection {
    image: String,
    user: String,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}
