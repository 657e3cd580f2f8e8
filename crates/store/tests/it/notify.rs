//! Notifications: once per new finding or change, in order, kept until delivered.

use model::finding::{GcpMetadata, Mute, Severity, State};
use serde_json::json;
use store::{Change, ContainerState, NotificationConfig, Store, StreamingConfig};

use crate::support::{at, finding, name, store};

fn by(seconds: u64) -> Change<'static> {
    Change {
        who: "ada",
        now: at(seconds),
    }
}

/// Ends in the name of the sink `soc`, which is to be there.
const TOPIC: &str = "projects/p/topics/soc";

fn waiting(store: &Store, sink: &str) -> usize {
    let sinks = store.sinks().unwrap();
    sinks
        .iter()
        .find(|state| state.name == sink)
        .unwrap()
        .waiting as usize
}

#[test]
fn new_findings_and_changes_are_queued_and_repeats_are_not() {
    let (_folder, store) = store();
    store.set_sink("all", "").unwrap();
    store.set_sink("low", "severity=\"LOW\"").unwrap();
    store.record(&[finding(1)]).unwrap();
    store.record(&[finding(1), finding(1)]).unwrap();
    assert_eq!((waiting(&store, "all"), waiting(&store, "low")), (1, 0));
    store
        .set_marks(
            &name(1),
            &[("a".to_owned(), "b".to_owned())].into(),
            &[],
            by(1),
        )
        .unwrap();
    store.set_mute(&name(1), Mute::Muted, by(1)).unwrap();
    assert_eq!(waiting(&store, "all"), 1);
    let mut low = finding(1);
    low.finding.severity = Severity::Low;
    store.record(&[low]).unwrap();
    store.set_state(&name(1), State::Inactive, by(2)).unwrap();
    assert_eq!((waiting(&store, "all"), waiting(&store, "low")), (3, 2));
}

#[test]
fn the_order_of_one_finding_holds_through_failures() {
    let (folder, store) = store();
    store.set_sink("hook", "").unwrap();
    store.record(&[finding(1), finding(2)]).unwrap();
    store.set_state(&name(1), State::Inactive, by(2)).unwrap();
    let far = at(u32::MAX.into());
    let due = |store: &Store, now| store.due("hook", now, 10).unwrap();
    let first = due(&store, far);
    assert_eq!(
        first
            .iter()
            .map(|one| one.result.finding.name.clone())
            .collect::<Vec<_>>(),
        [name(1), name(2)]
    );
    assert_eq!(first[0].result.finding.state, State::Active);

    // A failure holds back what comes after it, of this finding alone, and survives a restart.
    let later = model::Timestamp(first[0].created.0 + 60_000_000_000);
    store
        .delivery_failed(&first[0], "connection refused", later)
        .unwrap();
    store.delivered(&first[1]).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(due(&store, first[0].created).is_empty());
    assert_eq!(store.next_due("hook").unwrap(), Some(later));
    let state = store.sinks().unwrap().remove(0);
    assert_eq!(
        (state.waiting, state.error.as_str()),
        (2, "connection refused")
    );

    let again = due(&store, later);
    assert_eq!((again.len(), again[0].attempts), (1, 1));
    store.delivered(&again[0]).unwrap();
    let last = due(&store, later);
    assert_eq!(last[0].result.finding.state, State::Inactive);
    store.delivered(&last[0]).unwrap();
    assert_eq!(store.next_due("hook").unwrap(), None);
}

