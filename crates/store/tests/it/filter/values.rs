//! How values compare: times, numbers, flags, process ids, and what is open.

use model::finding::Mute;
use serde_json::json;
use store::{Change, Query};

use super::{check, filled};
use crate::support::{at, finding, name, store};

#[test]
fn times() {
    let (_folder, store) = filled();
    let check = |filter: String, expect: &[u64]| check(&store, &filter, expect);
    let milliseconds = |seconds| at(seconds).0 / 1_000_000;
    check(format!("event_time>\"{}\"", at(2)), &[3, 4]);
    check(format!("event_time>=\"{}\"", at(2)), &[2, 3, 4]);
    check(format!("event_time<\"{}\"", at(2)), &[1]);
    check(format!("event_time<=\"{}\"", at(2)), &[1, 2]);
    check(format!("event_time=\"{}\"", at(2)), &[2]);
    check(format!("event_time!=\"{}\"", at(2)), &[1, 3, 4]);
    check(format!("event_time={}", milliseconds(2)), &[2]);
    check(format!("event_time>{}", milliseconds(2)), &[3, 4]);
    check(format!("event_time<={}", milliseconds(2)), &[1, 2]);
    check(
        format!("event_time>{} event_time<\"{}\"", milliseconds(1), at(3)),
        &[2],
    );
    check(
        "event_time>\"2026-03-01T13:00:02+01:00\"".to_owned(),
        &[3, 4],
    );
    check(
        "create_time>\"2026-03-01T00:00:00Z\"".to_owned(),
        &[1, 2, 3, 4],
    );
    check(format!("event_time>\"{}\" category:shell", at(1)), &[2]);
}

#[test]
fn times_anywhere() {
    let (_folder, store) = store();
    let started = |number: u64| {
        let mut result = finding(number);
        result.finding.containers[0].create_time = Some(at(number));
        let properties = &mut result.finding.source_properties;
        properties.insert("Started".to_owned(), json!(at(number).to_string()));
        result
    };
    store.record(&[started(1), started(2), started(3)]).unwrap();
    // Seen again: the time of the first is another than that of the latest.
    let mut again = started(1);
    again.finding.event_time = Some(at(60));
    store.record(&[again]).unwrap();
    let ada = |seconds| Change {
        who: "ada",
        now: at(seconds),
    };
    store.set_mute(&name(2), Mute::Muted, ada(20)).unwrap();
    store.set_mute(&name(3), Mute::Muted, ada(30)).unwrap();
    let check = |filter: String, expect: &[u64]| check(&store, &filter, expect);
    for field in [
        "source_properties.First_Seen",
        "source_properties.Started",
        "containers.create_time",
    ] {
        check(format!("{field}>\"{}\"", at(1)), &[2, 3]);
        check(format!("{field}>=\"{}\"", at(2)), &[2, 3]);
        check(format!("{field}<\"{}\"", at(2)), &[1]);
        check(format!("{field}<=\"2026-03-01T13:00:02+01:00\""), &[1, 2]);
        check(format!("{field}:*"), &[1, 2, 3]);
    }
    check(
        format!("source_properties.First_Seen={}", at(2).0 / 1_000_000),
        &[2],
    );
    check(
        format!(
            "contains(containers, create_time>\"{}\" AND name:\"api\")",
            at(2)
        ),
        &[3],
    );
    check(format!("mute_update_time<\"{}\"", at(30)), &[2]);
    check("-mute_update_time:*".to_owned(), &[1]);
    check(
        format!("mute_info.static_mute.apply_time>\"{}\"", at(20)),
        &[3],
    );
    check("mute_update_time=\"\"".to_owned(), &[1]);
    check(format!("mute_update_time<\"{}\"", at(99)), &[2, 3]);
    let ordered = |order_by: &str| {
        let query = Query {
            order_by: order_by.to_owned(),
            ..Query::default()
        };
        let results = store.list(&query).unwrap().results;
        let names = results.into_iter().map(|result| result.finding.name);
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        ordered("source_properties.First_Seen"),
        [name(1), name(2), name(3)]
    );
    assert_eq!(
        ordered("mute_update_time desc"),
        [name(3), name(2), name(1)]
    );
}

