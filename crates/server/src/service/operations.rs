//! Long-running operations, and the one that there is: bulk mute.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::finding::Mute;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Change, Operation, OperationLock, Store};

use super::config::{self, List, Named};
use super::{Service, answer, request};
use crate::app::now;
use crate::auth::Caller;
use crate::schema::SCC;
use crate::status::{Code, Status};

/// Bulk changes at a time. They take turns on one disk anyway.
const RUNNING_MAX: usize = 4;

/// Operations that this process works on, each with the flag that ends it. Shared with their threads.
#[derive(Clone, Default)]
pub(super) struct Running {
    cancelled: Arc<Mutex<HashMap<String, Arc<AtomicBool>>>>,
}

impl Running {
    fn with<T>(&self, body: impl FnOnce(&mut HashMap<String, Arc<AtomicBool>>) -> T) -> T {
        body(
            &mut self
                .cancelled
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BulkMute {
    parent: String,
    filter: String,
    mute_state: MuteState,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum MuteState {
    #[default]
    #[serde(rename = "MUTE_STATE_UNSPECIFIED")]
    Unspecified,
    Muted,
    Undefined,
}

/// `BulkMuteFindings`: answers at once, works on a thread of its own.
pub(crate) fn bulk_mute(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let bulk: BulkMute = request(json)?;
    store::filter::check(&bulk.filter).map_err(store::Error::from)?;
    let mute = match bulk.mute_state {
        MuteState::Unspecified | MuteState::Muted => Mute::Muted,
        MuteState::Undefined => Mute::Undefined,
    };
    let (scope, location) = bulk
        .parent
        .split_once("/locations/")
        .unwrap_or((&bulk.parent, "global"));
    let findings = format!("{scope}/sources/-/locations/{location}");
    store::name::SourceName::parse(&findings)?;
    let operation = Operation {
        name: format!("{scope}/operations/{}", crate::auth::random_hex::<16>()),
        ..Operation::default()
    };
    let lock = service.store.lock_operation(&operation.name)?;
    let cancelled = Arc::new(AtomicBool::new(false));
    service.operations.with(|running| {
        if running.len() >= RUNNING_MAX {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("{RUNNING_MAX} bulk changes are under way; wait for one to end."),
            ));
        }
        running.insert(operation.name.clone(), Arc::clone(&cancelled));
        Ok(())
    })?;
    let work = Work {
        store: Arc::clone(&service.store),
        running: service.operations.clone(),
        name: operation.name.clone(),
        who: caller.name.clone(),
        cancelled,
        _lock: lock,
    };
    // From here on the work's end takes the operation out of those running, also when it never begins.
    service.store.create(&operation, caller.change())?;
    let thread = std::thread::Builder::new().name("bulk-mute".to_owned());
    if let Err(error) = thread.spawn(move || work.run(&findings, &bulk.filter, mute)) {
        service
            .store
            .delete::<Operation>(&operation.name, caller.change())?;
        return Err(Status::internal(&error));
    }
    answer(&operation)
}

/// A bulk change under way.
struct Work {
    store: Arc<Store>,
    running: Running,
    name: String,
    who: String,
    cancelled: Arc<AtomicBool>,
    /// Tells other processes that somebody works on it.
    _lock: Option<OperationLock>,
}

impl Work {
    fn run(&self, findings: &str, filter: &str, mute: Mute) {
        let result = self
            .store
            .bulk_mute(findings, filter, mute, self.change(), |_| {
                !self.cancelled.load(Ordering::Relaxed)
            });
        let (response, error) = match result {
            Ok(_) if self.cancelled.load(Ordering::Relaxed) => {
                (None, Some(json!({"code": 1, "message": "Cancelled."})))
            }
            Ok(_) => {
                let of = format!("type.googleapis.com/{SCC}.BulkMuteFindingsResponse");
                (Some(json!({"@type": of})), None)
            }
            Err(error) => (None, Some(Status::from(error).to_value())),
        };
        let ended = self
            .store
            .update(&self.name, self.change(), |operation: Operation| {
                Ok(Operation {
                    done: true,
                    response,
                    error,
                    ..operation
                })
            });
        match ended {
            // Deleted meanwhile: nobody wants to know.
            Ok(_) | Err(store::Error::NotFound(_)) => {}
            Err(error) => {
                tracing::error!(%error, "cannot note the end of {}: {error}", self.name);
            }
        }
    }

    fn change(&self) -> Change<'_> {
        Change {
            who: &self.who,
            now: now(),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.running.with(|running| running.remove(&self.name));
    }
}

/// Ends the operations that a process left behind when it ended. What another process works on is left to it.
pub(super) fn give_up_unfinished(store: &Store) -> Result<(), store::Error> {
    let change = Change {
        who: "hullwatch",
        now: now(),
    };
    let error = Status::new(
        Code::Aborted,
        "The server was restarted before the end. Call again: what is done is not done twice.",
    );
    for Operation { name, .. } in store.unfinished_operations()? {
        let Some(_lock) = store.lock_operation(&name)? else {
            continue;
        };
        // It may have ended, and been deleted, just before the lock was ours.
        match store.resource::<Operation>(&name) {
            Ok(operation) if !operation.done => {}
            Ok(_) | Err(store::Error::NotFound(_)) => continue,
            Err(error) => return Err(error),
        }
        store.update(&name, change, |operation: Operation| {
            Ok(Operation {
                done: true,
                error: Some(error.to_value()),
                ..operation
            })
        })?;
    }
    Ok(())
}

/// `ListOperations`.
pub(crate) fn list(service: &Service, _: &Caller, mut json: Value) -> Result<Value, Status> {
    // Here the parent is called name, and ends in the collection.
    let name = json["name"].as_str().unwrap_or_default();
    json["parent"] = name.strip_suffix("/operations").unwrap_or(name).into();
    if json["filter"]
        .as_str()
        .is_some_and(|filter| !filter.is_empty())
    {
        return Err(Status::field(
            "filter",
            "filter: operations cannot be filtered.",
        ));
    }
    let list: List = request(json)?;
    config::list::<Operation>(service, &list, "operations")
}

/// `GetOperation`.
pub(crate) fn get(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let get: Named = request(json)?;
    answer(&service.store.resource::<Operation>(&get.name)?)
}

/// `CancelOperation`: ends it soon, unless it has ended.
pub(crate) fn cancel(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let cancel: Named = request(json)?;
    let operation: Operation = service.store.resource(&cancel.name)?;
    let running = service
        .operations
        .with(|running| running.get(&operation.name).cloned());
    if let Some(cancelled) = running {
        service.store.note(
            caller.change(),
            "cancel operations",
            &operation.name,
            &Value::Null,
        )?;
        cancelled.store(true, Ordering::Relaxed);
    }
    Ok(json!({}))
}

/// `DeleteOperation`: forgets it; does not end it.
pub(crate) fn delete(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let delete: Named = request(json)?;
    service
        .store
        .delete::<Operation>(&delete.name, caller.change())?;
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use crate::auth::Role;

    use super::*;

    #[test]
    fn who_cancels_is_in_the_audit_log() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let service = Service::new(Arc::clone(&store), "organizations/1/sources/1").unwrap();
        let caller = Caller {
            name: "ada".to_owned(),
            role: Role::Editor,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let operation = Operation {
            name: "organizations/1/operations/a".to_owned(),
            ..Operation::default()
        };
        store.create(&operation, caller.change()).unwrap();
        let flag = Arc::new(AtomicBool::new(false));
        service
            .operations
            .with(|running| running.insert(operation.name.clone(), Arc::clone(&flag)));
        cancel(&service, &caller, json!({"name": operation.name})).unwrap();
        assert!(flag.load(Ordering::Relaxed));
        let entry = store.audit_log(i64::MAX, 1).unwrap().remove(0);
        assert_eq!(
            [entry.who, entry.action, entry.target],
            ["ada", "cancel operations", operation.name.as_str()]
        );
    }
}
