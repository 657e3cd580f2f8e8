//! The database: the built-in indicators and the compiled lists of the state directory.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use model::{
    Timestamp, enriched::IndicatorMatch, limits::INDICATOR_PROBLEMS_MAX, provenance::Sha256,
};
use serde::{Deserialize, Serialize};

use crate::{
    compiled::{self, Compiled, Notes, Record},
    list::{self, LineError},
};

const DIRECTORY: &str = "intel";
const FILE: &str = "indicators";
const FILE_NEW: &str = "indicators.new";
const FILE_LOCK: &str = "lock";

/// Name of the list that comes with the program.
const BUILT_IN: &str = "hullwatch-built-in";

/// One list of indicators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Its name: the file's name without extension. Importing a list of the same name replaces it.
    pub name: String,
    /// Name of the file it was imported from.
    pub source: String,
    /// When. `None` for the built-in one.
    pub imported: Option<Timestamp>,
    /// How many indicators it has.
    pub entries: u64,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The lists, one for each file.
    pub lists: Vec<List>,
    /// Those of the same name that were there before.
    pub replaced: Vec<List>,
    /// Lines that were left out, at most [`INDICATOR_PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// Lines left out that are not among `problems`.
    pub problems_more: u64,
}

/// A line that was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {what}", file.display())]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: LineError,
}

/// Why the database cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A list cannot be read.
    #[error("reading the list {}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A list has no entry: it is another kind of file, or was cut off. It must not take the place of one that had some.
    #[error(
        "{} has no line that begins with a SHA-256{}: nothing was imported",
        path.display(),
        problem.as_ref().map_or(String::new(), |problem| format!(" (line {}: {})", problem.line, problem.what))
    )]
    NoEntry {
        /// The file.
        path: PathBuf,
        /// The first line that is none.
        problem: Option<Problem>,
    },
    /// A list's path ends in no file name.
    #[error("{} has no file name to name the list by", path.display())]
    Unnamed {
        /// The path.
        path: PathBuf,
    },
    /// The state directory cannot be written.
    #[error("writing {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The compiled file is damaged.
    #[error("the indicator file {} cannot be used; delete it and import the lists again", path.display())]
    Compiled {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: compiled::Error,
    },
}

/// Indicators by hash. Cheap to share: everything works through a shared reference, and a reload replaces all at once.
#[derive(Debug)]
pub struct Database {
    directory: PathBuf,
    built_in: Vec<(Sha256, String)>,
    current: RwLock<Arc<State>>,
    read_failures: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    compiled: Option<Compiled>,
    identity: Option<Identity>,
}

/// Tells one compiled file from the next: each is a new inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    ctime: (i64, i64),
}

impl Database {
    /// Opens the database of a state directory. Nothing need be there yet, and nothing is written.
    ///
    /// # Errors
    /// When there is a compiled file and it cannot be used.
    pub fn open(state_dir: &Path) -> Result<Self, Error> {
        let directory = state_dir.join(DIRECTORY);
        let state = load(&directory)?;
        Ok(Self {
            directory,
            built_in: Vec::new(),
            current: RwLock::new(Arc::new(state)),
            read_failures: AtomicU64::new(0),
        })
    }

    /// Adds the indicators that come with the program: hash and family of each.
    #[must_use]
    pub fn builtin(mut self, indicators: impl IntoIterator<Item = (Sha256, String)>) -> Self {
        self.built_in.extend(indicators);
        self.built_in.sort();
        self.built_in.dedup_by_key(|(sha256, _)| *sha256);
        self
    }

    /// All lists, the built-in one first.
    pub fn lists(&self) -> Vec<List> {
        let built_in = List {
            name: BUILT_IN.to_owned(),
            source: "the program itself".to_owned(),
            imported: None,
            entries: self.built_in.len() as u64,
        };
        let state = self.state();
        let compiled = state.compiled.as_ref().map_or(&[][..], Compiled::lists);
        std::iter::once(built_in)
            .chain(compiled.iter().cloned())
            .collect()
    }

