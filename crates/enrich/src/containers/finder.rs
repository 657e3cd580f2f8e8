//! Finds the files of a container's engine and makes a [`Container`] of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use model::{
    Text,
    enriched::{Container, Engine, Pod},
    limits::{ENGINE_ROOTS_MAX, LOG_TAIL_BYTES_MAX},
};

use super::{
    argv::EngineProcess,
    bound, containerd, crio, docker,
    files::{HostFiles, Stamp},
    libpod::NotYet,
    log::{self, Format},
    oci, podman,
    process::Lineage,
};

/// A container as far as its engine's files tell.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) container: Container,
    /// Nothing is missing that the engine is still going to write.
    pub(super) is_complete: bool,
    /// The file the description rests on, to see when an id is used again.
    pub(super) source: Option<(PathBuf, Stamp)>,
}

/// Where engines keep their files, on the host.
#[derive(Debug)]
pub(super) struct Finder {
    pub(super) files: HostFiles,
    report_env_values: bool,
    /// `--root` of runc: `ID/state.json`.
    pub(super) runc_roots: Vec<PathBuf>,
    /// Directories of tasks of containerd: `NAMESPACE/ID/config.json`.
    pub(super) task_roots: Vec<PathBuf>,
    /// containers/storage of Podman and CRI-O: `DRIVER-containers/ID/userdata/config.json`.
    storage_roots: Vec<PathBuf>,
    /// Docker's data roots: `containers/ID/config.v2.json`.
    docker_roots: Vec<PathBuf>,
}

impl Finder {
    pub(super) fn new(root: PathBuf, extra_roots: &[PathBuf], report_env_values: bool) -> Self {
        let files = HostFiles::new(root);
        let configured = files
            .read(Path::new("/etc/docker"), "daemon.json")
            .ok()
            .and_then(|(bytes, _)| docker::parse_data_root(&bytes).ok().flatten());
        let roots = |defaults: &[&str]| -> Vec<PathBuf> {
            let defaults = defaults.iter().map(PathBuf::from);
            defaults
                .chain(extra_roots.iter().cloned())
                .take(ENGINE_ROOTS_MAX)
                .collect()
        };
        let mut finder = Self {
            files,
            report_env_values,
            runc_roots: roots(&["/run/runc", "/run/crun", "/run/docker/runtime-runc/moby"]),
            task_roots: roots(&[
                "/run/containerd/io.containerd.runtime.v2.task",
                "/run/docker/containerd/daemon/io.containerd.runtime.v2.task",
                "/run/k3s/containerd/io.containerd.runtime.v2.task",
            ]),
            storage_roots: roots(&[
                "/var/lib/containers/storage",
                // CRI-O writes config.json to the run root.
                "/run/containers/storage",
            ]),
            docker_roots: roots(&["/var/lib/docker"]),
        };
        if let Some(data_root) = configured {
            remember(&mut finder.docker_roots, PathBuf::from(data_root));
        }
        finder
    }

    /// Remembers the places that an engine's process names, for containers whose own engine process cannot be seen.
    pub(super) fn learn(&mut self, process: &EngineProcess) {
        match process {
            EngineProcess::Shim { bundle, .. } => {
                // TASKS/NAMESPACE/ID
                if let Some(tasks) = bundle.ancestors().nth(2) {
                    remember(&mut self.task_roots, tasks.to_owned());
                }
            }
            EngineProcess::Conmon {
                bundle,
                storage_root,
                ..
            } => {
                if let Some(storage) = storage_of(bundle) {
                    remember(&mut self.storage_roots, storage.to_owned());
                }
                if let Some(storage) = storage_root {
                    remember(&mut self.storage_roots, storage.clone());
                }
            }
            EngineProcess::Runc { root, bundle, .. } => {
                if let Some(root) = root {
                    remember(&mut self.runc_roots, root.clone());
                }
                // Podman's and CRI-O's runc: their monitor may be known by it alone.
                if let Some(storage) = bundle.as_deref().and_then(storage_of) {
                    remember(&mut self.storage_roots, storage.to_owned());
                }
            }
        }
    }

