//! A store in a folder of its own, and findings to put into it.

use model::Timestamp;
use model::finding::{
    Container, File, Finding, FindingClass, FindingResult, MitreAttack, Process, Resource,
    Severity, State,
};
use store::{Page, Query, Store};
use tempfile::TempDir;

/// Noon of 2026-03-01, in nanoseconds.
const NOON: u64 = 1_772_366_400_000_000_000;

pub(crate) fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(folder.path()).expect("new store");
    (folder, store)
}

/// `seconds` after noon of 2026-03-01.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp(NOON + seconds * 1_000_000_000)
}

pub(crate) fn name(number: u64) -> String {
    format!("organizations/1/sources/1/locations/global/findings/{number:032x}")
}

/// A finding about a binary that ran `number` seconds after noon.
pub(crate) fn finding(number: u64) -> FindingResult {
    FindingResult {
        finding: Finding {
            name: name(number),
            parent: "organizations/1/sources/1/locations/global".to_owned(),
            resource_name: "//run.googleapis.com/projects/p/locations/l/services/api".to_owned(),
            state: State::Active,
            category: "Execution: Added Malicious Binary Executed".to_owned(),
            severity: Severity::Critical,
            finding_class: FindingClass::Threat,
            event_time: Some(at(number)),
            mitre_attack: Some(MitreAttack {
                primary_tactic: "EXECUTION".to_owned(),
                primary_techniques: vec!["NATIVE_API".to_owned()],
                ..MitreAttack::default()
            }),
            processes: vec![Process {
                name: "x".to_owned(),
                binary: Some(File {
                    path: "/tmp/x".to_owned(),
                    sha256: format!("{number:064x}"),
                    ..File::default()
                }),
                args: vec!["/tmp/x".to_owned(), "--quiet".to_owned()],
                ..Process::default()
            }],
            containers: vec![Container {
                name: "api-1".to_owned(),
                uri: "registry.test/api:1".to_owned(),
                ..Container::default()
            }],
            ..Finding::default()
        },
        resource: Resource {
            name: "//run.googleapis.com/projects/p/locations/l/services/api".to_owned(),
            display_name: "api".to_owned(),
            kind: "run.googleapis.com/Service".to_owned(),
            ..Resource::default()
        },
    }
}

/// xorshift: the same findings and questions in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// 0 included.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

pub(crate) fn list(store: &Store, filter: &str) -> Page {
    let query = Query {
        filter: filter.to_owned(),
        page_size: 1000,
        ..Query::default()
    };
    store.list(&query).expect(filter)
}
