//! The table by itself: lineage, floods, what is cut.

use super::*;

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_ns: u64::from(pid) * 10,
    }
}

fn program(pid: u32, args: &[&str]) -> Arc<Program> {
    let process = Process {
        key: key(pid),
        name: Text::from(args[0]),
        args: args.iter().map(|arg| Text::from(*arg)).collect(),
        ..Process::default()
    };
    Program::new(Arc::new(process), None)
}

fn exec(
    table: &mut ProcessTable,
    container: &Arc<Container>,
    pid: u32,
    parent: u32,
    args: &[&str],
    time: u64,
) {
    table.exec(
        key(pid),
        container,
        program(pid, args),
        key(parent),
        Timestamp(time),
    );
}

#[test]
fn lineage_ends_at_the_container_and_outlives_the_parents() {
    let mut table = ProcessTable::default();
    let container = Arc::new(Container::default());
    exec(&mut table, &container, 10, 1, &["init"], 1);
    table.fork(key(11), key(10), Timestamp(2));
    exec(&mut table, &container, 11, 10, &["sh", "-c", "x"], 3);
    table.fork(key(12), key(11), Timestamp(4));
    table.exit(key(11), Timestamp(5));
    // Its real parent is init by now, but it comes from the shell.
    exec(&mut table, &container, 12, 10, &["x"], 6);
    let names = |table: &mut ProcessTable| -> Vec<String> {
        let parent = table.parent(key(12)).unwrap();
        let ancestors = table.ancestors(parent, &container);
        ancestors
            .iter()
            .map(|ancestor| ancestor.name.to_string())
            .collect()
    };
    assert_eq!(names(&mut table), ["sh", "init"]);
    table.expire(Timestamp(5 + EXITED_KEPT_NS));
    assert!(names(&mut table).is_empty());
}

#[test]
fn a_process_whose_events_wait_is_not_forgotten() {
    let mut table = ProcessTable::default();
    let container = Arc::new(Container::default());
    exec(&mut table, &container, 10, 1, &["ld.so", "/tmp/large"], 1);
    let program = Arc::clone(&table.get(key(10)).unwrap().program);
    program.wait_for(7);
    table.exit(key(10), Timestamp(2));
    table.expire(Timestamp(2 + EXITED_KEPT_NS));
    assert!(table.contains(key(10)));
    program.go_on();
    table.expire(Timestamp(2 + 2 * EXITED_KEPT_NS));
    assert!(!table.contains(key(10)));
}

#[test]
fn a_forked_child_has_its_own_key_and_its_parents_program() {
    let mut table = ProcessTable::default();
    let container = Arc::new(Container::default());
    exec(&mut table, &container, 10, 1, &["server"], 1);
    table.fork(key(11), key(10), Timestamp(2));
    let by_pid = ProcessKey {
        pid: 11,
        start_ns: 0,
    };
    let found = table.find(by_pid, Timestamp(3)).unwrap();
    let process = table.process(found).unwrap();
    assert_eq!(
        (process.key, process.name.to_string().as_str()),
        (key(11), "server")
    );
    assert_eq!(process.ancestors.len(), 1);
}

#[test]
fn a_reused_pid_is_told_apart_by_time() {
    let mut table = ProcessTable::default();
    let container = Arc::new(Container::default());
    let (old, new) = (
        key(10),
        ProcessKey {
            pid: 10,
            start_ns: 999,
        },
    );
    exec(&mut table, &container, 10, 1, &["old"], 1);
    table.exit(old, Timestamp(5));
    table.exec(new, &container, program(10, &["new"]), key(1), Timestamp(7));
    let by_pid = ProcessKey {
        pid: 10,
        start_ns: 0,
    };
    assert_eq!(table.find(by_pid, Timestamp(4)), Some(old));
    assert_eq!(table.find(by_pid, Timestamp(7)), Some(new));
}

