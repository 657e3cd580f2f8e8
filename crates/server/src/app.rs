//! What all requests share, and the one way in which a method is called.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use axum::http::{Extensions, HeaderMap};
use model::Timestamp;
use prost_reflect::DynamicMessage;
use tokio::sync::Semaphore;

use crate::auth::{self, Caller, Limiter};
use crate::limits::CALLS_MAX;
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
}

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

    /// Runs work that blocks (on the store) where it may, as one of a bounded number. The work goes on to its end even when
    /// the caller has gone: a change is never cut in half.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let app = self.clone();
        let permit = Arc::clone(&self.inner.calls)
            .acquire_owned()
            .await
            .map_err(|error| Status::internal(&error))?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
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
        self.blocking(move |app| {
            let store = app.service().store();
            auth::bearer(store, app.limiter(), &headers, peer, now())
        })
        .await
    }

    /// Calls a method, if the caller may.
    pub(crate) async fn call(
        &self,
        method: &'static Method,
        caller: Caller,
        request: DynamicMessage,
    ) -> Result<DynamicMessage, Status> {
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
        self.blocking(move |app| {
            let json =
                schema::to_json(&request).map_err(|error| Status::invalid(error.to_string()))?;
            let answer = (method.handler)(app.service(), &caller, json)?;
            schema::build(schema::message(&method.response()), answer)
                .map_err(|error| Status::internal(&error))
        })
        .await
    }
}

/// The present time.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}
