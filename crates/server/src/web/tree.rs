//! The process tree as a picture: every process that the findings of one container know, with rows and places for an SVG.

use std::collections::BTreeMap;

use model::{
    finding::{Finding, Process},
    text::escape_terminal,
};

use super::{shown::finding_href, text::clipped};

/// Processes drawn. A container can raise findings from any number of them.
const NODES_MAX: usize = 60;

/// Files drawn under the finding's own process.
const FILES_MAX: usize = 6;

const ROW_HEIGHT: usize = 58;
const BOX_HEIGHT: usize = 44;
const INDENT: usize = 32;
const MARGIN: usize = 4;
const LABEL_CHARACTERS_MAX: usize = 60;
const COMMAND_CHARACTERS_MAX: usize = 110;

/// A picture of rows; units are pixels.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) boxes: Vec<TreeBox>,
    /// Paths of lines from parents to children.
    pub(crate) edges: Vec<String>,
    /// Processes left out.
    pub(crate) more: usize,
}

/// One process or file.
#[derive(Debug)]
pub(crate) struct TreeBox {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) text_x: usize,
    pub(crate) label_y: usize,
    pub(crate) command_y: usize,
    pub(crate) flag_x: usize,
    pub(crate) class: &'static str,
    pub(crate) label: String,
    pub(crate) command: String,
    /// What was found in it.
    pub(crate) flag: String,
    /// Page of the other finding that it is known from.
    pub(crate) href: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    pid: i64,
    path: String,
}

struct Node<'a> {
    process: &'a Process,
    children: Vec<Key>,
    has_parent: bool,
    found: Vec<&'a Finding>,
    is_subject: bool,
}

/// Draws the processes of `finding` and of the other findings of its container.
pub(crate) fn draw(finding: &Finding, others: &[&Finding]) -> Tree {
    let mut nodes: BTreeMap<Key, Node<'_>> = BTreeMap::new();
    let mut tree = Tree::default();
    for other in std::iter::once(&finding).chain(others) {
        // The chain from the first process down, so that parents are there before their children.
        let mut parent: Option<Key> = None;
        for (index, process) in other.processes.iter().enumerate().rev() {
            let key = key(process);
            if !nodes.contains_key(&key) {
                if nodes.len() >= NODES_MAX {
                    tree.more += 1;
                    continue;
                }
                nodes.insert(
                    key.clone(),
                    Node {
                        process,
                        children: Vec::new(),
                        has_parent: false,
                        found: Vec::new(),
                        is_subject: false,
                    },
                );
            }
            link(&mut nodes, parent.as_ref(), &key);
            if let (0, Some(node)) = (index, nodes.get_mut(&key)) {
                node.found.push(other);
                node.is_subject |= other.name == finding.name;
            }
            parent = Some(key);
        }
    }
    let mut roots: Vec<&Key> = nodes
        .iter()
        .filter(|(_, node)| !node.has_parent)
        .map(|(key, _)| key)
        .collect();
    roots.sort();
    for root in roots {
        tree.place(&nodes, root, 0, None, finding);
    }
    tree.width = tree
        .boxes
        .iter()
        .map(|node| node.x + node.width)
        .max()
        .unwrap_or_default()
        + MARGIN;
    tree.height = tree.boxes.len() * ROW_HEIGHT;
    tree
}

/// Makes `child` a child of `parent`, unless it has one, or that would close a circle (pids are reused).
fn link(nodes: &mut BTreeMap<Key, Node<'_>>, parent: Option<&Key>, child: &Key) {
    let Some(parent) = parent.filter(|parent| *parent != child) else {
        return;
    };
    if nodes.get(child).is_none_or(|node| node.has_parent) || reaches(nodes, child, parent) {
        return;
    }
    if let Some(node) = nodes.get_mut(parent) {
        node.children.push(child.clone());
        if let Some(node) = nodes.get_mut(child) {
            node.has_parent = true;
        }
    }
}

fn reaches(nodes: &BTreeMap<Key, Node<'_>>, from: &Key, to: &Key) -> bool {
    let mut left = vec![from];
    while let Some(key) = left.pop() {
        if key == to {
            return true;
        }
        left.extend(nodes.get(key).into_iter().flat_map(|node| &node.children));
    }
    false
}

impl Tree {
    fn place(
        &mut self,
        nodes: &BTreeMap<Key, Node<'_>>,
        key: &Key,
        depth: usize,
        parent: Option<(usize, usize)>,
        finding: &Finding,
    ) {
        let Some(node) = nodes.get(key) else {
            return;
        };
        let process = node.process;
        let others: Vec<&&Finding> = node
            .found
            .iter()
            .filter(|found| found.name != finding.name)
            .collect();
        let flag: Vec<&str> = node
            .found
            .iter()
            .map(|found| found.category.as_str())
            .collect();
        let class = match (node.is_subject, others.is_empty()) {
            (true, _) => "here",
            (false, false) => "other",
            (false, true) => "",
        };
        let at = self.add(
            depth,
            parent,
            class,
            label(process),
            command(process),
            flag.join(" · "),
        );
        if let (Some(last), false, Some(other)) =
            (self.boxes.last_mut(), node.is_subject, others.first())
        {
            last.href = Some(finding_href(&other.name));
        }
        if node.is_subject {
            let script = process.script.iter().map(|file| ("script", file));
            let libraries = process.libraries.iter().map(|file| ("library", file));
            for (word, file) in script.chain(libraries).take(FILES_MAX) {
                let hash = if file.sha256.is_empty() {
                    "sha256 not known".to_owned()
                } else {
                    format!("sha256 {}", file.sha256)
                };
                self.add(
                    depth + 1,
                    Some(at),
                    "file",
                    format!("{word} {}", file.path),
                    hash,
                    String::new(),
                );
            }
        }
        for child in &node.children {
            self.place(nodes, child, depth + 1, Some(at), finding);
        }
    }

