//! mute_configs

use serde_json::Value;

use super::Service;
use crate::auth::Caller;
use crate::status::Status;

pub(crate) fn list(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn get(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn create(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn update(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn delete(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}
