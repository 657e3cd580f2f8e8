//! Counting what is selected: totals and groups.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use crate::chunk::{self, Batch, Cache};
use crate::column::Bits;
use crate::fields::{column_of_enum, enumerations};
use crate::filter::field_path;
use crate::layout::{GROUPED, column_number};
use crate::page::Token;
use crate::piece::Terms;
use crate::query::page_size;
use crate::select::Selection;
use crate::{Error, Store};

/// Fields in one grouping.
const GROUP_FIELDS_MAX: usize = 6;

/// Groups that one finding is in: one of each combination of its values.
const GROUPS_PER_FINDING_MAX: usize = 4096;

/// Groups by several fields. Some 50 MiB, and far more than anybody reads.
const GROUPS_MAX: usize = 512 * 1024;

/// What to group.
#[derive(Clone, Debug, Default)]
pub struct GroupQuery {
    /// As in [`crate::Query`].
    pub parent: String,
    /// As in [`crate::Query`].
    pub filter: String,
    /// Fields separated by commas, e.g. `category,state`.
    pub group_by: String,
    /// As in [`crate::Query`].
    pub page_size: u32,
    /// Empty for the first page.
    pub page_token: String,
}

/// Findings that have the same values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Field as the caller named it, and value; a field that is not set is empty.
    pub properties: Vec<(String, String)>,
    /// How many.
    pub count: u64,
}

/// One page of groups, the largest first.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// The groups.
    pub results: Vec<Group>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Groups on all pages.
    pub total_size: u64,
}

impl Store {
    /// Groups what is selected by the values of fields, and counts. The next page begins after the last group of the one
    /// before it, however many others there are by then: one that grows or shrinks past that place can be on both or on
    /// none.
    pub fn group(&self, query: &GroupQuery) -> Result<Groups, Error> {
        let keys = group_keys(&query.group_by)?;
        let identity = [query.parent.as_str(), &query.filter, &query.group_by];
        let after = match Token::read(&query.page_token, &identity)? {
            Some(token) => Some(read_place(&token, keys.len())?),
            None => None,
        };
        let size = page_size(query.page_size) as usize;
        let (total, mut groups) = self.database.read(|db| {
            let selection =
                Selection::new(db, self.database.cache(), &query.parent, &query.filter)?;
            let selected = selected(db, self.database.cache(), &selection)?;
            let counts = count(db, &selected, &keys)?;
            // One more than asked for tells whether others follow.
            Ok((
                counts.len(),
                largest(db, counts, &keys, after.as_ref(), size + 1)?,
            ))
        })?;
        let has_more = groups.len() > size;
        groups.truncate(size);
        let next_page_token = match groups.last() {
            Some((values, count)) if has_more => {
                let values = values.iter().map(|value| value.as_str().into()).collect();
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                Token::new(&identity, values, (count, 0), total as i64).to_string()
            }
            _ => String::new(),
        };
        let results = groups
            .into_iter()
            .map(|(values, count)| Group {
                properties: keys
                    .iter()
                    .map(|key| key.named.clone())
                    .zip(values)
                    .collect(),
                count,
            })
            .collect();
        Ok(Groups {
            results,
            next_page_token,
            total_size: total as u64,
        })
    }

    /// The most frequent values of each of these fields among what is selected, at most `limit` of each.
    pub fn facets(
        &self,
        parent: &str,
        filter: &str,
        fields: &[&str],
        limit: u32,
    ) -> Result<Vec<Vec<(String, u64)>>, Error> {
        self.database.read(|db| {
            let selected = selected(
                db,
                self.database.cache(),
                &Selection::new(db, self.database.cache(), parent, filter)?,
            )?;
            let facet = |field: &&str| {
                let keys = group_keys(field)?;
                let counts = count(db, &selected, &keys)?;
                let groups = largest(db, counts, &keys, None, limit as usize)?;
                let value = |(mut values, count): (Vec<String>, u64)| {
                    (values.pop().unwrap_or_default(), count)
                };
                Ok(groups.into_iter().map(value).collect())
            };
            fields.iter().map(facet).collect()
        })
    }
}

/// The batches with findings that are selected, and these.
pub(crate) fn selected(
    db: &Connection,
    cache: &Arc<Cache>,
    selection: &Selection,
) -> Result<Vec<(Batch, Bits)>, Error> {
    let mut selected = Vec::new();
    for batch in chunk::load(db, Some(cache))? {
        let bits = selection.of(db, &batch)?;
        if !bits.is_empty() {
            selected.push((batch, bits));
        }
    }
    Ok(selected)
}

/// One field of a grouping.
struct GroupKey {
    named: String,
    column: u8,
    by: GroupBy,
}

enum GroupBy {
    Enum(&'static [&'static str]),
    Term,
}

