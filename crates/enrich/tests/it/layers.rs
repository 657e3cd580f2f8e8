//! Images of several layers: what the upper ones hide of the lower ones. The layers are made by overlayfs itself.

use model::provenance::Provenance::{self, Added, BuiltIn, Modified};

use crate::{
    matrix::digest,
    overlay::{Container, Pipeline, facts},
};

/// Adds trees to the first layer.
const BASE: &str = r"
for tree in kept emptied replaced renamed deep; do
    mkdir -p layer0/opt/$tree/sub/inner
    printf one > layer0/opt/$tree/a
    printf two > layer0/opt/$tree/sub/b
    printf three > layer0/opt/$tree/sub/inner/c
done
";

/// The layers above it, the lowest first: whiteouts, opaque directories, redirects, nested and over one another.
const LAYERS: &[&str] = &[
    "rm opt/kept/a
     rm -r opt/emptied && mkdir -p opt/emptied/sub
     rm -r opt/replaced && printf file > opt/replaced
     mv opt/renamed opt/moved
     mkdir -p opt/second && printf second > opt/second/x",
    "printf uno > opt/kept/a
     rm -r opt/deep/sub && mkdir -p opt/deep/sub/inner && printf new > opt/deep/sub/inner/new
     printf other > opt/moved/sub/b
     rm -r opt/second && mkdir opt/second && printf upper > opt/second/y",
    "rm opt/replaced && mkdir -p opt/replaced/sub && printf four > opt/replaced/sub/b
     mv opt/moved opt/again
     printf deep > opt/deep/sub/b
     chmod 711 opt/kept/sub/inner/c",
];

/// What is done in the container, the path that is run, what it holds then, and the verdict.
const CASES: &[(&str, &str, &str, Provenance)] = &[
    ("true", "/opt/kept/a", "uno", BuiltIn),
    ("printf one > /opt/kept/a", "/opt/kept/a", "one", Modified),
    ("true", "/opt/kept/sub/b", "two", BuiltIn),
    ("true", "/opt/kept/sub/inner/c", "three", BuiltIn),
    // Whiteouts and opaque directories hide what is below, as if it never was.
    (
        "printf one > /opt/emptied/a",
        "/opt/emptied/a",
        "one",
        Added,
    ),
    (
        "printf two > /opt/emptied/sub/b",
        "/opt/emptied/sub/b",
        "two",
        Added,
    ),
    (
        "mkdir /opt/emptied/sub/inner; printf three > /opt/emptied/sub/inner/c",
        "/opt/emptied/sub/inner/c",
        "three",
        Added,
    ),
    (
        "printf one > /opt/replaced/a",
        "/opt/replaced/a",
        "one",
        Added,
    ),
    ("true", "/opt/replaced/sub/b", "four", BuiltIn),
    (
        "printf two > /opt/replaced/sub/b",
        "/opt/replaced/sub/b",
        "two",
        Modified,
    ),
    ("true", "/opt/deep/a", "one", BuiltIn),
    ("true", "/opt/deep/sub/b", "deep", BuiltIn),
    (
        "printf two > /opt/deep/sub/b",
        "/opt/deep/sub/b",
        "two",
        Modified,
    ),
    (
        "printf three > /opt/deep/sub/inner/c",
        "/opt/deep/sub/inner/c",
        "three",
        Added,
    ),
    ("true", "/opt/deep/sub/inner/new", "new", BuiltIn),
    ("true", "/opt/second/y", "upper", BuiltIn),
    (
        "printf second > /opt/second/x",
        "/opt/second/x",
        "second",
        Added,
    ),
    // Directories that were renamed in a layer, twice.
    ("true", "/opt/again/a", "one", BuiltIn),
    ("true", "/opt/again/sub/b", "other", BuiltIn),
    ("true", "/opt/again/sub/inner/c", "three", BuiltIn),
    (
        "printf new > /opt/again/sub/inner/c",
        "/opt/again/sub/inner/c",
        "new",
        Modified,
    ),
    (
        "mkdir /opt/moved; printf one > /opt/moved/a",
        "/opt/moved/a",
        "one",
        Added,
    ),
    (
        "mkdir /opt/renamed; printf one > /opt/renamed/a",
        "/opt/renamed/a",
        "one",
        Added,
    ),
    // Removed and made again in the container itself.
    (
        "rm -r /opt/kept; mkdir /opt/kept; printf uno > /opt/kept/a",
        "/opt/kept/a",
        "uno",
        BuiltIn,
    ),
    (
        "mv /opt/kept /opt/x; mv /opt/x/sub /opt/kept",
        "/opt/kept/b",
        "two",
        Added,
    ),
];

