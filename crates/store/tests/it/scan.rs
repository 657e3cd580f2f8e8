//! Columns answer as a plain look at every finding would, whatever was changed, removed and added before.

use std::collections::{BTreeMap, BTreeSet};

use model::finding::{Container, File, FindingResult, Mute, Process, Severity, State};
use store::{Change, GroupQuery, Query, Store};

use crate::support::{Random, at, finding, name, store};

/// Enough for two chunks and for findings beside them.
const FINDINGS: u64 = 4700;

fn random_finding(number: u64, random: &mut Random) -> FindingResult {
    let mut result = finding(number);
    let finding = &mut result.finding;
    finding.category = format!("Category {}", random.below(30));
    finding.severity =
        [Severity::Critical, Severity::High, Severity::Low][random.below(3) as usize];
    finding.state = [State::Active, State::Inactive][random.below(2) as usize];
    finding.event_time = Some(at(random.below(1_000_000)));
    finding.containers = (0..random.below(3))
        .map(|_| Container {
            name: match random.below(8) {
                0 => String::new(),
                _ => format!("web-{}", random.below(400)),
            },
            uri: format!("registry.test/Shop/api:{}", random.below(50)),
            ..Container::default()
        })
        .collect();
    // Now and then more than are told apart.
    let processes = if number.is_multiple_of(500) {
        70
    } else {
        random.below(4)
    };
    finding.processes = (0..processes)
        .map(|_| Process {
            name: ["sh", "drop", "nginx"][random.below(3) as usize].to_owned(),
            binary: (random.below(4) > 0).then(|| File {
                path: format!("/usr/bin/p{}", random.below(300)),
                sha256: format!("{:064x}", random.below(1 << 16)),
                ..File::default()
            }),
            args: (0..random.below(3))
                .map(|_| ["-c", "--quiet", "run"][random.below(3) as usize].to_owned())
                .collect(),
            ..Process::default()
        })
        .collect();
    finding.indicator.ip_addresses = (0..random.below(2))
        .map(|_| format!("10.{}.{}.1", random.below(4), random.below(256)))
        .collect();
    result
}

type Test = Box<dyn Fn(&FindingResult) -> bool>;

/// A condition as a filter, and as a look at the finding.
fn condition(random: &mut Random) -> (String, Test) {
    fn test(test: impl Fn(&FindingResult) -> bool + 'static) -> Test {
        Box::new(test)
    }
    fn paths(process: &Process) -> &str {
        process.binary.as_ref().map_or("", |binary| &binary.path)
    }
    match random.below(16) {
        0 => {
            let category = format!("Category {}", random.below(32));
            (
                format!("category=\"{category}\""),
                test(move |found| found.finding.category == category),
            )
        }
        1 => {
            let part = format!("GORY {}", random.below(3));
            (
                format!("category:\"{part}\""),
                test(move |found| found.finding.category.to_uppercase().contains(&part)),
            )
        }
        2 => (
            "severity=\"HIGH\" OR severity=\"LOW\"".to_owned(),
            test(|found| found.finding.severity != Severity::Critical),
        ),
        3 => (
            "state=\"ACTIVE\"".to_owned(),
            test(|found| found.finding.state == State::Active),
        ),
        4 => (
            "mute=\"MUTED\"".to_owned(),
            test(|found| found.finding.mute == Mute::Muted),
        ),
        5 => {
            let part = format!("b-{}", random.below(40));
            (
                format!("containers.name:\"{part}\""),
                test(move |found| {
                    let mut containers = found.finding.containers.iter();
                    containers.any(|container| container.name.contains(&part))
                }),
            )
        }
        6 => (
            "containers.name=\"\"".to_owned(),
            test(|found| {
                found
                    .finding
                    .containers
                    .iter()
                    .all(|container| container.name.is_empty())
            }),
        ),
        7 => {
            let part = format!("shop/api:{}", random.below(50));
            (
                format!("containers.uri:\"{part}\""),
                test(move |found| {
                    let mut containers = found.finding.containers.iter();
                    containers.any(|container| container.uri.to_lowercase().contains(&part))
                }),
            )
        }
        8 => {
            let part = format!("{:x}", random.below(256));
            (
                format!("processes.binary.sha256:\"{part}\""),
                test(move |found| {
                    let mut processes = found.finding.processes.iter();
                    processes.any(|process| {
                        process
                            .binary
                            .as_ref()
                            .is_some_and(|binary| binary.sha256.contains(&part))
                    })
                }),
            )
        }
        9 => {
            let (from, to) = (random.below(1_000_000), random.below(1_000_000));
            (
                format!("event_time>=\"{}\" AND event_time<\"{}\"", at(from), at(to)),
                test(move |found| {
                    let time = found.finding.event_time.unwrap();
                    at(from) <= time && time < at(to)
                }),
            )
        }
        10 => (
            "contains(processes, name=\"sh\" AND args=\"-c\")".to_owned(),
            test(|found| {
                let mut processes = found.finding.processes.iter();
                processes.any(|process| {
                    process.name == "sh" && process.args.iter().any(|arg| arg == "-c")
                })
            }),
        ),
        11 => {
            let part = format!("p{}", random.below(30));
            (
                format!("contains(processes, binary.path:\"{part}\" AND NOT args=\"run\")"),
                test(move |found| {
                    let mut processes = found.finding.processes.iter();
                    processes.any(|process| {
                        paths(process).contains(&part)
                            && !process.args.iter().any(|arg| arg == "run")
                    })
                }),
            )
        }
        12 => (
            "containsOnly(processes, name=\"sh\" OR args=\"--quiet\")".to_owned(),
            test(|found| {
                let processes = &found.finding.processes;
                !processes.is_empty()
                    && processes.iter().all(|process| {
                        process.name == "sh" || process.args.iter().any(|arg| arg == "--quiet")
                    })
            }),
        ),
        13 => (
            "contains(processes, binary.path=\"\" AND name:\"n\")".to_owned(),
            test(|found| {
                let mut processes = found.finding.processes.iter();
                processes.any(|process| paths(process).is_empty() && process.name.contains('n'))
            }),
        ),
        14 => {
            let net = random.below(5);
            (
                format!("inIpRange(indicator.ip_addresses, \"10.{net}.0.0/16\")"),
                test(move |found| {
                    let mut addresses = found.finding.indicator.ip_addresses.iter();
                    addresses.any(|address| address.starts_with(&format!("10.{net}.")))
                }),
            )
        }
        _ => (
            "security_marks.marks.team:\"red\"".to_owned(),
            test(|found| {
                let marks = found.finding.security_marks.as_ref();
                marks.is_some_and(|marks| {
                    marks
                        .marks
                        .get("team")
                        .is_some_and(|team| team == "Red team")
                })
            }),
        ),
    }
}

