//! What an ELF file is, from its headers alone.
//!
//! Pure and total: any bytes give an answer, reads are few and bounded, nothing is indexed by the file's own numbers
//! without a check. Layout: System V ABI, generic part, chapters 4 and 5.

use model::Text;

/// Program headers looked at. Real files have about a dozen; the kernel itself refuses more than 64 KiB of them.
const PROGRAM_HEADERS_MAX: u16 = 128;

/// Bytes of the dynamic section looked at. Each entry has 16 bytes and real files have about 40 of them.
const DYNAMIC_BYTES_MAX: u64 = 16 * 1024;

/// Bytes of a name (`DT_SONAME`, `PT_INTERP`).
const NAME_BYTES_MAX: usize = 256;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// The facts that tell programs, libraries and the dynamic loader apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// `ET_EXEC`: a program at a fixed address.
    pub is_fixed: bool,
    /// `ET_DYN`: a library, or a program that can be loaded anywhere.
    pub is_dynamic: bool,
    /// `PT_INTERP`: the loader it asks for.
    pub interpreter: Option<Text>,
    /// `DT_SONAME`: the name it has as a library.
    pub soname: Option<Text>,
    /// `DF_1_PIE`: linked as a position-independent program.
    pub is_pie: bool,
}

impl Elf {
    /// It is meant to be run. A library that can also be run (glibc's `libc.so.6` prints its version) is still a library.
    pub fn is_program(&self) -> bool {
        self.is_fixed
            || self.is_dynamic
                && (self.is_pie || self.interpreter.is_some() && self.soname.is_none())
    }
}

/// Reads the headers of an ELF file through `read_at(offset, length)`, which gives at most `length` bytes.
///
/// `None` when it is not ELF. Headers that make no sense count as absent.
pub fn parse(read_at: &mut dyn FnMut(u64, usize) -> Vec<u8>) -> Option<Elf> {
    let head = read_at(0, 64);
    let reader = Reader::from_ident(&head)?;
    let elf_type = reader.u16(&head, 16)?;
    let mut elf = Elf {
        is_fixed: elf_type == ET_EXEC,
        is_dynamic: elf_type == ET_DYN,
        ..Elf::default()
    };
    let Some(segments) = reader.segments(&head, read_at) else {
        return Some(elf);
    };
    elf.interpreter = segments
        .iter()
        .find(|segment| segment.kind == PT_INTERP)
        .and_then(|segment| name(&read_at(segment.offset, NAME_BYTES_MAX)));
    if let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) {
        reader.read_dynamic(dynamic, &segments, read_at, &mut elf);
    }
    Some(elf)
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
}

/// Byte order and word size of one file.
#[derive(Clone, Copy)]
struct Reader {
    is_64: bool,
    is_little: bool,
}

impl Reader {
    fn from_ident(head: &[u8]) -> Option<Self> {
        if head.get(..4)? != b"\x7fELF" {
            return None;
        }
        Some(Self {
            is_64: *head.get(4)? == 2,
            is_little: *head.get(5)? != 2,
        })
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let array = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.is_little {
            u16::from_le_bytes(array)
        } else {
            u16::from_be_bytes(array)
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let array = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_little {
            u32::from_le_bytes(array)
        } else {
            u32::from_be_bytes(array)
        })
    }

    /// A field as wide as an address.
    fn word(self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.is_64 {
            return self.u32(bytes, at).map(u64::from);
        }
        let array = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
        Some(if self.is_little {
            u64::from_le_bytes(array)
        } else {
            u64::from_be_bytes(array)
        })
    }

