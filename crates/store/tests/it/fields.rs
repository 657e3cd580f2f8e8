//! Every field, and one element of every list: filters agree with a look at the documents.

use model::Timestamp;
use model::finding::{FindingResult, Mute};
use serde_json::{Map, Value, json};
use store::{Change, FIELDS, FindingId, Kind, Store};

use crate::support::{Random, at, finding, name, store};

const FINDINGS: u64 = 60;

/// Small enough a choice that conditions meet.
const TEXTS: [&str; 5] = ["alpha", "Beta 7", "gam%_ma", "x\"y\\z", "7"];

/// Lists of objects, with something below each that has no entry in [`FIELDS`].
const LISTS: &[&str] = &[
    "processes",
    "containers",
    "files",
    "connections",
    "kubernetes.pods",
    "kubernetes.nodes",
    "processes.libraries",
    "processes.env_variables",
    "processes.binary.operations",
    "processes.script.operations",
    "processes.libraries.operations",
    "files.operations",
    "containers.labels",
    "kubernetes.pods.labels",
    "indicator.signatures",
    "indicator.signatures.memory_hash_signature.detections",
    "resource.gcp_metadata.folders",
    // And what there is one of.
    "processes.binary",
    "processes.script.disk_path",
    "indicator.signatures.yara_rule_signature",
    "mitre_attack",
    "resource.gcp_metadata",
];

/// Fields of somebody's choice.
const OPEN: &[&str] = &[
    "vulnerability.cve.id",
    "vulnerability.cve.cvssv3.base_score",
    "vulnerability.cve.upstream_fix_available",
    "vulnerability.cve.references.source",
    "vulnerability.cve.references.uri",
    "vulnerability.cve.references",
    "vulnerability.cve",
    "vulnerability",
    "access.principal_email",
    "compliances.ids",
    "compliances.standard",
    "kubernetes.access_reviews.verb",
    "kubernetes.pods.containers.uri",
    "kubernetes.pods.containers.name",
    "kubernetes",
    "resource.resource_path.nodes.id",
    "source_properties.Provenance.executedSha256",
    "source_properties.Provenance.verdict",
    "source_properties.Some_Flag",
    "source_properties.Number",
    "source_properties.Nested.deepKey.other_key",
    "source_properties.Nested",
    "external_systems.jira.external_uid",
    "external_systems.jira.assignees",
    "security_marks.marks.team",
];

/// Lists of somebody's choice.
const OPEN_LISTS: &[&str] = &[
    "vulnerability.cve.references",
    "vulnerability.cve",
    "compliances",
    "kubernetes.access_reviews",
    "kubernetes.pods.containers",
    "source_properties.Provenance",
    "source_properties.Nested.deepKey",
];

fn text(random: &mut Random) -> Value {
    json!(TEXTS[random.below(5) as usize])
}

fn number(random: &mut Random) -> Value {
    json!(random.below(4).to_string())
}

/// An object of which each member is left out now and then.
fn some(random: &mut Random, members: Value) -> Value {
    let Value::Object(mut members) = members else {
        panic!("no object");
    };
    members.retain(|_, _| random.below(4) > 0);
    members.into()
}

fn many(random: &mut Random, mut each: impl FnMut(&mut Random) -> Value) -> Value {
    (0..random.below(3)).map(|_| each(random)).collect()
}

fn file(random: &mut Random) -> Value {
    let members = json!({
        "path": text(random), "sha256": text(random), "size": number(random), "hashedSize": number(random),
        "partiallyHashed": random.below(2) == 0, "contents": text(random), "fileLoadState": text(random),
        "diskPath": {"partitionUuid": text(random), "relativePath": text(random)},
        "operations": many(random, |random| json!({"type": text(random)})),
    });
    some(random, members)
}

