//! The JSON tab: the API's object, as lines that fold without script and as text to copy.

use serde_json::Value;

/// Lines shown. A finding has some hundreds; the text below them is always whole.
const LINES_MAX: usize = 4000;

/// One line of the folding form.
pub(super) enum JsonLine {
    /// Key, opening bracket, number of entries.
    Open(Option<String>, &'static str, String),
    /// Closing bracket.
    Close(&'static str),
    /// Key, class for its color, the value as JSON.
    Leaf(Option<String>, &'static str, String),
}

/// The object as text. Characters that would be invisible or reorder the text are written as JSON escapes, so that the
/// copy is the same object and can be read.
pub(super) fn text(object: &Value) -> String {
    visible(&format!("{object:#}"))
}

pub(super) fn lines(object: &Value) -> Vec<JsonLine> {
    let mut lines = Vec::new();
    add(&mut lines, None, object);
    lines
}

fn add(lines: &mut Vec<JsonLine>, key: Option<String>, value: &Value) {
    if lines.len() >= LINES_MAX {
        return;
    }
    let count = |n: usize| format!("{n} {}", if n == 1 { "entry" } else { "entries" });
    match value {
        Value::Object(map) if !map.is_empty() => {
            lines.push(JsonLine::Open(key, "{", count(map.len())));
            for (key, value) in map {
                add(lines, Some(key.clone()), value);
            }
            lines.push(JsonLine::Close("}"));
        }
        Value::Array(list) if !list.is_empty() => {
            lines.push(JsonLine::Open(key, "[", count(list.len())));
            for value in list {
                add(lines, None, value);
            }
            lines.push(JsonLine::Close("]"));
        }
        leaf => {
            let class = match leaf {
                Value::String(_) => "string",
                Value::Number(_) | Value::Bool(_) => "number",
                _ => "",
            };
            lines.push(JsonLine::Leaf(key, class, visible(&leaf.to_string())));
        }
    }
}

/// JSON with escapes for what `escape_terminal` would escape; line breaks between values stay.
fn visible(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut units = [0; 2];
    let mut buffer = [0; 4];
    for character in json.chars() {
        let text: &str = character.encode_utf8(&mut buffer);
        if character == '\n' || model::text::escape_terminal(text) == text {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_shows_everything_and_is_the_same_object() {
        let hostile = "a\u{202e}b\u{200b}c\nd\"\u{e0001}";
        let json = visible(&serde_json::to_string(hostile).unwrap());
        assert!(json.is_ascii(), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
    }
}
