//! A compiled list: refused, or everything in it can be asked for.

#![no_main]

use std::{
    fs::File,
    io::{Seek, Write},
    sync::LazyLock,
};

use intel::compiled::Compiled;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

const PREAMBLE_BYTES: usize = 60;
const RECORD_BYTES: usize = 40;

/// A file without a name.
static FILE: LazyLock<File> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("hullwatch-fuzz-{}", std::process::id()));
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).open(&path);
    std::fs::remove_file(path).expect("removing it");
    file.expect("a temporary file")
});

fuzz_target!(|bytes: &[u8]| {
    open(bytes);
    if bytes.len() >= PREAMBLE_BYTES {
        open(&whole(bytes));
    }
});

/// With a preamble that fits what follows: no mutation would find the right checksum.
fn whole(bytes: &[u8]) -> Vec<u8> {
    let (preamble, body) = bytes.split_at(PREAMBLE_BYTES);
    let number = |at: usize| usize::from(u16::from_le_bytes([preamble[at], preamble[at + 1]]));
    let header_bytes = number(8) % (body.len() + 1);
    let left = body.len() - header_bytes;
    let records = number(12) % (left / RECORD_BYTES + 1);
    let notes_bytes = left - records * RECORD_BYTES;
    let mut whole = b"HWINTEL\x01".to_vec();
    whole.extend((header_bytes as u32).to_le_bytes());
    whole.extend((records as u64).to_le_bytes());
    whole.extend((notes_bytes as u64).to_le_bytes());
    whole.extend(Sha256::digest(body));
    whole.extend(body);
    whole
}

fn open(bytes: &[u8]) {
    let mut file = FILE.try_clone().expect("sharing the file");
    file.set_len(0).expect("emptying it");
    file.rewind().expect("going to its start");
    file.write_all(bytes).expect("writing it");
    file.rewind().expect("going to its start");
    let Ok(compiled) = Compiled::open(file) else {
        return;
    };
    for record in compiled.records().flatten() {
        let _ = compiled.note(record.note);
        let _ = compiled.find(&record.sha256);
    }
}
