//! The bytes of what runs, however short it lives.

use std::{collections::HashSet, sync::Arc};

use model::{
    Text,
    event::{FileFacts, Payload},
};
use sensor_ebpf::Config;

use crate::{
    container::Container,
    watch,
    watch::{Seen, Watch, exec, host_file, is_in, load},
    watch_by_perf,
};

/// The path of the program that `drop 1 DIRECTORY` runs.
fn probe_path(directory: &str) -> String {
    format!("{}/dropped-0", directory.trim_end_matches('/'))
}

/// Has the container's shell run one program in a directory. True when it was told with its bytes.
fn is_probe_read(watch: &Watch, container: &mut Container, directory: &str) -> bool {
    let (cgroup, path) = (container.cgroup(), Text::from(probe_path(directory)));
    let is_probe = |seen: &&Seen| {
        is_in(seen, &cgroup) && exec(seen).is_some_and(|exec| exec.file.path == path)
    };
    let before = watch.wait("earlier probes", |seen| {
        Some(seen.iter().filter(is_probe).count())
    });
    container.say(&format!("/stimulus/s drop 1 {directory}"));
    watch.wait("a probe", |seen| {
        let probe = seen.iter().filter(is_probe).nth(before)?;
        Some(probe.file.is_some())
    })
}

/// Runs programs in a directory until it is watched. The first ones may come before the mount has its mark, and that is not
/// what a test is about that counts what is read.
pub(crate) fn wait_until_watched(watch: &Watch, container: &mut Container, directory: &str) {
    const PROBES_MAX: usize = 100;
    let is_watched = (0..PROBES_MAX).any(|_| is_probe_read(watch, container, directory));
    assert!(is_watched, "{directory} is not watched");
}

/// Programs that are written, run and deleted: each is told by the number behind its bytes.
fn dropped_in(test: &str, directory: &str) {
    const COUNT: usize = 2000;
    let watch = watch();
    let mut container = Container::new(test);
    container.start(&["/bin/sh", "-e"]);
    wait_until_watched(watch, &mut container, directory);
    let all = format!("{}/all", directory.trim_end_matches('/'));
    container.say(&format!("mkdir {all}; /stimulus/s drop {COUNT} {all}"));
    container.end();
    let seen = watch.wait_end(&container.cgroup());
    let mut numbers = HashSet::new();
    let mut execs = 0;
    for seen in &seen {
        let Some(exec) = exec(seen) else { continue };
        let path = exec.file.path.as_str().unwrap();
        if !path.starts_with(&format!("{all}/")) {
            continue;
        }
        execs += 1;
        assert_eq!(exec.file.missing, None, "{:?}", exec.file);
        // New bytes each time: never to be mistaken for those of an earlier file with the same inode number.
        let bytes = seen
            .file
            .as_ref()
            .unwrap_or_else(|| panic!("{:?}", exec.file));
        let number = u32::from_ne_bytes(*bytes.last_chunk().unwrap());
        numbers.insert(number);
        assert_eq!(path, format!("{all}/dropped-{number}"));
    }
    assert_eq!((execs, numbers.len()), (COUNT, COUNT));
}

#[test]
fn dropped_on_the_overlay() {
    dropped_in("overlay", "/");
}

#[test]
fn dropped_on_a_tmpfs() {
    dropped_in("tmpfs", "/tmp");
}

#[test]
fn dropped_on_a_bind_mount() {
    dropped_in("bind", "/volume");
}

#[test]
fn a_program_without_a_name_is_read() {
    let watch = watch();
    for (name, directory) in [("overlay", "/"), ("tmpfs", "/tmp"), ("bind", "/volume")] {
        let mut container = Container::new(&format!("unlinked-{name}"));
        container.start(&["/bin/sh", "-e"]);
        wait_until_watched(watch, &mut container, directory);
        container.say(&format!("/stimulus/s unlinked {directory}"));
        container.end();
        let seen = watch.wait_end(&container.cgroup());
        let gone = seen
            .iter()
            .find(|seen| exec(seen).is_some_and(|exec| exec.args == [Text::from("gone")]))
            .unwrap();
        let facts = &exec(gone).unwrap().file;
        assert_eq!(facts.link_count, 0);
        assert_eq!(facts.missing, None, "{facts:?}");
        assert_eq!(
            facts.path,
            Text::from(format!("{}/unlinked", directory.trim_end_matches('/')))
        );
        assert_eq!(
            gone.file.as_ref().unwrap().last_chunk(),
            Some(&7_i32.to_ne_bytes())
        );
    }
}

