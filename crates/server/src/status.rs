//! What a caller is told when a call fails: one canonical code and message for REST and gRPC alike.

use serde_json::{Value, json};

/// `google.rpc.Code`, the ones in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Took longer than the server allows.
    DeadlineExceeded,
    /// The request is wrong, whatever the state of the server.
    InvalidArgument,
    /// No such thing.
    NotFound,
    /// A thing of this name exists.
    AlreadyExists,
    /// Known caller, not allowed.
    PermissionDenied,
    /// Too many failed tries.
    ResourceExhausted,
    /// Not possible in the present state.
    FailedPrecondition,
    /// Somebody else changed it meanwhile.
    Aborted,
    /// Not offered.
    Unimplemented,
    /// A fault of ours.
    Internal,
    /// Unknown caller.
    Unauthenticated,
}

impl Code {
    /// Number in gRPC and name in JSON.
    fn names(self) -> (i32, &'static str) {
        match self {
            Self::InvalidArgument => (3, "INVALID_ARGUMENT"),
            Self::DeadlineExceeded => (4, "DEADLINE_EXCEEDED"),
            Self::NotFound => (5, "NOT_FOUND"),
            Self::AlreadyExists => (6, "ALREADY_EXISTS"),
            Self::PermissionDenied => (7, "PERMISSION_DENIED"),
            Self::ResourceExhausted => (8, "RESOURCE_EXHAUSTED"),
            Self::FailedPrecondition => (9, "FAILED_PRECONDITION"),
            Self::Aborted => (10, "ABORTED"),
            Self::Unimplemented => (12, "UNIMPLEMENTED"),
            Self::Internal => (13, "INTERNAL"),
            Self::Unauthenticated => (16, "UNAUTHENTICATED"),
        }
    }

    /// The number gRPC uses.
    pub fn number(self) -> i32 {
        self.names().0
    }

    /// The name JSON uses.
    pub fn name(self) -> &'static str {
        self.names().1
    }

    /// The HTTP status that goes with it (google/rpc/code.proto).
    pub fn http(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::ResourceExhausted => 429,
            Self::Internal => 500,
            Self::Unimplemented => 501,
            Self::DeadlineExceeded => 504,
        }
    }
}

/// Failure of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Status {
    /// What kind.
    pub code: Code,
    /// For the caller; tells what is wrong and what would be right.
    pub message: String,
    /// The field of the request that is wrong, as the request names it.
    pub field: Option<&'static str>,
}

impl Status {
    /// A failure with a message for the caller.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
        }
    }

    /// `INVALID_ARGUMENT`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// `INVALID_ARGUMENT` about one field of the request.
    pub fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::invalid(message)
        }
    }

    /// `NOT_FOUND` in Google's words.
    pub fn not_found(name: &str) -> Self {
        Self::new(
            Code::NotFound,
            format!("Requested entity was not found: {name}"),
        )
    }

    /// A fault of ours: the log has the cause, the caller a number to ask for.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        let request = crate::auth::random_hex::<8>();
        let mut causes = cause.to_string();
        let mut next = cause.source();
        while let Some(error) = next {
            causes.push_str(": ");
            causes.push_str(&error.to_string());
            next = error.source();
        }
        tracing::error!(request.id = %request, error = %causes, "request {request} failed: {causes}");
        Self::new(
            Code::Internal,
            format!("Internal error; the server's log has it as request {request}."),
        )
    }

    /// `google.rpc.Status` in ProtoJSON, with the fields at fault as `google.rpc.BadRequest`.
    pub(crate) fn to_value(&self) -> Value {
        let mut status = json!({"code": self.code.number(), "message": self.message});
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status
    }

    /// The body of a failed REST call: as `google.rpc.Status`, but with the HTTP status as code, and the code's name.
    pub(crate) fn to_rest(&self) -> Value {
        let mut error = json!({
            "code": self.code.http(),
            "message": self.message,
            "status": self.code.name(),
        });
        if let Some(details) = self.details() {
            error["details"] = details;
        }
        json!({"error": error})
    }

    fn details(&self) -> Option<Value> {
        let field = self.field?;
        Some(json!([{
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": self.message}],
        }]))
    }
}

impl From<store::Error> for Status {
    fn from(error: store::Error) -> Self {
        use store::Error;
        match &error {
            Error::Filter(_) => Self::field("filter", error.to_string()),
            Error::Invalid { what, .. } => Self::field(what, error.to_string()),
            Error::NotFound(name) => Self::not_found(name),
            Error::Exists(_) => Self::new(Code::AlreadyExists, error.to_string()),
            Error::TooSlow => Self::new(Code::DeadlineExceeded, error.to_string()),
            _ => Self::internal(&error),
        }
    }
}
