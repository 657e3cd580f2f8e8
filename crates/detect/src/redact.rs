//! Takes secrets out of arguments and log lines.
//!
//! Pure functions over text: what looks like a secret is replaced by `[redacted]`, the rest stays readable. They know
//! - assignments of names that mean a secret, in any notation (`--password=x`, `DB_PASSWORD=x`, `"token": "x"`, `?key=x`),
//! - options whose value is the next argument (`--token x`, and the short ones of well-known programs: `mysql -px`),
//! - authorization headers and `user:password@` in URLs, and `user:password` of programs that take it so,
//! - keys that have a shape: AWS, Google, GitHub, GitLab, Slack, Stripe, npm and others, JSON web tokens, PEM private keys.
//!
//! A secret that looks like any other word cannot be told from one.

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Arguments of one process with every secret replaced. The count stays the same.
pub fn arguments(args: &[String]) -> Vec<String> {
    let mut words = Words::default();
    args.iter()
        .map(|argument| {
            if argument.contains(char::is_whitespace) {
                // A script given as an argument, or a header: it has words of its own.
                let kept = words.next(argument);
                if kept == *argument {
                    text(argument)
                } else {
                    kept
                }
            } else {
                patterns(&words.next(argument))
            }
        })
        .collect()
}

/// A text with every secret replaced: a log line, or a script.
pub fn text(text: &str) -> String {
    let mut words = Words::default();
    let mut out = String::with_capacity(text.len());
    // Words keep the white space before them, so that the text can be put together again.
    for piece in split_before_space(text) {
        let word = piece.trim_start();
        let (space, _) = piece.split_at(piece.len() - word.len());
        out.push_str(space);
        let quote = word
            .chars()
            .next()
            .filter(|first| "'\"".contains(*first))
            .map_or(0, char::len_utf8);
        let (quote, bare) = word.split_at(quote);
        out.push_str(quote);
        out.push_str(&words.next(bare));
    }
    patterns(&out)
}

fn split_before_space(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word_at = rest
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(rest.len());
        let (_, word) = rest.split_at(word_at);
        let end = word_at + word.find(char::is_whitespace).unwrap_or(word.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Words one after the other: some make the next one a secret.
#[derive(Default)]
struct Words {
    program: Option<&'static Program>,
    next: Next,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Next {
    #[default]
    Plain,
    Secret,
    /// `user:password`.
    Pair,
}

/// Short options of a program that carry a secret.
struct Program {
    names: &'static [&'static str],
    /// The value is attached: `-psecret`.
    attached: &'static [&'static str],
    /// The value is the next argument.
    separate: &'static [&'static str],
    /// The next argument is `user:password`.
    pair: &'static [&'static str],
}

const PROGRAMS: &[Program] = &[
    Program {
        names: &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
        ],
        attached: &["-p"],
        separate: &[],
        pair: &[],
    },
    Program {
        names: &["sshpass", "mongo", "mongosh", "mongodump", "mongorestore"],
        attached: &["-p"],
        separate: &["-p"],
        pair: &[],
    },
    Program {
        names: &["buildah", "podman", "skopeo"],
        attached: &[],
        separate: &[],
        pair: &["--creds", "--src-creds", "--dest-creds"],
    },
    Program {
        names: &["redis-cli", "valkey-cli"],
        attached: &[],
        separate: &["-a"],
        pair: &[],
    },
    Program {
        names: &["curl"],
        attached: &[],
        separate: &[],
        pair: &["-u", "--user", "-U", "--proxy-user"],
    },
    Program {
        names: &["ldapsearch", "ldapmodify", "ldapadd", "ldapwhoami"],
        attached: &[],
        separate: &["-w"],
        pair: &[],
    },
    Program {
        names: &["openssl"],
        attached: &[],
        separate: &["-k", "-K", "-pass", "-passin", "-passout"],
        pair: &[],
    },
];