fn process(random: &mut Random) -> Value {
    let members = json!({
        "name": text(random), "binary": file(random), "script": file(random), "libraries": many(random, file),
        "args": many(random, text), "argumentsTruncated": random.below(2) == 0,
        "envVariablesTruncated": random.below(2) == 0,
        "envVariables": many(random, |random| {
            let members = json!({"name": text(random), "val": text(random)});
            some(random, members)
        }),
        "pid": number(random), "parentPid": number(random), "userId": number(random),
    });
    some(random, members)
}

fn labels(random: &mut Random) -> Value {
    many(random, |random| {
        let members = json!({"name": text(random), "value": text(random)});
        some(random, members)
    })
}

fn container(random: &mut Random) -> Value {
    let members = json!({
        "name": text(random), "uri": text(random), "imageId": text(random), "labels": labels(random),
        "createTime": at(random.below(4)).to_string(),
    });
    some(random, members)
}

fn connection(random: &mut Random) -> Value {
    let members = json!({
        "destinationIp": text(random), "destinationPort": random.below(4), "sourceIp": text(random),
        "sourcePort": random.below(4), "protocol": text(random),
    });
    some(random, members)
}

fn pod(random: &mut Random) -> Value {
    let members = json!({
        "name": text(random), "ns": text(random), "labels": labels(random),
        "containers": many(random, |random| json!({"name": text(random), "uri": text(random)})),
    });
    some(random, members)
}

/// The same list, now and then with more elements than are told apart.
fn longer(random: &mut Random, each: fn(&mut Random) -> Value) -> Value {
    match random.below(20) {
        0 => (0..66).map(|_| each(random)).collect(),
        _ => many(random, each),
    }
}

fn signature(random: &mut Random) -> Value {
    let members = json!({
        "signatureType": text(random),
        "yaraRuleSignature": {"yaraRule": text(random)},
        "memoryHashSignature": {
            "binaryFamily": text(random),
            "detections": many(random, |random| {
                let members = json!({"binary": text(random), "percentPagesMatched": random.below(4) as f64 / 2.0});
                some(random, members)
            }),
        },
    });
    some(random, members)
}

fn random_finding(serial: u64, random: &mut Random) -> FindingResult {
    let base = finding(serial).finding;
    let members = json!({
        "category": text(random), "resourceName": text(random), "severity": "HIGH",
        "findingClass": "THREAT", "moduleName": text(random), "parentDisplayName": text(random),
        "externalUri": text(random), "description": text(random), "nextSteps": text(random),
        "indicator": {
            "ipAddresses": many(random, text), "domains": many(random, text), "uris": many(random, text),
            "signatures": many(random, signature),
        },
        "mitreAttack": {
            "primaryTactic": text(random), "primaryTechniques": many(random, text),
            "additionalTactics": many(random, text), "additionalTechniques": many(random, text),
            "version": text(random),
        },
        "processes": longer(random, process), "containers": longer(random, container),
        "files": longer(random, file), "connections": longer(random, connection),
        "kubernetes": {
            "pods": longer(random, pod),
            "nodes": many(random, |random| json!({"name": text(random)})),
            "accessReviews": many(random, |random| json!({"verb": text(random), "ns": text(random)})),
        },
        "vulnerability": {"cve": {
            "id": text(random), "upstreamFixAvailable": random.below(2) == 0,
            "cvssv3": {"baseScore": random.below(20) as f64 / 2.0},
            "references": many(random, |random| json!({"source": text(random), "uri": text(random)})),
        }},
        "access": {"principalEmail": text(random)},
        "compliances": many(random, |random| json!({"standard": text(random), "ids": many(random, text)})),
        "sourceProperties": {
            "Provenance": many(random, |random| {
                let members = json!({"executedSha256": text(random), "verdict": text(random)});
                some(random, members)
            }),
            "Some_Flag": random.below(2) == 0, "Number": random.below(4),
            "Nested": {"deepKey": {"other_key": text(random)}},
        },
    });
    let mut members = some(random, members);
    members["name"] = base.name.into();
    members["state"] = "ACTIVE".into();
    members["eventTime"] = at(random.below(4)).to_string().into();
    let resource = json!({
        "name": members.get("resourceName"), "displayName": text(random), "type": text(random),
        "cloudProvider": text(random), "service": text(random), "location": text(random),
        "resourcePathString": text(random),
        "resourcePath": {"nodes": many(random, |random| json!({"id": text(random)}))},
        "gcpMetadata": {
            "project": text(random), "projectDisplayName": text(random), "parent": text(random),
            "parentDisplayName": text(random), "organization": text(random),
            "folders": many(random, |random| {
                let members = json!({"resourceFolder": text(random), "resourceFolderDisplayName": text(random)});
                some(random, members)
            }),
        },
    });
    let mut resource = some(random, resource);
    for key in ["name", "displayName", "type"] {
        if resource.get(key).is_none_or(Value::is_null) {
            resource[key] = "".into();
        }
    }
    serde_json::from_value(json!({"finding": members, "resource": resource})).unwrap()
}

