//! The database from outside: real files in a state directory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use intel::{Database, Error};
use model::provenance::Sha256;
use tempfile::TempDir;

fn hash(number: u32) -> Sha256 {
    let mut bytes = [0; 32];
    // Spread as a digest would be, and still easy to make again.
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    Sha256(bytes)
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// List and family of each match.
fn known(database: &Database, number: u32) -> Vec<(String, Option<String>)> {
    database
        .lookup(&hash(number))
        .into_iter()
        .map(|matched| {
            assert_eq!(matched.entry, hash(number).to_string());
            (matched.list, matched.family)
        })
        .collect()
}

fn named(list: &str, family: Option<&str>) -> (String, Option<String>) {
    (list.to_owned(), family.map(str::to_owned))
}

fn compiled_file(state: &TempDir) -> PathBuf {
    state.path().join("intel/indicators")
}

#[test]
fn an_empty_state_directory_knows_what_is_built_in() {
    let state = TempDir::new().unwrap();
    let database = Database::open(state.path())
        .unwrap()
        .builtin([(hash(2), "B".to_owned()), (hash(1), "A".to_owned())]);
    assert_eq!(
        known(&database, 1),
        [named("hullwatch-built-in", Some("A"))]
    );
    assert_eq!(known(&database, 3), []);
    assert_eq!(database.lists()[0].entries, 2);
    assert_eq!(
        fs::read_dir(state.path()).unwrap().count(),
        0,
        "opening writes nothing"
    );
}

#[test]
fn imported_lists_are_there_for_the_next_who_opens() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let bad = format!("# bad\n{},Worm\r\n{}\n", hash(1), hash(2));
    let worse = format!("{};Root kit\n{}\n", hash(2), hash(3));
    let lists = [
        write(files.path(), "bad.txt", &bad),
        write(files.path(), "worse.csv", &worse.to_uppercase()),
    ];
    let imported = Database::open(state.path())
        .unwrap()
        .import(&lists)
        .unwrap();
    assert_eq!(imported.problems, []);
    assert_eq!(imported.lists.len(), 2);

    let database = Database::open(state.path()).unwrap();
    assert_eq!(known(&database, 1), [named("bad", Some("Worm"))]);
    assert_eq!(
        known(&database, 2),
        [named("bad", None), named("worse", Some("ROOT KIT"))]
    );
    assert_eq!(known(&database, 4), []);
    let lists = database.lists();
    assert_eq!(
        lists[1..]
            .iter()
            .map(|list| (&*list.name, &*list.source, list.entries))
            .collect::<Vec<_>>(),
        [("bad", "bad.txt", 2), ("worse", "worse.csv", 2)]
    );
    let dates = database.lookup(&hash(1));
    assert_eq!(dates[0].date, lists[1].imported);
    assert!(dates[0].date.is_some());
}

#[test]
fn importing_again_replaces_that_list_and_keeps_the_others() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let database = Database::open(state.path()).unwrap();
    let import = |name: &str, text: String| {
        database
            .import(&[write(files.path(), name, &text)])
            .unwrap()
            .lists
    };
    import("one.txt", format!("{},Old\n{}\n", hash(1), hash(2)));
    import("two.txt", format!("{},Kept\n", hash(2)));
    let lists = import("one.txt", format!("{},New\n{}\n", hash(1), hash(1)));
    assert_eq!(lists.len(), 1, "only what was imported now is reported");
    assert_eq!(lists[0].entries, 1, "a hash listed twice counts once");
    assert_eq!(known(&database, 1), [named("one", Some("New"))]);
    assert_eq!(known(&database, 2), [named("two", Some("Kept"))]);
}

#[test]
fn a_broken_line_is_reported_and_the_rest_is_loaded() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let text = format!("{}\nnot a hash\n{}\n", hash(1), hash(2));
    let path = write(files.path(), "list.txt", &text);
    let database = Database::open(state.path()).unwrap();
    let imported = database.import(std::slice::from_ref(&path)).unwrap();
    assert_eq!(imported.lists[0].entries, 2);
    let problems: Vec<String> = imported.problems.iter().map(|p| p.to_string()).collect();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with(&format!("{}:2: ", path.display())),
        "{problems:?}"
    );
}

#[test]
fn a_flood_of_broken_lines_is_counted_not_kept() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let text = format!("{}{}\n", "junk\n".repeat(10_000), hash(1));
    let path = write(files.path(), "list.txt", &text);
    let imported = Database::open(state.path())
        .unwrap()
        .import(&[path])
        .unwrap();
    assert!(imported.problems.len() < 1000);
    assert_eq!(
        imported.problems.len() as u64 + imported.problems_more,
        10_000
    );
}

