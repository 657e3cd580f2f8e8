//! The last lines of a container's log file, out of its engine's format.

use model::{
    Text,
    enriched::Engine,
    limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX},
};
use serde::Deserialize;

/// How an engine writes what a container says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Docker's `json-file`: `{"log":"text\n","stream":"stdout","time":"..."}`.
    Json,
    /// The kubelet's, also `k8s-file` of Podman: `TIME STREAM F|P TEXT`, where `P` is a piece that the next line continues.
    Cri,
    /// As it was said.
    Plain,
}

impl Format {
    /// What an engine uses when it logs to a file.
    pub fn of(engine: Engine) -> Self {
        match engine {
            Engine::Docker => Self::Json,
            Engine::Podman | Engine::Containerd | Engine::Crio => Self::Cri,
            Engine::Runc | Engine::Unknown => Self::Plain,
        }
    }
}

/// The last `lines_max` lines (at most [`LOG_LINES_MAX`]) of the end of a log, each cut to [`LOG_LINE_BYTES_MAX`]. `is_whole` says
/// that `bytes` begin where the file does; otherwise their first line is a rest and left out. A line that is not of the
/// format is taken as it is.
pub fn parse_tail(bytes: &[u8], is_whole: bool, format: Format, lines_max: usize) -> Vec<Text> {
    let lines_max = lines_max.min(LOG_LINES_MAX);
    let bytes = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) if !is_whole => bytes.get(end + 1..).unwrap_or_default(),
        None if !is_whole => &[],
        _ => bytes,
    };
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() || lines_max == 0 {
        return Vec::new();
    }
    let mut tail: Vec<Vec<u8>> = Vec::new();
    // From the last line backwards. A piece goes before what it is a piece of.
    for raw in bytes.rsplit(|&byte| byte == b'\n') {
        let (text, is_piece) = parse_line(raw, format);
        if is_piece && let Some(rest) = tail.last_mut() {
            let mut whole = text;
            whole.extend_from_slice(rest);
            whole.truncate(LOG_LINE_BYTES_MAX);
            *rest = whole;
        } else if tail.len() == lines_max {
            break;
        } else {
            tail.push(text);
        }
    }
    tail.into_iter().rev().map(Text::from).collect()
}

/// The text, cut, and whether the next line continues it.
fn parse_line(raw: &[u8], format: Format) -> (Vec<u8>, bool) {
    let parsed = match format {
        Format::Json => parse_json(raw),
        Format::Cri => parse_cri(raw),
        Format::Plain => None,
    };
    let (mut text, is_piece) = parsed.unwrap_or_else(|| (raw.to_vec(), false));
    if !is_piece && text.last() == Some(&b'\r') {
        text.pop();
    }
    text.truncate(LOG_LINE_BYTES_MAX);
    (text, is_piece)
}

fn parse_json(raw: &[u8]) -> Option<(Vec<u8>, bool)> {
    #[derive(Deserialize)]
    struct Line {
        log: String,
    }
    let mut text = serde_json::from_slice::<Line>(raw).ok()?.log.into_bytes();
    let is_piece = text.pop_if(|last| *last == b'\n').is_none();
    Some((text, is_piece))
}

fn parse_cri(raw: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut fields = raw.splitn(4, |&byte| byte == b' ');
    let _time = fields.next()?;
    let stream = fields.next()?;
    // More tags may follow the first one, after colons.
    let tag = fields.next()?.split(|&byte| byte == b':').next()?;
    let text = fields.next()?.to_vec();
    if stream != b"stdout" && stream != b"stderr" {
        return None;
    }
    match tag {
        b"F" => Some((text, false)),
        b"P" => Some((text, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log: &[u8], format: Format, lines_max: usize, expect: &[&str]) {
        let found: Vec<String> = parse_tail(log, true, format, lines_max)
            .iter()
            .map(Text::to_json_string)
            .collect();
        assert_eq!(found, expect, "{}", String::from_utf8_lossy(log));
    }

    #[test]
    fn each_engines_lines() {
        check(
            br#"{"log":"one\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}
{"log":"tw","stream":"stderr","time":"2026-01-01T00:00:00Z"}
{"log":"o\r\n","stream":"stderr","time":"2026-01-01T00:00:00Z"}
"#,
            Format::Json,
            10,
            &["one", "two"],
        );
        check(
            b"2026-01-01T00:00:00.1+00:00 stdout F one\n\
              2026-01-01T00:00:00.2+00:00 stderr P tw\n\
              2026-01-01T00:00:00.3+00:00 stderr F o\n\
              2026-01-01T00:00:00.3+00:00 stdout F \n\
              2026-01-01T00:00:00.3+00:00 stdout F a b  c\n",
            Format::Cri,
            10,
            &["one", "two", "", "a b  c"],
        );
        check(b"one\n\ntwo", Format::Plain, 10, &["one", "", "two"]);
        check(b"", Format::Plain, 10, &[]);
    }

    #[test]
    fn the_last_lines_are_kept_and_a_rest_is_not_a_line() {
        check(b"1\n2\n3\n", Format::Plain, 2, &["2", "3"]);
        check(b"1\n2\n3\n", Format::Plain, 0, &[]);
        assert_eq!(
            parse_tail(b"est of 1\n2\n", false, Format::Plain, 9),
            [Text::from("2")]
        );
        assert!(parse_tail(b"no end in sight", false, Format::Plain, 9).is_empty());
        let many = "x\n".repeat(LOG_LINES_MAX * 2);
        assert_eq!(
            parse_tail(many.as_bytes(), true, Format::Plain, usize::MAX).len(),
            LOG_LINES_MAX
        );
    }

    #[test]
    fn what_is_not_of_the_format_is_taken_as_it_is() {
        check(
            b"not json\n{\"log\":7}\n{\"log\":",
            Format::Json,
            9,
            &["not json", "{\"log\":7}", "{\"log\":"],
        );
        check(
            b"one two\n2026 stdout X y\n\xff\xfe",
            Format::Cri,
            9,
            &["one two", "2026 stdout X y", "\\xff\\xfe"],
        );
        // A container cannot write a megabyte into a finding, not in pieces either.
        let pieces = format!("t stdout P {}\n", "y".repeat(3000)).repeat(100) + "t stdout F end\n";
        let tail = parse_tail(pieces.as_bytes(), true, Format::Cri, 9);
        assert_eq!(tail.len(), 1);
        assert_eq!(
            tail[0].as_bytes(),
            "y".repeat(LOG_LINE_BYTES_MAX).as_bytes()
        );
    }
}
