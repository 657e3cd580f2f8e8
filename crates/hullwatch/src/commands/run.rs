//! `hullwatch run`: watch every container on this machine until stopped.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use model::{
    enriched::Container,
    event::{Sensor, SensorCondition, SensorState},
    finding::FindingResult,
};
use store::Store;

use crate::{
    EXIT_DONE,
    agent::{self, Agent, Counted},
    cli::{RunArgs, RunFormat},
    commands::{make_state_dir, open_store},
    config::Config,
    doctor,
    indicators::Indicators,
    maintenance, print, printer,
    self_test::{self, SelfTest},
    signals::{SIGINT, SIGTERM, Signals},
    simulate::watcher,
};

pub(crate) fn run(args: &RunArgs) -> Result<u8> {
    print::init_logging();
    doctor::require_host_pids()?;
    let config = Config::read(args.config.as_deref())?;
    let state_dir = &args.state.state_dir;
    make_state_dir(state_dir)?;
    let _lock = watcher::Lock::take(state_dir)?;
    let store = Arc::new(open_store(state_dir)?);
    let indicators = Indicators::load(state_dir, &args.intel)?;
    let signals = Signals::register(&[SIGINT, SIGTERM])?;

    let notifier = server::notify::start(&store, &config.sinks)?;
    let server = if args.no_listen {
        None
    } else {
        serve(&store, args, &config)?
    };

    let retention = Duration::from_secs(u64::from(config.findings.retention_days) * 24 * 3600);
    let _maintenance = maintenance::start(Arc::clone(&store), indicators.reloader(), retention)?;
    let format = args.format;
    let known = indicators.len();
    let mark = self_test::Mark::new()?;
    let (announce, printer) = printer::start(move |result| print_finding(format, result))?;
    let mut agent = Agent::start(agent::Parts {
        config,
        store: Arc::clone(&store),
        scanner: Box::new(indicators.scanner()),
        indicators_changed: indicators.changed(),
        record: args.record.clone(),
        self_test: Arc::clone(&mark),
        announce,
        on_watching: Box::new(move |containers| report_watching(containers, known)),
    })?;
    for state in agent.sensor_states() {
        if state.sensor == Sensor::Perf && state.condition != SensorCondition::Running {
            mark.expect_no_loads();
        }
        report_sensor(&state);
    }

    let mut self_test = SelfTest::new(mark, state_dir);
    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let result = loop {
        let left = deadline.map_or(agent::HEARTBEAT, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() || signals.wait(left.min(agent::HEARTBEAT))? {
            break Ok(());
        }
        if let Err(error) = agent.beat() {
            break Err(error);
        }
        if let Some(result) = self_test.turn(Instant::now()) {
            agent.report_self_test(result);
        }
    };
    if result
        .as_ref()
        .is_err_and(|error| error.is::<agent::Stuck>())
    {
        // Not stopped: that would wait for the thread that waits.
        std::mem::forget(agent);
        return result.map(|()| EXIT_DONE);
    }
    drop(self_test);
    // A thread that failed says why when it is joined: that error is the cause, the other one only noticed.
    let counted = agent.stop()?;
    report_counted(&counted);
    report_unwatched(counted.sensors.mount_failures);
    report_unprinted(printer.finish());
    if let Some(server) = server {
        server.stop();
    }
    notifier.stop();
    result.map(|()| EXIT_DONE)
}

/// An unsafe address is a mistake to be mended; a taken one must not keep anybody from watching.
fn serve(store: &Arc<Store>, args: &RunArgs, config: &Config) -> Result<Option<server::Handle>> {
    match super::serve::start(store, &args.listen, config) {
        Ok(handle) => Ok(Some(handle)),
        Err(error) if matches!(error.downcast_ref(), Some(server::Error::Listen { .. })) => {
            print::warning(&format!(
                "the review page is not served: {error:#}; choose another --listen"
            ));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// One line on standard output for a new finding.
pub(crate) fn print_finding(format: RunFormat, result: &FindingResult) -> Result<()> {
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
    // Processes of one container in several mount namespaces are told of by each.
    let containers: BTreeSet<_> = containers
        .iter()
        .map(|container| (container.name.as_str(), container.id.as_str()))
        .collect();
    let names: Vec<&str> = containers.iter().map(|(name, _)| *name).collect();
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

fn report_counted(counted: &Counted) {
    let style = print::heading();
    let unhashed = match counted.unhashed {
        0 => String::new(),
        1 => "; 1 file in containers was not hashed".to_owned(),
        count => format!("; {count} files in containers were not hashed"),
    };
    let _ = writeln!(
        print::stderr(),
        "{style}stopped{style:#} after {} execs, {} lost{unhashed}",
        counted.sensors.execs,
        counted.sensors.exec_losses,
    );
}

fn report_unwatched(mounts: u64) {
    if mounts > 0 {
        print::warning(&format!(
            "{mounts} mount{} of containers could not be watched: scripts that ended at once there were not read",
            if mounts == 1 { "" } else { "s" }
        ));
    }
}

fn report_unprinted(count: u64) {
    if count > 0 {
        print::warning(&format!(
            "{count} findings were not printed, since nobody read them; they are kept: see `hullwatch findings list`"
        ));
    }
}

fn report_sensor(state: &SensorState) {
    if state.condition != SensorCondition::Running {
        print::warning(&state.detail);
    }
}