    /// What is known about a hash: one match for each list that has it. A read that fails is logged and counted in
    /// [`Self::read_failures`].
    pub fn lookup(&self, sha256: &Sha256) -> Vec<IndicatorMatch> {
        let mut matches = Vec::new();
        if let Ok(index) = self.built_in.binary_search_by_key(sha256, |entry| entry.0) {
            matches.push(IndicatorMatch {
                list: BUILT_IN.to_owned(),
                entry: sha256.to_string(),
                date: None,
                family: self.built_in.get(index).map(|(_, family)| family.clone()),
            });
        }
        let state = self.state();
        match state
            .compiled
            .as_ref()
            .map(|compiled| compiled.find(sha256))
        {
            None => {}
            Some(Ok(found)) => {
                matches.extend(found.into_iter().map(|(list, note)| IndicatorMatch {
                    list: list.name.clone(),
                    entry: sha256.to_string(),
                    date: list.imported,
                    family: note,
                }));
            }
            Some(Err(error)) => self.count_read_failure(&error),
        }
        matches
    }

    /// Number of look-ups that could not read the compiled file.
    pub fn read_failures(&self) -> u64 {
        self.read_failures.load(Ordering::Relaxed)
    }

    /// Takes over the compiled file when another one has replaced it (an import by another process). True when it has.
    ///
    /// # Errors
    /// When the new one cannot be used. The old one stays.
    pub fn reload_if_changed(&self) -> Result<bool, Error> {
        let path = self.directory.join(FILE);
        let identity = match fs::metadata(&path) {
            Ok(metadata) => Some(identity(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(damaged(&path, error.into())),
        };
        if identity == self.state().identity {
            return Ok(false);
        }
        self.replace(load(&self.directory)?);
        Ok(true)
    }

    /// Imports lists and takes them over. A line that is no entry is left out and reported; a list of the same name is
    /// replaced. The compiled file is swapped in one step: a reader sees all of it or all of the one before.
    ///
    /// # Errors
    /// When a file cannot be read or has no entry, or the state directory cannot be written. Nothing has changed then.
    pub fn import(&self, files: &[PathBuf]) -> Result<Imported, Error> {
        let write_error = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Write { path, source }
        };
        fs::create_dir_all(&self.directory).map_err(write_error(&self.directory))?;
        let lock_path = self.directory.join(FILE_LOCK);
        let lock = File::create(&lock_path).map_err(write_error(&lock_path))?;
        lock.lock().map_err(write_error(&lock_path))?;

        let before = load(&self.directory)?;
        let now = Timestamp::from(SystemTime::now());
        let mut import = Import::default();
        for path in files {
            import.read(path, now)?;
        }
        let new_lists = import.lists.len();
        if let Some(compiled) = &before.compiled {
            import
                .keep(compiled)
                .map_err(|error| damaged(&self.directory.join(FILE), error.into()))?;
        }
        let mut imported = import.finish(new_lists);
        let earlier = before.compiled.as_ref().map_or(&[][..], Compiled::lists);
        let is_replaced = |old: &&List| imported.lists.iter().any(|new| new.name == old.name);
        imported.replaced = earlier.iter().filter(is_replaced).cloned().collect();

        let new = self.directory.join(FILE_NEW);
        import.write(&new).map_err(write_error(&new))?;
        let path = self.directory.join(FILE);
        fs::rename(&new, &path)
            .and_then(|()| File::open(&self.directory)?.sync_all())
            .map_err(write_error(&path))?;
        self.replace(load(&self.directory)?);
        drop(lock);
        Ok(imported)
    }

    fn count_read_failure(&self, error: &io::Error) {
        // Logged once: a broken disk would fail at every program that starts.
        if self.read_failures.fetch_add(1, Ordering::Relaxed) == 0 {
            let path = self.directory.join(FILE);
            tracing::error!(%error, "reading the indicator file {} failed, known hashes may be missed", path.display());
        }
    }

    fn state(&self) -> Arc<State> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    fn replace(&self, state: State) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(state);
    }
}

