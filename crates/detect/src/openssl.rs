//! What a command line and environment of the `openssl` program ask it to load.
//!
//! Read the way OpenSSL reads them (tried with 3.0; 1.0.2 and 1.1.1 differ only in what they do not have):
//! - An option has one or two dashes and its exact name; its value follows as the next argument or after `=`.
//! - The command is the first argument, or the name the program was started by (`exec -a engine openssl ...`).
//! - An engine's name is looked for among the internal ones, then as a file in `OPENSSL_ENGINES` or the built-in directory
//!   (an absolute path stays what it is, and `../` leads out), then, for `-engine` and its like, as a path for dlopen.
//! - A provider's name likewise with `-provider-path` (given before it) or `OPENSSL_MODULES`, and without dlopen's search.
//! - A name without a slash gets `.so` at its end.
//!
//! Sources: `apps/lib/opt.c`, `apps/engine.c`, `apps/lib/engine.c`, `crypto/engine/eng_dyn.c`, `crypto/provider_core.c`,
//! `crypto/dso/dso_dlfcn.c`.

use model::{
    Text,
    enriched::Process,
    limits::{ARGV_COUNT_MAX, FINDING_TEXT_BYTES_MAX},
};

/// Requests kept of one process: one is enough to raise a finding.
const REQUESTS_MAX: usize = 8;

/// Options whose value names an engine (`apps/*.c`), with their dash.
const ENGINE_OPTIONS: &[&str] = &["-engine", "-keygen_engine", "-ssl_client_engine"];

/// Engines inside libcrypto, and the word for all of them. They load no file.
const ENGINES_INTERNAL: &[&str] = &["auto", "devcrypto", "dynamic", "openssl", "rdrand"];

/// Providers inside libcrypto.
const PROVIDERS_INTERNAL: &[&str] = &["base", "default", "null"];

/// Key URIs that name an engine: `org.openssl.engine:ENGINE:KEY`.
const ENGINE_URI: &str = "org.openssl.engine:";

/// Where distributions and builds install libraries.
const LIBRARY_ROOTS: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/local/ssl",
    "/usr/local/openssl",
    "/opt",
    "/nix/store",
    "/gnu/store",
];

/// Where configuration files of OpenSSL are installed.
const CONFIGURATION_ROOTS: &[&str] = &["/etc", "/usr/lib", "/usr/local", "/usr/share", "/opt"];

/// A shared object that an `openssl` command was asked to load from outside the installed directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The path as far as it can be told without looking.
    pub(crate) path: String,
    /// What asks, in words that can follow "by".
    pub(crate) by: &'static str,
}

/// Requests for objects outside the installed engine and module directories. `args` begin with the program's name.
pub(crate) fn requests(process: &Process, args: &[Text]) -> Vec<Request> {
    let words: Vec<String> = args
        .iter()
        .take(ARGV_COUNT_MAX)
        .map(Text::to_json_string)
        .collect();
    let (name, words) = match words.split_first() {
        Some((name, words)) => (name.as_str(), words),
        None => return Vec::new(),
    };
    let mut reader = Reader {
        cwd: process.cwd.to_json_string(),
        engines_dir: variable(process, "OPENSSL_ENGINES"),
        modules_dir: variable(process, "OPENSSL_MODULES"),
        provider_path: None,
        requests: Vec::new(),
    };
    let started_as_engine = file_name(name) == "engine";
    match words {
        words if started_as_engine => reader.engine_command(words),
        [command, words @ ..] if command == "engine" => reader.engine_command(words),
        words => reader.other_command(words),
    }
    reader.requests
}

/// True when something other than the installed configuration decides what the process loads.
pub(crate) fn has_own_configuration(process: &Process, args: &[Text]) -> bool {
    let is_outside = |path: &String, roots: &[&str]| !is_below(&normalized(path), roots);
    let by_variable = [
        ("OPENSSL_CONF", CONFIGURATION_ROOTS),
        ("OPENSSL_ENGINES", LIBRARY_ROOTS),
        ("OPENSSL_MODULES", LIBRARY_ROOTS),
    ]
    .into_iter()
    .any(|(name, roots)| variable(process, name).is_some_and(|path| is_outside(&path, roots)));
    let by_option = || {
        let words: Vec<String> = args
            .iter()
            .take(ARGV_COUNT_MAX)
            .map(Text::to_json_string)
            .collect();
        let cwd = process.cwd.to_json_string();
        options(&words).any(|(name, value)| {
            name == "config" && is_outside(&joined(&cwd, value), CONFIGURATION_ROOTS)
        })
    };
    by_variable || by_option()
}