/// A comparison, which may be denied.
#[derive(Clone)]
struct Asked {
    field: String,
    kind: Kind,
    operator: &'static str,
    value: String,
    denied: bool,
}

impl Asked {
    /// About a field; the comparison names it from `below` on.
    fn random(field: &str, kind: Kind, random: &mut Random) -> Self {
        let mut value = format!("{:?}", TEXTS[random.below(5) as usize]);
        let mut operators = ["=", ":", ":*", "=\"\""].to_vec();
        match kind {
            Kind::Text => {}
            Kind::Open => {
                if random.below(2) == 0 {
                    value = random.below(4).to_string();
                    operators = ["=", "<", ">=", ":*"].to_vec();
                } else if random.below(3) == 0 {
                    value = (random.below(2) == 0).to_string();
                    operators = vec!["="];
                }
            }
            Kind::Enum(_) => {
                value = "\"HIGH\"".to_owned();
                if !field.ends_with("severity") {
                    operators = vec![":*"];
                }
            }
            Kind::Time => {
                value = format!("{:?}", at(random.below(5)).to_string());
                operators = ["=", "<", "<=", ">", ">=", ":*", "=\"\""].to_vec();
            }
            Kind::Number => {
                value = random.below(5).to_string();
                operators = ["=", "<", "<=", ">", ">=", ":*"].to_vec();
                if field.ends_with("Occurrences") {
                    operators.pop();
                }
            }
            Kind::Flag => {
                value = (random.below(2) == 0).to_string();
                operators = ["=", ":*"].to_vec();
            }
        }
        let operator = operators[random.below(operators.len() as u64) as usize];
        if operator.len() > 2 || operator == ":*" {
            value.clear();
        }
        Self {
            field: field.to_owned(),
            kind,
            operator,
            value,
            denied: random.below(3) == 0,
        }
    }

    /// As a filter on what is below a path.
    fn filter(&self, below: &str) -> String {
        let field = match self.field.strip_prefix(below) {
            Some("") => "elem",
            Some(rest) if !below.is_empty() => rest.trim_start_matches('.'),
            _ => &self.field,
        };
        let not = if self.denied { "NOT " } else { "" };
        format!("{not}{field}{}{}", self.operator, self.value)
    }

    /// Looks at a finding, or at what is below a path of it.
    fn holds(&self, from: &Value, below: &str) -> bool {
        let keys = keys(
            self.field.strip_prefix(below).unwrap_or(&self.field),
            &self.field,
        );
        self.is_fulfilled(from, &keys) != self.denied
    }

