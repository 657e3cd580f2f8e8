//! What a file is, judged by its bytes: program, library, script, interpreter, the `openssl` program.
//!
//! Names prove nothing, since a copy can be called anything. Programs that matter to a detector or to the search for
//! scripts are known by strings that their own source carries and that are not in the libraries they share with others.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use model::enriched::FileKind;

use crate::elf::Elf;

/// Bytes of an ELF file that are searched for markers. Node.js, the largest interpreter in use, has about 120 MB; bytes
/// appended to a copy of a program come after its own.
const MARKER_BYTES_MAX: u64 = 192 * 1024 * 1024;

/// A family of programs that run a script named among their arguments, by the way they read options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interpreter {
    /// A POSIX-like shell: bash, dash, ksh, mksh, zsh, fish.
    Shell,
    /// busybox: a shell when its applet is one.
    Busybox,
    /// CPython.
    Python,
    /// Perl.
    Perl,
    /// Ruby.
    Ruby,
    /// Node.js.
    Node,
    /// PHP's command line.
    Php,
    /// Lua and LuaJIT.
    Lua,
    /// Tcl.
    Tcl,
}

/// What the markers of one row say together.
#[derive(Clone, Copy)]
enum Meaning {
    Openssl,
    Loader,
    Interpreter(Interpreter),
}

/// A file means `.0` when it holds all strings of `.1`. The first row that holds wins.
const ROWS: &[(Meaning, &[&str])] = &[
    // apps/lib/apps_ui.c (apps/apps.c before 3.0), and the help text of the `engine` command (apps/engine.c) or the
    // refusal of an unknown command (apps/openssl.c). LibreSSL keeps the same words.
    (
        Meaning::Openssl,
        &[
            "OpenSSL application user interface",
            "SO_PATH:/lib/libdriver.so",
        ],
    ),
    (
        Meaning::Openssl,
        &[
            "OpenSSL application user interface",
            "Convert standard name into OpenSSL name",
        ],
    ),
    (
        Meaning::Openssl,
        &[
            "OpenSSL application user interface",
            "openssl:Error: '%s' is an invalid command",
        ],
    ),
    // glibc elf/rtld.c (both quotation styles), musl ldso/dynlink.c.
    (Meaning::Loader, &["You have invoked 'ld.so'"]),
    (Meaning::Loader, &["You have invoked `ld.so'"]),
    (Meaning::Loader, &["Dynamic Program Loader\nUsage: "]),
    (
        Meaning::Interpreter(Interpreter::Busybox),
        &["BusyBox is a multi-call binary"],
    ),
    (Meaning::Interpreter(Interpreter::Python), &["Py_BytesMain"]),
    (Meaning::Interpreter(Interpreter::Python), &["_Py_UnixMain"]),
    (Meaning::Interpreter(Interpreter::Python), &["Py_Main"]),
    (
        Meaning::Interpreter(Interpreter::Perl),
        &["perl_parse", "perl_run", "PL_do_undump"],
    ),
    (
        Meaning::Interpreter(Interpreter::Ruby),
        &["ruby_run_node", "ruby_sysinit"],
    ),
    (
        Meaning::Interpreter(Interpreter::Node),
        &["NODE_OPTIONS", "_ZN4node5StartEiPPc"],
    ),
    (
        Meaning::Interpreter(Interpreter::Php),
        &["PHP_CLI_PROCESS_TITLE", "cli_set_process_title"],
    ),
    (
        Meaning::Interpreter(Interpreter::Php),
        &["cli_set_process_title", "php_ini_opened_path"],
    ),
    (
        Meaning::Interpreter(Interpreter::Lua),
        &["LUA_INIT", "lua_pcall"],
    ),
    (
        Meaning::Interpreter(Interpreter::Lua),
        &["LUA_INIT", "'%s' needs argument"],
    ),
    (
        Meaning::Interpreter(Interpreter::Tcl),
        &["tcl_rcFileName", "Tcl_Main"],
    ),
    (
        Meaning::Interpreter(Interpreter::Shell),
        &["OPTIND", "CDPATH", "getopts"],
    ),
    (
        Meaning::Interpreter(Interpreter::Shell),
        &["fish_default_key_bindings", "FISH_DEBUG"],
    ),
];

