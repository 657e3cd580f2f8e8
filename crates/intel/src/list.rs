//! Reads lists of SHA-256 hashes, one per line.
//!
//! ```text
//! # a comment line
//! <64 hex digits>
//! <64 hex digits>;comment
//! <64 hex digits>,family
//! <64 hex digits>  file name        (as sha256sum prints it)
//! ```
//!
//! Either case, LF or CRLF, with or without a byte order mark.

use std::io::{self, BufRead, Read as _};

use model::{
    Text,
    limits::{INDICATOR_LINE_BYTES_MAX, INDICATOR_NOTE_BYTES_MAX},
    provenance::Sha256,
};

/// One indicator of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The hash.
    pub sha256: Sha256,
    /// Family, file name or comment beside it, at most [`INDICATOR_NOTE_BYTES_MAX`] bytes.
    pub note: Option<String>,
}

/// Why a line is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not begin with a hash.
    #[error("does not begin with the 64 hex digits of a SHA-256")]
    NotAHash,
    /// It begins with hex digits, but not with 64 of them.
    #[error("{digits} hex digits, a SHA-256 has 64")]
    WrongLength {
        /// How many.
        digits: usize,
    },
    /// Something follows the hash without `;`, `,` or a space between.
    #[error("text right after the hash; put a comma or a semicolon between")]
    Trailing,
    /// It is longer than [`INDICATOR_LINE_BYTES_MAX`].
    #[error("longer than {INDICATOR_LINE_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads one line, without its line feed. `None` for an empty line or a comment.
///
/// # Errors
/// When it is neither an entry nor nothing.
pub fn parse_line(line: &[u8]) -> Result<Option<Entry>, LineError> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
        return Ok(None);
    }
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (hash, rest) = line.split_at_checked(digits).ok_or(LineError::NotAHash)?;
    if digits != 64 {
        return Err(match digits {
            0 => LineError::NotAHash,
            // A word that happens to begin with hex digits ("beacon") is no short hash.
            _ if rest.first().is_some_and(u8::is_ascii_alphanumeric) => LineError::NotAHash,
            _ => LineError::WrongLength { digits },
        });
    }
    let sha256 = std::str::from_utf8(hash)
        .ok()
        .and_then(Sha256::parse)
        .ok_or(LineError::NotAHash)?;
    let note = match rest.split_first() {
        None => &[][..],
        // More columns may follow the family.
        Some((b',', rest)) => rest.split(|&byte| byte == b',').next().unwrap_or_default(),
        Some((b';', rest)) => rest,
        // sha256sum puts an asterisk before the name of a file read as binary.
        Some((b' ' | b'\t', rest)) => {
            let rest = rest.trim_ascii_start();
            let unmarked = rest.strip_prefix(b"*").or_else(|| rest.strip_prefix(b"#"));
            unmarked.unwrap_or(rest)
        }
        Some(_) => return Err(LineError::Trailing),
    };
    let mut note = Text::from(note.trim_ascii()).to_json_string();
    note.truncate(note.floor_char_boundary(INDICATOR_NOTE_BYTES_MAX));
    Ok(Some(Entry {
        sha256,
        note: (!note.is_empty()).then_some(note),
    }))
}

/// Reads a whole list: calls `each` with the number of a line, counted from 1, and what it holds. Empty lines and comments are
/// passed over.
///
/// # Errors
/// When reading fails. What was read before has been handed over.
pub fn read(
    mut input: impl BufRead,
    mut each: impl FnMut(u64, Result<Entry, LineError>),
) -> io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let limit = INDICATOR_LINE_BYTES_MAX as u64 + 1;
        if (&mut input).take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        number += 1;
        if line.len() > INDICATOR_LINE_BYTES_MAX && !line.ends_with(b"\n") {
            input.skip_until(b'\n')?;
            each(number, Err(LineError::TooLong));
            continue;
        }
        let content = match number {
            1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line),
            _ => &line,
        };
        if let Some(result) = parse_line(content).transpose() {
            each(number, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "275A021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f";

    fn check(rest: &str, expected: Option<&str>) {
        let entry = parse_line(format!("{HASH}{rest}").as_bytes()).unwrap();
        let entry = entry.expect("an entry");
        assert_eq!(entry.sha256.to_string(), HASH.to_ascii_lowercase());
        assert_eq!(entry.note.as_deref(), expected, "{rest:?}");
    }

    #[test]
    fn what_stands_beside_a_hash() {
        check("", None);
        check("\r", None);
        check("  \t ", None);
        check(";", None);
        check(
            ";found on 3 March; twice\r",
            Some("found on 3 March; twice"),
        );
        check(",Mirai", Some("Mirai"));
        check(", Mirai ,2026-03-01,high", Some("Mirai"));
        check("  dropper.bin", Some("dropper.bin"));
        check(" *dropper.bin", Some("dropper.bin"));
        check(" # seen in March", Some("seen in March"));
    }

    #[test]
    fn what_is_no_entry() {
        for nothing in ["", "  ", "# comment", "#", "; comment", "\r"] {
            assert_eq!(parse_line(nothing.as_bytes()), Ok(None), "{nothing:?}");
        }
        let error = |line: &[u8]| parse_line(line).unwrap_err();
        assert_eq!(
            error(b"d41d8cd98f00b204e9800998ecf8427e"),
            LineError::WrongLength { digits: 32 }
        );
        assert_eq!(error(b"sha256,family"), LineError::NotAHash);
        assert_eq!(error(b"beacon"), LineError::NotAHash);
        assert_eq!(error(b"\xff\xfe"), LineError::NotAHash);
        assert_eq!(error(format!("{HASH}:x").as_bytes()), LineError::Trailing);
        assert_eq!(
            error(format!("{HASH}00").as_bytes()),
            LineError::WrongLength { digits: 66 }
        );
    }

    #[test]
    fn a_note_is_valid_and_bounded_text() {
        let mut line = format!("{HASH};").into_bytes();
        line.extend([0xff; 1000]);
        let note = parse_line(&line).unwrap().unwrap().note.unwrap();
        assert!(note.starts_with("\\xff") && note.len() <= INDICATOR_NOTE_BYTES_MAX);
    }

    #[test]
    fn lines_keep_their_numbers() {
        let long = "x".repeat(3 * INDICATOR_LINE_BYTES_MAX);
        let text = format!("\u{feff}{HASH}\r\n# note\r\n\r\n{long}\n{HASH},last");
        let mut seen = Vec::new();
        read(text.as_bytes(), |number, line| {
            seen.push((number, line.map(|entry| entry.note)));
        })
        .unwrap();
        assert_eq!(
            seen,
            [
                (1, Ok(None)),
                (4, Err(LineError::TooLong)),
                (5, Ok(Some("last".to_owned()))),
            ]
        );
    }
}
