//! The first findings in an order, without sorting the rest.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use crate::by_name::{self, Way};
use crate::chunk::{self, Batch, Cache};
use crate::column::Bits;
use crate::filter::Condition;
use crate::layout::column_number;
use crate::page::{By, Key, Token};
use crate::piece::Terms;
use crate::select::{Selection, collect};
use crate::sql::Sql;
use crate::{Error, query};

/// A finding's place in time.
pub(crate) type Position = (i64, i64);

/// Findings that follow each other in an order.
pub(crate) struct Found {
    pub(crate) positions: Vec<Position>,
    /// The last one's values of the order's fields, when others follow it.
    pub(crate) last: Option<Vec<Value>>,
    /// How many are selected in all. The token's, when there was one.
    pub(crate) total: i64,
}

/// The first `size` findings after the token.
pub(crate) fn page(
    db: &Connection,
    cache: &Arc<Cache>,
    selection: &Selection,
    order: &[Key],
    token: Option<&Token>,
    size: usize,
) -> Result<Found, Error> {
    let batches = chunk::load(db, Some(cache))?;
    let mut few = None;
    let mut order = order;
    if let [
        Key {
            by: By::Name,
            descending,
        },
        ..,
    ] = order
    {
        // No two have the same name.
        order = &order[..1];
        match by_name::page(db, selection, &batches, *descending, token, size)? {
            Way::Walked(found) => return Ok(found),
            Way::Few(selection) => few = Some(selection),
        }
    }
    let selection = few.as_ref().unwrap_or(selection);
    let fields = order
        .iter()
        .map(|key| Field::new(db, key, selection, &batches))
        .collect::<Result<Vec<_>, _>>()?;
    let search = Search {
        db,
        selection,
        ascending: order
            .iter()
            .any(|key| key.by == By::EventTime && !key.descending),
        fields,
    };
    let after = match token {
        Some(token) => Some(search.read_token(order, token)?),
        None => None,
    };
    // One more than asked for tells whether others follow.
    let (mut found, count) = search.first(batches, after.as_deref(), size + 1, token.is_none())?;
    let has_more = found.len() > size;
    found.truncate(size);
    let last = match found.last() {
        Some(rank) if has_more => Some(search.keys(rank)?),
        _ => None,
    };
    Ok(Found {
        positions: found.iter().map(|rank| search.position(rank)).collect(),
        last,
        total: token.map_or(count, |token| token.total),
    })
}

/// The oldest findings that come after `after`. Without cache within a transaction that writes.
pub(crate) fn oldest(
    db: &Connection,
    cache: Option<&Arc<Cache>>,
    selection: &Selection,
    after: Option<Position>,
    wanted: usize,
) -> Result<Vec<Position>, Error> {
    let search = Search {
        db,
        selection,
        ascending: true,
        fields: vec![Field {
            source: Source::EventTime,
            descending: false,
        }],
    };
    let after = after.map(|(time, id)| vec![time, time, id]);
    let (found, _) = search.first(chunk::load(db, cache)?, after.as_deref(), wanted, false)?;
    Ok(found.iter().map(|rank| search.position(rank)).collect())
}

/// One field of an order. Each finding has a number in it, by which it is compared.
struct Field {
    source: Source,
    descending: bool,
}

enum Source {
    EventTime,
    Number(u8),
    Enum(u8),
    /// The place of a value among all values of the field, twice, so that a value that is gone has a place between.
    Ranked {
        column: u8,
        field: String,
        /// By id of the value: one more than the rank, 0 for a value of another field.
        ranks: Vec<u32>,
        /// Of a finding without value.
        none: i64,
    },
    /// The same for texts that are in no column.
    Text {
        ranks: HashMap<i64, i64>,
        texts: Vec<String>,
    },
}

impl Field {
    fn new(
        db: &Connection,
        key: &Key,
        selection: &Selection,
        batches: &[Batch],
    ) -> Result<Self, Error> {
        let source = match &key.by {
            By::EventTime => Source::EventTime,
            By::Column(
                column @ ("create_time" | "occurrences" | "first_seen" | "mute_update_time"),
            ) => Source::Number(column_number(column)),
            By::Column(column) => Source::Enum(column_number(column)),
            By::Term(field) => Source::ranked(db, field.clone())?,
            By::Mark(key) if !key.is_empty() => {
                Source::ranked(db, format!("security_marks.marks.{key}"))?
            }
            By::Name | By::Mark(_) => Source::text(db, &key.by, selection, batches)?,
        };
        Ok(Self {
            source,
            descending: key.descending,
        })
    }

