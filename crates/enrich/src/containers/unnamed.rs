//! Finds the container of a process whose control group has no engine's name: a name of the user's choice, or none of its own.

use model::enriched::Engine;

use super::{argv::EngineProcess, cgroup, finder::Finder, process::Lineage};

/// A container that an engine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The engine, when it is clear.
    pub(super) engine: Option<Engine>,
    pub(super) id: String,
    /// How much of the control group's path is the container's own; 0 when it shares its control group.
    pub(super) cgroup_bytes: usize,
}

impl Finder {
    /// The container that a process is in when its control group `cgroup` has no engine's name: by the engine's process above
    /// it, by what engines say of their containers' first processes, and by the control groups they gave.
    pub(super) fn find(&self, lineage: &Lineage, cgroup: &str) -> Option<Found> {
        // conmon runs one container. A shim may run a whole pod, and runc may have been called by something else yet.
        for process in &lineage.engines {
            if let EngineProcess::Conmon { id, .. } = process {
                return Some(Found {
                    engine: None,
                    id: id.clone(),
                    cgroup_bytes: 0,
                });
            }
        }
        self.find_task(lineage, cgroup)
            .or_else(|| self.find_runc(lineage, cgroup))
    }

    fn find_runc(&self, lineage: &Lineage, cgroup: &str) -> Option<Found> {
        let mut found: Option<Found> = None;
        for root in &self.runc_roots {
            for id in self.files.list(root) {
                let Some(state) = self.state(root, &id) else {
                    continue;
                };
                let cgroup_bytes = cgroup_prefixes(cgroup)
                    .find(|prefix| state.is_in(prefix))
                    .map_or(0, str::len);
                let is_ancestor = lineage.inside.iter().any(|member| {
                    member.pid == state.init_pid && member.start_ticks == state.init_start_ticks
                });
                let this = Found {
                    engine: Some(Engine::Runc),
                    id,
                    cgroup_bytes,
                };
                if is_ancestor {
                    return Some(this);
                }
                let best = found.as_ref().map_or(0, |found| found.cgroup_bytes);
                if cgroup_bytes > best {
                    found = Some(this);
                }
            }
        }
        found
    }

    /// A containerd container with a name of the user's choice. One with a random id has it in its control group, unless
    /// control groups are off; then its first process tells.
    fn find_task(&self, lineage: &Lineage, cgroup: &str) -> Option<Found> {
        for root in &self.task_roots {
            for namespace in self.files.list(root) {
                let directory = root.join(&namespace);
                for id in self.files.list(&directory) {
                    let init_pid = self
                        .files
                        .read(&directory, &format!("{id}/init.pid"))
                        .ok()
                        .and_then(|(bytes, _)| {
                            std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
                        });
                    let is_ancestor = lineage
                        .inside
                        .iter()
                        .any(|member| Some(member.pid) == init_pid);
                    if !is_ancestor && cgroup::is_random_id(&id) {
                        continue;
                    }
                    let Some((config, _)) = self.oci_config(&directory, &id) else {
                        continue;
                    };
                    let cgroup_bytes = cgroup_prefixes(cgroup)
                        .find(|prefix| *prefix == config.cgroups_path)
                        .map_or(0, str::len);
                    if cgroup_bytes > 0 || is_ancestor {
                        let engine = match namespace.as_str() {
                            "moby" => Engine::Docker,
                            _ => Engine::Containerd,
                        };
                        return Some(Found {
                            engine: Some(engine),
                            id,
                            cgroup_bytes,
                        });
                    }
                }
            }
        }
        None
    }
}

/// `/a/b/c`, `/a/b`, `/a`. Not the root: every process is in it.
fn cgroup_prefixes(cgroup: &str) -> impl Iterator<Item = &str> {
    let mut next = Some(cgroup);
    std::iter::from_fn(move || {
        let prefix = next.filter(|prefix| prefix.len() > 1)?;
        next = prefix.rsplit_once('/').map(|(before, _)| before);
        Some(prefix)
    })
}
