//! The measurements, one function a budget.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use detect::samples;
use enrich::hash::{Block, Cache};
use tempfile::TempDir;

use crate::{
    agent::Agent,
    container::{Container, copy_tree},
    work,
};

/// How thorough to be.
pub(crate) struct Settings {
    /// Pairs of each comparison.
    pub(crate) pairs: usize,
    /// Seconds of the flood.
    pub(crate) flood_seconds: u64,
    /// Findings of the store.
    pub(crate) findings: u64,
    /// Where the store is kept from run to run.
    pub(crate) store: Option<PathBuf>,
}

/// One row of the table.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) measured: String,
    pub(crate) budget: &'static str,
    pub(crate) workload: String,
}

type Measure = fn(&Settings) -> Result<Vec<Row>>;

/// All of them, in the order of the table.
pub(crate) const ALL: &[(&str, Measure)] = &[
    ("build", build),
    ("storm", storms),
    ("flood", flood),
    ("latency", latency),
    ("hash", hash),
    ("cpu", cpu),
    ("memory", memory),
    ("idle", idle),
    ("store", crate::store::measure),
];

/// Execs of one storm: about a second of `/bin/true` on one core.
const TRUE_COUNT: u32 = 2_000;

/// The same for the static no-op.
const NOOP_COUNT: u32 = 8_000;

