//! Listing and getting findings.

use model::finding::FindingResult;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};

use crate::fields::{column_of_enum, column_of_term, enumerations};
use crate::filter::Condition;
use crate::name::FindingName;
use crate::page::{self, By, Key, Token};
use crate::select::{Direction, Position, Selection, collect, enum_terms};
use crate::sql::Sql;
use crate::terms::grouped_number;
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
    /// All that match the query, on any page, when the first page was read.
    pub total_size: u64,
}

impl Store {
    /// One page of the findings that match. A page token stays valid while findings arrive; a finding that changes its
    /// place in the order between two pages can be on both or on none.
    pub fn list(&self, query: &Query) -> Result<Page, Error> {
        let order = page::parse_order(&query.order_by)?;
        let identity = [query.parent.as_str(), &query.filter, &query.order_by];
        let token = Token::read(&query.page_token, &identity)?;
        let size = i64::from(page_size(query.page_size));
        self.database.read(|db| {
            let selection = Selection::new(db, &query.parent, &query.filter)?;
            // One more than asked for tells whether there is a next page.
            let mut places = places(db, &selection, &order, token.as_ref(), size + 1)?;
            let total = match &token {
                Some(token) => token.total,
                None => selection.count(db)?,
            };
            let more = places.len() as i64 > size;
            places.truncate(usize::try_from(size).unwrap_or_default());
            let next_page_token = match places.last() {
                Some(last) if more => Token::new(
                    &identity,
                    last.keys.iter().map(to_json).collect(),
                    last.position,
                    total,
                )
                .to_string(),
                _ => String::new(),
            };
            Ok(Page {
                results: places
                    .iter()
                    .map(|place| document(db, place.position.1))
                    .collect::<Result<_, _>>()?,
                next_page_token,
                total_size: total.unsigned_abs(),
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
            document(db, id.ok_or_else(|| Error::NotFound(name.to_owned()))?)
        })
    }
}

impl Store {
    /// Values of a field that begin with a text, whatever the case, in order: for completion in an editor.
    pub fn values(&self, field: &str, beginning: &str, limit: u32) -> Result<Vec<String>, Error> {
        let path = crate::filter::field_path(field)?;
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
        self.database.read(|db| {
            let mut sql = Sql::default();
            sql.push("SELECT t.value FROM term t WHERE t.field = ")
                .bind(path);
            sql.push(" AND t.value <> '' AND lower(substr(t.value, 1, ");
            sql.bind(beginning.chars().count() as i64).push(")) = ");
            sql.bind(beginning_lower).push(" ORDER BY t.value LIMIT ");
            sql.bind(i64::from(limit.min(PAGE_SIZE_MAX)));
            collect(db, &sql, |row| row.get(0))
        })
    }
}

pub(crate) fn page_size(asked: u32) -> u32 {
    match asked {
        0 => PAGE_SIZE_DEFAULT,
        asked => asked.min(PAGE_SIZE_MAX),
    }
}

fn document(db: &Connection, id: i64) -> Result<FindingResult, Error> {
    let body: String = db
        .prepare_cached("SELECT body FROM document WHERE finding_id = $1")?
        .query_row([id], |row| row.get(0))?;
    Ok(serde_json::from_str(&body)?)
}

/// A finding's place in an order.
struct Place {
    keys: Vec<Value>,
    position: Position,
}

fn places(
    db: &Connection,
    selection: &Selection,
    order: &[Key],
    token: Option<&Token>,
    wanted: i64,
) -> Result<Vec<Place>, Error> {
    let after = token.map(|token| token.position);
    match order {
        [
            Key {
                by: By::EventTime,
                descending,
            },
        ] => {
            let found = selection.in_time_order(db, direction(*descending), after, wanted)?;
            Ok(found
                .into_iter()
                .map(|position| Place {
                    keys: vec![Value::Integer(position.0)],
                    position,
                })
                .collect())
        }
        [key] if !selection.is_small(db)? => in_groups(
            db,
            selection,
            key,
            Direction::NewestFirst,
            order,
            token,
            wanted,
        ),
        [
            key,
            Key {
                by: By::EventTime,
                descending,
            },
        ] if !selection.is_small(db)? => {
            let direction = direction(*descending);
            in_groups(db, selection, key, direction, order, token, wanted)
        }
        _ => sorted(db, selection, order, token, wanted),
    }
}

fn direction(descending: bool) -> Direction {
    if descending {
        Direction::NewestFirst
    } else {
        Direction::OldestFirst
    }
}

/// By a field with few values, then by time: one value after the other, each in the order in which the index has it.
fn in_groups(
    db: &Connection,
    selection: &Selection,
    key: &Key,
    direction: Direction,
    order: &[Key],
    token: Option<&Token>,
    wanted: i64,
) -> Result<Vec<Place>, Error> {
    let Some(groups) = groups(db, &key.by)? else {
        return sorted(db, selection, order, token, wanted);
    };
    let last = token.and_then(|token| token.keys.first());
    let mut groups: Vec<_> = groups
        .into_iter()
        .map(|(value, condition)| (to_json(&value), value, condition))
        .collect();
    if key.descending {
        groups.reverse();
    }
    if let Some(last) = last {
        let at = groups.iter().position(|(json, _, _)| json == last);
        groups.drain(..at.unwrap_or(groups.len()));
    }
    let mut places = Vec::new();
    for (json, value, condition) in groups {
        let missing = wanted - places.len() as i64;
        if missing <= 0 {
            break;
        }
        let after = token
            .filter(|_| Some(&json) == last)
            .map(|token| token.position);
        let group = selection.and(condition);
        // Looking for what is not there would pass over all that is selected.
        if group.is_counted() && group.count(db)? == 0 {
            continue;
        }
        let found = group.in_time_order(db, direction, after, missing)?;
        places.extend(found.into_iter().map(|position| Place {
            keys: match order.len() {
                1 => vec![value.clone()],
                _ => vec![value.clone(), Value::Integer(position.0)],
            },
            position,
        }));
    }
    Ok(places)
}

/// The values of a field, ascending, each with the condition that selects it. `None` for fields that have too many.
fn groups(db: &Connection, by: &By) -> Result<Option<Vec<(Value, Condition)>>, Error> {
    match by {
        By::Column(column) => {
            let Some((_, names)) =
                enumerations().find(|(field, _)| column_of_enum(field) == Some(column))
            else {
                return Ok(None);
            };
            let mut groups = Vec::new();
            for number in 0..names.len() as i64 {
                if !enum_terms(db, column, &[number])?.is_empty() {
                    let numbers = vec![number];
                    groups.push((Value::Integer(number), Condition::Enum { column, numbers }));
                }
            }
            Ok(Some(groups))
        }
        By::TermColumn(column) => {
            let fields = ["category", "parent", "resource_name"];
            let Some(field) = fields
                .into_iter()
                .find(|field| column_of_term(field) == Some(column))
            else {
                return Ok(None);
            };
            let mut sql = Sql::default();
            sql.push("SELECT id, value FROM term WHERE field = ")
                .bind(field.to_owned());
            sql.push(" ORDER BY value");
            let terms: Vec<(i64, String)> =
                collect(db, &sql, |row| Ok((row.get(0)?, row.get(1)?)))?;
            let group = |(id, value)| {
                let field = field.to_owned();
                (
                    Value::Text(value),
                    Condition::Ids {
                        field,
                        ids: vec![id],
                    },
                )
            };
            Ok(Some(terms.into_iter().map(group).collect()))
        }
        By::EventTime | By::Name | By::Grouped(_) | By::Mark(_) => Ok(None),
    }
}

/// Any order, by sorting all that is selected.
fn sorted(
    db: &Connection,
    selection: &Selection,
    order: &[Key],
    token: Option<&Token>,
    wanted: i64,
) -> Result<Vec<Place>, Error> {
    let driver = selection.driver(db, i64::MAX)?;
    let mut sql = Sql::default();
    sql.push("SELECT * FROM (SELECT p.event_time AS t, p.finding_id AS i");
    for (number, key) in order.iter().enumerate() {
        sql.push(", ");
        push_key(&mut sql, &key.by);
        sql.push(&format!(" AS k{number}"));
    }
    selection.source(&mut sql, &driver);
    sql.push(") s");
    if let Some(token) = token {
        sql.push(" WHERE ");
        push_after(&mut sql, order, token)?;
    }
    sql.push(" ORDER BY ");
    for (number, key) in order.iter().enumerate() {
        sql.push(&format!(
            "k{number}{}, ",
            if key.descending { " DESC" } else { "" }
        ));
    }
    sql.push("t DESC, i DESC LIMIT ").bind(wanted);
    collect(db, &sql, |row| {
        Ok(Place {
            position: (row.get(0)?, row.get(1)?),
            keys: (2..2 + order.len())
                .map(|at| row.get(at))
                .collect::<Result<_, _>>()?,
        })
    })
}

fn push_key(sql: &mut Sql, by: &By) {
    match by {
        By::EventTime => sql.push("p.event_time"),
        By::Name => sql
            .push("(SELECT t.value || '/findings/' || f.key FROM term t WHERE t.id = f.parent_id)"),
        By::Column(column) => sql.push(&format!("f.{column}")),
        By::TermColumn(column) => sql.push(&format!(
            "coalesce((SELECT t.value FROM term t WHERE t.id = f.{column}), '')"
        )),
        By::Grouped(field) => {
            sql.push("(SELECT min(t.value) FROM grouping g JOIN term t ON t.id = g.term_id WHERE g.finding_id = f.id AND g.field = ")
                .bind(grouped_number(field));
            sql.push(")")
        }
        By::Mark(key) => {
            let path = match key.as_str() {
                "" => "$.finding.securityMarks.marks".to_owned(),
                key => format!("$.finding.securityMarks.marks.\"{}\"", key.replace('"', "")),
            };
            sql.push("coalesce((SELECT json_extract(d.body, ")
                .bind(path);
            sql.push(") FROM document d WHERE d.finding_id = f.id), '')")
        }
    };
}

/// Rows beyond the token's: the first key beyond, or equal and the next beyond, and so on.
fn push_after(sql: &mut Sql, order: &[Key], token: &Token) -> Result<(), Error> {
    let bad = || Error::invalid("page_token", "not a token of this order");
    if token.keys.len() != order.len() {
        return Err(bad());
    }
    let values: Vec<Value> = token
        .keys
        .iter()
        .map(from_json)
        .collect::<Option<_>>()
        .ok_or_else(bad)?;
    sql.push("(");
    for (number, key) in order.iter().enumerate() {
        let beyond = if key.descending { "<" } else { ">" };
        sql.push(&format!("k{number} {beyond} "))
            .bind(values[number].clone());
        sql.push(&format!(" OR (k{number} = "))
            .bind(values[number].clone());
        sql.push(" AND ");
        sql.push("(");
    }
    sql.push("(t, i) < (").bind(token.position.0).push(", ");
    sql.bind(token.position.1).push(")");
    sql.push(&"))".repeat(order.len())).push(")");
    Ok(())
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Null | Value::Blob(_) => serde_json::Value::Null,
    }
}

fn from_json(value: &serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::Number(number) => number.as_i64().map(Value::Integer),
        serde_json::Value::String(text) => Some(Value::Text(text.clone())),
        _ => None,
    }
}
