//! Findings over time, as bars that are links: following one narrows the query to its stretch of time.

use model::Timestamp;
use store::{Bucket, filter::Operator};

use super::{
    clauses::Clauses,
    shown::{duration, when},
    text::grouped,
    view::View,
};

/// Bars at most.
pub(crate) const BARS_MAX: u32 = 72;

/// Bars at least: a single finding is a bar, not a wall.
const BARS_MIN: usize = 36;

const FIELD: &str = "event_time";

/// The picture. Units: ten wide per bar, a hundred high.
pub(crate) struct Histogram {
    pub(crate) width: usize,
    pub(crate) bars: Vec<Bar>,
    pub(crate) step: String,
    pub(crate) first: String,
    pub(crate) last: String,
    /// For the form: the present bounds, and the query without them.
    pub(crate) from_value: String,
    pub(crate) to_value: String,
    pub(crate) q_without_range: String,
    /// Address without bounds, when there are any.
    pub(crate) clear: Option<String>,
}

/// One stretch of time.
pub(crate) struct Bar {
    pub(crate) href: String,
    pub(crate) label: String,
    pub(crate) total: u64,
    pub(crate) x: usize,
    pub(crate) hit_x: usize,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) parts: Vec<Part>,
}

/// The findings of one severity in it.
pub(crate) struct Part {
    pub(crate) class: &'static str,
    pub(crate) y: String,
    pub(crate) height: String,
}

/// Index in `Bucket::by_severity`, the worst first: it stands at the bottom, where heights compare best.
const SEVERITIES: [(usize, &str); 5] = [
    (1, "critical"),
    (2, "high"),
    (3, "medium"),
    (4, "low"),
    (0, "none"),
];

pub(crate) fn draw(view: &View, found: &store::Histogram) -> Option<Histogram> {
    let clauses = Clauses::parse(&view.q);
    let bounds: Vec<(Operator, &str)> = clauses.bounds(FIELD).collect();
    let buckets = padded(found);
    let (first, last) = (buckets.first()?, buckets.last()?);
    let highest = buckets
        .iter()
        .map(Bucket::count)
        .max()
        .unwrap_or_default()
        .max(1);
    let end = |bucket: &Bucket| bucket.start.plus_ns(found.width_ns);
    let bars = buckets.iter().enumerate().map(|(index, bucket)| {
        let (from, to) = (bucket.start.to_string(), end(bucket).to_string());
        Bar {
            href: view.with_query(&clauses.within(FIELD, Some(&from), Some(&to))),
            label: label(bucket, end(bucket)),
            total: bucket.count(),
            x: index * 10 + 1,
            hit_x: index * 10,
            parts: parts(bucket, highest),
            from: field_value(bucket.start),
            to: field_value(end(bucket)),
        }
    });
    let bound = |wanted: [Operator; 2]| {
        let found = bounds
            .iter()
            .find(|(operator, _)| wanted.contains(operator));
        found
            .and_then(|(_, value)| Timestamp::parse(value))
            .map(field_value)
            .unwrap_or_default()
    };
    Some(Histogram {
        width: buckets.len() * 10,
        step: duration(found.width_ns / 1_000_000_000),
        first: when(Some(first.start), first.start).text,
        last: when(Some(end(last)), last.start).text,
        from_value: bound([Operator::GreaterOrEqual, Operator::Greater]),
        to_value: bound([Operator::Less, Operator::LessOrEqual]),
        q_without_range: clauses.without_bounds(FIELD).to_string(),
        clear: (!bounds.is_empty())
            .then(|| view.with_query(&clauses.without_bounds(FIELD).to_string())),
        bars: bars.collect(),
    })
}

/// The query with the bounds that the form over the histogram gives.
pub(crate) fn bounded(view: &View) -> Option<String> {
    if view.from.is_none() && view.to.is_none() {
        return None;
    }
    let bound = |value: &Option<String>| {
        value
            .as_deref()
            .and_then(parse_field)
            .map(|time| time.to_string())
    };
    let (from, to) = (bound(&view.from), bound(&view.to));
    Some(Clauses::parse(&view.q).within(FIELD, from.as_deref(), to.as_deref()))
}

