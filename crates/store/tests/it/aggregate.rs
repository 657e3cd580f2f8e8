//! Groups, facets and histograms: whatever way they are counted, they agree with the findings.

use std::collections::BTreeMap;

use model::finding::{Container, FindingResult, Severity, State};
use store::{Change, GroupQuery, Store};

use crate::support::{at, finding, list, name, store};

const DAY: u64 = 86_400;

/// Findings over five days, some without container, some with two.
fn spread(store: &Store) {
    let severities = [Severity::Critical, Severity::Low];
    let findings: Vec<_> = (0..200)
        .map(|number| {
            let mut result = finding(number);
            let finding = &mut result.finding;
            finding.severity = severities[(number % 2) as usize];
            finding.category = format!("category {}", number % 5);
            finding.module_name = format!("MODULE_{}", number % 5);
            finding.event_time = Some(at(number * 2161));
            finding.containers = match number % 10 {
                0 => Vec::new(),
                1 => vec![container(1), container(2)],
                _ => vec![container(number % 4)],
            };
            if number % 3 == 0 {
                finding.state = State::Inactive;
            }
            result
        })
        .collect();
    store.record(&findings).unwrap();
}

fn container(number: u64) -> Container {
    Container {
        name: format!("container-{number}"),
        ..Container::default()
    }
}

fn groups(store: &Store, filter: &str, group_by: &str) -> BTreeMap<Vec<String>, u64> {
    let query = GroupQuery {
        filter: filter.to_owned(),
        group_by: group_by.to_owned(),
        page_size: 1000,
        ..GroupQuery::default()
    };
    let groups = store.group(&query).unwrap();
    assert_eq!(groups.total_size, groups.results.len() as u64);
    let mut found = BTreeMap::new();
    for group in groups.results {
        let values = group
            .properties
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        assert_eq!(found.insert(values, group.count), None);
    }
    found
}

/// The same by reading every finding.
fn expected(
    store: &Store,
    filter: &str,
    values: &dyn Fn(&FindingResult) -> Vec<Vec<String>>,
) -> BTreeMap<Vec<String>, u64> {
    let mut counts = BTreeMap::new();
    for result in list(store, filter).results {
        for value in values(&result) {
            *counts.entry(value).or_insert(0) += 1;
        }
    }
    counts
}

/// One that counts can answer whole, with edges, and ones for which findings are looked at.
fn filters() -> Vec<String> {
    vec![
        String::new(),
        "state=\"ACTIVE\"".to_owned(),
        "state=\"ACTIVE\" AND NOT severity=\"LOW\"".to_owned(),
        "category=\"category 1\"".to_owned(),
        "category=\"category 1\" OR category=\"category 2\"".to_owned(),
        "containers.name=\"container-1\"".to_owned(),
        "containers.name:\"container\"".to_owned(),
        format!(
            "event_time>=\"{}\" event_time<\"{}\"",
            at(DAY + 17),
            at(4 * DAY - 5)
        ),
        format!("event_time>\"{}\" category=\"category 3\"", at(2 * DAY)),
        format!("event_time<\"{}\" event_time>\"{}\"", at(5), at(DAY)),
        "processes.args=\"--quiet\" state=\"ACTIVE\"".to_owned(),
        "category=\"category 1\" containers.name=\"container-1\"".to_owned(),
        "parent:\"sources/1\"".to_owned(),
        "category=\"none\"".to_owned(),
    ]
}