#[test]
fn a_memfd_is_told_by_its_filesystem_and_read() {
    let watch = watch();
    let mut container = Container::new("memfd-wait");
    container.start(&["/stimulus/s", "memfd-wait"]);
    let cgroup = container.cgroup();
    let (facts, bytes) = watch.wait("the memfd", |seen| {
        let is_it = |seen: &&Seen| {
            is_in(seen, &cgroup) && exec(seen).is_some_and(|exec| exec.file.is_memfd)
        };
        let seen = seen.iter().find(is_it)?;
        Some((exec(seen)?.file.clone(), seen.file.clone()))
    });
    container.end();
    assert_eq!(facts.path, Text::from("/memfd:innocent"));
    assert_eq!(facts.link_count, 0);
    assert_eq!(bytes.unwrap().last_chunk(), Some(&1_i32.to_ne_bytes()));
}

#[test]
fn every_memfd_that_ends_at_once_is_read() {
    const COUNT: usize = 2000;
    let watch = watch();
    let mut container = Container::new("memfds");
    container.run(&["/stimulus/s", "memfd", &COUNT.to_string()]);
    let seen = watch.wait_end(&container.cgroup());
    let memfds = seen
        .iter()
        .filter(|seen| exec(seen).is_some_and(|exec| exec.file.is_memfd));
    let numbers: HashSet<[u8; 4]> = memfds
        .filter_map(|seen| seen.file.as_ref()?.last_chunk().copied())
        .collect();
    // Opened when their exec is read, four of five would be missed.
    assert_eq!(numbers.len(), COUNT);
}

#[test]
fn what_runs_on_a_mount_of_a_moment_ago_is_read() {
    const COUNT: usize = 300;
    let watch = watch();
    let mut container = Container::new("fresh");
    container.run(&["/stimulus/s", "fresh", &COUNT.to_string(), "/mnt"]);
    let seen = watch.wait_end(&container.cgroup());
    let is_fresh = |seen: &&Seen| exec(seen).is_some_and(|exec| exec.args == [Text::from("fresh")]);
    let numbers: HashSet<[u8; 4]> = seen
        .iter()
        .filter(is_fresh)
        .filter_map(|seen| seen.file.as_ref()?.last_chunk().copied())
        .collect();
    // Opened when their exec is read, nearly all would be missed.
    assert_eq!(numbers.len(), COUNT);
}

#[test]
fn a_program_is_read_however_it_is_executed() {
    const COUNT: usize = 300;
    let watch = watch();
    for way in ["thread", "chroot", "compat"] {
        let mut container = Container::new(&format!("exec-{way}"));
        container.start(&["/bin/sh", "-e"]);
        wait_until_watched(watch, &mut container, "/mnt");
        container.say(&format!("/stimulus/s exec {way} {COUNT} /mnt"));
        container.end();
        let seen = watch.wait_end(&container.cgroup());
        let executed: Vec<_> = seen
            .iter()
            .filter(|seen| exec(seen).is_some_and(|exec| exec.args == [Text::from("executed")]))
            .collect();
        let numbers: HashSet<[u8; 4]> = executed
            .iter()
            .filter_map(|seen| seen.file.as_ref()?.last_chunk().copied())
            .collect();
        assert_eq!((executed.len(), numbers.len()), (COUNT, COUNT), "{way}");
        let directory = if way == "chroot" { "" } else { "/mnt" };
        for (number, program) in executed.iter().enumerate() {
            let path = Text::from(format!("{directory}/program-{number}"));
            assert_eq!(exec(program).unwrap().file.path, path, "{way}");
            // The thread that executes takes the process's pid.
            let is_own = |payload: fn(&Payload) -> bool| {
                let own = |seen: &&Seen| seen.event.process == program.event.process;
                seen.iter()
                    .filter(own)
                    .any(|seen| payload(&seen.event.payload))
            };
            assert!(
                is_own(|payload| matches!(payload, Payload::Fork { .. })),
                "{way}"
            );
            assert!(is_own(|payload| *payload == Payload::Exit), "{way}");
        }
    }
}

