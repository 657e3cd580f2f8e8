//! What holds when the watcher is killed.

use std::{
    collections::HashSet,
    ffi::CString,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    panic::{catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use detect::samples;
use model::finding::FindingResult;
use rustix::{
    fs::{OFlags, fcntl_setfl},
    pipe::pipe,
    process::Signal,
};
use testkit::{Container, Engine, Image, Run, command::wait_for, engines::Runc};

use crate::{
    stimuli,
    watcher::{
        Options, State, Watcher, categories, container_name, described, findings, hullwatch,
        simulate, stderr,
    },
};

#[test]
fn what_was_announced_survives_a_kill_and_the_gap_is_reported() {
    let watcher = Watcher::start();
    simulate(watcher.state_dir(), "built_in_malicious_binary_executed");
    let announced = watcher.announced();
    let name = wait_for("a finding to be announced", || {
        let lines = fs::read_to_string(&announced).unwrap();
        lines.lines().find_map(|line| {
            let result: FindingResult = serde_json::from_str(line).ok()?;
            result
                .finding
                .category
                .contains("Malicious")
                .then_some(result.finding.name)
        })
    });
    let state = watcher.kill();
    let by_name = format!("name=\"{name}\"");
    assert_eq!(
        state.findings(&by_name).len(),
        1,
        "what was announced is stored"
    );

    let watcher = Watcher::start_on(state, &Options::default());
    let state = watcher.stop();
    assert_eq!(state.findings(&by_name).len(), 1, "and stays so");
    let errors = state.findings("findingClass=\"SCC_ERROR\"");
    assert!(
        errors
            .iter()
            .any(|result| result.finding.description.contains("nothing was watched")),
        "{}",
        described(&errors)
    );
}

#[test]
fn no_kill_loses_what_was_announced_and_the_next_one_watches_on() {
    let image = Image::busybox("example.test/killed:v1")
        .file("/bin/drop", 0o755, &stimuli::build("drop"))
        .file("/sample", 0o644, &samples::UNLISTED_PROGRAM.bytes());
    // A finding for each program, since each has other bytes.
    let options = Options {
        config: "[detection.detectors.added_binary_executed]\nenabled = true\n",
        ..Options::default()
    };
    let mut engine = Runc::start();
    engine.load(&image);
    let container = engine.run(&Run::new("hw-e2e-killed", &image));
    let announced = |path: &Path| -> Vec<FindingResult> {
        let text = fs::read_to_string(path).unwrap();
        // The last line may be half of one.
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|result: &FindingResult| result.finding.category == "Added Binary Executed")
            .collect()
    };
    let kill_some = || {
        let mut state = None;
        for enough in [1, 40, 300] {
            let watcher = match state.take() {
                Some(state) => Watcher::start_on(state, &options),
                None => Watcher::start_with(&options),
            };
            wait_for(&format!("{enough} findings to be announced"), || {
                (announced(&watcher.announced()).len() >= enough).then_some(())
            });
            let killed = watcher.kill();
            let stored: HashSet<String> = killed
                .findings("")
                .into_iter()
                .map(|result| result.finding.name)
                .collect();
            for result in announced(&killed.announced()) {
                let name = result.finding.name;
                assert!(stored.contains(&name), "{name} was announced");
            }
            state = Some(killed);
        }
    };
    let forever = u32::MAX.to_string();
    let command = ["/bin/drop", "file", "/sample", &forever, "/tmp"];
    thread::scope(|scope| {
        scope.spawn(|| engine.exec(&container, &command));
        let result = catch_unwind(kill_some);
        let output = engine.exec(&container, &["/bin/busybox", "killall", "drop"]);
        assert!(output.status.success(), "{output:?}");
        result.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

#[test]
fn nobody_has_to_read_what_it_prints() {
    let (closed, write) = pipe().unwrap();
    drop(closed);
    let (_unread, full) = pipe().unwrap();
    fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&full, &[b'-'; 512]).is_ok() {}
    fcntl_setfl(&full, OFlags::empty()).unwrap();
    for stdout in [write, full] {
        let watcher = Watcher::start_with(&Options {
            stdout: Some(&stdout),
            ..Options::default()
        });
        let containers = [
            "built_in_malicious_binary_executed",
            "added_malicious_binary_executed",
        ]
        .map(|id| container_name(&simulate(watcher.state_dir(), id)));
        let state = watcher.stop();
        for container in containers {
            let found = state.findings_of(&container);
            assert_eq!(found.len(), 1, "{container}: {}", described(&found));
        }
    }
}

/// Unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(on: &Path, size: &str) -> Self {
        let options = CString::new(format!("size={size}")).unwrap();
        rustix::mount::mount(
            "none",
            on,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .unwrap();
        Self(on.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_does_not_end_the_watch_and_is_a_finding() {
    let image = Image::busybox("example.test/full:v1").file(
        "/opt/known",
        0o755,
        &samples::BUILT_IN_PROGRAM.bytes(),
    );
    let mut engine = Runc::start();
    engine.load(&image);
    let container = engine.run(&Run::new("hw-e2e-full", &image));
    let state = State::new();
    let disk = Tmpfs::mount(state.path(), "8m");
    let printed = OwnedFd::from(tempfile::tempfile().unwrap());
    let recording = state.path().join("recording");
    let watcher = Watcher::start_on(
        state,
        &Options {
            arguments: &["--record", recording.to_str().unwrap()],
            stdout: Some(&printed),
            ..Options::default()
        },
    );
    let ballast = watcher.state_dir().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    watcher.wait_until_it_says("the store cannot be written");
    let output = engine.exec(&container, &["/opt/known"]);
    assert!(output.status.success(), "{output:?}");
    watcher.wait_until_it_says("the recording ends here");
    fs::remove_file(&ballast).unwrap();
    drop(file);
    let of = |filter: &str| {
        wait_for(filter, || {
            let found = findings(watcher.state_dir(), filter);
            (!found.is_empty()).then_some(found)
        })
    };
    let found = of("category=\"Execution: Built in Malicious Binary Executed\"");
    assert_eq!(found[0].finding.containers[0].name, container.name);
    let outage = of("source_properties.Sensor_Condition=\"UNSTORED\"");
    let description = &outage[0].finding.description;
    assert!(description.contains("none were lost"), "{description}");
    let state = watcher.stop();
    // Nobody lost sight of anything.
    assert_eq!(
        categories(&state.findings("findingClass=\"SCC_ERROR\"")),
        ["Sensor Lost"]
    );
    drop(disk);
}

#[test]
fn two_watchers_do_not_share_a_directory() {
    let watcher = Watcher::start();
    let output = hullwatch(&["run", "--state-dir", watcher.state_dir().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("another watcher"),
        "{}",
        stderr(&output)
    );
    watcher.stop();
}

#[test]
fn a_watcher_proves_that_it_sees_and_says_when_it_cannot() {
    let image = Image::busybox("example.test/tested:v1");
    let mut engine = Runc::start();
    engine.load(&image);
    let watcher = Watcher::start();
    let container = engine.run(&Run::new("hw-e2e-tested", &image));
    let store = store::Store::open_read_only(watcher.state_dir()).unwrap();
    wait_for("a self-test to pass", || {
        let containers = store.containers().unwrap();
        let is_tested = |state: &store::ContainerState| {
            state.name == container.name && state.last_test.is_some()
        };
        containers.iter().any(is_tested).then_some(())
    });
    engine.remove(&container);
    wait_for("the container to have ended", || {
        let containers = store.containers().unwrap();
        let has_ended =
            |state: &store::ContainerState| state.name == container.name && state.ended.is_some();
        containers.iter().any(has_ended).then_some(())
    });
    let state = watcher.stop();
    let blind = "category=\"Sensor Lost\" AND source_properties.Sensor_Condition=\"LOST\"";
    assert!(state.findings(blind).is_empty());

    // The directory that it would mount over is none.
    let directory = state.path().join("self-test");
    fs::remove_dir(&directory).unwrap();
    fs::write(&directory, "").unwrap();
    let sink = state.path().join("test-sink");
    let config = format!("[sinks.all]\ntype = \"file\"\npath = {sink:?}\nfilter = {blind:?}\n");
    let told = Options {
        config: &config,
        ..Options::default()
    };
    let messages = || {
        fs::read_to_string(&sink)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let watcher = Watcher::start_on(state, &told);
    let found = wait_for("the finding that no self-test passed", || {
        findings(watcher.state_dir(), blind).pop()
    });
    assert!(
        found.finding.description.contains("self-test"),
        "{}",
        described(&[found])
    );
    // Nor does the next one see, for the same reason: that was never over.
    wait_for("the first message", || (messages() > 0).then_some(()));
    let watcher = Watcher::start_on(watcher.stop(), &told);
    let found = wait_for("the failure to be found again", || {
        let mut found = findings(watcher.state_dir(), blind);
        found.retain(|result| result.finding.source_properties[store::OCCURRENCES] == 2);
        found.pop()
    });
    assert_eq!(found.finding.state, model::finding::State::Active);
    let state = watcher.stop();
    assert_eq!(messages(), 1);
    // The next one sees: what the one before missed is over. That nobody watched in between is a finding each time.
    fs::remove_file(&directory).unwrap();
    let watcher = Watcher::start_on(state, &told);
    wait_for("the failure to be over", || {
        let found = findings(watcher.state_dir(), blind);
        assert_eq!(found.len(), 1, "{}", described(&found));
        (found[0].finding.state == model::finding::State::Inactive).then_some(())
    });
    wait_for("the third stop", || {
        let found = findings(
            watcher.state_dir(),
            "source_properties.Sensor_Condition=\"STOPPED\"",
        );
        (found.len() == 3).then_some(())
    });
    wait_for("the second message", || (messages() == 2).then_some(()));
    // Nobody is told of the program that it runs for itself.
    let state = watcher.stop();
    let mut own = state.findings("findingClass=\"THREAT\"");
    own.retain(|result| {
        let mut programs = result
            .finding
            .processes
            .iter()
            .filter_map(|process| process.binary.as_ref());
        programs.any(|program| Path::new(&program.path).starts_with(state.path()))
    });
    assert!(own.is_empty(), "{}", described(&own));
}

#[test]
fn a_sensor_that_the_host_refuses_is_a_finding_and_the_rest_works() {
    let watcher = Watcher::start_with(&Options {
        // fanotify's marks on whole filesystems take it.
        without: Some("sys_admin"),
        config: "[detection.detectors.added_binary_executed]\nenabled = true\n",
        ..Options::default()
    });
    let image = Image::busybox("example.test/half-blind:v1");
    let mut engine = Runc::start();
    engine.load(&image);
    let container = engine.run(&Run::new("hw-e2e-half-blind", &image));
    // It ends at once; without fanotify it is opened as it begins.
    let script = "cp /bin/busybox /tmp/true; /tmp/true; rm /tmp/true";
    let output = engine.exec(&container, &["/bin/sh", "-c", script]);
    assert!(output.status.success(), "{output:?}");
    let state = watcher.stop();
    let lost = state.findings("source_properties.Sensor=\"fanotify\"");
    assert_eq!(categories(&lost), ["Sensor Lost"]);
    let found = state.findings_of(&container.name);
    assert_eq!(
        categories(&found),
        ["Added Binary Executed"],
        "{}",
        described(&found)
    );
}

/// What is mounted in the directory is unmounted, and its server ended, when this is dropped.
struct Fuse {
    directory: tempfile::TempDir,
    server: Child,
}

impl Fuse {
    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for name in ["root", "mount"] {
            let _ = rustix::mount::unmount(self.at(name), rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// A filesystem that answers the container, but nobody else. See `stimuli/fuse-once.c`.
fn fuse_once() -> Fuse {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("mount")).unwrap();
    fs::write(at("program"), samples::ORDINARY_PROGRAM.bytes()).unwrap();
    fs::write(at("server"), stimuli::build("fuse-once")).unwrap();
    fs::set_permissions(at("server"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = Command::new(at("server"))
        .args([at("mount"), at("program")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let fuse = Fuse { directory, server };
    assert_eq!(line, "ready\n");
    fuse
}

/// An overlay as engines mount it, over a filesystem that answers the container, but nobody else.
fn overlay_over_fuse_once() -> Fuse {
    let fuse = fuse_once();
    for name in ["upper", "work", "root"] {
        fs::create_dir(fuse.at(name)).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        fuse.at("mount").display(),
        fuse.at("upper").display(),
        fuse.at("work").display()
    );
    rustix::mount::mount(
        "none",
        fuse.at("root"),
        "overlay",
        rustix::mount::MountFlags::empty(),
        Some(CString::new(options).unwrap().as_c_str()),
    )
    .unwrap();
    fuse
}

const BLIND: &str = "category=\"Sensor Lost\" AND source_properties.Sensor_Condition=\"LOST\"";

/// Has a container run a program that the sensor cannot open, and waits until that is found.
fn make_the_sensor_hang(
    watcher: &Watcher,
    fuse: &Fuse,
    engine: &mut Runc,
    name: &str,
) -> Container {
    let image = Image::busybox("example.test/stuck:v1");
    engine.load(&image);
    let container = engine.run(&Run::new(name, &image).volume(&fuse.at("root"), "/volume", true));
    let output = engine.exec(&container, &["/volume/program"]);
    assert!(output.status.success(), "{output:?}");
    let found = wait_for("the finding that the sensor waits", || {
        findings(watcher.state_dir(), BLIND).pop()
    });
    assert!(
        found.finding.description.contains("FUSE"),
        "{}",
        described(&[found])
    );
    container
}

#[test]
fn a_file_that_never_opens_is_a_finding_and_no_end() {
    let mut engine = Runc::start();
    let watcher = Watcher::start();
    let fuse = overlay_over_fuse_once();
    let container = make_the_sensor_hang(&watcher, &fuse, &mut engine, "hw-e2e-stuck");
    // The server is gone: whoever waits for it gets an error, and goes on.
    drop(fuse);
    let output = engine.exec(&container, &["/bin/true"]);
    assert!(output.status.success(), "{output:?}");
    let over = format!("state=\"INACTIVE\" AND {BLIND}");
    wait_for("the finding to be over", || {
        findings(watcher.state_dir(), &over).pop()
    });
    watcher.stop();
}

#[test]
fn a_sensor_that_hangs_does_not_keep_the_agent_from_ending() {
    let mut engine = Runc::start();
    let watcher = Watcher::start();
    let fuse = overlay_over_fuse_once();
    make_the_sensor_hang(&watcher, &fuse, &mut engine, "hw-e2e-never-stops");
    watcher.signal(Signal::TERM);
    watcher.wait_until_it_says("the sensor could not be stopped");
    // The kernel keeps the thread that waits for the server, and with it what is left of the process.
    wait_for("the agent to end but for that thread", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", watcher.pid())).unwrap();
        stat.contains(") Z ").then_some(())
    });
    let stored = findings(watcher.state_dir(), "");
    for line in fs::read_to_string(watcher.announced()).unwrap().lines() {
        let result: FindingResult = serde_json::from_str(line).unwrap();
        let is_it = |stored: &FindingResult| stored.finding.name == result.finding.name;
        assert!(stored.iter().any(is_it), "{line}");
    }
    let state_dir = watcher.state_dir().to_str().unwrap();
    let next = hullwatch(&[
        "run",
        "--for",
        "1s",
        "--no-listen",
        "--state-dir",
        state_dir,
    ]);
    assert_eq!(next.status.code(), Some(0), "{}", stderr(&next));
    drop(fuse);
    assert_eq!(watcher.end().code(), Some(3));
}
