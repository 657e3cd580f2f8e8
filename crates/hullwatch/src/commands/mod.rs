//! One file a command.

mod audit;
mod detectors;
mod doctor;
mod findings;
mod intel;
mod replay;
mod run;
mod serve;
mod simulate;
mod token;

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use anyhow::Context;

use store::Store;

use crate::{cli::Command, print};

/// Makes the state directory where there is none. What is in it is for its owner alone: findings quote arguments.
fn make_state_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("creating the state directory {}", path.display()))
}

/// Opens the store in a state directory, and makes both where there are none. Says so when that takes long.
fn open_store(state_dir: &Path) -> anyhow::Result<Store> {
    make_state_dir(state_dir)?;
    if let Err(store::Error::OlderSchema {
        takes_long: true, ..
    }) = Store::open_read_only(state_dir)
    {
        print::warning(
            "the store is of an older version and is brought up to date now: that takes ten minutes for a million findings",
        );
    }
    Store::open(state_dir).with_context(|| format!("opening {}", state_dir.display()))
}

/// Runs a command. The number is the exit code.
pub(crate) fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Token(command) => token::run(&command),
        Command::Audit(args) => audit::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Findings(command) => findings::run(&command),
        Command::Detectors(args) => detectors::run(&args),
        Command::Intel(command) => intel::run(&command),
        Command::Replay(args) => replay::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::SelfTest(args) => crate::self_test::run(&args),
    }
}
