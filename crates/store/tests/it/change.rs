//! What people and the API change: masks, state, mute, marks, external systems, and that a repeat leaves it alone.

use model::finding::{FindingResult, Mute, Severity, State};
use serde_json::json;
use store::{Change, Credential, CredentialKind, Error, FINDING_BYTES_MAX, Outcome, Store};

use crate::support::{at, finding, list, name, store};

fn by(seconds: u64) -> Change<'static> {
    Change {
        who: "ada",
        now: at(seconds),
    }
}

fn with(number: u64, change: impl FnOnce(&mut FindingResult)) -> FindingResult {
    let mut result = finding(number);
    change(&mut result);
    result
}

fn filled() -> (tempfile::TempDir, Store) {
    let (folder, store) = store();
    store.record(&[finding(1)]).unwrap();
    (folder, store)
}

#[test]
fn what_a_user_set_survives_repeats() {
    let (_folder, store) = filled();
    store.set_state(&name(1), State::Inactive, by(10)).unwrap();
    store.set_mute(&name(1), Mute::Muted, by(11)).unwrap();
    store
        .set_marks(
            &name(1),
            &[("team".to_owned(), "red".to_owned())].into(),
            &[],
            by(12),
        )
        .unwrap();
    let entry = json!({"caseUri": "https://case.test/1"});
    store
        .set_external_system(&name(1), "jira", entry.as_object().unwrap(), &[], by(13))
        .unwrap();

    let recorded = store
        .record(&[with(1, |result| result.finding.event_time = Some(at(69)))])
        .unwrap();
    assert_eq!(recorded[0].outcome, Outcome::Repeat { count: 2 });
    assert!(recorded[0].muted);
    let stored = store.get(&name(1)).unwrap().finding;
    assert_eq!(stored.event_time, Some(at(69)));
    assert_eq!((stored.state, stored.mute), (State::Inactive, Mute::Muted));
    assert_eq!(stored.mute_initiator, "Muted by ada");
    assert_eq!(stored.mute_update_time, Some(at(11)));
    assert_eq!(stored.security_marks.unwrap().marks["team"], "red");
    assert_eq!(
        stored.external_systems["jira"]["caseUri"],
        "https://case.test/1"
    );
    assert_eq!(
        list(
            &store,
            "state=\"INACTIVE\" mute=\"MUTED\" security_marks.marks.team:red"
        )
        .total_size,
        1
    );
}

#[test]
fn a_severity_that_a_user_set_lasts_until_the_detector_says_something_else() {
    let (_folder, store) = filled();
    store.set_sink("all", "").unwrap();
    let waiting = || store.sinks().unwrap()[0].waiting;
    let set = |severity, seconds| {
        let given = with(1, |result| result.finding.severity = severity);
        store
            .update_finding(&name(1), &given, &["severity"], by(seconds))
            .unwrap()
    };
    let seen = |severity, seconds| {
        let seen = with(1, |result| {
            result.finding.severity = severity;
            result.finding.event_time = Some(at(seconds));
        });
        let outcome = store.record(&[seen]).unwrap()[0].outcome;
        (outcome, store.get(&name(1)).unwrap().finding.severity)
    };
    set(Severity::Low, 10);
    assert_eq!(waiting(), 1);
    // The detector has said critical from the beginning.
    let repeat = |count| Outcome::Repeat { count };
    assert_eq!(seen(Severity::Critical, 11), (repeat(2), Severity::Low));
    set(Severity::Medium, 12);
    assert_eq!(seen(Severity::Critical, 13), (repeat(3), Severity::Medium));
    assert_eq!(waiting(), 2);
    assert_eq!(
        seen(Severity::High, 14),
        (Outcome::Changed { count: 4 }, Severity::High)
    );
    assert_eq!(
        seen(Severity::Critical, 15),
        (Outcome::Changed { count: 5 }, Severity::Critical)
    );
    assert_eq!(waiting(), 4);
}

#[test]
fn an_update_creates_what_is_missing_unless_it_has_a_mask() {
    let (_folder, store) = store();
    let given = with(5, |result| {
        result.finding.source_properties = [("a".to_owned(), json!(1))].into()
    });
    assert!(matches!(
        store.update_finding(&name(5), &given, &["severity"], by(1)),
        Err(Error::NotFound(_))
    ));
    let created = store
        .update_finding(&name(5), &given, &[], by(1))
        .unwrap()
        .finding;
    assert_eq!(created.create_time, Some(at(1)));
    assert_eq!(created.source_properties, given.finding.source_properties);
    assert!(matches!(
        store.create_finding(&name(5), &given, by(2)),
        Err(Error::Exists(_))
    ));
}