/// An installed engine or module directory: `engines-3`, `engines-1.1`, `engines` or `ossl-modules` where libraries are
/// installed.
pub(crate) fn is_in_engine_directory(path: &str) -> bool {
    let path = normalized(path);
    let Some((directory, _)) = path.rsplit_once('/') else {
        return false;
    };
    let name = file_name(directory);
    (name == "ossl-modules" || name == "engines" || name.starts_with("engines-"))
        && is_in_library_root(&path)
}

/// Where libraries are installed, at any depth.
pub(crate) fn is_in_library_root(path: &str) -> bool {
    is_below(&normalized(path), LIBRARY_ROOTS)
}

/// A library that every `openssl` program may need, by name.
pub(crate) fn is_ordinary_dependency(path: &str) -> bool {
    const NAMES: &[&str] = &[
        "ld-linux",
        "ld-musl",
        "ld.so",
        "libatomic",
        "libbrotli",
        "libc.",
        "libc-",
        "libcrypto",
        "libdl",
        "libfips",
        "libgcc_s",
        "libjitterentropy",
        "libm.",
        "libpthread",
        "libresolv",
        "libssl",
        "libz.",
        "libzstd",
        "libnss_",
    ];
    let name = file_name(path);
    NAMES.iter().any(|known| name.starts_with(known))
}

/// Beside a program, or in the `lib` beside its `bin`: where one that is not installed has its libraries.
pub(crate) fn is_beside(program: &str, path: &str) -> bool {
    let (program, path) = (normalized(program), normalized(path));
    let directory = program.rsplit_once('/').map_or("", |(above, _)| above);
    let Some((prefix, name)) = directory.rsplit_once('/') else {
        return false;
    };
    let libraries = [format!("{prefix}/lib"), format!("{prefix}/lib64")];
    is_below(&path, &[directory])
        || name == "bin" && is_below(&path, &libraries.each_ref().map(String::as_str))
}

struct Reader {
    cwd: String,
    engines_dir: Option<String>,
    modules_dir: Option<String>,
    provider_path: Option<String>,
    requests: Vec<Request>,
}

impl Reader {
    /// `openssl engine [options] NAME...`: names stand first or last, options between.
    fn engine_command(&mut self, words: &[String]) {
        let (mut id, mut directory) = (None, None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match option(word) {
                Some((name @ ("pre" | "post"), value)) => {
                    let Some(control) = value.or_else(|| words.next().map(String::as_str)) else {
                        break;
                    };
                    let by = if name == "pre" { "-pre" } else { "-post" };
                    match control.split_once(':') {
                        Some(("SO_PATH", path)) => self.dlopen(path, by),
                        Some(("MODULE_PATH", path)) => self.pkcs11_module(path, by),
                        Some(("ID", name)) => id = Some(name),
                        Some(("DIR_ADD", path)) => directory = Some(path),
                        _ => {}
                    }
                }
                Some(_) => {}
                None => self.engine(word, "the engine command", false),
            }
        }
        if let (Some(id), Some(directory)) = (id, directory) {
            let directory = joined(&self.cwd, directory);
            self.request(merged(Some(&directory), id), "-pre");
        }
    }

    fn other_command(&mut self, words: &[String]) {
        for (name, value) in options(words) {
            match name {
                "provider-path" => self.provider_path = Some(joined(&self.cwd, value)),
                "provider" => self.provider(value),
                _ => {
                    if let Some(by) = ENGINE_OPTIONS
                        .iter()
                        .find(|option| option.strip_prefix('-') == Some(name))
                    {
                        self.engine(value, by, true);
                    }
                }
            }
        }
        for word in words {
            if let Some((_, rest)) = word.split_once(ENGINE_URI) {
                let engine = rest.split(':').next().unwrap_or_default();
                self.engine(engine, "a key's URI", false);
            }
        }
    }

    /// `tries_dlopen`: a name that no directory has is given to dlopen as it is.
    fn engine(&mut self, name: &str, by: &'static str, tries_dlopen: bool) {
        if ENGINES_INTERNAL.contains(&name) {
            return;
        }
        if tries_dlopen && name.contains('/') && !name.starts_with("../") {
            return self.dlopen(name, by);
        }
        if name.contains('/') || self.engines_dir.is_some() {
            self.request(merged(self.engines_dir.as_deref(), name), by);
        }
    }

