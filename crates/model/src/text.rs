//! Text that a container chose: any bytes but NUL, kept exactly.
//!
//! A path or argument on Linux is bytes, not Unicode. [`Text`] keeps the bytes (a file must be opened by them), writes
//! itself to recordings without loss, and has two ways out: [`Text::to_json_string`] for findings and
//! [`escape_terminal`] for people.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smallvec::SmallVec;

/// What fits into the text itself, which is no larger for it than a vector: the names of most programs, filesystems and
/// variables, short arguments and paths. An exec has dozens of them.
const INLINE_BYTES: usize = 16;

/// Bytes that are text by intent. Equality and order are by bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(SmallVec<[u8; INLINE_BYTES]>);

impl Text {
    /// The bytes as they were.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Empty, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(SmallVec::with_capacity(bytes))
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// Memory that it takes, itself included.
    pub fn weight(&self) -> usize {
        let heap = if self.0.spilled() {
            self.0.capacity()
        } else {
            0
        };
        size_of::<Self>() + heap
    }

    /// True when there is no byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text when it is valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// A valid Unicode string that loses nothing a reader needs: bytes that are not UTF-8 become `\xNN`.
    pub fn to_json_string(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            out.push_str(chunk.valid());
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        out
    }

    /// The part after the last `/`, or all of it.
    pub fn file_name(&self) -> &[u8] {
        self.0
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_json_string(), f)
    }
}

/// Safe for a terminal: see [`escape_terminal`].
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_terminal(&self.to_json_string()))
    }
}

/// Valid UTF-8 is written as a string, anything else as an array of bytes, so that reading gives the same bytes back.
impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => self.as_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Utf8(String),
            Bytes(Vec<u8>),
        }
        match Form::deserialize(deserializer)
            .map_err(|_| D::Error::custom("expected a string or an array of bytes"))?
        {
            Form::Utf8(text) => Ok(Self::from(text)),
            Form::Bytes(bytes) => Ok(Self::from(bytes)),
        }
    }
}

/// One line that cannot steer a terminal or pass for other text: control characters (C0, DEL, C1), line and paragraph
/// separators, and the invisible or reordering format characters are written as escapes.
///
/// <https://www.unicode.org/reports/tr9/> for the reordering ones; ECMA-48 for the control functions.
pub fn escape_terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_unsafe_to_print(character) => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    out
}

fn is_unsafe_to_print(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00ad}'
                | '\u{061c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_a_recording() {
        for bytes in [
            &b"plain"[..],
            b"",
            b"\xff\xfe",
            b"a\\x41",
            "\u{202e}gnp".as_bytes(),
            b"\x1b[2J\n",
        ] {
            let json = serde_json::to_string(&Text::from(bytes)).unwrap();
            assert!(!json.contains('\n'), "{json}");
            assert_eq!(
                serde_json::from_str::<Text>(&json).unwrap().as_bytes(),
                bytes
            );
        }
    }

    #[test]
    fn a_text_of_any_length_is_kept_and_can_be_changed() {
        for length in 0..=2 * INLINE_BYTES {
            let bytes = vec![b'x'; length];
            let mut text = Text::from(bytes.clone());
            assert_eq!(text, Text::from(bytes.as_slice()));
            assert_eq!((text.as_bytes(), text.len()), (bytes.as_slice(), length));
            let is_inline = length <= INLINE_BYTES;
            assert_eq!(text.weight() == size_of::<Text>(), is_inline, "{length}");
            text.push(b"yz");
            assert_eq!(text.as_bytes(), [bytes.as_slice(), b"yz"].concat());
            text.truncate(length);
            assert_eq!(text.as_bytes(), bytes);
        }
        assert_eq!(size_of::<Text>(), size_of::<Vec<u8>>());
    }

    #[test]
    fn nothing_printed_can_steer_a_terminal() {
        for hostile in [
            "\x1b]0;owned\x07",
            "\u{9b}2J",
            "a\rb",
            "\u{202e}gpj.exe",
            "\u{200b}",
        ] {
            let shown = Text::from(hostile).to_string();
            assert!(shown.chars().all(|c| !is_unsafe_to_print(c)), "{shown}");
        }
        assert_eq!(Text::from("größe 文").to_string(), "größe 文");
    }
}
