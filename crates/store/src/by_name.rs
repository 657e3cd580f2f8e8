//! Pages in the order of names. Where many findings are selected, the index of names is walked instead of sorting them.

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::Error;
use crate::chunk::Batch;
use crate::column::Bits;
use crate::filter::Condition;
use crate::order::{Found, Position};
use crate::page::Token;
use crate::select::Selection;

/// Findings that are sorted for each page. Of more, one in so many is on a page that the walk soon comes by.
const SORTED_MAX: i64 = 2000;

/// What comes between the name of a source and a key.
const FINDINGS: &str = "/findings/";

/// How a page is made.
pub(crate) enum Way {
    /// By walking.
    Walked(Found),
    /// Nothing yet: these few are to be sorted.
    Few(Selection),
}

/// The first `size` findings after the token by name, unless they are few.
pub(crate) fn page(
    db: &Connection,
    selection: &Selection,
    batches: &[Batch],
    descending: bool,
    token: Option<&Token>,
    size: usize,
) -> Result<Way, Error> {
    let selected = batches
        .iter()
        .map(|batch| selection.of(db, batch))
        .collect::<Result<Vec<_>, _>>()?;
    let count = selected.iter().map(Bits::count).sum();
    if count <= SORTED_MAX {
        let ids = batches.iter().zip(&selected);
        let ids = ids.flat_map(|(batch, bits)| bits.iter().map(|offset| batch.id(offset)));
        return Ok(Way::Few(Condition::Rows(ids.collect()).into()));
    }
    let is_selected = |id: i64| {
        let mut both = batches.iter().zip(&selected);
        both.any(|(batch, bits)| batch.offset(id).is_some_and(|offset| bits.contains(offset)))
    };
    let after = match token {
        Some(token) => Some(read_token(token)?),
        None => None,
    };
    // One more than asked for tells whether others follow.
    let mut found = walk(db, descending, after, size + 1, is_selected)?;
    let has_more = found.len() > size;
    found.truncate(size);
    let last = found.last().filter(|_| has_more);
    Ok(Way::Walked(Found {
        last: last.map(|(name, _)| vec![Value::Text(name.clone())]),
        positions: found
            .iter()
            .map(|(_, id)| position(db, *id))
            .collect::<Result<_, _>>()?,
        total: token.map_or(count, |token| token.total),
    }))
}

/// Names and ids of the first findings after a name, given as its source and its key.
fn walk(
    db: &Connection,
    descending: bool,
    after: Option<(String, String)>,
    wanted: usize,
    is_selected: impl Fn(i64) -> bool,
) -> Result<Vec<(String, i64)>, Error> {
    let mut statement = db.prepare_cached("SELECT id, value FROM term WHERE field = 'parent'")?;
    let sources = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)? + FINDINGS))
    })?;
    let mut sources: Vec<(i64, String)> = sources.collect::<Result<_, _>>()?;
    sources.sort_by(|a, b| a.1.cmp(&b.1));
    // Keys are letters and digits: one bound is before all, the other after.
    let (sql, mut bound) = if descending {
        sources.reverse();
        let sql = "SELECT id, key FROM finding WHERE parent_id = $1 AND key < $2 ORDER BY key DESC";
        (sql, "\u{7f}")
    } else {
        let sql = "SELECT id, key FROM finding WHERE parent_id = $1 AND key > $2 ORDER BY key";
        (sql, "")
    };
    let begin = bound;
    let mut statement = db.prepare_cached(sql)?;
    let mut found = Vec::new();
    for (parent, source) in &sources {
        if let Some((last_source, last_key)) = &after {
            let is_before = match descending {
                true => source > last_source,
                false => source < last_source,
            };
            if is_before {
                continue;
            }
            bound = if source == last_source {
                last_key
            } else {
                begin
            };
        }
        let mut rows = statement.query(params![parent, bound])?;
        while found.len() < wanted
            && let Some(row) = rows.next()?
        {
            let id = row.get(0)?;
            if is_selected(id) {
                let key: String = row.get(1)?;
                found.push((format!("{source}{key}"), id));
            }
        }
    }
    Ok(found)
}

fn read_token(token: &Token) -> Result<(String, String), Error> {
    let name = match token.keys.as_slice() {
        [name] => name.as_str().and_then(|name| name.rsplit_once(FINDINGS)),
        _ => None,
    };
    let (parent, key) =
        name.ok_or_else(|| Error::invalid("page_token", "not a token of this order"))?;
    Ok((format!("{parent}{FINDINGS}"), key.to_owned()))
}

fn position(db: &Connection, id: i64) -> Result<Position, Error> {
    let time = db
        .prepare_cached("SELECT event_time FROM finding WHERE id = $1")?
        .query_row([id], |row| row.get(0))?;
    Ok((time, id))
}
