//! Every way in which `openssl` is made to load an object raises its finding, and ordinary use of it raises nothing.

use std::{fs, process::Command};

use detect::samples;
use model::finding::FindingResult;
use testkit::{Engine, Image, Run, engines::Runc};

use crate::watcher::{Watcher, described};

const CATEGORY: &str = "Execution: Suspicious OpenSSL Shared Object Loaded";

/// What asks, and how: `$d` is a directory of the row's own, `$o` the object in it, which is no engine and no provider. Without
/// the first the arguments ask for nothing.
const ROWS: &[(Option<&str>, &str)] = &[
    (Some("the engine command"), "openssl engine -t $o"),
    (
        Some("the engine command"),
        "cp /usr/bin/openssl $d/tool; $d/tool engine $o",
    ),
    (
        Some("the engine command"),
        "mv /usr/bin/other-openssl $d/tool; $d/tool engine $o",
    ),
    (Some("-engine"), "openssl rand -engine $o 8"),
    (
        Some("-pre"),
        "openssl engine dynamic -pre SO_PATH:$o -pre LOAD",
    ),
    (
        Some(NEVER_LOADED),
        "openssl engine dynamic -post SO_PATH:$o -post LOAD",
    ),
    (
        Some("-provider"),
        "openssl list -provider-path $d -provider e -providers",
    ),
    (
        None,
        "printf 'openssl_conf = a\n[a]\nproviders = b\n[b]\ne = c\n[c]\nmodule = %s\nactivate = 1\n' $o > $d/conf
        OPENSSL_CONF=$d/conf openssl rand 8",
    ),
    (
        Some("the engine command"),
        "OPENSSL_ENGINES=$d openssl engine e",
    ),
    (
        Some("-provider"),
        "OPENSSL_MODULES=$d openssl list -provider e -providers",
    ),
    (
        Some("the engine command"),
        "/lib*/ld-linux-*.so.* /usr/bin/openssl engine $o",
    ),
    (
        Some("-engine"),
        "cp /usr/bin/openssl $d/tool; /lib*/ld-linux-*.so.* --argv0 x $d/tool rand -engine $o 8",
    ),
];

/// OpenSSL does so once the engine works, and `dynamic` alone never does.
const NEVER_LOADED: &str = "-post";

/// The last two are what a package manager does.
const ORDINARY: &str = "
    openssl version -a
    openssl req -new -x509 -nodes -newkey rsa:1024 -keyout /tmp/key -out /tmp/cert -subj /CN=x
    openssl dgst -sha256 /tmp/cert
    openssl rand -engine rdrand 8
    openssl s_client -connect 127.0.0.1:1
    openssl engine -t -c
    for engine in $ENGINES/*; do openssl engine -t $(basename $engine .so); openssl engine -t $engine; done
    openssl list -provider legacy -providers
    mkdir -p /etc/ssl/certs; openssl rehash /etc/ssl/certs
    library=$(echo /usr/lib/*/libcrypto.so.3 /usr/lib*/libcrypto.so.3 /lib/*/libcrypto.so.3 | tr ' ' '\n' | grep -v '*' | head -n 1)
    (cat $library; echo renewed) > $library.new; mv $library.new $library; openssl rehash /etc/ssl/certs";

/// The host's `openssl`, its libraries, engines and providers.
fn image() -> (Image, String) {
    let asked = |option| {
        let said = testkit::command::run(Command::new("openssl").args(["version", option]));
        said.split('"').nth(1).unwrap().to_owned()
    };
    let (engines, modules) = (asked("-e"), asked("-m"));
    let mut image = Image::busybox("example.test/openssl:v1")
        .host_program("/usr/bin/openssl", "/usr/bin/openssl")
        .file(
            "/usr/bin/other-openssl",
            0o755,
            &fs::read("/usr/bin/openssl").unwrap(),
        )
        .file("/object", 0o644, &samples::ENGINE.bytes());
    for directory in [&engines, &modules] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            image = image.file(path.to_str().unwrap(), 0o644, &fs::read(&path).unwrap());
        }
    }
    (image, engines)
}

#[test]
fn every_way_to_load_an_object_is_found_and_ordinary_use_is_not() {
    let (image, engines) = image();
    let mut acts = String::new();
    for (number, (_, act)) in ROWS.iter().enumerate() {
        let directory = format!("/tmp/{number}");
        // Loading takes two seconds: side by side.
        acts.push_str(&format!(
            "d={directory} o={directory}/e.so; mkdir $d; cp /object $o; ({act}) &\n"
        ));
    }
    acts.push_str("wait\n");
    let mut engine = Runc::start();
    engine.load(&image);
    let watcher = Watcher::start();
    let suspicious = engine.run(&Run::new("hw-e2e-openssl", &image));
    let output = engine.exec(&suspicious, &["/bin/sh", "-c", &acts]);
    assert!(output.status.success(), "{output:?}");
    let ordinary = engine.run(&Run::new("hw-e2e-openssl-ordinary", &image));
    let acts = format!("ENGINES={engines}\n{ORDINARY}");
    let output = engine.exec(&ordinary, &["/bin/sh", "-c", &acts]);
    assert!(output.status.success(), "{output:?}");
    let state = watcher.stop();

    let found = state.findings_of(&ordinary.name);
    assert!(found.is_empty(), "{}", described(&found));
    let found = state.findings_of(&suspicious.name);
    let mut wrong = Vec::new();
    for (number, (by, act)) in ROWS.iter().enumerate() {
        let object = format!("/tmp/{number}/e.so");
        let about: Vec<_> = found
            .iter()
            .filter(|result| result.finding.description.contains(&object))
            .map(told)
            .collect();
        let asked = by.map(|by| (object.clone(), by.to_owned()));
        let library = (*by != Some(NEVER_LOADED)).then_some(object);
        let expected = (CATEGORY.to_owned(), asked, library);
        if about != [expected] {
            wrong.push(format!("{act}: {about:?}"));
        }
    }
    let is_right = wrong.is_empty() && found.len() == ROWS.len();
    assert!(is_right, "{}\n{}", wrong.join("\n"), described(&found));
}

/// Category, what was asked for by what, and the library that was loaded.
fn told(result: &FindingResult) -> (String, Option<(String, String)>, Option<String>) {
    let finding = &result.finding;
    let property = |key: &str| Some(finding.source_properties.get(key)?.as_str()?.to_owned());
    let asked = property("Requested_Shared_Object").zip(property("Requested_By"));
    let library = finding.processes[0].libraries.first();
    let library = library.map(|library| library.path.clone());
    (finding.category.clone(), asked, library)
}
