//! `hullwatch replay FILE`: findings from a recording, without root, a kernel or a container.

use std::{fs::File, io::BufReader};

use anyhow::{Context, Result};
use model::finding::FindingResult;
use store::{Outcome, Store};

use crate::{
    EXIT_DONE,
    cli::{ReplayArgs, RunFormat},
    config::Config,
    print,
    reporter::Reporter,
};

/// Some lines of the recording could not be read; the findings of the others were printed.
const EXIT_IN_PART: u8 = 1;

pub(crate) fn run(args: &ReplayArgs) -> Result<u8> {
    let config = Config::read(args.config.as_deref())?;
    let path = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("opening {path}"))?;
    let events =
        model::recording::read(BufReader::new(file)).with_context(|| format!("in {path}"))?;
    // Folding is the store's: the same code as in a live watch, over a store that lasts as long as the replay.
    let directory = tempfile::tempdir().context("making a temporary store")?;
    let store = Store::open(directory.path())?;
    let mut reporter = Reporter::new(config.detection, config.naming);
    let mut code = EXIT_DONE;
    for event in events {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                print::warning(&format!("{path}: {:#}", anyhow::Error::from(error)));
                code = EXIT_IN_PART;
                continue;
            }
        };
        for result in reporter.findings(&event, |_| Vec::new()) {
            keep(&store, &result, args.format)?;
        }
    }
    for result in reporter.repeats(None, |_| Vec::new()) {
        keep(&store, &result, args.format)?;
    }
    Ok(code)
}

fn keep(store: &Store, result: &FindingResult, format: RunFormat) -> Result<()> {
    let recorded = store.record(std::slice::from_ref(result))?;
    if recorded
        .iter()
        .any(|recorded| !matches!(recorded.outcome, Outcome::Repeat { .. }))
    {
        super::run::print_finding(format, result)?;
    }
    Ok(())
}