#[test]
fn groups_agree_with_the_findings() {
    let (_folder, store) = store();
    spread(&store);
    type Values<'a> = dyn Fn(&FindingResult) -> Vec<Vec<String>> + 'a;
    let containers = |result: &FindingResult| -> Vec<String> {
        match result.finding.containers.as_slice() {
            [] => vec![String::new()],
            some => some
                .iter()
                .map(|container| container.name.clone())
                .collect(),
        }
    };
    let severity = |result: &FindingResult| format!("{:?}", result.finding.severity).to_uppercase();
    let by: [(&str, &Values<'_>); 5] = [
        ("category", &|result| {
            vec![vec![result.finding.category.clone()]]
        }),
        ("severity", &|result| vec![vec![severity(result)]]),
        ("severity, category", &|result| {
            vec![vec![severity(result), result.finding.category.clone()]]
        }),
        ("containers.name", &|result| {
            containers(result)
                .into_iter()
                .map(|name| vec![name])
                .collect()
        }),
        ("parent,module_name,containers.name", &|result| {
            let one = |name| {
                vec![
                    result.finding.parent.clone(),
                    result.finding.module_name.clone(),
                    name,
                ]
            };
            containers(result).into_iter().map(one).collect()
        }),
    ];
    for filter in filters() {
        for (group_by, values) in by {
            let found = groups(&store, &filter, group_by);
            // A filter on one container still groups by the other containers of the same finding.
            assert_eq!(
                found,
                expected(&store, &filter, values),
                "{filter} by {group_by}"
            );
        }
    }
}

#[test]
fn histograms_agree_with_the_findings() {
    let (_folder, store) = store();
    spread(&store);
    for filter in filters() {
        for buckets in [1, 7, 60, 500] {
            let histogram = store.histogram("", &filter, buckets).unwrap();
            assert!(histogram.buckets.len() <= buckets as usize, "{filter}");
            let width = histogram.width_ns;
            let mut expect = BTreeMap::new();
            for result in list(&store, &filter).results {
                let start = result.finding.event_time.unwrap().0 / width * width;
                expect.entry(start).or_insert([0; 5])[result.finding.severity as usize] += 1;
            }
            let found: BTreeMap<_, _> = histogram
                .buckets
                .iter()
                .filter(|bucket| bucket.count() > 0)
                .map(|bucket| (bucket.start.0, bucket.by_severity))
                .collect();
            assert_eq!(found, expect, "{filter} in {buckets}");
            let steady = histogram
                .buckets
                .windows(2)
                .all(|pair| pair[1].start.0 - pair[0].start.0 == width);
            assert!(steady, "{filter} in {buckets}");
        }
    }
}

#[test]
fn counts_follow_every_change() {
    let (_folder, store) = store();
    spread(&store);
    let mut moved = finding(7);
    moved.finding.severity = Severity::High;
    moved.finding.event_time = Some(at(30 * DAY));
    moved.finding.containers = vec![container(9)];
    store.record(&[moved.clone(), moved]).unwrap();
    let one = |filter: &str, by: &str, value: &str| {
        groups(&store, filter, by)
            .get(&vec![value.to_owned()])
            .copied()
    };
    assert_eq!(one("", "severity", "HIGH"), Some(1));
    assert_eq!(one("", "containers.name", "container-9"), Some(1));
    assert_eq!(groups(&store, "", "severity").values().sum::<u64>(), 200);
    let last = *store.histogram("", "", 60).unwrap().buckets.last().unwrap();
    assert_eq!(last.by_severity, [0, 0, 1, 0, 0]);
    assert_eq!(
        list(&store, &format!("event_time>\"{}\"", at(20 * DAY))).results[0]
            .finding
            .name,
        name(7)
    );
}

#[test]
fn facets_are_the_most_frequent_first() {
    let (_folder, store) = store();
    spread(&store);
    let facets = store
        .facets("", "state=\"ACTIVE\"", &["severity", "category"], 2)
        .unwrap();
    assert_eq!(facets[0].len(), 2);
    assert!(facets[0][0].1 >= facets[0][1].1);
    assert_eq!(facets[1].len(), 2);
}

#[test]
fn groups_come_in_pages() {
    let (_folder, store) = store();
    spread(&store);
    let mut query = GroupQuery {
        group_by: "category".to_owned(),
        page_size: 2,
        ..GroupQuery::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = store.group(&query).unwrap();
        assert_eq!(page.total_size, 5);
        seen.extend(
            page.results
                .into_iter()
                .map(|group| group.properties[0].1.clone()),
        );
        if page.next_page_token.is_empty() {
            break;
        }
        query.page_token = page.next_page_token;
    }
    seen.sort();
    assert_eq!(
        seen,
        (0..5)
            .map(|number| format!("category {number}"))
            .collect::<Vec<_>>()
    );
    query.group_by = "state".to_owned();
    assert!(store.group(&query).is_err());
    query.page_token.clear();
    for bad in ["", "description", "nothing", "category,,state"] {
        query.group_by = bad.to_owned();
        assert!(store.group(&query).is_err(), "{bad}");
    }
}

#[test]
fn a_page_of_groups_begins_where_the_last_one_ended() {
    let (_folder, store) = store();
    // Of sizes 9 to 1, and three of size 1.
    let mut findings = Vec::new();
    for (category, size) in [9_u64, 8, 7, 6, 5, 4, 3, 2, 1, 1, 1]
        .into_iter()
        .enumerate()
    {
        for _ in 0..size {
            let mut result = finding(findings.len() as u64);
            result.finding.category = format!("group {category:02}");
            findings.push(result);
        }
    }
    store.record(&findings).unwrap();
    let mut query = GroupQuery {
        filter: "state=\"ACTIVE\"".to_owned(),
        group_by: "category".to_owned(),
        page_size: 3,
        ..GroupQuery::default()
    };
    let mut page = || {
        let page = store.group(&query).unwrap();
        query.page_token = page.next_page_token;
        let named = |group: store::Group| group.properties[0].1.replace("group ", "");
        let names: Vec<_> = page.results.into_iter().map(named).collect();
        (names.join(" "), query.page_token.is_empty())
    };
    assert_eq!(page(), ("00 01 02".to_owned(), false));
    // The first has fewer than all others now; a small one has become the largest.
    let change = Change {
        who: "ada",
        now: at(9),
    };
    for number in 0..9 {
        store
            .set_state(&name(number), State::Inactive, change)
            .unwrap();
    }
    let more: Vec<_> = (100..120)
        .map(|number| {
            let mut result = finding(number);
            result.finding.category = "group 07".to_owned();
            result
        })
        .collect();
    store.record(&more).unwrap();
    assert_eq!(page(), ("03 04 05".to_owned(), false));
    assert_eq!(page(), ("06 08 09".to_owned(), false));
    assert_eq!(page(), ("10".to_owned(), true));
}

#[test]
fn a_grouping_is_refused_before_it_fills_memory() {
    let (_folder, store) = store();
    let refused = |filter: &str, group_by: &str| {
        let query = GroupQuery {
            filter: filter.to_owned(),
            group_by: group_by.to_owned(),
            ..GroupQuery::default()
        };
        store.group(&query).unwrap_err().to_string()
    };
    let with_containers = |number: u64, count: u64| {
        let mut result = finding(number);
        let container = |one| Container {
            name: format!("{number}-{one}"),
            uri: format!("registry.test/{number}/{one}"),
            ..Container::default()
        };
        result.finding.containers = (0..count).map(container).collect();
        result
    };
    store.record(&[with_containers(0, 200)]).unwrap();
    for twice in [
        "containers.name,containers.name",
        "category,state, category",
    ] {
        assert!(refused("", twice).contains("twice"), "{twice}");
    }
    let product = refused("", "containers.name,containers.uri");
    assert!(product.contains("4096"), "{product}");
    assert_eq!(groups(&store, "", "containers.name,state").len(), 200);

    // Each within its bound, but together too many.
    let many: Vec<_> = (1..=129)
        .map(|number| with_containers(number, 64))
        .collect();
    store.record(&many).unwrap();
    let together = refused(
        "NOT containers.name=\"0-0\"",
        "containers.name,containers.uri",
    );
    assert!(together.contains("524288"), "{together}");
}