#[test]
fn every_library_of_a_process_that_ends_at_once_is_read() {
    const COUNT: usize = 300;
    let watch = watch();
    for way in [
        "file", "unlinked", "chroot", "fresh", "memfd", "mprotect", "part", "implied", "late",
        "fixed", "joined", "many", "compat", "old", "segment",
    ] {
        let mut container = Container::new(&format!("library-{way}"));
        container.run(&["/stimulus/s", "library", way, &COUNT.to_string(), "/mnt"]);
        let seen = watch.wait_end(&container.cgroup());
        // On cgroup v2 runc, too, has loaded some in the container's control group.
        let executed: HashSet<_> = seen
            .iter()
            .filter(|seen| exec(seen).is_some())
            .map(|seen| seen.event.process)
            .collect();
        let loads: Vec<_> = seen
            .iter()
            .filter(|seen| load(seen).is_some() && !executed.contains(&seen.event.process))
            .collect();
        // Its second page before the first one.
        let each = if way == "joined" { 2 } else { 1 };
        assert_eq!(loads.len(), each * COUNT, "{way}");
        if way == "segment" {
            // Of no file: nothing leads to its bytes once its process has ended.
            let is_memfd = |seen: &&Seen| load(seen).unwrap().file.is_memfd;
            assert!(loads.iter().all(is_memfd));
            continue;
        }
        if !watch.has_load_probes() {
            let is_told =
                |seen: &&Seen| seen.file.is_some() || load(seen).unwrap().file.missing.is_some();
            assert!(loads.iter().all(is_told), "{way}");
            continue;
        }
        let numbers: HashSet<[u8; 4]> = loads
            .iter()
            .filter_map(|seen| seen.file.as_ref()?.last_chunk().copied())
            .collect();
        assert_eq!(numbers.len(), COUNT, "{way}");
        let path = match way {
            "memfd" | "joined" => Text::from("/memfd:innocent"),
            "chroot" => Text::from("/library-0"),
            _ => Text::from("/mnt/library-0"),
        };
        let facts = &load(loads[0]).unwrap().file;
        assert_eq!((&facts.path, facts.missing), (&path, None), "{way}");
        assert_eq!(facts.is_memfd, matches!(way, "memfd" | "joined"));
    }
}

/// Each record of one container leaves less room for those of others.
#[test]
fn what_one_call_makes_executable_is_told_up_to_a_limit_and_counted_above() {
    const COUNT: usize = 700;
    const LIMIT: usize = 512;
    /// The rest of a leaf of the kernel's tree.
    const LEAF: usize = 16;
    let mut watch = Watch::start(Config::default());
    if !watch.has_load_probes() {
        return;
    }
    let mut container = Container::new("crowd");
    let library = "/lib/x86_64-linux-gnu/libz.so.1";
    container.run(&["/stimulus/s", "crowd", &COUNT.to_string(), library]);
    let seen = watch.wait_end(&container.cgroup());
    let path = std::fs::canonicalize(library).unwrap();
    let is_it = |seen: &&Seen| {
        load(seen).is_some_and(|load| load.file.path == path.to_str().unwrap().into())
    };
    let told = seen.iter().filter(is_it).count();
    let limit = COUNT + LIMIT..=COUNT + LIMIT + LEAF;
    assert!(limit.contains(&told), "{told}");
    let counters = watch.sensors.take().unwrap().stop().unwrap();
    assert_eq!(counters.mapping_losses, 1);
}

