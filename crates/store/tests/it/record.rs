//! Recording: new findings, repeats, what a repeat leaves alone, runs.

use model::finding::{Severity, State};
use store::{FIRST_SEEN, Gap, GapKind, OCCURRENCES, Outcome, Store};

use crate::support::{at, finding, list, name, store};

#[test]
fn a_repeat_folds_into_the_finding() {
    let (_folder, store) = store();
    let first = store.record(&[finding(1)]).unwrap();
    assert_eq!(first[0].outcome, Outcome::New);
    let created = store.get(&name(1)).unwrap().finding.create_time;

    let mut again = finding(1);
    again.finding.event_time = Some(at(50));
    again.finding.processes[0].pid = 77;
    let outcomes = store.record(&[again.clone(), again]).unwrap();
    assert_eq!(outcomes[0].outcome, Outcome::Repeat { count: 2 });
    assert_eq!(outcomes[1].outcome, Outcome::Repeat { count: 3 });

    let stored = store.get(&name(1)).unwrap().finding;
    assert_eq!(stored.event_time, Some(at(50)));
    assert_eq!(stored.create_time, created);
    assert_eq!(stored.processes[0].pid, 77);
    assert_eq!(stored.source_properties[OCCURRENCES], 3);
    assert_eq!(stored.source_properties[FIRST_SEEN], at(1).to_string());
    assert_eq!(list(&store, "").total_size, 1);
}

#[test]
fn a_finding_may_stand_for_several_times() {
    let (_folder, store) = store();
    let mut several = finding(1);
    let properties = &mut several.finding.source_properties;
    properties.insert(OCCURRENCES.to_owned(), 40.into());
    let outcomes = store.record(&[several.clone(), several]).unwrap();
    assert_eq!(outcomes[0].outcome, Outcome::New);
    assert_eq!(outcomes[1].outcome, Outcome::Repeat { count: 80 });
    let stored = store.get(&name(1)).unwrap().finding;
    assert_eq!(stored.source_properties[OCCURRENCES], 80);
}

#[test]
fn a_late_event_counts_but_does_not_replace_the_evidence() {
    let (_folder, store) = store();
    store.record(&[finding(9)]).unwrap();
    let mut late = finding(9);
    late.finding.event_time = Some(at(3));
    late.finding.description = "older".to_owned();
    let outcomes = store.record(&[late]).unwrap();
    assert_eq!(outcomes[0].outcome, Outcome::Repeat { count: 2 });
    let stored = store.get(&name(9)).unwrap().finding;
    assert_eq!(stored.event_time, Some(at(9)));
    assert_eq!(stored.description, "");
}

#[test]
fn a_change_of_severity_or_state_is_told_apart_from_a_repeat() {
    let (_folder, store) = store();
    let mut seen = finding(1);
    store.record(&[seen.clone()]).unwrap();
    let mut record = |severity, state| {
        seen.finding.severity = severity;
        seen.finding.state = state;
        store.record(&[seen.clone()]).unwrap()[0].outcome
    };
    assert_eq!(
        record(Severity::Low, State::Active),
        Outcome::Changed { count: 2 }
    );
    assert_eq!(
        record(Severity::High, State::Inactive),
        Outcome::Changed { count: 2 }
    );
    assert_eq!(
        record(Severity::Low, State::Inactive),
        Outcome::Repeat { count: 2 }
    );
    assert_eq!(
        record(Severity::Low, State::Active),
        Outcome::Reactivated { count: 3 }
    );
}

#[test]
fn a_bad_name_stores_nothing_of_its_batch() {
    let (_folder, store) = store();
    let mut bad = finding(2);
    bad.finding.name = "organizations/1/sources/1/findings/no-good".to_owned();
    assert!(store.record(&[finding(1), bad]).is_err());
    assert_eq!(list(&store, "").total_size, 0);
}

#[test]
fn a_name_without_location_is_the_global_one() {
    let (_folder, store) = store();
    store.record(&[finding(1)]).unwrap();
    let short = name(1).replace("/locations/global", "");
    assert_eq!(store.get(&short).unwrap().finding.name, name(1));
}

#[test]
fn readers_see_what_another_store_wrote() {
    let (folder, store) = store();
    let reader = Store::open_read_only(folder.path()).unwrap();
    assert_eq!(list(&reader, "").total_size, 0);
    store.record(&[finding(1)]).unwrap();
    assert_eq!(list(&reader, "").results[0].finding.name, name(1));
    assert!(reader.record(&[finding(2)]).is_err());
}

#[test]
fn a_missing_store_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let Err(error) = Store::open_read_only(folder.path()) else {
        panic!("opened nothing");
    };
    assert!(error.to_string().contains("no store at"), "{error}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn a_store_that_cannot_be_reached_is_not_called_missing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let Err(error) = Store::open_read_only(file.path()) else {
        panic!("opened nothing");
    };
    assert!(error.to_string().contains("cannot open"), "{error}");
}

#[test]
fn what_findings_have_in_common_is_not_stored_with_each() {
    let (folder, store) = store();
    let findings: Vec<_> = (0..100).map(finding).collect();
    store.record(&findings).unwrap();
    let shown = list(&store, "").results;
    assert_eq!(shown.len(), 100);
    let written: usize = shown
        .iter()
        .map(|result| serde_json::to_string(result).unwrap().len())
        .sum();
    let file = rusqlite::Connection::open(folder.path().join("hullwatch.db")).unwrap();
    let stored: i64 = file
        .query_row("SELECT sum(length(body)) FROM document", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(stored < written as i64 / 2, "{stored} of {written} bytes");
}

#[test]
fn a_newer_schema_is_refused() {
    let (folder, store) = store();
    drop(store);
    let file = rusqlite::Connection::open(folder.path().join("hullwatch.db")).unwrap();
    file.pragma_update(None, "user_version", 9999).unwrap();
    for result in [
        Store::open(folder.path()),
        Store::open_read_only(folder.path()),
    ] {
        let Err(error) = result else {
            panic!("opened a newer schema");
        };
        assert!(error.to_string().contains("newer"), "{error}");
    }
}

#[test]
fn a_gap_says_how_the_previous_run_ended() {
    let (_folder, store) = store();
    assert_eq!(store.begin_run(at(0)).unwrap(), None);
    store.heartbeat(at(10)).unwrap();
    let gap = |from, to, kind| {
        Some(Gap {
            from: at(from),
            to: at(to),
            kind,
        })
    };
    assert_eq!(store.begin_run(at(20)).unwrap(), gap(10, 20, GapKind::Lost));
    store.end_run(at(30)).unwrap();
    assert_eq!(store.last_heartbeat().unwrap(), Some((at(30), true)));
    assert_eq!(
        store.begin_run(at(40)).unwrap(),
        gap(30, 40, GapKind::Stopped)
    );
}
