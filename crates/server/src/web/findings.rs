//! The findings page: query, quick filters with counts, histogram, table.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse, Redirect, Response},
};
use model::hex;
use serde_json::json;
use sha2::{Digest, Sha256};
use store::{
    Query,
    filter::{self, FILTER_BYTES_MAX},
};

use super::{
    Failure, Web,
    clauses::Clauses,
    frame::{Frame, Notice, Section},
    histogram::{self, Histogram},
    html,
    session::Session,
    shown::{self, Row, enum_word},
    text as filters,
    view::{Column, PAGE_SIZES, View},
    write::MATCHING_MAX,
};
use crate::app::now;

/// Values shown of one quick filter.
const FACET_VALUES_MAX: u32 = 12;

#[derive(Template)]
#[template(path = "findings.html")]
struct Page {
    frame: Frame,
    view: View,
    may_edit: bool,
    error: Option<QueryError>,
    slow: bool,
    facets: Vec<Facet>,
    histogram: Option<Histogram>,
    total: u64,
    columns: Vec<Column>,
    heads: Vec<Head>,
    rows: Vec<Row>,
    column_choices: Vec<ColumnChoice>,
    page_sizes: &'static [usize],
    first: String,
    next: Option<String>,
    query_bytes_max: usize,
    live: String,
    mark: String,
    /// When this page was made.
    as_of: String,
    /// More match than are shown, and few enough to be changed together.
    has_matching: bool,
}

/// What is wrong with the query, with the place.
struct QueryError {
    message: String,
    /// The query is right, but takes too long: then the place is empty.
    slow: bool,
    before: String,
    at: String,
    after: String,
}

/// One quick filter.
struct Facet {
    title: &'static str,
    field: &'static str,
    open: bool,
    values: Vec<FacetValue>,
    more: bool,
}

struct FacetValue {
    label: String,
    href: String,
    count: u64,
    selected: bool,
}

struct Head {
    label: &'static str,
    class: &'static str,
    href: Option<String>,
    sort: Option<&'static str>,
}

struct ColumnChoice {
    key: &'static str,
    label: &'static str,
    shown: bool,
}

/// A field that quick filters offer; `universe` when all its values are known.
struct FacetField {
    title: &'static str,
    field: &'static str,
    universe: &'static [&'static str],
    open: bool,
}

const FACETS: &[FacetField] = &[
    FacetField {
        title: "Severity",
        field: "severity",
        universe: &["CRITICAL", "HIGH", "MEDIUM", "LOW"],
        open: true,
    },
    FacetField {
        title: "State",
        field: "state",
        universe: &["ACTIVE", "INACTIVE"],
        open: true,
    },
    FacetField {
        title: "Mute",
        field: "mute",
        universe: &["UNDEFINED", "UNMUTED", "MUTED"],
        open: true,
    },
    FacetField {
        title: "Category",
        field: "category",
        universe: &[],
        open: true,
    },
    FacetField {
        title: "Container",
        field: "containers.name",
        universe: &[],
        open: true,
    },
    FacetField {
        title: "Resource",
        field: "resource_name",
        universe: &[],
        open: false,
    },
    FacetField {
        title: "Detector",
        field: "module_name",
        universe: &[],
        open: false,
    },
    FacetField {
        title: "Finding class",
        field: "finding_class",
        universe: &[],
        open: false,
    },
];

/// `GET /findings`.
pub(crate) async fn show(
    State(web): State<Arc<Web>>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    let view = View::parse(&query);
    if let Some(q) = histogram::bounded(&view) {
        return Ok(Redirect::to(&view.with_query(&q)).into_response());
    }
    let mut frame = web.frame("Findings", Section::Findings, &session).await?;
    frame.notice = notice(&query);
    web.blocking(session.share(), move |web| {
        html(&page(web, frame, view, session.may_edit())?)
    })
    .await
}

/// What the last change did; the address carries it over the redirect as a word and a number, never as text.
fn notice(query: &str) -> Option<Notice> {
    let done = form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "done")?
        .1;
    let (action, counts) = done.split_once(':')?;
    let (count, gone) = counts.split_once(':').unwrap_or((counts, "0"));
    let (count, gone): (u64, u64) = (count.parse().ok()?, gone.parse().ok()?);
    let findings = if count == 1 {
        "1 finding".to_owned()
    } else {
        format!("{} findings", filters::grouped(&count.to_string()))
    };
    let (good, text) = match action {
        "active" => (true, format!("{findings} set active.")),
        "inactive" => (true, format!("{findings} set inactive.")),
        "mute" => (true, format!("{findings} muted.")),
        "unmute" => (true, format!("{findings} unmuted.")),
        "none" => (
            false,
            "Nothing was selected, so nothing was changed.".to_owned(),
        ),
        _ => return None,
    };
    Some(match gone {
        0 => Notice { good, text },
        1 => Notice {
            good: false,
            text: format!("{text} 1 was not there any more."),
        },
        _ => Notice {
            good: false,
            text: format!("{text} {gone} were not there any more."),
        },
    })
}

