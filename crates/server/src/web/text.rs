//! How text reaches a page: HTML-escaped, with every character that would be invisible or would reorder its neighbors shown
//! as an escape. These are the filters of the templates; no template marks data as safe in another way.

use std::fmt::Display;

use askama::{Values, filters::Safe};
use model::text::escape_terminal;

/// Text that a reader sees at once; the rest is behind a fold.
const FOLD_BYTES: usize = 400;

/// Text on one line.
#[askama::filter_fn]
pub(crate) fn show(text: impl Display, _: &dyn Values) -> askama::Result<Safe<String>> {
    Ok(Safe(markup(&text.to_string(), false)))
}

/// Text for a `<pre>`: line breaks and tabs are kept.
#[askama::filter_fn]
pub(crate) fn show_lines(text: impl Display, _: &dyn Values) -> askama::Result<Safe<String>> {
    Ok(Safe(markup(&text.to_string(), true)))
}

/// Text for an attribute or a title, where there can be no markup. The template escapes it.
#[askama::filter_fn]
pub(crate) fn plain(text: impl Display, _: &dyn Values) -> askama::Result<String> {
    Ok(escape_terminal(&text.to_string()))
}

/// At most so many characters of a text, for a table cell. The whole text is on the finding's own page.
#[askama::filter_fn]
pub(crate) fn clip(
    text: impl Display,
    _: &dyn Values,
    characters_max: usize,
) -> askama::Result<String> {
    Ok(clipped(&text.to_string(), characters_max))
}

/// The beginning and the rest of a text that is too long to be shown at once.
#[askama::filter_fn]
pub(crate) fn split_long(
    text: impl Display,
    _: &dyn Values,
) -> askama::Result<Option<(String, String)>> {
    let text = text.to_string();
    if text.len() <= FOLD_BYTES {
        return Ok(None);
    }
    let (head, rest) = text.split_at(text.floor_char_boundary(FOLD_BYTES));
    Ok(Some((head.to_owned(), rest.to_owned())))
}

/// A number with separators between thousands.
#[askama::filter_fn]
pub(crate) fn thousands(number: impl Display, _: &dyn Values) -> askama::Result<String> {
    Ok(grouped(&number.to_string()))
}

pub(crate) fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn clipped(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The only place that writes data as HTML.
fn markup(text: &str, keep_lines: bool) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut buffer = [0; 4];
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' if keep_lines => out.push(character),
            ' '..='~' => out.push(character),
            _ => {
                let original: &str = character.encode_utf8(&mut buffer);
                let escaped = escape_terminal(original);
                if escaped == original {
                    out.push(character);
                } else {
                    // The escape is of letters, digits, a backslash and braces only.
                    out.push_str("<span class=\"ctl\">");
                    out.push_str(&escaped);
                    out.push_str("</span>");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_lets_nothing_through_that_is_html_or_invisible() {
        for hostile in [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "' onmouseover='x",
            "&lt;b&gt;",
            "\u{202e}gpj.exe",
            "a\u{200b}b\u{feff}",
            "\x1b[31mred\u{9b}0m",
            "line\nbreak\ttab",
        ] {
            for keep_lines in [false, true] {
                let html = markup(hostile, keep_lines);
                let text = html
                    .replace("<span class=\"ctl\">", "")
                    .replace("</span>", "");
                assert!(!text.contains(['<', '>', '"', '\'']), "{html}");
                let kept: Vec<char> = text
                    .chars()
                    .filter(|c| escape_terminal(&c.to_string()) != c.to_string())
                    .collect();
                assert!(
                    kept.iter().all(|c| keep_lines && "\n\t".contains(*c)),
                    "{html:?}"
                );
            }
        }
        assert_eq!(markup("größe 文 /bin/ls", false), "größe 文 /bin/ls");
        assert_eq!(
            markup("a\u{202e}b", false),
            "a<span class=\"ctl\">\\u{202e}</span>b"
        );
    }

    #[test]
    fn a_clipped_text_ends_between_characters() {
        assert_eq!(clipped("äöü", 2), "äö…");
        assert_eq!(clipped("äöü", 3), "äöü");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped("7"), "7");
        assert_eq!(grouped("1234567"), "1,234,567");
        assert_eq!(grouped("123456"), "123,456");
    }
}
