//! `hullwatch intel import|list|lookup`: threat intelligence.

use std::{io::Write, path::Path};

use anyhow::{Context, Result};
use model::provenance::Sha256;

use crate::{
    EXIT_DONE,
    cli::IntelCommand,
    commands::make_state_dir,
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
    make_state_dir(state_dir)?;
    let imported = indicators::open(state_dir)?.import(files)?;
    indicators::report_problems(&imported);
    let mut out = print::stdout();
    for list in &imported.lists {
        let before = imported.replaced.iter().find(|old| old.name == list.name);
        let replaces = before.map_or(String::new(), |old| {
            let source = print::safe(&old.source);
            format!(", replaces {} indicators of {source}", old.entries)
        });
        writeln!(
            out,
            "imported {} indicators as {}{replaces}",
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