    /// Turns a number so that what comes first is least, and back.
    fn turn(&self, number: i64) -> i64 {
        if self.descending { !number } else { number }
    }

    /// The least number that a finding of the batch can have; `None` when it takes looking at them.
    fn least(&self, db: &Connection, batch: &Batch) -> Result<Option<i64>, Error> {
        let in_dictionary =
            |column, number: &dyn Fn(u32) -> Option<i64>, none: Option<i64>| -> Result<_, Error> {
                let bytes = batch.terms(db, column)?;
                let terms = Terms::read(&bytes)?;
                let numbers = terms.dictionary().filter_map(number).chain(none);
                Ok(numbers.map(|number| self.turn(number)).min())
            };
        match &self.source {
            Source::EventTime => Ok(Some(self.turn(match self.descending {
                true => batch.newest,
                false => batch.oldest,
            }))),
            Source::Enum(column) => in_dictionary(*column, &|id| Some(id.into()), None),
            Source::Ranked {
                column,
                ranks,
                none,
                ..
            } => in_dictionary(*column, &|id| rank(ranks, id), Some(*none)),
            Source::Number(_) | Source::Text { .. } => Ok(None),
        }
    }

    /// The number of each finding of a batch, by offset. `times` are their event times.
    fn numbers(
        &self,
        db: &Connection,
        batch: &Batch,
        bits: &Bits,
        times: &[i64],
    ) -> Result<Vec<i64>, Error> {
        let by_term =
            |column, number: &dyn Fn(u32) -> Option<i64>, none: i64| -> Result<_, Error> {
                let bytes = batch.terms(db, column)?;
                let terms = Terms::read(&bytes)?;
                let by_code: Vec<Option<i64>> = std::iter::once(None)
                    .chain(terms.dictionary().map(number))
                    .collect();
                let mut numbers = vec![none; bits.iter().last().map_or(0, |last| last + 1)];
                for offset in bits.iter() {
                    let mut least: Option<i64> = None;
                    terms.each(offset, |code, _| {
                        let number = by_code.get(code).copied().flatten();
                        least = least.into_iter().chain(number).min();
                    });
                    if let Some(slot) = numbers.get_mut(offset) {
                        *slot = least.unwrap_or(none);
                    }
                }
                Ok(numbers)
            };
        let mut numbers = match &self.source {
            Source::EventTime => times.to_vec(),
            Source::Number(column) => batch.numbers(db, *column)?,
            Source::Enum(column) => by_term(*column, &|id| Some(id.into()), 0)?,
            Source::Ranked {
                column,
                ranks,
                none,
                ..
            } => by_term(*column, &|id| rank(ranks, id), *none)?,
            Source::Text { ranks, .. } => {
                let mut numbers = vec![0; bits.iter().last().map_or(0, |last| last + 1)];
                for offset in bits.iter() {
                    if let Some(slot) = numbers.get_mut(offset) {
                        *slot = ranks.get(&batch.id(offset)).copied().unwrap_or(0);
                    }
                }
                numbers
            }
        };
        if self.descending {
            numbers.iter_mut().for_each(|number| *number = !*number);
        }
        Ok(numbers)
    }
}

fn rank(ranks: &[u32], id: u32) -> Option<i64> {
    let rank = ranks.get(id as usize).filter(|rank| **rank > 0)?;
    Some(i64::from(*rank) - 1)
}

impl Source {
    fn ranked(db: &Connection, field: String) -> Result<Self, Error> {
        let mut sql = Sql::default();
        sql.push("SELECT id FROM term WHERE field = ")
            .bind(field.clone());
        sql.push(" ORDER BY value");
        let ids: Vec<u32> = collect(db, &sql, |row| row.get(0))?;
        let mut by_id = vec![0; ids.iter().max().map_or(0, |last| *last as usize + 1)];
        for (id, rank) in ids.iter().zip((1..).step_by(2)) {
            if let Some(slot) = by_id.get_mut(*id as usize) {
                *slot = rank;
            }
        }
        let empty = crate::select::term_id(db, &field, "")?;
        Ok(Self::Ranked {
            column: column_number(&field),
            field,
            ranks: by_id,
            none: if empty.is_some() { 0 } else { -1 },
        })
    }