    fn is_fulfilled(&self, from: &Value, keys: &[String]) -> bool {
        let found = values(from, keys);
        let ordered = |number: f64, other: f64| match self.operator {
            "=" => number == other,
            "<" => number < other,
            "<=" => number <= other,
            ">" => number > other,
            ">=" => number >= other,
            _ => number != 0.0,
        };
        let text: String = serde_json::from_str(&self.value).unwrap_or_default();
        let as_text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        match self.kind {
            Kind::Number => {
                let other = self.value.parse().unwrap_or_default();
                let (last, above) = match keys.split_last() {
                    Some(split) => split,
                    None => return ordered(as_number(from).unwrap_or_default(), other),
                };
                let objects = values(from, above);
                objects
                    .iter()
                    .filter_map(|object| object.as_object())
                    .any(|object| {
                        ordered(
                            object.get(last).and_then(as_number).unwrap_or_default(),
                            other,
                        )
                    })
            }
            Kind::Flag => {
                let is_true = found.iter().any(|value| **value == json!(true));
                is_true != (self.operator == "=" && self.value == "false")
            }
            Kind::Time => {
                let time = |text: &str| Timestamp::parse(text).map(|time| time.0);
                let times: Vec<u64> = found
                    .iter()
                    .filter_map(|value| time(value.as_str()?))
                    .collect();
                match self.operator {
                    ":*" => !times.is_empty(),
                    "=\"\"" => times.is_empty(),
                    _ => {
                        let other = time(&text).unwrap();
                        times.iter().any(|time| {
                            // Whole seconds: exact.
                            ordered((time / 1_000_000) as f64, (other / 1_000_000) as f64)
                        })
                    }
                }
            }
            Kind::Text | Kind::Enum(_) | Kind::Open => {
                let is_scalar = |value: &&&Value| !value.is_object();
                let is_set = |value: &&Value| {
                    let text = as_text(value);
                    !text.is_empty() && !text.ends_with("_UNSPECIFIED")
                };
                match self.operator {
                    ":*" => found.iter().any(is_set),
                    "=\"\"" => !found.iter().any(is_set),
                    ":" => found
                        .iter()
                        .any(|value| as_text(value).to_lowercase().contains(&text.to_lowercase())),
                    "=" if self.value.starts_with('"') => {
                        found.iter().filter(is_scalar).any(|value| {
                            match self.field.starts_with("security_marks") {
                                true => as_text(value).eq_ignore_ascii_case(&text),
                                false => as_text(value) == text,
                            }
                        })
                    }
                    "=" if self.value.starts_with(['t', 'f']) => found
                        .iter()
                        .filter(is_scalar)
                        .any(|value| as_text(value) == self.value),
                    _ => {
                        let other = self.value.parse().unwrap();
                        let mut numbers = found.iter().filter_map(|value| as_number(value));
                        numbers.any(|number| ordered(number, other))
                    }
                }
            }
        }
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    }
}

/// `env_variables.name` as keys of the JSON.
fn keys(path: &str, whole: &str) -> Vec<String> {
    let camel = |key: &str| {
        let mut words = key.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |key, word| {
            let (first, rest) = word.split_at(1);
            key + &first.to_uppercase() + rest
        })
    };
    let own = whole.starts_with("source_properties.");
    path.split('.')
        .filter(|key| !key.is_empty())
        .map(|key| match own && key != "source_properties" {
            true => key.to_owned(),
            false => camel(key),
        })
        .collect()
}

/// All values at a path, lists on the way opened.
fn values<'a>(from: &'a Value, keys: &[String]) -> Vec<&'a Value> {
    match (from, keys) {
        (Value::Array(list), _) => list.iter().flat_map(|value| values(value, keys)).collect(),
        (Value::Null, _) => Vec::new(),
        (value, []) => vec![value],
        (value, [key, rest @ ..]) => value
            .get(key)
            .map_or(Vec::new(), |value| values(value, rest)),
    }
}

/// A finding as paths of filters see it.
fn document(result: &FindingResult) -> Value {
    let mut document = serde_json::to_value(&result.finding).unwrap();
    document["resource"] = serde_json::to_value(&result.resource).unwrap();
    document
}

struct World {
    _folder: tempfile::TempDir,
    store: Store,
    ids: Vec<FindingId>,
    documents: Vec<Value>,
}

