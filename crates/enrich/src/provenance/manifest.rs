//! An image known by a list of digests: the mtree manifest that umoci leaves beside a bundle it unpacks.
//!
//! Format: mtree(5) as written by gomtree: a tree of names, `..` to go up, keywords after the name, `/set` for defaults.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use model::{
    limits::{MANIFEST_FILES_MAX, PATH_BYTES_MAX},
    provenance::{Sha256, UnknownReason},
};

/// Regular files of an image and their digests.
#[derive(Debug, Default)]
pub struct Manifest {
    path: PathBuf,
    files: HashMap<Vec<u8>, Sha256>,
    is_cut: bool,
}

impl Manifest {
    /// Reads an mtree manifest. Pure; lines that make no sense are left out. `None` when it names no file with a digest.
    pub fn parse(path: &Path, text: &[u8]) -> Option<Self> {
        let mut files = HashMap::new();
        let mut is_cut = false;
        let mut directory: Vec<Vec<u8>> = Vec::new();
        let mut directory_bytes = 0;
        for line in text.split(|&byte| byte == b'\n') {
            let mut words = line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            let Some(name) = words.next() else {
                continue;
            };
            match name {
                b".." => {
                    directory_bytes -= directory.pop().map_or(0, |name| name.len() + 1);
                    continue;
                }
                [b'#' | b'/', ..] => continue,
                _ => {}
            }
            let name = decode(name);
            let (mut is_directory, mut sha256) = (false, None);
            for word in words {
                if word == b"type=dir" {
                    is_directory = true;
                }
                let digest = word
                    .strip_prefix(b"sha256digest=")
                    .or_else(|| word.strip_prefix(b"sha256="));
                if let Some(digest) = digest {
                    sha256 = std::str::from_utf8(digest).ok().and_then(Sha256::parse);
                }
            }
            if sha256.is_some() && files.len() >= MANIFEST_FILES_MAX {
                is_cut = true;
            } else if let Some(sha256) = sha256 {
                let mut file = Vec::with_capacity(directory_bytes + name.len() + 1);
                for part in directory.iter().chain([&name]).filter(|part| *part != b".") {
                    file.push(b'/');
                    file.extend_from_slice(part);
                }
                files.insert(file, sha256);
            }
            if is_directory {
                directory_bytes += name.len() + 1;
                if directory_bytes > PATH_BYTES_MAX {
                    return None;
                }
                directory.push(name);
            }
        }
        (!files.is_empty()).then(|| Self {
            path: path.to_owned(),
            files,
            is_cut,
        })
    }

    /// The digest of the regular file at that path.
    ///
    /// # Errors
    /// When it is not among the [`MANIFEST_FILES_MAX`] that are kept, and others are not.
    pub fn find(&self, path: &[u8]) -> Result<Option<Sha256>, UnknownReason> {
        match self.files.get(path) {
            None if self.is_cut => Err(UnknownReason::ImageUnreadable),
            found => Ok(found.copied()),
        }
    }

    /// Another path with those bytes.
    pub fn path_of(&self, sha256: Sha256) -> Option<&[u8]> {
        let same = self.files.iter().filter(|(_, other)| **other == sha256);
        same.map(|(path, _)| path.as_slice()).min()
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Undoes vis(3) as gomtree uses it: `\ooo`, and `\s` and the like for white space.
fn decode(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, used) = match tail {
            _ if first != b'\\' => (first, 0),
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), 3)
            }
            [b's', ..] => (b' ', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'r', ..] => (b'\r', 1),
            [other, ..] => (*other, 1),
            [] => (first, 0),
        };
        out.push(byte);
        rest = tail.get(used..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Image;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn names_are_put_together_from_the_tree() {
        let text = format!(
            "#mtree v2.0\n\n/set type=file nlink=1\n. type=dir mode=0755\n    top sha256digest={DIGEST}\n\n\
             # usr\nusr type=dir\n\n# usr/bin\nbin type=dir size=4\n    a\\040b mode=0755 sha256digest={DIGEST}\n\
             link type=link link=a\n..\n..\netc type=dir\n    passwd size=1 sha256digest={DIGEST}\n..\n..\n"
        );
        let manifest = Manifest::parse(Path::new("/bundle/x.mtree"), text.as_bytes()).unwrap();
        for path in ["/top", "/usr/bin/a b", "/etc/passwd"] {
            assert!(manifest.find(path.as_bytes()).unwrap().is_some(), "{path}");
        }
        assert_eq!(manifest.find(b"/usr/bin/link"), Ok(None));
        assert_eq!(manifest.files.len(), 3);
    }

    #[test]
    fn more_steps_up_than_down_do_no_harm() {
        let text = format!("..\n..\nfile sha256digest={DIGEST}\n..\\\n\\\n");
        let manifest = Manifest::parse(Path::new(""), text.as_bytes()).unwrap();
        assert!(manifest.find(b"/file").unwrap().is_some());
    }

    #[test]
    fn of_a_file_that_was_not_kept_nothing_is_known() {
        let mut text = String::new();
        for number in 0..MANIFEST_FILES_MAX {
            text.push_str(&format!("f{number} sha256digest={DIGEST}\n"));
        }
        let manifest = Manifest::parse(Path::new(""), text.as_bytes()).unwrap();
        assert_eq!(manifest.find(b"/one-more"), Ok(None));
        text.push_str(&format!("one-more sha256digest={DIGEST}\n"));
        let manifest = Manifest::parse(Path::new(""), text.as_bytes()).unwrap();
        assert!(manifest.find(b"/f0").unwrap().is_some());
        let unknown = Err(UnknownReason::ImageUnreadable);
        assert_eq!(manifest.find(b"/one-more"), unknown);
        assert_eq!(manifest.find(b"/never-there"), unknown);
        let image = Image::Manifest(manifest);
        assert_eq!(
            image.find(b"/one-more").unwrap_err(),
            UnknownReason::ImageUnreadable
        );
    }
}
