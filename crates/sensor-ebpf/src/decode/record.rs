//! Records of the eBPF probes; their layout is `bpf/events.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::{
    Text,
    event::{Credentials, Exec, FileFacts, FileKey, Namespaces, ProcessKey, Socket, Stdio},
    limits,
    proc_files::{arguments, environment},
};

use super::{
    Error, Mapping, Seen,
    fields::{Fields, until_nul},
};

const KIND_EXEC: u32 = 1;
const KIND_FORK: u32 = 2;
const KIND_EXIT: u32 = 3;
const KIND_PROMPT: u32 = 4;
const KIND_LOAD: u32 = 5;
const KIND_ARGUMENTS: u32 = 6;

const PATH_TRUNCATED: u32 = 1 << 0;
const CWD_TRUNCATED: u32 = 1 << 1;
const MEMFD: u32 = 1 << 4;
const INTERPRETED: u32 = 1 << 5;
const PROMPT: u32 = 1 << 6;
const SCRIPT_PROMPT: u32 = 1 << 7;
const UNSETTLED: u32 = 1 << 8;
const STAMPED: u32 = 1 << 9;
const ARGUMENTS: u32 = 1 << 10;
const UNCLASSIFIED: u32 = 1 << 11;

const ARGUMENTS_INPUT: u32 = 1 << 0;
const ARGUMENTS_LOCAL_ROOT: u32 = 1 << 1;

const ARGUMENTS_BYTES_MAX: usize = 512;
const ARGUMENTS_CWD_BYTES_MAX: usize = 512;
const ARGUMENTS_CWD_TOO_LONG: u32 = u32::MAX;

const LOAD_PATH_TRUNCATED: u32 = 1 << 0;
const LOAD_MEMFD: u32 = 1 << 1;
const LOAD_UNKNOWN: u32 = 1 << 3;
const LOAD_PROMPT: u32 = 1 << 4;
const LOAD_UNSETTLED: u32 = 1 << 5;
const LOAD_STAMPED: u32 = 1 << 6;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// One record of a ring buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A program was executed.
    Exec(Box<ExecRecord>),
    /// A process was created; the header is the child's.
    Fork {
        /// The child.
        header: Header,
        /// Who forked.
        parent: ProcessKey,
    },
    /// A process ended.
    Exit {
        /// The process.
        header: Header,
    },
    /// A program was executed, or a library mapped, that may be out of reach soon; the record of the same time tells the rest.
    Prompt {
        /// The process.
        header: Header,
        /// The thread.
        tid: u32,
        /// Its descriptor that is being mapped; `None` for an exec.
        descriptor: Option<u32>,
    },
    /// A program was executed whose arguments may name a script that may be out of reach soon; the exec of the same time tells the
    /// rest.
    Arguments(Box<Arguments>),
    /// A file was mapped executable.
    Load(Box<LoadRecord>),
}

impl Record {
    /// What it begins with.
    pub fn header(&self) -> &Header {
        match self {
            Self::Exec(exec) => &exec.header,
            Self::Load(load) => &load.header,
            Self::Fork { header, .. } | Self::Exit { header } | Self::Prompt { header, .. } => {
                header
            }
            Self::Arguments(arguments) => &arguments.header,
        }
    }
}

/// What every record begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// CLOCK_BOOTTIME.
    pub boot_ns: u64,
    /// The process.
    pub process: ProcessKey,
    /// Mount namespace of the process; 0 when it has none any more.
    pub mnt_namespace: u32,
    /// Control group of the process.
    pub cgroup_id: u64,
}

