//! Indicators that arrive later: what runs now is held against them.

use std::{collections::HashSet, sync::Arc};

use model::{
    Text, Timestamp,
    enriched::{EnrichedEvent, EnrichedPayload, File},
};

use super::Enricher;
use crate::weighted::WeightedCache;

/// Bytes read of `/proc/PID/maps`: those of ten thousand mappings.
const MAPS_BYTES_MAX: u64 = 1024 * 1024;

/// Processes whose mappings are looked at.
const MAPPERS_MAX: usize = 4096;

/// Libraries that are remembered as loaded.
const LOADED_MAX: usize = 8192;

/// Bytes of them.
const LOADED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What was loaded last, by mount namespace and path.
pub(super) struct Loaded(WeightedCache<(u32, Text), Arc<File>>);

impl Default for Loaded {
    fn default() -> Self {
        Self(WeightedCache::new(LOADED_MAX, LOADED_BYTES_MAX))
    }
}

impl Loaded {
    pub(super) fn note(&mut self, event: &EnrichedEvent) {
        if let EnrichedPayload::LibraryLoad { library } = &event.payload
            && let Some(process) = &event.process
        {
            self.put(process.namespaces.mnt, Arc::clone(library));
        }
    }

    fn put(&mut self, mnt_namespace: u32, library: Arc<File>) {
        let path = library.path.clone();
        let bytes = path.len() + library.path.len() + size_of::<File>();
        self.0.put((mnt_namespace, path), library, bytes);
    }
}

impl Enricher {
    /// Asks the scanner anew about every file, also known ones, and gives out an event of each process that runs a program or a
    /// script, or has loaded a library, that the scanner knows only now: call it after the indicators have changed. A library
    /// that is one of too many to be remembered, or that was unmapped, is not found.
    pub fn match_anew(&mut self, time: Timestamp, out: &mut Vec<EnrichedEvent>) {
        let judge = Arc::clone(&self.judge);
        let anew = |file: &Arc<File>| -> Option<Arc<File>> {
            let matches = judge.matches(&file.sha256()?);
            (matches != file.matches).then(|| {
                Arc::new(File {
                    matches,
                    ..File::clone(file)
                })
            })
        };
        let running: Vec<_> = self.processes.running().collect();
        let mut seen = HashSet::new();
        for (_, container, program) in &running {
            // Children that run their parent's program share it.
            if !seen.insert(Arc::as_ptr(program)) {
                continue;
            }
            let process = program.process();
            let binary = process.binary.as_ref().and_then(anew);
            let script = process.script.as_ref().and_then(anew);
            let is_known = [&binary, &script]
                .into_iter()
                .flatten()
                .any(|file| !file.matches.is_empty());
            if binary.is_none() && script.is_none() {
                continue;
            }
            let process = program.change(|process| {
                process.binary = binary.or(process.binary.take());
                process.script = script.or(process.script.take());
            });
            if is_known {
                let event = EnrichedEvent {
                    time,
                    container: Some(Arc::clone(container)),
                    process: Some(process),
                    payload: EnrichedPayload::Exec,
                };
                self.emit(event, out);
            }
        }
        self.files.clear();
        let mut libraries: Vec<(u32, Arc<File>)> = self
            .loaded
            .0
            .iter()
            .filter_map(|((mnt_namespace, _), file)| Some((*mnt_namespace, anew(file)?)))
            .collect();
        for (mnt_namespace, file) in &libraries {
            self.loaded.put(*mnt_namespace, Arc::clone(file));
        }
        libraries.retain(|(_, file)| !file.matches.is_empty());
        if libraries.is_empty() {
            return;
        }
        for (key, container, program) in running.into_iter().take(MAPPERS_MAX) {
            let process = self.processes.process(key);
            let process = process.unwrap_or_else(|| program.process());
            let mnt_namespace = process.namespaces.mnt;
            let mut here = libraries.iter().filter(|(of, _)| *of == mnt_namespace);
            let Some(first) = here.next() else { continue };
            let maps = proc_reader::read(key.pid, "maps", MAPS_BYTES_MAX).unwrap_or_default();
            let mapped = executable_files(&maps);
            for (_, library) in std::iter::once(first).chain(here) {
                if mapped.contains(library.path.as_bytes()) {
                    let event = EnrichedEvent {
                        time,
                        container: Some(Arc::clone(&container)),
                        process: Some(Arc::clone(&process)),
                        payload: EnrichedPayload::LibraryLoad {
                            library: Arc::clone(library),
                        },
                    };
                    self.emit(event, out);
                }
            }
        }
    }
}

/// Paths of the files that are mapped as code, from a text as in proc_pid_maps(5).
fn executable_files(maps: &[u8]) -> HashSet<&[u8]> {
    let path = |line: &'_ [u8]| -> Option<std::ops::Range<usize>> {
        let permissions = line.split(|&byte| byte == b' ').nth(1)?;
        if permissions.get(2) != Some(&b'x') {
            return None;
        }
        let start = line.iter().position(|&byte| byte == b'/')?;
        let end = line.strip_suffix(b" (deleted)").unwrap_or(line).len();
        Some(start..end)
    };
    let lines = maps.split(|&byte| byte == b'\n');
    lines.filter_map(|line| line.get(path(line)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_code_is_told_by_its_path() {
        let maps = b"7f00-7f01 r--p 00000000 00:2a 12                         /lib/data.so\n\
            7f01-7f02 r-xp 00001000 00:2a 12                         /lib/with space.so\n\
            7f02-7f03 rwxp 00000000 00:00 0 \n\
            7f03-7f04 r-xs 00000000 00:01 9                          /memfd:x (deleted)\n\
            7fff-8000 r-xp 00000000 00:00 0                          [vdso]\n";
        let expected: [&[u8]; 2] = [b"/lib/with space.so", b"/memfd:x"];
        assert_eq!(executable_files(maps), HashSet::from(expected));
    }
}
