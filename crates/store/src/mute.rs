//! Muting: by hand, by static rules when a finding is made, by dynamic rules for as long as they match.
//!
//! What is set by hand or by a static rule overrides dynamic rules. `muteInfo` of the finding says which is the case.

use std::cell::Cell;

use model::Timestamp;
use model::finding::{FindingResult, Mute};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::chunk::Cache;
use crate::filter::Condition;
use crate::index::{Index, Stored};
use crate::name::{FindingName, all_sources_of};
use crate::order;
use crate::resource::{self, MuteConfig, MuteConfigType};
use crate::select::{self, One, Selection};
use crate::{Change, Error, Store, audit};

/// Findings changed in one transaction when many are muted: short enough for the agent to get its turn.
const BATCH: usize = 200;

/// Findings looked for at a time, while others may write. More are looked for once these are done.
const CANDIDATES: usize = 10_000;

/// Field under which the dynamic rules that mute a finding are indexed.
pub(crate) const RECORDS: &str = "mute_info.dynamic_mute_records.mute_config";

/// `Finding.MuteInfo`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MuteInfo {
    /// Set by hand or by a static rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_mute: Option<StaticMute>,
    /// Dynamic rules that match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dynamic_mute_records: Vec<DynamicMuteRecord>,
}

/// `Finding.MuteInfo.StaticMute`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticMute {
    /// `Muted` or `Unmuted`.
    pub state: Mute,
    /// Since when.
    pub apply_time: Timestamp,
}

/// `Finding.MuteInfo.DynamicMuteRecord`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DynamicMuteRecord {
    /// Name of the rule.
    pub mute_config: String,
    /// Since when it matches.
    pub match_time: Timestamp,
}

impl MuteInfo {
    /// That of a finding.
    pub fn of(result: &FindingResult) -> Self {
        let info = result.finding.mute_info.clone();
        info.and_then(|info| serde_json::from_value(info).ok())
            .unwrap_or_default()
    }
}

/// Sets the static mute state; `Undefined` takes it away.
pub(crate) fn set(result: &mut FindingResult, mute: Mute, who: &str, now: Timestamp) {
    let mut info = MuteInfo::of(result);
    info.static_mute = match mute {
        Mute::Muted | Mute::Unmuted => Some(StaticMute {
            state: mute,
            apply_time: now,
        }),
        Mute::Undefined | Mute::MuteUnspecified => None,
    };
    put(result, info, who, now);
}

fn put(result: &mut FindingResult, info: MuteInfo, who: &str, now: Timestamp) {
    let finding = &mut result.finding;
    let mute = match (&info.static_mute, info.dynamic_mute_records.as_slice()) {
        (Some(mute), _) => mute.state,
        (None, []) => Mute::Undefined,
        (None, _) => Mute::Muted,
    };
    if mute != finding.mute {
        finding.mute = mute;
        finding.mute_update_time = Some(now);
        finding.mute_initiator = match mute {
            Mute::Muted => format!("Muted by {who}"),
            _ => format!("Unmuted by {who}"),
        };
    }
    finding.mute_info = (info != MuteInfo::default()).then(|| json!(info));
}

/// A mute config, ready to be held against findings.
pub(crate) struct Rule {
    config: MuteConfig,
    filter: Condition,
}

/// All that have a filter which means something. An earlier version may have taken one that this one refuses: it mutes
/// nothing, and keeps no finding from being stored.
pub(crate) fn rules(db: &Connection) -> Result<Vec<Rule>, Error> {
    let configs: Vec<MuteConfig> = resource::all(db)?;
    let rule = |config: MuteConfig| {
        let filter = select::compile(&all_sources_of(&config.name), &config.filter).ok()?;
        Some(Rule { config, filter })
    };
    Ok(configs.into_iter().filter_map(rule).collect())
}

/// Applies the rules to a finding that has just been written: static ones to a new finding only. Returns whether
/// anything changed.
pub(crate) fn apply_rules(
    index: &Index<'_>,
    id: i64,
    result: &mut FindingResult,
    is_new: bool,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut info = MuteInfo::of(result);
    if index.rules.is_empty() && info.dynamic_mute_records.is_empty() {
        return Ok(false);
    }
    let Some(finding) = One::load(index.db, id)? else {
        return Ok(false);
    };
    let mut by = None;
    let mut records = Vec::new();
    for Rule { config, filter } in &index.rules {
        let applies = match config.kind {
            MuteConfigType::Static => is_new && info.static_mute.is_none(),
            MuteConfigType::Dynamic => is_active(config, now),
            MuteConfigType::MuteConfigTypeUnspecified => false,
        };
        if !applies || !finding.matches(index.db, filter)? {
            continue;
        }
        by.get_or_insert(&config.name);
        if config.kind == MuteConfigType::Static {
            info.static_mute = Some(StaticMute {
                state: Mute::Muted,
                apply_time: now,
            });
        } else {
            let known = |record: &&DynamicMuteRecord| record.mute_config == config.name;
            let record = info.dynamic_mute_records.iter().find(known).cloned();
            records.push(record.unwrap_or_else(|| DynamicMuteRecord {
                mute_config: config.name.clone(),
                match_time: now,
            }));
        }
    }
    info.dynamic_mute_records = records;
    let before = (result.finding.mute, result.finding.mute_info.clone());
    put(
        result,
        info,
        by.map_or("the end of a mute config", String::as_str),
        now,
    );
    Ok(before != (result.finding.mute, result.finding.mute_info.clone()))
}

