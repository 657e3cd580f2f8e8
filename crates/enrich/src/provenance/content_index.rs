//! Finds the file of an image that an added file was copied or renamed from.
//!
//! Files of a layer are listed by size, once per layer, when the first added file is about to be reported. Only files of
//! the right size are read. All containers share the lists.
//!
//! An image can be a whole machine. So it is listed in turns, and where programs are kept comes first: what a finding waits
//! for is bounded, and what is not listed by then is listed for the next one.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use model::limits::{
    LAYER_INDEX_BYTES_MAX, LAYER_INDEXES_BYTES_MAX, LAYERS_MAX, LISTING_TURN_ENTRIES,
    PATH_BYTES_MAX,
};

use super::image::Layers;
use crate::weighted::WeightedCache;

/// Files of one size that are read at most, in the hope of finding the same bytes.
const CANDIDATES_MAX: usize = 32;

/// Directories below each other that are walked. `PATH_MAX` allows no more in one path.
const DEPTH_MAX: usize = PATH_BYTES_MAX / 2;

/// Directories of one layer that wait to be walked. Others are left out.
const DIRECTORIES_MAX: usize = 16_384;

/// Names of the directories that lead to programs and libraries, from the root on.
const LIKELY: [&str; 9] = [
    "usr", "local", "bin", "sbin", "lib", "lib64", "libexec", "opt", "app",
];

/// Lists of the files of layers, by size.
pub struct ContentIndex(Mutex<WeightedCache<PathBuf, LayerIndex>>);

/// Regular files of one layer, as far as it was walked.
struct LayerIndex {
    root: PathBuf,
    /// Size and where the path begins in `paths`.
    files: Vec<(u64, u32)>,
    /// Paths from the layer's root, each ended by a NUL.
    paths: Vec<u8>,
    /// Directories still to be walked, and how deep they are: the likely ones, and the others.
    likely: Vec<(PathBuf, usize)>,
    others: Vec<(PathBuf, usize)>,
}

impl Default for ContentIndex {
    fn default() -> Self {
        Self(Mutex::new(WeightedCache::new(
            LAYERS_MAX,
            LAYER_INDEXES_BYTES_MAX,
        )))
    }
}

/// What [`ContentIndex::look`] found.
pub struct Look {
    /// Paths of the image whose file may have that size.
    pub paths: Vec<Vec<u8>>,
    /// All of the image has been listed, or as much as is kept.
    pub is_whole: bool,
}

impl ContentIndex {
    /// Lists up to [`LISTING_TURN_ENTRIES`] more of the image, and looks for files of that size among what is listed. Empty
    /// files are the same everywhere and are left out.
    pub fn look(&self, layers: &Layers, size: u64) -> Look {
        let mut look = Look {
            paths: Vec::new(),
            is_whole: true,
        };
        if size == 0 {
            return look;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries_left = LISTING_TURN_ENTRIES;
        for layer in layers.paths().map(Path::to_owned) {
            let mut index = all
                .remove(&layer)
                .unwrap_or_else(|| LayerIndex::new(layer.clone()));
            index.go_on(&mut entries_left);
            let room = CANDIDATES_MAX - look.paths.len();
            look.paths
                .extend(index.of_size(size).map(<[u8]>::to_vec).take(room));
            look.is_whole &= index.is_whole();
            let bytes = index.bytes();
            all.put(layer, index, bytes);
        }
        look
    }
}

impl LayerIndex {
    fn new(root: PathBuf) -> Self {
        Self {
            likely: vec![(root.clone(), 0)],
            others: Vec::new(),
            files: Vec::new(),
            paths: Vec::new(),
            root,
        }
    }

    /// Walks on until `entries_left` have been looked at, and to the end of a directory.
    fn go_on(&mut self, entries_left: &mut usize) {
        while *entries_left > 0
            && let Some((directory, depth)) = self.likely.pop().or_else(|| self.others.pop())
        {
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                *entries_left = entries_left.saturating_sub(1);
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if metadata.is_dir() {
                    if depth == DEPTH_MAX
                        || self.likely.len() + self.others.len() == DIRECTORIES_MAX
                    {
                        continue;
                    }
                    let is_likely = LIKELY.iter().any(|name| entry.file_name() == *name);
                    let rest = if is_likely {
                        &mut self.likely
                    } else {
                        &mut self.others
                    };
                    rest.push((entry.path(), depth + 1));
                } else if metadata.is_file() && metadata.size() > 0 {
                    self.add(&entry.path(), metadata.size());
                }
            }
            if self.paths.len() > LAYER_INDEX_BYTES_MAX {
                (self.likely, self.others) = (Vec::new(), Vec::new());
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.likely.is_empty() && self.others.is_empty()
    }

    /// About what it holds.
    fn bytes(&self) -> usize {
        let waiting = self.likely.iter().chain(&self.others);
        let waiting: usize = waiting
            .map(|(path, _)| path.as_os_str().len() + size_of::<(PathBuf, usize)>())
            .sum();
        waiting + self.paths.capacity() + self.files.capacity() * size_of::<(u64, u32)>()
    }

    fn add(&mut self, path: &Path, size: u64) {
        let Ok(inside) = path.strip_prefix(&self.root) else {
            return;
        };
        let Ok(start) = u32::try_from(self.paths.len()) else {
            return;
        };
        self.files.push((size, start));
        self.paths.push(b'/');
        self.paths.extend_from_slice(inside.as_os_str().as_bytes());
        self.paths.push(0);
    }

    fn of_size(&self, size: u64) -> impl Iterator<Item = &[u8]> {
        self.files
            .iter()
            .filter(move |(other, _)| *other == size)
            .filter_map(|(_, start)| {
                let rest = self.paths.get(usize::try_from(*start).ok()?..)?;
                rest.split(|&byte| byte == 0).next()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_image_is_listed_in_turns_programs_first() {
        let directory = tempfile::tempdir().unwrap();
        let layer = directory.path().to_owned();
        let program = "usr/local/bin/program";
        for parent in ["usr/local/bin", "data", "var"] {
            fs::create_dir_all(layer.join(parent)).unwrap();
        }
        fs::write(layer.join(program), "1234567").unwrap();
        for number in 0..=LISTING_TURN_ENTRIES {
            fs::write(layer.join("data").join(number.to_string()), "1").unwrap();
            fs::write(layer.join("var").join(number.to_string()), "12").unwrap();
        }
        let layers = Layers::open(&[layer], &[], false, model::Timestamp(u64::MAX)).unwrap();
        let index = ContentIndex::default();
        let first = index.look(&layers, 7);
        assert_eq!(
            (first.paths, first.is_whole),
            (vec![format!("/{program}").into_bytes()], false)
        );
        let last = index.look(&layers, 1);
        assert_eq!((last.paths.len(), last.is_whole), (CANDIDATES_MAX, true));
        assert_eq!(index.look(&layers, 2).paths.len(), CANDIDATES_MAX);
    }
}