    fn segments(
        self,
        head: &[u8],
        read_at: &mut dyn FnMut(u64, usize) -> Vec<u8>,
    ) -> Option<Vec<Segment>> {
        // e_phoff, e_phentsize, e_phnum.
        let (table_at, sizes_at) = if self.is_64 { (32, 54) } else { (28, 42) };
        let offset = self.word(head, table_at)?;
        let entry_bytes = usize::from(self.u16(head, sizes_at)?);
        let count = self.u16(head, sizes_at + 2)?.min(PROGRAM_HEADERS_MAX);
        if entry_bytes < if self.is_64 { 56 } else { 32 } || entry_bytes > 256 {
            return None;
        }
        let table = read_at(offset, entry_bytes * usize::from(count));
        let segments = table.chunks_exact(entry_bytes).filter_map(|entry| {
            let (offset_at, address_at, size_at) =
                if self.is_64 { (8, 16, 32) } else { (4, 8, 16) };
            Some(Segment {
                kind: self.u32(entry, 0)?,
                offset: self.word(entry, offset_at)?,
                address: self.word(entry, address_at)?,
                file_bytes: self.word(entry, size_at)?,
            })
        });
        Some(segments.collect())
    }

    fn read_dynamic(
        self,
        dynamic: &Segment,
        segments: &[Segment],
        read_at: &mut dyn FnMut(u64, usize) -> Vec<u8>,
        elf: &mut Elf,
    ) {
        let word_bytes = if self.is_64 { 8 } else { 4 };
        let length = usize::try_from(dynamic.file_bytes.min(DYNAMIC_BYTES_MAX)).unwrap_or(0);
        let table = read_at(dynamic.offset, length);
        let (mut strings_at, mut soname_at) = (None, None);
        for entry in table.chunks_exact(2 * word_bytes) {
            let (Some(tag), Some(value)) = (self.word(entry, 0), self.word(entry, word_bytes))
            else {
                break;
            };
            match tag {
                0 => break,
                DT_STRTAB => strings_at = Some(value),
                DT_SONAME => soname_at = Some(value),
                DT_FLAGS_1 => elf.is_pie = value & DF_1_PIE != 0,
                _ => {}
            }
        }
        let (Some(strings_at), Some(soname_at)) = (strings_at, soname_at) else {
            return;
        };
        // DT_STRTAB is an address: the segment that holds it says where that is in the file.
        let offset = segments
            .iter()
            .filter(|segment| segment.kind == PT_LOAD)
            .find_map(|segment| {
                let inside = strings_at.checked_sub(segment.address)?;
                (inside < segment.file_bytes).then(|| segment.offset.checked_add(inside))?
            });
        elf.soname = offset
            .and_then(|offset| offset.checked_add(soname_at))
            .and_then(|offset| name(&read_at(offset, NAME_BYTES_MAX)));
    }
}

fn name(bytes: &[u8]) -> Option<Text> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    bytes
        .get(..end)
        .filter(|name| !name.is_empty())
        .map(Text::from)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt};

    use super::*;

    fn parse_file(path: &str) -> Option<Elf> {
        let file = fs::File::open(path).unwrap();
        parse(&mut |offset, length| {
            let mut bytes = vec![0; length];
            let count = file.read_at(&mut bytes, offset).unwrap_or(0);
            bytes.truncate(count);
            bytes
        })
    }

    #[test]
    fn programs_libraries_and_the_loader_are_told_apart() {
        let program = parse_file("/bin/true").unwrap();
        assert!(program.is_program());
        let loader = program.interpreter.unwrap();
        let loader = parse_file(loader.as_str().unwrap()).unwrap();
        assert!(!loader.is_program());
        assert!(loader.soname.unwrap().as_bytes().starts_with(b"ld-"));
        assert!(parse_file("/bin/busybox").unwrap().is_program());
        // glibc's C library has PT_INTERP and can be run, and is a library all the same.
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps
            .split_whitespace()
            .find(|word| word.contains("libc.so.6") || word.contains("libc-"))
            .unwrap();
        assert!(!parse_file(libc).unwrap().is_program());
    }

    #[test]
    fn broken_headers_never_panic() {
        let good = fs::read("/bin/true").unwrap();
        let parse_bytes = |bytes: &[u8]| {
            parse(&mut |offset, length| {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                bytes[start..start.saturating_add(length).min(bytes.len())].to_vec()
            })
        };
        assert!(parse_bytes(&good).unwrap().is_program());
        for cut in 0..200 {
            parse_bytes(&good[..cut]);
        }
        for at in 4..1024 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                parse_bytes(&bytes);
            }
        }
    }
}
