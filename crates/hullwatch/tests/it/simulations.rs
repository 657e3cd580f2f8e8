//! Every detector's simulation raises its finding in a real container, and no other.

use std::{collections::BTreeMap, process::Command};

use detect::{CATALOGUE, Spec};
use model::finding::{FindingClass, FindingResult};
use testkit::{
    Engine,
    engines::{Containerd, Docker, Podman},
};

use crate::watcher::{
    HULLWATCH, Options, State, Watcher, categories, container_name, described, simulate, stderr,
};

/// These two are about everything added, malicious or not, so they fire beside others.
const BROAD: [&str; 2] = ["added_binary_executed", "added_library_loaded"];

#[test]
fn each_raises_its_finding_and_no_other() {
    // Detectors that are off by default are on here.
    let config: String = CATALOGUE
        .iter()
        .filter(|spec| !spec.enabled_by_default)
        .map(|spec| format!("[detection.detectors.{}]\nenabled = true\n", spec.id))
        .collect();
    let watcher = Watcher::start_with(&Options {
        config: &config,
        ..Options::default()
    });
    let mut containers = BTreeMap::new();
    let mut specs = CATALOGUE.to_vec();
    // A watcher that was frozen has to catch up; then it would not be asked about one container after the other.
    specs.sort_by_key(|spec| spec.simulation.watcher_paused_s.is_some());
    for spec in specs {
        let said = simulate(watcher.state_dir(), spec.id);
        if spec.simulation.watcher_paused_s.is_some() {
            let reported = format!("reported: {}", spec.category);
            assert!(said.contains(&reported), "{}: {said}", spec.id);
        }
        containers.insert(spec.id, container_name(&said));
    }
    let state = watcher.stop();
    let wrong: Vec<String> = CATALOGUE
        .iter()
        .filter_map(|spec| wrong(spec, &containers[spec.id], &state))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What was found instead of the detector's own finding, if anything.
fn wrong(spec: &Spec, container: &str, state: &State) -> Option<String> {
    if spec.finding_class == FindingClass::SccError && spec.id != "container_not_covered" {
        // These are of the agent, not of a container: told by what the simulation brings about.
        let cause = match spec.id {
            "events_dropped" => " AND source_properties.Lost_In=\"exec_ring\"",
            "sensor_lost" => " AND source_properties.Sensor_Condition=\"GAP\"",
            _ => "",
        };
        let found = state.findings(&format!("category=\"{}\"{cause}", spec.category));
        return found
            .is_empty()
            .then(|| format!("{} raised nothing", spec.id));
    }
    let mut found = state.findings_of(container);
    found.retain(|result| !is_beside(spec, result));
    (categories(&found) != [spec.category])
        .then(|| format!("{} raised:\n{}", spec.id, described(&found)))
}

/// Findings that other detectors rightly raise about the same act.
fn is_beside(spec: &Spec, result: &FindingResult) -> bool {
    let by = CATALOGUE
        .iter()
        .find(|other| other.category == result.finding.category)
        .unwrap();
    // A container on a plain directory is not covered in full, whatever else happens in it.
    let plain =
        by.id == "container_not_covered" && spec.simulation.root == detect::simulation::Root::Plain;
    by.id != spec.id && (BROAD.contains(&by.id) || plain)
}

/// `simulate` without the watcher's state directory cannot ask it whether it is done, and must leave it the time.
#[test]
fn a_watcher_of_another_state_directory_can_compare_with_the_image() {
    let watcher = Watcher::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let id = "modified_malicious_binary_executed";
    let said = simulate(elsewhere.path(), id);
    assert!(said.contains("no watcher works on"), "{said}");
    let found = watcher.stop().findings_of(&container_name(&said));
    assert_eq!(
        categories(&found),
        [detect::find(id).unwrap().category],
        "{}",
        described(&found)
    );
}

/// The same act with each engine: the container's metadata must be found in each engine's own way.
#[test]
fn an_engine_makes_no_difference() {
    let containerd = Containerd::start();
    let docker = Docker::start();
    let podman = Podman::start();
    let socket = |engine: &dyn Engine| engine.directory().join("sock").to_str().unwrap().to_owned();
    let file = |name: &str| podman.directory().join(name).to_str().unwrap().to_owned();
    let environment = [
        ("CONTAINERD_ADDRESS", socket(&containerd)),
        ("DOCKER_HOST", format!("unix://{}", socket(&docker))),
        ("CONTAINERS_STORAGE_CONF", file("storage.conf")),
        ("CONTAINERS_CONF", file("containers.conf")),
    ];
    let watcher = Watcher::start();
    let id = "added_malicious_binary_executed";
    let mut containers = Vec::new();
    for engine in ["runc", "podman", "containerd", "docker"] {
        let output = testkit::command::output(
            Command::new(HULLWATCH)
                .args(["simulate", id, "--runtime", engine, "--state-dir"])
                .arg(watcher.state_dir())
                .envs(environment.clone()),
        );
        assert_eq!(
            output.status.code(),
            Some(0),
            "{engine}: {}",
            stderr(&output)
        );
        containers.push((engine, container_name(&stderr(&output))));
    }
    let state = watcher.stop();
    for (engine, container) in containers {
        let found = state.findings_of(&container);
        assert_eq!(
            categories(&found),
            ["Execution: Added Malicious Binary Executed"],
            "{engine}: {container} {}",
            described(&found)
        );
        let image = found[0].finding.containers[0].uri.as_str();
        // runc knows no images.
        assert_eq!(
            engine != "runc",
            image.contains("hullwatch-simulation"),
            "{engine}: {image}"
        );
    }
}
