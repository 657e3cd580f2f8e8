//! `hullwatch run`: watch every container on this machine until stopped.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::DirBuilderExt, net::UnixStream},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use model::{
    enriched::Container,
    event::{SensorCondition, SensorState},
    finding::FindingResult,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use store::Store;

use crate::{
    EXIT_DONE,
    agent::{self, Agent},
    cli::{RunArgs, RunFormat},
    config::Config,
    indicators::Indicators,
    print,
    simulate::watcher,
};

pub(crate) fn run(args: &RunArgs) -> Result<u8> {
    print::init_logging();
    let config = Config::read(args.config.as_deref())?;
    let state_dir = &args.state.state_dir;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .with_context(|| format!("creating the state directory {}", state_dir.display()))?;
    let _lock = watcher::Lock::take(state_dir)?;
    let store = Arc::new(Store::open(state_dir)?);
    let indicators = Indicators::load(state_dir, &args.intel)?;
    let mut signals = Signals::register()?;

    let format = args.format;
    let known = indicators.len();
    let mut agent = Agent::start(agent::Parts {
        config,
        store,
        scanner: Box::new(indicators.scanner()),
        indicators_changed: indicators.changed(),
        record: args.record.clone(),
        announce: Box::new(move |result| announce(format, result)),
        on_watching: Box::new(move |containers| report_watching(containers, known)),
    })?;
    for state in agent.sensor_states() {
        report_sensor(&state);
    }

    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let result = loop {
        let left = deadline.map_or(agent::HEARTBEAT, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() || signals.wait(left.min(agent::HEARTBEAT))? {
            break Ok(());
        }
        indicators.reload_if_changed();
        if let Err(error) = agent.beat() {
            break Err(error);
        }
    };
    // A thread that failed says why when it is joined: that error is the cause, the other one only noticed.
    let counters = agent.stop()?;
    report_counters(&counters);
    result.map(|()| EXIT_DONE)
}

/// One line on standard output for a new finding.
pub(crate) fn announce(format: RunFormat, result: &FindingResult) -> Result<()> {
    let mut out = print::stdout();
    match format {
        RunFormat::Human => writeln!(out, "{}", super::findings::line(result))?,
        RunFormat::Json => {
            serde_json::to_writer(&mut out, result)?;
            writeln!(out)?;
        }
    }
    out.flush().context("writing to standard output")
}

fn report_watching(containers: &[Arc<Container>], indicators: u64) {
    let names: Vec<&str> = containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    let running = match names.len() {
        0 => "no container runs yet".to_owned(),
        1..=5 => format!("running now: {}", print::safe(&names.join(", "))),
        count => format!("{count} containers run now"),
    };
    let style = print::heading();
    let _ = writeln!(
        print::stderr(),
        "{style}watching{style:#} every container on this machine; {running}; {indicators} indicators"
    );
}

fn report_counters(counters: &sensor_ebpf::Counters) {
    let style = print::heading();
    let _ = writeln!(
        print::stderr(),
        "{style}stopped{style:#} after {} execs, {} lost; {} programs whose bytes could not be had",
        counters.execs,
        counters.exec_losses,
        counters.files_missing,
    );
}

fn report_sensor(state: &SensorState) {
    if state.condition != SensorCondition::Running {
        print::warning(&state.detail);
    }
}

/// SIGINT and SIGTERM, as something that can be waited for.
struct Signals {
    stream: UnixStream,
}

impl Signals {
    fn register() -> Result<Self> {
        let (stream, write) = UnixStream::pair().context("making a socket pair for signals")?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)
                .context("handling signals")?;
        }
        Ok(Self { stream })
    }

    /// Waits for a signal. True when one came.
    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(timeout))?;
        match self.stream.read(&mut [0; 8]) {
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock
                | std::io::ErrorKind::TimedOut
                | std::io::ErrorKind::Interrupted => Ok(false),
                _ => Err(error).context("waiting for signals"),
            },
        }
    }
}
