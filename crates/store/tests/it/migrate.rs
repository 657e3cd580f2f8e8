//! A store of an older version opens with everything that was in it.

use std::collections::BTreeMap;

use model::finding::Mute;
use rusqlite::Connection;
use store::{Change, GroupQuery, Query, Store};

use crate::support::{at, finding, list, name};

/// The schema before columns.
const OLD: [&str; 3] = [
    include_str!("../../migrations/sqlite/0001_findings.sql"),
    include_str!("../../migrations/sqlite/0002_access.sql"),
    include_str!("../../migrations/sqlite/0003_review.sql"),
];

/// A file as version 3 has it, with the findings of another store. Its postings and counts are never read again.
fn downgrade(from: &Store, folder: &std::path::Path) {
    let file = Connection::open(folder.join("hullwatch.db")).unwrap();
    for sql in OLD {
        file.execute_batch(sql).unwrap();
    }
    file.pragma_update(None, "user_version", 3).unwrap();
    let mut id = 0;
    for result in all(from, "") {
        id += 1;
        let (parent, key) = result.finding.name.split_once("/findings/").unwrap();
        for (field, value) in [
            ("parent", parent),
            ("category", &result.finding.category),
            ("resource_name", &result.finding.resource_name),
            ("processes.name", "a value that no finding has any more"),
        ] {
            file.execute(
                "INSERT OR IGNORE INTO term (field, value) VALUES (?1, ?2)",
                [field, value],
            )
            .unwrap();
        }
        file.execute(
            "INSERT INTO finding SELECT ?1, ?2, p.id, c.id, r.id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0 FROM term p, term c, term r \
             WHERE p.field = 'parent' AND p.value = ?10 AND c.field = 'category' AND c.value = ?11 \
             AND r.field = 'resource_name' AND r.value = ?12",
            rusqlite::params![
                id,
                key,
                result.finding.state as i64,
                result.finding.severity as i64,
                result.finding.mute as i64,
                result.finding.finding_class as i64,
                result.finding.event_time.unwrap().0 as i64,
                result.finding.create_time.unwrap().0 as i64,
                result.finding.source_properties[store::OCCURRENCES].as_i64(),
                parent,
                result.finding.category,
                result.finding.resource_name,
            ],
        )
        .unwrap();
        file.execute(
            "INSERT INTO document (finding_id, body) VALUES (?1, ?2)",
            rusqlite::params![id, serde_json::to_string(&result).unwrap()],
        )
        .unwrap();
    }
}

fn all(store: &Store, filter: &str) -> Vec<model::finding::FindingResult> {
    let mut query = Query {
        filter: filter.to_owned(),
        page_size: 1000,
        ..Query::default()
    };
    let mut found = Vec::new();
    loop {
        let page = store.list(&query).unwrap();
        found.extend(page.results);
        query.page_token = page.next_page_token;
        if query.page_token.is_empty() {
            return found;
        }
    }
}

#[test]
fn an_older_store_keeps_everything() {
    let (_folder, new) = crate::support::store();
    let findings: Vec<_> = (0..1300)
        .map(|number| {
            let mut result = finding(number);
            result.finding.category = format!("Category {}", number % 9);
            result
        })
        .collect();
    new.record(&findings).unwrap();
    new.record(&findings[..10]).unwrap();
    let change = Change {
        who: "ada",
        now: at(9),
    };
    let marks = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
    new.set_marks(&name(3), &marks, &[], change).unwrap();
    new.set_mute(&name(4), Mute::Muted, change).unwrap();

    let folder = tempfile::tempdir().unwrap();
    downgrade(&new, folder.path());
    let old = Store::open(folder.path()).unwrap();
    for filter in [
        "",
        "category=\"Category 3\"",
        "mute=\"MUTED\"",
        "security_marks.marks.team=\"red\"",
        "source_properties.Occurrences>1",
        "contains(processes, name=\"x\" AND args=\"--quiet\")",
        "processes.binary.sha256:\"3c\"",
    ] {
        let (before, after) = (all(&new, filter), all(&old, filter));
        assert!(!before.is_empty(), "{filter}");
        assert_eq!(before, after, "{filter}");
        assert_eq!(
            list(&new, filter).total_size,
            list(&old, filter).total_size,
            "{filter}"
        );
    }
    let group = GroupQuery {
        group_by: "category".to_owned(),
        ..GroupQuery::default()
    };
    assert_eq!(
        new.group(&group).unwrap().results,
        old.group(&group).unwrap().results
    );
    // And takes new ones.
    old.record(&[finding(9000), finding(3)]).unwrap();
    assert_eq!(list(&old, "").total_size, 1301);
    assert_eq!(
        old.get(&name(3)).unwrap().finding.source_properties[store::OCCURRENCES],
        3
    );
}

