//! The mounts of a mount namespace, and what the options of an overlay say. Pure: text in, table out.

use model::{
    Text,
    limits::MOUNTS_PER_NAMESPACE_MAX,
    mountinfo::{Mount, mountinfo, unescape},
};

/// All mounts of a namespace, in the kernel's order: a later one at the same place covers an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    /// The mounts. Options are kept of the root mount alone.
    pub mounts: Vec<Mount>,
}

impl MountTable {
    /// Reads the text of a `mountinfo` file. Lines that make no sense are left out.
    pub fn parse(text: &[u8]) -> Self {
        let lines = mountinfo(text).map(|mut mount| {
            if mount.mountpoint.as_bytes() != b"/" {
                mount.super_options = Text::default();
            }
            mount
        });
        Self {
            mounts: lines.take(MOUNTS_PER_NAMESPACE_MAX).collect(),
        }
    }

    /// The mount with that id.
    pub fn by_id(&self, id: u32) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.id == id)
    }

    /// The root of the namespace: the last one mounted there.
    pub fn root(&self) -> Option<&Mount> {
        self.mounts
            .iter()
            .rfind(|mount| mount.mountpoint.as_bytes() == b"/")
    }

    /// The mount that a path, free of symlinks, is on.
    pub fn of_path(&self, path: &[u8]) -> Option<&Mount> {
        let mut best: Option<&Mount> = None;
        for mount in &self.mounts {
            let is_longer = best.is_none_or(|best| best.mountpoint.len() <= mount.mountpoint.len());
            if is_longer && strip_prefix(path, mount.mountpoint.as_bytes()).is_some() {
                best = Some(mount);
            }
        }
        best
    }

    /// Bytes that it holds, about.
    pub(crate) fn weight(&self) -> usize {
        let texts = |mount: &Mount| {
            mount.root.len()
                + mount.mountpoint.len()
                + mount.filesystem.len()
                + mount.super_options.len()
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
        assert_eq!(table.by_id(22).unwrap().root, Text::from("/data/a"));
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
}