/// An exec, with what is needed to find the descriptors that belong to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecRecord {
    /// Who, when and where.
    pub header: Header,
    /// The event. `exec.file.key` is what the kernel's inode says; on an overlay whose layers lie on several
    /// filesystems, `stat` says otherwise.
    pub exec: Box<Exec>,
    /// Path of the control group.
    pub cgroup_path: Text,
    /// The file given to execve was a script (or handled by binfmt_misc): `exec.file` is its interpreter.
    pub interpreted: bool,
    /// How the last script names its interpreter, or what binfmt_misc has for it. Empty when it is not known.
    pub interpreter: Text,
    /// A [`Record::Prompt`] tells of the program, too.
    pub has_prompt: bool,
    /// A [`Record::Prompt`] tells of the script, too.
    pub has_script_prompt: bool,
    /// A [`Record::Arguments`] tells of it, too.
    pub has_arguments: bool,
    /// User space has not said whether the program runs scripts.
    pub is_unclassified: bool,
    /// The times in `exec.file.key` are those of the inode that has the bytes, which change whenever they do.
    pub is_stamped: bool,
}

/// What may name a script, and where that is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments {
    /// Who, when and where.
    pub header: Header,
    /// The thread.
    pub tid: u32,
    /// The first of them, the program's name included.
    pub args: Vec<Text>,
    /// The working directory, unless it is too long.
    pub cwd: Option<Text>,
    /// The standard input is a file.
    pub has_input: bool,
    /// The root is on a filesystem that no server is behind.
    pub has_local_root: bool,
}

/// A mapping.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadRecord {
    /// Who, when and where.
    pub header: Header,
    /// What; its `seen` is there.
    pub mapping: Mapping,
    /// A [`Record::Prompt`] tells of it, too.
    pub has_prompt: bool,
}

/// Decodes one ring-buffer record.
///
/// # Errors
/// When the bytes are not a record of `events.h`.
pub fn record(bytes: &[u8]) -> Result<Record, Error> {
    let mut fields = Fields(bytes);
    let kind = fields.u32()?;
    let length = fields.length()?;
    let boot_ns = fields.u64()?;
    let start_ns = fields.u64()?;
    let pid = fields.u32()?;
    let header = Header {
        boot_ns,
        process: ProcessKey { pid, start_ns },
        mnt_namespace: fields.u32()?,
        cgroup_id: fields.u64()?,
    };
    if length != bytes.len() {
        return Err(Error::Length);
    }
    match kind {
        KIND_EXEC => exec(header, fields).map(|exec| Record::Exec(Box::new(exec))),
        KIND_FORK => {
            let start_ns = fields.u64()?;
            let pid = fields.u32()?;
            let _pad = fields.u32()?;
            Ok(Record::Fork {
                header,
                parent: ProcessKey { pid, start_ns },
            })
        }
        KIND_EXIT => Ok(Record::Exit { header }),
        KIND_PROMPT => Ok(Record::Prompt {
            header,
            tid: fields.u32()?,
            // A negative one is none.
            descriptor: Some(fields.u32()?).filter(|descriptor| *descriptor <= i32::MAX as u32),
        }),
        KIND_LOAD => load(header, fields).map(|load| Record::Load(Box::new(load))),
        KIND_ARGUMENTS => {
            let tid = fields.u32()?;
            let flags = fields.u32()?;
            let argv_length = fields.length()?;
            let cwd_length = fields.u32()?;
            let argv = fields.bytes(ARGUMENTS_BYTES_MAX)?;
            let argv = argv.get(..argv_length).ok_or(Error::Length)?;
            let cwd = fields.bytes(ARGUMENTS_CWD_BYTES_MAX)?;
            let cwd = match usize::try_from(cwd_length) {
                Ok(length) if cwd_length != ARGUMENTS_CWD_TOO_LONG => {
                    Some(cwd.get(..length).ok_or(Error::Length)?)
                }
                _ => None,
            };
            Ok(Record::Arguments(Box::new(Arguments {
                header,
                tid,
                args: arguments(argv),
                cwd: cwd.map(path_from_leaf),
                has_input: flags & ARGUMENTS_INPUT != 0,
                has_local_root: flags & ARGUMENTS_LOCAL_ROOT != 0,
            })))
        }
        other => Err(Error::Kind(other)),
    }
}

