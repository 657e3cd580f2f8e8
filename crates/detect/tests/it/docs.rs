//! The pages under `docs/` are those that the declarations make.

use std::{fs, path::PathBuf};

use detect::{CATALOGUE, docs};

use crate::expect_file;

fn docs_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/detectors")
}

#[test]
fn the_committed_pages_are_those_of_the_declarations() {
    let directory = docs_directory();
    expect_file(&directory.join("README.md"), &docs::index());
    for spec in CATALOGUE {
        expect_file(
            &directory.join(format!("{}.md", spec.id)),
            &docs::page(spec),
        );
    }
}

#[test]
fn no_page_is_left_of_a_detector_that_is_gone() {
    for entry in fs::read_dir(docs_directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(
            name == "README" || detect::find(&name).is_some(),
            "{}",
            path.display()
        );
    }
}