/// The distinct strings of [`ROWS`], and what finds them, with SIMD. No two of them overlap. A string is known by its place in the list.
struct Markers {
    strings: Vec<&'static str>,
    searcher: Option<Searcher>,
    longest: usize,
}

static MARKERS: LazyLock<Markers> = LazyLock::new(|| {
    let mut strings: Vec<&str> = ROWS
        .iter()
        .flat_map(|(_, row)| row.iter().copied())
        .collect();
    strings.sort_unstable();
    strings.dedup();
    Markers {
        searcher: Searcher::new(&strings),
        longest: strings.iter().map(|string| string.len()).max().unwrap_or(0),
        strings,
    }
});

/// Looks at a file's bytes as they pass by.
pub(crate) struct Sniffer {
    elf: Option<Elf>,
    is_script: bool,
    /// Bit n: string n of the list was seen.
    seen: u64,
    /// The end of the last block: a string may lie across two.
    tail: Vec<u8>,
    searched: u64,
}

impl Sniffer {
    /// `head` is the beginning of the file, `elf` what its headers say.
    pub(crate) fn new(head: &[u8], elf: Option<Elf>) -> Self {
        Self {
            is_script: head.starts_with(b"#!"),
            elf,
            seen: 0,
            tail: Vec::new(),
            searched: 0,
        }
    }

    /// The next block of the file.
    pub(crate) fn feed(&mut self, block: &[u8]) {
        if self.elf.is_none() || self.searched >= MARKER_BYTES_MAX {
            return;
        }
        let markers = &*MARKERS;
        let Some(searcher) = &markers.searcher else {
            return;
        };
        let overlap = markers.longest.saturating_sub(1);
        let head = block.get(..overlap.min(block.len())).unwrap_or_default();
        if !self.tail.is_empty() {
            self.tail.extend_from_slice(head);
            self.seen |= search(searcher, &self.tail);
        }
        self.seen |= search(searcher, block);
        let keep = block.len().saturating_sub(overlap);
        self.tail.clear();
        self.tail
            .extend_from_slice(block.get(keep..).unwrap_or_default());
        self.searched = self.searched.saturating_add(block.len() as u64);
    }

    /// The answer, after the last block.
    pub(crate) fn finish(&self) -> (FileKind, Option<Interpreter>) {
        let Some(elf) = &self.elf else {
            let kind = if self.is_script {
                FileKind::Script
            } else {
                FileKind::Data
            };
            return (kind, None);
        };
        if !elf.is_fixed && !elf.is_dynamic {
            return (FileKind::Data, None);
        }
        let is_program = elf.is_program();
        let meaning = ROWS
            .iter()
            .find(|(meaning, row)| {
                let fits = match meaning {
                    Meaning::Loader => !is_program && elf.interpreter.is_none(),
                    Meaning::Openssl | Meaning::Interpreter(_) => is_program,
                };
                fits && row.iter().all(|string| self.has_seen(string))
            })
            .map(|(meaning, _)| *meaning);
        match meaning {
            Some(Meaning::Openssl) => (FileKind::OpensslProgram, None),
            Some(Meaning::Loader) => (FileKind::DynamicLoader, None),
            Some(Meaning::Interpreter(interpreter)) => (FileKind::Interpreter, Some(interpreter)),
            None if is_program => (FileKind::Program, None),
            None => (FileKind::SharedObject, None),
        }
    }

    fn has_seen(&self, string: &str) -> bool {
        MARKERS
            .strings
            .binary_search(&string)
            .is_ok_and(|at| self.seen & (1 << at) != 0)
    }
}

fn search(searcher: &Searcher, bytes: &[u8]) -> u64 {
    searcher
        .find_iter(bytes)
        .fold(0, |seen, found| seen | 1 << found.pattern().as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_has_a_bit() {
        assert!(MARKERS.strings.len() <= 64);
        assert!(MARKERS.searcher.is_some());
    }
}