#[test]
fn a_library_of_the_image_is_read_again_after_a_change() {
    let watch = watch();
    let library = std::fs::canonicalize("/lib/x86_64-linux-gnu/libz.so.1").unwrap();
    let library = library.to_str().unwrap();
    let mut container = Container::new("patched");
    let cgroup = container.cgroup();
    container.start(&["/bin/sh", "-e"]);
    let loaded = |seen: &[Seen]| -> Vec<FileFacts> {
        let loads = seen
            .iter()
            .filter(|seen| is_in(seen, &cgroup))
            .filter_map(load);
        let files = loads.map(|load| &load.file);
        let is_it = |file: &&FileFacts| file.path == Text::from(library);
        files.filter(is_it).cloned().collect()
    };
    container.say(&format!("/stimulus/s map {library}"));
    watch.wait("the library", |seen| {
        (!loaded(seen).is_empty()).then_some(())
    });
    // By then its inode number may be told in two ways, since it was copied up.
    container.say(&format!("/stimulus/s patched {library}"));
    container.end();
    let facts = loaded(&watch.wait_end(&cgroup));
    let contents: Vec<_> = facts.iter().map(|file| watch.content(file)).collect();
    let shipped = host_file(library);
    let mut patched = shipped.to_vec();
    let end = patched.len() - 4;
    patched[end..].copy_from_slice(&7_i32.to_ne_bytes());
    let is_patched_read = contents[1..] == [Some(Arc::from(patched))];
    let is_told = !watch.has_load_probes() && facts[1].missing.is_some();
    assert!(
        contents[0] == Some(shipped) && (is_patched_read || is_told),
        "{facts:?}"
    );
}

#[test]
fn what_is_changed_through_a_mapping_is_read_each_time() {
    changed_through_a_mapping(Container::on_disk("changing"), "program");
}

/// The kernel has let go of it by the time that the exec is told of.
#[test]
fn a_script_that_is_changed_through_a_mapping_is_read_each_time() {
    changed_through_a_mapping(Container::on_disk("changing-script"), "script");
}

/// There the times of a file never tell of that, and those of the overlay are no better.
#[test]
fn what_is_changed_through_a_mapping_is_read_each_time_with_a_layer_in_memory() {
    changed_through_a_mapping(Container::new("changing-tmpfs"), "program");
}

fn changed_through_a_mapping(mut container: Container, what: &str) {
    let watch = watch();
    let (cgroup, path) = (container.cgroup(), Text::from("/changing"));
    container.start(&["/stimulus/s", "changing", what, "/"]);
    let letters = if what == "program" && watch.has_load_probes() {
        "pplplp"
    } else {
        "ppp"
    };
    for (letter, number) in letters.chars().zip(1_i32..) {
        container.say(&letter.to_string());
        // The next change comes when this one has been read.
        let facts = watch.wait("the file", |seen| {
            let own = seen.iter().filter(|seen| is_in(seen, &cgroup));
            let mut files = own.filter_map(|seen| {
                let script = exec(seen).and_then(|exec| exec.scripts.first());
                let bytes = seen.scripts.first().unwrap_or(&seen.file);
                let facts = script
                    .or(exec(seen).map(|exec| &exec.file))
                    .or(load(seen).map(|load| &load.file))?;
                (facts.path == path).then(|| (facts.clone(), bytes.clone()))
            });
            files.nth(number as usize - 1)
        });
        let (facts, bytes) = facts;
        let told = bytes.as_deref().and_then(<[u8]>::last_chunk).copied();
        assert_eq!(
            told.map(i32::from_ne_bytes),
            Some(number),
            "{letter}: {facts:?}"
        );
        assert!(facts.is_unsettled);
    }
    container.end();
}

/// Fanotify does not tell of it any more: neither of the change through a mapping, nor of the script's interpreter.
#[test]
fn a_program_that_runs_all_the_time_is_read_after_each_change() {
    const CHANGES: usize = 16;
    let watch = watch();
    let mut container = Container::on_disk("familiar");
    container.run(&["/stimulus/s", "familiar", &CHANGES.to_string(), "/"]);
    let seen = watch.wait_end(&container.cgroup());
    let number = |bytes: Option<&[u8]>| Some(i32::from_ne_bytes(*bytes?.last_chunk()?));
    let (mut runs, mut scripts) = (0_usize, Vec::new());
    for one in &seen {
        let Some(exec) = exec(one).filter(|exec| exec.file.path == Text::from("/familiar")) else {
            continue;
        };
        assert_eq!(exec.file.missing, None, "{exec:?}");
        let content = watch.content(&exec.file);
        if let [script] = &exec.scripts[..] {
            scripts.push(number(watch.content(script).as_deref()));
        } else {
            runs += 1;
            let expected = exec.args[0].as_str().unwrap().parse().unwrap();
            assert_eq!(
                number(content.as_deref()),
                Some(expected),
                "{:?}",
                exec.file
            );
        }
    }
    assert_eq!(scripts, (0..).map(Some).take(CHANGES).collect::<Vec<_>>());
    let counters = watch.sensors.as_ref().unwrap().counters();
    eprintln!(
        "{runs} runs, {} events of fanotify",
        counters.fanotify_events
    );
    // Those of a moment after each change are told.
    assert!(!watch.has_load_probes() || counters.fanotify_events < counters.execs / 2);
}