impl Words {
    fn next(&mut self, word: &str) -> String {
        let expected = std::mem::take(&mut self.next);
        match expected {
            // A file, a descriptor or a variable to read the secret from is none (`-passin file:x`, openssl).
            Next::Secret if is_reference(word) => return word.to_owned(),
            Next::Secret if !word.starts_with('-') || word.len() > 24 => {
                return REDACTED.to_owned();
            }
            Next::Pair => return hide_pair(word),
            _ => {}
        }
        let name = word.rsplit('/').next().unwrap_or(word);
        if let Some(program) = PROGRAMS
            .iter()
            .find(|program| program.names.contains(&name))
        {
            self.program = Some(program);
        }
        if let Some(program) = self.program {
            if program.separate.contains(&word) {
                self.next = Next::Secret;
                return word.to_owned();
            }
            if program.pair.contains(&word) {
                self.next = Next::Pair;
                return word.to_owned();
            }
            let attached = program.attached.iter().find(|option| {
                word.strip_prefix(**option)
                    .is_some_and(|value| !value.is_empty())
            });
            if let Some(option) = attached {
                return format!("{option}{REDACTED}");
            }
        }
        if word.starts_with('-') && !word.contains('=') && is_secret_name(word) {
            self.next = Next::Secret;
        }
        word.to_owned()
    }
}

fn is_reference(word: &str) -> bool {
    word == "stdin"
        || ["file:", "env:", "fd:"]
            .iter()
            .any(|kind| word.starts_with(kind))
}

fn hide_pair(word: &str) -> String {
    match word.split_once(':') {
        Some((user, password)) if !password.is_empty() => format!("{user}:{REDACTED}"),
        _ => word.to_owned(),
    }
}

/// Parts of names that mean a secret, in lower case and without separators.
const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "authkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "credential",
    "authorization",
    "cookie",
];

/// Endings that make of such a name one that means something about the secret.
const HARMLESS_ENDINGS: &[&str] = &[
    "file", "path", "dir", "stdin", "prompt", "type", "name", "id", "url", "uri", "endpoint",
    "length", "len", "policy", "ttl", "expiry", "count", "max", "min", "limit", "size", "provider",
    "store", "helper",
];

fn is_secret_name(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    // The working directory, and options that switch something off.
    if plain == "pwd" || plain == "oldpwd" || plain.starts_with("no") {
        return false;
    }
    SECRET_NAMES.iter().any(|secret| plain.contains(secret))
        && !HARMLESS_ENDINGS
            .iter()
            .any(|ending| plain.ends_with(ending))
}

/// Secrets that can be told within a text.
fn patterns(text: &str) -> String {
    let text = private_keys(text);
    let text = url_passwords(&text);
    let text = assignments(&text);
    let text = authorization_schemes(&text);
    keys_with_a_shape(&text)
}

/// `-----BEGIN ... PRIVATE KEY-----` up to its end, or to the end of the text.
fn private_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("PRIVATE KEY-----") {
        let is_begin = before
            .rfind("-----BEGIN")
            .is_some_and(|at| before.len() - at < 64);
        out.push_str(before);
        out.push_str("PRIVATE KEY-----");
        rest = after;
        if is_begin {
            out.push_str(REDACTED);
            rest = match after.find("-----END") {
                Some(end) => after.split_at(end).1,
                None => "",
            };
        }
    }
    out.push_str(rest);
    out
}