/// One to three conditions, some negated.
fn filter(random: &mut Random) -> (String, Vec<(bool, Test)>) {
    let mut text = Vec::new();
    let mut tests = Vec::new();
    for _ in 0..=random.below(3) {
        let (filter, test) = condition(random);
        let negated = random.below(3) == 0;
        let not = if negated { "NOT " } else { "" };
        text.push(format!("{not}({filter})"));
        tests.push((negated, test));
    }
    (text.join(" AND "), tests)
}

fn all(store: &Store, filter: &str, order_by: &str, page_size: u32) -> (Vec<FindingResult>, u64) {
    let mut query = Query {
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        page_size,
        ..Query::default()
    };
    let mut found = Vec::new();
    loop {
        let page = store.list(&query).expect(filter);
        found.extend(page.results);
        query.page_token = page.next_page_token;
        if query.page_token.is_empty() {
            return (found, page.total_size);
        }
    }
}

fn names(results: &[FindingResult]) -> Vec<&str> {
    results
        .iter()
        .map(|result| result.finding.name.as_str())
        .collect()
}

/// Compares every answer with a look at all findings.
fn check(store: &Store, random: &mut Random, rounds: u64) {
    let (everything, total) = all(store, "", "", 1000);
    assert_eq!(everything.len() as u64, total);
    for round in 0..rounds {
        let (filter, tests) = filter(random);
        let mut expected: Vec<&FindingResult> = everything
            .iter()
            .filter(|found| tests.iter().all(|(negated, test)| test(found) != *negated))
            .collect();
        let (found, total) = all(store, &filter, "", 700);
        let expected_names: BTreeSet<_> = expected
            .iter()
            .map(|result| result.finding.name.as_str())
            .collect();
        assert_eq!(
            names(&found).into_iter().collect::<BTreeSet<_>>(),
            expected_names,
            "{filter}"
        );
        assert_eq!(found.len(), expected.len(), "{filter}");
        assert_eq!(total, expected.len() as u64, "{filter}");
        assert!(
            found.is_sorted_by_key(|result| std::cmp::Reverse(result.finding.event_time)),
            "{filter}"
        );
        if round % 4 == 0 {
            let (found, _) = all(store, &filter, "category desc, event_time", 90);
            expected.sort_by_key(|result| result.finding.event_time);
            expected.sort_by(|a, b| b.finding.category.cmp(&a.finding.category));
            let key = |result: &FindingResult| {
                (result.finding.category.clone(), result.finding.event_time)
            };
            assert!(
                found
                    .iter()
                    .map(key)
                    .eq(expected.iter().map(|found| key(found))),
                "{filter}"
            );
        }
        let groups = store
            .group(&GroupQuery {
                filter: filter.clone(),
                group_by: "containers.name,severity".to_owned(),
                page_size: 1000,
                ..GroupQuery::default()
            })
            .unwrap();
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        for result in &expected {
            let severity = format!("{:?}", result.finding.severity).to_uppercase();
            let mut containers: BTreeSet<_> = result
                .finding
                .containers
                .iter()
                .map(|container| container.name.clone())
                .filter(|name| !name.is_empty())
                .collect();
            if containers.is_empty() {
                containers.insert(String::new());
            }
            for container in containers {
                *counts.entry((container, severity.clone())).or_default() += 1;
            }
        }
        assert_eq!(groups.total_size, counts.len() as u64, "{filter}");
        for group in groups.results {
            let key = (group.properties[0].1.clone(), group.properties[1].1.clone());
            assert_eq!(counts.get(&key), Some(&group.count), "{filter}: {key:?}");
        }
        let histogram = store.histogram("", &filter, 30).unwrap();
        let bars: u64 = histogram.buckets.iter().map(|bucket| bucket.count()).sum();
        assert_eq!(bars, expected.len() as u64, "{filter}");
    }
}

