//! `make bench`: what Hullwatch costs and how fast it is, as one table.
//!
//! Everything is measured in this run, with real containers. Costs are ratios of pairs (with the agent, without it, in
//! turn), given as their median: machines are shared and noisy. Nothing here passes or fails.

#![forbid(unsafe_code)]

mod agent;
mod container;
mod measure;
mod pages;
mod sample;
mod store;
mod work;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Measures the agent next to this program and prints one table")]
struct Cli {
    /// Pairs of each comparison; the median of an odd number is one of them
    #[arg(long, default_value_t = 9)]
    pairs: usize,
    /// Seconds of exec at the machine's full rate
    #[arg(long, default_value_t = 60)]
    flood_seconds: u64,
    /// Findings of the store whose answers are timed
    #[arg(long, default_value_t = 1_000_000)]
    findings: u64,
    /// Folder of that store, to be kept and used again
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Only the rows whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    #[command(subcommand)]
    inside: Option<Inside>,
}

#[derive(Debug, Subcommand)]
enum Inside {
    /// What runs inside the container
    #[command(hide = true)]
    Work {
        #[command(subcommand)]
        work: work::Work,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Some(Inside::Work { work }) = &cli.inside {
        return work::run(work);
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<58} {:>22}  {:>18}  workload",
        "what", "measured", "budget"
    )?;
    for (name, measure) in measure::ALL {
        if !name.contains(&cli.only) {
            continue;
        }
        writeln!(io::stderr(), "measuring: {name}")?;
        for row in measure(&measure::Settings {
            pairs: cli.pairs,
            flood_seconds: cli.flood_seconds,
            findings: cli.findings,
            store: cli.store.clone(),
        })? {
            writeln!(
                out,
                "{:<58} {:>22}  {:>18}  {}",
                row.what, row.measured, row.budget, row.workload
            )?;
            out.flush()?;
        }
    }
    Ok(())
}
