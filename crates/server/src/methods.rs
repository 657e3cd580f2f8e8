//! Every method that is served, declared once: REST routes, gRPC dispatch, permissions and the OpenAPI document all come
//! from this table.

use serde_json::Value;

use crate::auth::{Caller, Role};
use crate::schema;
use crate::service::{
    Service, findings, iam, mute_configs, notification_configs, operations, sources,
};
use crate::status::Status;

/// Does what a method says. Gets the request and gives the answer as ProtoJSON.
pub(crate) type Handler = fn(&Service, &Caller, Value) -> Result<Value, Status>;

/// One method.
pub(crate) struct Method {
    /// Full name of the gRPC service.
    pub(crate) service: &'static str,
    /// Name within the service.
    pub(crate) name: &'static str,
    /// Full names of the packages of request and answer, and of the answer's message.
    request_package: &'static str,
    response: (&'static str, &'static str),
    /// SCC's name for what the caller must be allowed.
    pub(crate) permission: &'static str,
    /// The least role that has the permission.
    pub(crate) role: Role,
    /// REST forms, the usual one first.
    pub(crate) http: &'static [Http],
    /// What it does.
    pub(crate) handler: Handler,
}

/// One REST form of a method.
pub(crate) struct Http {
    /// `GET`, ...
    pub(crate) verb: &'static str,
    /// Path below `/v2/`, with the field that a part of it sets, as in Google's HTTP rules: `{name=P/sources/*}:setMute`.
    /// `P` stands for an organization, a folder or a project.
    pub(crate) path: &'static str,
    /// Where the body goes.
    pub(crate) body: Body,
}

/// Which part of the request the body of a REST call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// There is none; fields come as query parameters.
    None,
    /// All of it.
    All,
    /// One field; the others come as query parameters.
    Field(&'static str),
}

impl Method {
    /// Full name of the request message.
    pub(crate) fn request(&self) -> String {
        format!("{}.{}Request", self.request_package, self.name)
    }

    /// Full name of the answer's message.
    pub(crate) fn response(&self) -> String {
        format!("{}.{}", self.response.0, self.response.1)
    }
}

const SERVICE: &str = "google.cloud.securitycenter.v2.SecurityCenter";
const OPERATIONS: &str = "google.longrunning.Operations";
const LONGRUNNING: &str = "google.longrunning";
const IAM: &str = "google.iam.v1";
const PROTOBUF: &str = "google.protobuf";

/// The services of [`METHODS`], for gRPC.
pub(crate) const SERVICES: &[&str] = &[SERVICE, OPERATIONS];

/// Collections of SCC that are not served: calls to them answer `UNIMPLEMENTED`.
pub(crate) const NOT_SERVED: &[&str] = &[
    "attackPaths",
    "attackExposureResults",
    "bigQueryExports",
    "resourceValueConfigs",
    "simulations",
    "valuedResources",
];

const fn get(path: &'static str) -> Http {
    form("GET", path, Body::None)
}

const fn delete(path: &'static str) -> Http {
    form("DELETE", path, Body::None)
}

const fn post(path: &'static str, body: Body) -> Http {
    form("POST", path, body)
}

const fn patch(path: &'static str, field: &'static str) -> Http {
    form("PATCH", path, Body::Field(field))
}

const fn form(verb: &'static str, path: &'static str, body: Body) -> Http {
    Http { verb, path, body }
}

/// A method of SCC's own service.
const fn scc(
    name: &'static str,
    response: &'static str,
    permission: &'static str,
    role: Role,
    handler: Handler,
    http: &'static [Http],
) -> Method {
    Method {
        service: SERVICE,
        name,
        request_package: schema::SCC,
        response: (schema::SCC, response),
        permission,
        role,
        http,
        handler,
    }
}

