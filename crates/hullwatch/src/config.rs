//! The configuration file: everything has a default, a misspelled key is an error.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use detect::finding::Naming;
use model::limits::HASH_BYTES_MAX;
use serde::Deserialize;

/// `hullwatch run --config FILE`. `docs/configuration.md` is its page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Detectors on or off, their severities, and what findings report of arguments and environment.
    pub(crate) detection: detect::Settings,
    /// Names of findings and resources.
    pub(crate) naming: Naming,
    /// Where engines keep their files, when that cannot be found out.
    pub(crate) engines: Engines,
    /// Files that containers run and load.
    pub(crate) files: Files,
    /// The findings store.
    pub(crate) findings: Findings,
    /// Where findings are sent.
    pub(crate) sinks: server::notify::Config,
    /// The kernel side.
    #[serde(skip)]
    pub(crate) sensor: sensor_ebpf::Config,
}

/// `[engines]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Engines {
    /// More directories with engine files.
    pub(crate) extra_roots: Vec<PathBuf>,
}

/// `[files]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Files {
    /// Larger files are not hashed, which is reported.
    pub(crate) hash_bytes_max: u64,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            hash_bytes_max: HASH_BYTES_MAX,
        }
    }
}

/// `[findings]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Findings {
    /// Findings older than this are deleted.
    pub(crate) retention_days: u32,
}

impl Default for Findings {
    fn default() -> Self {
        // SCC keeps findings of activations since May 2025 for 90 days.
        Self { retention_days: 90 }
    }
}

impl Config {
    /// Reads the file, or takes the defaults when there is none.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let mut config: Self = match path {
            None => Self::default(),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("in {}", path.display()))?
            }
        };
        config.detection.check().context("in the configuration")?;
        if config.naming.host == Naming::default().host {
            let name = rustix::system::uname();
            config.naming.host = name.nodename().to_string_lossy().into_owned();
        }
        Ok(config)
    }

    /// The part that the enricher needs.
    pub(crate) fn enrich(&self) -> enrich::Config {
        enrich::Config {
            containers: enrich::containers::Config {
                extra_roots: self.engines.extra_roots.clone(),
                report_env_values: self.detection.report_env_values,
                ..enrich::containers::Config::default()
            },
            hash_bytes_max: self.files.hash_bytes_max,
            same_content_for_all_added: ["added_binary_executed", "added_library_loaded"]
                .into_iter()
                .any(|drift| self.is_enabled(drift)),
            ..enrich::Config::default()
        }
    }

    fn is_enabled(&self, detector: &str) -> bool {
        detect::find(detector).is_some_and(|spec| self.detection.is_enabled(spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_added_files_are_looked_for_when_drift_is_reported() {
        let wants_origin = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            config.enrich().same_content_for_all_added
        };
        assert!(!wants_origin(""));
        for detector in ["added_binary_executed", "added_library_loaded"] {
            let section = format!("[detection.detectors.{detector}]\n");
            assert!(wants_origin(&format!("{section}enabled = true")));
            assert!(!wants_origin(&format!("{section}enabled = false")));
        }
    }

    #[test]
    fn the_largest_file_that_is_hashed_is_the_users_choice() {
        let limit = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            config.enrich().hash_bytes_max
        };
        assert_eq!(limit(""), HASH_BYTES_MAX);
        assert_eq!(limit("[files]\nhash_bytes_max = 5"), 5);
    }

    #[test]
    fn the_examples_of_the_documentation_are_read() {
        let configuration = include_str!("../../../docs/configuration.md");
        let notifications = include_str!("../../../docs/notifications.md");
        let mut sinks = 0;
        for page in [configuration, notifications] {
            let example = page.split("```toml\n").nth(1).unwrap();
            let example = example.split("```").next().unwrap();
            let config: Config = toml::from_str(example).unwrap();
            config.detection.check().unwrap();
            sinks += config.sinks.len();
        }
        assert_eq!(sinks, 5);
    }
}
