//! `hullwatch audit`: who changed what, and who signed in.

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use store::{AuditEntry, Store};

use crate::{
    EXIT_DONE,
    cli::{AuditArgs, TableFormat},
    print::{self, Cell},
};

/// Entries read from the store at a time.
const PAGE_SIZE: u32 = 1000;

pub(crate) fn run(args: &AuditArgs) -> Result<u8> {
    let log = all(&Store::open_read_only(&args.state.state_dir)?)?;
    let mut out = print::stdout();
    match args.format {
        TableFormat::Json => {
            let entries: Vec<_> = log
                .iter()
                .map(|entry| {
                    json!({
                        "time": entry.time,
                        "who": entry.who,
                        "action": entry.action,
                        "target": entry.target,
                        "detail": entry.detail,
                    })
                })
                .collect();
            serde_json::to_writer_pretty(&mut out, &json!({ "entries": entries }))?;
            writeln!(out)?;
        }
        TableFormat::Table if log.is_empty() => {
            writeln!(print::stderr(), "Nothing is in the audit log.")?;
        }
        TableFormat::Table => {
            let rows: Vec<_> = log.iter().map(row).collect();
            print::table(
                &mut out,
                &["TIME", "WHO", "DID", "TO OR FROM", "WITH"],
                &rows,
            )?;
        }
    }
    Ok(EXIT_DONE)
}

/// The newest first.
fn all(store: &Store) -> Result<Vec<AuditEntry>> {
    let mut log = Vec::new();
    let mut before = i64::MAX;
    loop {
        let page = store.audit_log(before, PAGE_SIZE)?;
        let Some(last) = page.last() else {
            return Ok(log);
        };
        before = last.id;
        log.extend(page);
    }
}

fn row(entry: &AuditEntry) -> Vec<Cell> {
    let detail = if entry.detail.is_null() {
        "-".to_owned()
    } else {
        entry.detail.to_string()
    };
    let who = if entry.who.is_empty() {
        "-"
    } else {
        &entry.who
    };
    vec![
        Cell::new(&entry.time.to_string()),
        Cell::new(who),
        Cell::new(&entry.action),
        Cell::new(&entry.target),
        Cell::new(&detail),
    ]
}