impl World {
    fn new(random: &mut Random) -> Self {
        let (folder, store) = store();
        let findings: Vec<_> = (0..FINDINGS)
            .map(|number| random_finding(number, random))
            .collect();
        store.record(&findings).unwrap();
        // Some are seen again, so that they were first seen at another time.
        store.record(&findings[..10]).unwrap();
        let change = |seconds| Change {
            who: "ada",
            now: at(seconds),
        };
        for number in 0..FINDINGS {
            let name = name(number);
            if random.below(3) == 0 {
                let muted = [Mute::Muted, Mute::Unmuted][random.below(2) as usize];
                store
                    .set_mute(&name, muted, change(random.below(4)))
                    .unwrap();
            }
            if random.below(2) == 0 {
                let mark = TEXTS[random.below(5) as usize].to_owned();
                let marks = [("team".to_owned(), mark)].into();
                store.set_marks(&name, &marks, &[], change(1)).unwrap();
            }
            if random.below(2) == 0 {
                let entry = json!({"externalUid": text(random), "assignees": many(random, text)});
                let entry: &Map<_, _> = entry.as_object().unwrap();
                store
                    .set_external_system(&name, "jira", entry, &[], change(1))
                    .unwrap();
            }
        }
        let ids = store.ids("", "").unwrap();
        let mut documents = Vec::new();
        while documents.len() < ids.len() {
            let (results, _) = store.findings(&ids[documents.len()..]).unwrap();
            documents.extend(results.iter().map(document));
        }
        assert_eq!(documents.len() as u64, FINDINGS);
        Self {
            _folder: folder,
            store,
            ids,
            documents,
        }
    }

    /// Compares an answer with a look at each document.
    fn check(&self, filter: &str, holds: impl Fn(&Value) -> bool) -> bool {
        let expected: Vec<_> = (0..self.ids.len())
            .filter(|at| holds(&self.documents[*at]))
            .collect();
        let answer = self.store.ids("", filter).expect(filter);
        let found: Vec<_> = answer
            .iter()
            .map(|id| self.ids.iter().position(|known| known == id).unwrap())
            .collect();
        assert_eq!(found, expected, "{filter}");
        !expected.is_empty() && expected.len() < self.documents.len()
    }
}

fn fields() -> impl Iterator<Item = (&'static str, Kind)> {
    let own = FIELDS
        .iter()
        .filter(|field| !field.path.ends_with('.'))
        // Names are compared whole.
        .filter(|field| !matches!(field.path, "name" | "canonical_name"))
        .filter(|field| !field.path.starts_with("security_marks"))
        .map(|field| (field.path, field.kind));
    own.chain(OPEN.iter().map(|field| (*field, Kind::Open)))
}

#[test]
fn every_field_is_answered_as_documents_say() {
    let mut random = Random(0x5eed_0001);
    let world = World::new(&mut random);
    for (field, kind) in fields() {
        let mut tells = false;
        for _ in 0..12 {
            let asked = Asked::random(field, kind, &mut random);
            tells |= world.check(&asked.filter(""), |document| asked.holds(document, ""));
        }
        // Of what only the server sets there is nothing here.
        let is_fixed = [
            "parent",
            "state",
            "severity",
            "mute",
            "finding_class",
            "create_time",
        ]
        .contains(&field)
            || field.ends_with("Occurrences")
            || field.starts_with("mute_info");
        assert!(
            tells || is_fixed,
            "{field}: no question divides the findings"
        );
    }
}