pub(crate) fn row(
    what: &str,
    measured: String,
    budget: &'static str,
    workload: impl Into<String>,
) -> Row {
    Row {
        what: what.to_owned(),
        measured,
        budget,
        workload: workload.into(),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(&values, 50)
}

/// Of sorted values.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len().saturating_sub(1) * percent).div_ceil(100);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// This program's path inside the containers, whose image is the host's root.
fn inside() -> Result<String> {
    Ok(std::env::current_exe()?.display().to_string())
}

fn work(container: &Container, arguments: &[&str]) -> Result<f64> {
    let program = inside()?;
    let mut command = vec![program.as_str(), "work"];
    command.extend(arguments);
    Ok(container.run(&command)?.trim().parse()?)
}

/// A directory for one agent's state.
fn state_dir() -> Result<TempDir> {
    tempfile::tempdir().context("making a state directory")
}

/// Runs of a workload after the first, of which the median counts: on a shared machine a single one of a second or two is
/// often off by a tenth.
const RUNS_AGAIN: usize = 5;

/// Medians of the pairs' ratios.
struct Ratios {
    /// Of the first run after the agent was started.
    first: f64,
    /// Of those after it, when caches are warm for both sides.
    again: f64,
}

/// Runs the workload without and with the agent, in turn.
fn ratios(settings: &Settings, workload: impl Fn() -> Result<f64>) -> Result<Ratios> {
    let state = state_dir()?;
    workload()?;
    let runs = || -> Result<[f64; 2]> {
        let first = workload()?;
        let again: Result<Vec<f64>> = (0..RUNS_AGAIN).map(|_| workload()).collect();
        Ok([first, median(again?)])
    };
    let mut ratios = [Vec::new(), Vec::new()];
    for pair in 0..settings.pairs {
        let with = || -> Result<[f64; 2]> {
            let agent = Agent::start(state.path(), &[])?;
            agent.settle()?;
            let times = runs()?;
            agent.stop()?;
            Ok(times)
        };
        // The order changes from pair to pair, so that a machine that slows down or speeds up favors neither.
        let (with, without) = if pair % 2 == 0 {
            let with = with()?;
            (with, runs()?)
        } else {
            let without = runs()?;
            (with()?, without)
        };
        for ((ratios, with), without) in ratios.iter_mut().zip(with).zip(without) {
            ratios.push(with / without);
        }
    }
    let [first, again] = ratios.map(median);
    Ok(Ratios { first, again })
}

fn build(settings: &Settings) -> Result<Vec<Row>> {
    let sources = zlib_sources()?;
    let container = Container::new("bench-build")?;
    let Ratios { first, again } = ratios(settings, || {
        let directory = container.path("/tmp/zlib");
        let _ = fs::remove_dir_all(&directory);
        copy_tree(&sources, &directory)?;
        work(&container, &["build", "/tmp/zlib"])
    })?;
    let workload = format!(
        "configure and make of zlib in runc, {} pairs of {RUNS_AGAIN}",
        settings.pairs
    );
    Ok(vec![
        row(
            "a real build, with the agent / without",
            format!("{again:.3}"),
            "1.03, goal 1.015",
            workload,
        ),
        row(
            "the same, the first one that the agent sees",
            format!("{first:.3}"),
            "",
            "compilers and tools are hashed during it",
        ),
    ])
}

/// The sources of zlib that come with the package `libbpf-sys`.
fn zlib_sources() -> Result<PathBuf> {
    // What other platforms need was not downloaded to build this.
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--offline"])
        .args(["--filter-platform", "host-tuple"])
        .output()
        .context("running cargo")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {complaint}");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("reading cargo metadata")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == "libbpf-sys")
        .context("libbpf-sys is not there")?;
    let manifest = Path::new(
        package["manifest_path"]
            .as_str()
            .context("reading cargo metadata")?,
    );
    Ok(manifest.with_file_name("zlib"))
}

/// A static program that only exits, in the container's image.
fn noop(container: &Container) -> Result<String> {
    write_program(
        &container.path("/tmp/noop"),
        &samples::ORDINARY_PROGRAM.bytes(),
    )?;
    Ok("/tmp/noop".to_owned())
}

fn write_program(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, bytes)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

fn storms(settings: &Settings) -> Result<Vec<Row>> {
    let container = Container::new("bench-storm")?;
    let noop = noop(&container)?;
    let script = "/tmp/script";
    fs::write(container.path(script), "exit 0\n")?;
    let mut rows = Vec::new();
    for (name, command, count, budget) in [
        ("/bin/true", &["/bin/true"][..], TRUE_COUNT, "1.05"),
        ("a static no-op", &[&noop], NOOP_COUNT, "1.10"),
        ("`sh` with a script", &["/bin/sh", script], TRUE_COUNT, "-"),
    ] {
        let count = count.to_string();
        let args = [&["storm", &count][..], command].concat();
        let Ratios { again, .. } = ratios(settings, || work(&container, &args))?;
        let workload = format!(
            "{count} times, one after the other, in a container that runs for a second, {} pairs of {RUNS_AGAIN}",
            settings.pairs
        );
        rows.push(row(
            &format!("storm of {name}, with / without"),
            format!("{again:.3}"),
            budget,
            workload,
        ));
    }
    Ok(rows)
}

/// What a flood was and what the agent made of it.
struct Flood {
    executed: f64,
    seen: f64,
    lost: f64,
    was_found: bool,
    /// MiB before, and at its highest.
    memory: (f64, f64),
}

/// Two processes that do `work`, which prints how many programs it ran, and one malicious program after `half` seconds.
fn run_flood(container: &Container, work: &str, half: u64) -> Result<Flood> {
    let state = state_dir()?;
    let agent = Agent::start(state.path(), &[])?;
    let program = inside()?;
    let script =
        format!("{program} work {work} & {program} work {work} & sleep {half}; /tmp/known; wait");
    agent.settle()?;
    let (before, _) = agent.memory_mib()?;
    let output = container.run(&["/bin/sh", "-c", &script])?;
    agent.settle()?;
    let (_, peak) = agent.memory_mib()?;
    let said = agent.stop()?;
    Ok(Flood {
        executed: output
            .lines()
            .filter_map(|line| line.trim().parse::<f64>().ok())
            .sum(),
        seen: number_before(&said, "execs").context("the agent did not say what it saw")?,
        lost: number_before(&said, "lost").context("the agent did not say what it lost")?,
        was_found: findings(state.path())?.contains(&samples::ADDED_PROGRAM.sha256().to_string()),
        memory: (before, peak),
    })
}

/// A static no-op as fast as the machine allows, and a malicious program in the middle of it.
fn flood(settings: &Settings) -> Result<Vec<Row>> {
    let container = Container::new("bench-flood")?;
    let noop = noop(&container)?;
    write_program(
        &container.path("/tmp/known"),
        &samples::ADDED_PROGRAM.bytes(),
    )?;
    // The execs of runc, the shell, the workers and the agent's own test are seen as well: a slow run of the same script
    // tells their number.
    let slow = run_flood(&container, &format!("paced {noop} 10 10"), 5)?;
    let others = slow.seen + slow.lost - slow.executed;
    let seconds = settings.flood_seconds;
    let Flood {
        executed,
        seen,
        lost,
        was_found,
        memory: (memory_before, memory_peak),
    } = run_flood(&container, &format!("rate {noop} {seconds}"), seconds / 2)?;
    let found = was_found;
    let workload = format!("static no-op by two processes for {seconds} s: {executed:.0} execs");
    let rate = executed / seconds as f64;
    Ok(vec![
        row(
            "flood: execs a second",
            format!("{rate:.0}"),
            "",
            workload.clone(),
        ),
        row(
            "flood: execs neither seen nor counted as lost",
            format!("{:.0}", executed + others - seen - lost),
            "0",
            format!("{seen:.0} seen, {lost:.0} lost; {others:.0} others ran"),
        ),
        row(
            "flood: execs lost",
            format!("{lost:.0}"),
            "goal 0",
            workload.clone(),
        ),
        row(
            "flood: the one malicious program was found",
            found.to_string(),
            "true",
            workload.clone(),
        ),
        row(
            "flood: memory, start and peak (MiB)",
            format!("{memory_before:.0} / {memory_peak:.0}"),
            "bounded",
            workload,
        ),
    ])
}

/// The number that stands before a word in what the agent said when it stopped.
fn number_before(text: &str, word: &str) -> Option<f64> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let position = words
        .iter()
        .position(|found| found.trim_end_matches([',', ';']) == word)?;
    words.get(position.checked_sub(1)?)?.parse().ok()
}

