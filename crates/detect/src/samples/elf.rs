//! Writes minimal 64-bit ELF files: System V ABI, generic part and the supplements of the two machines.

/// Machines that samples can be made for. Both are little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// `EM_X86_64`.
    X86_64,
    /// `EM_AARCH64`.
    Aarch64,
}

impl Machine {
    /// The machine this program is built for; x86-64 when it is neither.
    pub const CURRENT: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    fn number(self) -> u16 {
        match self {
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }
}

const HEADER_BYTES: u64 = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;
/// Largest page size of the two machines.
const PAGE: u64 = 0x1_0000;
const PROGRAM_BASE: u64 = 0x40_0000;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_GNU_STACK: u32 = 0x6474_e551;
const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;

const DT_NULL: u64 = 0;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SYMENT: u64 = 11;
const DT_INIT: u64 = 12;
const SYMBOL_BYTES: u64 = 24;

struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    size: u64,
    align: u64,
}

/// A static program: one segment that holds the headers, `code` and `marker`.
pub(super) fn program(machine: Machine, code: Vec<u8>, marker: &str) -> Vec<u8> {
    let code_offset = HEADER_BYTES + PROGRAM_HEADER_BYTES;
    let size = code_offset + (code.len() + marker.len()) as u64;
    let segment = Segment {
        kind: PT_LOAD,
        flags: READ | EXECUTE,
        offset: 0,
        address: PROGRAM_BASE,
        size,
        align: PAGE,
    };
    let mut file = headers(machine, ET_EXEC, PROGRAM_BASE + code_offset, &[segment]);
    file.extend(code);
    file.extend_from_slice(marker.as_bytes());
    file
}

/// A shared object without symbols. `init` is called when it is loaded; its entry point, used when the loader is told to run
/// it, exits.
pub(super) fn library(machine: Machine, init: Option<Vec<u8>>, marker: &str) -> Vec<u8> {
    const SEGMENTS: u64 = 4;
    let exit = exit(machine);
    let has_init = init.is_some();
    let init = init.unwrap_or_default();

    // Addresses equal offsets in the first segment. Everything is kept aligned to eight bytes.
    let hash = HEADER_BYTES + SEGMENTS * PROGRAM_HEADER_BYTES;
    let hash_words: [u32; 4] = [1, 1, 0, 0]; // one bucket, one chain, both empty
    let symbols = hash + 16;
    let strings = symbols + SYMBOL_BYTES;
    let entry = strings + 8;
    let init_at = aligned(entry + exit.len() as u64);
    let marker_at = aligned(init_at + init.len() as u64);
    let dynamic = aligned(marker_at + marker.len() as u64);

    let mut entries = vec![
        (DT_HASH, hash),
        (DT_STRTAB, strings),
        (DT_SYMTAB, symbols),
        (DT_STRSZ, 1),
        (DT_SYMENT, SYMBOL_BYTES),
    ];
    if has_init {
        entries.push((DT_INIT, init_at));
    }
    entries.push((DT_NULL, 0));
    let dynamic_bytes = 16 * entries.len() as u64;

    let segments = [
        Segment {
            kind: PT_LOAD,
            flags: READ | EXECUTE,
            offset: 0,
            address: 0,
            size: dynamic,
            align: PAGE,
        },
        // Writable: older C libraries put run-time addresses into the dynamic section. A page of its own in memory.
        Segment {
            kind: PT_LOAD,
            flags: READ | WRITE,
            offset: dynamic,
            address: PAGE + dynamic,
            size: dynamic_bytes,
            align: PAGE,
        },
        Segment {
            kind: PT_DYNAMIC,
            flags: READ | WRITE,
            offset: dynamic,
            address: PAGE + dynamic,
            size: dynamic_bytes,
            align: 8,
        },
        // Without it a loader would want an executable stack, which newer ones refuse.
        Segment {
            kind: PT_GNU_STACK,
            flags: READ | WRITE,
            offset: 0,
            address: 0,
            size: 0,
            align: 16,
        },
    ];
    let mut file = headers(machine, ET_DYN, entry, &segments);
    for word in hash_words {
        file.extend(word.to_le_bytes());
    }
    file.resize(file.len() + SYMBOL_BYTES as usize + 8, 0); // the null symbol, the empty string
    file.extend(exit);
    pad(&mut file);
    file.extend(init);
    pad(&mut file);
    file.extend_from_slice(marker.as_bytes());
    pad(&mut file);
    for (tag, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file
}

fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(8)
}

fn pad(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(8), 0);
}

fn headers(machine: Machine, kind: u16, entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0]); // 64 bits, little endian, version 1, System V
    file.extend([0; 8]);
    file.extend(kind.to_le_bytes());
    file.extend(machine.number().to_le_bytes());
    file.extend(1u32.to_le_bytes()); // version
    file.extend(entry.to_le_bytes());
    file.extend(HEADER_BYTES.to_le_bytes()); // program headers follow at once
    file.extend(0u64.to_le_bytes()); // no section headers
    file.extend(0u32.to_le_bytes()); // flags
    file.extend((HEADER_BYTES as u16).to_le_bytes());
    file.extend((PROGRAM_HEADER_BYTES as u16).to_le_bytes());
    file.extend((segments.len() as u16).to_le_bytes());
    file.extend([0; 6]); // section header size, count and string index
    for segment in segments {
        file.extend(segment.kind.to_le_bytes());
        file.extend(segment.flags.to_le_bytes());
        file.extend(segment.offset.to_le_bytes());
        file.extend(segment.address.to_le_bytes());
        file.extend(segment.address.to_le_bytes()); // physical address, unused
        file.extend(segment.size.to_le_bytes()); // in the file
        file.extend(segment.size.to_le_bytes()); // in memory
        file.extend(segment.align.to_le_bytes());
    }
    file
}