    fn provider(&mut self, name: &str) {
        if PROVIDERS_INTERNAL.contains(&name) {
            return;
        }
        let directory = self.provider_path.as_ref().or(self.modules_dir.as_ref());
        if name.contains('/') || directory.is_some() {
            self.request(merged(directory.map(String::as_str), name), "-provider");
        }
    }

    /// dlopen's own rule: with a slash a path, relative to the working directory; without one a search where libraries are
    /// installed.
    fn dlopen(&mut self, name: &str, by: &'static str) {
        if name.contains('/') {
            self.request(joined(&self.cwd, name), by);
        }
    }

    /// The PKCS #11 engine's own: a module is a library, anywhere where libraries are installed.
    fn pkcs11_module(&mut self, path: &str, by: &'static str) {
        let path_joined = joined(&self.cwd, path);
        if path.contains('/') && !is_in_library_root(&path_joined) {
            self.request(path_joined, by);
        }
    }

    fn request(&mut self, path: String, by: &'static str) {
        if is_in_engine_directory(&path) || self.requests.len() >= REQUESTS_MAX {
            return;
        }
        let mut path = normalized(&path);
        path.truncate(path.floor_char_boundary(FINDING_TEXT_BYTES_MAX));
        if !self.requests.iter().any(|request| request.path == path) {
            self.requests.push(Request { path, by });
        }
    }
}

/// Options with a value. Whether an option takes one is not known here, so the word after each option may be its value as
/// well as an option itself: every reading is offered.
fn options(words: &[String]) -> impl Iterator<Item = (&str, &str)> {
    words.iter().enumerate().filter_map(|(index, word)| {
        let (name, value) = option(word)?;
        let value = value.or_else(|| words.get(index + 1).map(String::as_str))?;
        Some((name, value))
    })
}

/// Name of an option and the value after its `=`.
fn option(word: &str) -> Option<(&str, Option<&str>)> {
    let name = word.strip_prefix('-')?;
    let name = name.strip_prefix('-').unwrap_or(name);
    Some(match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    })
}

