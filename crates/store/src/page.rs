//! Orders and page tokens: where the next page begins.

use model::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fields::{self, Kind, Place};
use crate::{Error, layout};

/// Fields of one order.
const KEYS_MAX: usize = 8;

/// Digits of a token: it holds at most the order's values, terms of bounded length.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// One field of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) by: By,
    pub(crate) descending: bool,
}

/// What an order goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// When it happened.
    EventTime,
    /// The whole name.
    Name,
    /// A number of the row; enumerations in SCC's own order, so `severity` begins with `CRITICAL`.
    Column(&'static str),
    /// The text of the first term of a field by which findings can be grouped.
    Term(String),
    /// A security mark.
    Mark(String),
}

/// Reads SCC's `orderBy`: fields separated by commas, each with `desc` or nothing.
pub(crate) fn parse_order(text: &str) -> Result<Vec<Key>, Error> {
    let mut keys = Vec::new();
    if text.trim().is_empty() {
        return Ok(vec![Key {
            by: By::EventTime,
            descending: true,
        }]);
    }
    for part in text.split(',') {
        let words: Vec<&str> = part.split_whitespace().collect();
        let (path, descending) = match *words.as_slice() {
            [path] | [path, "asc"] => (path, false),
            [path, "desc"] => (path, true),
            _ => {
                return Err(Error::invalid(
                    "order_by",
                    format!(
                        "expected a field, or a field and desc, not {:?}",
                        part.trim()
                    ),
                ));
            }
        };
        keys.push(Key {
            by: by(path)?,
            descending,
        });
    }
    if keys.len() > KEYS_MAX {
        return Err(Error::invalid(
            "order_by",
            format!("more than {KEYS_MAX} fields"),
        ));
    }
    Ok(keys)
}

fn by(path: &str) -> Result<By, Error> {
    let path = crate::filter::field_path(path)
        .map_err(|error| Error::invalid("order_by", error.message))?;
    let unsortable = || Error::invalid("order_by", format!("findings are not ordered by {path:?}"));
    // SCC lists this one without a key.
    if path == "security_marks.marks" {
        return Ok(By::Mark(String::new()));
    }
    let found = fields::find(&path).map_err(|_| unsortable())?;
    match (found.place, found.kind) {
        (Place::Name(_), _) if found.path == "name" => Ok(By::Name),
        (Place::Column("event_time"), _) => Ok(By::EventTime),
        (Place::Column(column), _) => Ok(By::Column(column)),
        (Place::TermColumn(_), _) => Ok(By::Term(found.path)),
        (Place::Term, Kind::Open) => match found.path.strip_prefix("security_marks.marks.") {
            Some(key) => Ok(By::Mark(key.to_owned())),
            None => Err(unsortable()),
        },
        (Place::Term, _) if layout::GROUPED.contains(&found.path.as_str()) => {
            Ok(By::Term(found.path))
        }
        _ => Err(unsortable()),
    }
}

/// Where a page ended. Opaque to callers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    /// Of the query it belongs to.
    #[serde(rename = "q")]
    query: String,
    /// The last finding's values of the order's fields.
    #[serde(rename = "k")]
    pub(crate) keys: Vec<serde_json::Value>,
    /// Its place in time.
    #[serde(rename = "p")]
    pub(crate) position: (i64, i64),
    /// Matches when the first page was read. Counting again for each page would make paging slow.
    #[serde(rename = "n")]
    pub(crate) total: i64,
}

impl Token {
    pub(crate) fn new(
        query: &[&str],
        keys: Vec<serde_json::Value>,
        position: (i64, i64),
        total: i64,
    ) -> Self {
        Self {
            query: digest(query),
            keys,
            position,
            total,
        }
    }

    /// Reads a token given with this query. `None` for the first page.
    pub(crate) fn read(text: &str, query: &[&str]) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let token = (text.len() <= TOKEN_BYTES_MAX)
            .then(|| hex::decode(text))
            .flatten()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .ok_or_else(|| Error::invalid("page_token", "not a token of this server"))?;
        if token.query != digest(query) {
            return Err(Error::invalid(
                "page_token",
                "it belongs to another query: parent, filter and order must stay the same from page to page",
            ));
        }
        Ok(Some(token))
    }
}

/// In hex: safe in a URL.
impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = serde_json::to_vec(self).map_err(|_| std::fmt::Error)?;
        f.write_str(&hex::encode(&bytes))
    }
}

fn digest(query: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in query {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    hex::encode(&digest.finalize()[..8])
}
