//! Help while a query is typed: is it right so far, and what could come next.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde::Serialize;
use store::{FIELDS, Kind, filter};

use super::{Failure, Web, login::Fields, session::Session};

/// Completions offered at a time.
const ITEMS_MAX: usize = 30;

/// Values of a field looked through for those that fit.
const VALUES_MAX: u32 = 500;

/// What `check` answers. Offsets are in UTF-16 units, as browsers count.
#[derive(Serialize)]
struct Checked {
    error: Option<String>,
    from: usize,
    to: usize,
}

/// What `complete` answers: replace `from..to` by one of the items.
#[derive(Debug, Default, Serialize)]
struct Completions {
    from: usize,
    to: usize,
    items: Vec<Item>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Item {
    text: String,
    hint: String,
}

/// `GET /findings/check?q=`.
pub(crate) async fn check(_: Session, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let q = fields.get("q");
    let checked = match filter::check(q) {
        Ok(()) => Checked {
            error: None,
            from: 0,
            to: 0,
        },
        Err(error) => {
            let position = q.floor_char_boundary(error.position);
            let rest = q.get(position..).unwrap_or_default();
            let word = rest
                .char_indices()
                .skip(1)
                .find(|(_, character)| !character.is_alphanumeric() && !"_.-".contains(*character))
                .map_or(rest.len(), |(at, _)| at);
            Checked {
                from: utf16(q, position),
                to: utf16(q, position + word),
                error: Some(error.message),
            }
        }
    };
    super::json(&checked)
}

/// `GET /findings/complete?q=&at=`.
pub(crate) async fn complete(
    State(web): State<Arc<Web>>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let q = fields.get("q").to_owned();
    let at = from_utf16(&q, fields.get("at").parse().unwrap_or(usize::MAX));
    web.blocking(session.share(), move |web| {
        let (head, tail) = q.split_at(at);
        let place = place(head);
        let items = match &place.what {
            What::List => lists_like(head.get(place.from..).unwrap_or_default()),
            What::Field { within } => {
                let typed = head.get(place.from..).unwrap_or_default();
                let mut items = fields_like(within, typed);
                if within.is_empty() {
                    items.extend(keys_like(web, typed)?);
                }
                items.truncate(ITEMS_MAX);
                items
            }
            What::Operator => operators(),
            What::Value { field } => {
                values_like(web, field, head.get(place.from..).unwrap_or_default())?
            }
            What::Keyword => keywords(head.get(place.from..).unwrap_or_default()),
        };
        // The rest of the word at the cursor goes as well, but not what follows a closed quotation.
        let end = match place.what {
            What::Value { .. }
                if head
                    .get(place.from..)
                    .is_some_and(|typed| typed.starts_with('"')) =>
            {
                at + tail.find('"').map_or(0, |end| end + 1)
            }
            _ => {
                at + tail
                    .find(|character: char| !is_word(character))
                    .unwrap_or(tail.len())
            }
        };
        super::json(&Completions {
            from: utf16(&q, place.from),
            to: utf16(&q, end),
            items,
        })
    })
    .await
}

fn utf16(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or(text).encode_utf16().count()
}

fn from_utf16(text: &str, units: usize) -> usize {
    let mut left = units;
    for (at, character) in text.char_indices() {
        if left < character.len_utf16() {
            return at;
        }
        left -= character.len_utf16();
    }
    text.len()
}

/// What is being typed, from which byte on.
#[derive(Debug, PartialEq)]
struct Place {
    from: usize,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    /// Its path begins with this, which is not typed: inside `contains(containers, ...)` it is `containers.`.
    Field {
        within: String,
    },
    /// What `contains(` looks into.
    List,
    Operator,
    Value {
        field: String,
    },
    Keyword,
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || "_.".contains(character)
}

/// Reads what stands before the cursor. A query being typed is seldom whole, so this looks at words only.
fn place(head: &str) -> Place {
    // For each open parenthesis what the fields in it begin with.
    let mut within = vec![String::new()];
    let mut what = What::Field {
        within: String::new(),
    };
    let mut field = String::new();
    let mut at = 0;
    loop {
        let rest = head.get(at..).unwrap_or_default();
        let Some(next) = rest.chars().next() else {
            return Place { from: at, what };
        };
        if next.is_whitespace() {
            at += next.len_utf8();
            continue;
        }
        let length = match next {
            '"' => quoted_length(rest),
            '(' | ')' | ',' | '-' => 1,
            '=' | ':' | '<' | '>' | '!' => {
                rest.find(|c| !"=:<>!".contains(c)).unwrap_or(rest.len())
            }
            _ => rest
                .find(|c: char| !is_word(c))
                .unwrap_or(rest.len())
                .max(next.len_utf8()),
        };
        let token = rest.get(..length).unwrap_or_default();
        let ends_here = at + length == head.len();
        let unfinished = match next {
            '"' => ends_here && !is_closed(token),
            c => ends_here && is_word(c),
        };
        if unfinished {
            return Place { from: at, what };
        }
        let innermost = within.last().cloned().unwrap_or_default();
        what = match (what, token) {
            (What::Operator, "(") => {
                within.push(innermost.clone());
                match field.as_str() {
                    CONTAINS | CONTAINS_ONLY => What::List,
                    _ => What::Field { within: innermost },
                }
            }
            (_, "(") => {
                within.push(innermost.clone());
                What::Field { within: innermost }
            }
            (What::List, list) => {
                if let Some(inner) = within.last_mut() {
                    *inner = format!("{innermost}{list}.");
                }
                What::Operator
            }
            (_, "," | "-" | "AND" | "OR" | "NOT") => What::Field { within: innermost },
            (_, ")") => {
                if within.len() > 1 {
                    within.pop();
                }
                What::Keyword
            }
            (What::Field { within }, word) => {
                field = format!("{within}{word}");
                What::Operator
            }
            (What::Operator, _) => What::Value {
                field: std::mem::take(&mut field),
            },
            (What::Value { .. } | What::Keyword, _) => What::Keyword,
        };
        at += length;
    }
}

const CONTAINS: &str = "contains";
const CONTAINS_ONLY: &str = "containsOnly";

fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_closed(token: &str) -> bool {
    token.len() > 1
        && quoted_length(token) == token.len()
        && token.ends_with('"')
        && !token.ends_with("\\\"")
}

/// Lists of messages, of which `contains` looks at each.
fn lists_like(typed: &str) -> Vec<Item> {
    let fits = |list: &&&str| list.starts_with(&typed.to_lowercase());
    let lists = store::ELEMENTS.iter().filter(fits);
    lists
        .map(|list| item(&format!("{list}, "), "one element of it"))
        .collect()
}

fn fields_like(within: &str, typed: &str) -> Vec<Item> {
    let typed = typed.to_lowercase();
    let mut found: Vec<(&str, &store::Field)> = FIELDS
        .iter()
        .filter_map(|field| Some((field.path.strip_prefix(within)?, field)))
        .filter(|(path, _)| path.to_lowercase().contains(&typed))
        .collect();
    // Those that begin with it come first.
    found.sort_by_key(|(path, _)| !path.to_lowercase().starts_with(&typed));
    let mut items: Vec<Item> = found
        .into_iter()
        .map(|(path, field)| Item {
            text: path.to_owned(),
            hint: match field.kind {
                Kind::Text => "text",
                Kind::Enum(_) => "one of a few words",
                Kind::Time => "time",
                Kind::Number => "number",
                Kind::Flag => "true or false",
                Kind::Open => "key follows",
            }
            .to_owned(),
        })
        .collect();
    if "not".starts_with(&typed) {
        items.push(item("NOT ", "negates what follows"));
    }
    if CONTAINS.starts_with(&typed) && !typed.is_empty() && within.is_empty() {
        items.push(item("contains(", "one element of a list"));
    }
    items.truncate(ITEMS_MAX);
    items
}

/// Marks and source properties that some finding has.
fn keys_like(web: &Web, typed: &str) -> Result<Vec<Item>, Failure> {
    let mut maps = FIELDS.iter().filter(|field| field.kind == Kind::Open);
    let Some(map) = maps.find(|map| typed.starts_with(map.path)) else {
        return Ok(Vec::new());
    };
    let fields = web.store().keyed_fields(typed, ITEMS_MAX as u32)?;
    let hint = format!("in {}", map.path.trim_end_matches('.'));
    Ok(fields.iter().map(|field| item(field, &hint)).collect())
}

fn operators() -> Vec<Item> {
    [
        ("=", "equal"),
        (":", "contains"),
        ("!=", "not equal"),
        (">=", "at or after"),
        ("<=", "at or before"),
        (">", "after"),
        ("<", "before"),
    ]
    .map(|(text, hint)| item(text, hint))
    .into()
}

fn keywords(typed: &str) -> Vec<Item> {
    [("AND ", "both"), ("OR ", "either; binds tighter than AND")]
        .into_iter()
        .filter(|(text, _)| text.to_lowercase().starts_with(&typed.to_lowercase()))
        .map(|(text, hint)| item(text, hint))
        .collect()
}

fn item(text: &str, hint: &str) -> Item {
    Item {
        text: text.to_owned(),
        hint: hint.to_owned(),
    }
}

fn values_like(web: &Web, field: &str, typed: &str) -> Result<Vec<Item>, Failure> {
    let beginning = typed.trim_matches('"');
    let typed = beginning.to_lowercase();
    let fits = |value: &str| value.to_lowercase().contains(&typed);
    let known = FIELDS.iter().find(|known| known.path == field);
    if let Some(Kind::Time) = known.map(|field| field.kind) {
        let hour = crate::app::now().0.saturating_sub(3_600_000_000_000);
        let text = model::Timestamp(hour / 1_000_000_000 * 1_000_000_000).to_string();
        return Ok(vec![item(
            &filter::Value::Text(text).to_string(),
            "an hour ago",
        )]);
    }
    // Not every field is counted.
    let counted = known_or_none(web.store().facets("", "", &[field], VALUES_MAX))?
        .pop()
        .unwrap_or_default();
    let mut items: Vec<Item> = counted
        .iter()
        .filter(|(value, _)| !value.is_empty() && fits(value))
        .map(|(value, count)| Item {
            text: filter::Value::Text(value.clone()).to_string(),
            hint: format!("{count}"),
        })
        .collect();
    if let Some(Kind::Enum(names)) = known.map(|field| field.kind) {
        for name in names
            .iter()
            .filter(|name| !name.ends_with("UNSPECIFIED") && fits(name))
        {
            if !counted.iter().any(|(value, _)| value == name) {
                items.push(item(&format!("\"{name}\""), "0"));
            }
        }
    }
    if items.len() < ITEMS_MAX {
        let more = known_or_none(web.store().values(field, beginning, ITEMS_MAX as u32))?;
        for value in more {
            let text = filter::Value::Text(value).to_string();
            if !items.iter().any(|item| item.text == text) {
                items.push(item(&text, ""));
            }
        }
    }
    items.truncate(ITEMS_MAX);
    Ok(items)
}

/// What is being typed may be no field (yet): then there is nothing to offer.
fn known_or_none<T: Default>(answer: Result<T, store::Error>) -> Result<T, Failure> {
    match answer {
        Err(store::Error::Filter(_) | store::Error::Invalid { .. }) => Ok(T::default()),
        answer => Ok(answer?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, from: usize, what: What) {
        assert_eq!(place(typed), Place { from, what }, "{typed:?}");
    }

    #[test]
    fn the_place_of_the_cursor_is_known_in_unfinished_queries() {
        let value = || What::Value {
            field: "severity".to_owned(),
        };
        let within = |list: &str| What::Field {
            within: list.to_owned(),
        };
        let field = || within("");
        check("", 0, field());
        check("sev", 0, field());
        check("severity ", 9, What::Operator);
        check("severity=", 9, value());
        check("severity=\"HI", 9, value());
        check("severity=\"HI \\\" ", 9, value());
        check("severity=\"HIGH\"", 15, What::Keyword);
        check("severity=\"HIGH\" A", 16, What::Keyword);
        check("severity=\"HIGH\" AND ", 20, field());
        check("severity=\"HIGH\" AND NOT (mu", 25, field());
        check("(severity=\"HIGH\") ", 18, What::Keyword);
        check("ä=\"ö\" AND x", 12, field());
        check("contains(", 9, What::List);
        check("NOT contains(con", 13, What::List);
        check("contains(containers, ", 21, within("containers."));
        check("contains(containers, (na", 22, within("containers."));
        check(
            "containsOnly(containers, name=",
            30,
            What::Value {
                field: "containers.name".to_owned(),
            },
        );
        check(
            "contains(containers, name=\"a\" AND u",
            34,
            within("containers."),
        );
        check("contains(containers, name=\"a\") AND sev", 35, field());
    }

    #[test]
    fn offsets_count_as_browsers_do() {
        let text = "a😀ö";
        for byte in [0, 1, 5, 7] {
            assert_eq!(from_utf16(text, utf16(text, byte)), byte);
        }
    }

    #[test]
    fn what_is_offered_as_a_list_can_be_looked_into() {
        assert!(
            lists_like("con")
                .iter()
                .any(|item| item.text == "containers, ")
        );
        for item in lists_like("") {
            let offered = fields_like(&item.text.replace(", ", "."), "");
            let filter = format!("contains({}{}=1)", item.text, offered[0].text);
            assert_eq!(filter::check(&filter), Ok(()), "{filter}");
        }
    }

    #[test]
    fn fields_that_begin_with_the_word_come_first() {
        assert_eq!(fields_like("", "sev")[0].text, "severity");
        assert_eq!(fields_like("containers.", "na")[0].text, "name");
        assert!(
            fields_like("", "sha256")
                .iter()
                .any(|item| item.text == "processes.binary.sha256")
        );
    }
}
