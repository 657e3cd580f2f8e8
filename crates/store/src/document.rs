//! A finding's document as the database has it: JSON, compressed against a dictionary of what findings have in common.
//!
//! The dictionary is part of the format: what was compressed with it cannot be read without it, so it never changes. A
//! better one would be a second, told apart by the first byte.

use std::cell::RefCell;
use std::io;
use std::sync::LazyLock;

use rusqlite::Row;
use rusqlite::types::{Value, ValueRef};
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

use crate::Error;

/// Typical findings with short names.
const DICTIONARY: &[u8] = include_bytes!("../documents/dictionary-1.txt");

/// First byte of what was compressed with it.
const NUMBER: u8 = 1;

/// Zstandard's quickest level that is not "fast": documents are a fifth to a seventh as long. The third makes them 5 %
/// shorter and takes longer.
const LEVEL: i32 = 1;

/// Bytes of a document that is compressed. A longer one is kept as it is.
const BYTES_MAX: usize = 64 * 1024 * 1024;

static ENCODER: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, LEVEL));

static DECODER: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));

thread_local! {
    /// What is needed to compress, some 100 KiB: made once, as making it takes as long as a document.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    /// What is needed to read.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What to store for a document. Text where it cannot be compressed.
pub(crate) fn encode(json: String) -> Value {
    if json.len() <= BYTES_MAX
        && let Ok(compressed) = compress(json.as_bytes())
    {
        return Value::Blob(compressed);
    }
    Value::Text(json)
}

fn compress(json: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::with_prepared_dictionary(&ENCODER)?),
        };
        let mut stored = compressor.compress(json)?;
        stored.insert(0, NUMBER);
        Ok(stored)
    })
}

/// The document that is stored in a column. Those of schema 11 and before are text.
pub(crate) fn decode(row: &Row<'_>, column: usize) -> Result<String, Error> {
    let blob = match row.get_ref(column)? {
        ValueRef::Text(_) => return Ok(row.get(column)?),
        ValueRef::Blob([NUMBER, compressed @ ..]) => compressed,
        _ => return Err(Error::Damaged),
    };
    let json = decompress(blob).map_err(|_| Error::Damaged)?;
    String::from_utf8(json).map_err(|_| Error::Damaged)
}

fn decompress(compressed: &[u8]) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::with_prepared_dictionary(&DECODER)?),
        };
        decompressor.decompress(compressed, BYTES_MAX)
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use sha2::{Digest, Sha256};

    use super::*;

    fn read(stored: Value) -> Result<String, Error> {
        let db = Connection::open_in_memory().unwrap();
        let mut statement = db.prepare("SELECT $1").unwrap();
        let mut rows = statement.query([stored]).unwrap();
        decode(rows.next().unwrap().unwrap(), 0)
    }

    #[test]
    fn the_dictionary_is_what_it_always_was() {
        let digest = model::hex::encode(&Sha256::digest(DICTIONARY));
        assert_eq!(
            digest,
            "062be0e89a769c604b763078da89751cb5673e4389c6642d4d062585a668b335"
        );
    }

    #[test]
    fn what_the_first_version_compressed_is_read() {
        // A frame that refers to the dictionary.
        let stored: Vec<u8> = vec![
            0x01, 0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x51, 0x45, 0x00, 0x00, 0x00, 0x01, 0x00, 0xee,
            0x07, 0xe8, 0x01, 0x02,
        ];
        let beginning =
            r#"{"finding":{"name":"organizations/1/sources/1/locations/global/findings/00000000""#;
        assert_eq!(read(Value::Blob(stored)).unwrap(), beginning);
    }

    #[test]
    fn what_is_damaged_is_told() {
        let Value::Blob(whole) = encode(r#"{"finding":{"state":"ACTIVE"}}"#.to_owned()) else {
            panic!("not compressed");
        };
        // No frame at all is an empty text, which is no JSON.
        for end in (0..whole.len()).filter(|end| *end != 1) {
            let stored = Value::Blob(whole[..end].to_vec());
            assert!(matches!(read(stored), Err(Error::Damaged)), "{end}");
        }
        let unknown = [&[NUMBER + 1], &whole[1..]].concat();
        assert!(matches!(read(Value::Blob(unknown)), Err(Error::Damaged)));
        assert!(matches!(read(Value::Null), Err(Error::Damaged)));
        // A frame that promises more than may be asked for.
        let zeros = zstd::bulk::compress(&vec![0; BYTES_MAX + 1], LEVEL).unwrap();
        let stored = [&[NUMBER], &zeros[..]].concat();
        assert!(matches!(read(Value::Blob(stored)), Err(Error::Damaged)));
    }

    #[test]
    fn what_is_too_long_is_kept_as_it_is() {
        let long = "x".repeat(BYTES_MAX + 1);
        assert_eq!(encode(long.clone()), Value::Text(long.clone()));
        assert_eq!(read(Value::Text(long.clone())).unwrap(), long);
    }
}