fn is_active(config: &MuteConfig, now: Timestamp) -> bool {
    config.expiry_time.is_none_or(|expiry| expiry > now)
}

/// The findings that a rule means: those that match, under its own parent.
fn selection(db: &Connection, cache: &Cache, config: &MuteConfig) -> Result<Selection, Error> {
    Selection::new(db, cache, &all_sources_of(&config.name), &config.filter)
}

impl Store {
    /// Brings findings in line with the dynamic mute configs: after one was made, changed or deleted, and every
    /// minute or so because they expire. Works in short transactions; returns the number of findings changed.
    pub fn refresh_mutes(&self, now: Timestamp) -> Result<u64, Error> {
        let cache = self.database.cache();
        let rules = self.database.read(rules)?;
        let active = rules
            .iter()
            .map(|rule| &rule.config)
            .filter(|config| config.kind == MuteConfigType::Dynamic && is_active(config, now));
        let mut total = 0;
        let mut names = Vec::new();
        for config in active {
            names.push(config.name.as_str());
            // Matches without a record, and records without a match.
            total += self.refresh_where(now, |db| {
                let record = recorded(db, &config.name)?;
                Ok(selection(db, cache, config)?.and(Condition::Not(Box::new(record))))
            })?;
            total += self.refresh_where(now, |db| {
                let matches = selection(db, cache, config)?.condition;
                let record = recorded(db, &config.name)?;
                Ok(Condition::And(vec![record, Condition::Not(Box::new(matches))]).into())
            })?;
        }
        let recorded_names: Vec<String> = self.database.read(|db| {
            let mut statement = db.prepare_cached("SELECT value FROM term WHERE field = $1")?;
            let names = statement.query_map([RECORDS], |row| row.get(0))?;
            Ok(names.collect::<Result<_, _>>()?)
        })?;
        for name in recorded_names
            .iter()
            .filter(|name| !names.contains(&name.as_str()))
        {
            total += self.refresh_where(now, |db| Ok(recorded(db, name)?.into()))?;
        }
        Ok(total)
    }

    /// Applies the rules anew to what is selected.
    fn refresh_where(
        &self,
        now: Timestamp,
        select: impl Fn(&Connection) -> Result<Selection, Error>,
    ) -> Result<u64, Error> {
        let mut total = 0;
        self.each_selected(
            select,
            |index, old| {
                let mut new = old.next();
                if apply_rules(index, old.id, &mut new.result, false, now)? {
                    index.update(&mut new)?;
                    total += 1;
                }
                Ok(())
            },
            || true,
        )?;
        Ok(total)
    }

    /// Sets the mute state of all that match, in short transactions. `progress` gets the number so far and ends the
    /// work by returning false. Returns the number of findings set.
    pub fn bulk_mute(
        &self,
        parent: &str,
        filter: &str,
        mute: Mute,
        change: Change<'_>,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<u64, Error> {
        let condition = select::compile(parent, filter)?;
        let detail = json!({"filter": filter, "mute": mute});
        self.database
            .write(|db| audit::note(db, change, "bulk mute", parent, &detail))?;
        let total = Cell::new(0);
        self.each_selected(
            |db| Selection::new(db, self.database.cache(), parent, filter),
            |index, old| {
                // It may have changed since it was looked for.
                if !select::matches(index.db, &condition, old.id)? {
                    return Ok(());
                }
                total.set(total.get() + 1);
                let mut new = old.next();
                set(&mut new.result, mute, change.who, change.now);
                if old.result != new.result {
                    index.update(&mut new)?;
                }
                Ok(())
            },
            || progress(total.get()),
        )?;
        Ok(total.get())
    }

    /// Changes what is selected, the oldest first: looks for it while others write, for that may take long, and changes
    /// it in short transactions. `progress` is asked after each whether to go on.
    fn each_selected(
        &self,
        select: impl Fn(&Connection) -> Result<Selection, Error>,
        mut change: impl FnMut(&mut Index<'_>, Stored) -> Result<(), Error>,
        mut progress: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let places = self.database.read(|db| {
                order::oldest(
                    db,
                    Some(self.database.cache()),
                    &select(db)?,
                    after,
                    CANDIDATES,
                )
            })?;
            for batch in places.chunks(BATCH) {
                self.database.write(|db| {
                    let mut index = Index::new(db, &self.database)?;
                    for (_, id) in batch {
                        if let Some(stored) = index.find(*id)? {
                            change(&mut index, stored)?;
                        }
                    }
                    index.finish()
                })?;
                if !progress() {
                    return Ok(());
                }
            }
            match places.last() {
                Some(last) => after = Some(*last),
                None => return Ok(()),
            }
        }
    }

    /// Does this finding match the filter.
    pub fn matches(&self, name: &str, filter: &str) -> Result<bool, Error> {
        let name = FindingName::parse(name)?;
        self.database.read(|db| {
            let id: Option<i64> = db
                .prepare_cached(
                    "SELECT f.id FROM finding f JOIN term t ON t.id = f.parent_id \
                     WHERE f.key = $1 AND t.field = 'parent' AND t.value = $2",
                )?
                .query_row(params![name.key, name.parent.to_string()], |row| row.get(0))
                .optional()?;
            let condition = select::compile("", filter)?;
            id.map_or(Ok(false), |id| select::matches(db, &condition, id))
        })
    }
}

fn recorded(db: &Connection, config: &str) -> Result<Condition, Error> {
    let id = select::term_id(db, RECORDS, config)?;
    Ok(Condition::Ids {
        field: RECORDS.to_owned(),
        ids: Vec::from_iter(id).into(),
    })
}
