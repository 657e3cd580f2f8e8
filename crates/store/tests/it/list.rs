//! Pages: every finding once, in the order asked for, also while findings arrive.

use model::finding::{FindingResult, Severity, State};
use store::{Error, Query, Store};

use crate::support::{at, finding, store};

/// `count` findings over a few severities, categories, containers and days.
fn varied(count: u64) -> Vec<FindingResult> {
    let severities = [
        Severity::Critical,
        Severity::High,
        Severity::Medium,
        Severity::Low,
    ];
    (0..count)
        .map(|number| {
            let mut result = finding(number);
            let finding = &mut result.finding;
            finding.severity = severities[(number % 7 % 4) as usize];
            finding.category = format!("category {}", number % 5);
            finding.containers[0].name = format!("container-{}", number % 11);
            finding.resource_name = format!("//host/{}", number % 13);
            finding.event_time = Some(at(number * 7919 % 86_400));
            if number % 3 == 0 {
                finding.state = State::Inactive;
            }
            result
        })
        .collect()
}

fn query(filter: &str, order_by: &str, page_size: u32) -> Query {
    Query {
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        page_size,
        ..Query::default()
    }
}

/// All findings of a query, page by page; `between` runs after each page.
fn all_pages(store: &Store, mut query: Query, mut between: impl FnMut()) -> Vec<FindingResult> {
    let mut all = Vec::new();
    loop {
        let page = store.list(&query).unwrap();
        all.extend(page.results);
        if page.next_page_token.is_empty() {
            return all;
        }
        query.page_token = page.next_page_token;
        between();
    }
}

fn names(results: &[FindingResult]) -> Vec<&str> {
    results
        .iter()
        .map(|result| result.finding.name.as_str())
        .collect()
}

#[test]
fn pages_of_any_order_hold_every_finding_once() {
    let (_folder, store) = store();
    store.record(&varied(300)).unwrap();
    for order in [
        "",
        "event_time",
        "event_time desc",
        "severity, event_time desc",
        "severity desc,event_time",
        "category",
        "category desc, event_time",
        "resource_name",
        "name",
        "name desc",
        "state, severity desc, name",
        " create_time ,  category   desc ",
        "parent, event_time",
        "containers.name desc",
        "security_marks.marks",
        "source_properties.Occurrences desc",
    ] {
        for filter in [
            "",
            "state=\"ACTIVE\"",
            "container:x OR containers.name:\"container-1\"",
        ] {
            let filter = filter.replace("container:x OR ", "");
            let whole = all_pages(&store, query(&filter, order, 1000), || {});
            let pieces = all_pages(&store, query(&filter, order, 7), || {});
            assert_eq!(names(&pieces), names(&whole), "{order:?} {filter:?}");
            let mut distinct = names(&whole);
            distinct.sort_unstable();
            distinct.dedup();
            let total = store.list(&query(&filter, order, 1)).unwrap().total_size;
            assert_eq!(distinct.len() as u64, total, "{order:?} {filter:?}");
        }
    }
}

#[test]
fn many_names_are_in_order() {
    let (_folder, store) = store();
    let findings: Vec<_> = varied(2900)
        .into_iter()
        .enumerate()
        .map(|(number, mut result)| {
            // In this order: what follows the location decides, a slash is after a hyphen.
            let location = ["global-x", "global", "global2"][number % 3];
            let finding = &mut result.finding;
            finding.name = finding.name.replace("/global/", &format!("/{location}/"));
            finding.parent = String::new();
            result
        })
        .collect();
    store.record(&findings).unwrap();
    let marks = |text: &str| [("team".to_owned(), text.to_owned())].into();
    let change = store::Change {
        who: "ada",
        now: at(9),
    };
    for (number, mark) in [(3, "red"), (100, "blue"), (2000, "red")] {
        store
            .set_marks(&findings[number].finding.name, &marks(mark), &[], change)
            .unwrap();
    }
    for filter in [
        "",
        "severity!=\"LOW\"",
        "state=\"INACTIVE\"",
        "category=\"none\"",
    ] {
        let mut expected: Vec<_> = all_pages(&store, query(filter, "", 1000), || {})
            .into_iter()
            .map(|result| result.finding.name)
            .collect();
        expected.sort();
        let named = |order: &str, size| {
            let found = all_pages(&store, query(filter, order, size), || {});
            let names = found.into_iter().map(|result| result.finding.name);
            names.collect::<Vec<_>>()
        };
        assert_eq!(named("name", 333), expected, "{filter}");
        assert_eq!(named("name, severity", 1000), expected, "{filter}");
        expected.reverse();
        assert_eq!(named("name desc", 333), expected, "{filter}");
        assert_eq!(named("name desc, category", 999), expected, "{filter}");
    }
    // Those without marks come first, or last.
    let found = all_pages(
        &store,
        query("", "security_marks.marks desc, name", 700),
        || {},
    );
    let first: Vec<_> = found.iter().take(4).map(|result| &result.finding).collect();
    let number = |at: usize| {
        let name = &first[at].name;
        findings
            .iter()
            .position(|result| result.finding.name == *name)
    };
    assert_eq!((number(0), number(1)), (Some(3), Some(2000)));
    assert_eq!((number(2), found.len()), (Some(100), 2900));
    assert!(first[3].security_marks.is_none());
}

#[test]
fn a_page_by_name_goes_on_where_the_last_one_ended_though_few_have_become_many() {
    let (_folder, store) = store();
    store.record(&varied(1990)).unwrap();
    let mut number = 100_000;
    let found = all_pages(&store, query("", "name, event_time", 900), || {
        number += 100;
        let more: Vec<_> = (number..number + 20).map(finding).collect();
        store.record(&more).unwrap();
    });
    let names = names(&found);
    assert!(names.is_sorted());
    assert!(names.len() >= 1990);
    assert_eq!(
        names
            .iter()
            .filter(|name| **name < crate::support::name(1990).as_str())
            .count(),
        1990
    );
}