#[test]
fn numbers_and_flags_that_are_not_set_are_zero_and_false() {
    let (_folder, store) = store();
    let mut root = finding(1);
    let process = &mut root.finding.processes[0];
    process.binary.as_mut().unwrap().size = 70_000;
    process.binary.as_mut().unwrap().partially_hashed = true;
    process.arguments_truncated = true;
    let mut user = finding(2);
    user.finding.processes[0].user_id = 1000;
    user.finding.connections = vec![json!({"destinationPort": 4444, "protocol": "TCP"})];
    store.record(&[root, user]).unwrap();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check("processes.user_id=0", &[1]);
    check("processes.user_id<1000", &[1]);
    check("processes.user_id!=0", &[2]);
    check("processes.user_id:*", &[2]);
    check("contains(processes, user_id=0 AND name=\"x\")", &[1]);
    check(
        "contains(processes, user_id=0 AND binary.hashed_size=0)",
        &[1],
    );
    check(
        "contains(processes, user_id>0 AND binary.hashed_size<5)",
        &[2],
    );
    check("processes.binary.size>69999", &[1]);
    check("connections.destination_port=4444", &[2]);
    check("connections.destinationPort>4444", &[]);
    check("connections.protocol=\"TCP\"", &[2]);
    check("processes.arguments_truncated=true", &[1]);
    check("processes.arguments_truncated=false", &[2]);
    check("processes.arguments_truncated!=true", &[2]);
    check("processes.binary.partially_hashed:*", &[1]);
    check("processes.binary.hashed_size=0", &[1, 2]);
    check("connections.source_port=0", &[2]);
    check(
        "contains(connections, source_port=0 AND destination_port>0)",
        &[2],
    );
}

#[test]
fn values_of_open_fields_keep_their_type() {
    let (_folder, store) = store();
    let scored = |number, cve: serde_json::Value| {
        let mut result = finding(number);
        let vulnerability = json!({"cve": cve});
        let other = &mut result.finding.other;
        other.insert("vulnerability".to_owned(), vulnerability);
        result
    };
    let references = json!([{"uri": "u", "score": 9.5, "known": true}, {"uri": "0"}]);
    store
        .record(&[
            scored(1, json!({"id": "CVE-2026-1", "cvssv3": {"baseScore": 9.5}})),
            scored(2, json!({"id": "0", "references": references})),
            finding(3),
        ])
        .unwrap();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check("vulnerability.cve.id=0", &[2]);
    check("vulnerability.cve.id:\"cve\"", &[1]);
    check("vulnerability.cve.cvssv3.base_score=9.5", &[1]);
    check("vulnerability.cve.cvssv3.baseScore>9", &[1]);
    check("vulnerability:*", &[1, 2]);
    check("-vulnerability.cve.cvssv3:*", &[2, 3]);
    check("contains(vulnerability.cve.references, uri=0)", &[2]);
    check(
        "contains(vulnerability.cve.references, score=9.5 uri=0)",
        &[],
    );
    check(
        "contains(vulnerability.cve.references, score>9 known=true)",
        &[2],
    );
    check("contains(vulnerability.cve.references, known=1)", &[]);
    check("contains(vulnerability.cve, id=0)", &[2]);
}

/// Whatever a source puts there: numbers that columns hold themselves, and others.
#[test]
fn process_ids_are_compared_as_numbers_and_as_text() {
    let (_folder, store) = store();
    let values = [
        json!(100),
        json!("100"),
        json!("007"),
        json!(-3),
        json!(1.5),
        json!(2_147_483_647),
        json!(2_147_483_648_u32),
        json!([5, 42]),
        json!({"seconds": 7}),
        json!(0),
    ];
    let with = |(number, value)| {
        let mut result = finding(number);
        let properties = &mut result.finding.source_properties;
        properties.insert("Host_Pid".to_owned(), value);
        result
    };
    let findings: Vec<_> = (1..).zip(values).map(with).collect();
    store.record(&findings).unwrap();
    let check = |filter: &str, expect: &[u64]| {
        let filter = filter.replace("PID", "source_properties.Host_Pid");
        check(&store, &filter, expect);
    };
    check("PID=100", &[1, 2]);
    check("PID=\"100\"", &[1, 2]);
    check("PID!=100", &[3, 4, 5, 6, 7, 8, 9, 10]);
    check("PID=7", &[3]);
    check("PID=\"7\"", &[]);
    check("PID=-3", &[4]);
    check("PID<5", &[4, 5, 10]);
    check("PID<=5", &[4, 5, 8, 10]);
    check("PID>2147483646", &[6, 7]);
    check("PID>=2147483648", &[7]);
    check("PID:\"0\"", &[1, 2, 3, 10]);
    check("PID:*", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    check("PID=\"\"", &[]);
    check("PID>\"2026-01-01T00:00:00Z\"", &[]);
    check("contains(PID, elem=42)", &[8]);
    check("contains(PID, elem>4 AND elem<50)", &[3, 8]);
    check("contains(PID, NOT elem>=0)", &[4, 9]);
    check("contains(PID, elem:\"14\")", &[6, 7]);
    check("contains(PID, seconds=7)", &[9]);
    check("PID.seconds=7", &[9]);
}
