//! A server over a store of its own, called in process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use model::Timestamp;
use model::finding::{
    Finding, FindingClass, FindingResult, GcpMetadata, Resource, Severity, State,
};
use serde_json::Value;
use server::app::App;
use server::auth::{Role, create_token};
use server::service::Service;
use store::Store;
use tower::ServiceExt;

pub(crate) const SOURCE: &str = "organizations/1/sources/1/locations/global";

/// A server, its store, and a token of each role.
pub(crate) struct Server {
    pub(crate) store: Arc<Store>,
    pub(crate) app: App,
    viewer: String,
    editor: String,
    admin: String,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Over an empty store.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let token = |role: Role| create_token(&store, role.name(), role).unwrap().secret;
        Self {
            viewer: token(Role::Viewer),
            editor: token(Role::Editor),
            admin: token(Role::Admin),
            app: App::new(Service::new(Arc::clone(&store), "organizations/1/sources/1").unwrap()),
            store,
            _dir: dir,
        }
    }

    /// Over a store with these many findings: `f0` is the oldest.
    pub(crate) fn with_findings(count: u64) -> Self {
        let server = Self::empty();
        let findings: Vec<_> = (0..count).map(finding).collect();
        server.store.record(&findings).unwrap();
        server
    }

    /// A new server over the same store.
    pub(crate) fn restarted(self) -> Self {
        let service = Service::new(Arc::clone(&self.store), "organizations/1/sources/1").unwrap();
        Self {
            app: App::new(service),
            ..self
        }
    }

    pub(crate) fn token(&self, role: Role) -> &str {
        match role {
            Role::Viewer => &self.viewer,
            Role::Editor => &self.editor,
            Role::Admin => &self.admin,
        }
    }

    /// Calls as the admin.
    pub(crate) async fn call(&self, verb: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.call_as(Role::Admin, verb, path, body).await
    }

    /// Calls as one with this role. `Value::Null` is no body.
    pub(crate) async fn call_as(
        &self,
        role: Role,
        verb: &str,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let request = Request::builder()
            .method(verb)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token(role)))
            .body(body)
            .unwrap();
        self.send(request).await
    }

    /// Sends any request.
    pub(crate) async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let router = server::router::router(self.app.clone(), server::web::Pages::default());
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes)));
        (status, json)
    }

    /// Calls as the admin; the call must be a success.
    pub(crate) async fn ok(&self, verb: &str, path: &str, body: Value) -> Value {
        let (status, json) = self.call(verb, path, body).await;
        assert_eq!(status, StatusCode::OK, "{verb} {path}: {json}");
        json
    }

    /// Calls as the admin; the call must fail. Gives the HTTP status and the canonical code's name.
    pub(crate) async fn fails(&self, verb: &str, path: &str, body: Value) -> (u16, String, String) {
        let (status, json) = self.call(verb, path, body).await;
        assert_eq!(
            json["error"]["code"],
            status.as_u16(),
            "{verb} {path}: {json}"
        );
        let text = |name: &str| json["error"][name].as_str().unwrap().to_owned();
        (status.as_u16(), text("status"), text("message"))
    }
}

/// Finding number `n`.
pub(crate) fn finding(n: u64) -> FindingResult {
    let resource = format!(
        "//run.googleapis.com/projects/p{}/locations/l/services/s",
        n % 2
    );
    FindingResult {
        finding: Finding {
            name: format!("{SOURCE}/findings/f{n}"),
            parent: SOURCE.to_owned(),
            resource_name: resource.clone(),
            state: State::Active,
            category: if n.is_multiple_of(3) {
                "Reverse Shell"
            } else {
                "Added Binary Executed"
            }
            .to_owned(),
            severity: if n.is_multiple_of(2) {
                Severity::Critical
            } else {
                Severity::Low
            },
            finding_class: FindingClass::Threat,
            event_time: Some(Timestamp((1_700_000_000 + n) * 1_000_000_000)),
            description: format!("finding {n}"),
            ..Finding::default()
        },
        resource: Resource {
            name: resource,
            display_name: "s".to_owned(),
            kind: "run.googleapis.com/Service".to_owned(),
            gcp_metadata: Some(GcpMetadata {
                project: format!(
                    "//cloudresourcemanager.googleapis.com/projects/{}",
                    100 + n % 2
                ),
                project_display_name: format!("p{}", n % 2),
                ..GcpMetadata::default()
            }),
            ..Resource::default()
        },
    }
}

/// The last parts of the names of a list's findings.
pub(crate) fn keys(list: &Value) -> Vec<&str> {
    let results = list["listFindingsResults"].as_array();
    results
        .into_iter()
        .flatten()
        .map(|result| {
            let name = result["finding"]["name"].as_str().unwrap();
            name.rsplit('/').next().unwrap()
        })
        .collect()
}

/// Waits for an operation to end.
pub(crate) async fn finished(server: &Server, operation: &Value) -> Value {
    let path = format!("/v2/{}", operation["name"].as_str().unwrap());
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let operation = server.ok("GET", &path, Value::Null).await;
        if operation["done"] == true {
            return operation;
        }
        assert!(Instant::now() < end, "not done: {operation}");
        tokio::task::yield_now().await;
    }
}
