//! What people read on a terminal: colors, escaping, tables, errors.
//!
//! Colors follow NO_COLOR, CLICOLOR and whether the stream is a terminal (`anstream`). Text that came from a container
//! passes through [`safe`] before it is written.

use std::io::{self, Write};

use anstyle::{AnsiColor, Color, Style};
use model::finding::Severity;

/// Logs go to standard error; `HULLWATCH_LOG` chooses what (`debug`, `enrich=trace`, ...), warnings by default.
pub(crate) fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HULLWATCH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false);
    // Fails only when one is set already.
    let _ = subscriber.try_init();
}

/// Text from a container, on one line, unable to steer the terminal.
pub(crate) fn safe(text: &str) -> String {
    model::text::escape_terminal(text)
}

/// Standard output, colors stripped when they are not wanted.
pub(crate) fn stdout() -> impl Write {
    anstream::AutoStream::auto(io::stdout()).lock()
}

/// Standard error, likewise.
pub(crate) fn stderr() -> impl Write {
    anstream::AutoStream::auto(io::stderr()).lock()
}

/// The reader of our output has gone away (`hullwatch findings list | head`): not worth a message.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    is_caused_by(error, io::ErrorKind::BrokenPipe)
}

fn is_caused_by(error: &anyhow::Error, wanted: io::ErrorKind) -> bool {
    error
        .chain()
        .filter_map(|cause| {
            let of_io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            of_io.or_else(|| cause.downcast_ref::<serde_json::Error>()?.io_error_kind())
        })
        .any(|kind| kind == wanted)
}

/// What helps: the state directory is root's alone, since findings quote arguments.
fn advice(error: &anyhow::Error, is_root: bool) -> &'static str {
    if !is_root && is_caused_by(error, io::ErrorKind::PermissionDenied) {
        "; you are not root: use sudo"
    } else {
        ""
    }
}

/// Prints an error and its causes, once.
pub(crate) fn error(error: &anyhow::Error) {
    let style = bold(AnsiColor::Red);
    let causes = error
        .chain()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ");
    let advice = advice(error, rustix::process::geteuid().is_root());
    let _ = writeln!(stderr(), "{style}error:{style:#} {}{advice}", safe(&causes));
}

/// Prints a note on standard error: the command goes on.
pub(crate) fn warning(text: &str) {
    let style = bold(AnsiColor::Yellow);
    let _ = writeln!(stderr(), "{style}warning:{style:#} {}", safe(text));
}

/// Color of a severity: the worse, the louder.
pub(crate) fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => bold(AnsiColor::Red),
        Severity::High => color(AnsiColor::Red),
        Severity::Medium => color(AnsiColor::Yellow),
        Severity::Low => color(AnsiColor::Cyan),
        Severity::SeverityUnspecified => Style::new(),
    }
}

/// SCC's word for a severity.
pub(crate) fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "CRITICAL",
        Severity::High => "HIGH",
        Severity::Medium => "MEDIUM",
        Severity::Low => "LOW",
        Severity::SeverityUnspecified => "-",
    }
}

/// A heading.
pub(crate) fn heading() -> Style {
    Style::new().bold()
}

/// Less important text.
pub(crate) fn dim() -> Style {
    Style::new().dimmed()
}

fn color(color: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(color)))
}

fn bold(color_of: AnsiColor) -> Style {
    color(color_of).bold()
}

/// One cell of a table: its text and how it looks.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Plain text, made safe.
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: safe(text),
            style: Style::new(),
        }
    }

    /// The same in a style.
    pub(crate) fn styled(text: &str, style: Style) -> Self {
        Self {
            text: safe(text),
            style,
        }
    }
}

/// Writes a table whose columns are as wide as their widest cell. The last column is not padded.
pub(crate) fn table(out: &mut impl Write, head: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    let mut widths: Vec<usize> = head.iter().map(|title| width(title)).collect();
    for row in rows {
        for (cell, widest) in row.iter().zip(&mut widths) {
            *widest = (*widest).max(width(&cell.text));
        }
    }
    let style = heading();
    let head: Vec<Cell> = head
        .iter()
        .map(|title| Cell::styled(title, style))
        .collect();
    for row in std::iter::once(&head).chain(rows) {
        for (index, (cell, widest)) in row.iter().zip(&widths).enumerate() {
            let Cell { text, style } = cell;
            if index + 1 == row.len() {
                writeln!(out, "{style}{text}{style:#}")?;
            } else {
                let padding = " ".repeat(widest.saturating_sub(width(text)) + 2);
                write!(out, "{style}{text}{style:#}{padding}")?;
            }
        }
    }
    Ok(())
}

/// Columns a text takes, good enough to line up a table: wide scripts may be off.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_user_without_rights_is_pointed_to_sudo() {
        let failed = |kind: io::ErrorKind| {
            Err::<(), _>(io::Error::from(kind))
                .context("opening the store")
                .unwrap_err()
        };
        let denied = failed(io::ErrorKind::PermissionDenied);
        assert!(advice(&denied, false).contains("sudo"));
        assert_eq!(advice(&denied, true), "");
        assert_eq!(advice(&failed(io::ErrorKind::NotFound), false), "");
    }
}
