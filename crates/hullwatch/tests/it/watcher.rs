//! A running `hullwatch run` with a state directory of its own, and what it found.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
};

use model::finding::FindingResult;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use testkit::command::DEADLINE;

/// The built program.
pub(crate) const HULLWATCH: &str = env!("CARGO_BIN_EXE_hullwatch");

/// How a watcher is started.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// Content of the configuration file.
    pub(crate) config: &'a str,
    /// Content of a list of indicators.
    pub(crate) intel: &'a str,
    /// More arguments.
    pub(crate) arguments: &'a [&'a str],
    /// A capability that it does not get, as `setpriv` names it.
    pub(crate) without: Option<&'a str>,
    /// Its standard output, instead of a file.
    pub(crate) stdout: Option<&'a OwnedFd>,
}

/// Killed when dropped, if it was not stopped.
pub(crate) struct Watcher {
    child: Child,
    state: State,
    /// What it said when it began to watch.
    pub(crate) watching: String,
    /// What it said since.
    said: Arc<Mutex<String>>,
}

/// A state directory, with or without a watcher that works on it.
pub(crate) struct State(TempDir);

impl Watcher {
    /// Starts one with default settings and waits until it watches.
    pub(crate) fn start() -> Self {
        Self::start_with(&Options::default())
    }

    pub(crate) fn start_with(options: &Options<'_>) -> Self {
        Self::start_on(State::new(), options)
    }

    /// Starts one on a state directory that an earlier one has used.
    pub(crate) fn start_on(state: State, options: &Options<'_>) -> Self {
        let config = state.path().join("test-config.toml");
        let intel = state.path().join("test-list");
        fs::write(&config, options.config).unwrap();
        let mut command = match options.without {
            Some(capability) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--bounding-set=-{capability}"));
                command.arg(HULLWATCH);
                command
            }
            None => Command::new(HULLWATCH),
        };
        command.arg("run");
        if !options.intel.is_empty() {
            fs::write(&intel, options.intel).unwrap();
            command.arg("--intel").arg(intel);
        }
        let mut child = command
            .args(["--format", "json", "--state-dir"])
            .arg(state.path())
            .arg("--config")
            .arg(config)
            .args(options.arguments)
            .stdin(Stdio::null())
            .stdout(match options.stdout {
                Some(fd) => Stdio::from(fd.try_clone().unwrap()),
                None => Stdio::from(File::create(state.announced()).unwrap()),
            })
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = read_lines(child.stderr.take().unwrap());
        let mut said = Vec::new();
        let watching = loop {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) if line.contains("watching") => break line,
                Ok(line) => said.push(line),
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("the watcher does not watch ({error}), it said: {said:#?}");
                }
            }
        };
        // What it says later is also of interest to a person who looks at a failed test.
        let said = Arc::new(Mutex::new(String::new()));
        thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in lines {
                    eprintln!("watcher: {line}");
                    *said.lock().unwrap() += &(line + "\n");
                }
            }
        });
        Self {
            child,
            state,
            watching,
            said,
        }
    }

    /// Waits until it says that on standard error.
    pub(crate) fn wait_until_it_says(&self, text: &str) {
        testkit::command::wait_for(text, || {
            self.said.lock().unwrap().contains(text).then_some(())
        });
    }

    pub(crate) fn state_dir(&self) -> &Path {
        self.state.path()
    }

    pub(crate) fn announced(&self) -> PathBuf {
        self.state.announced()
    }

    /// Ends it in order: everything that happened before is judged and stored when this returns.
    pub(crate) fn stop(mut self) -> State {
        let status = self.end_with(Signal::TERM);
        assert_eq!(status.code(), Some(0), "the watcher was stopped by SIGTERM");
        self.into_state()
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(mut self) -> State {
        self.end_with(Signal::KILL);
        self.into_state()
    }

    fn end_with(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        testkit::command::wait_for("the watcher to end", || self.child.try_wait().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, when it was told to.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.wait()
    }

    fn into_state(mut self) -> State {
        std::mem::replace(&mut self.state, State::new())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Fails when it was stopped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// What the watcher wrote to its standard output.
    pub(crate) fn announced(&self) -> PathBuf {
        self.path().join("test-announced")
    }

    /// The findings that match a filter, through `hullwatch findings list`.
    pub(crate) fn findings(&self, filter: &str) -> Vec<FindingResult> {
        findings(self.path(), filter)
    }

    /// The findings about a container, by its name.
    pub(crate) fn findings_of(&self, container: &str) -> Vec<FindingResult> {
        let mut found = self.findings("");
        found.retain(|result| {
            result
                .finding
                .containers
                .iter()
                .any(|c| c.name == container)
        });
        found
    }
}

/// The findings that match a filter, of a state directory that may be in use.
pub(crate) fn findings(state_dir: &Path, filter: &str) -> Vec<FindingResult> {
    let output = hullwatch(&[
        "findings",
        "list",
        "--format",
        "json",
        "--filter",
        filter,
        "--state-dir",
        state_dir.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut response: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(response["listFindingsResults"].take()).unwrap()
}

/// Categories, sorted.
pub(crate) fn categories(findings: &[FindingResult]) -> Vec<&str> {
    let mut categories: Vec<_> = findings
        .iter()
        .map(|result| result.finding.category.as_str())
        .collect();
    categories.sort_unstable();
    categories
}

/// What a person who looks at a failed test wants to know about findings.
pub(crate) fn described(findings: &[FindingResult]) -> String {
    let line = |result: &FindingResult| {
        let finding = &result.finding;
        let containers: Vec<_> = finding.containers.iter().map(|c| c.name.as_str()).collect();
        format!(
            "{}: {} {:?} {containers:?}",
            finding.category, finding.description, finding.source_properties
        )
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Runs the program to its end.
pub(crate) fn hullwatch(arguments: &[&str]) -> Output {
    testkit::command::output(Command::new(HULLWATCH).args(arguments))
}

/// Performs a simulation with runc beside a watcher on `state_dir`. What it said, which has the container's name.
pub(crate) fn simulate(state_dir: &Path, id: &str) -> String {
    let state_dir = state_dir.to_str().unwrap();
    let output = hullwatch(&[
        "simulate",
        id,
        "--runtime",
        "runc",
        "--state-dir",
        state_dir,
    ]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{id}: {said}");
    said
}

/// The container that `simulate` said it used.
pub(crate) fn container_name(said: &str) -> String {
    let after = said
        .split("container hullwatch-simulation-")
        .nth(1)
        .unwrap_or_else(|| panic!("{said}"));
    format!(
        "hullwatch-simulation-{}",
        after.split_whitespace().next().unwrap()
    )
}

/// Its standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read_lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
