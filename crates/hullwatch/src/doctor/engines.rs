//! The container engines of this host: versions, and whether they answer. Any container is watched, known engine or not.

use std::{process::Command, time::Duration};

use super::Check;
use crate::simulate::external;

/// An engine that takes longer to say its version is not well.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Engine, program, arguments that need it to be up (for an engine without a daemon: to be usable).
const ENGINES: [(&str, &str, &[&str]); 5] = [
    ("runc", "runc", &["--version"]),
    (
        "Podman",
        "podman",
        &["version", "--format", "{{.Client.Version}}"],
    ),
    ("containerd", "ctr", &["--connect-timeout", "2s", "version"]),
    (
        "Docker",
        "docker",
        &["version", "--format", "{{.Server.Version}}"],
    ),
    ("CRI-O", "crio", &["--version"]),
];

pub(super) fn examine() -> Vec<Check> {
    ENGINES
        .iter()
        .map(|&(name, program, arguments)| look(name, program, arguments))
        .collect()
}

fn look(name: &'static str, program: &str, arguments: &[&str]) -> Check {
    let Some(path) = external::find(program) else {
        return Check::note(name, format!("not found ({program} is not installed)"));
    };
    let mut command = Command::new(path);
    command.args(arguments);
    match external::run(&mut command, ANSWER_LIMIT, None) {
        Ok(output) if output.status.success() => {
            Check::ok(name, version(&output.stdout).unwrap_or("found").to_owned())
        }
        Ok(output) => Check::note(
            name,
            format!(
                "installed, does not answer: {}",
                output.stderr.trim().lines().last().unwrap_or_default()
            ),
        ),
        Err(error) => Check::note(name, format!("installed, does not answer: {error:#}")),
    }
}

/// The first word with a digit first and a dot within, whatever an engine prints around it; where it speaks of client and
/// server, the server's.
fn version(printed: &str) -> Option<&str> {
    printed
        .rsplit("Server:")
        .next()?
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read_from_what_engines_print() {
        for (printed, expected) in [
            (
                "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1\ngo: go1.19.8\nlibseccomp: 2.5.4\n",
                Some("1.1.5+ds1"),
            ),
            ("27.1.0\n", Some("27.1.0")),
            (
                "Client:\n  Version:  1.6.20\n\nServer:\n  Version:  v1.7.2\n",
                Some("1.7.2"),
            ),
            ("nothing", None),
        ] {
            assert_eq!(version(printed), expected, "{printed}");
        }
    }
}