fn findings(state_dir: &Path) -> Result<String> {
    let program = std::env::current_exe()?.with_file_name("hullwatch");
    let output = Command::new(program)
        .args(["findings", "list", "--format", "json", "--state-dir"])
        .arg(state_dir)
        .output()?;
    ensure!(output.status.success(), "hullwatch findings list failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// From just before the exec to the finding's line on the agent's standard output, which follows the commit.
fn latency(_: &Settings) -> Result<Vec<Row>> {
    const COUNT: u32 = 200;
    const SIZE: usize = 1024 * 1024;
    let container = Container::new("bench-latency")?;
    let sample = samples::ORDINARY_PROGRAM.bytes();
    fs::write(container.path("/tmp/sample"), &sample)?;
    let state = state_dir()?;
    let list = state.path().join("list.txt");
    let hashes: Vec<String> = (0..COUNT)
        .map(|number| sha256(&work::numbered(&sample, SIZE, number)))
        .collect::<Result<_>>()?;
    fs::write(&list, hashes.join("\n"))?;
    let list = list.display().to_string();
    let agent = Agent::start(state.path(), &["--intel", &list])?;
    let program = inside()?;
    let output = container.run(&[
        &program,
        "work",
        "drop",
        "/tmp/sample",
        "/tmp/dropped",
        &SIZE.to_string(),
        &COUNT.to_string(),
    ])?;
    let mut started = HashMap::new();
    for line in output.lines() {
        let (path, time) = line
            .split_once(' ')
            .context("reading what the container printed")?;
        started.insert(path.to_owned(), time.parse::<u128>()?);
    }
    let (mut times_ms, mut first_ms) = (Vec::new(), f64::NAN);
    while let Some((arrived, finding)) = agent.next_finding(Duration::from_secs(2)) {
        let finding: serde_json::Value = serde_json::from_str(&finding)?;
        let path = finding["finding"]["processes"][0]["binary"]["path"]
            .as_str()
            .unwrap_or_default();
        if let Some(start) = started.remove(path) {
            let took = arrived
                .duration_since(UNIX_EPOCH)?
                .as_nanos()
                .saturating_sub(start);
            let took_ms = took as f64 / 1e6;
            if path.ends_with("/0") {
                first_ms = took_ms;
            } else {
                times_ms.push(took_ms);
            }
        }
    }
    agent.stop()?;
    times_ms.sort_by(f64::total_cmp);
    let measured = format!(
        "{:.1} / {:.1} ms",
        percentile(&times_ms, 50),
        percentile(&times_ms, 99)
    );
    let workload = format!(
        "{COUNT} programs of 1 MiB, dropped and run; {} not found",
        started.len()
    );
    let (disk_50, disk_99) = disk(state.path())?;
    Ok(vec![
        row(
            "exec to finding stored, median / 99th percentile",
            measured,
            "10 / 50 ms",
            workload,
        ),
        row(
            "the first one in a new container",
            format!("{first_ms:.0} ms"),
            "",
            "its image is the host's whole root, of which a part is listed first",
        ),
        row(
            "what the disk alone takes for a commit, likewise",
            format!("{disk_50:.1} / {disk_99:.1} ms"),
            "",
            "fdatasync after 16 KiB, 200 times, ten a second",
        ),
    ])
}

/// Median and 99th percentile of making a small write durable, in milliseconds.
fn disk(directory: &Path) -> Result<(f64, f64)> {
    let file = fs::File::create(directory.join("disk"))?;
    let mut times = Vec::new();
    for number in 0..200_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 16 * 1024], number % 64 * 16 * 1024)?;
        let begin = Instant::now();
        file.sync_data()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(100));
    }
    times.sort_by(f64::total_cmp);
    Ok((percentile(&times, 50), percentile(&times, 99)))
}

fn sha256(bytes: &[u8]) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), bytes)?;
    openssl_sha256(file.path())
}