#[test]
fn orders_sort() {
    let (_folder, store) = store();
    store.record(&varied(120)).unwrap();
    let check = |order: &str, key: &dyn Fn(&FindingResult) -> String| {
        let found: Vec<String> = all_pages(&store, query("", order, 50), || {})
            .iter()
            .map(key)
            .collect();
        let mut sorted = found.clone();
        sorted.sort();
        if order.ends_with("desc") {
            sorted.reverse();
        }
        assert_eq!(found, sorted, "{order}");
    };
    let time = |result: &FindingResult| result.finding.event_time.unwrap().to_string();
    check("event_time", &time);
    check("event_time desc", &time);
    check("category", &|result| result.finding.category.clone());
    check("category, event_time", &|result| {
        format!("{} {}", result.finding.category, time(result))
    });
    check("name", &|result| result.finding.name.clone());
    check("resource_name desc", &|result| {
        result.finding.resource_name.clone()
    });
    check("severity", &|result| {
        (result.finding.severity as u8).to_string()
    });
    check("containers.name desc", &|result| {
        result.finding.containers[0].name.clone()
    });
}

#[test]
fn large_stores_page_in_groups_as_small_ones_sort() {
    let (_folder, store) = store();
    // Above the size up to which a selection is simply sorted.
    for batch in varied(1300).chunks(1000) {
        store.record(batch).unwrap();
    }
    for order in [
        "category",
        "severity desc, event_time",
        "resource_name, event_time desc",
    ] {
        let grouped = all_pages(&store, query("", order, 299), || {});
        assert_eq!(grouped.len(), 1300, "{order}");
        let sorted = all_pages(
            &store,
            query("", &format!("{order}, event_time desc"), 299),
            || {},
        );
        if order == "category" {
            assert_eq!(names(&grouped), names(&sorted));
        }
        let mut distinct = names(&grouped);
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 1300, "{order}");
    }
}

#[test]
fn pages_stay_whole_while_findings_arrive() {
    let (_folder, store) = store();
    store.record(&varied(100)).unwrap();
    let mut next = 1000;
    let found = all_pages(&store, query("", "event_time desc", 9), || {
        // One before, one after what has been read.
        for seconds in [0, 90_000] {
            let mut new = finding(next);
            new.finding.event_time = Some(at(seconds));
            store.record(&[new]).unwrap();
            next += 1;
        }
    });
    let old = found
        .iter()
        .filter(|result| result.finding.name < crate::support::name(1000));
    assert_eq!(old.count(), 100);
    let mut distinct = names(&found);
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), found.len());
}

#[test]
fn page_sizes() {
    let (_folder, store) = store();
    store.record(&varied(1200)).unwrap();
    let size = |asked| store.list(&query("", "", asked)).unwrap().results.len();
    assert_eq!(size(0), 10);
    assert_eq!(size(1), 1);
    assert_eq!(size(5000), 1000);
}

#[test]
fn a_token_fits_its_query_alone() {
    let (_folder, store) = store();
    store.record(&varied(30)).unwrap();
    let first = query("state=\"ACTIVE\"", "category", 5);
    let token = store.list(&first).unwrap().next_page_token;
    let with = |query: &Query, token: &str| {
        store.list(&Query {
            page_token: token.to_owned(),
            ..query.clone()
        })
    };
    assert!(with(&first, &token).is_ok());
    // Another page size is allowed.
    assert!(
        with(
            &Query {
                page_size: 9,
                ..first.clone()
            },
            &token
        )
        .is_ok()
    );
    let others = [
        query("", "category", 5),
        query("state=\"ACTIVE\"", "", 5),
        Query {
            parent: "organizations/1/sources/-".to_owned(),
            ..first.clone()
        },
    ];
    for other in others {
        assert!(matches!(
            with(&other, &token),
            Err(Error::Invalid {
                what: "page_token",
                ..
            })
        ));
    }
    for bad in [
        "x",
        "zz",
        "7b7d",
        &token[2..],
        &format!("{token}00"),
        "\u{e9}\u{e9}",
    ] {
        assert!(
            matches!(
                with(&first, bad),
                Err(Error::Invalid {
                    what: "page_token",
                    ..
                })
            ),
            "{bad}"
        );
    }
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let (_folder, store) = store();
    for order in [
        "nothing",
        "category down",
        "category,",
        "processes.args",
        "category desc desc",
        "'x'",
    ] {
        let result = store.list(&query("", order, 5));
        assert!(
            matches!(
                result,
                Err(Error::Invalid {
                    what: "order_by",
                    ..
                })
            ),
            "{order}"
        );
    }
}

#[test]
fn a_page_of_large_findings_ends_early_and_loses_none() {
    let (_folder, store) = store();
    let large = |number| {
        let mut result = finding(number);
        result.finding.description = "x".repeat(1_000_000);
        result
    };
    store
        .record(&(0..20).map(large).collect::<Vec<_>>())
        .unwrap();
    for order_by in ["", "event_time", "name", "severity, name desc"] {
        let page = store.list(&query("", order_by, 1000)).unwrap();
        assert_eq!((page.results.len(), page.total_size), (9, 20), "{order_by}");
        let all = all_pages(&store, query("", order_by, 1000), || ());
        let mut names = names(&all);
        assert_eq!(names.len(), 20, "{order_by}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 20, "{order_by}");
    }
}
