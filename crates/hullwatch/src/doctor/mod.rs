//! Looks at this host: what watching needs, whether it is there, and what is lost without it.

mod engines;
mod host;

use anyhow::{Result, bail};
use serde::Serialize;

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// What.
    pub(crate) name: &'static str,
    /// How it stands.
    pub(crate) status: Status,
    /// What was found.
    pub(crate) found: String,
    /// What is lost because of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<&'static str>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<&'static str>,
}

/// How a thing stands, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// There, and good.
    Ok,
    /// Worth knowing; watching does not depend on it.
    Note,
    /// Watching is possible, and sees less.
    Degraded,
    /// Watching is not possible.
    Failed,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            found: found.into(),
            cost: None,
            advice: None,
        }
    }

    fn note(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            status: Status::Note,
            ..Self::ok(name, found)
        }
    }

    fn bad(
        name: &'static str,
        status: Status,
        found: impl Into<String>,
        cost: &'static str,
        advice: &'static str,
    ) -> Self {
        Self {
            name,
            status,
            found: found.into(),
            cost: Some(cost),
            advice: Some(advice),
        }
    }
}

/// Fails where the kernel's pids are not those of `/proc`: a watch would find no process, and say nothing of it.
pub(crate) fn require_host_pids() -> Result<()> {
    let check = host::pid_namespace();
    if check.status != Status::Failed {
        return Ok(());
    }
    let words = [check.cost, check.advice].map(Option::unwrap_or_default);
    bail!(
        "{}: {}; {}. {}",
        check.name,
        check.found,
        words[0],
        words[1]
    )
}

/// Looks at everything, in the order in which it is shown.
pub(crate) fn examine() -> Vec<Check> {
    let mut checks = host::examine();
    checks.extend(engines::examine());
    checks
}
