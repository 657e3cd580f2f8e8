//! The filter language against stored findings: which filter selects which.

use model::finding::{
    EnvironmentVariable, File, FindingResult, GcpMetadata, Label, Mute, Process, Severity, State,
};
use serde_json::json;
use store::{Change, NOT_INDEXED, Query, Store};

use crate::support::{at, finding, list, name, store};

/// Four findings that differ in everything.
fn findings() -> Vec<FindingResult> {
    let mut one = finding(1);
    one.finding
        .source_properties
        .insert("size".to_owned(), json!(100));
    one.finding
        .source_properties
        .insert("Pod_Name".to_owned(), json!("api-7d"));
    one.finding.description = "first of all".to_owned();
    one.finding.indicator.ip_addresses = vec!["10.1.2.3".to_owned(), "2001:db8::5".to_owned()];
    one.finding.processes.push(Process {
        name: "sh".to_owned(),
        args: vec!["sh".to_owned(), "-c".to_owned(), "id".to_owned()],
        pid: 7,
        ..Process::default()
    });

    let mut two = finding(2);
    two.finding.severity = Severity::Low;
    two.finding.category = "Reverse Shell".to_owned();
    two.finding.indicator.domains = vec!["evil.test".to_owned()];
    two.finding.containers[0].name = "db_1%".to_owned();
    two.finding.containers[0].labels = vec![
        Label {
            name: "team".to_owned(),
            value: "red".to_owned(),
        },
        Label {
            name: "tier".to_owned(),
            value: "blue".to_owned(),
        },
    ];
    two.finding.processes[0].env_variables = vec![EnvironmentVariable {
        name: "PORT".to_owned(),
        val: "80".to_owned(),
    }];
    two.finding.processes[0].pid = 4242;
    two.resource.gcp_metadata = Some(GcpMetadata {
        project: "//cloudresourcemanager.googleapis.com/projects/123".to_owned(),
        project_display_name: "shop".to_owned(),
        folders: vec![json!({"resourceFolder": "//cloudresourcemanager.googleapis.com/folders/9"})],
        ..GcpMetadata::default()
    });

    let mut three = finding(3);
    three.finding.state = State::Inactive;
    three.finding.category = "Execution: Container Escape \"x\" 100%_\\".to_owned();
    three.finding.mute = Mute::Muted;

    let mut four = finding(4);
    four.finding.name = name(4).replace("sources/1", "sources/2");
    four.finding.parent = String::new();
    four.finding.severity = Severity::High;
    four.finding.processes.clear();
    four.finding.containers.clear();
    four.finding.other.insert(
        "access".to_owned(),
        json!({"principalEmail": "mallory@example.test"}),
    );
    four.finding.indicator.ip_addresses = vec!["192.0.2.77".to_owned()];
    vec![one, two, three, four]
}

/// The numbers of the findings that a query selects, and the total it claims.
fn numbers(store: &Store, query: &Query) -> (Vec<u64>, u64) {
    let page = store
        .list(query)
        .unwrap_or_else(|error| panic!("{query:?}: {error}"));
    let number = |result: &FindingResult| {
        let (_, key) = result.finding.name.rsplit_once('/').unwrap();
        u64::from_str_radix(key, 16).unwrap()
    };
    let mut numbers: Vec<u64> = page.results.iter().map(number).collect();
    numbers.sort_unstable();
    (numbers, page.total_size)
}

fn check(store: &Store, filter: &str, expect: &[u64]) {
    let query = Query {
        filter: filter.to_owned(),
        ..Query::default()
    };
    let (found, total) = numbers(store, &query);
    assert_eq!(found, expect, "{filter}");
    assert_eq!(total, expect.len() as u64, "total of {filter}");
}

fn filled() -> (tempfile::TempDir, Store) {
    let (folder, store) = store();
    store.record(&findings()).unwrap();
    let change = Change {
        who: "ada",
        now: at(9),
    };
    let marks = [("On-Call".to_owned(), "Ada".to_owned())].into();
    store.set_marks(&name(3), &marks, &[], change).unwrap();
    let entry = json!({"externalUid": "SEC-1", "assignees": ["ada", "bob"]});
    store
        .set_external_system(&name(3), "jira", entry.as_object().unwrap(), &[], change)
        .unwrap();
    (folder, store)
}

