//! Mute configs: static ones act on what comes, dynamic ones for as long as they match, and by hand overrides both.

use model::finding::{EnvironmentVariable, Mute, Severity};
use store::{Change, Error, MuteConfig, MuteConfigType, MuteInfo, Store};

use crate::support::{at, finding, list, name, store};

const CONFIG: &str = "organizations/1/locations/global/muteConfigs/quiet";

fn by(seconds: u64) -> Change<'static> {
    Change {
        who: "ada",
        now: at(seconds),
    }
}

fn config(kind: MuteConfigType, filter: &str) -> MuteConfig {
    MuteConfig {
        name: CONFIG.to_owned(),
        filter: filter.to_owned(),
        kind,
        ..MuteConfig::default()
    }
}

fn mute(store: &Store, number: u64) -> Mute {
    store.get(&name(number)).unwrap().finding.mute
}

#[test]
fn a_static_config_mutes_what_comes_and_nothing_else() {
    let (_folder, store) = store();
    store.record(&[finding(1)]).unwrap();
    store
        .create(
            &config(MuteConfigType::Static, "severity=\"CRITICAL\""),
            by(5),
        )
        .unwrap();
    let mut other = finding(3);
    other.finding.severity = Severity::Low;
    let recorded = store.record(&[finding(1), finding(2), other]).unwrap();
    assert_eq!(
        recorded.iter().map(|one| one.muted).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(mute(&store, 1), Mute::Undefined);
    let muted = store.get(&name(2)).unwrap();
    assert_eq!(muted.finding.mute_initiator, format!("Muted by {CONFIG}"));
    assert_eq!(MuteInfo::of(&muted).static_mute.unwrap().state, Mute::Muted);

    // It stays muted whatever becomes of the config.
    store.delete::<MuteConfig>(CONFIG, by(6)).unwrap();
    store.refresh_mutes(at(7)).unwrap();
    assert_eq!(mute(&store, 2), Mute::Muted);
    assert_eq!(list(&store, "mute=\"MUTED\"").total_size, 1);
}

#[test]
fn a_dynamic_config_mutes_while_it_matches() {
    let (_folder, store) = store();
    store
        .record(&(0..450).map(finding).collect::<Vec<_>>())
        .unwrap();
    store
        .create(
            &config(MuteConfigType::Dynamic, "severity=\"CRITICAL\""),
            by(5),
        )
        .unwrap();
    assert_eq!(store.refresh_mutes(at(6)).unwrap(), 450);
    assert_eq!(list(&store, "mute=\"MUTED\"").total_size, 450);
    assert_eq!(store.refresh_mutes(at(7)).unwrap(), 0);

    // A finding that stops matching drops back; one that comes is muted at once.
    let mut low = finding(3);
    low.finding.severity = Severity::Low;
    let recorded = store.record(&[low, finding(900)]).unwrap();
    assert_eq!(
        recorded.iter().map(|one| one.muted).collect::<Vec<_>>(),
        [false, true]
    );

    // So do all when the config changes.
    store
        .update(CONFIG, by(8), |config: MuteConfig| {
            Ok(MuteConfig {
                filter: "severity=\"LOW\"".to_owned(),
                ..config
            })
        })
        .unwrap();
    store.refresh_mutes(at(9)).unwrap();
    assert_eq!(list(&store, "mute=\"MUTED\"").total_size, 1);
    assert_eq!(mute(&store, 3), Mute::Muted);
    store.delete::<MuteConfig>(CONFIG, by(10)).unwrap();
    assert_eq!(store.refresh_mutes(at(11)).unwrap(), 1);
    assert_eq!(list(&store, "mute=\"UNDEFINED\"").total_size, 451);
    assert_eq!(store.get(&name(3)).unwrap().finding.mute_info, None);
}

#[test]
fn a_dynamic_config_expires() {
    let (_folder, store) = store();
    store.record(&[finding(1)]).unwrap();
    let expiring = MuteConfig {
        expiry_time: Some(at(100)),
        ..config(MuteConfigType::Dynamic, "severity=CRITICAL")
    };
    store.create(&expiring, by(5)).unwrap();
    store.refresh_mutes(at(99)).unwrap();
    assert_eq!(mute(&store, 1), Mute::Muted);
    store.refresh_mutes(at(100)).unwrap();
    assert_eq!(mute(&store, 1), Mute::Undefined);
}

#[test]
fn by_hand_overrides_a_dynamic_config() {
    let (_folder, store) = store();
    store
        .create(&config(MuteConfigType::Dynamic, "severity=CRITICAL"), by(5))
        .unwrap();
    store.record(&[finding(1)]).unwrap();
    assert_eq!(mute(&store, 1), Mute::Muted);
    store.set_mute(&name(1), Mute::Unmuted, by(6)).unwrap();
    assert_eq!(mute(&store, 1), Mute::Unmuted);
    store.refresh_mutes(at(7)).unwrap();
    assert_eq!(mute(&store, 1), Mute::Unmuted);
    // Without a decision of its own it is muted again.
    store.set_mute(&name(1), Mute::Undefined, by(8)).unwrap();
    assert_eq!(mute(&store, 1), Mute::Muted);
}

#[test]
fn a_config_acts_under_its_own_parent() {
    let (_folder, store) = store();
    let elsewhere = MuteConfig {
        name: CONFIG.replace("organizations/1", "projects/other"),
        ..config(MuteConfigType::Static, "severity=CRITICAL")
    };
    store.create(&elsewhere, by(1)).unwrap();
    store.record(&[finding(1)]).unwrap();
    assert_eq!(mute(&store, 1), Mute::Undefined);
}

#[test]
fn bulk_mute_reaches_all_that_match_and_can_be_ended() {
    let (_folder, store) = store();
    store
        .record(&(0..500).map(finding).collect::<Vec<_>>())
        .unwrap();
    let until = format!("event_time<\"{}\"", at(450));
    let mut seen = Vec::new();
    let total = store
        .bulk_mute(
            "organizations/1/sources/-",
            &until,
            Mute::Muted,
            by(3),
            |so_far| {
                seen.push(so_far);
                true
            },
        )
        .unwrap();
    assert_eq!((total, seen.last()), (450, Some(&450)));
    assert_eq!(list(&store, "mute=\"MUTED\"").total_size, 450);
    let ended = store
        .bulk_mute("", "", Mute::Undefined, by(4), |_| false)
        .unwrap();
    assert!(ended < 450);
    assert_eq!(list(&store, "mute=\"MUTED\"").total_size, 450 - ended);
}

#[test]
fn configs_that_make_no_sense_are_refused() {
    let (_folder, store) = store();
    let refused = |config: MuteConfig| store.create(&config, by(1)).is_err();
    assert!(refused(config(MuteConfigType::Static, " ")));
    assert!(refused(config(MuteConfigType::Static, "severity=")));
    assert!(refused(config(MuteConfigType::Static, "colour=\"red\"")));
    assert!(refused(config(
        MuteConfigType::Dynamic,
        "severity=LOW OR NOT mute=\"MUTED\""
    )));
    assert!(refused(config(
        MuteConfigType::MuteConfigTypeUnspecified,
        "severity=LOW"
    )));
    assert!(refused(MuteConfig {
        expiry_time: Some(at(9)),
        ..config(MuteConfigType::Static, "severity=LOW")
    }));
    assert!(refused(MuteConfig {
        name: "muteConfigs/x".to_owned(),
        ..config(MuteConfigType::Static, "severity=LOW")
    }));
}

#[test]
fn a_config_may_depend_on_any_field() {
    let (_folder, store) = store();
    let mut described = finding(1);
    described.finding.description = "a known build job".to_owned();
    described.finding.processes[0].env_variables = vec![EnvironmentVariable {
        name: "CI".to_owned(),
        val: "true".to_owned(),
    }];
    store.record(&[described.clone(), finding(2)]).unwrap();
    for (second, filter) in (1..).zip([
        "severity=CRITICAL AND description:\"build\"",
        "contains(processes, name=\"x\" AND env_variables.name=\"CI\")",
        "contains(processes.env_variables, name=\"CI\" AND val=\"true\")",
        "description:* AND -vulnerability.cve.id=\"x\"",
    ]) {
        let config = config(MuteConfigType::Dynamic, filter);
        store.create(&config, by(second)).unwrap();
        store.refresh_mutes(at(second)).unwrap();
        assert_eq!(mute(&store, 1), Mute::Muted, "{filter}");
        assert_eq!(mute(&store, 2), Mute::Undefined, "{filter}");
        // And what comes while it is there.
        described.finding.name = name(10 + second);
        store.record(&[described.clone()]).unwrap();
        assert_eq!(mute(&store, 10 + second), Mute::Muted, "{filter}");
        store.delete::<MuteConfig>(CONFIG, by(second)).unwrap();
        store.refresh_mutes(at(second)).unwrap();
        assert_eq!(mute(&store, 1), Mute::Undefined, "{filter}");
    }
    // SCC's own list, and more.
    for (number, field) in [
        "severity",
        "category",
        "resource.name",
        "resource.project_name",
        "resource.project_display_name",
        "resource.folders.resource_folder",
        "resource.parent_name",
        "resource.parent_display_name",
        "resource.type",
        "finding_class",
        "indicator.ip_addresses",
        "indicator.domains",
        "containers.name",
        "containers.labels.value",
        "processes.args",
        "source_properties.Container_Id",
        "security_marks.marks.team",
    ]
    .into_iter()
    .enumerate()
    {
        let word = if field == "severity" { "LOW" } else { "THREAT" };
        let config = MuteConfig {
            name: format!("{CONFIG}{number}"),
            ..config(
                MuteConfigType::Dynamic,
                &format!("{field}=\"{word}\" OR {field}:\"x\""),
            )
        };
        store.create(&config, by(1)).unwrap();
    }
    let one = "contains(processes, name=\"x\" AND args=\"y\")";
    store
        .create(&config(MuteConfigType::Dynamic, one), by(1))
        .unwrap();
}

/// As an earlier version may have left it.
#[test]
fn a_filter_that_is_not_understood_any_more_keeps_no_finding_out() {
    let (folder, store) = store();
    for (id, filter) in [("old", "severity=\"HIGH\""), ("new", "severity=\"LOW\"")] {
        let name = format!("organizations/1/locations/global/muteConfigs/{id}");
        let config = MuteConfig {
            name,
            ..config(MuteConfigType::Dynamic, filter)
        };
        store.create(&config, by(1)).unwrap();
    }
    store.set_sink("file", "severity=\"MEDIUM\"").unwrap();
    let file = rusqlite::Connection::open(folder.path().join("hullwatch.db")).unwrap();
    let changed = file
        .execute(
            "UPDATE resource SET body = json_set(body, '$.filter', 'gone=1') WHERE name LIKE '%/old'",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    file.execute("UPDATE sink SET filter = 'gone=1'", [])
        .unwrap();
    let mut low = finding(2);
    low.finding.severity = Severity::Low;
    let recorded = store.record(&[finding(1), low]).unwrap();
    let muted: Vec<bool> = recorded.iter().map(|recorded| recorded.muted).collect();
    assert_eq!(muted, [false, true]);
    assert_eq!(store.refresh_mutes(at(7)).unwrap(), 0);
    assert_eq!(store.sinks().unwrap()[0].waiting, 2);
}

#[test]
fn rules_are_looked_through_while_another_writes() {
    let (folder, store) = store();
    store
        .create(&config(MuteConfigType::Dynamic, "severity=CRITICAL"), by(5))
        .unwrap();
    store.record(&[finding(1), finding(2)]).unwrap();
    let other = rusqlite::Connection::open(folder.path().join("hullwatch.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Would fail when it asked for the lock.
    assert_eq!(store.refresh_mutes(at(7)).unwrap(), 0);
}

#[test]
fn resources_are_kept_by_name_and_listed_in_pages() {
    let (_folder, store) = store();
    let short = "organizations/1/muteConfigs/quiet";
    store
        .create(&config(MuteConfigType::Static, "severity=LOW"), by(1))
        .unwrap();
    assert!(matches!(
        store.create(&config(MuteConfigType::Static, "severity=LOW"), by(1)),
        Err(Error::Exists(_))
    ));
    assert_eq!(
        store.resource::<MuteConfig>(short).unwrap().filter,
        "severity=LOW"
    );
    for number in 0..5 {
        let name = format!("organizations/1/locations/global/muteConfigs/n{number}");
        store
            .create(
                &MuteConfig {
                    name,
                    ..config(MuteConfigType::Static, "severity=LOW")
                },
                by(1),
            )
            .unwrap();
    }
    let mut token = String::new();
    let mut names = Vec::new();
    loop {
        let page = store
            .resources::<MuteConfig>("organizations/1", 4, &token)
            .unwrap();
        names.extend(page.results.into_iter().map(|config| config.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 6);
    assert!(names.is_sorted());
    assert!(
        store
            .resources::<MuteConfig>("organizations/2", 4, "")
            .unwrap()
            .results
            .is_empty()
    );
    store.delete::<MuteConfig>(short, by(2)).unwrap();
    assert!(matches!(
        store.delete::<MuteConfig>(short, by(2)),
        Err(Error::NotFound(_))
    ));
}
