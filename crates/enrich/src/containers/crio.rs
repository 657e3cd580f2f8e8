//! CRI-O says everything in the annotations of a container's OCI configuration.
//!
//! Names: `pkg/annotations` of CRI-O (`io.kubernetes.cri-o.*`), and the kubelet's own labels.

use std::collections::BTreeMap;

use model::{
    Timestamp,
    enriched::{Container, Engine},
};

use super::{bound, finder::pod_from_labels, oci};

/// The container of an OCI configuration that CRI-O wrote. `None` when another engine did.
pub fn container(config: &oci::Config) -> Option<Container> {
    let get = |name: &str| {
        config
            .annotations
            .get(name)
            .filter(|value| !value.is_empty())
    };
    let own = |name: &str| get(&format!("io.kubernetes.cri-o.{name}"));
    if get("io.container.manager").is_none_or(|manager| manager != "cri-o") {
        return None;
    }
    let map = |name: &str| -> BTreeMap<String, String> {
        own(name)
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    };
    let labels = bound::labels(&map("Labels"));
    let mut pod = pod_from_labels(&labels, &BTreeMap::new());
    // The sandbox's name is k8s_POD_NAME_NAMESPACE_UID_ATTEMPT; the kubelet's labels say the same plainly.
    let name = get("io.kubernetes.container.name").or_else(|| own("Name"));
    if pod.is_none() {
        pod = pod_from_labels(&config.annotations, &BTreeMap::new());
    }
    // ImageRef is a repository digest when the image was pulled, else the image's id.
    let digest = own("ImageRef").map(|reference| match reference.split_once('@') {
        Some((_, digest)) => digest.to_owned(),
        None if reference.starts_with("sha256:") => reference.clone(),
        None => format!("sha256:{reference}"),
    });
    Some(Container {
        name: name.map(|name| bound::name(name)).unwrap_or_default(),
        engine: Engine::Crio,
        image: own("ImageName")
            .or_else(|| own("Image"))
            .map(|image| bound::name(image))
            .unwrap_or_default(),
        image_digest: digest.map(|digest| bound::name(&digest)),
        labels,
        created: own("Created").and_then(|created| Timestamp::parse(created)),
        pod,
        settings: config.settings.clone(),
        log_path: own("LogPath").map(|path| bound::name(path)),
        ..Default::default()
    })
}