    /// The container `id`. `engine` is what its cgroup tells; without files of that engine the container has its id alone.
    pub(super) fn describe(
        &mut self,
        engine: Option<Engine>,
        id: &str,
        lineage: &Lineage,
    ) -> Description {
        let log_path = lineage.engines.iter().find_map(|process| match process {
            EngineProcess::Conmon { log_path, .. } => log_path.as_deref(),
            _ => None,
        });
        let found = match engine {
            Some(Engine::Docker) => self.docker(id),
            Some(Engine::Podman) => self.podman(id, log_path),
            Some(Engine::Containerd) => self.containerd(id),
            Some(Engine::Crio) => self.crio(id, log_path),
            Some(Engine::Runc) => self.runc(id),
            Some(Engine::Unknown) => None,
            None => self
                .docker(id)
                .or_else(|| self.containerd(id))
                .or_else(|| self.crio(id, log_path))
                .or_else(|| self.podman(id, log_path))
                .or_else(|| self.runc(id)),
        };
        let mut found = found.unwrap_or_else(|| Description {
            container: Container::default(),
            is_complete: false,
            source: None,
        });
        let container = &mut found.container;
        container.id = bound::name(id);
        if container.name.is_empty() {
            container.name.clone_from(&container.id);
        }
        if container.engine == Engine::Unknown {
            container.engine = engine.unwrap_or_default();
        }
        found
    }

    /// The stamp of a description's file now.
    pub(super) fn stamp(&self, path: &Path) -> Option<Stamp> {
        self.files
            .stamp(path.parent()?, path.file_name()?.to_str()?)
    }

    /// See [`super::Containers::log_tail`].
    pub(super) fn log_tail(&self, container: &Container, lines_max: usize) -> Vec<Text> {
        let Some(path) = &container.log_path else {
            return Vec::new();
        };
        match self.files.read_tail(path, LOG_TAIL_BYTES_MAX) {
            Ok((bytes, is_whole)) => {
                log::parse_tail(&bytes, is_whole, Format::of(container.engine), lines_max)
            }
            Err(_) => Vec::new(),
        }
    }

    fn docker(&mut self, id: &str) -> Option<Description> {
        let task = self.task(id);
        if let Some(data_root) = task
            .as_ref()
            .and_then(|task| docker::data_root_of(&task.config.mounts, id))
        {
            remember(&mut self.docker_roots, PathBuf::from(data_root));
        }
        let (root, config, source) = self.docker_roots.iter().find_map(|root| {
            let directory = root.join("containers").join(id);
            let (bytes, stamp) = self.files.read(&directory, "config.v2.json").ok()?;
            let config = docker::parse_config(&bytes).ok()?;
            Some((root, config, (directory.join("config.v2.json"), stamp)))
        })?;
        let settings = match &task {
            Some(task) => task.config.settings.clone(),
            None => model::enriched::Settings {
                command: oci::command(&config.command),
                env: oci::env(&config.env, self.report_env_values),
                user: bound::name(&config.user),
                ..Default::default()
            },
        };
        let mut container = Container {
            name: bound::name(&config.name),
            engine: Engine::Docker,
            image: bound::name(&config.image),
            labels: bound::labels(&config.labels),
            created: config.created,
            log_path: config.log_path.as_deref().map(bound::name),
            settings,
            ..Default::default()
        };
        let directory = root.join("containers").join(id);
        if let Ok((bytes, _)) = self.files.read(&directory, "hostconfig.json")
            && let Ok(privileged) = docker::parse_privileged(&bytes)
        {
            container.settings.privileged = privileged;
        }
        let driver = if config.driver.is_empty() {
            "overlay2"
        } else {
            &config.driver
        };
        let repo_digest = self
            .files
            .read(&root.join("image"), &format!("{driver}/repositories.json"))
            .ok()
            .and_then(|(bytes, _)| {
                docker::parse_repo_digest(&bytes, &config.image, &config.image_id).ok()?
            });
        container.image_digest = repo_digest
            .or_else(|| Some(config.image_id).filter(|id| !id.is_empty()))
            .map(|digest| bound::name(&digest));
        container.pod = pod_from_labels(&container.labels, &BTreeMap::new());
        Some(Description {
            container,
            is_complete: task.is_some(),
            source: Some(source),
        })
    }