fn exec(header: Header, mut fields: Fields<'_>) -> Result<ExecRecord, Error> {
    let parent_start_ns = fields.u64()?;
    let parent = ProcessKey {
        pid: fields.u32()?,
        start_ns: parent_start_ns,
    };
    let pid_in_namespace = fields.u32()?;
    let flags = fields.u32()?;
    let mut credentials = Credentials {
        uid: fields.u32()?,
        euid: fields.u32()?,
        gid: fields.u32()?,
        egid: fields.u32()?,
        cap_effective: 0,
    };
    let namespaces = Namespaces {
        mnt: header.mnt_namespace,
        pid: fields.u32()?,
        net: fields.u32()?,
        user: fields.u32()?,
    };
    credentials.cap_effective = fields.u64()?;

    let file = inode_facts(&mut fields)?;

    let argv_bytes = fields.u64()?;
    let env_bytes = fields.u64()?;
    let argc = fields.u32()?;
    let envc = fields.u32()?;
    let path_length = fields.length()?;
    let cwd_length = fields.length()?;
    let cgroup_length = fields.length()?;
    let filename_length = fields.length()?;
    let argv_length = fields.length()?;
    let env_length = fields.length()?;
    let comm = Text::from(until_nul(fields.bytes(16)?));
    let filesystem = Text::from(until_nul(fields.bytes(16)?));
    let stdio = [
        stdio(&mut fields)?,
        stdio(&mut fields)?,
        stdio(&mut fields)?,
    ];

    let path = path_from_leaf(fields.bytes(path_length)?);
    let cwd = path_from_leaf(fields.bytes(cwd_length)?);
    let cgroup_path = path_from_leaf(fields.bytes(cgroup_length)?);
    let names = fields.bytes(filename_length)?;
    let filename = Text::from(until_nul(names));
    let interpreter = names.get(filename.len() + 1..).unwrap_or_default();
    let interpreter = Text::from(until_nul(interpreter));
    let argv = fields.bytes(argv_length)?;
    let env = fields.bytes(env_length)?;

    let args = arguments(argv);
    Ok(ExecRecord {
        header,
        cgroup_path,
        interpreted: flags & INTERPRETED != 0,
        interpreter,
        has_prompt: flags & PROMPT != 0,
        has_script_prompt: flags & SCRIPT_PROMPT != 0,
        has_arguments: flags & ARGUMENTS != 0,
        is_unclassified: flags & UNCLASSIFIED != 0,
        is_stamped: flags & STAMPED != 0,
        exec: Box::new(Exec {
            file: FileFacts {
                path,
                path_truncated: flags & PATH_TRUNCATED != 0,
                key: Some(file.key),
                link_count: file.link_count,
                mount_id: file.mount_id,
                filesystem,
                is_memfd: flags & MEMFD != 0,
                is_unsettled: flags & UNSETTLED != 0,
                missing: None,
            },
            scripts: Vec::new(),
            filename,
            args_truncated: is_cut(argv_bytes, argv.len(), argc, args.len()),
            args,
            env_truncated: is_cut(env_bytes, env.len(), envc, environment(env).count()),
            env: Text::from(env),
            cwd: if flags & CWD_TRUNCATED == 0 {
                cwd
            } else {
                Text::default()
            },
            comm,
            parent,
            pid_in_namespace,
            credentials,
            namespaces,
            stdio,
            already_running: false,
        }),
    })
}

fn load(header: Header, mut fields: Fields<'_>) -> Result<LoadRecord, Error> {
    let (address_start, address_end) = (fields.u64()?, fields.u64()?);
    let file = inode_facts(&mut fields)?;
    let real_inode = fields.u64()?;
    let flags = fields.u32()?;
    let path_length = fields.length()?;
    let filesystem = Text::from(until_nul(fields.bytes(16)?));
    Ok(LoadRecord {
        header,
        mapping: Mapping {
            pid: header.process.pid,
            boot_ns: header.boot_ns,
            address_start,
            address_end,
            device: file.key.device,
            inode: file.key.inode,
            path: path_from_leaf(fields.bytes(path_length)?),
            seen: Some(Box::new(Seen {
                key: file.key,
                link_count: file.link_count,
                mount_id: file.mount_id,
                filesystem,
                is_memfd: flags & LOAD_MEMFD != 0,
                is_unsettled: flags & LOAD_UNSETTLED != 0,
                is_stamped_loader: flags & LOAD_STAMPED != 0,
                path_truncated: flags & LOAD_PATH_TRUNCATED != 0,
                is_unknown: flags & LOAD_UNKNOWN != 0,
                real_inode,
            })),
        },
        has_prompt: flags & LOAD_PROMPT != 0,
    })
}