#[test]
fn one_element_of_every_list_is_answered_as_documents_say() {
    let mut random = Random(0x5eed_0002);
    let world = World::new(&mut random);
    let lists = LISTS.iter().chain(OPEN_LISTS);
    for path in lists {
        let below: Vec<_> = fields()
            .filter(|(field, _)| {
                field
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with('.'))
            })
            .collect();
        assert!(!below.is_empty(), "{path}");
        let mut tells = false;
        for round in 0..24 {
            let asked: Vec<_> = (0..=random.below(2))
                .map(|_| {
                    let (field, kind) = below[random.below(below.len() as u64) as usize];
                    Asked::random(field, kind, &mut random)
                })
                .collect();
            let inner: Vec<_> = asked.iter().map(|asked| asked.filter(path)).collect();
            let only = round % 3 == 0;
            let function = if only { "containsOnly" } else { "contains" };
            let filter = format!("{function}({path}, {})", inner.join(" "));
            let keys = keys(path, path);
            tells |= world.check(&filter, |document| {
                let mut elements = values(document, &keys)
                    .into_iter()
                    .filter(|element| element.is_object());
                let passes = |element: &Value| asked.iter().all(|asked| asked.holds(element, path));
                match only {
                    true => {
                        let elements: Vec<_> = elements.collect();
                        !elements.is_empty() && elements.into_iter().all(passes)
                    }
                    false => elements.any(passes),
                }
            });
        }
        assert!(tells, "{path}: no question divides the findings");
    }
}

#[test]
fn single_values_are_elements_too() {
    let mut random = Random(0x5eed_0003);
    let world = World::new(&mut random);
    for (field, kind) in fields().filter(|(_, kind)| *kind == Kind::Text) {
        for _ in 0..4 {
            let asked = [(); 2].map(|()| Asked {
                operator: ["=", ":"][random.below(2) as usize],
                value: format!("{:?}", TEXTS[random.below(5) as usize]),
                ..Asked::random(field, kind, &mut random)
            });
            let inner = asked.each_ref().map(|asked| asked.filter(field));
            let keys = keys(field, field);
            let passes = |value: &Value| {
                !value.as_str().unwrap_or_default().is_empty()
                    && asked.iter().all(|asked| asked.holds(value, field))
            };
            world.check(
                &format!("contains({field}, {})", inner.join(" ")),
                |document| values(document, &keys).into_iter().any(passes),
            );
        }
    }
}

#[test]
fn elements_within_elements() {
    let mut random = Random(0x5eed_0004);
    let world = World::new(&mut random);
    for (outer, inner, fields) in [
        ("containers", "labels", ["name", "value"]),
        ("processes", "libraries", ["path", "sha256"]),
        ("processes", "envVariables", ["name", "val"]),
        ("processes", "binary.operations", ["type", "type"]),
        ("processes", "binary", ["path", "sha256"]),
        ("files", "operations", ["type", "type"]),
        ("kubernetes.pods", "labels", ["name", "value"]),
        ("kubernetes.pods", "containers", ["name", "uri"]),
        ("compliances", "ids", ["elem", "elem"]),
        ("processes", "args", ["elem", "elem"]),
    ] {
        let mut tells = false;
        for round in 0..20 {
            let [one, two] = [(); 2].map(|()| TEXTS[random.below(5) as usize]);
            let deny = random.below(2) == 0;
            let not = if deny { "NOT " } else { "" };
            let only = round % 3 == 0;
            let function = if only { "containsOnly" } else { "contains" };
            let filter = format!(
                "contains({outer}, {not}{function}({inner}, {}={one:?} OR {}={two:?}))",
                fields[0], fields[1]
            );
            let equals = |value: &Value, field: &str, text: &str| match field {
                "elem" => value == text,
                field => value.get(field).is_some_and(|value| value == text),
            };
            tells |= world.check(&filter, |document| {
                let elements = values(document, &keys(outer, outer));
                elements.into_iter().any(|element| {
                    let mut below = values(element, &keys(inner, inner))
                        .into_iter()
                        .filter(|value| **value != "");
                    let passes = |value: &Value| {
                        equals(value, fields[0], one) || equals(value, fields[1], two)
                    };
                    let holds = match only {
                        true => {
                            let below: Vec<_> = below.collect();
                            !below.is_empty() && below.into_iter().all(passes)
                        }
                        false => below.any(passes),
                    };
                    holds != deny
                })
            });
        }
        assert!(tells, "{outer}, {inner}: no question divides the findings");
    }
}