/// Lists being compiled.
#[derive(Default)]
struct Import {
    lists: Vec<List>,
    records: Vec<Record>,
    notes: Notes,
    imported: Imported,
}

impl Import {
    fn read(&mut self, path: &Path, now: Timestamp) -> Result<(), Error> {
        let unnamed = || Error::Unnamed {
            path: path.to_owned(),
        };
        let name = path.file_stem().ok_or_else(unnamed)?;
        let source = path.file_name().ok_or_else(unnamed)?;
        let number = self.number(List {
            name: name.to_string_lossy().into_owned(),
            source: source.to_string_lossy().into_owned(),
            imported: Some(now),
            entries: 0,
        });
        let (records, problems) = (self.records.len(), self.imported.problems.len());
        File::open(path)
            .and_then(|file| {
                list::read(BufReader::new(file), |line, entry| match entry {
                    Ok(entry) => {
                        let note = entry.note.map_or(0, |note| self.notes.add(&note));
                        self.records.push(Record {
                            sha256: entry.sha256,
                            list: number,
                            note,
                        });
                    }
                    Err(_) if self.imported.problems.len() >= INDICATOR_PROBLEMS_MAX => {
                        self.imported.problems_more += 1;
                    }
                    Err(what) => self.imported.problems.push(Problem {
                        file: path.to_owned(),
                        line,
                        what,
                    }),
                })
            })
            .map_err(|source| Error::List {
                path: path.to_owned(),
                source,
            })?;
        if self.records.len() == records {
            return Err(Error::NoEntry {
                path: path.to_owned(),
                problem: self.imported.problems.get(problems).cloned(),
            });
        }
        Ok(())
    }

    /// Number of a list; the same for the same name, so that two files of one name are one list.
    fn number(&mut self, list: List) -> u32 {
        let known = self.lists.iter().position(|known| known.name == list.name);
        let number = known.unwrap_or_else(|| {
            self.lists.push(list);
            self.lists.len() - 1
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// Keeps the lists of the compiled file that are not imported anew.
    fn keep(&mut self, compiled: &Compiled) -> io::Result<()> {
        let new = self.lists.len();
        let numbers: Vec<Option<u32>> = compiled
            .lists()
            .iter()
            .map(|list| {
                let is_replaced = self.lists.iter().take(new).any(|new| new.name == list.name);
                (!is_replaced).then(|| {
                    self.number(List {
                        entries: 0,
                        ..list.clone()
                    })
                })
            })
            .collect();
        for record in compiled.records() {
            let record = record?;
            let Some(Some(list)) = numbers.get(record.list as usize) else {
                continue;
            };
            let note = compiled
                .note(record.note)?
                .map_or(0, |note| self.notes.add(&note));
            self.records.push(Record {
                list: *list,
                note,
                ..record
            });
        }
        Ok(())
    }

    /// Sorts and counts. The first `new_lists` lists are those that were read now.
    fn finish(&mut self, new_lists: usize) -> Imported {
        compiled::dedup(&mut self.records);
        for record in &self.records {
            if let Some(list) = self.lists.get_mut(record.list as usize) {
                list.entries += 1;
            }
        }
        let mut imported = std::mem::take(&mut self.imported);
        imported.lists = self.lists.iter().take(new_lists).cloned().collect();
        imported
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        compiled::write(&mut out, &self.lists, &self.records, &self.notes)?;
        out.flush()?;
        out.get_ref().sync_all()
    }
}

fn load(directory: &Path) -> Result<State, Error> {
    let path = directory.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(damaged(&path, error.into())),
    };
    let metadata = file
        .metadata()
        .map_err(|error| damaged(&path, error.into()))?;
    Ok(State {
        identity: Some(identity(&metadata)),
        compiled: Some(Compiled::open(file).map_err(|source| damaged(&path, source))?),
    })
}

fn damaged(path: &Path, source: compiled::Error) -> Error {
    Error::Compiled {
        path: path.to_owned(),
        source,
    }
}

fn identity(metadata: &fs::Metadata) -> Identity {
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        ctime: (metadata.ctime(), metadata.ctime_nsec()),
    }
}