#[test]
fn fields_of_the_finding() {
    let (_folder, store) = filled();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check("", &[1, 2, 3, 4]);
    check("category=\"Reverse Shell\"", &[2]);
    check("category!=\"Reverse Shell\"", &[1, 3, 4]);
    check("category:\"reverse\"", &[2]);
    check("category!=\"nothing\"", &[1, 2, 3, 4]);
    check(
        "-containers.name=\"nothing\" -state:\"nothing\"",
        &[1, 2, 3, 4],
    );
    check("category=\"reverse shell\"", &[]);
    check("state=\"ACTIVE\"", &[1, 2, 4]);
    check("state:\"ACTIVE\"", &[1, 2, 3, 4]);
    check("-state=\"ACTIVE\"", &[3]);
    check("NOT mute=\"MUTED\"", &[1, 2, 4]);
    check("state=\"ACTIVE\" AND NOT mute=\"MUTED\"", &[1, 2, 4]);
    check("severity=\"CRITICAL\" OR severity=\"HIGH\"", &[1, 3, 4]);
    check(
        "severity=HIGH OR category=\"Reverse Shell\" state=ACTIVE",
        &[2, 4],
    );
    check(
        "finding_class=\"THREAT\" findingClass:threat",
        &[1, 2, 3, 4],
    );
    check(&format!("name=\"{}\"", name(3)), &[3]);
    check(
        &format!("name=\"{}\"", name(3).replace("/locations/global", "")),
        &[3],
    );
    check(&format!("name!=\"{}\" state=ACTIVE", name(1)), &[2, 4]);
    check(&format!("name=\"{}\"", name(99)), &[]);
    check(
        "parent=\"organizations/1/sources/2/locations/global\"",
        &[4],
    );
    check("parent:\"sources/1/\"", &[1, 2, 3]);
    check("resource_name:\"services/api\"", &[1, 2, 3, 4]);
    check("external_uri=\"\"", &[1, 2, 3, 4]);
    check("external_uri:*", &[]);
    check("description:\"FIRST of\"", &[1]);
    check("description=\"\"", &[2, 3, 4]);
}