/// The table.
pub(crate) static METHODS: &[Method] = &[
    scc(
        "ListFindings",
        "ListFindingsResponse",
        "securitycenter.findings.list",
        Role::Viewer,
        findings::list,
        &[
            get("{parent=P/sources/*}/findings"),
            get("{parent=P/sources/*/locations/*}/findings"),
        ],
    ),
    scc(
        "GroupFindings",
        "GroupFindingsResponse",
        "securitycenter.findings.group",
        Role::Viewer,
        findings::group,
        &[
            post("{parent=P/sources/*}/findings:group", Body::All),
            post("{parent=P/sources/*/locations/*}/findings:group", Body::All),
        ],
    ),
    scc(
        "CreateFinding",
        "Finding",
        "securitycenter.findings.update",
        Role::Editor,
        findings::create,
        &[
            post(
                "{parent=organizations/*/sources/*}/findings",
                Body::Field("finding"),
            ),
            post(
                "{parent=organizations/*/sources/*/locations/*}/findings",
                Body::Field("finding"),
            ),
        ],
    ),
    scc(
        "UpdateFinding",
        "Finding",
        "securitycenter.findings.update",
        Role::Editor,
        findings::update,
        &[
            patch("{finding.name=P/sources/*/findings/*}", "finding"),
            patch(
                "{finding.name=P/sources/*/locations/*/findings/*}",
                "finding",
            ),
        ],
    ),
    scc(
        "SetFindingState",
        "Finding",
        "securitycenter.findings.setState",
        Role::Editor,
        findings::set_state,
        &[
            post("{name=P/sources/*/findings/*}:setState", Body::All),
            post(
                "{name=P/sources/*/locations/*/findings/*}:setState",
                Body::All,
            ),
        ],
    ),
    scc(
        "SetMute",
        "Finding",
        "securitycenter.findings.setMute",
        Role::Editor,
        findings::set_mute,
        &[
            post("{name=P/sources/*/findings/*}:setMute", Body::All),
            post(
                "{name=P/sources/*/locations/*/findings/*}:setMute",
                Body::All,
            ),
        ],
    ),
    scc(
        "UpdateSecurityMarks",
        "SecurityMarks",
        "securitycenter.findingsecuritymarks.update",
        Role::Editor,
        findings::update_security_marks,
        &[
            patch(
                "{security_marks.name=P/sources/*/findings/*/securityMarks}",
                "security_marks",
            ),
            patch(
                "{security_marks.name=P/sources/*/locations/*/findings/*/securityMarks}",
                "security_marks",
            ),
        ],
    ),
    scc(
        "UpdateExternalSystem",
        "ExternalSystem",
        "securitycenter.findingexternalsystems.update",
        Role::Editor,
        findings::update_external_system,
        &[
            patch(
                "{external_system.name=P/sources/*/findings/*/externalSystems/*}",
                "external_system",
            ),
            patch(
                "{external_system.name=P/sources/*/locations/*/findings/*/externalSystems/*}",
                "external_system",
            ),
        ],
    ),
    Method {
        response: (LONGRUNNING, "Operation"),
        ..scc(
            "BulkMuteFindings",
            "",
            "securitycenter.findings.bulkMuteUpdate",
            Role::Editor,
            operations::bulk_mute,
            &[
                post("{parent=P}/findings:bulkMute", Body::All),
                post("{parent=P/locations/*}/findings:bulkMute", Body::All),
            ],
        )
    },
    scc(
        "ListSources",
        "ListSourcesResponse",
        "securitycenter.sources.list",
        Role::Viewer,
        sources::list,
        &[get("{parent=P}/sources")],
    ),
    scc(
        "GetSource",
        "Source",
        "securitycenter.sources.get",
        Role::Viewer,
        sources::get,
        &[get("{name=organizations/*/sources/*}")],
    ),
    scc(
        "CreateSource",
        "Source",
        "securitycenter.sources.update",
        Role::Editor,
        sources::create,
        &[post(
            "{parent=organizations/*}/sources",
            Body::Field("source"),
        )],
    ),
    scc(
        "UpdateSource",
        "Source",
        "securitycenter.sources.update",
        Role::Editor,
        sources::update,
        &[patch("{source.name=organizations/*/sources/*}", "source")],
    ),
    Method {
        request_package: IAM,
        response: (IAM, "Policy"),
        ..scc(
            "GetIamPolicy",
            "",
            "securitycenter.sources.getIamPolicy",
            Role::Admin,
            iam::get_policy,
            &[post(
                "{resource=organizations/*/sources/*}:getIamPolicy",
                Body::All,
            )],
        )
    },
    Method {
        request_package: IAM,
        response: (IAM, "Policy"),
        ..scc(
            "SetIamPolicy",
            "",
            "securitycenter.sources.setIamPolicy",
            Role::Admin,
            iam::set_policy,
            &[post(
                "{resource=organizations/*/sources/*}:setIamPolicy",
                Body::All,
            )],
        )
    },
    Method {
        request_package: IAM,
        response: (IAM, "TestIamPermissionsResponse"),
        ..scc(
            "TestIamPermissions",
            "",
            "",
            Role::Viewer,
            iam::test_permissions,
            &[post(
                "{resource=organizations/*/sources/*}:testIamPermissions",
                Body::All,
            )],
        )
    },
    scc(
        "ListMuteConfigs",
        "ListMuteConfigsResponse",
        "securitycenter.muteconfigs.list",
        Role::Viewer,
        mute_configs::list,
        &[
            get("{parent=P}/muteConfigs"),
            get("{parent=P/locations/*}/muteConfigs"),
        ],
    ),
    scc(
        "GetMuteConfig",
        "MuteConfig",
        "securitycenter.muteconfigs.get",
        Role::Viewer,
        mute_configs::get,
        &[
            get("{name=P/muteConfigs/*}"),
            get("{name=P/locations/*/muteConfigs/*}"),
        ],
    ),
    scc(
        "CreateMuteConfig",
        "MuteConfig",
        "securitycenter.muteconfigs.create",
        Role::Editor,
        mute_configs::create,
        &[
            post("{parent=P}/muteConfigs", Body::Field("mute_config")),
            post(
                "{parent=P/locations/*}/muteConfigs",
                Body::Field("mute_config"),
            ),
        ],
    ),
    scc(
        "UpdateMuteConfig",
        "MuteConfig",
        "securitycenter.muteconfigs.update",
        Role::Editor,
        mute_configs::update,
        &[
            patch("{mute_config.name=P/muteConfigs/*}", "mute_config"),
            patch(
                "{mute_config.name=P/locations/*/muteConfigs/*}",
                "mute_config",
            ),
        ],
    ),
    Method {
        response: (PROTOBUF, "Empty"),
        ..scc(
            "DeleteMuteConfig",
            "",
            "securitycenter.muteconfigs.delete",
            Role::Editor,
            mute_configs::delete,
            &[
                delete("{name=P/muteConfigs/*}"),
                delete("{name=P/locations/*/muteConfigs/*}"),
            ],
        )
    },
    scc(
        "ListNotificationConfigs",
        "ListNotificationConfigsResponse",
        "securitycenter.notificationconfig.list",
        Role::Viewer,
        notification_configs::list,
        &[get("{parent=P/locations/*}/notificationConfigs")],
    ),
    scc(
        "GetNotificationConfig",
        "NotificationConfig",
        "securitycenter.notificationconfig.get",
        Role::Viewer,
        notification_configs::get,
        &[get("{name=P/locations/*/notificationConfigs/*}")],
    ),
    scc(
        "CreateNotificationConfig",
        "NotificationConfig",
        "securitycenter.notificationconfig.create",
        Role::Admin,
        notification_configs::create,
        &[post(
            "{parent=P/locations/*}/notificationConfigs",
            Body::Field("notification_config"),
        )],
    ),
    scc(
        "UpdateNotificationConfig",
        "NotificationConfig",
        "securitycenter.notificationconfig.update",
        Role::Admin,
        notification_configs::update,
        &[patch(
            "{notification_config.name=P/locations/*/notificationConfigs/*}",
            "notification_config",
        )],
    ),
    Method {
        response: (PROTOBUF, "Empty"),
        ..scc(
            "DeleteNotificationConfig",
            "",
            "securitycenter.notificationconfig.delete",
            Role::Admin,
            notification_configs::delete,
            &[delete("{name=P/locations/*/notificationConfigs/*}")],
        )
    },
    operation(
        "ListOperations",
        (LONGRUNNING, "ListOperationsResponse"),
        Role::Viewer,
        operations::list,
        &[get("{name=P/operations}")],
    ),
    operation(
        "GetOperation",
        (LONGRUNNING, "Operation"),
        Role::Viewer,
        operations::get,
        &[get("{name=P/operations/*}")],
    ),
    operation(
        "CancelOperation",
        (PROTOBUF, "Empty"),
        Role::Editor,
        operations::cancel,
        &[post("{name=P/operations/*}:cancel", Body::All)],
    ),
    operation(
        "DeleteOperation",
        (PROTOBUF, "Empty"),
        Role::Editor,
        operations::delete,
        &[delete("{name=P/operations/*}")],
    ),
];

const fn operation(
    name: &'static str,
    response: (&'static str, &'static str),
    role: Role,
    handler: Handler,
    http: &'static [Http],
) -> Method {
    Method {
        service: OPERATIONS,
        name,
        request_package: LONGRUNNING,
        response,
        permission: "",
        role,
        http,
        handler,
    }
}
