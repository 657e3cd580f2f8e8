//! Everything that matches a query, as a file: JSON in the API's shape, or CSV.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use model::finding::{File, FindingResult};
use store::FindingId;
use tokio::{sync::mpsc, time::timeout};

use super::{
    Failure, Web,
    session::Session,
    shown::{self, Row},
    view::{Column, View},
};
use crate::{
    app::Share,
    limits::{EXPORT_PIECE_FINDINGS, EXPORT_PIECE_TIMEOUT, EXPORTS_MAX},
    service::findings::listed,
};

type WriteFinding = Box<dyn Fn(&FindingResult) -> Result<String, serde_json::Error> + Send + Sync>;

/// A kind of file.
struct Format {
    media_type: &'static str,
    file: &'static str,
    begin: String,
    finding: WriteFinding,
    /// Between two findings.
    between: &'static str,
    end: &'static str,
}

/// `GET /findings/export.json`.
pub(crate) async fn json(
    State(web): State<Arc<Web>>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let format = Format {
        media_type: "application/json",
        file: "findings.json",
        begin: "{\"listFindingsResults\":[\n".to_owned(),
        finding: Box::new(|result| Ok(listed(result)?.to_string())),
        between: ",\n",
        end: "\n]}\n",
    };
    export(web, &session, &query.unwrap_or_default(), format).await
}

/// A column of a CSV file.
struct CsvColumn {
    name: &'static str,
    /// The table's column that it stands for.
    of: Option<Column>,
    cell: fn(&FindingResult, &Row) -> String,
}

const fn csv_column(
    name: &'static str,
    of: Option<Column>,
    cell: fn(&FindingResult, &Row) -> String,
) -> CsvColumn {
    CsvColumn { name, of, cell }
}

/// The columns of a CSV file, in order.
const CSV_COLUMNS: &[CsvColumn] = &[
    csv_column("name", None, |_, row| row.name.clone()),
    csv_column("category", Some(Column::Category), |_, row| {
        row.category.clone()
    }),
    csv_column("severity", Some(Column::Severity), |result, _| {
        word(&result.finding.severity)
    }),
    csv_column("state", Some(Column::State), |result, _| {
        word(&result.finding.state)
    }),
    csv_column("mute", Some(Column::Mute), |result, _| {
        word(&result.finding.mute)
    }),
    csv_column("finding_class", Some(Column::Class), |result, _| {
        word(&result.finding.finding_class)
    }),
    csv_column("resource_name", Some(Column::Resource), |_, row| {
        row.resource_name.clone()
    }),
    csv_column("resource_display_name", Some(Column::Resource), |_, row| {
        row.resource.clone()
    }),
    csv_column("container", Some(Column::Container), |_, row| {
        row.container.clone()
    }),
    csv_column("image", Some(Column::Image), |_, row| row.image.clone()),
    csv_column("event_time", Some(Column::EventTime), |_, row| {
        row.event_time.iso.clone()
    }),
    csv_column("create_time", Some(Column::CreateTime), |_, row| {
        row.create_time.iso.clone()
    }),
    csv_column("count", Some(Column::Count), |_, row| row.count.to_string()),
    csv_column("binary", None, |result, _| {
        binary(result, |file| &file.path)
    }),
    csv_column("sha256", None, |result, _| {
        binary(result, |file| &file.sha256)
    }),
    csv_column("module_name", Some(Column::Detector), |_, row| {
        row.module.clone()
    }),
    csv_column("description", None, |result, _| {
        result.finding.description.clone()
    }),
    csv_column("first_seen", Some(Column::FirstSeen), |_, row| {
        row.first_seen.iso.clone()
    }),
    csv_column("techniques", Some(Column::Techniques), |_, row| {
        row.techniques.clone()
    }),
    csv_column("security_marks", Some(Column::Marks), |_, row| {
        row.marks.clone()
    }),
];

/// An enumeration's value as the API writes it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn binary(result: &FindingResult, member: fn(&File) -> &String) -> String {
    let process = result.finding.processes.first();
    let binary = process.and_then(|process| process.binary.as_ref());
    binary.map(|file| member(file).clone()).unwrap_or_default()
}