fn group_keys(text: &str) -> Result<Vec<GroupKey>, Error> {
    let mut keys: Vec<GroupKey> = Vec::new();
    for named in text.split(',').map(str::trim) {
        let key = group_key(named)?;
        if keys.iter().any(|other| other.column == key.column) {
            return Err(Error::invalid(
                "group_by",
                format!("{named:?} is there twice"),
            ));
        }
        keys.push(key);
        if keys.len() > GROUP_FIELDS_MAX {
            return Err(Error::invalid(
                "group_by",
                format!("more than {GROUP_FIELDS_MAX} fields"),
            ));
        }
    }
    Ok(keys)
}

fn group_key(named: &str) -> Result<GroupKey, Error> {
    let path = field_path(named).map_err(|error| Error::invalid("group_by", error.message))?;
    let known = enumerations().find(|(field, _)| *field == path);
    let (column, by) = if let (Some((_, names)), Some(column)) = (known, column_of_enum(&path)) {
        (column_number(column), GroupBy::Enum(names))
    } else {
        let path = crate::fields::find(&path).map_or(path, |found| found.path);
        if !GROUPED.contains(&path.as_str()) {
            let fields = enumerations()
                .map(|(field, _)| field)
                .chain(GROUPED.iter().copied());
            return Err(Error::invalid(
                "group_by",
                format!(
                    "findings are not grouped by {named:?}, but by {}",
                    fields.collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        (column_number(&path), GroupBy::Term)
    };
    Ok(GroupKey {
        named: named.to_owned(),
        column,
        by,
    })
}

/// Numbers of a group's values, one of each field and 0 where a finding has none; 0 for what is no field too.
type Key = [u32; GROUP_FIELDS_MAX];

/// How many findings are in each group.
struct Counts {
    /// By the first number, when it is the only one: there can be as many groups as findings.
    by_id: Option<Vec<i64>>,
    by_key: HashMap<Key, i64>,
}

/// Cells of the table in which the findings of one batch are counted, where they have one value of each field. More are
/// counted one by one.
const CELLS_MAX: usize = 65_536;

/// Values that are counted by number, in 32 MiB at most. Those with higher numbers count as combinations do.
const IDS_MAX: usize = 4 * 1024 * 1024;

impl Counts {
    fn of(fields: usize) -> Self {
        Self {
            by_id: (fields == 1).then(Vec::new),
            by_key: HashMap::new(),
        }
    }

    fn add(&mut self, key: Key, n: i64) -> Result<(), Error> {
        let id = key[0] as usize;
        if let Some(by_id) = self.by_id.as_mut().filter(|_| id < IDS_MAX) {
            if by_id.len() <= id {
                by_id.resize(id + 1, 0);
            }
            by_id[id] += n;
            return Ok(());
        }
        *self.by_key.entry(key).or_default() += n;
        if self.by_key.len() > GROUPS_MAX {
            return Err(Error::invalid(
                "group_by",
                format!(
                    "more than {GROUPS_MAX} groups: narrow the filter, or group by fewer fields"
                ),
            ));
        }
        Ok(())
    }

    fn into_groups(self) -> Vec<(Key, i64)> {
        let by_id = self.by_id.unwrap_or_default().into_iter().enumerate();
        let by_id = by_id.filter(|(_, n)| *n > 0).map(|(id, n)| {
            let mut key = Key::default();
            key[0] = id as u32;
            (key, n)
        });
        by_id.chain(self.by_key).collect()
    }
}

fn count(
    db: &Connection,
    selected: &[(Batch, Bits)],
    keys: &[GroupKey],
) -> Result<Vec<(Key, i64)>, Error> {
    let mut counts = Counts::of(keys.len());
    let mut table = Vec::new();
    for (batch, bits) in selected {
        let bytes = keys
            .iter()
            .map(|key| batch.terms(db, key.column))
            .collect::<Result<Vec<_>, _>>()?;
        let columns = bytes
            .iter()
            .map(|bytes| Terms::read(bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let cells = columns.iter().fold(1_usize, |cells, column| {
            cells.saturating_mul(column.dictionary().len() + 1)
        });
        let is_small = columns.len() == 1 || cells <= CELLS_MAX;
        if is_small && columns.iter().all(Terms::is_single) {
            table.resize(table.len().max(cells), 0);
            count_cells(&columns, bits, &mut table[..cells], &mut counts)?;
        } else {
            count_each(&columns, bits, &mut counts)?;
        }
    }
    Ok(counts.into_groups())
}

/// Leaves the table empty, as it was.
fn count_cells(
    columns: &[Terms<'_>],
    bits: &Bits,
    table: &mut [i64],
    counts: &mut Counts,
) -> Result<(), Error> {
    add_cells(columns, *bits, table);
    for (mut cell, n) in table.iter_mut().enumerate().filter(|(_, n)| **n > 0) {
        let mut key = Key::default();
        for (value, column) in key.iter_mut().zip(columns).rev() {
            let length = column.dictionary().len() + 1;
            *value = column.id(cell % length).unwrap_or(0);
            cell /= length;
        }
        counts.add(key, std::mem::take(n))?;
    }
    Ok(())
}

/// The table of the first column's codes, each of which has a table of the other columns'.
fn add_cells(columns: &[Terms<'_>], bits: Bits, table: &mut [i64]) {
    match columns {
        [] => {}
        [column] => column.count(&bits, table),
        [column, rest @ ..] => {
            let parts = table.len() / (column.dictionary().len() + 1);
            if let Some(sets) = column.sets() {
                let mut none = bits;
                let mut tables = table.chunks_mut(parts);
                let first = tables.next();
                for (table, set) in tables.zip(sets) {
                    add_cells(rest, bits.and(set), table);
                    none = none.without(set);
                }
                if let Some(table) = first {
                    add_cells(rest, none, table);
                }
                return;
            }
            for offset in bits.iter() {
                let mut cell = 0;
                for column in columns {
                    let mut own = 0;
                    column.each(offset, |code, _| own = code);
                    cell = cell * (column.dictionary().len() + 1) + own;
                }
                if let Some(n) = table.get_mut(cell) {
                    *n += 1;
                }
            }
        }
    }
}

/// A finding with several values of a field is in several groups, in each once.
fn count_each(columns: &[Terms<'_>], bits: &Bits, counts: &mut Counts) -> Result<(), Error> {
    for offset in bits.iter() {
        let mut groups = vec![Key::default()];
        for (place, column) in columns.iter().enumerate() {
            let mut values: Vec<u32> = column.values(offset).iter().map(|(_, id)| *id).collect();
            values.sort_unstable();
            values.dedup();
            if values.is_empty() {
                values.push(0);
            }
            if groups.len() * values.len() > GROUPS_PER_FINDING_MAX {
                return Err(Error::invalid(
                    "group_by",
                    format!(
                        "a finding is in more than {GROUPS_PER_FINDING_MAX} groups: group by fewer fields"
                    ),
                ));
            }
            groups = groups
                .iter()
                .flat_map(|group| {
                    values.iter().map(move |value| {
                        let mut group = *group;
                        group[place] = *value;
                        group
                    })
                })
                .collect();
        }
        for group in groups {
            counts.add(group, 1)?;
        }
    }
    Ok(())
}

/// Values of a group, and how many findings it has.
type Sized = (Vec<String>, u64);

/// The last group of a page.
fn read_place(token: &Token, keys: usize) -> Result<Sized, Error> {
    let values: Option<Vec<String>> = token
        .keys
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect();
    let values = values.filter(|values| values.len() == keys);
    let values =
        values.ok_or_else(|| Error::invalid("page_token", "not a token of this grouping"))?;
    Ok((values, token.position.0.unsigned_abs()))
}

/// The larger group is first, of two of one size the one whose values are.
fn compare(a: &Sized, b: &Sized) -> Ordering {
    b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0))
}

/// The `wanted` groups that come first after `after`.
fn largest(
    db: &Connection,
    mut counts: Vec<(Key, i64)>,
    keys: &[GroupKey],
    after: Option<&Sized>,
    wanted: usize,
) -> Result<Vec<Sized>, Error> {
    let mut ties = 0;
    if let Some((_, most)) = after {
        counts.retain(|(_, n)| n.unsigned_abs() <= *most);
        let is_tie = |(_, n): &&(Key, i64)| n.unsigned_abs() == *most;
        ties = counts.iter().filter(is_tie).count();
    }
    counts.sort_unstable_by_key(|(_, n)| std::cmp::Reverse(*n));
    // Only of those that can be among them the names are looked up. Any of the ties may have been on an earlier page.
    let last = ties.saturating_add(wanted).saturating_sub(1);
    let least = counts.get(last).map_or(0, |(_, n)| *n);
    counts.retain(|(_, n)| *n >= least);
    let mut value = db.prepare_cached("SELECT value FROM term WHERE id = $1")?;
    let mut groups = Vec::with_capacity(counts.len());
    for (numbers, n) in counts {
        let mut values = Vec::with_capacity(keys.len());
        for (key, number) in keys.iter().zip(numbers) {
            values.push(match key.by {
                GroupBy::Enum(names) => enum_name(names, number),
                GroupBy::Term => value
                    .query_row([number], |row| row.get(0))
                    .optional()?
                    .unwrap_or_default(),
            });
        }
        groups.push((values, n.unsigned_abs()));
    }
    groups.retain(|group| after.is_none_or(|after| compare(after, group) == Ordering::Less));
    groups.sort_by(compare);
    groups.truncate(wanted);
    Ok(groups)
}

fn enum_name(names: &[&str], number: u32) -> String {
    let name = names.get(number as usize);
    name.copied().unwrap_or_default().to_owned()
}
