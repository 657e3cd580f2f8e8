//! Bytes of files: whole, current, and known again.

use std::{
    fs::{self, File},
    io::Write,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, MetadataExt},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use enrich::{
    Interpreter,
    hash::{Block, Cache, Progress, Reading, read_whole},
};
use model::{
    enriched::{Content, FileKind},
    limits::CONTENTS_BYTES_MAX,
    provenance::{MissingReason, Provenance, UnknownReason},
};

use crate::{
    matrix::digest,
    overlay::{Container, Pipeline, facts, key},
};

fn read(path: &std::path::Path, cache: &Cache) -> Arc<enrich::hash::Content> {
    let fd: OwnedFd = File::open(path).unwrap().into();
    read_whole(fd, cache, &mut Block::default()).unwrap()
}

#[test]
fn all_bytes_count_whatever_the_size_and_the_steps() {
    let directory = tempfile::tempdir().unwrap();
    for size in [
        0_usize,
        1,
        4095,
        128 * 1024,
        128 * 1024 + 1,
        3 * 1024 * 1024 + 7,
    ] {
        let bytes: Vec<u8> = (0..size)
            .map(|at| u8::try_from(at * 7 % 251).unwrap())
            .collect();
        let path = directory.path().join(size.to_string());
        fs::write(&path, &bytes).unwrap();
        let mut reading = Reading::new(File::open(&path).unwrap().into()).unwrap();
        let mut block = Block::default();
        let content = loop {
            if let Progress::Done(content) = reading.advance(100_000, &mut block) {
                break content.unwrap();
            }
        };
        assert_eq!(
            (content.sha256, content.size),
            (digest(&bytes), size as u64)
        );
    }
}

#[test]
fn a_patch_that_keeps_size_and_times_is_read_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "innocent").unwrap();
    let cache = Cache::default();
    assert_eq!(read(&path, &cache).sha256, digest(b"innocent"));
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    // At once: also when the clock of the filesystem has not ticked since.
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"malicious"[..8].as_ref(), 0).unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(read(&path, &cache).sha256, digest(b"maliciou"));
}

#[test]
fn touching_a_file_all_the_time_does_not_keep_it_from_being_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let bytes = vec![7; 1024 * 1024];
    fs::write(&path, &bytes).unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let toucher = std::thread::spawn({
        let (path, is_done) = (path.clone(), Arc::clone(&is_done));
        move || {
            let file = File::options().write(true).open(path).unwrap();
            while !is_done.load(Ordering::Relaxed) {
                file.set_modified(std::time::SystemTime::now()).unwrap();
            }
        }
    });
    let cache = Cache::default();
    for _ in 0..20 {
        assert_eq!(read(&path, &cache).sha256, digest(&bytes));
    }
    is_done.store(true, Ordering::Relaxed);
    toucher.join().unwrap();
}

#[test]
fn only_regular_files_are_read() {
    for path in ["/dev/zero", "/tmp"] {
        assert!(Reading::new(File::open(path).unwrap().into()).is_err());
    }
}

#[test]
fn programs_are_known_by_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::default();
    // Under a name that says nothing.
    let copy_of = |path: &str| {
        let copy = directory.path().join("x");
        let mut file = File::create(&copy).unwrap();
        file.write_all(&fs::read(path).unwrap()).unwrap();
        file.write_all(b"padding").unwrap();
        let content = read(&copy, &cache);
        (content.kind, content.interpreter)
    };
    assert_eq!(copy_of("/usr/bin/openssl").0, FileKind::OpensslProgram);
    for (path, interpreter) in [
        ("/bin/dash", Interpreter::Shell),
        ("/bin/bash", Interpreter::Shell),
        ("/bin/busybox", Interpreter::Busybox),
        ("/usr/bin/perl", Interpreter::Perl),
    ] {
        assert_eq!(
            copy_of(path),
            (FileKind::Interpreter, Some(interpreter)),
            "{path}"
        );
    }
    for path in [
        "/bin/true",
        "/usr/bin/env",
        "/bin/tar",
        "/usr/bin/find",
        "/usr/bin/openssl",
    ] {
        assert_eq!(copy_of(path).1, None, "{path}");
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = |name: &str| {
        let mut paths = maps.split_whitespace().filter(|word| word.starts_with('/'));
        paths.find(|path| path.contains(name)).unwrap().to_owned()
    };
    assert_eq!(copy_of(&mapped("/ld-")).0, FileKind::DynamicLoader);
    assert_eq!(copy_of(&mapped("/libc.so")).0, FileKind::SharedObject);
}

