//! A writer that is killed at any moment loses nothing that it announced, and leaves nothing half-written.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use store::{GroupQuery, OCCURRENCES, Query, Store};

use crate::support::{at, finding, list, name};

/// Set for the process that writes until it is killed.
const FOLDER: &str = "STORE_CRASH_FOLDER";
const ROUNDS: u64 = 12;

#[test]
fn what_was_announced_survives_a_kill() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        write_forever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    let mut announced: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let lines_wanted = 1 + (u64::from(seed) / 7 + round * 31) % 40;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "crash::what_was_announced_survives_a_kill",
                "--exact",
                "--nocapture",
            ])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut read = 0;
        let mut note = |line: String| {
            // The test harness prints lines of its own.
            let Some((name, count)) = line
                .strip_prefix("announced ")
                .and_then(|line| line.split_once(' '))
            else {
                return false;
            };
            announced.insert(name.to_owned(), count.parse().unwrap());
            true
        };
        while read < lines_wanted {
            read += u64::from(note(lines.next().expect("the writer runs on").unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts; a line cut short does not.
        for line in lines.map_while(Result::ok) {
            note(line);
        }
        check(folder.path(), &announced, seed, round);
    }
}

/// New findings and repeats of old ones in batches, each announced once it is stored.
fn write_forever(folder: &Path) -> ! {
    let store = Store::open(folder).unwrap();
    let start = list(&store, "").total_size;
    let mut out = std::io::stdout();
    for step in start.. {
        let batch: Vec<_> = [step, step / 2, step / 3]
            .map(|number| {
                let mut result = finding(number);
                result.finding.event_time = Some(at(step));
                result
            })
            .into();
        for recorded in store.record(&batch).unwrap() {
            let stored = store.get(&recorded.name).unwrap();
            let count = &stored.finding.source_properties[OCCURRENCES];
            out.write_all(format!("announced {} {count}\n", recorded.name).as_bytes())
                .unwrap();
            out.flush().unwrap();
        }
    }
    unreachable!()
}

fn check(folder: &Path, announced: &BTreeMap<String, u64>, seed: u32, round: u64) {
    let store = Store::open(folder).unwrap();
    for (name, count) in announced {
        let stored = store
            .get(name)
            .unwrap_or_else(|error| panic!("seed {seed} round {round}: {error}"));
        let found = stored.finding.source_properties[OCCURRENCES]
            .as_u64()
            .unwrap();
        assert!(
            found >= *count,
            "seed {seed} round {round}: {name} {found} < {count}"
        );
    }
    // Counts, index and documents agree.
    let all = list(&store, "").total_size;
    let by_index = list(&store, "processes.args=\"--quiet\"").total_size;
    let groups = store
        .group(&GroupQuery {
            group_by: "category".to_owned(),
            ..GroupQuery::default()
        })
        .unwrap();
    assert_eq!(all, by_index);
    assert_eq!(
        all,
        groups.results.iter().map(|group| group.count).sum::<u64>()
    );
    let file = rusqlite::Connection::open(folder.join("hullwatch.db")).unwrap();
    // So do the rows that everything else is made from.
    for sql in [
        "SELECT count(*) FROM finding",
        "SELECT count(*) FROM document",
        "SELECT count(*) FROM finding f JOIN document d ON d.finding_id = f.id",
    ] {
        let rows: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(rows.unsigned_abs(), all, "seed {seed} round {round}: {sql}");
    }
    let state: String = file
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(state, "ok", "seed {seed} round {round}");
}

#[test]
fn two_readers_beside_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Store::open(folder.path()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let reader = Store::open_read_only(folder.path()).unwrap();
                    let mut seen = 0;
                    let mut reads = 0;
                    while !done.load(Ordering::Relaxed) || reads == 0 {
                        let page = reader
                            .list(&Query {
                                page_size: 50,
                                ..Query::default()
                            })
                            .unwrap();
                        assert!(page.total_size >= seen, "a finding vanished");
                        seen = page.total_size;
                        // A snapshot: the page and the total are of one moment.
                        assert_eq!(page.results.len() as u64, seen.min(50));
                        let newest = page
                            .results
                            .first()
                            .map(|result| result.finding.name.clone());
                        assert_eq!(newest, seen.checked_sub(1).map(name));
                        reads += 1;
                    }
                    seen
                })
            })
            .collect();
        for number in 0..300 {
            writer.record(&[finding(number)]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() <= 300);
        }
    });
}
