//! The containers seen, and whether they are watched: what Coverage shows.

use model::Timestamp;
use rusqlite::params;

use crate::{Error, Store, ns, timestamp};

/// Containers kept after they have ended; the longest gone go first.
const ENDED_MAX: u32 = 10_000;

/// A container, as the agent sees it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// The engine's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image as configured.
    pub image: String,
    /// Engine, e.g. `docker`.
    pub engine: String,
    /// Sensor that watches it, e.g. `ebpf`; empty when none does.
    pub sensor: String,
    /// Watched, or known, since. An earlier one that is stored stays.
    pub since: Timestamp,
    /// Last event from it. `None` leaves what is stored.
    pub last_event: Option<Timestamp>,
    /// Last self-test that passed. `None` leaves what is stored.
    pub last_test: Option<Timestamp>,
    /// Ended.
    pub ended: Option<Timestamp>,
    /// Why it is not watched; empty when it is.
    pub uncovered: String,
}

impl Store {
    /// Adds containers or brings them up to date.
    pub fn record_containers(&self, containers: &[ContainerState]) -> Result<(), Error> {
        self.database.write(|db| {
            let mut statement = db.prepare_cached(
                "INSERT INTO container (id, name, image, engine, sensor, since, last_event, last_test, ended, uncovered) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
                 image = excluded.image, engine = excluded.engine, sensor = excluded.sensor, \
                 last_event = coalesce(excluded.last_event, container.last_event), \
                 last_test = coalesce(excluded.last_test, container.last_test), ended = excluded.ended, \
                 uncovered = excluded.uncovered",
            )?;
            for container in containers {
                statement.execute(params![
                    container.id,
                    container.name,
                    container.image,
                    container.engine,
                    container.sensor,
                    ns(container.since),
                    container.last_event.map(ns),
                    container.last_test.map(ns),
                    container.ended.map(ns),
                    container.uncovered,
                ])?;
            }
            db.prepare_cached(
                "DELETE FROM container WHERE ended IS NOT NULL AND id NOT IN \
                 (SELECT id FROM container WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT $1)",
            )?
            .execute([ENDED_MAX])?;
            Ok(())
        })
    }

    /// All containers: those not watched first, then running ones, then the last ended.
    pub fn containers(&self) -> Result<Vec<ContainerState>, Error> {
        self.read_containers(
            "ORDER BY ended IS NOT NULL, uncovered = '', ended DESC, since DESC, id",
            params![],
        )
    }

    /// The containers that run, those not watched first.
    pub fn running_containers(&self) -> Result<Vec<ContainerState>, Error> {
        self.read_containers(
            "WHERE ended IS NULL ORDER BY uncovered = '', since DESC, id",
            params![],
        )
    }

    /// Some of the containers that have ended, the last first.
    pub fn ended_containers(&self, skip: u32, limit: u32) -> Result<Vec<ContainerState>, Error> {
        self.read_containers(
            "WHERE ended IS NOT NULL ORDER BY ended DESC, since DESC, id LIMIT $1 OFFSET $2",
            params![limit, skip],
        )
    }

    /// How many containers run that are not watched, and how many have ended.
    pub fn count_containers(&self) -> Result<(u64, u64), Error> {
        self.database.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT count(*) FILTER (WHERE ended IS NULL AND uncovered <> ''), \
                 count(*) FILTER (WHERE ended IS NOT NULL) FROM container",
            )?;
            let (uncovered, ended): (i64, i64) =
                statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok((uncovered.unsigned_abs(), ended.unsigned_abs()))
        })
    }

    fn read_containers(
        &self,
        which: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<ContainerState>, Error> {
        self.database.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT id, name, image, engine, sensor, since, last_event, last_test, ended, uncovered FROM container {which}"
            ))?;
            let time = |value: Option<i64>| value.map(timestamp);
            let containers = statement.query_map(parameters, |row| {
                Ok(ContainerState {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    image: row.get(2)?,
                    engine: row.get(3)?,
                    sensor: row.get(4)?,
                    since: timestamp(row.get(5)?),
                    last_event: time(row.get(6)?),
                    last_test: time(row.get(7)?),
                    ended: time(row.get(8)?),
                    uncovered: row.get(9)?,
                })
            })?;
            Ok(containers.collect::<Result<_, _>>()?)
        })
    }
}