/// Writes other bytes of the same number into a file of the container and puts its mtime back.
fn overwrite(container: &Container, path: &str, bytes: &[u8]) {
    let path = format!("/proc/{}/root{path}", container.pid());
    let before = fs::metadata(&path).unwrap();
    testkit::command::wait_for("the filesystem's clock to tick", || {
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        let after = file.metadata().unwrap();
        assert_eq!(after.len(), before.len());
        let ctime = |of: &fs::Metadata| (of.ctime(), of.ctime_nsec());
        (ctime(&after) != ctime(&before)).then_some(())
    });
}

#[test]
fn bytes_that_were_put_in_place_of_those_that_ran_do_not_count() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let changed = Content::Missing {
        reason: MissingReason::ChangedSince,
    };

    // A program of the image is patched, runs, and is put right again.
    container.sh("printf 'a patched progra' > /usr/bin/tool; printf m >> /usr/bin/tool");
    let fd = container.open("/usr/bin/tool");
    let seen = facts(&fd, "/usr/bin/tool");
    overwrite(&container, "/usr/bin/tool", b"the first program");
    let tool = pipeline.exec(&container, seen, Some(fd));
    assert_eq!(tool.content, changed);
    assert_eq!(
        tool.provenance,
        Provenance::Unknown(UnknownReason::NoContent)
    );
    // The same file as it is now has been read meanwhile. It is another one.
    let fd = container.open("/usr/bin/tool");
    let tool = pipeline.exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
    assert_eq!(tool.provenance, Provenance::BuiltIn);

    // Of one that is too large to be read at once, likewise.
    container.sh("printf large > /opt/large");
    let large = format!("/proc/{}/root/opt/large", container.pid());
    let large = File::options().write(true).open(large).unwrap();
    large.set_len(4 * 1024 * 1024).unwrap();
    let fd = container.open("/opt/large");
    let seen = facts(&fd, "/opt/large");
    overwrite(&container, "/opt/large", b"innocent");
    let large = pipeline.exec(&container, seen.clone(), Some(fd));
    assert_eq!(
        (&large.content, large.provenance),
        (&changed, Provenance::Added)
    );
    // When what it was known by then is asked for again, that is no different.
    let fd = container.open("/opt/large");
    let large = pipeline.exec(&container, seen, Some(fd));
    assert_eq!(large.content, changed);

    // What indicators know is reported all the same.
    container.sh("printf 'unknown' > /opt/known");
    let fd = container.open("/opt/known");
    let seen = facts(&fd, "/opt/known");
    overwrite(&container, "/opt/known", b"malware");
    pipeline.known.0.lock().unwrap().push(digest(b"malware"));
    let known = pipeline.exec(&container, seen, Some(fd));
    assert_eq!(known.sha256(), Some(digest(b"malware")));

    // A change of the image's own file, be it of its mode alone, copies it: what ran is there still.
    let fd = container.open("/usr/bin/other");
    let seen = facts(&fd, "/usr/bin/other");
    container.sh("chmod 700 /usr/bin/other");
    let fd = container.open("/usr/bin/other");
    let other = pipeline.exec(&container, seen.clone(), Some(fd));
    assert_eq!(other.sha256(), Some(digest(b"the second program")));
    assert_eq!(other.provenance, Provenance::BuiltIn);
    // The same when it was overwritten before anybody could open what ran.
    container.sh("printf 'of another length' > /usr/bin/other");
    let other = pipeline.exec(&container, seen, None);
    assert_eq!(other.sha256(), Some(digest(b"the second program")));
    assert_eq!(other.provenance, Provenance::BuiltIn);
    // Of a copy that ran, the image says nothing.
    let fd = container.open("/usr/bin/other");
    let seen = facts(&fd, "/usr/bin/other");
    container.sh("chmod 755 /usr/bin/other");
    let other = pipeline.exec(&container, seen, Some(fd));
    assert_eq!(other.content, changed);

    // Taking its name away changes no bytes.
    container.sh("printf 'vanishing' > /opt/gone");
    let fd = container.open("/opt/gone");
    let seen = facts(&fd, "/opt/gone");
    container.sh("rm /opt/gone");
    let gone = pipeline.exec(&container, seen, Some(fd));
    assert_eq!(gone.sha256(), Some(digest(b"vanishing")));
}

#[test]
fn any_number_of_scripts_leaves_the_digests_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::default();
    let read_script = |number: u64| {
        let path = directory.path().join("script");
        fs::write(&path, "#!").unwrap();
        // Another file each time, as its size tells.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(8192 + number).unwrap();
        read(&path, &cache);
        key(&File::open(&path).unwrap().into())
    };
    let first = read_script(0);
    let contents = |key| cache.get_unsettled(key).unwrap().contents.clone();
    assert_eq!(contents(&first).unwrap().len(), CONTENTS_BYTES_MAX);
    let last = (1..5000).map(read_script).last().unwrap();
    assert!(contents(&last).is_some());
    assert_eq!(contents(&first), None, "its digest alone is kept");
}
