//! Text that a container chose: any bytes but NUL, kept exactly.
//!
//! A path or argument on Linux is bytes, not Unicode. [`Text`] keeps the bytes (a file must be opened by them), writes
//! itself to recordings without loss, and has two ways out: [`Text::to_json_string`] for findings and
//! [`escape_terminal`] for people.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Bytes that are text by intent. Equality and order are by bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// The bytes as they were.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
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
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
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
            None => self.0.serialize(serializer),
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
            Form::Bytes(bytes) => Ok(Self(bytes)),
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