    /// Reads the text of each finding that is selected and has one.
    fn text(
        db: &Connection,
        by: &By,
        selection: &Selection,
        batches: &[Batch],
    ) -> Result<Self, Error> {
        let is_name = *by == By::Name;
        let selection = if is_name {
            selection.clone()
        } else {
            selection.clone().and(marked(db)?)
        };
        let mut found: Vec<(String, i64)> = Vec::new();
        for batch in batches {
            for offset in selection.of(db, batch)?.iter() {
                let id = batch.id(offset);
                let text = if is_name { name(db, id) } else { marks(db, id) };
                found.push((text?.unwrap_or_default(), id));
            }
        }
        found.sort_unstable();
        let mut ranks = HashMap::with_capacity(found.len());
        // The first is that of all others.
        let mut texts = vec![String::new()];
        for (text, id) in found {
            if texts.last() != Some(&text) {
                texts.push(text);
            }
            ranks.insert(id, (texts.len() as i64 - 1) * 2);
        }
        Ok(Self::Text { ranks, texts })
    }

    /// The number of a value of a token.
    fn number(&self, db: &Connection, value: &serde_json::Value) -> Result<Option<i64>, Error> {
        Ok(match self {
            Self::EventTime | Self::Number(_) | Self::Enum(_) => value.as_i64(),
            Self::Ranked { field, .. } => match value.as_str() {
                Some(text) => {
                    let before: i64 = db
                        .prepare_cached(
                            "SELECT count(*) FROM term WHERE field = $1 AND value < $2",
                        )?
                        .query_row([field, text], |row| row.get(0))?;
                    let is_there = crate::select::term_id(db, field, text)?.is_some();
                    Some(before * 2 - i64::from(!is_there))
                }
                None => None,
            },
            Self::Text { texts, .. } => value.as_str().map(|text| {
                match texts.binary_search_by(|known| known.as_str().cmp(text)) {
                    Ok(at) => at as i64 * 2,
                    Err(at) => at as i64 * 2 - 1,
                }
            }),
        })
    }

    /// The value that a number stands for.
    fn value(&self, db: &Connection, number: i64) -> Result<Value, Error> {
        Ok(match self {
            Self::EventTime | Self::Number(_) | Self::Enum(_) => Value::Integer(number),
            Self::Ranked { ranks, .. } => {
                let id = ranks.iter().position(|rank| i64::from(*rank) == number + 1);
                let text: Option<String> = match id.filter(|_| number >= 0) {
                    Some(id) => db
                        .prepare_cached("SELECT value FROM term WHERE id = $1")?
                        .query_row([id as i64], |row| row.get(0))
                        .optional()?,
                    None => None,
                };
                Value::Text(text.unwrap_or_default())
            }
            Self::Text { texts, .. } => {
                let text = usize::try_from(number / 2)
                    .ok()
                    .and_then(|at| texts.get(at));
                Value::Text(text.cloned().unwrap_or_default())
            }
        })
    }
}

/// The name of a finding.
fn name(db: &Connection, id: i64) -> Result<Option<String>, Error> {
    let mut statement = db.prepare_cached(
        "SELECT t.value || '/findings/' || f.key FROM finding f JOIN term t ON t.id = f.parent_id \
         WHERE f.id = $1",
    )?;
    Ok(statement.query_row([id], |row| row.get(0)).optional()?)
}

/// The security marks of a finding, as JSON.
fn marks(db: &Connection, id: i64) -> Result<Option<String>, Error> {
    let result = query::document(db, id)?;
    let marks = result.and_then(|result| result.finding.security_marks);
    Ok(marks
        .map(|marks| serde_json::to_string(&marks.marks))
        .transpose()?)
}

/// Findings with any security mark.
fn marked(db: &Connection) -> Result<Condition, Error> {
    let mut sql = Sql::default();
    // Up to the character after the dot.
    sql.push("SELECT id FROM term WHERE field >= 'security_marks.marks.' AND field < 'security_marks.marks/'");
    let ids: Vec<u32> = collect(db, &sql, |row| row.get(0))?;
    Ok(Condition::Ids {
        field: "security_marks.marks.".to_owned(),
        ids: ids.into(),
    })
}

struct Search<'a> {
    db: &'a Connection,
    selection: &'a Selection,
    fields: Vec<Field>,
    /// Of two that are otherwise equal the older is first.
    ascending: bool,
}