fn openssl_sha256(path: &Path) -> Result<String> {
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-r"])
        .arg(path)
        .output()?;
    ensure!(output.status.success(), "openssl failed");
    Ok(String::from_utf8(output.stdout)?
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// The whole-file hash as the agent computes it, beside `openssl dgst`.
fn hash(settings: &Settings) -> Result<Vec<Row>> {
    const MIB: usize = 256;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), vec![b'a'; MIB * 1024 * 1024])?;
    let mut ratios = Vec::new();
    for _ in 0..settings.pairs {
        let begin = Instant::now();
        let ours = hash_file(file.path())?;
        let our_time = begin.elapsed();
        let begin = Instant::now();
        let theirs = openssl_sha256(file.path())?;
        ensure!(ours == theirs, "the hashes differ");
        ratios.push(our_time.as_secs_f64() / begin.elapsed().as_secs_f64());
    }
    let workload = format!("{MIB} MiB in the page cache, {} pairs", settings.pairs);
    let measured = format!("{:.2}", median(ratios));
    Ok(vec![row(
        "whole-file hash / openssl dgst -sha256",
        measured,
        "1.3",
        workload,
    )])
}

fn hash_file(path: &Path) -> Result<String> {
    let file = fs::File::open(path)?;
    let content = enrich::hash::read_whole(file.into(), &Cache::default(), &mut Block::default())
        .map_err(|reason| anyhow::anyhow!(reason.text()))?;
    Ok(content.sha256.to_string())
}

fn cpu(_: &Settings) -> Result<Vec<Row>> {
    let container = Container::new("bench-cpu")?;
    let state = state_dir()?;
    let agent = Agent::start(state.path(), &[])?;
    work(&container, &["rate", "/bin/true", "1"])?;
    agent.settle()?;
    let before = agent.cpu_s()?;
    let count = work(&container, &["rate", "/bin/true", "10"])?;
    agent.settle()?;
    let used = (agent.cpu_s()? - before) * 100_000.0 / count;
    let before = agent.cpu_s()?;
    const SECONDS: u32 = 20;
    // An exec of a dynamic program is five events: fork, exec, two loads, exit.
    work(
        &container,
        &["paced", "/bin/true", "220", &SECONDS.to_string()],
    )?;
    let share = (agent.cpu_s()? - before) / f64::from(SECONDS);
    agent.stop()?;
    Ok(vec![
        row(
            "agent CPU for 100,000 execs of /bin/true",
            format!("{used:.2} s"),
            "4 s",
            format!("{count:.0} execs in runc"),
        ),
        row(
            "agent CPU at 1,100 ordinary events a second",
            format!("{share:.3} cores"),
            "0.1 cores",
            format!("220 execs of /bin/true a second for {SECONDS} s"),
        ),
    ])
}

fn memory(_: &Settings) -> Result<Vec<Row>> {
    let state = state_dir()?;
    let agent = Agent::start(state.path(), &[])?;
    agent.settle()?;
    let (idle, _) = agent.memory_mib()?;
    agent.stop()?;
    let list = state.path().join("million.txt");
    let lines: Vec<String> = (0..1_000_000_u64)
        .map(|number| format!("{number:064x}"))
        .collect();
    fs::write(&list, lines.join("\n"))?;
    let program = std::env::current_exe()?.with_file_name("hullwatch");
    let output = Command::new(program)
        .args(["intel", "import"])
        .arg(&list)
        .arg("--state-dir")
        .arg(state.path())
        .output()?;
    ensure!(output.status.success(), "hullwatch intel import failed");
    let agent = Agent::start(state.path(), &[])?;
    agent.settle()?;
    let (million, _) = agent.memory_mib()?;
    agent.stop()?;
    Ok(vec![
        row(
            "resident memory, idle",
            format!("{idle:.0} MiB"),
            "40 MiB",
            "no container, built-in indicators",
        ),
        row(
            "resident memory, a million indicators",
            format!("{million:.0} MiB"),
            "64 MiB",
            "imported with intel import",
        ),
    ])
}

fn idle(_: &Settings) -> Result<Vec<Row>> {
    const SECONDS: u64 = 30;
    let state = state_dir()?;
    let agent = Agent::start(state.path(), &[])?;
    // The self-test of the start, and the hashing of what it runs, are over by then. The next one is ten minutes later.
    thread::sleep(Duration::from_secs(10));
    agent.settle()?;
    let before = agent.cpu_s()?;
    thread::sleep(Duration::from_secs(SECONDS));
    let share = (agent.cpu_s()? - before) / SECONDS as f64 * 100.0;
    agent.stop()?;
    Ok(vec![row(
        "idle CPU",
        format!("{share:.2} % of a core"),
        "0.2 %",
        format!("{SECONDS} s without containers"),
    )])
}
