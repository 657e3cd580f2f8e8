//! `hullwatch doctor`: what this host can do, and what each missing thing costs.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;

use crate::{
    cli::{DoctorArgs, TableFormat},
    doctor::{self, Check, Status},
    print,
};

/// Something that watching can do without is missing.
const EXIT_IN_PART: u8 = 1;
/// Watching is not possible.
const EXIT_NOT_AT_ALL: u8 = 3;

#[derive(Serialize)]
struct Report<'a> {
    /// `full`, `partial` or `none`.
    watching: &'static str,
    checks: &'a [Check],
}

pub(crate) fn run(args: &DoctorArgs) -> Result<u8> {
    let checks = doctor::examine();
    let worst = checks
        .iter()
        .map(|check| check.status)
        .max()
        .unwrap_or(Status::Ok);
    let (watching, sentence, code) = match worst {
        Status::Ok | Status::Note => ("full", "This host can be watched in full.", 0),
        Status::Degraded => (
            "partial",
            "This host can be watched, but not all of it is seen.",
            EXIT_IN_PART,
        ),
        Status::Failed => ("none", "This host cannot be watched.", EXIT_NOT_AT_ALL),
    };
    let mut out = print::stdout();
    match args.format {
        TableFormat::Json => {
            serde_json::to_writer_pretty(
                &mut out,
                &Report {
                    watching,
                    checks: &checks,
                },
            )?;
            writeln!(out)?;
        }
        TableFormat::Table => {
            table(&mut out, &checks)?;
            writeln!(
                out,
                "\n{}{sentence}{:#}",
                print::heading(),
                print::heading()
            )?;
        }
    }
    Ok(code)
}

fn table(out: &mut impl Write, checks: &[Check]) -> Result<()> {
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            let (word, style) = shown(check.status);
            vec![
                print::Cell::styled(word, style),
                print::Cell::new(check.name),
                print::Cell::new(&check.found),
            ]
        })
        .collect();
    print::table(out, &["", "WHAT", "FOUND"], &rows)?;
    for check in checks.iter().filter(|check| check.cost.is_some()) {
        let (_, style) = shown(check.status);
        writeln!(
            out,
            "\n{style}{}{style:#}: {}",
            print::safe(check.name),
            print::safe(check.cost.unwrap_or_default())
        )?;
        if let Some(advice) = check.advice {
            writeln!(out, "  {}", print::safe(advice))?;
        }
    }
    Ok(())
}

fn shown(status: Status) -> (&'static str, Style) {
    let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
    match status {
        Status::Ok => ("ok", color(AnsiColor::Green)),
        Status::Note => ("-", Style::new().dimmed()),
        Status::Degraded => ("partly", color(AnsiColor::Yellow)),
        Status::Failed => ("missing", color(AnsiColor::Red).bold()),
    }
}
