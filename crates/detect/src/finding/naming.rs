//! Names of findings and of the resources they are about.
//!
//! See `docs/resources.md` for the rules in words.

use model::{
    enriched::{Container, Engine, EnrichedEvent},
    finding::{GcpMetadata, Resource},
};
use serde::Deserialize;

/// What names are made of: where the host stands, as far as the user says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Naming {
    /// Organization number.
    pub organization: String,
    /// Source number.
    pub source: String,
    /// Location of the findings.
    pub location: String,
    /// Google Cloud project id that the containers belong to.
    pub project: Option<String>,
    /// Its number, for canonical names; the id stands in for it.
    pub project_number: Option<String>,
    /// Region or zone of the resources, e.g. `europe-west2`.
    pub region: Option<String>,
    /// Name of the Kubernetes cluster.
    pub cluster: Option<String>,
    /// Name of the host. Taken from the system when left out; the caller fills it.
    pub host: String,
}

impl Default for Naming {
    fn default() -> Self {
        Self {
            organization: "1".to_owned(),
            source: "1".to_owned(),
            location: "global".to_owned(),
            project: None,
            project_number: None,
            region: None,
            cluster: None,
            host: "localhost".to_owned(),
        }
    }
}

impl Naming {
    /// `Finding.parent`.
    pub fn parent(&self) -> String {
        format!("organizations/{}/{}", self.organization, self.source_path())
    }

    /// The same by the nearest ancestor of the resource: the project when it is known.
    pub(crate) fn canonical_parent(&self) -> String {
        match self.project_number.as_ref().or(self.project.as_ref()) {
            Some(project) => format!("projects/{project}/{}", self.source_path()),
            None => self.parent(),
        }
    }

    fn source_path(&self) -> String {
        format!("sources/{}/locations/{}", self.source, self.location)
    }

    /// The resource that an event is about.
    pub(crate) fn resource(&self, event: &EnrichedEvent) -> Resource {
        let Some(container) = event.container.as_deref() else {
            return self.host();
        };
        self.cloud_run(container, event)
            .or_else(|| self.kubernetes(container))
            .unwrap_or_else(|| self.container(container))
    }

    fn cloud_run(&self, container: &Container, event: &EnrichedEvent) -> Option<Resource> {
        let project = self.project.as_deref()?;
        let region = self.region.as_deref()?;
        let (collection, kind, name) = [
            ("K_SERVICE", "services", "Service"),
            ("CLOUD_RUN_JOB", "jobs", "Job"),
            ("CLOUD_RUN_WORKER_POOL", "workerPools", "WorkerPool"),
        ]
        .into_iter()
        .find_map(|(variable, collection, kind)| {
            let name = variable_of(container, event, variable)?;
            Some((collection, kind, name))
        })?;
        Some(Resource {
            name: format!(
                "//run.googleapis.com/projects/{}/locations/{}/{collection}/{}",
                segment(project),
                segment(region),
                segment(&name)
            ),
            display_name: shown(&name),
            kind: format!("run.googleapis.com/{kind}"),
            service: "run.googleapis.com".to_owned(),
            location: region.to_owned(),
            ..self.google(project)
        })
    }

    fn kubernetes(&self, container: &Container) -> Option<Resource> {
        // Podman's pods use the same words, but there is no cluster.
        let pod = match container.engine {
            Engine::Podman => None,
            _ => container.pod.as_ref(),
        }?;
        let cluster = self.cluster.as_deref();
        if let (Some(project), Some(region), Some(cluster)) = (&self.project, &self.region, cluster)
        {
            return Some(Resource {
                name: format!(
                    "//container.googleapis.com/projects/{}/locations/{}/clusters/{}",
                    segment(project),
                    segment(region),
                    segment(cluster)
                ),
                display_name: cluster.to_owned(),
                kind: "container.googleapis.com/Cluster".to_owned(),
                service: "container.googleapis.com".to_owned(),
                location: region.clone(),
                ..self.google(project)
            });
        }
        Some(Resource {
            name: format!(
                "//kubernetes/clusters/{}/namespaces/{}/pods/{}",
                segment(cluster.unwrap_or("default")),
                segment(&pod.namespace),
                segment(&pod.name)
            ),
            display_name: shown(&pod.name),
            kind: "k8s.io/Pod".to_owned(),
            service: "kubernetes".to_owned(),
            location: self.region.clone().unwrap_or_default(),
            ..Resource::default()
        })
    }

    fn container(&self, container: &Container) -> Resource {
        Resource {
            name: format!(
                "//hullwatch/hosts/{}/containers/{}",
                segment(&self.host),
                segment(&container.id)
            ),
            display_name: shown(if container.name.is_empty() {
                &container.id
            } else {
                &container.name
            }),
            kind: "hullwatch/Container".to_owned(),
            service: "hullwatch".to_owned(),
            location: self.region.clone().unwrap_or_default(),
            ..Resource::default()
        }
    }

    fn host(&self) -> Resource {
        Resource {
            name: format!("//hullwatch/hosts/{}", segment(&self.host)),
            display_name: shown(&self.host),
            kind: "hullwatch/Host".to_owned(),
            service: "hullwatch".to_owned(),
            location: self.region.clone().unwrap_or_default(),
            ..Resource::default()
        }
    }

    fn google(&self, project: &str) -> Resource {
        let number = self.project_number.as_deref().unwrap_or(project);
        let organization = format!("organizations/{}", self.organization);
        Resource {
            cloud_provider: "GOOGLE_CLOUD_PLATFORM".to_owned(),
            resource_path_string: format!("{organization}/projects/{number}"),
            resource_path: Some(serde_json::json!({ "nodes": [
                { "nodeType": "GCP_PROJECT", "id": number, "displayName": project },
                { "nodeType": "GCP_ORGANIZATION", "id": self.organization },
            ] })),
            gcp_metadata: Some(GcpMetadata {
                project: format!("//cloudresourcemanager.googleapis.com/projects/{number}"),
                project_display_name: project.to_owned(),
                parent: format!("//cloudresourcemanager.googleapis.com/{organization}"),
                organization,
                ..GcpMetadata::default()
            }),
            ..Resource::default()
        }
    }
}

/// A variable of the container's settings, or of the process when the settings do not show it.
fn variable_of(container: &Container, event: &EnrichedEvent, name: &str) -> Option<String> {
    let of_container = container
        .settings
        .env
        .iter()
        .find(|(variable, _)| variable == name)
        .and_then(|(_, value)| value.clone());
    let of_process = || {
        let process = event.process.as_deref()?;
        let variable = process
            .env
            .iter()
            .find(|variable| variable.name.as_bytes() == name.as_bytes())?;
        Some(variable.value.as_ref()?.to_json_string())
    };
    of_container
        .or_else(of_process)
        .filter(|value| !value.is_empty())
}

fn shown(text: &str) -> String {
    super::parts::bounded(text)
}

/// One segment of a resource name: what could end the segment, or not stand in a URI, is percent-encoded (RFC 3986, `pchar`
/// without the delimiters).
fn segment(text: &str) -> String {
    let mut out = String::new();
    for &byte in text.as_bytes().iter().take(model::limits::NAME_BYTES_MAX) {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
