//! The agent under measurement: started and stopped as a user would, its cost read from `/proc`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// `sysconf(_SC_CLK_TCK)`: 100 on every Linux of the last twenty years.
const TICKS_PER_SECOND: f64 = 100.0;

/// Time the agent gets to begin watching.
const START_MAX: Duration = Duration::from_secs(60);

/// A command for a program that is stopped when this one is killed: it would be in the way of everything that is measured
/// afterwards.
pub(crate) fn ends_with_this(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(program);
    command
}

pub(crate) struct Agent {
    child: Child,
    stderr: BufReader<ChildStderr>,
    announced: Receiver<(SystemTime, String)>,
}

impl Agent {
    /// Starts the agent and waits until it watches.
    pub(crate) fn start(state_dir: &Path, options: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("hullwatch");
        let mut child = ends_with_this(&program)
            .args(["run", "--format", "json", "--state-dir"])
            .arg(state_dir)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stderr = child
            .stderr
            .take()
            .context("the agent has no standard error")?;
        let stdout = child
            .stdout
            .take()
            .context("the agent has no standard output")?;
        let (sender, announced) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((SystemTime::now(), line)).is_err() {
                    break;
                }
            }
        });
        let mut agent = Self {
            child,
            stderr: BufReader::new(stderr),
            announced,
        };
        let deadline = Instant::now() + START_MAX;
        let mut line = String::new();
        while !line.contains("watching") {
            line.clear();
            ensure!(
                Instant::now() < deadline,
                "the agent does not begin to watch"
            );
            if agent.stderr.read_line(&mut line)? == 0 {
                bail!("the agent ended instead of watching");
            }
        }
        Ok(agent)
    }

    /// User and system time of all its threads, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(") ").next().context("reading /proc/PID/stat")?;
        let fields: Vec<&str> = after_name.split(' ').collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<f64>().ok())
        };
        // utime and stime are fields 14 and 15 of proc(5); the first one after the name is field 3.
        let (user, system) = ticks(11).zip(ticks(12)).context("reading /proc/PID/stat")?;
        Ok((user + system) / TICKS_PER_SECOND)
    }

    /// Resident memory in MiB: now, and at its highest.
    pub(crate) fn memory_mib(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Result<f64> {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .context("reading /proc/PID/status")?;
            let kib = line
                .split_ascii_whitespace()
                .nth(1)
                .context("reading /proc/PID/status")?;
            Ok(kib.parse::<f64>()? / 1024.0)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// The next finding it announces, as JSON, and when it arrived here. `None` after `wait` without one.
    pub(crate) fn next_finding(&self, wait: Duration) -> Option<(SystemTime, String)> {
        self.announced.recv_timeout(wait).ok()
    }

    /// Waits until its CPU time stands still: everything it was given is dealt with.
    pub(crate) fn settle(&self) -> Result<()> {
        let mut before = self.cpu_s()?;
        loop {
            thread::sleep(Duration::from_millis(500));
            let now = self.cpu_s()?;
            if now - before < 0.02 {
                return Ok(());
            }
            before = now;
        }
    }

    /// Stops it in order and returns what it wrote on standard error since it began to watch.
    pub(crate) fn stop(mut self) -> Result<String> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("the agent's pid")?;
        kill_process(pid, Signal::TERM)?;
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.stderr, &mut said)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the agent failed: {said}");
        Ok(said)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
