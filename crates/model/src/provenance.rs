//! Where executed bytes come from: the image, a change to the image, or neither. Decided by content.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Text, hex};

/// The verdict on one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The image ships these bytes at this path.
    BuiltIn,
    /// The image ships a file at this path, with other bytes.
    Modified,
    /// The image ships no file at this path.
    Added,
    /// The facts could not be had. Never treated as built-in.
    Unknown(UnknownReason),
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownReason {
    /// The executed bytes could not be read, so there is nothing to compare.
    NoContent,
    /// The container's root is not an overlay and no copy of its image was found.
    NoImage,
    /// The image's copy could not be read.
    ImageUnreadable,
    /// The container ended before its mounts could be read.
    ContainerGone,
    /// The path was too long to be known in full.
    PathTruncated,
    /// It was not asked: the process is not in a container.
    NotInContainer,
}

impl UnknownReason {
    /// One sentence for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoContent => {
                "the bytes that ran could not be read, so they could not be compared with the image"
            }
            Self::NoImage => {
                "the container's root filesystem is not an overlay and no copy of its image was found"
            }
            Self::ImageUnreadable => "the image's own copy of the file could not be read",
            Self::ContainerGone => "the container ended before its mounts could be read",
            Self::PathTruncated => "the path is longer than 4,096 bytes and was cut",
            Self::NotInContainer => "the process is not in a container",
        }
    }
}

/// What the verdict rests on, for a person to check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// SHA-256 of the image's file at the same path.
    pub image_sha256: Option<Sha256>,
    /// The layer that ships it: its directory or digest.
    pub image_layer: Option<Text>,
    /// Another path of the image with the same bytes: the file was renamed or copied from there.
    pub same_content_as: Option<Text>,
    /// The file is not on the container's root filesystem but on this mount, e.g. `tmpfs on /tmp`.
    pub mount: Option<Text>,
    /// The file has no name any more (deleted), or never had one (memfd, O_TMPFILE).
    pub unnamed: bool,
}

/// Why a file's bytes are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingReason {
    /// The process had ended and the file was gone before anything could open it.
    ProcessGone,
    /// The kernel's notification was lost (queue overflow).
    NotificationLost,
    /// Too many files were waiting to be hashed at that moment.
    Overload,
    /// Reading failed.
    ReadFailed,
    /// The file changed while it was read.
    ChangedWhileReading,
    /// The file was changed after it was executed or loaded, before its bytes could be read.
    ChangedSince,
    /// The file is larger than the configured limit.
    TooLarge,
    /// It is on a mount that the sensor could not watch, or did not watch yet.
    NotWatched,
}

impl MissingReason {
    /// One sentence for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::ProcessGone => {
                "the process ended and its file was gone before it could be opened"
            }
            Self::NotificationLost => {
                "the kernel's notification was lost (fanotify queue overflow)"
            }
            Self::Overload => "too many files were waiting to be hashed",
            Self::ReadFailed => "the file could not be read",
            Self::ChangedWhileReading => "the file changed while it was being read",
            Self::ChangedSince => {
                "the file was changed after it was used, before its bytes could be read"
            }
            Self::TooLarge => "the file is larger than the configured limit",
            Self::NotWatched => "the file is on a mount that was not watched, or not yet",
        }
    }
}

/// A SHA-256 digest. Written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Reads 64 hex digits, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let pairs: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(pairs.as_chunks().0) {
            *byte = hex::byte(*pair)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected 64 hex digits"))
    }
}
