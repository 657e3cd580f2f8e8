//! containerd's files: a task's OCI configuration, and the records of containers and images in `meta.db`.

use model::enriched::{Container, Engine, Pod};

use super::{bound, oci};

/// What a task's OCI configuration tells: settings, and for CRI the annotations about pod and image.
pub(super) fn container(config: &oci::Config) -> Container {
    let annotation = |name: &str| {
        config
            .annotations
            .get(&format!("io.kubernetes.cri.{name}"))
            .map(|value| bound::name(value))
    };
    let pod = annotation("sandbox-name").map(|name| Pod {
        namespace: annotation("sandbox-namespace").unwrap_or_default(),
        name,
        uid: annotation("sandbox-uid").unwrap_or_default(),
        container: annotation("container-name").unwrap_or_default(),
        ..Default::default()
    });
    Container {
        name: annotation("container-name").unwrap_or_default(),
        engine: Engine::Containerd,
        image: annotation("image-name").unwrap_or_default(),
        labels: bound::labels(&config.annotations),
        pod,
        settings: config.settings.clone(),
        ..Default::default()
    }
}