/// `GET /findings/export.csv`.
pub(crate) async fn csv(
    State(web): State<Arc<Web>>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    let columns = csv_columns(&View::parse(&query).columns);
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let format = Format {
        media_type: "text/csv; charset=utf-8",
        file: "findings.csv",
        begin: format!("{}\r\n", names.join(",")),
        finding: Box::new(move |result| Ok(csv_line(result, &columns))),
        between: "",
        end: "",
    };
    export(web, &session, &query, format).await
}

/// All columns; where some of the table were chosen, the name and these.
fn csv_columns(chosen: &[Column]) -> Vec<&'static CsvColumn> {
    let is_wanted = |column: &&CsvColumn| match column.of {
        _ if chosen == Column::DEFAULT => true,
        None => column.name == "name",
        Some(of) => chosen.contains(&of),
    };
    CSV_COLUMNS.iter().filter(is_wanted).collect()
}

async fn export(
    web: Arc<Web>,
    session: &Session,
    query: &str,
    format: Format,
) -> Result<Response, Failure> {
    let headers = [
        (header::CONTENT_TYPE, format.media_type.to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}\"", format.file),
        ),
    ];
    let view = View::parse(query);
    let body = begin(web, session.share(), view, format, EXPORT_PIECE_TIMEOUT).await?;
    Ok((headers, body).into_response())
}

/// The file. What it holds is decided now: findings that come, and those that are seen again meanwhile, move none out of it.
async fn begin(
    web: Arc<Web>,
    share: Share,
    View { q, order, .. }: View,
    format: Format,
    patience: Duration,
) -> Result<Body, Failure> {
    let permit = Arc::clone(&web.exports).try_acquire_owned();
    let permit = permit.map_err(|_| {
        Failure::TooMany(format!(
            "{EXPORTS_MAX} exports are under way. Try again when one has ended."
        ))
    })?;
    let ids = web
        .blocking(Arc::clone(&share), move |web| {
            Ok(match order.as_str() {
                "" => web.store().ids("", &q)?,
                order => web.store().ids_in_order("", &q, order)?,
            })
        })
        .await?;
    // One is read while the one before it is on its way.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        // Where it ends early the transfer breaks: half a file must not pass for a whole one.
        if let Err(reason) = send(&web, &share, &ids, format, &sender, patience).await {
            tracing::warn!("an export was broken off: {reason}");
        }
    });
    Ok(Body::new(Pieces {
        receiver,
        is_whole: false,
    }))
}

async fn send(
    web: &Arc<Web>,
    share: &Share,
    ids: &[FindingId],
    format: Format,
    sender: &mpsc::Sender<Piece>,
    patience: Duration,
) -> Result<(), &'static str> {
    let send = async |piece| match timeout(patience, sender.send(piece)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the reader has gone"),
        Err(_) => Err("the reader is too slow"),
    };
    send(Piece::Text(format.begin)).await?;
    let mut between = "";
    let mut rest = ids;
    while !rest.is_empty() {
        let next = rest[..rest.len().min(EXPORT_PIECE_FINDINGS)].to_vec();
        let (findings, taken) = web
            .blocking(Arc::clone(share), move |web| {
                Ok(web.store().findings(&next)?)
            })
            .await
            .map_err(|_| "the store failed")?;
        rest = &rest[taken..];
        let mut text = String::new();
        for finding in &findings {
            text.push_str(between);
            let written = (format.finding)(finding).map_err(|_| "a finding cannot be written")?;
            text.push_str(&written);
            between = format.between;
        }
        send(Piece::Text(text)).await?;
    }
    send(Piece::Text(format.end.to_owned())).await?;
    send(Piece::End).await
}

/// A part of a file on its way to the reader.
enum Piece {
    Text(String),
    End,
}

/// The pieces of a file as the body of an answer.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    is_whole: bool,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.is_whole {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(cx).map(|piece| match piece {
            Some(Piece::Text(text)) => Some(Ok(Frame::data(text.into()))),
            Some(Piece::End) => {
                self.is_whole = true;
                None
            }
            None => Some(Err(std::io::Error::other("the export was broken off"))),
        })
    }
}