    /// Adds a row. Returns where lines to its children begin.
    fn add(
        &mut self,
        depth: usize,
        parent: Option<(usize, usize)>,
        class: &'static str,
        label: String,
        command: String,
        flag: String,
    ) -> (usize, usize) {
        let x = MARGIN + depth * INDENT;
        let y = MARGIN + self.boxes.len() * ROW_HEIGHT;
        // Escaped here, so that the width is that of what is shown.
        let label = clipped(&escape_terminal(&label), LABEL_CHARACTERS_MAX);
        let command = clipped(&escape_terminal(&command), COMMAND_CHARACTERS_MAX);
        let flag = clipped(&escape_terminal(&flag), LABEL_CHARACTERS_MAX);
        // Widths of the fonts' characters, rounded up: text cannot be measured here.
        let label_width = label.chars().count() * 8;
        let flag_width = if flag.is_empty() {
            0
        } else {
            flag.chars().count() * 7 + 16
        };
        let width = (label_width + flag_width).max(command.chars().count() * 15 / 2) + 24;
        if let Some((from_x, from_y)) = parent {
            let middle = y + BOX_HEIGHT / 2;
            self.edges.push(format!("M{from_x} {from_y}V{middle}H{x}"));
        }
        self.boxes.push(TreeBox {
            x,
            y,
            width,
            height: BOX_HEIGHT,
            text_x: x + 12,
            label_y: y + 18,
            command_y: y + 35,
            flag_x: x + 12 + label_width + 16,
            class,
            label,
            command,
            flag,
            href: None,
        });
        (x + 14, y + BOX_HEIGHT)
    }
}

fn key(process: &Process) -> Key {
    Key {
        pid: process.pid,
        path: path(process).to_owned(),
    }
}

fn path(process: &Process) -> &str {
    process
        .binary
        .as_ref()
        .map_or(&process.name, |file| &file.path)
}

fn label(process: &Process) -> String {
    let user = match process.user_id {
        0 => "root".to_owned(),
        user => format!("user {user}"),
    };
    let name = if process.name.is_empty() {
        path(process)
    } else {
        &process.name
    };
    format!("{name}  pid {}  {user}", process.pid)
}

fn command(process: &Process) -> String {
    let args = process.args.get(1..).unwrap_or_default().join(" ");
    format!("{} {args}", path(process)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use model::finding::File;

    use super::*;

    fn process(pid: i64, path: &str) -> Process {
        Process {
            name: path.to_owned(),
            binary: Some(File {
                path: path.to_owned(),
                ..File::default()
            }),
            pid,
            ..Process::default()
        }
    }

    fn finding(name: &str, chain: &[(i64, &str)]) -> Finding {
        Finding {
            name: name.to_owned(),
            category: format!("category of {name}"),
            processes: chain
                .iter()
                .map(|(pid, path)| process(*pid, path))
                .collect(),
            ..Finding::default()
        }
    }

    #[test]
    fn findings_of_one_container_share_their_ancestors() {
        let this = finding("this", &[(9, "/tmp/x"), (5, "/bin/sh"), (1, "/init")]);
        let other = finding("other", &[(8, "/tmp/y"), (5, "/bin/sh"), (1, "/init")]);
        let tree = draw(&this, &[&other]);
        let rows: Vec<_> = tree
            .boxes
            .iter()
            .map(|node| (node.label.as_str(), node.x, node.class))
            .collect();
        assert_eq!(
            rows,
            [
                ("/init  pid 1  root", 4, ""),
                ("/bin/sh  pid 5  root", 36, ""),
                ("/tmp/x  pid 9  root", 68, "here"),
                ("/tmp/y  pid 8  root", 68, "other"),
            ]
        );
        assert_eq!(tree.edges.len(), 3);
        assert_eq!(tree.boxes[3].href.as_deref(), Some("/finding/other"));
    }

    #[test]
    fn reused_pids_do_not_close_a_circle_and_there_is_an_end_to_drawing() {
        let this = finding("this", &[(1, "a"), (2, "b"), (1, "a"), (2, "b")]);
        assert_eq!(draw(&this, &[]).boxes.len(), 2);
        let many: Vec<Finding> = (0..200)
            .map(|n| finding(&format!("f{n}"), &[(n + 10, "/x")]))
            .collect();
        let tree = draw(&this, &many.iter().collect::<Vec<_>>());
        assert_eq!(tree.boxes.len(), NODES_MAX);
        assert!(tree.more > 0);
    }
}
