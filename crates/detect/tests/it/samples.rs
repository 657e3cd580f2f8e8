//! Samples are what they say: a real kernel runs them and a real dynamic loader loads them.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use detect::samples::{self, Kind, Machine, Sample};
use tempfile::TempDir;

fn write(directory: &TempDir, sample: Sample) -> PathBuf {
    let path = directory.path().join(sample.name);
    fs::write(&path, sample.bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs a command that was just written. While another test forks, the file may still be open for writing there.
fn run(command: &mut Command) -> Output {
    loop {
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::yield_now();
            }
            result => return result.unwrap(),
        }
    }
}

fn of_kind(kind: Kind) -> impl Iterator<Item = Sample> {
    samples::ALL
        .iter()
        .copied()
        .filter(move |sample| sample.kind == kind)
}

#[test]
fn programs_run_and_succeed() {
    let directory = TempDir::new().unwrap();
    for sample in of_kind(Kind::Program).chain(of_kind(Kind::Script)) {
        let output = run(&mut Command::new(write(&directory, sample)));
        assert!(output.status.success(), "{sample:?}: {output:?}");
    }
}

#[test]
fn libraries_are_loaded_without_complaint() {
    let directory = TempDir::new().unwrap();
    for sample in of_kind(Kind::Library).chain(of_kind(Kind::SlowLibrary)) {
        let path = write(&directory, sample);
        let output = run(Command::new("/bin/sh")
            .args(["-c", "cat /proc/self/maps"])
            .env("LD_PRELOAD", &path));
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        let maps = String::from_utf8(output.stdout).unwrap();
        let is_code = |line: &str| line.contains("r-xp") && line.ends_with(path.to_str().unwrap());
        assert!(maps.lines().any(is_code), "{sample:?}: {maps}");
    }
}

#[test]
fn the_dynamic_loader_runs_a_library() {
    let directory = TempDir::new().unwrap();
    let loader = match Machine::CURRENT {
        Machine::X86_64 => "/lib64/ld-linux-x86-64.so.2",
        Machine::Aarch64 => "/lib/ld-linux-aarch64.so.1",
    };
    for sample in of_kind(Kind::Library) {
        let output = run(Command::new(loader).arg(write(&directory, sample)));
        assert!(output.status.success(), "{sample:?}: {output:?}");
    }
}

#[test]
fn the_mapper_maps_its_argument_as_code() {
    let directory = TempDir::new().unwrap();
    let mapper = write(&directory, samples::MAPPER);
    let library = write(&directory, samples::ADDED_LIBRARY);
    let mut child = loop {
        match Command::new(&mapper).arg(&library).spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            result => break result.unwrap(),
        }
    };
    let maps_path = format!("/proc/{}/maps", child.id());
    let mut was_mapped = false;
    // It waits for two seconds, then ends: the loop does too.
    while child.try_wait().unwrap().is_none() {
        let maps = fs::read_to_string(&maps_path).unwrap_or_default();
        was_mapped |= maps
            .lines()
            .any(|line| line.contains("r-xp") && line.ends_with(library.to_str().unwrap()));
        if was_mapped {
            break;
        }
    }
    assert!(was_mapped);
    assert!(child.wait().unwrap().success());
}

#[test]
fn every_sample_is_known_apart_from_the_others() {
    let mut hashes = BTreeSet::new();
    for sample in samples::ALL {
        assert!(hashes.insert(sample.sha256()), "{sample:?}");
    }
    let listed: BTreeSet<_> = samples::indicators().map(|(sha256, _)| sha256).collect();
    for sample in samples::ALL {
        assert_eq!(
            listed.contains(&sample.sha256()),
            sample.listed,
            "{sample:?}"
        );
    }
}

#[test]
fn eicar_is_the_published_string() {
    // The digest every scanner vendor publishes for the 68 bytes.
    assert_eq!(
        samples::EICAR.sha256().to_string(),
        "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
    );
    let source = include_bytes!("../../src/samples.rs");
    let string = samples::EICAR.bytes();
    assert!(!source.windows(string.len()).any(|window| window == string));
}
