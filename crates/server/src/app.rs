//! What all requests share, and the one way in which a method is called.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use axum::http::{Extensions, HeaderMap};
use model::Timestamp;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::{self, Caller, Limiter};
use crate::limits::{CALLS_MAX, CALLS_PER_CALLER_MAX, SIGN_INS_MAX};
use crate::methods::Method;
use crate::schema;
use crate::service::Service;
use crate::status::{Code, Status};

/// Shared by all requests. Cloning shares.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    service: Service,
    limiter: Limiter,
    calls: Arc<Semaphore>,
    sign_ins: Arc<Semaphore>,
    /// Of the callers that have calls, by name.
    shares: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// The calls that one caller may have under way: those of a token and of all sessions that it opened.
pub(crate) type Share = Arc<Semaphore>;

/// Where a connection comes from. The listener puts it into the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// The peer of a request. A request that came through no connection counts as local.
    pub(crate) fn of(extensions: &Extensions) -> IpAddr {
        extensions
            .get::<Self>()
            .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0)
    }
}

impl App {
    /// What requests need to answer from a store.
    pub fn new(service: Service) -> Self {
        Self {
            inner: Arc::new(Inner {
                service,
                limiter: Limiter::default(),
                calls: Arc::new(Semaphore::new(CALLS_MAX)),
                sign_ins: Arc::new(Semaphore::new(SIGN_INS_MAX)),
                shares: Mutex::default(),
            }),
        }
    }

    /// The rules behind API and pages.
    pub fn service(&self) -> &Service {
        &self.inner.service
    }

    /// Failed logins by address; pages that take credentials count theirs here too.
    pub fn limiter(&self) -> &Limiter {
        &self.inner.limiter
    }

    /// The share of a caller, by the name of its token.
    pub(crate) fn share(&self, caller: &str) -> Share {
        let shares = self.inner.shares.lock();
        let mut shares = shares.unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(caller).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Semaphore::new(CALLS_PER_CALLER_MAX));
        shares.insert(caller.to_owned(), Arc::downgrade(&share));
        share
    }

    /// Runs work that blocks (on the store) where it may, as one of a bounded number, of which each caller has a share. The
    /// work goes on to its end even when the caller has gone: a change is never cut in half.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        share: Share,
        work: impl FnOnce(&Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let permits = (
            permit(share).await?,
            permit(self.inner.calls.clone()).await?,
        );
        self.run(permits, work).await
    }

    /// Runs the short work of finding out who somebody is, which no call keeps waiting.
    pub(crate) async fn sign_in<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = permit(self.inner.sign_ins.clone()).await?;
        self.run(permit, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        permits: impl Send + 'static,
        work: impl FnOnce(&Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let app = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permits = permits;
            work(&app)
        });
        match done.await {
            Ok(result) => result,
            Err(panicked) => Err(Status::internal(&panicked)),
        }
    }

    /// Finds out who calls by the bearer token.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Caller, Status> {
        let headers = headers.clone();
        self.sign_in(move |app| {
            let store = app.service().store();
            auth::bearer(store, app.limiter(), &headers, peer, now())
        })
        .await
    }

    /// Calls a method, if the caller may, and writes what it answers in the caller's form.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        method: &'static Method,
        caller: Caller,
        request: DynamicMessage,
        encode: impl FnOnce(MessageDescriptor, Value) -> Result<T, serde_json::Error> + Send + 'static,
    ) -> Result<T, Status> {
        if caller.role < method.role {
            return Err(Status::new(
                Code::PermissionDenied,
                format!(
                    "Permission '{}' denied: the token {:?} has the role {}, this takes {}.",
                    method.permission,
                    caller.name,
                    caller.role.name(),
                    method.role.name()
                ),
            ));
        }
        self.blocking(self.share(&caller.name), move |app| {
            let json =
                schema::to_json(&request).map_err(|error| Status::invalid(error.to_string()))?;
            let answer = (method.handler)(app.service(), &caller, json)?;
            encode(schema::message(&method.response()), answer)
                .map_err(|error| Status::internal(&error))
        })
        .await
    }
}

async fn permit(semaphore: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    let permit = semaphore.acquire_owned().await;
    permit.map_err(|closed| Status::internal(&closed))
}

/// The present time.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use store::Store;
    use tokio::task::JoinHandle;

    use super::*;

    /// Work of a caller that ends when the sender goes. Comes back once it has begun.
    async fn slow(app: &App, caller: &str) -> (JoinHandle<()>, mpsc::Sender<()>) {
        let (end, ended) = mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (app, share) = (app.clone(), app.share(caller));
        let task = tokio::spawn(async move {
            let work = app.blocking(share, move |_| {
                begin.send(()).unwrap();
                let _ = ended.recv();
                Ok(())
            });
            work.await.unwrap();
        });
        begun.await.unwrap();
        (task, end)
    }

    #[tokio::test]
    async fn slow_calls_of_some_keep_nobody_else_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let app = App::new(Service::new(store, "organizations/1/sources/1").unwrap());
        let mut under_way = Vec::new();
        for _ in 0..CALLS_PER_CALLER_MAX {
            under_way.push(slow(&app, "ada").await);
        }
        // Her next one waits, that of another does not.
        let next = app.blocking(app.share("ada"), |_| Ok(()));
        tokio::time::timeout(Duration::ZERO, next)
            .await
            .unwrap_err();
        app.blocking(app.share("bob"), |_| Ok(())).await.unwrap();

        for number in CALLS_PER_CALLER_MAX..CALLS_MAX {
            under_way.push(slow(&app, &format!("caller {number}")).await);
        }
        let next = app.blocking(app.share("bob"), |_| Ok(()));
        tokio::time::timeout(Duration::ZERO, next)
            .await
            .unwrap_err();
        // Who calls is found out all the same.
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let refused = app.authenticate(&HeaderMap::new(), peer).await;
        assert_eq!(refused.unwrap_err().code, Code::Unauthenticated);

        for (task, end) in under_way {
            drop(end);
            task.await.unwrap();
        }
        app.blocking(app.share("ada"), |_| Ok(())).await.unwrap();
    }
}
