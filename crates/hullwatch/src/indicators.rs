//! The indicators that a watch uses: built in, imported, and given with `--intel`.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use intel::{Database, Imported};
use model::{enriched::IndicatorMatch, provenance::Sha256};
use tempfile::TempDir;

use crate::print;

pub(crate) struct Indicators {
    imported: Arc<Database>,
    /// Lists of this run only, compiled in a directory that goes with it.
    given: Option<(Arc<Database>, TempDir)>,
    changed: Arc<AtomicBool>,
}

/// The database of a state directory, with what the program itself knows.
pub(crate) fn open(state_dir: &Path) -> Result<Database> {
    Ok(Database::open(state_dir)?.builtin(detect::samples::indicators()))
}

/// Says which lines of a list were left out.
pub(crate) fn report_problems(imported: &Imported) {
    for problem in &imported.problems {
        print::warning(&problem.to_string());
    }
    if imported.problems_more > 0 {
        print::warning(&format!(
            "and {} more lines that are no indicators",
            imported.problems_more
        ));
    }
}

impl Indicators {
    /// Opens what is imported and compiles the `given` lists for this run.
    pub(crate) fn load(state_dir: &Path, given: &[PathBuf]) -> Result<Self> {
        let imported = Arc::new(open(state_dir)?);
        let given = if given.is_empty() {
            None
        } else {
            let directory = tempfile::tempdir_in(state_dir)
                .context("making a directory for the lists of this run")?;
            let database = Database::open(directory.path())?;
            report_problems(&database.import(given)?);
            Some((Arc::new(database), directory))
        };
        Ok(Self {
            imported,
            given,
            changed: Arc::default(),
        })
    }

    /// Number of indicators, each list counted by itself.
    pub(crate) fn len(&self) -> u64 {
        let given = self
            .given
            .iter()
            .flat_map(|(database, _)| database.lists())
            .filter(|list| list.imported.is_some());
        self.imported
            .lists()
            .into_iter()
            .chain(given)
            .map(|list| list.entries)
            .sum()
    }

    /// What takes over lists that are imported later.
    pub(crate) fn reloader(&self) -> Reloader {
        Reloader {
            imported: Arc::clone(&self.imported),
            changed: Arc::clone(&self.changed),
            complaint: String::new(),
        }
    }

    /// Set whenever the lists have changed; whoever remembers answers clears it.
    pub(crate) fn changed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.changed)
    }

    /// What the enricher asks.
    pub(crate) fn scanner(&self) -> Scanner {
        let databases =
            std::iter::once(&self.imported).chain(self.given.iter().map(|(database, _)| database));
        Scanner {
            databases: databases.cloned().collect(),
        }
    }
}

pub(crate) struct Reloader {
    imported: Arc<Database>,
    changed: Arc<AtomicBool>,
    /// What was said last.
    complaint: String,
}

impl Reloader {
    /// Takes over what another process has imported meanwhile. The old lists stay when the new ones are damaged.
    pub(crate) fn reload_if_changed(&mut self) {
        let complaint = match self.imported.reload_if_changed() {
            Ok(true) => {
                tracing::info!("took over the indicators that were imported meanwhile");
                self.changed.store(true, Ordering::Relaxed);
                String::new()
            }
            Ok(false) => String::new(),
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        if !complaint.is_empty() && complaint != self.complaint {
            print::warning(&complaint);
        }
        self.complaint = complaint;
    }
}

pub(crate) struct Scanner {
    databases: Vec<Arc<Database>>,
}

impl enrich::Scanner for Scanner {
    fn matches(&self, sha256: &Sha256) -> Vec<IndicatorMatch> {
        self.databases
            .iter()
            .flat_map(|database| database.lookup(sha256))
            .collect()
    }

    fn failures(&self) -> u64 {
        let databases = self.databases.iter();
        databases.map(|database| database.read_failures()).sum()
    }
}
