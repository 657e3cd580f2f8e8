//! iam

use serde_json::Value;

use super::Service;
use crate::auth::Caller;
use crate::status::Status;

pub(crate) fn get_policy(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn set_policy(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn test_permissions(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}