fn csv_line(result: &FindingResult, columns: &[&CsvColumn]) -> String {
    let row = shown::row(result, model::Timestamp(0));
    let cells: Vec<String> = columns
        .iter()
        .map(|column| csv_cell(&(column.cell)(result, &row)))
        .collect();
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
    use http_body_util::BodyExt;
    use store::Store;

    use crate::{app::App, limits::EXPORTS_MAX, service::Service, web::Pages};

    use super::*;

    #[test]
    fn a_cell_is_never_a_formula_nor_two_cells() {
        assert_eq!(csv_cell("=cmd|' /C calc'!A0"), "\"'=cmd|' /C calc'!A0\"");
        assert_eq!(csv_cell("a\",\"b"), "\"a\"\",\"\"b\"");
        assert_eq!(csv_cell("a\r\nb"), "\"a\\r\\nb\"");
    }

    #[test]
    fn chosen_columns_are_those_of_the_file() {
        let names = |query: &str| -> Vec<&str> {
            let columns = csv_columns(&View::parse(query).columns);
            columns.iter().map(|column| column.name).collect()
        };
        assert_eq!(names("").len(), CSV_COLUMNS.len());
        assert_eq!(
            names("col=severity,resource,marks"),
            [
                "name",
                "category",
                "severity",
                "resource_name",
                "resource_display_name",
                "security_marks"
            ]
        );
        // Each column of the table has one in the file.
        for column in Column::ALL {
            assert!(
                CSV_COLUMNS.iter().any(|csv| csv.of == Some(*column)),
                "{column:?}"
            );
        }
    }

    /// More findings than fit the pieces that are on the way.
    const FINDINGS: usize = 5 * EXPORT_PIECE_FINDINGS;

    fn filled() -> (tempfile::TempDir, Arc<Web>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let source = "organizations/1/sources/1";
        let findings: Vec<_> = (0..FINDINGS as u64)
            .map(|number| FindingResult {
                finding: model::finding::Finding {
                    name: format!("{source}/locations/global/findings/f{number}"),
                    event_time: Some(model::Timestamp(number)),
                    ..model::finding::Finding::default()
                },
                resource: model::finding::Resource::default(),
            })
            .collect();
        store.record(&findings).unwrap();
        let app = App::new(Service::new(store, source).unwrap());
        (folder, Arc::new(Web::new(app, Pages::default())))
    }

    fn lines() -> Format {
        Format {
            media_type: "text/plain",
            file: "lines",
            begin: String::new(),
            finding: Box::new(|result| Ok(format!("{}\n", result.finding.name))),
            between: "",
            end: "",
        }
    }

    async fn start(web: &Arc<Web>, patience: Duration) -> Result<Body, Failure> {
        let share = web.app.share("ada");
        begin(Arc::clone(web), share, View::parse("q="), lines(), patience).await
    }

    #[tokio::test]
    async fn what_is_seen_again_meanwhile_stays_in_the_file() {
        let (_folder, web) = filled();
        let mut body = start(&web, Duration::MAX).await.unwrap();
        // The beginning is on its way. Now the oldest become the newest.
        body.frame().await.unwrap().unwrap();
        let ids = web.store().ids("", "").unwrap();
        let mut again = web.store().findings(&ids).unwrap().0;
        again.reverse();
        again.truncate(3 * EXPORT_PIECE_FINDINGS);
        for result in &mut again {
            result.finding.event_time = Some(model::Timestamp(1_000_000));
        }
        web.store().record(&again).unwrap();
        let rest = body.collect().await.unwrap().to_bytes();
        let rest = String::from_utf8(rest.to_vec()).unwrap();
        let mut names: Vec<_> = rest.lines().collect();
        assert!(names[0].ends_with(&format!("/f{}", FINDINGS - 1)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FINDINGS);
    }

    #[tokio::test]
    async fn a_reader_that_stops_is_given_up_and_makes_room() {
        let (_folder, web) = filled();
        let mut stuck = Vec::new();
        for _ in 0..EXPORTS_MAX {
            stuck.push(start(&web, Duration::from_millis(1)).await.unwrap());
        }
        // Nobody reads: in the end all have made room.
        let all = u32::try_from(EXPORTS_MAX).unwrap();
        let room = web.exports.acquire_many(all).await.unwrap();
        assert!(matches!(
            start(&web, Duration::MAX).await,
            Err(Failure::TooMany(_))
        ));
        drop(room);
        // Half a file is no file.
        for body in stuck {
            body.collect().await.unwrap_err();
        }
        let whole = start(&web, Duration::MAX).await.unwrap();
        whole.collect().await.unwrap();
    }
}