#[test]
fn a_notification_config_is_a_sink() {
    let (_folder, store) = store();
    store.set_sink("soc", "state=\"INACTIVE\"").unwrap();
    let config = NotificationConfig {
        name: "organizations/1/locations/global/notificationConfigs/soc".to_owned(),
        pubsub_topic: TOPIC.to_owned(),
        streaming_config: StreamingConfig {
            filter: "category:\"binary\"".to_owned(),
        },
        ..NotificationConfig::default()
    };
    store.create(&config, by(1)).unwrap();
    store.record(&[finding(1)]).unwrap();
    assert_eq!(waiting(&store, &config.name), 1);
    store
        .update(&config.name, by(2), |mut config: NotificationConfig| {
            config.streaming_config.filter = "state=\"INACTIVE\"".to_owned();
            Ok(config)
        })
        .unwrap();
    store.record(&[finding(2)]).unwrap();
    assert_eq!(waiting(&store, &config.name), 1);
    store
        .delete::<NotificationConfig>(&config.name, by(3))
        .unwrap();
    assert_eq!(store.sinks().unwrap().len(), 1);
    assert!(store.set_sink("x", "severity=").is_err());
}

#[test]
fn a_notification_config_whose_topic_names_no_sink_gathers_nothing() {
    const WEEK_NS: u64 = 7 * 24 * 3600 * 1_000_000_000;
    let (_folder, store) = store();
    store.set_sink("other", "").unwrap();
    let config = NotificationConfig {
        name: "organizations/1/locations/global/notificationConfigs/soc".to_owned(),
        pubsub_topic: TOPIC.to_owned(),
        ..NotificationConfig::default()
    };
    store.create(&config, by(1)).unwrap();
    store.record(&[finding(1)]).unwrap();
    assert_eq!(waiting(&store, &config.name), 0);
    // What comes once the sink is there is queued, and goes some time after the sink has gone.
    store.set_sink("soc", "").unwrap();
    store.record(&[finding(2)]).unwrap();
    assert_eq!(waiting(&store, &config.name), 1);
    let made = store.due(&config.name, at(u32::MAX.into()), 1).unwrap()[0].created;
    let week = made.plus_ns(WEEK_NS);
    store.retire_other_sinks(&["other"], at(1)).unwrap();
    store
        .retire_other_sinks(&["other"], model::Timestamp(week.0 - 1))
        .unwrap();
    assert_eq!(waiting(&store, &config.name), 1);
    store.retire_other_sinks(&["other"], week).unwrap();
    assert_eq!(waiting(&store, &config.name), 0);
    store.record(&[finding(3)]).unwrap();
    assert_eq!(
        (waiting(&store, &config.name), waiting(&store, "other")),
        (0, 3)
    );
}

#[test]
fn a_notification_config_sends_what_is_under_its_parent() {
    let (_folder, store) = store();
    let config = |parent: &str| NotificationConfig {
        name: format!("{parent}/locations/global/notificationConfigs/soc"),
        pubsub_topic: TOPIC.to_owned(),
        ..NotificationConfig::default()
    };
    let parents = [
        ("organizations/1", 2),
        ("organizations/2", 0),
        ("folders/7", 1),
        ("projects/a", 1),
        ("projects/100", 1),
        ("projects/b", 0),
    ];
    store.set_sink("soc", "state=\"INACTIVE\"").unwrap();
    for (parent, _) in parents {
        store.create(&config(parent), by(1)).unwrap();
    }
    store.set_sink("file", "").unwrap();
    let mut in_project = finding(2);
    in_project.resource.gcp_metadata = Some(GcpMetadata {
        project: "//cloudresourcemanager.googleapis.com/projects/100".to_owned(),
        project_display_name: "a".to_owned(),
        folders: vec![json!({"resourceFolder": "//cloudresourcemanager.googleapis.com/folders/7"})],
        ..GcpMetadata::default()
    });
    store.record(&[finding(1), in_project]).unwrap();
    for (parent, expected) in parents {
        assert_eq!(waiting(&store, &config(parent).name), expected, "{parent}");
    }
    assert_eq!(waiting(&store, "file"), 2);
    // Nothing could be matched under such a parent, not even to say no.
    for parent in ["projects/", "projects/a b", "teams/a"] {
        assert!(store.create(&config(parent), by(1)).is_err(), "{parent}");
    }
}