fn page(web: &Web, frame: Frame, view: View, may_edit: bool) -> Result<Page, Failure> {
    let now = now();
    let found = match filter::check(&view.q) {
        Ok(()) => found(web, &view),
        Err(error) => Ok(Found {
            error: Some(query_error(&view.q, &error)),
            facets: facets(web, &view)?,
            ..Found::default()
        }),
    };
    let Found {
        error,
        page,
        facets,
        histogram,
    } = found.or_else(too_slow)?;
    let first = view.with_page("");
    Ok(Page {
        frame,
        may_edit,
        facets,
        histogram,
        total: page.total_size,
        heads: view
            .columns
            .iter()
            .map(|column| head(&view, *column))
            .collect(),
        columns: view.columns.clone(),
        mark: mark(&page),
        as_of: now.to_string(),
        has_matching: page.total_size > page.results.len() as u64
            && page.total_size <= MATCHING_MAX as u64,
        rows: page
            .results
            .iter()
            .map(|result| shown::row(result, now))
            .collect(),
        column_choices: Column::ALL
            .iter()
            .filter(|column| **column != Column::Category)
            .map(|column| ColumnChoice {
                key: column.key(),
                label: column.label(),
                shown: view.columns.contains(column),
            })
            .collect(),
        page_sizes: PAGE_SIZES,
        next: (!page.next_page_token.is_empty()).then(|| view.with_page(&page.next_page_token)),
        first,
        query_bytes_max: FILTER_BYTES_MAX,
        live: if view.page.is_empty() && error.is_none() {
            view.href().replacen("/findings", "/findings/live", 1)
        } else {
            String::new()
        },
        slow: error.as_ref().is_some_and(|error| error.slow),
        error,
        view,
    })
}

/// What a query selects.
#[derive(Default)]
struct Found {
    error: Option<QueryError>,
    page: store::Page,
    facets: Vec<Facet>,
    histogram: Option<Histogram>,
}

fn found(web: &Web, view: &View) -> Result<Found, Failure> {
    Ok(Found {
        error: None,
        page: list(web, view)?,
        facets: facets(web, view)?,
        histogram: histogram::draw(
            view,
            &web.store().histogram("", &view.q, histogram::BARS_MAX)?,
        ),
    })
}

/// A query that takes too long stays in the editor, to be narrowed.
fn too_slow(failure: Failure) -> Result<Found, Failure> {
    match failure {
        Failure::TooSlow(message) => Ok(Found {
            error: Some(QueryError {
                message,
                slow: true,
                before: String::new(),
                at: String::new(),
                after: String::new(),
            }),
            ..Found::default()
        }),
        other => Err(other),
    }
}

fn list(web: &Web, view: &View) -> Result<store::Page, Failure> {
    Ok(web.store().list(&Query {
        filter: view.q.clone(),
        order_by: view.order.clone(),
        page_size: u32::try_from(view.n).unwrap_or_default(),
        page_token: view.page.clone(),
        ..Query::default()
    })?)
}

/// `GET /findings/live`: a word that changes when the page would show something else.
pub(crate) async fn live(
    State(web): State<Arc<Web>>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let view = View::parse(&query.unwrap_or_default());
    web.blocking(session.share(), move |web| {
        let page = list(web, &view)?;
        super::json(&json!({ "mark": mark(&page), "total": page.total_size }))
    })
    .await
}

/// Digest of what the table shows.
fn mark(page: &store::Page) -> String {
    let mut digest = Sha256::new();
    digest.update(page.total_size.to_be_bytes());
    for result in &page.results {
        let finding = &result.finding;
        digest.update(&finding.name);
        digest.update(finding.event_time.unwrap_or_default().0.to_be_bytes());
        digest.update([
            finding.state as u8,
            finding.severity as u8,
            finding.mute as u8,
        ]);
        digest.update(shown::occurrences(finding).to_be_bytes());
    }
    hex::encode(&digest.finalize()[..8])
}

fn query_error(query: &str, error: &filter::Error) -> QueryError {
    let (before, rest) = query.split_at(query.floor_char_boundary(error.position));
    // The word at fault; a space where the query ends too early.
    let end = rest
        .char_indices()
        .skip(1)
        .find(|(_, character)| !character.is_alphanumeric() && !"_.-".contains(*character))
        .map_or(rest.len(), |(at, _)| at);
    let (at, after) = rest.split_at(end);
    QueryError {
        message: error.message.clone(),
        slow: false,
        before: before.to_owned(),
        at: if at.is_empty() {
            " ".to_owned()
        } else {
            at.to_owned()
        },
        after: after.to_owned(),
    }
}

