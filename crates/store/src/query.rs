//! Listing and getting findings.

use std::collections::BTreeSet;

use model::finding::FindingResult;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;

use crate::aggregate::selected;
use crate::fields::enumerations;
use crate::layout::HELD_AS_NUMBERS;
use crate::name::FindingName;
use crate::page::{self, Token};
use crate::select::{Selection, collect};
use crate::sql::Sql;
use crate::terms::is_long;
use crate::{Error, Store, document, order};

/// Values of a field that are compared whatever their case: some 50 ms.
const FOLDED_MAX: i64 = 50_000;

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

/// Bytes of the stored findings of one page, the last one aside. A full page of common ones has five megabytes; what the
/// answer is made of takes several times as much.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One page of findings.
#[derive(Clone, Debug, Default)]
pub struct Page<T = FindingResult> {
    /// The findings.
    pub results: Vec<T>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// All that match the query, on any page, when the first page was read.
    pub total_size: u64,
}

impl Store {
    /// One page of the findings that match, see [`Store::list_json`].
    pub fn list(&self, query: &Query) -> Result<Page, Error> {
        self.page_of(query)
    }

    /// One page of the findings that match, as JSON of [`FindingResult`]. A page token stays valid while findings arrive; a finding that changes its
    /// place in the order between two pages can be on both or on none: by `create_time` none does. A page of more than
    /// [`PAGE_BYTES_MAX`] ends early.
    pub fn list_json(&self, query: &Query) -> Result<Page<serde_json::Value>, Error> {
        self.page_of(query)
    }

    fn page_of<T: DeserializeOwned>(&self, query: &Query) -> Result<Page<T>, Error> {
        let order = page::parse_order(&query.order_by)?;
        let identity = [query.parent.as_str(), &query.filter, &query.order_by];
        let token = Token::read(&query.page_token, &identity)?;
        let size = page_size(query.page_size) as usize;
        self.database.read(|db| {
            let selection =
                Selection::new(db, self.database.cache(), &query.parent, &query.filter)?;
            let page = |size| {
                order::page(
                    db,
                    self.database.cache(),
                    &selection,
                    &order,
                    token.as_ref(),
                    size,
                )
            };
            let mut found = page(size)?;
            let mut results = Vec::with_capacity(found.positions.len());
            let mut bytes = 0;
            for (_, id) in &found.positions {
                let body = body(db, *id)?.ok_or(Error::Damaged)?;
                bytes += body.len();
                results.push(serde_json::from_str(&body)?);
                if bytes > PAGE_BYTES_MAX {
                    break;
                }
            }
            if results.len() < found.positions.len() {
                // The shorter page knows where the next one begins.
                found = page(results.len())?;
            }
            let next_page_token = match (found.last, found.positions.last()) {
                (Some(keys), Some(position)) => Token::new(
                    &identity,
                    keys.iter().map(to_json).collect(),
                    *position,
                    found.total,
                )
                .to_string(),
                _ => String::new(),
            };
            Ok(Page {
                results,
                next_page_token,
                total_size: found.total.unsigned_abs(),
            })
        })
    }

    /// The finding of this name, with or without location.
    pub fn get(&self, name: &str) -> Result<FindingResult, Error> {
        let parsed = FindingName::parse(name)?;
        self.database.read(|db| {
            let id: Option<i64> = db
                .prepare_cached(
                    "SELECT f.id FROM finding f JOIN term t ON t.id = f.parent_id WHERE f.key = $1 AND t.value = $2",
                )?
                .query_row(params![parsed.key, parsed.parent.to_string()], |row| row.get(0))
                .optional()?;
            let found = id.map(|id| document(db, id)).transpose()?.flatten();
            found.ok_or_else(|| Error::NotFound(name.to_owned()))
        })
    }

    /// The findings, of any source, whose id begins with this: at most two, which is enough to know that there are several.
    pub fn by_id_prefix(&self, prefix: &str) -> Result<Vec<FindingResult>, Error> {
        self.database.read(|db| {
            // Ids are letters and digits: the last character of ASCII is after all of them.
            let ids: Vec<i64> = db
                .prepare_cached("SELECT id FROM finding WHERE key >= $1 AND key < $2 LIMIT 2")?
                .query_map([prefix, &format!("{prefix}\u{7f}")], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let found = ids.iter().filter_map(|id| document(db, *id).transpose());
            found.collect()
        })
    }
}

/// Findings that [`Store::ids_in_order`] takes. Sorting takes some hundred bytes of each.
pub const IDS_IN_ORDER_MAX: usize = 100_000;

/// A finding among those of [`Store::ids`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindingId(i64);

impl Store {
    /// All findings that match at one moment, the one made last first: to be read in pieces by [`Store::findings`], while
    /// others come and change their place in time. Eight bytes each.
    pub fn ids(&self, parent: &str, filter: &str) -> Result<Vec<FindingId>, Error> {
        self.database.read(|db| {
            let selection = Selection::new(db, self.database.cache(), parent, filter)?;
            let mut ids = Vec::new();
            for (batch, bits) in selected(db, self.database.cache(), &selection)? {
                ids.extend(bits.iter().map(|offset| FindingId(batch.id(offset))));
            }
            // Ids ascend as findings are made.
            ids.sort_unstable_by_key(|id| std::cmp::Reverse(id.0));
            Ok(ids)
        })
    }

