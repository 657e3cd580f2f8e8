//! `hullwatch intel import|list|lookup`: threat intelligence.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};
use model::provenance::Sha256;

use crate::{
    EXIT_DONE,
    cli::IntelCommand,
    indicators,
    print::{self, Cell},
};

/// The hash is not known.
const EXIT_NOT_KNOWN: u8 = 1;

pub(crate) fn run(command: &IntelCommand) -> Result<u8> {
    match command {
        IntelCommand::Import { files, state } => import(&state.state_dir, files),
        IntelCommand::List { state } => list(&state.state_dir),
        IntelCommand::Lookup { sha256, state } => lookup(&state.state_dir, sha256),
    }
}

fn import(state_dir: &Path, files: &[std::path::PathBuf]) -> Result<u8> {
    fs::create_dir_all(state_dir).with_context(|| format!("creating {}", state_dir.display()))?;
    let imported = indicators::open(state_dir)?.import(files)?;
    indicators::report_problems(&imported);
    let mut out = print::stdout();
    for list in &imported.lists {
        writeln!(
            out,
            "imported {} indicators as {}",
            list.entries,
            print::safe(&list.name)
        )?;
    }
    Ok(EXIT_DONE)
}

fn list(state_dir: &Path) -> Result<u8> {
    let rows: Vec<_> = indicators::open(state_dir)?
        .lists()
        .iter()
        .map(|list| {
            vec![
                Cell::new(&list.name),
                Cell::new(&list.entries.to_string()),
                Cell::new(
                    &list
                        .imported
                        .map_or_else(|| "-".to_owned(), |time| time.to_string()),
                ),
                Cell::new(&list.source),
            ]
        })
        .collect();
    print::table(
        &mut print::stdout(),
        &["LIST", "INDICATORS", "IMPORTED", "SOURCE"],
        &rows,
    )?;
    Ok(EXIT_DONE)
}

fn lookup(state_dir: &Path, sha256: &str) -> Result<u8> {
    let sha256 = Sha256::parse(sha256.trim())
        .with_context(|| format!("{sha256:?} is not a SHA-256 (64 hex digits)"))?;
    let matches = indicators::open(state_dir)?.lookup(&sha256);
    let mut out = print::stdout();
    for found in &matches {
        let family = found.family.as_deref().unwrap_or("no family given");
        writeln!(
            out,
            "{sha256} is known to {}: {}",
            print::safe(&found.list),
            print::safe(family)
        )?;
    }
    if matches.is_empty() {
        writeln!(out, "{sha256} is not known")?;
        return Ok(EXIT_NOT_KNOWN);
    }
    Ok(EXIT_DONE)
}