#[test]
fn a_mask_changes_what_it_names() {
    let (_folder, store) = store();
    let properties = |pairs: &[(&str, i64)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect()
    };
    let first = with(1, |result| {
        result.finding.source_properties = properties(&[("a", 1), ("b_c", 2)]);
        result.finding.description = "old".to_owned();
    });
    store.create_finding(&name(1), &first, by(1)).unwrap();
    let second = with(1, |result| {
        result.finding.source_properties = properties(&[("a", 10), ("d", 4)]);
        result.finding.description = "new".to_owned();
        result.finding.severity = Severity::Low;
        result.finding.state = State::Inactive;
        result.finding.category = "other".to_owned();
    });
    let update = |mask: &[&str]| store.update_finding(&name(1), &second, mask, by(2));

    let updated = update(&[
        "source_properties.a",
        "source_properties.b_c",
        "sourceProperties.d",
    ])
    .unwrap()
    .finding;
    assert_eq!(
        updated.source_properties,
        properties(&[("a", 10), ("d", 4)])
    );
    assert_eq!(
        (updated.description.as_str(), updated.severity),
        ("old", Severity::Critical)
    );

    assert_eq!(
        update(&["severity", "state"]).unwrap().finding.severity,
        Severity::Low
    );
    assert_eq!(
        list(&store, "severity=LOW state=INACTIVE source_properties.a=10").total_size,
        1
    );
    assert_eq!(list(&store, "source_properties.b_c=2").total_size, 0);

    for bad in [
        &["category"][..],
        &["nothing"],
        &["description", "colour.red"],
    ] {
        assert!(
            matches!(
                update(bad),
                Err(Error::Invalid {
                    what: "update_mask",
                    ..
                })
            ),
            "{bad:?}"
        );
    }
    // Named, but not for updates to change.
    assert_eq!(
        update(&["name", "create_time"])
            .unwrap()
            .finding
            .create_time,
        Some(at(1))
    );
    let whole = update(&[]).unwrap().finding;
    assert_eq!(
        (whole.description.as_str(), whole.category.as_str()),
        ("new", finding(1).finding.category.as_str())
    );
}

#[test]
fn whoever_mutes_by_an_update_is_noted() {
    let (_folder, store) = store();
    let muted = |number, mute| with(number, |result| result.finding.mute = mute);
    let who = |change: &'static str, seconds| Change {
        who: change,
        now: at(seconds),
    };
    let check = |found: FindingResult, by: &str, seconds| {
        assert_eq!(found.finding.mute_initiator, by);
        assert_eq!(found.finding.mute_update_time, Some(at(seconds)));
        assert_eq!(store.get(&found.finding.name).unwrap(), found);
    };
    let created = store
        .create_finding(&name(1), &muted(1, Mute::Muted), who("ada", 10))
        .unwrap();
    check(created, "Muted by ada", 10);
    let updated = store
        .update_finding(&name(2), &muted(2, Mute::Unmuted), &[], who("ada", 11))
        .unwrap();
    check(updated, "Unmuted by ada", 11);
    for (mask, seconds) in [(&["mute"][..], 20), (&[], 30)] {
        for (mute, change, by) in [
            (Mute::Unmuted, who("bob", seconds), "Unmuted by bob"),
            (Mute::Muted, who("eve", seconds + 1), "Muted by eve"),
        ] {
            let given = muted(1, mute);
            let updated = store
                .update_finding(&name(1), &given, mask, change)
                .unwrap();
            assert_eq!(updated.finding.mute, mute);
            check(
                updated,
                by,
                change.now.0 / 1_000_000_000 - at(0).0 / 1_000_000_000,
            );
            // What is so already stays whose it is.
            let again = store
                .update_finding(&name(1), &given, mask, who("mallory", 99))
                .unwrap();
            assert_eq!(again.finding.mute_initiator, by);
        }
    }
}

