//! Hullwatch: threat detection for running containers. One binary: the agent, and the commands to ask it.

#![forbid(unsafe_code)]

mod agent;
mod cli;
mod commands;
mod config;
mod doctor;
mod earlier;
mod indicators;
mod inventory;
mod maintenance;
mod print;
mod printer;
mod recorder;
mod recording;
mod reporter;
mod self_test;
mod signals;
mod simulate;

use std::process::ExitCode;

use clap::Parser;

/// It ran to its end.
const EXIT_DONE: u8 = 0;
/// It could not run at all.
const EXIT_COULD_NOT_RUN: u8 = 3;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) if print::is_broken_pipe(&error) => ExitCode::from(EXIT_DONE),
        Err(error) => {
            print::error(&error);
            ExitCode::from(EXIT_COULD_NOT_RUN)
        }
    }
}
