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
    time::Instant,
};

use model::limits::{
    LAYER_INDEX_BYTES_MAX, LAYER_INDEXES_BYTES_MAX, LAYERS_MAX, LISTING_TURN_ENTRIES,
    LISTING_TURN_TIME, PATH_BYTES_MAX,
};

use super::image::Layers;
use crate::weighted::WeightedCache;

/// Files of one size that are read at most, in the hope of finding the same bytes.
const CANDIDATES_MAX: usize = 32;

/// Directories below each other that are walked. `PATH_MAX` allows no more in one path.
const DEPTH_MAX: usize = PATH_BYTES_MAX / 2;

/// Directories of one layer that wait to be walked. Others are left out.
const DIRECTORIES_MAX: usize = 16_384;

/// Bytes that the C library keeps for an open directory.
const OPEN_DIRECTORY_BYTES: usize = 32 * 1024;

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
    /// The directory that is being walked, and how deep it is.
    current: Option<(fs::ReadDir, usize)>,
    /// Directories still to be walked, and how deep they are: the likely ones, and the others.
    likely: Vec<(PathBuf, usize)>,
    others: Vec<(PathBuf, usize)>,
}

/// How much may be listed now.
struct Turn {
    entries_left: usize,
    end: Instant,
}

impl Turn {
    /// Asked before each entry.
    fn is_over(&mut self) -> bool {
        let is_over = self.entries_left == 0 || Instant::now() > self.end;
        self.entries_left = self.entries_left.saturating_sub(1);
        is_over
    }
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
    /// Lists up to [`LISTING_TURN_ENTRIES`] more of the image, for [`LISTING_TURN_TIME`] at most, and looks for files of that
    /// size among what is listed. Empty files are the same everywhere and are left out.
    pub fn look(&self, layers: &Layers, size: u64) -> Look {
        let mut look = Look {
            paths: Vec::new(),
            is_whole: true,
        };
        if size == 0 {
            return look;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = Turn {
            entries_left: LISTING_TURN_ENTRIES,
            end: Instant::now() + LISTING_TURN_TIME,
        };
        for layer in layers.paths().map(Path::to_owned) {
            let mut index = all
                .remove(&layer)
                .unwrap_or_else(|| LayerIndex::new(layer.clone()));
            index.go_on(&mut turn);
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
            current: None,
            files: Vec::new(),
            paths: Vec::new(),
            root,
        }
    }

    /// Walks on until the turn is over.
    fn go_on(&mut self, turn: &mut Turn) {
        while !turn.is_over() {
            if self.paths.len() > LAYER_INDEX_BYTES_MAX {
                (self.likely, self.others, self.current) = (Vec::new(), Vec::new(), None);
            }
            let Some((entries, depth)) = &mut self.current else {
                let Some((directory, depth)) = self.likely.pop().or_else(|| self.others.pop())
                else {
                    return;
                };
                self.current = fs::read_dir(directory).ok().map(|entries| (entries, depth));
                continue;
            };
            let depth = *depth;
            match entries.next() {
                None => self.current = None,
                Some(Err(_)) => {}
                Some(Ok(entry)) => self.take(&entry, depth),
            }
        }
    }

    fn take(&mut self, entry: &fs::DirEntry, depth: usize) {
        let Ok(metadata) = entry.metadata() else {
            return;
        };
        if metadata.is_dir() {
            if depth == DEPTH_MAX || self.likely.len() + self.others.len() == DIRECTORIES_MAX {
                return;
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

    fn is_whole(&self) -> bool {
        self.current.is_none() && self.likely.is_empty() && self.others.is_empty()
    }

    /// About what it holds.
    fn bytes(&self) -> usize {
        let waiting = self.likely.iter().chain(&self.others);
        let waiting: usize = waiting
            .map(|(path, _)| path.as_os_str().len() + size_of::<(PathBuf, usize)>())
            .sum();
        let open = self.current.as_ref().map_or(0, |_| OPEN_DIRECTORY_BYTES);
        waiting + open + self.paths.capacity() + self.files.capacity() * size_of::<(u64, u32)>()
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
        for parent in ["usr/local/bin", "data"] {
            fs::create_dir_all(layer.join(parent)).unwrap();
        }
        fs::write(layer.join(program), "1234567").unwrap();
        for number in 0..2 * LISTING_TURN_ENTRIES {
            fs::write(layer.join("data").join(number.to_string()), "1").unwrap();
        }
        let layers = Layers::open(&[layer], &[], false, model::Timestamp(u64::MAX)).unwrap();
        let index = ContentIndex::default();
        // A busy machine may need more than one turn for it, too.
        let found = loop {
            let look = index.look(&layers, 7);
            assert!(!look.is_whole);
            if !look.paths.is_empty() {
                break look.paths;
            }
        };
        assert_eq!(found, [format!("/{program}").into_bytes()]);
        // A directory may take more than one.
        let mut turns = 1;
        while !index.look(&layers, 3).is_whole {
            turns += 1;
        }
        assert!(turns >= 2, "{turns}");
        assert_eq!(index.look(&layers, 1).paths.len(), CANDIDATES_MAX);
    }
}
