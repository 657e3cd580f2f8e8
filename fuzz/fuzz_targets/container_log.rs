//! Log files of containers, in every engine's format.

#![no_main]

use libfuzzer_sys::fuzz_target;

use enrich::containers::log::{Format, parse_tail};
use model::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX};

fuzz_target!(|bytes: &[u8]| {
    let is_whole = bytes.first().is_some_and(|byte| byte % 2 == 0);
    for format in [Format::Json, Format::Cri, Format::Plain] {
        let lines = parse_tail(bytes, is_whole, format, LOG_LINES_MAX);
        assert!(lines.len() <= LOG_LINES_MAX);
        assert!(lines.iter().all(|line| line.as_bytes().len() <= LOG_LINE_BYTES_MAX));
    }
});
