//! Programs that tests run in containers, built from `tests/stimuli`, and the hashes of what they do.

use std::{fs, path::Path, process::Command};

use model::hex;
use sha2::{Digest, Sha256};

/// Hex digits of a digest.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// The program of `tests/stimuli/NAME.c`, linked statically so that it runs in any image.
pub(crate) fn build(name: &str) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/stimuli/{name}.c"));
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(name);
    testkit::command::run(
        Command::new("cc")
            .args(["-static", "-O1", "-Wall", "-o"])
            .arg(&program)
            .arg(source),
    );
    fs::read(program).unwrap()
}