#[test]
fn a_file_without_a_hash_does_not_replace_a_list() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let database = Database::open(state.path()).unwrap();
    let import = |text: &str| database.import(&[write(files.path(), "feed.txt", text)]);
    import(&format!("{}\n{}\n", hash(1), hash(2))).unwrap();
    let md5 = format!("# MD5\n{}\n", "ab".repeat(16));
    for (text, reason) in [(md5.as_str(), " (line 2: 32 hex digits"), ("", ": nothing")] {
        let error = import(text).unwrap_err().to_string();
        assert!(
            error.contains("feed.txt") && error.contains(reason),
            "{error}"
        );
        assert_eq!(known(&database, 1), [named("feed", None)]);
    }
    let imported = import(&format!("{}\n", hash(3))).unwrap();
    let replaced = &imported.replaced;
    assert_eq!((replaced.len(), replaced[0].entries), (1, 2));
    assert_eq!(known(&database, 1), []);
}

#[test]
fn a_list_that_cannot_be_read_changes_nothing() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let database = Database::open(state.path()).unwrap();
    let good = write(files.path(), "good.txt", &format!("{}\n", hash(1)));
    database.import(&[good]).unwrap();
    let other = write(files.path(), "other.txt", &format!("{}\n", hash(2)));
    let missing = files.path().join("missing.txt");
    let error = database.import(&[other, missing.clone()]).unwrap_err();
    assert!(matches!(error, Error::List { path, .. } if path == missing));
    assert_eq!(known(&database, 1), [named("good", None)]);
    assert_eq!(known(&database, 2), []);
}

#[test]
fn an_import_by_another_process_is_taken_over() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let running = Database::open(state.path()).unwrap();
    assert!(!running.reload_if_changed().unwrap());
    for number in [1, 2] {
        let list = write(files.path(), "list.txt", &format!("{}\n", hash(number)));
        let other = Database::open(state.path()).unwrap();
        other.import(&[list]).unwrap();
        assert_eq!(known(&running, number), [], "not before it is told to look");
        assert!(running.reload_if_changed().unwrap());
        assert_eq!(known(&running, number), [named("list", None)]);
        assert!(!running.reload_if_changed().unwrap());
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let list = write(files.path(), "list.txt", &format!("{},Worm\n", hash(1)));
    let running = Database::open(state.path()).unwrap();
    running.import(&[list]).unwrap();
    let path = compiled_file(&state);
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 100);

    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x41;
        damaged.push(bytes);
    }
    damaged.push([&whole[..], b"more"].concat());
    damaged.push(vec![0xff; 4096]);
    for bytes in damaged {
        // By rename, as a real writer does: the running database keeps its own, whole file.
        let beside = state.path().join("beside");
        fs::write(&beside, &bytes).unwrap();
        fs::rename(&beside, &path).unwrap();
        let error = Database::open(state.path()).unwrap_err();
        assert!(matches!(error, Error::Compiled { .. }));
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert!(running.reload_if_changed().is_err());
        assert_eq!(known(&running, 1), [named("list", Some("Worm"))]);
    }
}

#[test]
fn a_file_cut_off_under_a_running_database_is_counted() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let list = write(files.path(), "list.txt", &format!("{}\n", hash(1)));
    let running = Database::open(state.path()).unwrap();
    running.import(&[list]).unwrap();
    fs::write(compiled_file(&state), "").unwrap();
    assert_eq!(known(&running, 1), []);
    assert_eq!(running.read_failures(), 1);
}

#[test]
fn every_hash_of_a_large_list_is_found_and_no_other() {
    let state = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let mut text: String = (0..20_000)
        .step_by(2)
        .map(|number| format!("{},family-{}\n", hash(number), number % 7))
        .collect();
    // Many with the same first bytes, as a hostile feed might have.
    let crowded = |number: u32| {
        let mut sha256 = Sha256([7; 32]);
        sha256.0[28..].copy_from_slice(&number.to_be_bytes());
        sha256
    };
    (0..3000)
        .step_by(3)
        .for_each(|number| text.push_str(&format!("{}\n", crowded(number))));
    let list = write(files.path(), "large.txt", &text);
    let database = Database::open(state.path()).unwrap();
    database.import(&[list]).unwrap();
    for number in 0..20_000 {
        let family = format!("family-{}", number % 7);
        let expected = (number % 2 == 0).then(|| named("large", Some(&family)));
        assert_eq!(known(&database, number), Vec::from_iter(expected));
    }
    for number in 0..3000 {
        let found = database.lookup(&crowded(number)).len();
        assert_eq!(found, usize::from(number % 3 == 0), "{number}");
    }
}
