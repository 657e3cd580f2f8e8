//! What is selected over time, for a picture.

use std::collections::BTreeMap;

use model::Timestamp;
use rusqlite::Connection;

use crate::aggregate::selected;
use crate::chunk::Batch;
use crate::column::Bits;
use crate::layout::column_number;
use crate::piece::Terms;
use crate::select::Selection;
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
            let selection = Selection::new(db, self.database.cache(), parent, filter)?;
            let selected = selected(db, self.database.cache(), &selection)?;
            histogram(db, &selected, i64::from(buckets.clamp(1, BUCKETS_MAX)))
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

fn histogram(
    db: &Connection,
    selected: &[(Batch, Bits)],
    buckets: i64,
) -> Result<Histogram, Error> {
    let Some((first, last)) = bounds(db, selected)? else {
        return Ok(Histogram {
            width_ns: WIDTHS[0].unsigned_abs(),
            buckets: Vec::new(),
        });
    };
    let fits = |width: &i64| last / width - first / width < buckets;
    let width = WIDTHS.into_iter().find(fits).unwrap_or(WIDTHS[18]);
    let mut counts: BTreeMap<i64, [u64; 5]> = BTreeMap::new();
    for (batch, bits) in selected {
        let bytes = batch.terms(db, column_number("severity"))?;
        let severities = Terms::read(&bytes)?;
        let severity = |code| severities.id(code).unwrap_or(0).min(4) as usize;
        if batch.oldest / width == batch.newest / width {
            let mut found = vec![0; severities.dictionary().len() + 1];
            severities.count(bits, &mut found);
            let bucket = counts.entry(batch.oldest / width * width).or_default();
            for (code, n) in found.into_iter().enumerate() {
                bucket[severity(code)] += n.unsigned_abs();
            }
            continue;
        }
        let times = batch.numbers(db, column_number("event_time"))?;
        // Neighbors are mostly of one bucket, and dividing takes long.
        let mut start = i64::MIN;
        let mut bucket = [0; 5];
        for offset in bits.iter() {
            let time = times.get(offset).copied().unwrap_or_default();
            if time.wrapping_sub(start) as u64 >= width.unsigned_abs() {
                add(&mut counts, start, bucket);
                start = time / width * width;
                bucket = [0; 5];
            }
            let mut own = 0;
            severities.each(offset, |code, _| own = code);
            bucket[severity(own)] += 1;
        }
        add(&mut counts, start, bucket);
    }
    let buckets = (first / width..=last / width)
        .map(|number| number * width)
        .map(|start| Bucket {
            start: timestamp(start),
            by_severity: counts.get(&start).copied().unwrap_or_default(),
        });
    Ok(Histogram {
        width_ns: width.unsigned_abs(),
        buckets: buckets.collect(),
    })
}

/// Times of the oldest and the newest finding that are selected.
fn bounds(db: &Connection, selected: &[(Batch, Bits)]) -> Result<Option<(i64, i64)>, Error> {
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    let mut batches: Vec<_> = selected.iter().collect();
    let mut look = |batch: &Batch, bits: &Bits| -> Result<(i64, i64), Error> {
        let times = batch.numbers(db, column_number("event_time"))?;
        for time in bits.iter().filter_map(|offset| times.get(offset)) {
            first = first.min(*time);
            last = last.max(*time);
        }
        Ok((first, last))
    };
    // The oldest is in one of the batches that begin before it, the newest in one of those that end after it.
    batches.sort_by_key(|(batch, _)| batch.oldest);
    let mut found = (i64::MAX, i64::MIN);
    for (batch, bits) in &batches {
        if batch.oldest >= found.0 {
            break;
        }
        found = look(batch, bits)?;
    }
    batches.sort_by_key(|(batch, _)| std::cmp::Reverse(batch.newest));
    for (batch, bits) in &batches {
        if batch.newest <= found.1 {
            break;
        }
        found = look(batch, bits)?;
    }
    Ok((found.0 <= found.1).then_some(found))
}

fn add(counts: &mut BTreeMap<i64, [u64; 5]>, start: i64, own: [u64; 5]) {
    if own != [0; 5] {
        let bucket = counts.entry(start).or_default();
        bucket
            .iter_mut()
            .zip(own)
            .for_each(|(all, own)| *all += own);
    }
}
