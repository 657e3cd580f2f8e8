//! Recordings: enriched events as lines of JSON, after one header line.
//!
//! A recording is what detectors saw, so that findings can be made from it again without root, a kernel or a container.
//! Environment values are redacted before they get here.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use crate::{enriched::EnrichedEvent, limits::RECORDING_LINE_BYTES_MAX};

/// Version of the line format; a reader refuses any other.
pub const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    hullwatch_recording: u32,
    #[serde(default)]
    about: String,
}

/// Why a recording, or one line of it, cannot be read. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("reading the recording")]
    Read(#[source] io::Error),
    /// The first line is not a header of this format.
    #[error("line 1 is not the header of a Hullwatch recording")]
    NotARecording,
    /// The format is another version.
    #[error("recording has format version {found}, this program reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A line is not an event.
    #[error("line {line}")]
    Line {
        /// Its number.
        line: u64,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A line is longer than [`RECORDING_LINE_BYTES_MAX`].
    #[error("line {line} is longer than {RECORDING_LINE_BYTES_MAX} bytes")]
    LineTooLong {
        /// Its number.
        line: u64,
    },
}

/// Writes the header. `about` says in a sentence what was done to produce the recording.
///
/// # Errors
/// When writing fails.
pub fn write_header(out: &mut impl Write, about: &str) -> io::Result<()> {
    serde_json::to_writer(
        &mut *out,
        &Header {
            hullwatch_recording: VERSION,
            about: about.to_owned(),
        },
    )?;
    out.write_all(b"\n")
}

/// Writes one event.
///
/// # Errors
/// When writing fails.
pub fn write_event(out: &mut impl Write, event: &EnrichedEvent) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    out.write_all(b"\n")
}

/// Reads a recording: checks the header, then yields each event, or the error of its line. Blank lines are skipped. After a
/// read error or an over-long line nothing more follows.
///
/// # Errors
/// When the header is not one.
pub fn read<R: BufRead>(mut input: R) -> Result<Events<R>, Error> {
    let mut line = Vec::new();
    read_line(&mut input, &mut line, 1)?;
    let header: Header = serde_json::from_slice(&line).map_err(|_| Error::NotARecording)?;
    match header.hullwatch_recording {
        VERSION => Ok(Events {
            input,
            line: 1,
            about: header.about,
            ended: false,
        }),
        found => Err(Error::Version { found }),
    }
}

/// The events of a recording.
#[derive(Debug)]
pub struct Events<R> {
    input: R,
    line: u64,
    ended: bool,
    /// What was done to produce the recording.
    pub about: String,
}

impl<R: BufRead> Iterator for Events<R> {
    type Item = Result<EnrichedEvent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        while !self.ended {
            self.line += 1;
            match read_line(&mut self.input, &mut bytes, self.line) {
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                Ok(0) => self.ended = true,
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let line = self.line;
                    return Some(
                        serde_json::from_slice(&bytes)
                            .map_err(|source| Error::Line { line, source }),
                    );
                }
            }
        }
        None
    }
}

fn read_line(input: &mut impl BufRead, bytes: &mut Vec<u8>, line: u64) -> Result<usize, Error> {
    bytes.clear();
    let max = RECORDING_LINE_BYTES_MAX as u64;
    let read = input
        .take(max + 1)
        .read_until(b'\n', bytes)
        .map_err(Error::Read)?;
    if bytes.len() > RECORDING_LINE_BYTES_MAX {
        Err(Error::LineTooLong { line })
    } else {
        Ok(read)
    }
}
