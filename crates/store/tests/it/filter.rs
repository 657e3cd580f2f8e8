//! The filter language against stored findings: which filter selects which.

mod many;
mod values;

use model::finding::{
    EnvironmentVariable, FindingResult, GcpMetadata, Label, Mute, Process, Severity, State,
};
use serde_json::json;
use store::{Change, Query, Store};

use crate::support::{at, finding, name, store};

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