/// `struct inode_facts`.
struct InodeFacts {
    key: FileKey,
    link_count: u32,
    mount_id: u32,
}

fn inode_facts(fields: &mut Fields<'_>) -> Result<InodeFacts, Error> {
    let (inode, size) = (fields.u64()?, fields.u64()?);
    let (mtime_sec, ctime_sec) = (fields.i64()?, fields.i64()?);
    let (mtime_nsec, ctime_nsec) = (fields.u32()?, fields.u32()?);
    let key = FileKey {
        device: user_device(fields.u32()?),
        inode,
        size,
        mtime_ns: nanoseconds(mtime_sec, mtime_nsec),
        ctime_ns: nanoseconds(ctime_sec, ctime_nsec),
    };
    let link_count = fields.u32()?;
    let _mode = fields.u32()?;
    Ok(InodeFacts {
        key,
        link_count,
        mount_id: fields.u32()?,
    })
}

/// Whether fewer bytes or strings were kept than the process has.
fn is_cut(bytes: u64, kept_bytes: usize, count: u32, kept_count: usize) -> bool {
    u64::try_from(kept_bytes).is_ok_and(|kept| kept < bytes)
        || u32::try_from(kept_count).is_ok_and(|kept| kept < count)
}

fn nanoseconds(seconds: i64, nanoseconds: u32) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(nanoseconds))
}

/// The kernel's dev_t (12 bits major, 20 bits minor) as `st_dev` has it (`new_encode_dev`).
pub(super) fn user_device(device: u32) -> u64 {
    let (major, minor) = (device >> 20, device & 0xf_ffff);
    u64::from(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// The other way round.
pub(crate) fn kernel_device(device: u64) -> u32 {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    u32::try_from(major << 20 | minor).unwrap_or_default()
}

/// Joins components that come leaf first, each ended by NUL.
fn path_from_leaf(components: &[u8]) -> Text {
    let mut path = Text::with_capacity(components.len().max(1));
    let components = components.strip_suffix(b"\0").unwrap_or(components);
    for component in components.rsplit(|&byte| byte == 0) {
        path.push(b"/");
        path.push(component);
    }
    path.truncate(limits::PATH_BYTES_MAX);
    path
}

fn stdio(fields: &mut Fields<'_>) -> Result<Stdio, Error> {
    let kind = fields.u8()?;
    let state = fields.u8()?;
    let family = fields.u16()?;
    let local_port = fields.u16()?;
    let peer_port = u16::from_be(fields.u16()?);
    let inode = fields.u64()?;
    let local = address(family, fields.array()?);
    let peer = address(family, fields.array()?);
    Ok(match kind {
        0 => Stdio::Closed,
        1 => Stdio::File,
        2 => Stdio::Device,
        3 => Stdio::Pipe { inode },
        4 => Stdio::Socket(Box::new(Socket {
            family,
            state,
            local: local.map(|address| SocketAddr::new(address, local_port)),
            peer: peer
                .filter(|_| peer_port != 0)
                .map(|address| SocketAddr::new(address, peer_port)),
        })),
        _ => Stdio::Other,
    })
}

fn address(family: u16, bytes: [u8; 16]) -> Option<IpAddr> {
    match family {
        AF_INET => {
            let [a, b, c, d, ..] = bytes;
            Some(Ipv4Addr::new(a, b, c, d).into())
        }
        AF_INET6 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}