fn words(instructions: &[u32]) -> Vec<u8> {
    instructions.iter().flat_map(|i| i.to_le_bytes()).collect()
}

/// `exit(0)`.
pub(super) fn exit(machine: Machine) -> Vec<u8> {
    match machine {
        Machine::X86_64 => vec![
            0xb8, 0x3c, 0, 0, 0, // mov eax, 60 (exit)
            0x31, 0xff, // xor edi, edi
            0x0f, 0x05, // syscall
        ],
        Machine::Aarch64 => words(&[
            0xd280_0ba8, // mov x8, 93 (exit)
            0xd280_0000, // mov x0, 0
            0xd400_0001, // svc 0
        ]),
    }
}

/// A function that sleeps for one second and returns.
pub(super) fn wait(machine: Machine) -> Vec<u8> {
    match machine {
        Machine::X86_64 => vec![
            0x6a, 0x00, // push 0 (nanoseconds)
            0x6a, 0x01, // push 1 (seconds)
            0x48, 0x89, 0xe7, // mov rdi, rsp
            0x31, 0xf6, // xor esi, esi
            0xb8, 0x23, 0, 0, 0, // mov eax, 35 (nanosleep)
            0x0f, 0x05, // syscall
            0x48, 0x83, 0xc4, 0x10, // add rsp, 16
            0xc3, // ret
        ],
        Machine::Aarch64 => words(&[
            0xd280_0020, // mov x0, 1 (seconds)
            0xd280_0001, // mov x1, 0 (nanoseconds)
            0xa9bf_07e0, // stp x0, x1, [sp, -16]!
            0x9100_03e0, // mov x0, sp
            0xd280_0001, // mov x1, 0
            0xd280_0ca8, // mov x8, 101 (nanosleep)
            0xd400_0001, // svc 0
            0x9100_43ff, // add sp, sp, 16
            0xd65f_03c0, // ret
        ]),
    }
}

/// Maps the first page of the file that `argv[1]` names as readable and executable, sleeps for two seconds, exits.
pub(super) fn map_first_argument(machine: Machine) -> Vec<u8> {
    let mut code = match machine {
        Machine::X86_64 => vec![
            0x48, 0x8b, 0x7c, 0x24, 0x10, // mov rdi, [rsp + 16] (argv[1])
            0x31, 0xf6, // xor esi, esi (O_RDONLY)
            0xb8, 0x02, 0, 0, 0, // mov eax, 2 (open)
            0x0f, 0x05, // syscall
            0x49, 0x89, 0xc0, // mov r8, rax
            0x31, 0xff, // xor edi, edi
            0xbe, 0x00, 0x10, 0, 0, // mov esi, 4096
            0xba, 0x05, 0, 0, 0, // mov edx, 5 (PROT_READ | PROT_EXEC)
            0x41, 0xba, 0x02, 0, 0, 0, // mov r10d, 2 (MAP_PRIVATE)
            0x45, 0x31, 0xc9, // xor r9d, r9d
            0xb8, 0x09, 0, 0, 0, // mov eax, 9 (mmap)
            0x0f, 0x05, // syscall
            0x6a, 0x00, // push 0 (nanoseconds)
            0x6a, 0x02, // push 2 (seconds)
            0x48, 0x89, 0xe7, // mov rdi, rsp
            0x31, 0xf6, // xor esi, esi
            0xb8, 0x23, 0, 0, 0, // mov eax, 35 (nanosleep)
            0x0f, 0x05, // syscall
        ],
        Machine::Aarch64 => words(&[
            0xf940_0be1, // ldr x1, [sp, 16] (argv[1])
            0x9280_0c60, // mov x0, -100 (AT_FDCWD)
            0xd280_0002, // mov x2, 0 (O_RDONLY)
            0xd280_0708, // mov x8, 56 (openat)
            0xd400_0001, // svc 0
            0xaa00_03e4, // mov x4, x0
            0xd280_0000, // mov x0, 0
            0xd282_0001, // mov x1, 4096
            0xd280_00a2, // mov x2, 5 (PROT_READ | PROT_EXEC)
            0xd280_0043, // mov x3, 2 (MAP_PRIVATE)
            0xd280_0005, // mov x5, 0
            0xd280_1bc8, // mov x8, 222 (mmap)
            0xd400_0001, // svc 0
            0xd280_0040, // mov x0, 2 (seconds)
            0xd280_0001, // mov x1, 0 (nanoseconds)
            0xa9bf_07e0, // stp x0, x1, [sp, -16]!
            0x9100_03e0, // mov x0, sp
            0xd280_0001, // mov x1, 0
            0xd280_0ca8, // mov x8, 101 (nanosleep)
            0xd400_0001, // svc 0
        ]),
    };
    code.extend(exit(machine));
    code
}
