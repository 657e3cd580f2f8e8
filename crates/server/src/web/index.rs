//! The threat findings index: every detector as a list and as ATT&CK's matrix, and the page of each.

use std::{collections::BTreeMap, sync::Arc};

use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use detect::Spec;
use model::Timestamp;
use store::Query;

use super::{
    Failure, Web,
    attack::{TACTICS, TECHNIQUES, Technique, title},
    clauses::equal_text,
    frame::{Frame, Section},
    html,
    login::Fields,
    session::Session,
    shown::{self, ShownSeverity, When},
    text as filters,
    view::View,
};
use crate::app::now;

#[derive(Template)]
#[template(path = "index.html")]
struct ListPage {
    frame: Frame,
    search: String,
    entries: Vec<Entry>,
    total: usize,
    /// The matrix instead of the list.
    tactics: Option<Vec<Tactic>>,
    covered: usize,
    techniques: usize,
}

/// A detector.
struct Entry {
    id: &'static str,
    category: &'static str,
    summary: String,
    module: &'static str,
    severity: ShownSeverity,
    class: &'static str,
    techniques: String,
    enabled: bool,
    last_seen: When,
    findings: u64,
    findings_href: String,
}

/// A column of the matrix.
struct Tactic {
    id: &'static str,
    name: String,
    covered: usize,
    cells: Vec<Cell>,
}

/// A technique in it.
struct Cell {
    id: &'static str,
    name: String,
    /// `covered`, `off` when all its detectors are off, or `blank`.
    class: &'static str,
    detectors: Vec<&'static Spec>,
}

#[derive(Template)]
#[template(path = "detector.html")]
struct DetectorPage {
    frame: Frame,
    entry: Entry,
    /// Compiled in, see [`rendered`].
    page: Safe<String>,
}

/// `GET /index`.
pub(crate) async fn list(
    State(web): State<Arc<Web>>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let search = fields.get("search").trim().to_owned();
    let is_matrix = fields.get("view") == "matrix";
    let frame = web
        .frame("Threat findings index", Section::Index, &session)
        .await?;
    web.blocking(session.share(), move |web| {
        let counts = counts(web)?;
        let mut entries = Vec::new();
        for spec in detect::CATALOGUE.iter().filter(|spec| fits(spec, &search)) {
            entries.push(entry(web, spec, &counts)?);
        }
        let tactics = is_matrix.then(|| matrix(&web.pages.detectors));
        let is_covered = |(_, name, _): &&(&str, &str, &[&str])| {
            detect::CATALOGUE.iter().any(|spec| shows(spec, name))
        };
        html(&ListPage {
            frame,
            search,
            entries,
            total: detect::CATALOGUE.len(),
            tactics,
            covered: TECHNIQUES.iter().filter(is_covered).count(),
            techniques: TECHNIQUES.len(),
        })
    })
    .await
}

/// `GET /index/{id}`.
pub(crate) async fn detector(
    State(web): State<Arc<Web>>,
    session: Session,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let spec = detect::find(&id)
        .ok_or_else(|| Failure::NotFound(format!("There is no detector {id}.")))?;
    let frame = web.frame(spec.category, Section::Index, &session).await?;
    web.blocking(session.share(), move |web| {
        html(&DetectorPage {
            frame,
            entry: entry(web, spec, &counts(web)?)?,
            page: rendered(spec),
        })
    })
    .await
}

/// Findings by category, whatever their state.
fn counts(web: &Web) -> Result<BTreeMap<String, u64>, Failure> {
    let mut found = web
        .store()
        .facets("", "", &["category"], store::PAGE_SIZE_MAX)?;
    Ok(found.pop().unwrap_or_default().into_iter().collect())
}

fn entry(web: &Web, spec: &'static Spec, counts: &BTreeMap<String, u64>) -> Result<Entry, Failure> {
    let findings = counts.get(spec.category).copied().unwrap_or_default();
    let filter = equal_text("category", spec.category);
    let last: Option<Timestamp> = if findings == 0 {
        None
    } else {
        let newest = web.store().list(&Query {
            filter: filter.clone(),
            page_size: 1,
            ..Query::default()
        })?;
        newest
            .results
            .first()
            .and_then(|result| result.finding.event_time)
    };
    let settings = &web.pages.detectors;
    let attack = spec.attack.iter().flat_map(|attack| attack.techniques);
    Ok(Entry {
        id: spec.id,
        category: spec.category,
        // Markdown in the source; here it is plain text.
        summary: detect::docs::summary(spec).replace('`', ""),
        module: spec.module_name,
        severity: shown::severity(settings.severity(spec).unwrap_or(spec.severity)),
        class: shown::class(spec.finding_class),
        techniques: attack
            .map(|technique| technique.id)
            .collect::<Vec<_>>()
            .join(", "),
        enabled: settings.is_enabled(spec),
        last_seen: shown::when(last, now()),
        findings,
        findings_href: View::parse("").with_query(&filter),
    })
}

