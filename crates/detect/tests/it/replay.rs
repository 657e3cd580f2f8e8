//! Recordings are replayed, what they raise is compared with what was expected.
//!
//! `testdata/<detector>/fires_<case>.jsonl` must raise that detector, `quiet_<case>.jsonl` must not; `.expect` beside it says
//! what is raised, by all detectors. With `UPDATE_EXPECT=1` a recording that is missing is made from [`crate::scenario`];
//! one recorded from a real container may take its place.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use detect::{CATALOGUE, DetectorSettings, Dispatcher, Settings};
use model::{detection::Detection, recording};

use crate::{expect_file, scenario};

pub(crate) fn directory(detector: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(detector)
}

pub(crate) fn everything_on() -> Settings {
    let on = DetectorSettings {
        enabled: Some(true),
        severity: None,
    };
    Settings {
        detectors: CATALOGUE
            .iter()
            .map(|spec| (spec.id.to_owned(), on.clone()))
            .collect(),
        ..Settings::default()
    }
}

fn write_missing_recordings() {
    for scenario in scenario::all() {
        let path = directory(scenario.detector).join(format!("{}.jsonl", scenario.name));
        if path.exists() {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut out = File::create(path).unwrap();
        recording::write_header(&mut out, scenario.about).unwrap();
        for event in &scenario.events {
            recording::write_event(&mut out, event).unwrap();
        }
    }
}

fn replay(path: &Path) -> Vec<Detection> {
    let mut dispatcher = Dispatcher::new(&everything_on());
    let events = recording::read(BufReader::new(File::open(path).unwrap())).unwrap();
    events
        .flat_map(|event| dispatcher.on_event(&event.unwrap()))
        .collect()
}

fn print(detections: &[Detection]) -> String {
    let mut out = String::new();
    for detection in detections {
        writeln!(out, "{}", detection.detector).unwrap();
        writeln!(out, "  {}", detection.description).unwrap();
        writeln!(out, "  identity: {:?}", detection.identity).unwrap();
        for file in &detection.files {
            writeln!(out, "  file: {}", file.path).unwrap();
        }
        for (key, value) in &detection.properties {
            writeln!(out, "  {key}: {value}").unwrap();
        }
    }
    out
}

#[test]
fn recordings_raise_what_is_expected() {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        write_missing_recordings();
    }
    for spec in CATALOGUE {
        let mut paths: Vec<PathBuf> = fs::read_dir(directory(spec.id))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "jsonl")
            })
            .collect();
        paths.sort();
        for path in paths {
            let detections = replay(&path);
            let is_raised = detections
                .iter()
                .any(|detection| detection.detector == spec.id);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(is_raised, name.starts_with("fires_"), "{}", path.display());
            expect_file(&path.with_extension("expect"), &print(&detections));
        }
    }
}

#[test]
fn replaying_twice_gives_the_same() {
    for scenario in scenario::all() {
        let run = || {
            let mut dispatcher = Dispatcher::new(&everything_on());
            let events = scenario.events.iter();
            events
                .flat_map(|event| dispatcher.on_event(event))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run(), "{}", scenario.name);
    }
}

#[test]
fn settings_decide_what_runs() {
    let off = DetectorSettings {
        enabled: Some(false),
        severity: None,
    };
    let mut settings = Settings::default();
    let runs = |settings: &Settings, id: &str| {
        let dispatcher = Dispatcher::new(settings);
        dispatcher.running().any(|spec| spec.id == id)
    };
    assert!(runs(&settings, "added_malicious_binary_executed"));
    assert!(!runs(&settings, "added_binary_executed"));
    settings
        .detectors
        .insert("added_malicious_binary_executed".to_owned(), off.clone());
    assert!(!runs(&settings, "added_malicious_binary_executed"));
    assert_eq!(settings.check(), Ok(()));
    settings
        .detectors
        .insert("no_such_detector".to_owned(), off);
    assert!(
        settings
            .check()
            .unwrap_err()
            .to_string()
            .contains("no_such_detector")
    );
}