    fn podman(&self, id: &str, log_path: Option<&Path>) -> Option<Description> {
        let (storage, driver, config, source) = self.storage_config(id)?;
        let record = self
            .files
            .read(
                &storage.join(format!("{driver}-containers")),
                "containers.json",
            )
            .ok()
            .and_then(|(bytes, _)| podman::parse_containers(&bytes, id).ok()?);
        let (database, is_settled) = match self.libpod_configs(&storage, id) {
            Ok(database) => (database, true),
            Err(NotYet) => (None, false),
        };
        let is_complete = record.is_some() && is_settled;
        let record = record.unwrap_or_default();
        let images = storage.join(format!("{driver}-images"));
        let digest = self
            .files
            .read(&images, "images.json")
            .ok()
            .and_then(|(bytes, _)| podman::parse_image_digest(&bytes, &record.image_id).ok()?)
            .or_else(|| {
                (!record.image_id.is_empty()).then(|| format!("sha256:{}", record.image_id))
            });
        let (labels, pod) = match database {
            Some((database, pod)) => {
                let pod = pod.map(|pod| Pod {
                    name: bound::name(&pod.name),
                    uid: bound::name(&database.pod),
                    container: bound::name(record.name.as_deref().unwrap_or_default()),
                    labels: bound::labels(&pod.labels),
                    ..Default::default()
                });
                (bound::labels(&database.labels), pod)
            }
            None => (BTreeMap::new(), None),
        };
        Some(Description {
            container: Container {
                name: bound::name(&record.name.unwrap_or_default()),
                engine: Engine::Podman,
                image: bound::name(&record.image.unwrap_or_default()),
                image_digest: digest.map(|digest| bound::name(&digest)),
                labels,
                created: record.created,
                pod,
                settings: config.settings,
                log_path: log_path.map(|path| bound::name(&path.to_string_lossy())),
                ..Default::default()
            },
            is_complete,
            source: Some(source),
        })
    }

    fn crio(&self, id: &str, log_path: Option<&Path>) -> Option<Description> {
        let (_, _, config, source) = self.storage_config(id)?;
        let mut container = crio::container(&config)?;
        if let Some(path) = log_path {
            let path = || bound::name(&path.to_string_lossy());
            container.log_path.get_or_insert_with(path);
        }
        Some(Description {
            container,
            is_complete: true,
            source: Some(source),
        })
    }

    fn containerd(&self, id: &str) -> Option<Description> {
        let task = self.task(id)?;
        let record = self.containerd_record(&task, id);
        Some(Description {
            is_complete: record.is_some(),
            container: containerd::container(&task.config, record),
            source: Some(task.source),
        })
    }

    fn containerd_record(&self, task: &Task, id: &str) -> Option<containerd::Record> {
        // The link `work` of a bundle leads to ROOT/io.containerd.runtime.v2.task/NAMESPACE/ID.
        let work = self.files.link(&task.directory.join(id), "work");
        let root = work
            .as_deref()
            .and_then(|work| work.ancestors().nth(3))
            .unwrap_or(Path::new("/var/lib/containerd"));
        let namespace = task.directory.file_name()?.to_str()?;
        let file = self
            .files
            .open(root, "io.containerd.metadata.v1.bolt/meta.db")
            .ok()?;
        let sandbox = containerd::sandbox_id(&task.config);
        containerd::look_up(&file, namespace, id, sandbox).ok()?
    }