/// `scheme://user:password@host`.
fn url_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after
            .find(|c: char| c.is_whitespace() || "/?#'\"".contains(c))
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((user_info, host)) => {
                let (user, has_password) = match user_info.split_once(':') {
                    Some((user, _)) => (user, true),
                    // A token alone is the usual way to clone: https://TOKEN@host.
                    None => ("", user_info.len() >= 20),
                };
                if has_password {
                    let colon = if user_info.contains(':') { ":" } else { "" };
                    out.push_str(&format!("{user}{colon}{REDACTED}@{host}"));
                } else {
                    out.push_str(authority);
                }
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// `name=value` and `name: value`, the name or the value in quotes or not.
fn assignments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let start = rest.find(is_name).unwrap_or(rest.len());
        let (before, from_name) = rest.split_at(start);
        let end = from_name
            .find(|c: char| !is_name(c))
            .unwrap_or(from_name.len());
        let (name, after) = from_name.split_at(end);
        out.push_str(before);
        out.push_str(name);
        rest = after;
        if !is_secret_name(name) {
            continue;
        }
        let Some(value_at) = value_offset(after) else {
            continue;
        };
        let (sign, value) = after.split_at(value_at);
        let is_header = ["authorization", "cookie"]
            .iter()
            .any(|header| name.to_ascii_lowercase().ends_with(header));
        let end = value_length(value, sign, is_header);
        let (secret, after) = value.split_at(end);
        out.push_str(sign);
        if !secret.is_empty() {
            let scheme = match is_header {
                true => scheme_of(secret),
                false => "",
            };
            out.push_str(scheme);
            out.push_str(REDACTED);
        }
        rest = after;
    }
    out
}

/// Where the value begins after a name: behind the name's closing quote, `=` or `:`, blanks and the value's opening quote.
fn value_offset(after: &str) -> Option<usize> {
    let unquoted = after.trim_start_matches(['"', '\'', '\\', ']']);
    let sign = unquoted.trim_start_matches(' ');
    let value = sign
        .strip_prefix("=>")
        .or_else(|| sign.strip_prefix(['=', ':']))?;
    // `name://` is a URL, `name::x` a path of a programming language.
    if value.starts_with("//") || value.starts_with(':') {
        return None;
    }
    let value = value.trim_start_matches([' ', '\t']);
    let value = value.trim_start_matches(['\\', '"', '\'']);
    Some(after.len() - value.len())
}

fn value_length(value: &str, sign: &str, is_header: bool) -> usize {
    let ends = |c: char| match sign.chars().next_back() {
        Some('"') => c == '"' || c == '\\',
        Some('\'') => c == '\'',
        // A header takes the rest of its line, unless it stands in quotes.
        _ if is_header => "'\"\r\n".contains(c),
        _ => c.is_whitespace() || "&;,'\")}]|<>".contains(c),
    };
    // A recording has been here before.
    let hidden = match value.starts_with(REDACTED) {
        true => REDACTED.len(),
        false => 0,
    };
    let (_, rest) = value.split_at(hidden);
    hidden + rest.find(ends).unwrap_or(rest.len())
}

const SCHEMES: &[&str] = &[
    "bearer ",
    "basic ",
    "token ",
    "apikey ",
    "digest ",
    "negotiate ",
];

/// The scheme at the beginning of an authorization header's value, with the blank after it.
fn scheme_of(value: &str) -> &str {
    SCHEMES
        .iter()
        .filter_map(|scheme| value.split_at_checked(scheme.len()))
        .find(|(start, _)| SCHEMES.contains(&start.to_ascii_lowercase().as_str()))
        .map_or("", |(start, _)| start)
}

/// `Bearer x` and `Basic x` outside a header.
fn authorization_schemes(text: &str) -> String {
    const BYTES_MIN: usize = 16;
    let mut out = String::with_capacity(text.len());
    let mut is_secret = false;
    for piece in split_before_space(text) {
        let word = piece.trim_start();
        let length = word
            .find(|c: char| "'\",;".contains(c))
            .unwrap_or(word.len());
        if is_secret && length >= BYTES_MIN && !word.starts_with(REDACTED) {
            let (_, after) = word.split_at(length);
            let (space, _) = piece.split_at(piece.len() - word.len());
            out.push_str(space);
            out.push_str(REDACTED);
            out.push_str(after);
        } else {
            out.push_str(piece);
        }
        let bare = word.trim_start_matches(['"', '\'']);
        is_secret = ["bearer", "basic"].contains(&bare.to_ascii_lowercase().as_str());
    }
    out
}

