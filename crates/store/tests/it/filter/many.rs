//! Values that are too large or too many: to be indexed, to be remembered, or to keep other values out.

use model::finding::{EnvironmentVariable, File};
use serde_json::json;
use store::{Change, NOT_INDEXED, Query};

use super::{check, findings, numbers};
use crate::support::{at, finding, list, name, store};

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
