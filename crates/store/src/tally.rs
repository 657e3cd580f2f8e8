//! Answering from counts: which selections `tally` can answer, and the pieces of time it answers them in.

use std::ops::RangeInclusive;

use crate::filter::Condition;
use crate::index::{ALL, DAY, HOUR, SPANS};
use crate::select::{Selection, time_range};
use crate::terms::{FACETS, SINGLE};

/// A selection that counts can answer: at most one facet field, enumerations, parents, a range of time.
pub(crate) struct Countable {
    /// The facet field and its terms; `None` counts all findings.
    pub(crate) facet: Option<(String, Vec<i64>)>,
    /// What a row of `tally` must fulfil.
    pub(crate) cells: Condition,
    /// From, up to but not including.
    pub(crate) range: (i64, i64),
}

/// A part of a range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Counted spans of this number, beginning within the range.
    Spans { span: usize, from: i64, to: i64 },
    /// The rest at the edges, which is counted finding by finding.
    Rows { from: i64, to: i64 },
}

impl Countable {
    /// `None` when the findings must be looked at.
    pub(crate) fn of(selection: &Selection) -> Option<Self> {
        let mut facet = None;
        let mut cells = Vec::new();
        let mut times = Vec::new();
        for part in &selection.parts {
            match part {
                Condition::Number {
                    column: "event_time",
                    ..
                } => times.push(part),
                Condition::Ids { field, ids } if FACETS.contains(&field.as_str()) => {
                    // A finding with two of several containers would count twice.
                    let single = ids.len() == 1 || SINGLE.contains(&field.as_str());
                    if facet.is_some() || !single {
                        return None;
                    }
                    facet = Some((field.clone(), ids.clone()));
                }
                part if is_about_cells(part) => cells.push(part.clone()),
                _ => return None,
            }
        }
        Some(Self {
            facet,
            cells: Condition::And(cells),
            range: time_range(&times),
        })
    }

    /// The shortest span counted for a facet field, or for all findings.
    pub(crate) fn shortest(facet: Option<&str>) -> i64 {
        match facet {
            None | Some("category") => HOUR,
            Some(_) => DAY,
        }
    }

    /// The facet field.
    pub(crate) fn field(&self) -> Option<&str> {
        self.facet.as_ref().map(|(field, _)| field.as_str())
    }

    /// The terms whose counts are added.
    pub(crate) fn terms(&self) -> &[i64] {
        match &self.facet {
            Some((_, ids)) => ids,
            None => &[ALL],
        }
    }
}

fn is_about_cells(condition: &Condition) -> bool {
    match condition {
        Condition::And(parts) | Condition::Or(parts) => parts.iter().all(is_about_cells),
        Condition::Not(inner) => is_about_cells(inner),
        Condition::Enum { .. } => true,
        Condition::Ids { field, .. } => field == "parent",
        _ => false,
    }
}

/// Cuts a range into the longest counted spans that fit, of lengths within `lengths`.
pub(crate) fn pieces((from, to): (i64, i64), lengths: RangeInclusive<i64>) -> Vec<Piece> {
    if from == 0 && to == i64::MAX && lengths.contains(&SPANS[0]) {
        return vec![Piece::Spans {
            span: 0,
            from: 0,
            to: i64::MAX,
        }];
    }
    let mut pieces = Vec::new();
    let mut rest = vec![(from, to)];
    for (span, length) in SPANS.into_iter().enumerate().skip(1) {
        if !lengths.contains(&length) {
            continue;
        }
        let mut next = Vec::new();
        for (from, to) in rest {
            let first = from
                .checked_add(length - 1)
                .map_or(i64::MAX, |end| end / length * length);
            let last = to / length * length;
            if first >= last {
                next.push((from, to));
                continue;
            }
            pieces.push(Piece::Spans {
                span,
                from: first,
                to: last,
            });
            next.push((from, first));
            next.push((last, to));
        }
        rest = next;
    }
    let rows = rest.into_iter().filter(|(from, to)| from < to);
    pieces.extend(rows.map(|(from, to)| Piece::Rows { from, to }));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: i64 = SPANS[0];

    fn check(range: (i64, i64), lengths: RangeInclusive<i64>, mut expect: Vec<(usize, i64, i64)>) {
        let mut found: Vec<_> = pieces(range, lengths)
            .into_iter()
            .map(|piece| match piece {
                Piece::Spans { span, from, to } => (span, from, to),
                Piece::Rows { from, to } => (9, from, to),
            })
            .collect();
        found.sort_unstable();
        expect.sort_unstable();
        assert_eq!(found, expect);
    }

    #[test]
    fn without_hours_the_edges_are_rows() {
        check(
            (DAY - HOUR, 2 * DAY + 5),
            DAY..=ALWAYS,
            vec![
                (9, DAY - HOUR, DAY),
                (1, DAY, 2 * DAY),
                (9, 2 * DAY, 2 * DAY + 5),
            ],
        );
    }

    #[test]
    fn a_range_is_covered_once_by_the_longest_spans() {
        check((0, i64::MAX), HOUR..=ALWAYS, vec![(0, 0, i64::MAX)]);
        check((DAY, 3 * DAY), HOUR..=ALWAYS, vec![(1, DAY, 3 * DAY)]);
        check((DAY, 3 * DAY), HOUR..=HOUR, vec![(2, DAY, 3 * DAY)]);
        check(
            (DAY - HOUR, 2 * DAY + 2 * HOUR + 5),
            HOUR..=ALWAYS,
            vec![
                (2, DAY - HOUR, DAY),
                (1, DAY, 2 * DAY),
                (2, 2 * DAY, 2 * DAY + 2 * HOUR),
                (9, 2 * DAY + 2 * HOUR, 2 * DAY + 2 * HOUR + 5),
            ],
        );
        check((5, HOUR - 5), HOUR..=ALWAYS, vec![(9, 5, HOUR - 5)]);
        check((5, 5), HOUR..=ALWAYS, vec![]);
        check((7, 5), HOUR..=ALWAYS, vec![]);
    }
}