#[test]
fn the_loader_of_what_runs_all_the_time_is_read_after_each_change() {
    const CHANGES: usize = 4;
    const RUNS: usize = 1000;
    const LOADER: &[u8] = b"/lib64/ld-linux-x86-64.so.2";
    const OWN: &[u8] = b"/loader";
    let watch = watch();
    let mut container = Container::on_disk("loader");
    // What was changed in an overlay is told under another number than it has, and stays unfamiliar: a copy of it is not.
    let mut program = host_file("/bin/true").to_vec();
    let mut names = program.windows(LOADER.len());
    let at = names.position(|name| name == LOADER).unwrap();
    program[at..at + LOADER.len()].fill(0);
    program[at..at + OWN.len()].copy_from_slice(OWN);
    container.add("/program", &program);
    container.add("/loader", &host_file(str::from_utf8(LOADER).unwrap()));
    container.start(&["/bin/sh", "-e"]);
    for number in 0..CHANGES {
        let way = if number % 2 == 0 { "append" } else { "map" };
        container.say(&format!("/stimulus/s number {way} {number} /loader"));
        container.say(&format!(
            "i=0; while [ $i -lt {RUNS} ]; do /program {number}; i=$((i + 1)); done"
        ));
    }
    container.end();
    let seen = watch.wait_end(&container.cgroup());
    let number_of = |process| {
        let of_process = |seen: &&Seen| seen.event.process == process;
        let exec = seen.iter().filter(of_process).find_map(exec)?;
        exec.args.get(1)?.as_str()?.parse::<i32>().ok()
    };
    let mut read = [0; CHANGES];
    for seen in &seen {
        let Some(loader) = load(seen).filter(|load| load.file.path == OWN.into()) else {
            continue;
        };
        let Some(number) = number_of(seen.event.process) else {
            continue;
        };
        assert_eq!(loader.file.missing, None, "{number}: {:?}", loader.file);
        let bytes = watch.content(&loader.file).unwrap();
        assert_eq!(bytes.last_chunk(), Some(&number.to_ne_bytes()));
        read[usize::try_from(number).unwrap()] += 1;
    }
    assert_eq!(read, [RUNS; CHANGES]);
    let counters = watch.sensors.as_ref().unwrap().counters();
    eprintln!("{} events of fanotify", counters.fanotify_events);
    // Each of a program and of its loader; those of a moment after each change are told.
    assert!(!watch.has_load_probes() || counters.fanotify_events < counters.execs / 2);
}

/// No event of its own stands between its script and what its process executes next.
#[test]
fn a_familiar_interpreter_does_not_join_scripts() {
    let watch = watch();
    let mut container = Container::on_disk("interpreter");
    let names = ["/first", "/first-next", "/second", "/second-next"].map(Text::from);
    for name in ["/first", "/second"] {
        container.add(name, b"#!/stimulus/s then\n");
        container.add(&format!("{name}-next"), b"#!/bin/true\n");
    }
    container.start(&["/bin/sh", "-e"]);
    let cgroup = container.cgroup();
    let scripts_of = |seen: &[Seen]| -> Vec<(Text, Vec<Text>)> {
        let own = seen.iter().filter(|seen| is_in(seen, &cgroup));
        own.filter_map(exec)
            .filter(|exec| names.contains(&exec.filename))
            .map(|exec| {
                let paths = exec.scripts.iter().map(|file| file.path.clone());
                (exec.filename.clone(), paths.collect())
            })
            .collect()
    };
    let run_often =
        |what: &str| format!("i=0; while [ $i -lt 300 ]; do {what}; i=$((i + 1)); done");
    container.say(&format!("{}; /first", run_often("/stimulus/s")));
    watch.wait("the first two scripts", |seen| {
        (scripts_of(seen).len() == 2).then_some(())
    });
    container.say(&run_often("/second"));
    container.end();
    let scripts = scripts_of(&watch.wait_end(&container.cgroup()));
    let own = |name: &Text| (name.clone(), vec![name.clone()]);
    let [first, first_next, second, second_next] = names.each_ref().map(own);
    let mut expected = vec![first, first_next];
    expected.extend(std::iter::repeat_n([second, second_next], 300).flatten());
    assert_eq!(scripts, expected);
}