/// Beginnings of keys, and the least number of bytes of the whole.
const KEY_SHAPES: &[(&str, usize)] = &[
    ("AKIA", 20),
    ("ASIA", 20),
    ("AIza", 39),
    ("GOCSPX-", 28),
    ("ya29.", 24),
    ("ghp_", 36),
    ("gho_", 36),
    ("ghu_", 36),
    ("ghs_", 36),
    ("ghr_", 36),
    ("github_pat_", 40),
    ("glpat-", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("xoxa-", 20),
    ("xoxs-", 20),
    ("sk_live_", 24),
    ("rk_live_", 24),
    ("sk-", 32),
    ("npm_", 36),
    ("dop_v1_", 64),
    ("hvs.", 24),
    ("SG.", 60),
    ("pypi-", 40),
];

fn keys_with_a_shape(text: &str) -> String {
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest.find(is_key).unwrap_or(rest.len());
        let (before, from_key) = rest.split_at(start);
        let end = from_key
            .find(|c: char| !is_key(c))
            .unwrap_or(from_key.len());
        let (word, after) = from_key.split_at(end);
        out.push_str(before);
        let has_shape = KEY_SHAPES
            .iter()
            .any(|(prefix, bytes_min)| word.starts_with(prefix) && word.len() >= *bytes_min);
        out.push_str(if has_shape || is_json_web_token(word) {
            REDACTED
        } else {
            word
        });
        rest = after;
    }
    out
}

