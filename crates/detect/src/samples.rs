//! Harmless programs, libraries and scripts that stand in for malware in simulations and tests.
//!
//! They are made in code: nothing here is malware, and nothing a virus scanner knows lies in the tree. A program ends at
//! once, a library does nothing when loaded, a script says one line. Each carries its name, so that each has a hash of its
//! own, and [`indicators`] lists those hashes for the built-in intelligence list.

mod elf;

use model::provenance::Sha256;
use sha2::Digest as _;

pub use elf::Machine;

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unique name. It is part of the bytes.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The built-in intelligence list names its hash.
    pub listed: bool,
}

/// Kinds of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A static ELF program that exits with 0.
    Program,
    /// A static ELF program that maps the file its first argument names as executable, waits two seconds and exits.
    Mapper,
    /// An ELF shared object that any dynamic loader accepts. Run as a program (`ld.so FILE`) it exits with 0.
    Library,
    /// The same with an initialization function that waits one second, so that the process that loads it is still there to
    /// be looked at.
    SlowLibrary,
    /// A shell script.
    Script,
    /// The EICAR test string: 68 bytes that every virus scanner agrees to call a virus, and that do nothing on Linux.
    /// <https://www.eicar.org/download-anti-malware-testfile/>
    Eicar,
}

/// Maps a file as executable; part of every simulation's image, and known to nobody.
pub const MAPPER: Sample = unlisted("mapper", Kind::Mapper);
/// A program written while the container runs.
pub const ADDED_PROGRAM: Sample = listed("added-program", Kind::Program);
/// A program that replaces one of the image.
pub const MODIFIED_PROGRAM: Sample = listed("modified-program", Kind::Program);
/// A program that the image ships.
pub const BUILT_IN_PROGRAM: Sample = listed("built-in-program", Kind::Program);
/// A program run where nothing tells what the image shipped.
pub const UNKNOWN_PROGRAM: Sample = listed("unknown-program", Kind::Program);
/// A library written while the container runs.
pub const ADDED_LIBRARY: Sample = listed("added-library", Kind::Library);
/// A library that replaces one of the image.
pub const MODIFIED_LIBRARY: Sample = listed("modified-library", Kind::Library);
/// A library that the image ships.
pub const BUILT_IN_LIBRARY: Sample = listed("built-in-library", Kind::Library);
/// A library loaded where nothing tells what the image shipped.
pub const UNKNOWN_LIBRARY: Sample = listed("unknown-library", Kind::Library);
/// A script written while the container runs.
pub const ADDED_SCRIPT: Sample = listed("added-script", Kind::Script);
/// A program of the image that is to be replaced; nobody knows it.
pub const ORDINARY_PROGRAM: Sample = unlisted("ordinary-program", Kind::Program);
/// A library of the image that is to be replaced; nobody knows it.
pub const ORDINARY_LIBRARY: Sample = unlisted("ordinary-library", Kind::Library);
/// A program nobody knows, written while the container runs.
pub const UNLISTED_PROGRAM: Sample = unlisted("unlisted-program", Kind::Program);
/// A library nobody knows, written while the container runs.
pub const UNLISTED_LIBRARY: Sample = unlisted("unlisted-library", Kind::Library);
/// A library nobody knows, given to `openssl` as an engine.
pub const ENGINE: Sample = unlisted("engine", Kind::SlowLibrary);
/// The EICAR test string.
pub const EICAR: Sample = listed("eicar", Kind::Eicar);

/// Every sample.
pub const ALL: &[Sample] = &[
    MAPPER,
    ADDED_PROGRAM,
    MODIFIED_PROGRAM,
    BUILT_IN_PROGRAM,
    UNKNOWN_PROGRAM,
    ADDED_LIBRARY,
    MODIFIED_LIBRARY,
    BUILT_IN_LIBRARY,
    UNKNOWN_LIBRARY,
    ADDED_SCRIPT,
    ORDINARY_PROGRAM,
    ORDINARY_LIBRARY,
    UNLISTED_PROGRAM,
    UNLISTED_LIBRARY,
    ENGINE,
    EICAR,
];

const fn listed(name: &'static str, kind: Kind) -> Sample {
    Sample {
        name,
        kind,
        listed: true,
    }
}

const fn unlisted(name: &'static str, kind: Kind) -> Sample {
    Sample {
        name,
        kind,
        listed: false,
    }
}

impl Sample {
    /// Its bytes, for the machine that this program is built for.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes_for(Machine::CURRENT)
    }

    /// Its bytes for a machine.
    pub fn bytes_for(self, machine: Machine) -> Vec<u8> {
        let marker = format!("Hullwatch harmless sample: {}\n", self.name);
        match self.kind {
            Kind::Program => elf::program(machine, elf::exit(machine), &marker),
            Kind::Mapper => elf::program(machine, elf::map_first_argument(machine), &marker),
            Kind::Library => elf::library(machine, None, &marker),
            Kind::SlowLibrary => elf::library(machine, Some(elf::wait(machine)), &marker),
            Kind::Script => format!("#!/bin/sh\n# {marker}echo {}\n", self.name).into_bytes(),
            Kind::Eicar => eicar(),
        }
    }

    /// The digest of [`Self::bytes`].
    pub fn sha256(self) -> Sha256 {
        self.sha256_for(Machine::CURRENT)
    }

    /// The digest of [`Self::bytes_for`].
    pub fn sha256_for(self, machine: Machine) -> Sha256 {
        Sha256(sha2::Sha256::digest(self.bytes_for(machine)).into())
    }
}

/// Hash and name of every listed sample, for every machine.
pub fn indicators() -> impl Iterator<Item = (Sha256, String)> {
    ALL.iter()
        .filter(|sample| sample.listed)
        .flat_map(|&sample| {
            let mut hashes: Vec<Sha256> = [Machine::X86_64, Machine::Aarch64]
                .map(|machine| sample.sha256_for(machine))
                .into();
            hashes.dedup();
            hashes.into_iter().map(move |sha256| {
                let name = match sample.kind {
                    Kind::Eicar => "EICAR-Test-File".to_owned(),
                    _ => format!("Hullwatch-Sample/{}", sample.name),
                };
                (sha256, name)
            })
        })
}

/// In pieces, so that neither this file nor the program that contains it holds the string.
fn eicar() -> Vec<u8> {
    let middle = "-STANDARD-ANTIVIRUS";
    [
        "X5O!P%@AP[4",
        "\\PZX54(P^)7CC)7}$",
        "EICAR",
        middle,
        "-TEST-FILE!",
        "$H+H*",
    ]
    .concat()
    .into_bytes()
}
