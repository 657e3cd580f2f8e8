//! Lines of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
//!
//! The text is the container's, in part: mountpoints, sources and options are chosen by who mounted. Escapes are those of the
//! kernel's `seq_escape`.

use crate::Text;

/// One mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `mount.mnt_id`. Used again by the kernel after an unmount.
    pub id: u32,
    /// `major:minor` of the superblock as `st_dev`. Not that of every file on btrfs, and on an overlay over several
    /// filesystems.
    pub device: u64,
    /// Directory (or file) of that filesystem which is mounted: `/` unless it is a bind mount.
    pub root: Text,
    /// Where it is mounted, seen from the process's root.
    pub mountpoint: Text,
    /// Filesystem name, e.g. `overlay`.
    pub filesystem: Text,
    /// Options of the superblock, still escaped: a comma within a value is. For cgroup v1 they name the controllers.
    pub super_options: Text,
    /// Mounted `noexec`: execve refuses its files.
    pub is_noexec: bool,
}

/// The mounts of a table, in its order. Lines that are not understood are left out.
pub fn mountinfo(table: &[u8]) -> impl Iterator<Item = Mount> {
    table.split(|&byte| byte == b'\n').filter_map(mount)
}

fn mount(line: &[u8]) -> Option<Mount> {
    // 36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw,errors=continue
    let mut words = line.split(|&byte| byte == b' ');
    let id = number(words.next()?)?;
    let _parent = words.next()?;
    let mut device = words.next()?.splitn(2, |&byte| byte == b':');
    let device = makedev(number(device.next()?)?, number(device.next()?)?);
    let root = Text::from(unescape(words.next()?));
    let mountpoint = Text::from(unescape(words.next()?));
    let options = words.next()?;
    // Optional fields, closed by a lone hyphen.
    words.find(|word| *word == b"-")?;
    let filesystem = Text::from(unescape(words.next()?));
    let _source = words.next()?;
    // Options of the superblock: noexec may stand there, too.
    let super_options = words.next().unwrap_or_default();
    Some(Mount {
        id,
        device,
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

/// As glibc encodes `dev_t`.
fn makedev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xffff_f000) << 32
        | (major & 0xfff) << 8
        | (minor & 0xffff_ff00) << 12
        | (minor & 0xff)
}

fn has_option(options: &[u8], name: &[u8]) -> bool {
    options.split(|&byte| byte == b',').any(|word| word == name)
}

/// Undoes the kernel's `\ooo`: space, tab, newline, backslash, `#` and in options the comma.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(octal.unwrap_or(first));
        rest = match octal {
            Some(_) => tail.get(3..).unwrap_or_default(),
            None => tail,
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_tables_are_read_with_their_escapes() {
        let table =
            br"71 43 0:39 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/u
72 71 0:40 /sub\040dir /a\134b\011 rw,noexec - tmpfs tmp\040fs rw,size=1k
73 71 259:300 / /x rw - ext4 /dev/nvme0n1p300 rw,noexec
not a mount
74 71 0:41 / /broken
75 71 4097:1 / /y rw - ext4 /dev/x rw
";
        let mounts: Vec<_> = mountinfo(table).collect();
        assert_eq!(mounts.len(), 4);
        assert_eq!((mounts[0].id, mounts[0].device), (71, 39));
        assert_eq!(mounts[0].filesystem, Text::from("overlay"));
        assert_eq!(mounts[1].root, Text::from("/sub dir"));
        assert_eq!(mounts[1].mountpoint, Text::from("/a\\b\t"));
        let is_noexec: Vec<_> = mounts.iter().map(|mount| mount.is_noexec).collect();
        assert_eq!(is_noexec, [false, true, true, false]);
        // makedev(259, 300) and makedev(4097, 1), as in st_dev.
        assert_eq!(mounts[2].device, 0x11_032c);
        assert_eq!(mounts[3].device, 0x1000_0000_0101);
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(unescape(br"a\04"), br"a\04");
        assert_eq!(unescape(br"\999\"), br"\999\");
        assert_eq!(unescape(br"\+12"), br"\+12");
        assert_eq!(unescape(br"\134040"), br"\040");
    }
}