#[test]
fn containers_keep_what_an_update_does_not_know() {
    let (_folder, store) = store();
    let container = |id: &str| ContainerState {
        id: id.to_owned(),
        since: at(1),
        ..ContainerState::default()
    };
    store
        .record_containers(&[
            ContainerState {
                last_test: Some(at(2)),
                ..container("a")
            },
            ContainerState {
                uncovered: "no sensor".to_owned(),
                ..container("b")
            },
            ContainerState {
                ended: Some(at(9)),
                ..container("c")
            },
        ])
        .unwrap();
    store
        .record_containers(&[ContainerState {
            since: at(5),
            last_event: Some(at(6)),
            ..container("a")
        }])
        .unwrap();
    let found = store.containers().unwrap();
    assert_eq!(
        found.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["b", "a", "c"]
    );
    assert_eq!(store.running_containers().unwrap(), found[..2]);
    assert_eq!(store.ended_containers(0, 9).unwrap(), found[2..]);
    assert_eq!(store.ended_containers(1, 9).unwrap(), []);
    assert_eq!(store.count_containers().unwrap(), (1, 1));
    assert_eq!(found[1].last_event, Some(at(6)));
    assert_eq!(found[1].last_test, Some(at(2)));
    assert_eq!(found[1].since, at(1));
}

#[test]
fn a_sink_that_no_configuration_has_keeps_its_queue_for_a_week() {
    const DAY: u64 = 24 * 3600;
    let (_folder, store) = store();
    store.set_sink("old", "").unwrap();
    store.set_sink("new", "").unwrap();
    let config = NotificationConfig {
        name: "organizations/1/locations/global/notificationConfigs/soc".to_owned(),
        pubsub_topic: "projects/p/topics/new".to_owned(),
        ..NotificationConfig::default()
    };
    store.create(&config, by(1)).unwrap();
    store.record(&[finding(1)]).unwrap();

    let unconfigured = || -> Vec<(String, Option<model::Timestamp>, u64)> {
        let sinks = store.sinks().unwrap().into_iter();
        sinks
            .map(|sink| (sink.name, sink.unconfigured, sink.waiting))
            .collect()
    };
    let new = ("new".to_owned(), None, 1);
    let soc = (config.name.clone(), None, 1);
    store.retire_other_sinks(&["new"], at(1)).unwrap();
    store.retire_other_sinks(&["new"], at(7 * DAY - 1)).unwrap();
    let old = ("old".to_owned(), Some(at(1)), 1);
    assert_eq!(unconfigured(), [new.clone(), old, soc.clone()]);
    // It comes back with its queue, and the week begins anew when it goes again.
    store.set_sink("old", "").unwrap();
    let old = ("old".to_owned(), None, 1);
    assert_eq!(unconfigured(), [new.clone(), old, soc.clone()]);
    store.retire_other_sinks(&["new"], at(8 * DAY)).unwrap();
    let old = ("old".to_owned(), Some(at(8 * DAY)), 1);
    assert_eq!(unconfigured(), [new.clone(), old, soc.clone()]);
    store.retire_other_sinks(&["new"], at(15 * DAY)).unwrap();
    assert_eq!(unconfigured(), [new, soc]);
    assert_eq!(store.next_due("old").unwrap(), None);
}

#[test]
fn one_process_at_a_time_may_send() {
    let (folder, store) = store();
    let other = Store::open(folder.path()).unwrap();
    assert!(!store.is_notifier_running().unwrap());
    let lock = store.lock_notifier().unwrap();
    assert!(lock.is_some());
    assert!(other.lock_notifier().unwrap().is_none());
    assert!(store.is_notifier_running().unwrap() && other.is_notifier_running().unwrap());
    drop(lock);
    assert!(other.lock_notifier().unwrap().is_some());
}