fn variable(process: &Process, name: &str) -> Option<String> {
    process
        .env
        .iter()
        .find(|variable| variable.name.as_bytes() == name.as_bytes())?
        .value
        .as_ref()
        .map(Text::to_json_string)
        .filter(|value| !value.is_empty())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn is_below(path: &str, roots: &[&str]) -> bool {
    roots.iter().any(|root| {
        path.strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn joined(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    }
}

/// As OpenSSL looks for a name in a directory. When the directory is the built-in one, whose path is not known here, the
/// name alone is taken to start at the root: that is where enough `../` lead.
fn merged(directory: Option<&str>, name: &str) -> String {
    let suffix = if name.contains('/') { "" } else { ".so" };
    joined(directory.unwrap_or_default(), &format!("{name}{suffix}"))
}

/// Absolute path without `.`, `..` and doubled slashes, by its letters alone.
fn normalized(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use model::enriched::EnvVariable;

    use std::sync::Arc;

    use super::*;

    /// Splits at spaces; words with `=` before the program's name are the environment.
    fn read(line: &str) -> Vec<String> {
        let mut words = line.split(' ').peekable();
        let mut process = Process {
            cwd: Text::from("/srv"),
            ..Process::default()
        };
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            Arc::make_mut(&mut process.env).push(EnvVariable {
                name: name.into(),
                value: Some(value.into()),
            });
            words.next();
        }
        let args: Vec<Text> = words.map(Text::from).collect();
        requests(&process, &args)
            .into_iter()
            .map(|request| request.path)
            .collect()
    }

    #[test]
    fn what_openssl_would_load() {
        for (line, path) in [
            ("openssl engine /tmp/e.so", "/tmp/e.so"),
            ("openssl engine -t -c /tmp/e.so", "/tmp/e.so"),
            ("openssl engine /tmp/e.so -t", "/tmp/e.so"),
            ("openssl engine ../../../../tmp/e.so", "/tmp/e.so"),
            (
                "openssl engine -pre SO_PATH:/tmp/e.so -pre LOAD dynamic",
                "/tmp/e.so",
            ),
            (
                "openssl engine --pre=SO_PATH:/tmp/e.so -pre=LOAD dynamic",
                "/tmp/e.so",
            ),
            (
                "openssl engine dynamic -post SO_PATH:e/../e.so",
                "/srv/e.so",
            ),
            (
                "openssl engine -pre ID:e -pre DIR_ADD:/tmp -pre LOAD dynamic",
                "/tmp/e.so",
            ),
            (
                "openssl engine pkcs11 -pre MODULE_PATH:/tmp/m.so",
                "/tmp/m.so",
            ),
            ("/usr/bin/openssl req -new -engine /tmp/e.so", "/tmp/e.so"),
            ("openssl req --engine /tmp/e.so", "/tmp/e.so"),
            ("openssl req -engine=/tmp/e.so", "/tmp/e.so"),
            ("openssl sha256 -engine ./e.so", "/srv/e.so"),
            ("openssl req -keygen_engine /tmp/e.so -new", "/tmp/e.so"),
            ("openssl s_client -ssl_client_engine /tmp/e.so", "/tmp/e.so"),
            (
                "openssl pkey -in org.openssl.engine:/tmp/e.so:key",
                "/tmp/e.so",
            ),
            (
                "openssl list -provider-path /tmp/m -provider p",
                "/tmp/m/p.so",
            ),
            (
                "openssl list -provider-path m -provider legacy",
                "/srv/m/legacy.so",
            ),
            ("openssl list -provider /tmp/m/p.so", "/tmp/m/p.so"),
            ("openssl list -provider ../../../../tmp/p.so", "/tmp/p.so"),
            (
                "OPENSSL_MODULES=/tmp/m openssl list -provider legacy",
                "/tmp/m/legacy.so",
            ),
            ("OPENSSL_ENGINES=/tmp openssl engine e", "/tmp/e.so"),
            ("OPENSSL_ENGINES=/tmp openssl sha256 -engine e", "/tmp/e.so"),
            ("/x/engine /tmp/e.so", "/tmp/e.so"),
            // A value that is itself an option's name does not hide what follows.
            ("openssl req -out -engine -engine /tmp/e.so", "/tmp/e.so"),
            ("renamed dgst -- -engine /tmp/e.so", "/tmp/e.so"),
            (
                "openssl engine /usr/lib/x86_64-linux-gnu/engines-3/../../../../tmp/e.so",
                "/tmp/e.so",
            ),
        ] {
            assert!(
                read(line).contains(&path.to_owned()),
                "{line}: {:?}",
                read(line)
            );
        }
    }

    #[test]
    fn a_program_that_is_not_installed_has_its_libraries_beside_it() {
        for path in ["/srv/app/bin/libssl.so", "/srv/app/lib/x/libssl.so"] {
            assert!(is_beside("/srv/app/bin/openssl", path), "{path}");
        }
        for (program, path) in [
            ("/srv/app/bin/openssl", "/srv/app/data/libssl.so"),
            ("/srv/app/openssl", "/srv/lib/libssl.so"),
            ("/usr/bin/openssl", "/usr/share/libssl.so"),
            ("/openssl", "/tmp/libssl.so"),
            ("", "/tmp/libssl.so"),
        ] {
            assert!(!is_beside(program, path), "{program} {path}");
        }
    }

    #[test]
    fn ordinary_use_asks_for_nothing() {
        for line in [
            "openssl",
            "openssl version -a",
            "openssl req -new -x509 -nodes -keyout /tmp/k -out /tmp/c -subj /CN=x",
            "openssl s_client -connect 127.0.0.1:443 -CAfile /tmp/ca.pem",
            "openssl engine",
            "openssl engine -t -c",
            "openssl engine -vvvv dynamic",
            "openssl engine rdrand",
            "openssl engine pkcs11",
            "openssl rand -engine rdrand 16",
            "openssl rand -engine dynamic 16",
            "openssl req -engine pkcs11 -keyform engine -key x -new",
            "openssl list -providers -provider default -provider base",
            "openssl dgst -provider legacy -provider fips /tmp/file",
            "openssl list -provider-path /tmp/m -providers",
            "openssl list -provider-path /tmp/m -provider default",
            "openssl list -provider-path /usr/lib/x86_64-linux-gnu/ossl-modules -provider legacy",
            "openssl engine /usr/lib64/engines-1.1/pkcs11.so",
            "openssl engine -pre SO_PATH:/usr/lib/engines-3/pkcs11.so -pre LOAD dynamic",
            "openssl engine pkcs11 -pre MODULE_PATH:/usr/lib/softhsm/libsofthsm2.so",
            "OPENSSL_MODULES=/opt/app/lib/ossl-modules openssl list -provider legacy",
            "OPENSSL_CONF=/tmp/openssl.cnf openssl req -new",
            "OPENSSL_ENGINES=/tmp openssl rand -engine rdrand 8",
            "OPENSSL_ENGINES=/tmp openssl version",
            "openssl dgst engine",
        ] {
            assert_eq!(read(line), [""; 0], "{line}");
        }
    }
}
