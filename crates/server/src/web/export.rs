//! Everything that matches a query, as a file: JSON in the API's shape, or CSV.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use model::finding::FindingResult;
use store::{PAGE_SIZE_MAX, Query};
use tokio::sync::mpsc;

use super::{Failure, Web, session::Session, shown, view::View};

/// Pieces of the file on the way to a slow reader.
const PIECES_QUEUED_MAX: usize = 4;

/// `GET /findings/export.json`.
pub(crate) async fn json(
    State(web): State<Arc<Web>>,
    _: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let view = View::parse(&query.unwrap_or_default());
    let begin = "{\"listFindingsResults\":[".to_owned();
    export(
        web,
        view,
        "application/json",
        "findings.json",
        begin,
        "]}\n",
        |results, first| {
            let mut out = String::new();
            for (index, result) in results.iter().enumerate() {
                if !(first && index == 0) {
                    out.push(',');
                }
                out.push('\n');
                out.push_str(&serde_json::to_string(result).unwrap_or_default());
            }
            out
        },
    )
    .await
}

const CSV_HEAD: &[&str] = &[
    "name",
    "category",
    "severity",
    "state",
    "mute",
    "finding_class",
    "resource_name",
    "resource_display_name",
    "container",
    "image",
    "event_time",
    "create_time",
    "count",
    "binary",
    "sha256",
    "module_name",
    "description",
];

/// `GET /findings/export.csv`.
pub(crate) async fn csv(
    State(web): State<Arc<Web>>,
    _: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let view = View::parse(&query.unwrap_or_default());
    let begin = format!("{}\r\n", CSV_HEAD.join(","));
    export(
        web,
        view,
        "text/csv; charset=utf-8",
        "findings.csv",
        begin,
        "",
        |results, _| results.iter().map(csv_line).collect(),
    )
    .await
}

async fn export(
    web: Arc<Web>,
    view: View,
    kind: &'static str,
    file: &str,
    begin: String,
    end: &'static str,
    write: fn(&[FindingResult], bool) -> String,
) -> Result<Response, Failure> {
    // The first page decides whether there is a file at all; the rest follows while it is read.
    let mut query = Query {
        filter: view.q,
        order_by: view.order,
        page_size: PAGE_SIZE_MAX,
        ..Query::default()
    };
    let (first, mut query) = web
        .blocking(move |web| {
            let page = web.store().list(&query)?;
            query.page_token.clone_from(&page.next_page_token);
            Ok((page, query))
        })
        .await?;
    let (sender, receiver) = mpsc::channel(PIECES_QUEUED_MAX);
    tokio::task::spawn_blocking(move || {
        let send = |text: String| sender.blocking_send(Ok(text)).is_ok();
        let mut goes_on = send(begin) && send(write(&first.results, true));
        while goes_on && !query.page_token.is_empty() {
            match web.store().list(&query) {
                Ok(page) => {
                    goes_on = send(write(&page.results, false));
                    query.page_token = page.next_page_token;
                }
                Err(error) => {
                    // A broken transfer, so that half a file does not pass for a whole one.
                    tracing::error!(error = %error, "an export failed: {error}");
                    let _ = sender.blocking_send(Err(std::io::Error::other("the store failed")));
                    return;
                }
            }
        }
        let _ = send(end.to_owned());
    });
    let disposition = format!("attachment; filename=\"{file}\"");
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, Body::new(Pieces(receiver))).into_response())
}

/// The pieces of a file as the body of an answer.
struct Pieces(mpsc::Receiver<Result<String, std::io::Error>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let piece = self.0.poll_recv(cx);
        piece.map(|piece| piece.map(|piece| piece.map(|text| Frame::data(text.into()))))
    }
}

fn csv_line(result: &FindingResult) -> String {
    let row = shown::row(result, model::Timestamp(0));
    let finding = &result.finding;
    let word = |value: serde_json::Result<serde_json::Value>| match value {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    };
    let binary = finding
        .processes
        .first()
        .and_then(|process| process.binary.as_ref());
    let cells = [
        row.name,
        row.category,
        word(serde_json::to_value(finding.severity)),
        word(serde_json::to_value(finding.state)),
        word(serde_json::to_value(finding.mute)),
        word(serde_json::to_value(finding.finding_class)),
        row.resource_name,
        row.resource,
        row.container,
        row.image,
        row.event_time.iso,
        row.create_time.iso,
        row.count.to_string(),
        binary.map(|file| file.path.clone()).unwrap_or_default(),
        binary.map(|file| file.sha256.clone()).unwrap_or_default(),
        row.module,
        finding.description.clone(),
    ];
    let cells: Vec<String> = cells.iter().map(|cell| csv_cell(cell)).collect();
    format!("{}\r\n", cells.join(","))
}

/// A quoted cell (RFC 4180). One that a spreadsheet would take for a formula is made text by an apostrophe.
fn csv_cell(text: &str) -> String {
    let text = model::text::escape_terminal(text);
    let formula = if text.starts_with(['=', '+', '-', '@']) {
        "'"
    } else {
        ""
    };
    format!("\"{formula}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula_nor_two_cells() {
        assert_eq!(csv_cell("=cmd|' /C calc'!A0"), "\"'=cmd|' /C calc'!A0\"");
        assert_eq!(csv_cell("a\",\"b"), "\"a\"\",\"\"b\"");
        assert_eq!(csv_cell("a\r\nb"), "\"a\\r\\nb\"");
    }
}
