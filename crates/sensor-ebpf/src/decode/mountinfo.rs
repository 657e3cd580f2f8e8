//! Lines of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use model::Text;

/// One mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `mount.mnt_id`.
    pub id: u32,
    /// `major:minor` of the superblock as `st_dev`.
    pub device: u64,
    /// Directory (or file) of that filesystem which is mounted.
    pub root: Text,
    /// Where it is mounted, seen from the process's root. Escapes are resolved.
    pub mountpoint: Text,
    /// Filesystem name.
    pub filesystem: Text,
    /// Options of the superblock; for cgroup v1 they name the controllers.
    pub super_options: Text,
    /// Mounted `noexec`: execve refuses its files.
    pub is_noexec: bool,
}

/// The mounts of a table. Lines that are not understood are left out.
pub fn mountinfo(table: &[u8]) -> impl Iterator<Item = Mount> {
    table.split(|&byte| byte == b'\n').filter_map(mount)
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let id = number(words.next()?)?;
    let _parent = words.next()?;
    let mut device = words.next()?.split(|&byte| byte == b':');
    let (major, minor) = (number(device.next()?)?, number(device.next()?)?);
    let root = unescape(words.next()?);
    let mountpoint = unescape(words.next()?);
    let options = words.next()?;
    // Optional fields, closed by a lone hyphen.
    words.find(|word| *word == b"-")?;
    let filesystem = unescape(words.next()?);
    let _source = words.next()?;
    // Options of the superblock: noexec may stand there, too.
    let super_options = words.next().unwrap_or_default();
    Some(Mount {
        id,
        device: u64::from(major & 0xfff) << 8
            | u64::from(minor & 0xffff_ff00) << 12
            | u64::from(minor & 0xff),
        root,
        mountpoint,
        filesystem,
        super_options: Text::from(super_options),
        is_noexec: has_option(options, b"noexec") || has_option(super_options, b"noexec"),
    })
}

fn number(word: &[u8]) -> Option<u32> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn has_option(options: &[u8], name: &[u8]) -> bool {
    options.split(|&byte| byte == b',').any(|word| word == name)
}

/// `mangle_path` writes space, tab, newline, backslash and `#` as a backslash and three octal digits.
fn unescape(word: &[u8]) -> Text {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\')
            .then(|| tail.split_at_checked(3))
            .flatten()
            .and_then(|(digits, after)| Some((octal(digits)?, after)));
        if let Some((value, after)) = octal {
            out.push(value);
            rest = after;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    Text(out)
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}