#[test]
fn text_is_taken_literally() {
    let (_folder, store) = filled();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check(r#"category:"100%""#, &[3]);
    check(r#"category:"%_\\""#, &[3]);
    check(r#"category:"e%S""#, &[]);
    check(r#"category:"\"x\"""#, &[3]);
    check("containers.name:\"_\"", &[2]);
    check("containers.name=\"db_1%\"", &[2]);
    check("category=\"x' OR 1=1 --\"", &[]);
}

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

#[test]
fn an_element_too_large_to_be_indexed_is_known_to_be_there() {
    let (_folder, store) = store();
    let mut large = finding(1);
    large.finding.processes[0].env_variables = vec![EnvironmentVariable {
        name: "LARGE".to_owned(),
        val: "x".repeat(9000),
    }];
    store.record(&[large, finding(2)]).unwrap();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check("processes.env_variables.name=\"LARGE\"", &[1]);
    check("contains(processes.env_variables, NOT name=\"x\")", &[1]);
    check("contains(processes.env_variables, name=\"LARGE\")", &[]);
    // The value and the element.
    check("source_properties.Values_Not_Indexed=2", &[1]);
}

#[test]
fn a_finding_is_named_as_the_api_names_it() {
    let (_folder, store) = filled();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    let by_project = name(2).replace("organizations/1", "projects/shop");
    check(&format!("name=\"{by_project}\""), &[2]);
    check(&format!("name!=\"{by_project}\""), &[1, 3, 4]);
    let by_folder = name(2).replace("organizations/1", "folders/9");
    let short = by_folder.replace("/locations/global", "");
    check(&format!("name=\"{short}\" AND severity=LOW"), &[2]);
    check(&format!("canonical_name=\"{by_project}\""), &[2]);
    check(
        &format!("security_marks.name=\"{by_project}/securityMarks\""),
        &[2],
    );
    let elsewhere = name(2).replace("organizations/1", "projects/other");
    check(&format!("name=\"{elsewhere}\""), &[]);
    check("canonical_name:*", &[1, 2, 3, 4]);
    check("canonical_name=\"\"", &[]);
    check("parent=\"projects/shop/sources/1/locations/global\"", &[2]);
    check("parent=\"organizations/1/sources/1\"", &[1, 2, 3]);
    check("parent=\"organizations/1/sources/2\"", &[4]);
    check("parent!=\"organizations/1/sources/1\"", &[4]);
    check("parent=\"projects/other/sources/1\"", &[]);
    check("parent=\"nothing\"", &[]);
}

#[test]
fn nested_and_repeated_fields() {
    let (_folder, store) = filled();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check(&format!("processes.binary.sha256=\"{:064x}\"", 2), &[2]);
    check("processes.binary.path:\"/tmp\"", &[1, 2, 3]);
    check("processes.name=\"sh\"", &[1]);
    check("processes.args=\"-c\"", &[1]);
    check("-processes.name=\"x\"", &[4]);
    check("processes.pid=4242", &[2]);
    check("processes.pid>6 processes.pid<8", &[1]);
    check("processes.env_variables.name=\"PORT\"", &[2]);
    check("processes.envVariables.val:8", &[2]);
    check("containers.name:\"API\"", &[1, 3]);
    check("containers.name=\"\"", &[4]);
    check("containers.name:*", &[1, 2, 3]);
    check("indicator.domains:\"evil\"", &[2]);
    check("indicator.domains=\"\"", &[1, 3, 4]);
    check("mitre_attack.primary_tactic=\"EXECUTION\"", &[1, 2, 3, 4]);
    check("source_properties.size=100", &[1]);
    check("source_properties.size>99", &[1]);
    check("source_properties.size>100", &[]);
    check("sourceProperties.Pod_Name:\"API\"", &[1]);
    check("source_properties.Occurrences>=1", &[1, 2, 3, 4]);
    check("source_properties.Occurrences>1", &[]);
    check("security_marks.marks.on-call=\"ada\"", &[3]);
    check("securityMarks.marks.ON-CALL:\"AD\"", &[3]);
    check("-security_marks.marks.on-call:*", &[1, 2, 4]);
    check("external_systems.jira.external_uid=\"SEC-1\"", &[3]);
    check("external_systems.jira.assignees=\"bob\"", &[3]);
    check("access.principal_email:\"mallory\"", &[4]);
    check("resource.project_display_name=\"shop\"", &[2]);
    check("resource.project_name:\"projects/123\"", &[2]);
    check("resource.folders.resource_folder:\"folders/9\"", &[2]);
    check(
        "resource.type:\"service\" resource.display_name=\"api\"",
        &[1, 2, 3, 4],
    );
}

/// As detection makes them.
const DETECTED: [&str; 2] = [
    include_str!("../../../detect/testdata/findings/added_library.json"),
    include_str!("../../../detect/testdata/findings/modified_program.json"),
];

#[test]
fn source_properties_of_detected_findings() {
    let (_folder, store) = store();
    let detected: Vec<FindingResult> = (1..)
        .zip(DETECTED)
        .map(|(number, json)| {
            let mut result: FindingResult = serde_json::from_str(json).unwrap();
            result.finding.name = name(number);
            result
        })
        .collect();
    store.record(&detected).unwrap();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check("source_properties.Detector:*", &[1, 2]);
    for (key, added) in [
        ("Provenance.verdict", "ADDED"),
        ("Indicator_Matches.family", "Hullwatch-Sample/added-library"),
        (
            "Provenance.executedSha256",
            "407631e2c0ca38a9e5cb3fd6b95cd10d29e8c276746e01cd348136e3947e395f",
        ),
    ] {
        let field = format!("source_properties.{key}");
        check(&format!("{field}=\"{added}\""), &[1]);
        check(&format!("NOT {field}=\"{added}\""), &[2]);
        check(&format!("{field}=\"\""), &[]);
    }
    check("source_properties.Investigation.risks:\"ROOT\"", &[1, 2]);
    check(
        "source_properties.Investigation.containerSettings.privileged=false",
        &[1, 2],
    );
    check(
        "source_properties.Investigation.containerSettings.mounts.writable=true",
        &[1, 2],
    );
    check("source_properties.Investigation:*", &[1, 2]);
    check(
        "contains(source_properties.Investigation, containerSettings.privileged=false)",
        &[1, 2],
    );
    check(
        "contains(source_properties.Investigation, containerSettings.privileged=true)",
        &[],
    );
    check(
        "source_properties.contextUris.mitreUri.url:\"T1105\"",
        &[1, 2],
    );
    check(
        "source_properties.Process_Creation_Timestamp.seconds>=1767225601",
        &[1, 2],
    );
    check(
        "source_properties.Provenance.\"executedSha256\":\"407631e2\"",
        &[1],
    );
    check("source_properties.Values_Not_Indexed:*", &[]);
}

#[test]
fn functions() {
    let (_folder, store) = filled();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check("contains(processes, name=\"sh\" AND args=\"-c\")", &[1]);
    // Of different processes.
    check("processes.name=\"x\" AND processes.args=\"-c\"", &[1]);
    check("contains(processes, name=\"x\" AND args=\"-c\")", &[]);
    check(
        "contains(processes, name=\"x\" AND NOT args=\"-c\")",
        &[1, 2, 3],
    );
    check("-contains(processes, name=\"x\")", &[4]);
    check("contains(processes, pid=7 OR pid=4242)", &[1, 2]);
    check(
        "contains(containers.labels, name=\"team\" value=\"red\")",
        &[2],
    );
    check(
        "contains(containers.labels, name=\"team\" value=\"blue\")",
        &[],
    );
    check(
        "contains(containers, contains(labels, name=\"tier\" value:\"BLUE\"))",
        &[2],
    );
    check("contains(indicator.ip_addresses, elem:\"10.\")", &[1]);
    check("containsOnly(processes, name=\"x\")", &[2, 3]);
    check("contains(resource.folders, resource_folder:\"/9\")", &[2]);
    check("inIpRange(indicator.ip_addresses, \"10.0.0.0/8\")", &[1]);
    check("inIpRange(indicator.ip_addresses, \"2001:db8::/32\")", &[1]);
    check("inIpRange(indicator.ip_addresses, \"192.0.2.77\")", &[4]);
    check("inIpRange(indicator.ip_addresses, \"0.0.0.0/0\")", &[1, 4]);
    check("inIpRange(indicator.ip_addresses, \"192.0.2.78/32\")", &[]);
}

#[test]
fn parents() {
    let (_folder, store) = filled();
    let check = |parent: &str, expect: &[u64]| {
        let query = Query {
            parent: parent.to_owned(),
            ..Query::default()
        };
        assert_eq!(
            numbers(&store, &query),
            (expect.to_vec(), expect.len() as u64),
            "{parent}"
        );
    };
    check("organizations/1/sources/-", &[1, 2, 3, 4]);
    check("organizations/1/sources/1", &[1, 2, 3]);
    check("organizations/1/sources/2/locations/global", &[4]);
    check("organizations/1/sources/-/locations/eu", &[]);
    check("organizations/2/sources/-", &[]);
    check("projects/123/sources/-", &[2]);
    check("projects/shop/sources/1/locations/global", &[2]);
    check("projects/shop/sources/2", &[]);
    check("folders/9/sources/-/locations/-", &[2]);
    check("projects/other/sources/-", &[]);
}

#[test]
fn mistakes_name_their_place() {
    let (_folder, store) = store();
    let check = |filter: &str, expect: &str| {
        let query = Query {
            filter: filter.to_owned(),
            ..Query::default()
        };
        let error = store.list(&query).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, format!("filter, position {expect}"), "{filter}");
    };
    check(
        "severity=\"HUGE\"",
        "9: severity is one of SEVERITY_UNSPECIFIED, CRITICAL, HIGH, MEDIUM, LOW",
    );
    check(
        "severity>3",
        "9: severity >: use = != or : with a name in quotes",
    );
    check(
        "state=ACTIVE colour=\"red\"",
        "13: a finding has no field \"colour\"",
    );
    check(
        "sha256=\"x\"",
        "0: a finding has no field \"sha256\"; did you mean processes.binary.sha256 or processes.script.sha256 or processes.libraries.sha256 or files.sha256?",
    );
    for log_tail in [
        "source_properties.Investigation.logTail:\"login\"",
        "source_properties.Investigation.logTail:*",
    ] {
        check(
            log_tail,
            "0: \"source_properties.Investigation.logTail\" is there to be read: findings are not filtered by it",
        );
    }
    check(
        "contains(source_properties.Investigation.recentFindings, name:\"x\")",
        "9: \"source_properties.Investigation.recentFindings\" is there to be read: findings are not filtered by it",
    );
    check(
        "event_time>\"yesterday\"",
        "11: \"yesterday\" is not a time such as \"2026-03-01T12:00:00Z\" or milliseconds since 1970",
    );
    check(
        "event_time:\"2026\"",
        "11: event_time :: a time is compared by = < <= > >=",
    );
    check(
        "category>\"a\"",
        "9: category >: this field is text: use = != or :",
    );
    check(
        "source_properties.First_Seen>\"yesterday\"",
        "29: \"yesterday\" is not a time such as \"2026-03-01T12:00:00Z\" or milliseconds since 1970",
    );
    check(
        "processes.arguments_truncated=1",
        "30: processes.arguments_truncated =: use = or != with true or false",
    );
    check("name:\"x\"", "5: name :: name is compared by = with a text");
    check(
        "inIpRange(category, \"10.0.0.0/8\")",
        "20: inIpRange works on indicator.ip_addresses, connections.destination_ip, connections.source_ip",
    );
    check(
        "inIpRange(indicator.ip_addresses, \"10.0.0.0/33\")",
        "34: \"10.0.0.0/33\" is not a network such as 10.0.0.0/8",
    );
    check(
        "contains(nothing, a=1)",
        "9: a finding has no field \"nothing\"",
    );
    check(
        "contains(processes, nothing=1)",
        "20: elements of processes have no field \"nothing\"",
    );
}

#[test]
fn a_field_that_many_values_match() {
    let (_folder, store) = store();
    let many: Vec<_> = (0..1500).map(finding).collect();
    store.record(&many).unwrap();
    let total = |filter| list(&store, filter).total_size;
    assert_eq!(total("processes.binary.sha256:\"0\""), 1500);
    assert_eq!(total("-processes.binary.sha256:\"0\""), 0);
    assert_eq!(total("processes.binary.sha256:\"00ff\""), 1);
    assert_eq!(
        total("contains(processes, binary.sha256:\"0\" AND name=\"x\")"),
        1500
    );
}

#[test]
fn what_a_container_has_many_of_keeps_nothing_else_out() {
    let (_folder, store) = store();
    let mut hostile = findings().remove(1);
    hostile.finding.source_properties = [("Container_Id".to_owned(), json!("c0ffee"))].into();
    let process = &mut hostile.finding.processes[0];
    process.args = (0..1024).map(|number| number.to_string()).collect();
    process.libraries = (0..600)
        .map(|number| File {
            path: format!("/lib/{number}.so"),
            ..File::default()
        })
        .collect();
    hostile.finding.files = process.libraries.clone();
    let lines: Vec<_> = (0..64).map(|number| format!("line {number}")).collect();
    let investigation = json!({"logTail": lines, "risks": ["It is privileged."]});
    hostile
        .finding
        .source_properties
        .insert("Investigation".to_owned(), investigation);
    let keys: serde_json::Map<_, _> = [("k".repeat(2000), json!(1))].into_iter().collect();
    hostile
        .finding
        .source_properties
        .insert("Keys".to_owned(), keys.into());
    let mut long = finding(1);
    long.finding.processes[0].args = vec!["x".repeat(5000)];
    store.record(&[hostile, long, finding(3)]).unwrap();
    let change = Change {
        who: "ada",
        now: at(9),
    };
    let marks = [("team".to_owned(), "red".to_owned())].into();
    store.set_marks(&name(2), &marks, &[], change).unwrap();
    for filter in [
        "resource.project_display_name=\"shop\"",
        "source_properties.Container_Id=\"c0ffee\"",
        "security_marks.marks.team=\"red\"",
        "processes.libraries.path=\"/lib/0.so\"",
        "files.path=\"/lib/255.so\"",
        "processes.args=\"0\"",
        "processes.pid=4242",
        "source_properties.Investigation.risks=\"It is privileged.\"",
    ] {
        check(&store, filter, &[2]);
    }
    for parent in ["projects/shop/sources/-", "folders/9/sources/-"] {
        let query = Query {
            parent: parent.to_owned(),
            ..Query::default()
        };
        assert_eq!(numbers(&store, &query).0, [2], "{parent}");
    }
    // And it is said.
    check(&store, "source_properties.Values_Not_Indexed>0", &[1, 2]);
    let said = |number| {
        let found = store.get(&name(number)).unwrap().finding;
        found.source_properties.get(NOT_INDEXED).cloned()
    };
    assert_eq!(said(1), Some(json!(1)));
    // Of the arguments 256 are indexed, as of the libraries and files, of their elements too, where those of files are told
    // apart up to the 63rd. A field with a very long name is not.
    assert_eq!(
        said(2),
        Some(json!(1024 - 256 + 3 * (600 - 256) + 600 - 63 - 256 + 1))
    );
    assert_eq!(said(3), None);
    // A repeat without them takes it back.
    let mut again = finding(2);
    again.finding.event_time = Some(at(90));
    again.finding.files = vec![File::default()];
    let properties = &mut again.finding.source_properties;
    properties.insert("Keys".to_owned(), json!(1));
    store.record(&[again]).unwrap();
    assert_eq!(said(2), None);
}

#[test]
fn what_a_filter_meant_is_not_mistaken_for_other_values() {
    let (_folder, store) = store();
    // Enough values of one field for what is meant to be remembered.
    let mentions = |number: u64, text: &str| {
        let mut result = finding(number);
        let args = (0..250).map(|at| format!("{text} {number} {at}"));
        result.finding.processes[0].args = args.collect();
        result
    };
    let first: Vec<_> = (0..90)
        .map(|number| mentions(number, if number == 7 { "alpha" } else { "beta" }))
        .collect();
    store.record(&first).unwrap();
    let check = |filter: &str, expect: &[u64]| check(&store, filter, expect);
    check("processes.args:\"alpha\"", &[7]);
    // What comes later is meant too.
    store
        .record(&[mentions(91, "alpha"), mentions(92, "gamma")])
        .unwrap();
    for _ in 0..2 {
        check("processes.args:\"alpha\"", &[7, 91]);
        check("processes.args:\"gamma\"", &[92]);
    }
    // Other values in the place of those that are gone.
    store.prune(at(1_000_000)).unwrap();
    check("processes.args:\"alpha\"", &[]);
    let others: Vec<_> = (100..190).map(|number| mentions(number, "delta")).collect();
    store.record(&others).unwrap();
    store.record(&[mentions(191, "alpha")]).unwrap();
    check("processes.args:\"alpha\"", &[191]);
    check("processes.args:\"gamma\"", &[]);
}

#[test]
fn values_are_completed() {
    let (_folder, store) = filled();
    let values = |field, beginning| store.values(field, beginning, 10).unwrap();
    assert_eq!(values("containers.name", "DB"), ["db_1%"]);
    assert_eq!(values("containers.name", "db"), ["db_1%"]);
    assert_eq!(values("containers.name", ""), ["api-1", "db_1%"]);
    assert_eq!(store.values("containers.name", "", 1).unwrap(), ["api-1"]);
    assert_eq!(values("severity", "h"), ["HIGH"]);
    assert_eq!(values("resource.project_display_name", "s"), ["shop"]);
    assert!(values("description", "").is_empty());
    let keyed = |beginning, limit| store.keyed_fields(beginning, limit).unwrap();
    let all = keyed("source_properties.", 100);
    assert!(all.len() > 1 && all.is_sorted(), "{all:?}");
    assert_eq!(keyed("source_properties.", 1), all[..1]);
    assert_eq!(keyed(&all[1], 1), all[1..2]);
    assert!(keyed("source_properties.~", 10).is_empty());
}
