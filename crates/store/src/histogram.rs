//! What is selected over time, for a picture.

use std::collections::BTreeMap;

use model::Timestamp;
use rusqlite::Connection;

use crate::aggregate::push_spans;
use crate::filter::Condition;
use crate::select::{Selection, collect, time_range};
use crate::sql::Sql;
use crate::tally::{Countable, Piece, pieces};
use crate::{Error, Store, timestamp};

/// Bars of one histogram.
pub const BUCKETS_MAX: u32 = 500;

/// Findings over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Width of each bucket in nanoseconds.
    pub width_ns: u64,
    /// From the first finding's to the last finding's, the empty ones between them included.
    pub buckets: Vec<Bucket>,
}

/// One bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Begin; a multiple of the width.
    pub start: Timestamp,
    /// Findings by number of their severity: unspecified, critical, high, medium, low.
    pub by_severity: [u64; 5],
}

impl Bucket {
    /// All findings of the bucket.
    pub fn count(&self) -> u64 {
        self.by_severity.iter().sum()
    }
}

impl Store {
    /// What is selected over time, in at most `buckets` buckets of a round width.
    pub fn histogram(&self, parent: &str, filter: &str, buckets: u32) -> Result<Histogram, Error> {
        self.database.read(|db| {
            let selection = Selection::new(db, parent, filter)?;
            histogram(db, &selection, i64::from(buckets.clamp(1, BUCKETS_MAX)))
        })
    }
}

const SECOND: i64 = 1_000_000_000;

/// Widths that people read easily.
const WIDTHS: [i64; 19] = [
    SECOND,
    5 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    5 * 60 * SECOND,
    15 * 60 * SECOND,
    30 * 60 * SECOND,
    3600 * SECOND,
    2 * 3600 * SECOND,
    3 * 3600 * SECOND,
    6 * 3600 * SECOND,
    12 * 3600 * SECOND,
    86_400 * SECOND,
    2 * 86_400 * SECOND,
    7 * 86_400 * SECOND,
    14 * 86_400 * SECOND,
    28 * 86_400 * SECOND,
    364 * 86_400 * SECOND,
];

fn histogram(db: &Connection, selection: &Selection, buckets: i64) -> Result<Histogram, Error> {
    let parts: Vec<&Condition> = selection.parts.iter().collect();
    let (from, to) = time_range(&parts);
    let (first, last) = bounds(db, selection)?;
    let (from, to) = (from.max(first), to.min(last.saturating_add(1)));
    let fits = |width: &i64| (to - 1) / width - from / width < buckets;
    let width = WIDTHS.into_iter().find(fits).unwrap_or(WIDTHS[18]);
    if from >= to {
        return Ok(Histogram {
            width_ns: width.unsigned_abs(),
            buckets: Vec::new(),
        });
    }
    let mut counts: BTreeMap<i64, [u64; 5]> = BTreeMap::new();
    let mut add = |rows: Vec<(i64, i64, i64)>| {
        for (start, severity, n) in rows {
            let severity = usize::try_from(severity).unwrap_or_default().min(4);
            counts.entry(start).or_default()[severity] += n.unsigned_abs();
        }
    };
    match Countable::of(selection) {
        Some(countable) => {
            for piece in pieces((from, to), Countable::shortest(countable.field())..=width) {
                match piece {
                    Piece::Spans { span, from, to } => {
                        let mut sql = Sql::default();
                        sql.push(&format!("SELECT c.start / {width} * {width}, c.severity, sum(c.n) FROM tally c WHERE "));
                        push_spans(&mut sql, &countable, countable.terms(), span, from, to);
                        sql.push(" GROUP BY 1, 2 HAVING sum(c.n) > 0");
                        add(collect(db, &sql, |row| {
                            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                        })?);
                    }
                    Piece::Rows { from, to } => {
                        add(bucket_rows(db, &selection.during(from, to), width)?)
                    }
                }
            }
        }
        None => add(bucket_rows(db, &selection.during(from, to), width)?),
    }
    let found = (
        counts.keys().next().copied(),
        counts.keys().next_back().copied(),
    );
    let (Some(first), Some(last)) = found else {
        return Ok(Histogram {
            width_ns: width.unsigned_abs(),
            buckets: Vec::new(),
        });
    };
    let buckets = (0..=(last - first) / width)
        .map(|number| first + number * width)
        .map(|start| Bucket {
            start: timestamp(start),
            by_severity: counts.get(&start).copied().unwrap_or_default(),
        });
    Ok(Histogram {
        width_ns: width.unsigned_abs(),
        buckets: buckets.collect(),
    })
}

/// Times of the oldest and newest finding that the driver leads to; all that are selected lie between them.
fn bounds(db: &Connection, selection: &Selection) -> Result<(i64, i64), Error> {
    let driver = selection.driver(db, i64::MAX)?;
    let mut bounds = (i64::MAX, 0);
    let mut first = db.prepare_cached("SELECT min(event_time) FROM posting WHERE term_id = $1")?;
    let mut last = db.prepare_cached("SELECT max(event_time) FROM posting WHERE term_id = $1")?;
    for term in driver.terms() {
        let from: Option<i64> = first.query_row([term], |row| row.get(0))?;
        let to: Option<i64> = last.query_row([term], |row| row.get(0))?;
        bounds = (
            bounds.0.min(from.unwrap_or(i64::MAX)),
            bounds.1.max(to.unwrap_or(0)),
        );
    }
    Ok(bounds)
}

fn bucket_rows(
    db: &Connection,
    selection: &Selection,
    width: i64,
) -> Result<Vec<(i64, i64, i64)>, Error> {
    let driver = selection.driver(db, i64::MAX)?;
    let mut sql = Sql::default();
    sql.push(&format!(
        "SELECT p.event_time / {width} * {width}, f.severity, count(*)"
    ));
    selection.source(&mut sql, &driver);
    sql.push(" GROUP BY 1, 2");
    collect(db, &sql, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}