    fn runc(&self, id: &str) -> Option<Description> {
        let state = self
            .runc_roots
            .iter()
            .find_map(|root| self.state(root, id))?;
        let bundle = PathBuf::from(state.bundle?);
        let (bytes, stamp) = self.files.read(&bundle, "config.json").ok()?;
        let config = oci::parse_config(&bytes, self.report_env_values).ok()?;
        let annotation = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| config.annotations.get(*name))
                .map(|value| bound::name(value))
        };
        Some(Description {
            container: Container {
                engine: Engine::Runc,
                name: annotation(&["io.kubernetes.cri.container-name"]).unwrap_or_default(),
                image: annotation(&[
                    "org.opencontainers.image.ref.name",
                    "org.opencontainers.image.base.name",
                ])
                .unwrap_or_default(),
                image_digest: annotation(&["org.opencontainers.image.digest"]),
                labels: bound::labels(&config.annotations),
                created: state.created,
                settings: config.settings,
                ..Default::default()
            },
            is_complete: true,
            source: Some((bundle.join("config.json"), stamp)),
        })
    }

    pub(super) fn state(&self, root: &Path, id: &str) -> Option<oci::State> {
        let (bytes, _) = self.files.read(root, &format!("{id}/state.json")).ok()?;
        oci::parse_state(&bytes).ok()
    }

    /// A containerd or Docker task by its id, in any namespace.
    fn task(&self, id: &str) -> Option<Task> {
        self.task_roots.iter().find_map(|root| {
            self.files.list(root).into_iter().find_map(|namespace| {
                let directory = root.join(&namespace);
                let (config, stamp) = self.oci_config(&directory, id)?;
                let source = (directory.join(id).join("config.json"), stamp);
                Some(Task {
                    directory,
                    config,
                    source,
                })
            })
        })
    }

    pub(super) fn oci_config(&self, directory: &Path, id: &str) -> Option<(oci::Config, Stamp)> {
        let (bytes, stamp) = self
            .files
            .read(directory, &format!("{id}/config.json"))
            .ok()?;
        let config = oci::parse_config(&bytes, self.report_env_values).ok()?;
        Some((config, stamp))
    }

    /// The OCI configuration of a container in containers/storage, as (storage root, driver, configuration, source).
    fn storage_config(&self, id: &str) -> Option<(PathBuf, String, oci::Config, (PathBuf, Stamp))> {
        self.storage_roots.iter().find_map(|storage| {
            self.files.list(storage).into_iter().find_map(|name| {
                let driver = name.strip_suffix("-containers")?;
                let directory = storage.join(&name);
                let file = format!("{id}/userdata/config.json");
                let (bytes, stamp) = self.files.read(&directory, &file).ok()?;
                let config = oci::parse_config(&bytes, self.report_env_values).ok()?;
                let source = (directory.join(file), stamp);
                Some((storage.clone(), driver.to_owned(), config, source))
            })
        })
    }
}

/// The root of containers/storage that a bundle is in: STORAGE/DRIVER-containers/ID/userdata.
fn storage_of(bundle: &Path) -> Option<&Path> {
    let containers = bundle
        .parent()
        .filter(|_| bundle.ends_with("userdata"))?
        .parent()?;
    let name = containers.file_name()?.to_str()?;
    containers
        .parent()
        .filter(|_| name.ends_with("-containers"))
}

struct Task {
    /// TASKS/NAMESPACE
    directory: PathBuf,
    config: oci::Config,
    source: (PathBuf, Stamp),
}

fn remember(roots: &mut Vec<PathBuf>, root: PathBuf) {
    if root.is_absolute() && !roots.contains(&root) && roots.len() < ENGINE_ROOTS_MAX {
        roots.push(root);
    }
}

/// The pod that the kubelet's labels name.
pub(super) fn pod_from_labels(
    labels: &BTreeMap<String, String>,
    pod_labels: &BTreeMap<String, String>,
) -> Option<Pod> {
    let get = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let name = get("io.kubernetes.pod.name");
    (!name.is_empty()).then(|| Pod {
        namespace: get("io.kubernetes.pod.namespace"),
        name,
        uid: get("io.kubernetes.pod.uid"),
        container: get("io.kubernetes.container.name"),
        labels: bound::labels(pod_labels),
    })
}
