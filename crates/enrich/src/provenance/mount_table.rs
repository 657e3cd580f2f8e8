//! The mounts of a mount namespace, from `/proc/PID/mountinfo`.
//!
//! Pure: text in, table out. The text is the container's, in part: mount points, sources and options are chosen by who
//! mounted. Format: proc_pid_mountinfo(5); escapes are those of the kernel's `seq_escape`.

use model::limits::MOUNTS_PER_NAMESPACE_MAX;
use rustix::fs::makedev;

/// One line of `mountinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `mount.mnt_id`. Reused by the kernel after an unmount.
    pub id: u32,
    /// `st_dev` of files on it (not of every file on btrfs, and not on an overlay over several filesystems).
    pub device: u64,
    /// The directory of the filesystem that is mounted: `/` unless it is a bind mount.
    pub root: Vec<u8>,
    /// Where, seen from the root of the process whose table it is.
    pub mount_point: Vec<u8>,
    /// Kind of filesystem, e.g. `overlay`.
    pub filesystem: Vec<u8>,
    /// Options of the filesystem, still escaped. Kept for the root mount only.
    pub options: Vec<u8>,
}

/// All mounts of a namespace, in the kernel's order: a later one at the same place covers an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    /// The mounts.
    pub mounts: Vec<Mount>,
    /// There were more than [`MOUNTS_PER_NAMESPACE_MAX`].
    pub is_truncated: bool,
}

impl MountTable {
    /// Reads the text of a `mountinfo` file. Lines that make no sense are left out.
    pub fn parse(text: &[u8]) -> Self {
        let mut lines = mounts(text).map(|mut mount| {
            if mount.mount_point != b"/" {
                mount.options = Vec::new();
            }
            mount
        });
        let mounts: Vec<Mount> = lines.by_ref().take(MOUNTS_PER_NAMESPACE_MAX).collect();
        Self {
            mounts,
            is_truncated: lines.next().is_some(),
        }
    }

    /// The mount with that id.
    pub fn by_id(&self, id: u32) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.id == id)
    }

    /// The root of the namespace: the last one mounted there.
    pub fn root(&self) -> Option<&Mount> {
        self.mounts.iter().rfind(|mount| mount.mount_point == b"/")
    }

    /// The mount that a path, free of symlinks, is on.
    pub fn of_path(&self, path: &[u8]) -> Option<&Mount> {
        let mut best: Option<&Mount> = None;
        for mount in &self.mounts {
            let is_longer =
                best.is_none_or(|best| best.mount_point.len() <= mount.mount_point.len());
            if is_longer && strip_prefix(path, &mount.mount_point).is_some() {
                best = Some(mount);
            }
        }
        best
    }

    /// Bytes that it holds, about.
    pub(crate) fn weight(&self) -> usize {
        let texts = |mount: &Mount| {
            mount.root.len()
                + mount.mount_point.len()
                + mount.filesystem.len()
                + mount.options.len()
        };
        self.mounts
            .iter()
            .map(|mount| size_of::<Mount>() + texts(mount))
            .sum()
    }
}

/// `path` below the directory `prefix`: empty, or beginning with a slash. Both are absolute.
pub(crate) fn strip_prefix<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.first() == Some(&b'/')).then_some(rest)
}

/// The mounts of a `mountinfo` file, in its order.
pub(crate) fn mounts(text: &[u8]) -> impl Iterator<Item = Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line)
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    // 36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw,errors=continue
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let _parent = fields.next()?;
    let mut device = fields.next()?.splitn(2, |&byte| byte == b':');
    let device = makedev(number(device.next()?)?, number(device.next()?)?);
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    fields.find(|field| *field == b"-")?;
    let filesystem = fields.next()?.to_vec();
    let _source = fields.next()?;
    Some(Mount {
        id,
        device,
        root,
        mount_point,
        filesystem,
        options: fields.next().unwrap_or_default().to_vec(),
    })
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Undoes the kernel's `\ooo`.
fn unescape(text: &[u8]) -> Vec<u8> {
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

/// What the options of an overlay mount say about its layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlayOptions {
    /// Lower directories, the topmost first, as given to mount: they may be relative.
    pub lower: Vec<Vec<u8>>,
    /// Data-only lower directories (`::` or `datadir+`): seen only through redirects.
    pub data_only: Vec<Vec<u8>>,
    /// The upper directory. `None` when it is mounted read only.
    pub upper: Option<Vec<u8>>,
    /// Overlay's own attributes are `user.overlay.*` instead of `trusted.overlay.*`.
    pub is_userxattr: bool,
}