/// Does the text occur in what the list shows of a detector.
fn fits(spec: &Spec, search: &str) -> bool {
    let search = search.to_lowercase();
    let techniques = spec.attack.iter().flat_map(|attack| attack.techniques);
    let texts = [spec.id, spec.category, spec.module_name]
        .map(str::to_owned)
        .into_iter();
    texts
        .chain([detect::docs::summary(spec)])
        .chain(techniques.map(|technique| format!("{} {}", technique.id, technique.name)))
        .any(|text| text.to_lowercase().contains(&search))
}

fn shows(spec: &Spec, technique: &str) -> bool {
    let attack = spec.attack.iter();
    let mut techniques =
        attack.flat_map(|attack| attack.techniques.iter().chain(attack.additional_techniques));
    techniques.any(|shown| shown.name == technique)
}

fn matrix(settings: &detect::Settings) -> Vec<Tactic> {
    TACTICS
        .iter()
        .map(|(tactic, id)| {
            let techniques = TECHNIQUES
                .iter()
                .filter(|(_, _, tactics)| tactics.contains(tactic));
            let mut cells: Vec<Cell> = techniques
                .map(|(id, name, _)| {
                    let detectors: Vec<&'static Spec> = detect::CATALOGUE
                        .iter()
                        .copied()
                        .filter(|spec| shows(spec, name))
                        .collect();
                    Cell {
                        id,
                        name: Technique { id, name }.title(),
                        class: match (
                            detectors.is_empty(),
                            detectors.iter().any(|spec| settings.is_enabled(spec)),
                        ) {
                            (true, _) => "blank",
                            (false, true) => "covered",
                            (false, false) => "off",
                        },
                        detectors,
                    }
                })
                .collect();
            cells.sort_by_key(|cell| (cell.detectors.is_empty(), cell.id));
            Tactic {
                id,
                name: title(tactic),
                covered: cells
                    .iter()
                    .filter(|cell| !cell.detectors.is_empty())
                    .count(),
                cells,
            }
        })
        .collect()
}

/// A detector's page as HTML. Its text is part of the program, so it is safe; raw HTML in it is shown as text all the same.
fn rendered(spec: &Spec) -> Safe<String> {
    use pulldown_cmark::{Event, Options, Parser, html::push_html};
    let page = detect::docs::page(spec);
    // The title is the page's own heading.
    let body = page.split_once('\n').map_or("", |(_, body)| body);
    let events = Parser::new_ext(body, Options::ENABLE_TABLES).map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    });
    let mut out = String::new();
    push_html(&mut out, events);
    Safe(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_rendered_with_its_headings() {
        for spec in detect::CATALOGUE {
            let html = rendered(spec).0;
            assert!(html.contains("<h2>Why it matters</h2>"), "{}", spec.id);
            assert!(!html.contains("<script"), "{}", spec.id);
        }
    }

    #[test]
    fn a_technique_whose_detectors_are_all_off_is_not_shown_as_covered() {
        let mut settings = detect::Settings::default();
        for spec in detect::CATALOGUE {
            settings.detectors.insert(
                spec.id.to_owned(),
                detect::DetectorSettings {
                    enabled: Some(false),
                    severity: None,
                },
            );
        }
        let classes: Vec<&str> = matrix(&settings)
            .iter()
            .flat_map(|tactic| &tactic.cells)
            .map(|cell| cell.class)
            .collect();
        assert!(classes.contains(&"off") && !classes.contains(&"covered"));
        let classes: Vec<&str> = matrix(&detect::Settings::default())
            .iter()
            .flat_map(|tactic| &tactic.cells)
            .map(|cell| cell.class)
            .collect();
        assert!(classes.contains(&"covered"));
    }
}
