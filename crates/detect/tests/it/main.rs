//! The detectors from outside: recordings in, findings out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod catalogue;
mod docs;
mod finding;
mod replay;
mod samples;
mod scenario;

use std::{fs, path::Path};

/// Compares with a committed file. `UPDATE_EXPECT=1` writes it instead; read the diff then.
fn expect_file(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; run with UPDATE_EXPECT=1", path.display()));
    assert!(
        expected == actual,
        "{} is out of date; run with UPDATE_EXPECT=1 and read the diff\n--- expected\n{expected}\n--- actual\n{actual}",
        path.display()
    );
}