impl OverlayOptions {
    /// Reads the last field of an overlay's line.
    pub fn parse(options: &[u8]) -> Self {
        let mut parsed = Self::default();
        // A comma inside a value is escaped.
        for option in options.split(|&byte| byte == b',') {
            let mut parts = option.splitn(2, |&byte| byte == b'=');
            let (name, value) = (
                parts.next().unwrap_or_default(),
                unescape(parts.next().unwrap_or_default()),
            );
            match name {
                b"lowerdir" => parsed.add_lower_list(&value),
                b"lowerdir+" => parsed.lower.push(value),
                b"datadir+" => parsed.data_only.push(value),
                b"upperdir" => parsed.upper = Some(value),
                b"userxattr" => parsed.is_userxattr = true,
                _ => {}
            }
        }
        parsed
    }

    /// `a:b::data`, where `\:` is a colon of a name.
    fn add_lower_list(&mut self, list: &[u8]) {
        let mut bytes = list.iter().copied();
        let mut directory = Vec::new();
        let mut is_data = false;
        loop {
            match bytes.next() {
                Some(b'\\') => directory.extend(bytes.next()),
                Some(byte) if byte != b':' => directory.push(byte),
                end => {
                    if !directory.is_empty() {
                        let directory = std::mem::take(&mut directory);
                        if is_data {
                            self.data_only.push(directory);
                        } else {
                            self.lower.push(directory);
                        }
                    } else if end.is_some() {
                        // Two colons in a row: what follows is data only.
                        is_data = true;
                    }
                    if end.is_none() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_and_last_mount_holds_a_path() {
        let table = MountTable::parse(
            b"20 1 0:20 / / rw - overlay overlay rw,lowerdir=/l\n\
              21 20 0:21 / /tmp rw - tmpfs tmpfs rw\n\
              22 21 8:1 /data/a /tmp/in\\040side rw master:1 propagate_from:2 - ext4 /dev/sda rw\n\
              23 21 0:23 / /tmp rw - tmpfs tmpfs rw\n\
              nonsense\n",
        );
        assert_eq!(table.mounts.len(), 4);
        let id = |path: &[u8]| table.of_path(path).unwrap().id;
        assert_eq!(id(b"/usr/bin/ls"), 20);
        assert_eq!(id(b"/tmp/x"), 23);
        assert_eq!(id(b"/tmpfile"), 20);
        assert_eq!(id(b"/tmp/in side/x"), 22);
        assert_eq!(table.by_id(22).unwrap().root, b"/data/a");
        assert_eq!(table.root().unwrap().id, 20);
    }

    fn lower(options: &str) -> Vec<String> {
        OverlayOptions::parse(options.as_bytes())
            .lower
            .into_iter()
            .map(|directory| String::from_utf8(directory).unwrap())
            .collect()
    }

    #[test]
    fn lower_directories_come_in_all_spellings() {
        assert_eq!(
            lower("rw,lowerdir=/a:/b,upperdir=/u,workdir=/w"),
            ["/a", "/b"]
        );
        assert_eq!(lower("rw,lowerdir=l/AB:l/CD"), ["l/AB", "l/CD"]);
        assert_eq!(
            lower(r"rw,lowerdir=/a\134:x:/b\054y\040z"),
            ["/a:x", "/b,y z"]
        );
        assert_eq!(lower("rw,lowerdir+=/a:x,lowerdir+=/b"), ["/a:x", "/b"]);
        let composefs = OverlayOptions::parse(b"ro,lowerdir=/meta::/objects,metacopy=on,userxattr");
        assert_eq!(composefs.lower, [b"/meta"]);
        assert_eq!(composefs.data_only, [b"/objects"]);
        assert!(composefs.is_userxattr && composefs.upper.is_none());
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(unescape(br"a\04"), br"a\04");
        assert_eq!(unescape(br"\999\"), br"\999\");
        assert_eq!(unescape(br"\134040"), br"\040");
    }
}
