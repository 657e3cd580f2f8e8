//! Exit codes and output of commands that need no watcher.

use std::process::Command;

use model::finding::{Finding, FindingResult, Resource};
use serde_json::Value;

use crate::watcher::{HULLWATCH, hullwatch, stderr};

#[test]
fn a_simulation_that_does_not_exist_is_a_mistake_of_usage() {
    let output = hullwatch(&["simulate", "no_such_detector"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("no_such_detector"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn without_an_engine_a_simulation_says_what_to_install() {
    let output = testkit::command::output(
        Command::new(HULLWATCH)
            .args(["simulate", "added_binary_executed"])
            .env("PATH", "/nonexistent"),
    );
    assert_eq!(output.status.code(), Some(3));
    let text = stderr(&output);
    assert!(text.contains("apt-get install runc"), "{text}");
    assert!(!text.contains("\\n"), "an escape is not for people: {text}");
}

#[test]
fn simulations_are_listed_without_running_one() {
    let output = hullwatch(&["simulate", "--list"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for spec in detect::CATALOGUE {
        assert!(
            text.lines().any(|line| line.starts_with(spec.id)),
            "{}: {text}",
            spec.id
        );
    }
    assert!(!text.contains('\x1b'), "colors belong on a terminal only");
}

#[test]
fn doctor_finds_that_this_machine_can_be_watched() {
    let output = hullwatch(&["doctor", "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["watching"], "full", "{report:#}");
    assert_eq!(output.status.code(), Some(0));
    let engines: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["status"] == "ok")
        .filter_map(|check| check["name"].as_str())
        .collect();
    assert!(
        engines.contains(&"runc") && engines.contains(&"Podman"),
        "{report:#}"
    );
}

#[test]
fn findings_of_a_directory_without_a_store_cannot_be_listed() {
    let empty = tempfile::tempdir().unwrap();
    let output = hullwatch(&[
        "findings",
        "list",
        "--state-dir",
        empty.path().to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).starts_with("error: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_finding_is_shown_by_the_beginning_of_its_id_that_the_table_has() {
    let folder = tempfile::tempdir().unwrap();
    let state = ["--state-dir", folder.path().to_str().unwrap()];
    let store = store::Store::open(folder.path()).unwrap();
    let ids = [
        format!("{}{}", "a1".repeat(6), "00".repeat(10)),
        format!("{}{}", "a1".repeat(4), "ff".repeat(12)),
    ];
    let results = ids.each_ref().map(|id| FindingResult {
        finding: Finding {
            name: format!("organizations/1/sources/1/findings/{id}"),
            category: "A Category".to_owned(),
            ..Finding::default()
        },
        resource: Resource::default(),
    });
    store.record(&results).unwrap();
    let run = |args: &[&str]| {
        let output = hullwatch(&[args, &state].concat());
        let out = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code(), out, stderr(&output))
    };
    let (_, table, _) = run(&["findings", "list"]);
    for id in &ids {
        let shown = table.lines().find_map(|line| {
            let first = line.split_whitespace().next()?;
            id.starts_with(first).then_some(first)
        });
        let (code, out, complaint) = run(&["findings", "show", shown.unwrap()]);
        assert_eq!(code, Some(0), "{complaint}");
        assert!(out.contains(&format!("/findings/{id}\n")), "{out}");
        let (code, ..) = run(&["findings", "show", id]);
        assert_eq!(code, Some(0));
    }
    for (id, complaint) in [("a1a1", "several findings"), ("b", "no finding")] {
        let (code, _, said) = run(&["findings", "show", id]);
        assert_eq!(code, Some(3));
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn a_finding_is_shown_with_what_its_verdict_rests_on() {
    use model::finding::{File, Process};
    let folder = tempfile::tempdir().unwrap();
    let state = ["--state-dir", folder.path().to_str().unwrap()];
    let properties = serde_json::json!({
        "Provenance": [{
            "path": "/usr/bin/openssl", "verdict": "UNKNOWN", "unknownReason": "the layer is gone",
            "sha256MissingReason": "it was gone", "imageSha256": "ab12", "sameContentAs": "/bin/x", "mount": "/data",
        }],
        "Indicator_Matches": [{
            "path": "/usr/bin/openssl", "list": "feed", "entry": "cd34", "date": "2026-01-02T00:00:00Z", "family": "Worm",
        }],
        "Investigation": {"risks": ["It is privileged: root in it is root on the host."]},
        "Requested_Shared_Object": "/tmp/engine.so",
    });
    let finding = Finding {
        name: "organizations/1/sources/1/findings/abc".to_owned(),
        source_properties: serde_json::from_value(properties).unwrap(),
        processes: vec![Process {
            binary: Some(File {
                path: "/usr/bin/openssl".to_owned(),
                ..File::default()
            }),
            ..Process::default()
        }],
        ..Finding::default()
    };
    let result = FindingResult {
        finding,
        resource: Resource::default(),
    };
    let store = store::Store::open(folder.path()).unwrap();
    store.record(&[result]).unwrap();
    let run = |args: &[&str]| {
        let output = hullwatch(&[args, &state].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = run(&["findings", "show", "abc"]);
    for fact in [
        "unknown: where",
        "the layer is gone",
        "it was gone",
        "ab12",
        "/bin/x",
        "/data",
        "feed",
        "cd34",
        "2026-01-02",
        "Worm",
        "It is privileged",
        "/tmp/engine.so",
    ] {
        assert!(shown.contains(fact), "{fact}: {shown}");
    }
    let table = run(&["findings", "list"]);
    assert!(table.trim_end().ends_with("/tmp/engine.so"), "{table}");
}

#[test]
fn all_findings_are_listed_the_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = store::Store::open(folder.path()).unwrap();
    let result = |number: u64, second: u64| FindingResult {
        finding: Finding {
            name: format!("organizations/1/sources/1/findings/f{number}"),
            category: format!("Category {}", number % 2),
            event_time: Some(model::Timestamp((1_700_000_000 + second) * 1_000_000_000)),
            ..Finding::default()
        },
        resource: Resource::default(),
    };
    // More than are read at a time; the one made first was seen last.
    let all: Vec<_> = (0..2100).map(|number| result(number, number)).collect();
    store.record(&all).unwrap();
    store.record(&[result(0, 5000)]).unwrap();
    let state = folder.path().to_str().unwrap();
    let list = |filter: &str| {
        hullwatch(&[
            "findings",
            "list",
            "--state-dir",
            state,
            "--format",
            "json",
            "--filter",
            filter,
        ])
    };
    for (filter, first, count) in [("", "f0", 2100), ("category=\"Category 1\"", "f2099", 1050)] {
        let listed: Value = serde_json::from_slice(&list(filter).stdout).unwrap();
        let results = listed["listFindingsResults"].as_array().unwrap();
        let time = |result: &Value| {
            let time = result["finding"]["eventTime"].as_str().unwrap();
            model::Timestamp::parse(time).unwrap()
        };
        assert_eq!(results.len(), count, "{filter}");
        let name = results[0]["finding"]["name"].as_str().unwrap();
        assert!(name.ends_with(&format!("/{first}")), "{filter}: {name}");
        assert!(results.is_sorted_by_key(|result| std::cmp::Reverse(time(result))));
    }
    let table = |limit: &[&str]| {
        let output = hullwatch(&[&["findings", "list", "--state-dir", state], limit].concat());
        let out = String::from_utf8(output.stdout.clone()).unwrap();
        (out.lines().count(), stderr(&output))
    };
    let more = |count: u64| format!("... and {count} more, --limit 0 shows all\n");
    assert_eq!(table(&[]), (201, more(1900)));
    assert_eq!(table(&["--limit", "3"]), (4, more(2097)));
    assert_eq!(table(&["--limit", "0"]), (2101, String::new()));
    let wrong = list("colour=1");
    assert!(!wrong.status.success());
    assert!(
        stderr(&wrong).contains("colour=1\n  ^"),
        "{}",
        stderr(&wrong)
    );
}

#[test]
fn the_audit_log_is_listed_for_people_and_for_programs() {
    let state = tempfile::tempdir().unwrap();
    let state = ["--state-dir", state.path().to_str().unwrap()];
    let run = |args: &[&str]| {
        let output = hullwatch(&[args, &state].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["token", "create", "--role", "viewer", "--name", "ada"]);
    run(&["token", "revoke", "ada"]);
    let log: Value = serde_json::from_str(&run(&["audit", "--format", "json"])).unwrap();
    let actions: Vec<_> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap(), &entry["target"]))
        .collect();
    let ada = Value::from("ada");
    assert_eq!(actions, [("revoke token", &ada), ("create token", &ada)]);
    assert_eq!(log["entries"][1]["detail"]["role"], "viewer");
    let table = run(&["audit"]);
    assert!(table.lines().nth(1).unwrap().contains("revoke token"));
}

#[test]
fn lists_of_indicators_are_taken_in_and_looked_up() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().to_str().unwrap();
    let (first, second) = ("ab".repeat(32), "cd".repeat(32));
    let list = directory.path().join("feed.txt");
    std::fs::write(
        &list,
        format!("# a comment\n{first};miner, seen in May\nnot a hash\n{second},family\n"),
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let output = hullwatch(&[arguments, &["--state-dir", state_dir]].concat());
        let out = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code(), out, stderr(&output))
    };
    let (code, _, complaint) = run(&["intel", "import", list.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(complaint.contains("feed.txt:3:"), "{complaint}");
    let (_, lists, _) = run(&["intel", "list"]);
    let row = lists.lines().find(|line| line.starts_with("feed "));
    assert_eq!(
        row.and_then(|row| row.split_ascii_whitespace().nth(1)),
        Some("2"),
        "{lists}"
    );
    for (sha256, code, answer) in [
        (first, Some(0), "miner, seen in May"),
        (second.to_uppercase(), Some(0), "family"),
        ("ef".repeat(32), Some(1), "not known"),
    ] {
        let (exit, out, complaint) = run(&["intel", "lookup", &sha256]);
        assert_eq!(
            (exit, out.contains(answer)),
            (code, true),
            "{out}{complaint}"
        );
    }
    let (code, _, complaint) = run(&["intel", "import", "/does/not/exist"]);
    assert_eq!(code, Some(3));
    assert!(complaint.contains("/does/not/exist"), "{complaint}");
}

#[test]
fn a_list_is_not_replaced_unseen_or_by_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("feed.txt");
    let import = |text: &str| {
        std::fs::write(&list, text).unwrap();
        let state_dir = directory.path().to_str().unwrap();
        let list = list.to_str().unwrap();
        let output = hullwatch(&["intel", "import", list, "--state-dir", state_dir]);
        let out = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code(), out, stderr(&output))
    };
    let hash = |byte: &str| byte.repeat(32) + "\n";
    let (_, out, _) = import(&(hash("ab") + &hash("cd")));
    assert_eq!(out, "imported 2 indicators as feed\n");
    let (_, out, _) = import(&hash("ab"));
    assert_eq!(
        out,
        "imported 1 indicators as feed, replaces 2 indicators of feed.txt\n"
    );
    let (code, _, complaint) = import(&"ab".repeat(16));
    assert_eq!(code, Some(3));
    assert!(complaint.contains("32 hex digits"), "{complaint}");
    let state = directory.path().join("other");
    let arguments = ["run", "--no-listen", "--intel", list.to_str().unwrap()];
    let state_dir = ["--state-dir", state.to_str().unwrap()];
    let output = hullwatch(&[&arguments[..], &state_dir].concat());
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("32 hex digits"), "{output:?}");
}

#[test]
fn the_state_directory_is_its_owners_whatever_makes_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("feed.txt");
    std::fs::write(&list, "ab".repeat(32)).unwrap();
    let import = ["intel", "import", list.to_str().unwrap()];
    let token = ["token", "create", "--role", "viewer", "--name", "ada"];
    for (name, command) in [("import", &import[..]), ("token", &token)] {
        let state = directory.path().join(name);
        let state_dir = ["--state-dir", state.to_str().unwrap()];
        let output = hullwatch(&[command, &state_dir].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let mode = std::fs::metadata(&state).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[test]
fn who_does_not_see_the_hosts_pids_does_not_watch() {
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().to_str().unwrap();
    let output = testkit::command::output(
        Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", HULLWATCH, "run"])
            .args(["--no-listen", "--state-dir", state_dir]),
    );
    assert_eq!(output.status.code(), Some(3));
    let said = stderr(&output);
    assert!(
        said.contains("--pid=host") && !said.contains("watching"),
        "{said}"
    );
}

#[test]
fn each_detector_has_its_page() {
    let output = hullwatch(&["detectors", "--format", "json"]);
    let index: Value = serde_json::from_slice(&output.stdout).unwrap();
    let index = index["detectors"].as_array().unwrap();
    assert_eq!(index.len(), detect::CATALOGUE.len());
    for detector in index {
        let output = hullwatch(&["detectors", detector["id"].as_str().unwrap()]);
        let page = String::from_utf8(output.stdout).unwrap();
        for field in ["category", "moduleName", "severity"] {
            let value = detector[field].as_str().unwrap();
            assert!(page.contains(value), "{value}: {page}");
        }
    }
    let output = hullwatch(&["detectors", "no_such_detector"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("no_such_detector"));
}
