//! The bytes of scripts that may be gone at once: by a descriptor, and by an interpreter's arguments.

use std::collections::HashSet;

use model::Text;

use crate::{
    container::{Container, HeldCpu},
    contents::wait_until_watched,
    watch,
    watch::{Seen, exec, is_in},
};

#[test]
fn every_script_that_a_descriptor_leads_to_is_read() {
    const COUNT: usize = 300;
    let watch = watch();
    for way in ["memfd", "unlinked"] {
        let mut container = Container::new(&format!("script-{way}"));
        container.start(&["/bin/sh", "-e"]);
        wait_until_watched(watch, &mut container, "/");
        container.say(&format!("/stimulus/s script {way} {COUNT} /"));
        container.end();
        let seen = watch.wait_end(&container.cgroup());
        let scripts = seen
            .iter()
            .filter(|seen| exec(seen).is_some_and(|exec| !exec.scripts.is_empty()));
        let numbers: HashSet<[u8; 4]> = scripts
            .filter_map(|seen| seen.scripts.first()?.as_ref()?.last_chunk().copied())
            .collect();
        assert_eq!(numbers.len(), COUNT, "{way}");
    }
}

#[test]
fn a_script_called_as_a_descriptor_is_not_taken_for_what_that_leads_to() {
    const COUNT: usize = 20;
    let watch = watch();
    let mut container = Container::new("disguised");
    let count = COUNT.to_string();
    container.run(&["/stimulus/s", "script", "disguised", &count, "/"]);
    let seen = watch.wait_end(&container.cgroup());
    let scripts: Vec<_> = seen
        .iter()
        .filter(|seen| exec(seen).is_some_and(|exec| !exec.scripts.is_empty()))
        .filter_map(|seen| Some((exec(seen)?.scripts.first()?, seen.scripts.first()?)))
        .collect();
    assert_eq!(scripts.len(), COUNT);
    for (facts, bytes) in scripts {
        // One on a mount of a moment ago is told of as not read.
        let number = bytes.as_ref().and_then(|bytes| bytes.last_chunk().copied());
        assert_ne!(number.map(i32::from_ne_bytes), Some(-1), "{facts:?}");
        assert!(number.is_some() || facts.missing.is_some(), "{facts:?}");
    }
}

/// An interpreter whose script deletes itself.
#[test]
fn what_arguments_name_is_opened_before_it_can_be_deleted() {
    const COUNT: usize = 300;
    let watch = watch();
    for way in [
        "absolute",
        "relative",
        "own",
        "link",
        "option",
        "descriptor",
        "input",
    ] {
        let mut container = Container::new(&format!("named-{way}"));
        container.run(&["/stimulus/s", "named", way, &COUNT.to_string(), "/mnt"]);
        let seen = watch.wait_end(&container.cgroup());
        let numbers: HashSet<_> = seen
            .iter()
            .filter_map(|seen| seen.named.first()?.1.first_chunk::<4>().copied())
            .collect();
        assert_eq!(numbers.len(), COUNT, "{way}");
    }
}

/// It is not in the kernel's memory: somebody has to wait for a disk.
#[test]
fn a_script_that_nobody_has_looked_at_is_opened_before_it_can_delete_itself() {
    const COUNT: usize = 100;
    let watch = watch();
    let mut container = Container::new("unseen");
    let script = |number: usize| format!("rm /unseen-{number}\n");
    for number in 0..COUNT {
        container.add_unseen(&format!("/unseen-{number}"), script(number).as_bytes());
    }
    let all = format!("i=0; while [ $i -lt {COUNT} ]; do /bin/sh /unseen-$i; i=$((i + 1)); done");
    container.run(&["/bin/sh", "-e", "-c", &all]);
    let seen = watch.wait_end(&container.cgroup());
    // Of `rm`, too.
    let is_shell = |seen: &&Seen| {
        exec(seen).is_some_and(|exec| exec.args.len() == 2 && exec.args[0] == "/bin/sh".into())
    };
    let named = seen.iter().filter(is_shell).flat_map(|seen| &seen.named);
    let read: HashSet<_> = named.map(|(_, bytes)| bytes.to_vec()).collect();
    let missing: Vec<_> = (0..COUNT)
        .filter(|&number| !read.contains(script(number).as_bytes()))
        .collect();
    assert_eq!(missing, [0; 0]);
}

#[test]
fn what_the_arguments_of_no_interpreter_name_is_left_alone() {
    let watch = watch();
    let feedback = watch.sensors.as_ref().unwrap().feedback();
    let mut container = Container::new("classified");
    let cgroup = container.cgroup();
    container.start(&["/bin/sh", "-e"]);
    let mut run = |arguments: &str| {
        let last = Text::from(arguments.rsplit(' ').next().unwrap());
        container.say(&format!("echo > {last}; /stimulus/s {arguments}"));
        watch.wait(arguments, |seen| {
            let is_it = |seen: &&Seen| {
                is_in(seen, &cgroup)
                    && exec(seen).is_some_and(|exec| exec.args.last() == Some(&last))
            };
            let seen = seen.iter().find(is_it)?;
            let names: Vec<_> = seen
                .named
                .iter()
                .map(|(name, _)| name.to_string())
                .collect();
            Some((names, seen.unclassified))
        })
    };
    let (names, program) = run("delete /first");
    assert_eq!(names, ["/first"]);
    let program = program.unwrap();
    feedback.classify(&program, false);
    assert_eq!(run("delete /second"), (vec![], None));
    feedback.classify(&program, true);
    assert_eq!(run("delete /third"), (vec!["/third".to_owned()], None));
    // As what `make` runs.
    assert_eq!(run("-c /fourth"), (vec![], None));
    container.end();
}

/// Between an exec and the opening of its script the reader has a look, on another CPU.
#[test]
fn a_script_that_is_opened_late_is_read() {
    const COUNT: usize = 300;
    let watch = watch();
    let mut container = Container::new("late");
    let held = HeldCpu::new();
    let script = format!("taskset --cpu-list 0 /stimulus/s script memfd {COUNT} /");
    container.run(&["/bin/sh", "-c", &script]);
    drop(held);
    let seen = watch.wait_end(&container.cgroup());
    let numbers: HashSet<[u8; 4]> = seen
        .iter()
        .filter_map(|seen| seen.scripts.first()?.as_ref()?.last_chunk().copied())
        .collect();
    assert_eq!(numbers.len(), COUNT);
}