fn check(options: &str) {
    let mut wrong = Vec::new();
    for (commands, path, bytes, expected) in CASES {
        let mut container = Container::with_options(BASE, LAYERS, options);
        let mut pipeline = Pipeline::new();
        container.sh(commands);
        let fd = container.open(path);
        let file = pipeline.exec(&container, facts(&fd, path), Some(fd));
        assert_eq!(
            file.sha256(),
            Some(digest(bytes.as_bytes())),
            "{commands}: the case itself is wrong"
        );
        if file.provenance != *expected {
            wrong.push(format!(
                "{options}: {commands}: {path}: {:?} {:?}",
                file.provenance, file.evidence
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn whiteouts_opaque_directories_and_redirects_hide_what_overlayfs_hides() {
    check("redirect_dir=on,metacopy=off");
}

#[test]
fn without_redirects_directories_are_copied() {
    check("redirect_dir=off,metacopy=off");
}

#[test]
fn files_with_their_metadata_alone_in_a_layer_have_the_bytes_below() {
    check("redirect_dir=on,metacopy=on");
}

#[test]
fn a_whiteout_may_be_an_attribute() {
    let mut container = Container::start(
        "mkdir -p layer0/opt/x && printf one > layer0/opt/x/a && printf two > layer0/opt/x/b",
        &["chmod 711 opt/x"],
    );
    // Since Linux 6.7, for layers that cannot hold devices. The kernel believes it when the directory says `x`.
    let upper = container.directory.path().join("layer1/opt/x");
    std::fs::write(upper.join("a"), "").unwrap();
    let set = |path: &std::path::Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set(&upper.join("a"), "trusted.overlay.whiteout", b"");
    set(&upper, "trusted.overlay.opaque", b"x");
    container.restart();
    assert_eq!(container.sh("ls /opt/x"), "b");
    container.sh("printf one > /opt/x/a");
    let mut pipeline = Pipeline::new();
    for (path, expected) in [("/opt/x/a", Added), ("/opt/x/b", BuiltIn)] {
        let fd = container.open(path);
        let file = pipeline.exec(&container, facts(&fd, path), Some(fd));
        assert_eq!(file.provenance, expected, "{path}");
    }
}

#[test]
fn links_are_followed_inside_the_image_only() {
    let secret = std::fs::read("/etc/hostname").unwrap();
    let mut container = Container::start(
        "ln -s /etc/hostname layer0/opt/escape
         ln -s ../../../../../../../etc/hostname layer0/opt/climb
         ln -s loop layer0/opt/loop
         ln -s /usr/bin layer0/opt/directory
         ln -s directory/../bin/link layer0/opt/far",
        &[],
    );
    let mut pipeline = Pipeline::new();
    let expected = [
        ("/opt/escape", "x", Added),
        ("/opt/climb", "x", Added),
        ("/opt/loop", "x", Added),
        ("/opt/directory", "x", Added),
        ("/opt/far", "the first program", BuiltIn),
    ];
    for (path, bytes, expected) in expected {
        container.sh(&format!("rm {path}; printf '{bytes}' > {path}"));
        if expected == Added && path != "/opt/directory" {
            let target = format!("/proc/{}/root{path}", container.pid());
            std::fs::write(target, &secret).unwrap();
        }
        let fd = container.open(path);
        let file = pipeline.exec(&container, facts(&fd, path), Some(fd));
        assert_eq!(file.provenance, expected, "{path} {:?}", file.evidence);
    }
}
