//! Programs that are gone as soon as they have run: every one of them has its hash.

use std::collections::BTreeSet;

use detect::samples::{Kind, Sample};
use model::finding::FindingResult;
use testkit::{
    Engine, Image, Run,
    engines::{self, Runc},
};

use crate::{
    stimuli,
    watcher::{Options, State, Watcher, described},
};

/// Programs of each way.
const COUNT: u32 = 2_000;

/// What `stimuli/drop.c` runs as the program of that number.
fn program(way: &str, number: u32) -> Vec<u8> {
    let mut bytes = sample(way);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

fn sample(way: &str) -> Vec<u8> {
    let name: &'static str = Box::leak(format!("vanishing {way}").into_boxed_str());
    Sample {
        name,
        kind: Kind::Program,
        listed: false,
    }
    .bytes()
}

/// Runs `COUNT` programs in that way, below that directory, and returns what was found and what should have been.
fn run(
    way: &str,
    directory: &str,
    volume: Option<&std::path::Path>,
    config: &str,
) -> (State, String, BTreeSet<String>) {
    let image = Image::busybox("example.test/vanishing:v1")
        .file("/bin/drop", 0o755, &stimuli::build("drop"))
        .file("/sample", 0o644, &sample(way));
    let expected: BTreeSet<String> = (0..COUNT)
        .map(|number| stimuli::sha256(&program(way, number)))
        .collect();
    let mut engine = Runc::start();
    engine.load(&image);
    let mut run = Run::new("hw-e2e-vanishing", &image).tmpfs("/scratch");
    if let Some(volume) = volume {
        run = run.volume(volume, "/volume", true);
    }
    let intel: Vec<&str> = expected.iter().map(String::as_str).collect();
    let watcher = Watcher::start_with(&Options {
        config,
        intel: &intel.join("\n"),
        ..Options::default()
    });
    let container = engine.run(&run);
    let output = engine.exec(
        &container,
        &["/bin/drop", way, "/sample", &COUNT.to_string(), directory],
    );
    assert!(output.status.success(), "{output:?}");
    (watcher.stop(), container.name, expected)
}

/// Of the programs that were judged as what they are: added.
fn hashes(found: &[FindingResult]) -> BTreeSet<String> {
    let binaries = found
        .iter()
        .filter(|result| result.finding.category == "Execution: Added Malicious Binary Executed")
        .filter_map(|result| result.finding.processes[0].binary.as_ref());
    binaries
        .map(|file| file.sha256.clone())
        .filter(|sha256| !sha256.is_empty())
        .collect()
}

/// Tells of the findings that are not about one of the programs, too: they say what became of it.
fn assert_all_found(what: &str, found: &[FindingResult], expected: &BTreeSet<String>) {
    let missed = expected.difference(&hashes(found)).count();
    let others: Vec<_> = found
        .iter()
        .filter(|result| hashes(std::slice::from_ref(result)).is_empty())
        .cloned()
        .collect();
    assert_eq!(
        missed,
        0,
        "{what}: {missed} of {COUNT} were not found, but:\n{}",
        described(&others)
    );
}

#[test]
fn every_program_dropped_run_and_deleted_has_its_hash() {
    let volume = tempfile::tempdir().unwrap();
    for directory in ["/tmp", "/scratch", "/volume"] {
        let (state, container, expected) = run("file", directory, Some(volume.path()), "");
        assert_all_found(directory, &state.findings_of(&container), &expected);
    }
}

#[test]
fn every_program_without_a_name_has_its_hash() {
    for (way, directory) in [("unlinked", "/tmp"), ("tmpfile", "/scratch")] {
        let (state, container, expected) = run(way, directory, None, "");
        assert_all_found(way, &state.findings_of(&container), &expected);
    }
}

/// Each engine mounts and starts containers in its own way.
#[test]
fn programs_without_a_name_have_their_hash_in_every_engine() {
    const EACH: u32 = 20;
    let ways = [("memfd", "/"), ("tmpfile", "/tmp")];
    let mut image = Image::busybox("example.test/nameless:v1").file(
        "/bin/drop",
        0o755,
        &stimuli::build("drop"),
    );
    let mut expected = BTreeSet::new();
    for (way, _) in ways {
        image = image.file(&format!("/{way}"), 0o644, &sample(way));
        expected.extend((0..EACH).map(|number| stimuli::sha256(&program(way, number))));
    }
    let intel: Vec<&str> = expected.iter().map(String::as_str).collect();
    let mut engines = engines::all();
    let watcher = Watcher::start_with(&Options {
        intel: &intel.join("\n"),
        ..Options::default()
    });
    let containers: Vec<_> = engines
        .iter_mut()
        .map(|engine| {
            engine.load(&image);
            let container = engine.run(&Run::new("hw-e2e-nameless", &image));
            for (way, directory) in ways {
                let (sample, count) = (format!("/{way}"), EACH.to_string());
                let command = ["/bin/drop", way, &sample, &count, directory];
                let output = engine.exec(&container, &command);
                assert!(output.status.success(), "{}: {output:?}", engine.name());
            }
            (engine.name(), container)
        })
        .collect();
    let state = watcher.stop();
    for (engine, container) in containers {
        let found = state.findings_of(&container.name);
        let missed = expected.difference(&hashes(&found)).count();
        // See every_memfd_has_its_hash_or_the_reason_why_not().
        assert!(
            missed * 10 <= EACH as usize,
            "{engine}: {missed} were not found, but:\n{}",
            described(&found)
        );
    }
}

/// A memfd has no name and no mount that could be watched.
#[test]
fn every_memfd_has_its_hash() {
    let (state, container, expected) = run("memfd", "/", None, "");
    assert_all_found("memfd", &state.findings_of(&container), &expected);
}

/// The bytes that ran are gone before anybody can read them, and what is there now is not taken for them.
#[test]
fn no_program_hides_by_being_overwritten() {
    let config = "[detection.detectors.added_binary_executed]\nenabled = true\n";
    let (state, container, expected) = run("overwritten", "/tmp", None, config);
    let found = state.findings_of(&container);
    let missed = expected.difference(&hashes(&found)).count();
    let reasons: u64 = found
        .iter()
        .map(|result| &result.finding.source_properties)
        .filter(|properties| {
            let provenance = properties.get("Provenance").map(ToString::to_string);
            provenance.is_some_and(|files| files.contains("sha256MissingReason"))
        })
        .map(|properties| {
            let count = properties.get(store::OCCURRENCES);
            count.and_then(serde_json::Value::as_u64).unwrap_or(1)
        })
        .sum();
    assert_eq!(
        missed as u64, reasons,
        "{missed} of {COUNT} have no hash, {reasons} of them say why"
    );
}
