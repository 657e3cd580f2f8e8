//! Events whose files are being judged, and which judgement is for which file of which event.

use std::sync::Arc;

use model::{
    Text, Timestamp,
    enriched::{Container, Content, File, Process},
    event::{FileFacts, FileKey, Named, Observation, ProcessKey},
    provenance::{MissingReason, Provenance, UnknownReason},
};

use crate::{judge::Judged, process_table::Program, provenance::RootFs, script::Script};

/// What makes two judgements the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) container: u64,
    pub(crate) key: FileKey,
    pub(crate) mount_id: u32,
    pub(crate) mnt_namespace: u32,
    pub(crate) is_unnamed: bool,
    pub(crate) path: Text,
    pub(crate) path_used: Option<Text>,
}

impl FileId {
    /// Bytes that a remembered judgement holds.
    pub(crate) fn weight(&self, file: &File) -> usize {
        let texts = [
            Some(&self.path),
            self.path_used.as_ref(),
            Some(&file.path),
            file.path_used.as_ref(),
        ];
        let evidence = [
            &file.evidence.image_layer,
            &file.evidence.same_content_as,
            &file.evidence.mount,
            &file.contents,
        ];
        let texts = texts
            .into_iter()
            .flatten()
            .chain(evidence.into_iter().flatten());
        size_of::<Self>() + size_of::<File>() + texts.map(|text| text.weight()).sum::<usize>()
    }
}

/// Which file of which draft a judgement is for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) draft: u64,
    pub(crate) part: Part,
    pub(crate) container: Arc<Container>,
    pub(crate) id: Option<FileId>,
}

/// The files of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The program, or the library of a load.
    Main,
    /// See [`Draft::loaded`].
    Loaded,
    /// One of the files that may be the script.
    Script(usize),
}

#[derive(Debug)]
pub(crate) enum Slot {
    Ready(Judged),
    Waiting,
}

/// An event whose files are being judged.
pub(crate) struct Draft {
    pub(crate) time: Timestamp,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) main: Option<Slot>,
    /// What the dynamic loader was told to run, when it is the program.
    pub(crate) loaded: Option<Slot>,
    /// Files that are scripts of the exec or may be the one, the likeliest first.
    pub(crate) scripts: Vec<Slot>,
    /// Later observations of the same process.
    pub(crate) followers: Vec<Observation>,
}

pub(crate) enum Kind {
    Exec {
        program: Arc<Program>,
        /// A script that an argument may name, opened before the interpreter is known to be one.
        candidate: Option<(Text, Script)>,
        /// What the sensor has opened of the arguments, until the program has been read.
        named: Option<Box<Named>>,
        is_script_settled: bool,
        /// There was one, whether or not its file was found: the kernel ran it (`#!`), or it was standard input.
        is_script_certain: bool,
    },
    LibraryLoad {
        process: Arc<Process>,
        /// Whose later events wait for this one.
        held: Option<Arc<Program>>,
    },
    ScriptRun {
        program: Arc<Program>,
    },
}

/// Where an event happened.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) container: Arc<Container>,
    pub(crate) number: u64,
    pub(crate) root: Arc<RootFs>,
    pub(crate) pid: u32,
    pub(crate) parent: Option<ProcessKey>,
    pub(crate) mnt_namespace: u32,
}

impl Draft {
    pub(crate) fn set(&mut self, part: Part, judged: Judged) {
        let slot = Slot::Ready(judged);
        match part {
            Part::Main => self.main = Some(slot),
            Part::Loaded => self.loaded = Some(slot),
            Part::Script(at) => {
                if let Some(script) = self.scripts.get_mut(at) {
                    *script = slot;
                }
            }
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        let mut slots = self.main.iter().chain(&self.loaded).chain(&self.scripts);
        slots.any(|slot| matches!(slot, Slot::Waiting))
    }
}

pub(crate) fn ready(slot: Slot) -> Option<Arc<File>> {
    match slot {
        Slot::Ready(judged) => Some(judged.file),
        Slot::Waiting => None,
    }
}

/// The one that an indicator knows, or else the likeliest.
pub(crate) fn the_script(scripts: &[Arc<File>]) -> Option<Arc<File>> {
    let known = scripts.iter().find(|file| !file.matches.is_empty());
    known.or(scripts.first()).cloned()
}

/// Stands for a program that is being read, in the lineage of its children.
pub(crate) fn unfinished(facts: FileFacts) -> File {
    File {
        path: facts.path,
        path_used: None,
        content: Content::Missing {
            reason: MissingReason::Overload,
        },
        key: facts.key,
        provenance: Provenance::Unknown(UnknownReason::NoContent),
        evidence: Default::default(),
        matches: Vec::new(),
        kind: Default::default(),
        contents: None,
        is_memfd: facts.is_memfd,
    }
}