/// A time as `datetime-local` fields write it; here it is UTC.
fn field_value(time: Timestamp) -> String {
    time.to_string().get(..19).unwrap_or_default().to_owned()
}

fn parse_field(value: &str) -> Option<Timestamp> {
    let seconds = if value.len() == 16 { ":00" } else { "" };
    Timestamp::parse(&format!("{value}{seconds}Z"))
}

/// With empty buckets before the first, so that there are [`BARS_MIN`].
fn padded(found: &store::Histogram) -> Vec<Bucket> {
    let Some(first) = found.buckets.first() else {
        return Vec::new();
    };
    let missing = BARS_MIN.saturating_sub(found.buckets.len());
    let before = (1..=missing).rev().filter_map(|steps| {
        let back = found.width_ns.checked_mul(u64::try_from(steps).ok()?)?;
        Some(Bucket {
            start: Timestamp(first.start.0.checked_sub(back)?),
            by_severity: [0; 5],
        })
    });
    before.chain(found.buckets.iter().copied()).collect()
}

fn label(bucket: &Bucket, end: Timestamp) -> String {
    let text = |time: Timestamp| when(Some(time), time).text;
    let mut label = format!("{} to {}: ", text(bucket.start), text(end));
    let mut counts = Vec::new();
    for (index, class) in SEVERITIES {
        let count = bucket.by_severity[index];
        if count > 0 {
            let word = if class == "none" {
                "unspecified"
            } else {
                class
            };
            counts.push(format!("{} {word}", grouped(&count.to_string())));
        }
    }
    if counts.is_empty() {
        counts.push("no finding".to_owned());
    }
    label.push_str(&counts.join(", "));
    label
}

fn parts(bucket: &Bucket, highest: u64) -> Vec<Part> {
    let mut top = 100.0;
    let mut parts = Vec::new();
    for (index, class) in SEVERITIES {
        let count = bucket.by_severity[index];
        if count > 0 {
            // A part that is there is seen, however tall the others are.
            let height = (count as f64 / highest as f64 * 96.0).max(4.0).min(top);
            top -= height;
            parts.push(Part {
                class,
                y: format!("{top:.1}"),
                height: format!("{height:.1}"),
            });
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn histogram(counts: &[[u64; 5]]) -> store::Histogram {
        let start = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
        store::Histogram {
            width_ns: HOUR,
            buckets: (0..)
                .zip(counts)
                .map(|(index, by_severity)| Bucket {
                    start: start.plus_ns(index * HOUR),
                    by_severity: *by_severity,
                })
                .collect(),
        }
    }

    #[test]
    fn a_bar_leads_to_its_own_hour() {
        let view =
            View::parse("q=severity%3D%22HIGH%22+AND+event_time%3C%222027-01-01T00%3A00%3A00Z%22");
        let drawn = draw(
            &view,
            &histogram(&[[0, 3, 0, 0, 1], [0; 5], [0, 0, 1, 0, 0]]),
        )
        .unwrap();
        assert_eq!(drawn.bars.len(), BARS_MIN);
        let bar = drawn.bars.iter().find(|bar| bar.total == 4).unwrap();
        let address = bar.href.split_once('?').unwrap().1;
        assert_eq!(
            View::parse(address).q,
            r#"severity="HIGH" AND event_time>="2026-03-01T00:00:00Z" AND event_time<"2026-03-01T01:00:00Z""#
        );
        assert_eq!(
            bar.label,
            "2026-03-01 00:00:00 to 2026-03-01 01:00:00: 3 critical, 1 low"
        );
        assert_eq!(drawn.q_without_range, r#"severity="HIGH""#);
    }

    #[test]
    fn the_form_s_times_become_part_of_the_query() {
        let view = View::parse("q=&from=2026-03-01T00%3A00&to=2026-03-01T00%3A00%3A30");
        assert_eq!(
            bounded(&view).unwrap(),
            r#"event_time>="2026-03-01T00:00:00Z" AND event_time<"2026-03-01T00:00:30Z""#
        );
        assert_eq!(
            bounded(&View::parse("from=yesterday&to=")).unwrap(),
            super::super::view::DEFAULT_QUERY
        );
        assert_eq!(bounded(&View::parse("")), None);
    }
}