#[test]
fn marks_do_not_know_case() {
    let (_folder, store) = filled();
    let set = |marks: &[(&str, &str)], mask: &[&str]| {
        let marks = marks
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        store
            .set_marks(&name(1), &marks, mask, by(1))
            .map(|result| result.finding.security_marks.unwrap().marks)
    };
    let pairs = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    assert_eq!(
        set(&[("A", " 1 "), ("b", "2")], &[]).unwrap(),
        pairs(&[("A", "1"), ("b", "2")])
    );
    assert_eq!(
        set(&[("a", "3")], &["marks.a"]).unwrap(),
        pairs(&[("a", "3"), ("b", "2")])
    );
    // Given but not named; named but not given.
    assert_eq!(
        set(&[("b", "9")], &["marks.A"]).unwrap(),
        pairs(&[("b", "2")])
    );
    assert_eq!(
        set(&[("c", "4")], &["marks"]).unwrap(),
        pairs(&[("c", "4")])
    );
    for bad in [&[("", "x")][..], &[("a b", "x")], &[("a", "  ")]] {
        assert!(set(bad, &[]).is_err(), "{bad:?}");
    }
    assert!(set(&[("a", "1")], &["severity"]).is_err());
}

#[test]
fn an_external_system_is_updated_by_field() {
    let (_folder, store) = filled();
    let set = |entry: serde_json::Value, mask: &[&str]| {
        let result =
            store.set_external_system(&name(1), "jira", entry.as_object().unwrap(), mask, by(5));
        result.map(|result| result.finding.external_systems["jira"].clone())
    };
    set(json!({"status": "open", "assignees": ["ada"]}), &[]).unwrap();
    let entry = set(json!({"status": "done", "assignees": ["bob"]}), &["status"]).unwrap();
    assert_eq!(
        (&entry["status"], &entry["assignees"]),
        (&json!("done"), &json!(["ada"]))
    );
    assert_eq!(entry["name"], format!("{}/externalSystems/jira", name(1)));
    assert!(
        store
            .set_external_system(&name(1), "a/b", json!({}).as_object().unwrap(), &[], by(1))
            .is_err()
    );
}

#[test]
fn every_change_is_in_the_audit_log() {
    let (_folder, store) = filled();
    store.set_state(&name(1), State::Inactive, by(10)).unwrap();
    store.set_mute(&name(1), Mute::Muted, by(11)).unwrap();
    assert!(store.set_state(&name(2), State::Inactive, by(12)).is_err());
    let log = store.audit_log(i64::MAX, 10).unwrap();
    let actions: Vec<_> = log
        .iter()
        .map(|entry| (entry.who.as_str(), entry.action.as_str(), entry.time))
        .collect();
    assert_eq!(
        actions,
        [("ada", "set mute", at(11)), ("ada", "set state", at(10))]
    );
    assert_eq!(store.audit_log(log[0].id, 10).unwrap(), log[1..]);
    // Under one name, however it was called.
    let short = name(1).replace("/locations/global", "");
    assert_ne!(short, name(1));
    store.set_mute(&short, Mute::Unmuted, by(13)).unwrap();
    let of_it = store.audit_log_of(&name(1), 2).unwrap();
    assert_eq!((of_it[0].time, &of_it[1]), (at(13), &log[0]));
}

#[test]
fn refused_logins_cannot_fill_the_audit_log() {
    const MINUTE: u64 = 60;
    let (_folder, store) = filled();
    store.set_mute(&name(1), Mute::Muted, by(1)).unwrap();
    for minute in 0..90 {
        store
            .note_refused_login("192.0.2.1", at(minute * MINUTE))
            .unwrap();
    }
    assert_eq!(store.audit_log_of("192.0.2.1", 10).unwrap().len(), 2);
    for number in 0..1200 {
        let address = format!("198.51.100.{number}");
        store
            .note_refused_login(&address, at(100 * MINUTE))
            .unwrap();
    }
    let log = store.audit_log(i64::MAX, 2000).unwrap();
    assert_eq!(log.len(), 1001, "a thousand of them, and the change");
    assert_eq!(log[0].target, "198.51.100.1199");
    assert_eq!(log[1000].action, "set mute");
}

#[test]
fn what_a_user_closed_is_open_again_when_it_happens_again() {
    let (folder, store) = filled();
    let record = |store: &Store, second| {
        let seen = with(1, |result| result.finding.event_time = Some(at(second)));
        store.record(&[seen]).unwrap()[0].outcome
    };
    store.set_state(&name(1), State::Inactive, by(100)).unwrap();
    assert_eq!(record(&store, 160), Outcome::Repeat { count: 2 });
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(record(&store, 161), Outcome::Reactivated { count: 3 });
    assert_eq!(record(&store, 162), Outcome::Repeat { count: 4 });
    let update = with(1, |result| result.finding.state = State::Inactive);
    store
        .update_finding(&name(1), &update, &["state"], by(200))
        .unwrap();
    assert_eq!(record(&store, 201), Outcome::Repeat { count: 5 });
    assert_eq!(record(&store, 300), Outcome::Reactivated { count: 6 });
    let state = store.get(&name(1)).unwrap().finding.state;
    assert_eq!(state, State::Active);
}