#[test]
fn an_upgrade_says_beforehand_whether_it_takes_long() {
    let (folder, store) = crate::support::store();
    drop(store);
    let file = Connection::open(folder.path().join("hullwatch.db")).unwrap();
    for (version, expected) in [(5, true), (11, false)] {
        file.pragma_update(None, "user_version", version).unwrap();
        let Err(store::Error::OlderSchema { takes_long, .. }) =
            Store::open_read_only(folder.path())
        else {
            panic!("opened an older schema");
        };
        assert_eq!(takes_long, expected, "{version}");
    }
}

#[test]
fn columns_of_an_older_version_are_filled_anew() {
    let (folder, store) = crate::support::store();
    let mut many = finding(1);
    many.finding.processes[0].args = (0..600).map(|number| number.to_string()).collect();
    many.finding.processes[0].user_id = 1000;
    let mut findings: Vec<_> = (0..1300).map(finding).collect();
    findings[1] = many;
    store.record(&findings).unwrap();
    let before = all(&store, "");
    drop(store);

    // As version 5 left it: such fields were in no column, and nothing said what was not indexed.
    let file = Connection::open(folder.path().join("hullwatch.db")).unwrap();
    for result in &before {
        let (_, key) = result.finding.name.split_once("/findings/").unwrap();
        file.execute(
            "UPDATE document SET body = ?1 WHERE finding_id = (SELECT id FROM finding WHERE key = ?2)",
            [&serde_json::to_string(result).unwrap(), key],
        )
        .unwrap();
    }
    file.execute_batch(
        "ALTER TABLE finding DROP COLUMN detected_severity; \
         DROP INDEX term_number; \
         DELETE FROM term WHERE field IN ('processes.user_id', 'source_properties.Values_Not_Indexed'); \
         DELETE FROM piece WHERE id % 256 > 62; \
         UPDATE document SET body = json_remove(body, '$.finding.sourceProperties.Values_Not_Indexed'); \
         DROP TRIGGER delivery_added; DROP TRIGGER delivery_gone; DROP INDEX delivery_by_sink; \
         ALTER TABLE sink DROP COLUMN waiting; ALTER TABLE sink DROP COLUMN bytes; \
         INSERT INTO sink (name, filter) VALUES ('hook', ''); \
         INSERT INTO delivery (sink, finding, body, created, next_try) VALUES ('hook', 'x', '{}', 0, 0); \
         PRAGMA user_version = 5;",
    )
    .unwrap();
    drop(file);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(all(&store, ""), before);
    assert_eq!(store.sinks().unwrap()[0].waiting, 1);
    for filter in [
        "processes.user_id=1000",
        "source_properties.Values_Not_Indexed>0",
    ] {
        assert_eq!(list(&store, filter).results[0].finding.name, name(1));
        assert_eq!(list(&store, filter).total_size, 1, "{filter}");
    }
    let lowered = {
        let mut result = finding(7);
        result.finding.severity = model::finding::Severity::Low;
        result
    };
    let change = Change {
        who: "ada",
        now: at(9),
    };
    store
        .update_finding(&name(7), &lowered, &["severity"], change)
        .unwrap();
    store.record(&[finding(7)]).unwrap();
    assert_eq!(list(&store, "severity=LOW").total_size, 1);
}