    /// The same in an order, of at most [`IDS_IN_ORDER_MAX`] findings.
    pub fn ids_in_order(
        &self,
        parent: &str,
        filter: &str,
        order_by: &str,
    ) -> Result<Vec<FindingId>, Error> {
        let order = page::parse_order(order_by)?;
        self.database.read(|db| {
            let selection = Selection::new(db, self.database.cache(), parent, filter)?;
            let cache = self.database.cache();
            let found = order::page(db, cache, &selection, &order, None, IDS_IN_ORDER_MAX)?;
            if found.last.is_some() {
                return Err(Error::invalid(
                    "order_by",
                    format!(
                        "more than {IDS_IN_ORDER_MAX} findings are not put in an order: narrow the filter, or give no order"
                    ),
                ));
            }
            let ids = found.positions.into_iter();
            Ok(ids.map(|(_, id)| FindingId(id)).collect())
        })
    }

    /// The first of these findings as they are now, up to [`PAGE_BYTES_MAX`], and how many of the ids these were. Those that
    /// were removed are left out.
    pub fn findings(&self, ids: &[FindingId]) -> Result<(Vec<FindingResult>, usize), Error> {
        self.database.read(|db| {
            let mut found = Vec::with_capacity(ids.len());
            let mut bytes = 0;
            for (taken, id) in (1..).zip(ids) {
                if let Some(body) = body(db, id.0)? {
                    bytes += body.len();
                    found.push(serde_json::from_str(&body)?);
                }
                if bytes > PAGE_BYTES_MAX {
                    return Ok((found, taken));
                }
            }
            Ok((found, ids.len()))
        })
    }
}

impl Store {
    /// Values of a field that begin with a text, in order: for completion in an editor. None of a field of long texts, such as
    /// `description`; of one with very many values, those that differ from the text in case may be missing.
    pub fn values(&self, field: &str, beginning: &str, limit: u32) -> Result<Vec<String>, Error> {
        let path = crate::filter::field_path(field)?;
        let limit = limit.min(PAGE_SIZE_MAX);
        let beginning_lower = beginning.to_lowercase();
        if let Some((_, names)) = enumerations().find(|(known, _)| *known == path) {
            let matches = |name: &&&str| name.to_lowercase().starts_with(&beginning_lower);
            return Ok(names
                .iter()
                .filter(matches)
                .map(|name| (*name).to_owned())
                .collect());
        }
        let path = crate::fields::find(&path).map_or(path, |found| found.path);
        if is_long(&path) {
            return Ok(Vec::new());
        }
        self.database.read(|db| {
            let mut exact = Sql::default();
            exact.push("SELECT value FROM term WHERE field = ");
            exact
                .bind(path.clone())
                .push(" AND value <> '' AND value >= ");
            exact.bind(beginning.to_owned()).push(" AND value < ");
            exact.bind(format!("{beginning}{}", char::MAX));
            exact.push(" ORDER BY value LIMIT ").bind(i64::from(limit));
            let found: Vec<String> = collect(db, &exact, |row| row.get(0))?;
            if found.len() == limit as usize {
                return Ok(found);
            }
            // The index knows case, so this looks at one value after the other.
            let mut sql = Sql::default();
            sql.push("SELECT value FROM (SELECT value FROM term WHERE field = ");
            sql.bind(path).push(" ORDER BY value LIMIT ");
            sql.bind(FOLDED_MAX)
                .push(") WHERE value <> '' AND lower(substr(value, 1, ");
            sql.bind(beginning.chars().count() as i64).push(")) = ");
            sql.bind(beginning_lower)
                .push(" LIMIT ")
                .bind(i64::from(limit));
            let mut found = BTreeSet::from_iter(found);
            found.extend(collect(db, &sql, |row| row.get::<_, String>(0))?);
            Ok(found.into_iter().take(limit as usize).collect())
        })
    }

    /// Fields with a key of somebody's choice (marks, source properties) that begin with a text, in order: for completion.
    pub fn keyed_fields(&self, beginning: &str, limit: u32) -> Result<Vec<String>, Error> {
        self.database.read(|db| {
            // From one field to the next by the index: a field can have a million values.
            let mut statement = db.prepare_cached(
                "WITH RECURSIVE known (field) AS ( \
                 SELECT min(field) FROM term WHERE field >= $1 AND field < $2 UNION ALL \
                 SELECT (SELECT min(field) FROM term WHERE field > known.field AND field < $2) FROM known \
                 WHERE known.field IS NOT NULL) SELECT field FROM known WHERE field IS NOT NULL AND instr(field, '#') = 0 \
                 LIMIT $3",
            )?;
            let end = format!("{beginning}{}", char::MAX);
            let fields = statement.query_map(params![beginning, end, limit], |row| row.get(0))?;
            let mut fields = fields.collect::<Result<BTreeSet<String>, _>>()?;
            // These may have no value that is kept by itself.
            let held = HELD_AS_NUMBERS.iter();
            fields.extend(
                held.filter(|field| field.starts_with(beginning))
                    .map(|field| (*field).to_owned()),
            );
            Ok(fields.into_iter().take(limit as usize).collect())
        })
    }
}

pub(crate) fn page_size(asked: u32) -> u32 {
    match asked {
        0 => PAGE_SIZE_DEFAULT,
        asked => asked.min(PAGE_SIZE_MAX),
    }
}

/// The finding with this row id.
pub(crate) fn document(db: &Connection, id: i64) -> Result<Option<FindingResult>, Error> {
    let body = body(db, id)?;
    Ok(body.map(|body| serde_json::from_str(&body)).transpose()?)
}

fn body(db: &Connection, id: i64) -> Result<Option<String>, Error> {
    let mut statement = db.prepare_cached("SELECT body FROM document WHERE finding_id = $1")?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(|row| document::decode(row, 0)).transpose()
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Null | Value::Blob(_) => serde_json::Value::Null,
    }
}