/// What a finding is compared by: a number of each field, then time and id, all so that what comes first is least.
type Rank = Vec<i64>;

impl Search<'_> {
    fn first(
        &self,
        mut batches: Vec<Batch>,
        after: Option<&[i64]>,
        wanted: usize,
        count: bool,
    ) -> Result<(Vec<Rank>, i64), Error> {
        match self.ascending {
            true => batches.sort_by_key(|batch| batch.oldest),
            false => batches.sort_by_key(|batch| std::cmp::Reverse(batch.newest)),
        }
        let mut total = 0;
        // The worst of the best is on top.
        let mut best: BinaryHeap<Rank> = BinaryHeap::with_capacity(wanted + 1);
        for batch in &batches {
            let worst = best.peek().filter(|_| best.len() >= wanted);
            let is_late = match worst {
                Some(worst) => self.is_beyond(batch, worst)?,
                None => false,
            };
            if is_late && !count {
                continue;
            }
            if !count && after.is_some_and(|after| self.is_before(batch, after)) {
                continue;
            }
            let bits = self.selection.of(self.db, batch)?;
            total += bits.count();
            if is_late || bits.is_empty() {
                continue;
            }
            let times = batch.numbers(self.db, 0)?;
            let columns = self
                .fields
                .iter()
                .map(|field| field.numbers(self.db, batch, &bits, &times))
                .collect::<Result<Vec<_>, _>>()?;
            let mut rank = Rank::new();
            for offset in bits.iter() {
                let at = |column: &[i64]| column.get(offset).copied().unwrap_or_default();
                let (time, id) = (at(&times), batch.id(offset));
                rank.clear();
                rank.extend(columns.iter().map(|column| at(column)));
                rank.extend(self.turn([time, id]));
                if after.is_some_and(|after| rank.as_slice() <= after) {
                    continue;
                }
                if best.len() >= wanted {
                    match best.peek_mut() {
                        // Takes its place.
                        Some(mut worst) if rank < *worst => worst.clone_from(&rank),
                        _ => {}
                    }
                } else {
                    best.push(rank.clone());
                }
            }
        }
        Ok((best.into_sorted_vec(), total))
    }

    /// No finding of the batch comes before this one.
    fn is_beyond(&self, batch: &Batch, worst: &[i64]) -> Result<bool, Error> {
        for (field, worst) in self.fields.iter().zip(worst) {
            match field.least(self.db, batch)? {
                Some(least) if least == *worst => {}
                Some(least) => return Ok(least > *worst),
                None => return Ok(false),
            }
        }
        let time = match self.ascending {
            true => batch.oldest,
            false => !batch.newest,
        };
        Ok(worst
            .get(self.fields.len())
            .is_some_and(|worst| time > *worst))
    }

    /// Every finding of the batch comes before this one.
    fn is_before(&self, batch: &Batch, after: &[i64]) -> bool {
        let (Some(field), Some(after)) = (self.fields.first(), after.first()) else {
            return false;
        };
        let last = match field.descending {
            true => batch.oldest,
            false => batch.newest,
        };
        matches!(field.source, Source::EventTime) && field.turn(last) < *after
    }

    fn turn(&self, position: [i64; 2]) -> [i64; 2] {
        if self.ascending {
            position
        } else {
            position.map(|number| !number)
        }
    }

    fn position(&self, rank: &[i64]) -> Position {
        match rank {
            [.., time, id] => self.turn([*time, *id]).into(),
            _ => (0, 0),
        }
    }

    fn keys(&self, rank: &[i64]) -> Result<Vec<Value>, Error> {
        self.fields
            .iter()
            .zip(rank)
            .map(|(field, number)| field.source.value(self.db, field.turn(*number)))
            .collect()
    }

    fn read_token(&self, order: &[Key], token: &Token) -> Result<Rank, Error> {
        let bad = || Error::invalid("page_token", "not a token of this order");
        if token.keys.len() != order.len() {
            return Err(bad());
        }
        let mut rank = Rank::new();
        for (field, value) in self.fields.iter().zip(&token.keys) {
            let number = field.source.number(self.db, value)?;
            rank.push(field.turn(number.ok_or_else(bad)?));
        }
        let (time, id) = token.position;
        rank.extend(self.turn([time, id]));
        Ok(rank)
    }
}
