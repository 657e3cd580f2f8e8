//! Finds the file of an image that an added file was copied or renamed from.
//!
//! Files of a layer are listed by size, once per layer, when the first added file is about to be reported. Only files of
//! the right size are read. All containers share the lists.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use model::limits::{LAYER_INDEX_BYTES_MAX, LAYER_INDEXES_BYTES_MAX, LAYERS_MAX, PATH_BYTES_MAX};

use super::image::Layers;
use crate::weighted::WeightedCache;

/// Files of one size that are read at most, in the hope of finding the same bytes.
const CANDIDATES_MAX: usize = 32;

/// Directories below each other that are walked. `PATH_MAX` allows no more in one path.
const DEPTH_MAX: usize = PATH_BYTES_MAX / 2;

/// Lists of the files of layers, by size.
pub struct ContentIndex(Mutex<WeightedCache<PathBuf, Arc<LayerIndex>>>);

/// Regular files of one layer.
#[derive(Default)]
struct LayerIndex {
    /// Size and where the path begins in `paths`, sorted.
    files: Vec<(u64, u32)>,
    /// Paths from the layer's root, each ended by a NUL.
    paths: Vec<u8>,
}

impl Default for ContentIndex {
    fn default() -> Self {
        Self(Mutex::new(WeightedCache::new(
            LAYERS_MAX,
            LAYER_INDEXES_BYTES_MAX,
        )))
    }
}

impl ContentIndex {
    /// Paths of the image whose file may have that size. Empty files are the same everywhere and are left out.
    ///
    /// Walks layers that were not seen before: up to a second for a large image.
    pub fn paths_by_size(&self, layers: &Layers, size: u64) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        if size == 0 {
            return paths;
        }
        for layer in layers.paths() {
            let index = self.layer(layer);
            paths.extend(index.of_size(size).map(<[u8]>::to_vec).take(CANDIDATES_MAX));
        }
        paths.truncate(CANDIDATES_MAX);
        paths
    }

    fn layer(&self, path: &Path) -> Arc<LayerIndex> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = lock().get(&path.to_owned()) {
            return Arc::clone(index);
        }
        let index = Arc::new(LayerIndex::walk(path));
        let bytes = index.paths.capacity() + index.files.capacity() * size_of::<(u64, u32)>();
        lock().put(path.to_owned(), Arc::clone(&index), bytes);
        index
    }
}

impl LayerIndex {
    fn walk(root: &Path) -> Self {
        let mut index = Self::default();
        let mut left = vec![(root.to_owned(), 0)];
        while let Some((directory, depth)) = left.pop() {
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if metadata.is_dir() && depth < DEPTH_MAX {
                    left.push((entry.path(), depth + 1));
                } else if metadata.is_file() && metadata.size() > 0 {
                    index.add(root, &entry.path(), metadata.size());
                }
            }
            if index.paths.len() > LAYER_INDEX_BYTES_MAX {
                break;
            }
        }
        index.files.sort_unstable();
        index.files.shrink_to_fit();
        index.paths.shrink_to_fit();
        index
    }

    fn add(&mut self, root: &Path, path: &Path, size: u64) {
        let Ok(inside) = path.strip_prefix(root) else {
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
        let first = self.files.partition_point(|(other, _)| *other < size);
        self.files
            .iter()
            .skip(first)
            .take_while(move |(other, _)| *other == size)
            .filter_map(|(_, start)| {
                let rest = self.paths.get(usize::try_from(*start).ok()?..)?;
                rest.split(|&byte| byte == 0).next()
            })
    }
}