#[test]
fn old_findings_go_with_everything_kept_of_them() {
    let (_folder, store) = store();
    store
        .record(&(0..500).map(finding).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(store.prune(at(400)).unwrap(), 400);
    assert_eq!(list(&store, "").total_size, 100);
    assert_eq!(
        list(&store, &format!("processes.binary.sha256=\"{:064x}\"", 7)).total_size,
        0
    );
    assert_eq!(list(&store, "processes.args=\"--quiet\"").total_size, 100);
    assert!(matches!(store.get(&name(399)), Err(Error::NotFound(_))));
    store.record(&[finding(7)]).unwrap();
    assert_eq!(
        list(&store, &format!("processes.binary.sha256=\"{:064x}\"", 7)).total_size,
        1
    );
}

#[test]
fn values_that_no_finding_has_go_with_the_next_old_finding() {
    let (_folder, store) = store();
    let of_rest = |store: &Store| store.values("processes.args", "--old", 10).unwrap();
    let mut first = finding(1000);
    first.finding.processes[0].args.push("--old".to_owned());
    store.record(&[finding(1), first]).unwrap();
    let mut again = finding(1001);
    again.finding.name = name(1000);
    store.record(&[again]).unwrap();
    // Reading all columns is not worth it for a few values.
    assert_eq!(store.prune(at(0)).unwrap(), 0);
    assert_eq!(of_rest(&store), ["--old"]);
    assert_eq!(store.prune(at(500)).unwrap(), 1);
    assert!(of_rest(&store).is_empty());
    assert_eq!(list(&store, "processes.args=\"--quiet\"").total_size, 1);
}

#[test]
fn no_change_makes_a_finding_larger_than_its_bound() {
    let (_folder, store) = filled();
    let large = |bytes: usize| {
        let mut result = finding(1);
        result.finding.description = "x".repeat(bytes);
        result
    };
    let too_large = large(FINDING_BYTES_MAX);
    let refused = |changed: Result<FindingResult, Error>| {
        assert!(matches!(changed, Err(Error::Invalid { .. })), "{changed:?}");
    };
    refused(store.create_finding(&name(1000), &too_large, by(1)));
    assert!(matches!(store.get(&name(1000)), Err(Error::NotFound(_))));
    refused(store.update_finding(&name(1000), &too_large, &[], by(1)));
    refused(store.update_finding(&name(1), &too_large, &["description"], by(1)));

    // Piece by piece it is no larger in the end.
    let most = large(FINDING_BYTES_MAX - 10_000);
    store
        .update_finding(&name(1), &most, &["description"], by(1))
        .unwrap();
    let ticket = json!({"name": "", "ticketInfo": {"description": "x".repeat(10_000)}});
    refused(store.set_external_system(
        &name(1),
        "tracker",
        ticket.as_object().unwrap(),
        &[],
        by(1),
    ));
    let marks = (0..3).map(|number| (format!("m{number}"), "x".repeat(4000)));
    refused(store.set_marks(&name(1), &marks.collect(), &[], by(1)));
    store.set_mute(&name(1), Mute::Muted, by(1)).unwrap();
}

#[test]
fn a_long_detail_is_noted_in_part() {
    let (_folder, store) = filled();
    let ticket = json!({"ticketInfo": {"description": "\u{e4}".repeat(100_000)}});
    let ticket = ticket.as_object().unwrap();
    store
        .set_external_system(&name(1), "tracker", ticket, &[], by(1))
        .unwrap();
    let log = store.audit_log_of(&name(1), 1).unwrap();
    let detail = log[0].detail.as_str().unwrap();
    assert!(detail.starts_with("{\"ticketInfo\""), "{detail}");
    assert!(detail.len() < 20_000);
}

#[test]
fn a_token_is_noted_with_its_making_and_nothing_when_it_is_refused() {
    let (_folder, store) = store();
    let token = |id: &str| Credential {
        id: id.to_owned(),
        kind: CredentialKind::Token,
        name: "ci".to_owned(),
        role: "viewer".to_owned(),
        hash: [0; 32],
        created: at(1),
        expires: None,
        ended: None,
        token: None,
    };
    store.add_credential(&token("a"), by(1)).unwrap();
    assert!(store.add_credential(&token("b"), by(2)).is_err());
    let log = store.audit_log(i64::MAX, 10).unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!(
        (log[0].action.as_str(), log[0].target.as_str()),
        ("create token", "ci")
    );
    assert_eq!(log[0].detail, json!({"role": "viewer"}));
}