/// fanotify merges the events of the interpreter that they have in common.
#[test]
fn scripts_that_a_process_executes_one_after_the_other_are_not_nested() {
    let watch = watch();
    let mut container = Container::on_disk("successive");
    let names: Vec<String> = (0..6)
        .map(|at| format!("/a{}", "-next".repeat(at)))
        .collect();
    let (last, others) = names.split_last().unwrap();
    for name in others {
        container.add(name, b"#! /stimulus/s then\n");
    }
    container.add(last, b"#!/inner\n");
    container.add("/inner", b"#!/bin/true\n");
    container.start(&["/a"]);
    container.end();
    let cgroup = container.cgroup();
    let seen = watch.wait_end(&cgroup);
    let scripts: Vec<Vec<String>> = seen
        .iter()
        .filter(|seen| is_in(seen, &cgroup))
        .filter_map(exec)
        .filter(|exec| names.contains(&exec.filename.to_json_string()))
        .map(|exec| {
            let paths = exec.scripts.iter().map(|file| file.path.to_json_string());
            paths.collect()
        })
        .collect();
    let mut expected: Vec<Vec<String>> = names.iter().map(|name| vec![name.clone()]).collect();
    expected[names.len() - 1].push("/inner".to_owned());
    assert_eq!(scripts, expected);
}

/// The chain of scripts is followed as it is when they are read.
#[test]
fn no_script_hides_by_changing_the_one_that_it_interprets() {
    const COUNT: usize = 20;
    let watch = watch();
    let mut container = Container::on_disk("hiding");
    let bytes = |number| format!("#!/bin/sh\nprintf '#!/bin/sh\\n' > /outer-{number}\n");
    for number in 0..COUNT {
        let outer = format!("#!/inner-{number}\n");
        container.add(&format!("/outer-{number}"), outer.as_bytes());
        container.add(&format!("/inner-{number}"), bytes(number).as_bytes());
    }
    let all = format!("i=0; while [ $i -lt {COUNT} ]; do /outer-$i; i=$((i + 1)); done");
    container.run(&["/bin/sh", "-c", &all]);
    let cgroup = container.cgroup();
    let seen = watch.wait_end(&cgroup);
    for number in 0..COUNT {
        let path = Text::from(format!("/inner-{number}"));
        let is_read = |file: &FileFacts| {
            file.path == path && watch.content(file).as_deref() == Some(bytes(number).as_bytes())
        };
        let is_told = seen.iter().any(|seen| match &seen.event.payload {
            Payload::Exec(exec) => exec.scripts.iter().any(is_read),
            Payload::ExecNoFormat { file } => is_read(file),
            _ => false,
        });
        assert!(is_told, "{path}");
    }
}

#[test]
fn a_process_whose_first_thread_has_ended_is_read() {
    let first = watch();
    let mut container = Container::new("leaderless");
    container.add("/library", b"never loaded before");
    container.start(&["/stimulus/s", "leaderless", "/library"]);
    let cgroup = container.cgroup();
    let process = first.wait("the program", |seen| {
        let is_it = |seen: &&Seen| {
            let program = exec(seen).map(|exec| &exec.file.path);
            is_in(seen, &cgroup) && program == Some(&Text::from("/stimulus/s"))
        };
        seen.iter().find(is_it).map(|seen| seen.event.process)
    });
    let stat = format!("/proc/{}/stat", process.pid);
    first.wait("the end of its first thread", |_| {
        std::fs::read_to_string(&stat)
            .unwrap()
            .contains(") Z ")
            .then_some(())
    });

    let second = Watch::start(Config::default());
    let facts = second.wait("the program that runs", |seen| {
        let is_it = |seen: &&Seen| seen.event.process == process;
        Some(exec(seen.iter().find(is_it)?)?.file.clone())
    });
    assert_eq!(facts.path, Text::from("/stimulus/s"));
    assert!(second.content(&facts).is_some());

    container.say("now");
    let loaded = |watch: &Watch| {
        let facts = watch.wait("the library", |seen| {
            let of_it = seen.iter().filter(|seen| seen.event.process == process);
            let mut loads = of_it.filter_map(load);
            let load = loads.find(|load| load.file.path == Text::from("/library"))?;
            Some(load.file.clone())
        });
        assert_eq!(facts.missing, None);
        watch.content(&facts)
    };
    let third = Watch::start(Config {
        loads_by_perf: true,
        ..Config::default()
    });
    for watch in [first, &second, &third] {
        assert_eq!(loaded(watch).as_deref(), Some(&b"never loaded before"[..]));
    }
    container.end();
}