#[test]
fn what_is_given_up_is_counted_and_lets_the_next_of_its_finding_pass() {
    let (_folder, store) = store();
    store.set_sink("hook", "").unwrap();
    store.record(&[finding(1)]).unwrap();
    store.set_state(&name(1), State::Inactive, by(2)).unwrap();
    let first = store
        .due("hook", at(u32::MAX.into()), 10)
        .unwrap()
        .remove(0);
    // More bytes than are kept, and a character where they end.
    let why = "\u{e4}".repeat(1000);
    store.give_up(&first, &why).unwrap();
    let state = store.sinks().unwrap().remove(0);
    assert_eq!((state.refused, state.dropped, state.waiting), (1, 0, 1));
    assert!(!state.refusal.is_empty() && why.starts_with(&state.refusal));
    let next = store.due("hook", at(u32::MAX.into()), 10).unwrap();
    assert_eq!(next[0].result.finding.state, State::Inactive);
}

#[test]
fn every_queue_is_kept_within_its_bound() {
    const WAITING: u32 = 100_003;
    let (folder, store) = store();
    store.set_sink("one", "").unwrap();
    store.set_sink("two", "").unwrap();
    let file = rusqlite::Connection::open(folder.path().join("hullwatch.db")).unwrap();
    for sink in ["one", "two"] {
        file.execute(
            "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < $1) \
             INSERT INTO delivery (sink, finding, body, created, next_try) SELECT $2, x, '{}', 0, 0 FROM n",
            rusqlite::params![WAITING, sink],
        )
        .unwrap();
    }
    store.record(&[finding(1)]).unwrap();
    for state in store.sinks().unwrap() {
        assert_eq!((state.waiting, state.dropped), (100_000, 4));
    }
}

#[test]
fn the_oldest_are_given_up_when_too_many_bytes_wait() {
    let (folder, store) = store();
    let file = rusqlite::Connection::open(folder.path().join("hullwatch.db")).unwrap();
    let bytes = |sql: &str| -> i64 { file.query_row(sql, [], |row| row.get(0)).unwrap() };
    const KEPT: &str = "SELECT bytes FROM sink";
    const COUNTED: &str = "SELECT sum(octet_length(body)) FROM delivery";
    store.set_sink("hook", "").unwrap();
    let mut wide = finding(1);
    wide.finding.description = "\u{e4}".repeat(100);
    store.record(&[wide, finding(2), finding(3)]).unwrap();
    assert_eq!(bytes(KEPT), bytes(COUNTED));
    let due = || store.due("hook", at(u32::MAX.into()), 10).unwrap();
    store.delivered(&due()[1]).unwrap();
    store.give_up(&due()[1], "no").unwrap();
    store.record(&[finding(4)]).unwrap();
    assert_eq!(bytes(KEPT), bytes(COUNTED));
    // As if the two were large: the next one is one too many.
    let full = 512 * 1024 * 1024 - bytes(COUNTED);
    file.execute("UPDATE sink SET bytes = bytes + $1", [full])
        .unwrap();
    store.record(&[finding(5)]).unwrap();
    let left: Vec<_> = due()
        .into_iter()
        .map(|one| one.result.finding.name)
        .collect();
    assert_eq!(left, [name(4), name(5)]);
    let state = store.sinks().unwrap().remove(0);
    assert_eq!((state.dropped, state.waiting), (1, 2));
}

#[test]
fn what_was_dropped_while_on_its_way_takes_no_other_with_it() {
    let (_folder, store) = store();
    let far = at(u32::MAX.into());
    store.set_sink("old", "").unwrap();
    store.record(&[finding(1)]).unwrap();
    let sent = store.due("old", far, 1).unwrap().remove(0);
    // The sink goes with its queue, another comes, and its first message gets the number that is free.
    store.retire_other_sinks(&[], at(0)).unwrap();
    store.retire_other_sinks(&[], far).unwrap();
    store.set_sink("new", "").unwrap();
    store.record(&[finding(2)]).unwrap();
    let other = store.due("new", far, 1).unwrap().remove(0);
    assert_eq!(other.id, sent.id);
    store.delivered(&sent).unwrap();
    store.give_up(&sent, "gone").unwrap();
    store.delivery_failed(&sent, "gone", far).unwrap();
    assert_eq!(store.due("new", far, 1).unwrap(), [other]);
    let state = store.sinks().unwrap().remove(0);
    assert_eq!((state.refused, state.refusal.as_str()), (0, ""));
}