/// Three parts of base64url, the first of which begins an object: RFC 7519.
fn is_json_web_token(word: &str) -> bool {
    word.starts_with("eyJ") && word.len() >= 40 && word.split('.').count() == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments are separated by `|`.
    fn check_arguments(before: &str, after: &str) {
        let args: Vec<String> = before.split('|').map(str::to_owned).collect();
        let hidden = arguments(&args);
        assert_eq!(hidden.join("|"), after);
        assert_eq!(arguments(&hidden), hidden, "a second time");
    }

    #[test]
    fn secrets_in_arguments() {
        let after = |before: &str, after: &str| check_arguments(before, after);
        after("x|--password=hunter2|y", "x|--password=[redacted]|y");
        after("x|--password|hunter2|y", "x|--password|[redacted]|y");
        after(
            "x|--api-key|k3y|--verbose",
            "x|--api-key|[redacted]|--verbose",
        );
        after("x|-e|DB_PASSWORD=hunter2", "x|-e|DB_PASSWORD=[redacted]");
        after("x|--client-secret=a=b", "x|--client-secret=[redacted]");
        after(
            "/usr/bin/mysql|-uroot|-phunter2|db",
            "/usr/bin/mysql|-uroot|-p[redacted]|db",
        );
        after(
            "sshpass|-p|hunter2|ssh|host",
            "sshpass|-p|[redacted]|ssh|host",
        );
        after("redis-cli|-a|hunter2|ping", "redis-cli|-a|[redacted]|ping");
        after(
            "curl|-u|bob:hunter2|https://x/",
            "curl|-u|bob:[redacted]|https://x/",
        );
        after(
            "curl|-H|Authorization: Bearer abc.def|https://x/?a=1&access_token=abc&b=2",
            "curl|-H|Authorization: Bearer [redacted]|https://x/?a=1&access_token=[redacted]&b=2",
        );
        after("curl|-H|X-Api-Key: abc", "curl|-H|X-Api-Key: [redacted]");
        after("curl|-H|Cookie: a=b; c=d", "curl|-H|Cookie: [redacted]");
        after(
            r#"curl|-d|{"user":"bob","password":"hun ter2","n":1}"#,
            r#"curl|-d|{"user":"bob","password":"[redacted]","n":1}"#,
        );
        after(
            "psql|postgres://bob:hunter2@db:5432/app?sslmode=off",
            "psql|postgres://bob:[redacted]@db:5432/app?sslmode=off",
        );
        after(
            "redis-cli|-u|redis://:hunter2@db",
            "redis-cli|-u|redis://:[redacted]@db",
        );
        after("openssl|enc|-k|hunter2", "openssl|enc|-k|[redacted]");
        after(
            "openssl|rsa|-passin|pass:hunter2",
            "openssl|rsa|-passin|[redacted]",
        );
        after(
            "sh|-c|mysql -uroot -phunter2 db && export TOKEN='abc def'; echo done",
            "sh|-c|mysql -uroot -p[redacted] db && export TOKEN='[redacted]'; echo done",
        );
    }

    #[test]
    fn keys_are_known_by_their_shape() {
        // Put together here, so that no scanner takes this file for a leak.
        for key in [
            ["AKIA", "IOSFODNN7EXAMPLE"].concat(),
            ["AIza", &"x".repeat(35)].concat(),
            ["ghp_", &"a1".repeat(18)].concat(),
            ["glpat-", &"a1".repeat(10)].concat(),
            ["xoxb-", &"1".repeat(30)].concat(),
            [
                "eyJ",
                &"a".repeat(20),
                ".",
                &"b".repeat(20),
                ".",
                &"c".repeat(20),
            ]
            .concat(),
        ] {
            assert_eq!(text(&format!("key is {key}, ok")), "key is [redacted], ok");
            assert_eq!(arguments(std::slice::from_ref(&key)), ["[redacted]"]);
        }
        let begin = ["-----BEGIN RSA ", "PRIVATE KEY-----"].concat();
        let end = ["-----END RSA ", "PRIVATE KEY-----"].concat();
        assert_eq!(
            text(&format!("a {begin}\nMIIE\nabc\n{end} b")),
            format!("a {begin}[redacted]{end} b")
        );
        assert_eq!(text(&format!("{begin} cut")), format!("{begin}[redacted]"));
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "ls|-la|/tmp",
            "x|--password-file=/run/secrets/db|--token-path|/run/t",
            "docker|login|--password-stdin|host",
            "mysql|-p|db",
            "curl|https://example.test/a:b@c/d?page=2",
            "git|clone|ssh://git@example.test/repo.git",
            "env|PWD=/tmp|HOME=/root",
            "openssl|rsa|-passin|file:/tmp/p",
            "psql|--no-password|db",
            "x|--tokenizer-path=/m|std::string",
            "sh|-c|for i in 1 2 3; do echo \"$i\"; done",
            "x|größe=3|文:文",
            "",
        ] {
            check_arguments(line, line);
        }
    }

    #[test]
    fn log_lines() {
        assert_eq!(
            text("10:00 login user=bob password=hunter2 from 10.0.0.1"),
            "10:00 login user=bob password=[redacted] from 10.0.0.1"
        );
        assert_eq!(
            text("sent header 'Authorization: Basic Ym9iOmh1bnRlcjI=' to x"),
            "sent header 'Authorization: Basic [redacted]' to x"
        );
        assert_eq!(
            text("retry with Bearer abcdefghijklmnop123 now"),
            "retry with Bearer [redacted] now"
        );
    }

    #[test]
    fn hostile_text_never_panics_and_counts_stay() {
        let pieces = [
            "--password",
            "=",
            ":",
            "://",
            "@",
            "'",
            "\"",
            "\\",
            " ",
            "\n",
            "é",
            "\u{202e}",
            "token",
            "PRIVATE KEY-----",
            "-----BEGIN",
            "-----END",
            "Bearer",
            "eyJ",
            "mysql",
            "-p",
            "",
        ];
        // Every sequence of three pieces, as one text and as three arguments.
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let _ = text(&[a, b, c].concat());
                    let args = [a, b, c].map(str::to_owned);
                    assert_eq!(arguments(&args).len(), 3);
                }
            }
        }
    }
}