fn head(view: &View, column: Column) -> Head {
    let field = column.order_field();
    let (by, descending) = match view.order.split_once(' ') {
        Some((by, "desc")) => (by, true),
        Some(_) => ("", false),
        // The newest first, when the address does not say.
        None if view.order.is_empty() => ("event_time", true),
        None => (view.order.as_str(), false),
    };
    let sort = (field == Some(by)).then_some(if descending {
        "descending"
    } else {
        "ascending"
    });
    Head {
        label: column.label(),
        class: if column == Column::Count {
            "number"
        } else {
            ""
        },
        href: field.map(|field| {
            let descend = match sort {
                None => column == Column::EventTime || column == Column::CreateTime,
                Some(_) => !descending,
            };
            view.with_order(&if descend {
                format!("{field} desc")
            } else {
                field.to_owned()
            })
        }),
        sort,
    }
}

fn facets(web: &Web, view: &View) -> Result<Vec<Facet>, Failure> {
    let clauses = Clauses::parse(&view.q);
    let filter = clauses.to_string();
    if filter::check(&filter).is_err() {
        return Ok(Vec::new());
    }
    // A field counts as if it was not filtered by; those that are not share one question.
    let (own, shared): (Vec<&FacetField>, Vec<&FacetField>) = FACETS
        .iter()
        .partition(|facet| !clauses.selected(facet.field, facet.universe).is_empty());
    let fields: Vec<&str> = shared.iter().map(|facet| facet.field).collect();
    let limit = FACET_VALUES_MAX + 1;
    let mut counts: Vec<(&str, Vec<(String, u64)>)> = fields
        .iter()
        .copied()
        .zip(web.store().facets("", &filter, &fields, limit)?)
        .collect();
    for facet in own {
        let others = clauses.without(facet.field).to_string();
        let mut found = web.store().facets("", &others, &[facet.field], limit)?;
        counts.push((facet.field, found.pop().unwrap_or_default()));
    }
    Ok(FACETS
        .iter()
        .map(|facet| {
            let found = counts.iter().find(|(field, _)| *field == facet.field);
            shown_facet(
                view,
                &clauses,
                facet,
                found
                    .map(|(_, values)| values.as_slice())
                    .unwrap_or_default(),
            )
        })
        .collect())
}

fn shown_facet(
    view: &View,
    clauses: &Clauses,
    facet: &FacetField,
    found: &[(String, u64)],
) -> Facet {
    let selected = clauses.selected(facet.field, facet.universe);
    let count_of = |value: &str| {
        found
            .iter()
            .find(|(other, _)| other == value)
            .map_or(0, |(_, count)| *count)
    };
    let mut values: Vec<(String, u64)> = if facet.universe.is_empty() {
        found
            .iter()
            .filter(|(value, _)| !value.is_empty())
            .take(FACET_VALUES_MAX as usize)
            .cloned()
            .collect()
    } else {
        facet
            .universe
            .iter()
            .map(|value| ((*value).to_owned(), count_of(value)))
            .collect()
    };
    for value in &selected {
        if !values.iter().any(|(other, _)| other == value) {
            values.push((value.clone(), count_of(value)));
        }
    }
    Facet {
        title: facet.title,
        field: facet.field,
        open: facet.open || !selected.is_empty(),
        // One more than are shown was asked for, and none is a value too.
        more: found.iter().filter(|(value, _)| !value.is_empty()).count()
            > FACET_VALUES_MAX as usize,
        values: values
            .into_iter()
            .map(|(value, count)| FacetValue {
                label: facet_label(facet.field, &value),
                href: view.with_query(&clauses.toggled(facet.field, &value, facet.universe)),
                count,
                selected: selected.contains(&value),
            })
            .collect(),
    }
}

fn facet_label(field: &str, value: &str) -> String {
    match field {
        "severity" | "state" | "finding_class" => enum_word(value),
        "mute" if value == "UNDEFINED" => "Not set".to_owned(),
        "mute" => enum_word(value),
        "resource_name" => value.trim_start_matches('/').to_owned(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_error_is_the_word_at_fault() {
        let query = r#"severity="HIGH" AND sevrity="LOW""#;
        let error = filter::check(query).unwrap_err();
        let shown = query_error(query, &error);
        assert_eq!(
            (shown.before.as_str(), shown.at.as_str()),
            (r#"severity="HIGH" AND "#, "sevrity")
        );
        let query = "severity=";
        let shown = query_error(query, &filter::check(query).unwrap_err());
        assert_eq!((shown.before.as_str(), shown.at.as_str()), (query, " "));
    }

    #[test]
    fn a_query_that_takes_too_long_is_said_beside_the_query() {
        let error = too_slow(store::Error::TooSlow.into()).unwrap().error;
        let message = error.unwrap().message;
        assert!(message.contains("takes too long"), "{message}");
        assert!(matches!(
            too_slow(store::Error::Damaged.into()),
            Err(Failure::Internal)
        ));
    }

    #[test]
    fn the_address_cannot_put_text_into_a_notice() {
        assert!(notice("done=<b>:1").is_none());
        assert!(notice("done=mute:1:<b>").is_none());
        assert_eq!(notice("done=mute:2").unwrap().text, "2 findings muted.");
    }
}