#[test]
fn a_script_and_a_file_without_format_are_read() {
    let watch = watch();
    let mut container = Container::new("scripts");
    container.add("/first", b"#!/second an-argument\n");
    container.add("/second", b"#!/bin/sh\n/no-format; exit 0\n");
    container.add("/no-format", b"true is all there is\n");
    container.run(&["/first"]);
    let seen = watch.wait_end(&container.cgroup());
    let script = seen
        .iter()
        .find(|seen| exec(seen).is_some_and(|exec| !exec.scripts.is_empty()))
        .unwrap();
    let files = exec(script).unwrap().scripts.iter().zip(&script.scripts);
    let files: Vec<_> = files
        .map(|(facts, bytes)| (facts.path.clone(), facts.missing, bytes.as_deref()))
        .collect();
    assert_eq!(
        files,
        [
            ("/first".into(), None, Some(&b"#!/second an-argument\n"[..])),
            (
                "/second".into(),
                None,
                Some(&b"#!/bin/sh\n/no-format; exit 0\n"[..])
            ),
        ]
    );
    let program = &exec(script).unwrap().file;
    assert!(watch.content(program) == Some(host_file("/bin/sh")));

    let (file, bytes) = seen
        .iter()
        .find_map(|seen| match &seen.event.payload {
            Payload::ExecNoFormat { file } => Some((file, &seen.file)),
            _ => None,
        })
        .unwrap();
    assert_eq!(file.path, Text::from("/no-format"));
    assert_eq!(bytes.as_deref(), Some(&b"true is all there is\n"[..]));
}

#[test]
fn libraries_come_after_their_exec_and_with_their_bytes() {
    libraries_come("libraries", watch());
}

#[test]
fn libraries_that_perf_tells_come_after_their_exec_and_with_their_bytes() {
    libraries_come("libraries-perf", watch_by_perf());
}

fn libraries_come(name: &str, watch: &Watch) {
    let mut container = Container::new(name);
    let library = host_file("/lib/x86_64-linux-gnu/libz.so.1");
    let mut changed = library.to_vec();
    changed.extend_from_slice(b"added");
    container.add("/added.so", &changed);
    let cgroup = container.cgroup();
    container.start(&[
        "/bin/sh",
        "-ec",
        "cp /added.so /tmp/dropped.so; LD_PRELOAD=/tmp/dropped.so head -n 1; rm /tmp/dropped.so; \
         /lib64/ld-linux-x86-64.so.2 --preload /added.so /usr/bin/head -n 1",
    ]);
    // Each program lives until its load was told: a library is read from the process that has it.
    for path in ["/tmp/dropped.so", "/added.so"] {
        watch.wait(path, |seen| {
            let is_it = |seen: &&Seen| {
                is_in(seen, &cgroup)
                    && load(seen).is_some_and(|load| load.file.path == Text::from(path))
            };
            seen.iter().find(is_it).map(drop)
        });
        container.say("");
    }
    container.end();
    let seen = watch.wait_end(&container.cgroup());
    for (path, content) in [
        ("/tmp/dropped.so", Arc::from(changed.as_slice())),
        ("/added.so", Arc::from(changed.as_slice())),
        // Given to the loader as an argument, a program is a load.
        ("/usr/bin/head", host_file("/usr/bin/head")),
    ] {
        let position = seen
            .iter()
            .position(|seen| load(seen).is_some_and(|load| load.file.path == Text::from(path)))
            .unwrap_or_else(|| panic!("no load of {path}"));
        let facts = &load(&seen[position]).unwrap().file;
        assert!(watch.content(facts) == Some(content), "{facts:?}");
        let process = seen[position].event.process;
        assert!(
            seen[..position]
                .iter()
                .any(|seen| seen.event.process == process && exec(seen).is_some()),
            "the exec comes first"
        );
    }
    // Every dynamic program loads its interpreter; no program is its own library.
    for (position, one) in seen.iter().enumerate() {
        let Some(load) = load(one) else { continue };
        let program = seen[..position]
            .iter()
            .rev()
            .find(|seen| seen.event.process == one.event.process && exec(seen).is_some())
            .and_then(exec)
            .unwrap_or_else(|| panic!("no exec before {load:?}"));
        assert_ne!(program.file.path, load.file.path);
    }
}