#[test]
fn answers_agree_with_a_scan() {
    let (_folder, store) = store();
    let mut random = Random(0x1234_5678_9abc_def1);
    let findings: Vec<_> = (0..FINDINGS)
        .map(|number| random_finding(number, &mut random))
        .collect();
    // Batches that end within chunks, at no round number.
    for batch in findings.chunks(333) {
        store.record(batch).unwrap();
    }
    // The same questions again and again: what was selected before must not be answered when it has changed.
    let ask = |rounds| check(&store, &mut Random(0x0fed_cba9_8765_4321), rounds);
    ask(20);

    let change = Change {
        who: "ada",
        now: at(9),
    };
    let marks = BTreeMap::from([("team".to_owned(), "Red team".to_owned())]);
    for _ in 0..60 {
        let name = name(random.below(FINDINGS));
        match random.below(3) {
            0 => drop(store.set_mute(&name, Mute::Muted, change).unwrap()),
            1 => drop(store.set_marks(&name, &marks, &[], change).unwrap()),
            _ => drop(store.set_state(&name, State::Inactive, change).unwrap()),
        }
    }
    ask(10);
    // Enough to be moved into the columns: with new ones among them, then without.
    for more in [500, 0] {
        let repeats: Vec<_> = (0..1500)
            .map(|_| {
                let number = random.below(FINDINGS + more);
                random_finding(number, &mut random)
            })
            .collect();
        store.record(&repeats).unwrap();
        ask(10);
    }
    store.prune(at(100_000)).unwrap();
    ask(20);
}

#[test]
fn pages_stay_whole_while_columns_are_written() {
    let (_folder, store) = store();
    let mut random = Random(77);
    let first: Vec<_> = (0..3000)
        .map(|number| random_finding(number, &mut random))
        .collect();
    store.record(&first).unwrap();
    for order in ["", "category, event_time desc", "name"] {
        let mut query = Query {
            order_by: order.to_owned(),
            page_size: 500,
            ..Query::default()
        };
        let mut seen = Vec::new();
        let begin = 1_000_000 + random.below(1_000_000_000);
        for step in 0.. {
            let page = store.list(&query).unwrap();
            seen.extend(page.results.into_iter().map(|result| result.finding.name));
            query.page_token = page.next_page_token;
            if query.page_token.is_empty() {
                break;
            }
            // Each time enough to be moved into the columns.
            let more: Vec<_> = (0..1100)
                .map(|number| {
                    let mut result = random_finding(begin + step * 2000 + number, &mut random);
                    result.finding.category = "\u{1}first".to_owned();
                    result.finding.event_time = Some(at(2_000_000 + step));
                    result
                })
                .collect();
            if step < 3 {
                store.record(&more).unwrap();
            }
        }
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "{order:?}");
        for result in &first {
            assert!(distinct.contains(&result.finding.name), "{order:?}");
        }
    }
}
