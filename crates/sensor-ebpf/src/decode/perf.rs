//! Records of the perf buffers that library loads come from (`enum perf_event_type` of `linux/perf_event.h`).

use model::{Text, event::FileKey, limits};

use super::{
    Error,
    fields::{Fields, until_nul},
};

const RECORD_LOST: u32 = 2;
const RECORD_COMM: u32 = 3;
const RECORD_MMAP2: u32 = 10;
/// `PERF_RECORD_MISC_COMM_EXEC`.
const MISC_COMM_EXEC: u16 = 1 << 13;
/// `PERF_RECORD_MISC_MMAP_BUILD_ID`: device and inode are replaced. Never asked for.
const MISC_BUILD_ID: u16 = 1 << 14;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum PerfRecord {
    /// A file was mapped executable.
    Mapping(Mapping),
    /// A process is in the middle of an exec: its old image is gone, mappings that follow are exec's own.
    ExecBegins {
        /// The process.
        pid: u32,
        /// CLOCK_BOOTTIME.
        boot_ns: u64,
    },
    /// Records are missing.
    Lost {
        /// How many.
        count: u64,
        /// CLOCK_BOOTTIME.
        boot_ns: u64,
    },
    /// Something that was not asked for, or tells nothing: `[vdso]`, `//anon`.
    Other,
}

impl Seen {
    /// What `stat` may tell of the file: on an overlay the inode of either layer, for one that was copied up.
    pub fn keys(&self) -> [FileKey; 2] {
        let real = FileKey {
            inode: self.real_inode,
            ..self.key
        };
        [self.key, real]
    }
}

impl PerfRecord {
    /// When it was made, CLOCK_BOOTTIME.
    pub fn boot_ns(&self) -> u64 {
        match self {
            Self::Mapping(mapping) => mapping.boot_ns,
            Self::ExecBegins { boot_ns, .. } | Self::Lost { boot_ns, .. } => *boot_ns,
            Self::Other => 0,
        }
    }
}

/// `PERF_RECORD_MMAP2`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping {
    /// Process.
    pub pid: u32,
    /// CLOCK_BOOTTIME.
    pub boot_ns: u64,
    /// First address.
    pub address_start: u64,
    /// Address behind the last.
    pub address_end: u64,
    /// `st_dev` of the mapped inode's superblock.
    pub device: u64,
    /// Inode number; 0 when the kernel did not tell the file.
    pub inode: u64,
    /// Path from the process's root. Perf tells it with ` (deleted)` behind it when it is, and not when it is too long: then it
    /// is empty.
    pub path: Text,
    /// What perf does not tell, and the probe does.
    pub seen: Option<Box<Seen>>,
}

/// The mapped file, as it was then.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its identity. On an overlay whose layers lie on several filesystems, `stat` tells another device.
    pub key: FileKey,
    /// Names that it has.
    pub link_count: u32,
    /// Mount that it was opened on.
    pub mount_id: u32,
    /// Name of the filesystem's type.
    pub filesystem: Text,
    /// It is a memfd, or anonymous shared memory.
    pub is_memfd: bool,
    /// It can be changed without a change of its key.
    pub is_unsettled: bool,
    /// It is the program interpreter of an exec (`ld.so`), on a filesystem that changes the key with each change of the bytes.
    pub is_stamped_loader: bool,
    /// The path is longer than its limit.
    pub path_truncated: bool,
    /// The probe had not been told that the file is known.
    pub is_unknown: bool,
    /// Inode number in the layer that an overlay has the file in; otherwise that of `key`.
    pub real_inode: u64,
}

/// What the kernel says in place of the path, device and inode of a file whose path is longer than 4,088 bytes, or for
/// which it had no memory (`perf_event_mmap_event`).
const NO_PATH: [&[u8]; 2] = [b"//toolong", b"//enomem"];

/// Decodes one record, its header included, of an event opened with `sample_id_all` and `PERF_SAMPLE_TID | TIME`.
///
/// # Errors
/// When it is shorter than its kind.
pub fn perf_record(bytes: &[u8]) -> Result<PerfRecord, Error> {
    let mut fields = Fields(bytes);
    let kind = fields.u32()?;
    let misc = fields.u16()?;
    let size = usize::from(fields.u16()?);
    if size != bytes.len() {
        return Err(Error::Length);
    }
    match kind {
        RECORD_LOST => {
            let _id = fields.u64()?;
            Ok(PerfRecord::Lost {
                count: fields.u64()?,
                boot_ns: sample_time(bytes)?,
            })
        }
        RECORD_COMM if misc & MISC_COMM_EXEC != 0 => {
            let pid = fields.u32()?;
            Ok(PerfRecord::ExecBegins {
                pid,
                boot_ns: sample_time(bytes)?,
            })
        }
        RECORD_MMAP2 if misc & MISC_BUILD_ID == 0 => {
            let pid = fields.u32()?;
            let _tid = fields.u32()?;
            let address_start = fields.u64()?;
            let length = fields.u64()?;
            let _page_offset = fields.u64()?;
            let (major, minor) = (fields.u32()?, fields.u32()?);
            let inode = fields.u64()?;
            let _generation = fields.u64()?;
            let _protection = fields.u32()?;
            let _flags = fields.u32()?;
            let mut path = until_nul(fields.0);
            if NO_PATH.contains(&path) {
                path = b"";
            } else if inode == 0 || !path.starts_with(b"/") || path.starts_with(b"//") {
                return Ok(PerfRecord::Other);
            }
            Ok(PerfRecord::Mapping(Mapping {
                pid,
                boot_ns: sample_time(bytes)?,
                address_start,
                address_end: address_start.saturating_add(length),
                device: device(major, minor),
                inode,
                path: Text::from(path.get(..limits::PATH_BYTES_MAX).unwrap_or(path)),
                seen: None,
            }))
        }
        _ => Ok(PerfRecord::Other),
    }
}

/// `sample_id` is the last thing of a record: tid (pid, tid), then time.
fn sample_time(bytes: &[u8]) -> Result<u64, Error> {
    let time = bytes.last_chunk().ok_or(Error::Short)?;
    Ok(u64::from_ne_bytes(*time))
}

fn device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | minor & 0xff
}