#[test]
fn a_library_whose_path_is_too_long_is_read() {
    deep_library("deep", watch());
}

#[test]
fn a_library_whose_path_perf_does_not_tell_is_read() {
    deep_library("deep-perf", watch_by_perf());
}

fn deep_library(name: &str, watch: &Watch) {
    let mut container = Container::new(name);
    let library = host_file("/lib/x86_64-linux-gnu/libz.so.1");
    container.add("/added.so", &library);
    let cgroup = container.cgroup();
    container.start(&["/stimulus/s", "deep", "/added.so"]);
    // It lives until its load was told.
    watch.wait("a load whose path is cut", |seen| {
        let is_it = |seen: &&Seen| {
            is_in(seen, &cgroup) && load(seen).is_some_and(|load| load.file.path_truncated)
        };
        seen.iter().find(is_it).map(drop)
    });
    container.end();
    let seen = watch.wait_end(&cgroup);
    let facts: Vec<_> = seen
        .iter()
        .filter_map(load)
        .map(|load| &load.file)
        .filter(|file| file.path_truncated)
        .collect();
    assert_eq!(facts.len(), 1, "{facts:?}");
    assert!(watch.content(facts[0]) == Some(library));
}

#[test]
fn a_mount_that_the_container_makes_is_watched() {
    let watch = watch();
    let mut container = Container::new("mounts");
    container.start(&["/bin/sh", "-e"]);
    let drop_fifty = |container: &mut Container, directory: &str| {
        wait_until_watched(watch, container, directory);
        container.say(&format!(
            "mkdir {directory}/all; /stimulus/s drop 50 {directory}/all"
        ));
    };
    container.say("mkdir /m; mount -t tmpfs t /m");
    drop_fifty(&mut container, "/m");
    // A mount alone, while nothing runs, wakes the sensor: already its first program is read. Again if the sensor got no
    // processor meanwhile.
    let late = (0..5).map(|number| format!("/late-{number}")).find(|late| {
        container.say(&format!("mkdir {late}; /stimulus/s mount {late}"));
        is_probe_read(watch, &mut container, late)
    });
    let late = late.expect("a mount that is watched before its first program");
    drop_fifty(&mut container, &late);
    container.say("unshare -m sh -ec 'mount -t tmpfs t /mnt; exec sh -e'");
    // The first shell has read that line and nothing behind it: what is said from here on is for the second one.
    let cgroup = container.cgroup();
    let arguments = ["mount", "-t", "tmpfs", "t", "/mnt"].map(Text::from);
    watch.wait("the second shell", |seen| {
        let is_it = |seen: &&Seen| {
            is_in(seen, &cgroup) && exec(seen).is_some_and(|exec| exec.args == arguments)
        };
        seen.iter().find(is_it).map(drop)
    });
    drop_fifty(&mut container, "/mnt");
    drop_fifty(&mut container, "/volume");
    container.end();
    let seen = watch.wait_end(&container.cgroup());
    for directory in ["/m", &late, "/mnt", "/volume"] {
        let below = format!("{directory}/all/");
        let read = seen
            .iter()
            .filter(|seen| {
                exec(seen)
                    .is_some_and(|exec| exec.file.path.as_bytes().starts_with(below.as_bytes()))
            })
            .filter(|seen| seen.file.is_some())
            .count();
        assert_eq!(read, 50, "{directory}");
    }
}
