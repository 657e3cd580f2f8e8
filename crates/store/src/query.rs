//! Listing and getting findings.

use model::finding::FindingResult;
use rusqlite::{OptionalExtension, params};

use crate::name::FindingName;
use crate::{Error, Store};

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// `SCOPE/sources/S[/locations/L]`; empty for everything.
    pub parent: String,
    /// SCC filter; empty for everything.
    pub filter: String,
    /// SCC order, e.g. `category, event_time desc`; empty for the newest first.
    pub order_by: String,
    /// 0 for the default, at most [`PAGE_SIZE_MAX`].
    pub page_size: u32,
    /// Empty for the first page.
    pub page_token: String,
}

/// Page size when the query gives none. SCC's.
pub const PAGE_SIZE_DEFAULT: u32 = 10;

/// Largest page. SCC's.
pub const PAGE_SIZE_MAX: u32 = 1000;

/// One page of findings.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The findings.
    pub results: Vec<FindingResult>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// All that match the query, on any page.
    pub total_size: u64,
}

impl Store {
    /// One page of the findings that match.
    pub fn list(&self, query: &Query) -> Result<Page, Error> {
        let size = match query.page_size {
            0 => PAGE_SIZE_DEFAULT,
            size => size.min(PAGE_SIZE_MAX),
        };
        self.database.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT d.body FROM posting p JOIN document d ON d.finding_id = p.finding_id WHERE p.term_id = 0 \
                 ORDER BY p.event_time DESC, p.finding_id DESC LIMIT $1",
            )?;
            let bodies = statement.query_map(params![size], |row| row.get::<_, String>(0))?;
            let mut page = Page::default();
            for body in bodies {
                page.results.push(serde_json::from_str(&body?)?);
            }
            let total: i64 = db.query_row("SELECT count(*) FROM finding", [], |row| row.get(0))?;
            page.total_size = total.unsigned_abs();
            Ok(page)
        })
    }

    /// The finding of this name, with or without location.
    pub fn get(&self, name: &str) -> Result<FindingResult, Error> {
        let parsed = FindingName::parse(name)?;
        self.database.read(|db| {
            let body: Option<String> = db
                .prepare_cached(
                    "SELECT d.body FROM finding f JOIN term t ON t.id = f.parent_id \
                     JOIN document d ON d.finding_id = f.id WHERE f.key = $1 AND t.value = $2",
                )?
                .query_row(params![parsed.key, parsed.parent.to_string()], |row| {
                    row.get(0)
                })
                .optional()?;
            let body = body.ok_or_else(|| Error::NotFound(name.to_owned()))?;
            Ok(serde_json::from_str(&body)?)
        })
    }
}