#[test]
fn a_process_whose_end_was_lost_is_ended() {
    let mut table = ProcessTable::default();
    let container = Arc::default();
    for pid in [7, 8] {
        exec(&mut table, &container, pid, 1, &["/x"], 0);
    }
    assert_eq!(table.containers().len(), 1);
    table.end_gone(Timestamp(5), |key| key.pid == 8);
    assert_eq!(table.containers().len(), 1);
    table.end_gone(Timestamp(5), |_| false);
    assert!(table.containers().is_empty());
    // Still there for what is read late.
    assert!(table.contains(key(7)));
    table.expire(Timestamp(5).plus_ns(EXITED_KEPT_NS + 1));
    assert!(!table.contains(key(7)) && !table.contains(key(8)));
}

#[test]
fn a_flood_of_large_processes_is_bounded() {
    let mut table = ProcessTable::default();
    let container = Arc::new(Container::default());
    let large = "x".repeat(16 * 1024);
    for pid in 1..4000 {
        exec(&mut table, &container, pid, 1, &[&large], u64::from(pid));
        table.exit(key(pid), Timestamp(u64::from(pid)));
    }
    assert!(table.bytes <= PROCESSES_BYTES_MAX);
    assert!(table.entries.len() > 500 && table.by_pid.len() == table.entries.len());
    assert!(table.get(key(3999)).is_some());
}

#[test]
fn a_flood_of_one_container_leaves_the_processes_of_others() {
    let mut table = ProcessTable::default();
    let container = |id: &str| {
        Arc::new(Container {
            id: id.to_owned(),
            ..Container::default()
        })
    };
    let (quiet, hostile) = (container("quiet"), container("hostile"));
    for pid in 1..=20 {
        exec(&mut table, &quiet, pid, 1, &["daemon"], u64::from(pid));
    }
    // One of them has ended a moment ago.
    table.exit(key(20), Timestamp(20));
    let large = "x".repeat(16 * 1024);
    for pid in 100..4000 {
        exec(&mut table, &hostile, pid, 1, &[&large], u64::from(pid));
    }
    for pid in 1..=20 {
        assert!(table.contains(key(pid)), "{pid}");
    }
    assert!(table.bytes <= PROCESSES_BYTES_MAX);
    assert!(!table.contains(key(100)) && table.contains(key(3999)));

    // Those of the flood end, and more come.
    for pid in 100..4000 {
        table.exit(key(pid), Timestamp(4000));
    }
    for pid in 4000..8000 {
        exec(&mut table, &hostile, pid, 1, &[&large], u64::from(pid));
    }
    assert!(table.contains(key(20)) && !table.contains(key(3999)));
    table.expire(Timestamp(20).plus_ns(EXITED_KEPT_NS));
    assert!(!table.contains(key(20)) && table.contains(key(19)));
    for pid in 1..8000 {
        table.forget(key(pid));
    }
    assert_eq!((table.bytes, table.held.len()), (0, 0));
}

#[test]
fn who_has_little_keeps_it_and_the_others_share_the_rest() {
    assert_eq!(fair_share(vec![10, 90, 50], 100), 45);
    assert_eq!(fair_share(vec![100, 100], 100), 50);
    assert_eq!(fair_share(vec![10, 20], 100), usize::MAX);
    assert_eq!(fair_share(Vec::new(), 100), usize::MAX);
}

#[test]
fn children_share_what_is_told_of_a_parent_until_it_runs_something_else() {
    let mut table = ProcessTable::default();
    let container = Arc::new(Container::default());
    exec(&mut table, &container, 10, 1, &["sh", "-c", "x"], 1);
    let before = table.bytes;
    let first = table.ancestors(key(10), &container);
    assert!(table.bytes > before);
    assert!(Arc::ptr_eq(
        &first[0],
        &table.ancestors(key(10), &container)[0]
    ));

    exec(&mut table, &container, 10, 1, &["y"], 2);
    assert_eq!(
        table.ancestors(key(10), &container)[0].name,
        Text::from("y")
    );
    table.forget(key(10));
    assert_eq!((table.bytes, table.held.len()), (0, 0));

    // Its path may be another once its file was looked at.
    let parked = Program::new(program(11, &["z"]).process(), Some(1));
    table.exec(
        key(11),
        &container,
        Arc::clone(&parked),
        key(1),
        Timestamp(3),
    );
    assert_eq!(
        table.ancestors(key(11), &container)[0].name,
        Text::from("z")
    );
    parked.finish(|process| process.name = Text::from("resolved"));
    let told = table.ancestors(key(11), &container);
    assert_eq!(told[0].name, Text::from("resolved"));
}

#[test]
fn what_is_told_of_many_parents_is_bounded() {
    const COUNT: u32 = 30_000;
    let mut table = ProcessTable::default();
    let container = Arc::new(Container::default());
    exec(&mut table, &container, 10, 1, &["x"; 250], 1);
    for pid in 11..COUNT {
        table.fork(key(pid), key(pid - 1), Timestamp(2));
    }
    let before = table.bytes;
    assert!(table.entries.len() > 10_000 && before < PROCESSES_BYTES_MAX);
    // Each loads a library, and nothing is executed meanwhile.
    for pid in 11..COUNT {
        table.process(key(pid));
        assert!(table.bytes <= PROCESSES_BYTES_MAX);
    }
    assert!(table.bytes > before);
}

#[test]
fn values_of_the_environment_are_dropped_but_for_the_loaders() {
    let (env, is_cut) = keep_env(&"DB_PASSWORD=secret\0LD_PRELOAD=/tmp/x.so\0".into(), None);
    assert!(!is_cut);
    assert_eq!(env[0].value, None);
    assert_eq!(env[1].value, Some(Text::from("/tmp/x.so")));
}

#[test]
fn an_environment_is_shared_with_the_one_before_only_when_what_is_kept_is_the_same() {
    let before = keep_env(&"A=1\0LD_PRELOAD=/x.so\0".into(), None).0;
    for (env, is_shared) in [
        ("A=1\0LD_PRELOAD=/x.so\0", true),
        ("A=2\0LD_PRELOAD=/x.so\0", true),
        ("A=1\0LD_PRELOAD=/y.so\0", false),
        ("A=1\0LD_PRELOAD=/x.so\0B=1\0", false),
        ("A=1\0", false),
        ("", false),
        ("LD_PRELOAD=/x.so\0A=1\0", false),
        ("AB=1\0LD_PRELOAD=/x.so\0", false),
    ] {
        let kept = keep_env(&env.into(), Some(&before)).0;
        assert_eq!(Arc::ptr_eq(&kept, &before), is_shared, "{env:?}");
        assert_eq!(kept, keep_env(&env.into(), None).0, "{env:?}");
    }
    let long: Text = "N".repeat(300).into();
    let (cut, _) = keep_env(&long, None);
    assert!(keep_env(&long, Some(&cut)).1, "said again");
}

#[test]
fn what_is_cut_is_said() {
    let (env, is_cut) = keep_env(&"N".repeat(300).into(), None);
    assert_eq!((env[0].name.len(), is_cut), (ENV_NAME_BYTES_MAX, true));

    let mut table = ProcessTable::default();
    let container = Arc::new(Container::default());
    let fits = "x".repeat(ANCESTOR_ARGS_BYTES_MAX - 4);
    let long = format!("{fits}y");
    exec(&mut table, &container, 10, 1, &["run", &fits], 1);
    exec(&mut table, &container, 11, 10, &["run", &long], 2);
    exec(&mut table, &container, 12, 11, &["run", &fits, "z"], 3);
    let cut_before = Process {
        args_truncated: true,
        ..Process::clone(&program(13, &["run"]).process())
    };
    let cut_before = Program::new(Arc::new(cut_before), None);
    table.exec(key(13), &container, cut_before, key(12), Timestamp(4));
    let ancestors = table.ancestors(key(13), &container);
    let said: Vec<bool> = ancestors.iter().map(|above| above.args_truncated).collect();
    assert_eq!(said, [true, true, true, false]);
    assert_eq!(ancestors[2].args[1], Text::from(fits.as_str()));
}
