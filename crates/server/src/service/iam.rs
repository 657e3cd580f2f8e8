//! Who may do what, as IAM tells it. Access is given by tokens; IAM's methods show that, and cannot change it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Service, request, sources};
use crate::auth::{self, Caller, Role};
use crate::methods::METHODS;
use crate::status::{Code, Status};

#[derive(Default, Deserialize)]
#[serde(default)]
struct OnResource {
    resource: String,
    permissions: Vec<String>,
}

/// `GetIamPolicy`: every valid token as a member of the role it has.
pub(crate) fn get_policy(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let get: OnResource = request(json)?;
    sources::find(service, &get.resource)?;
    let tokens = auth::list_tokens(service.store()).map_err(|error| Status::internal(&error))?;
    let bindings: Vec<Value> = Role::ALL
        .into_iter()
        .filter_map(|role| {
            let members: Vec<String> = tokens
                .iter()
                .filter(|token| token.role == role && token.revoked.is_none())
                .map(|token| format!("principal://hullwatch/tokens/{}", token.name))
                .collect();
            (!members.is_empty()).then(|| json!({"role": role.scc(), "members": members}))
        })
        .collect();
    Ok(json!({"version": 1, "bindings": bindings}))
}

/// `SetIamPolicy`: a policy that is kept but not enforced would be a trap, so there is none.
pub(crate) fn set_policy(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let set: OnResource = request(json)?;
    sources::find(service, &set.resource)?;
    Err(Status::new(
        Code::FailedPrecondition,
        "Access is given by tokens, for all sources: use `hullwatch token create` and `hullwatch token revoke`.",
    ))
}

/// `TestIamPermissions`: those that the caller has.
pub(crate) fn test_permissions(
    service: &Service,
    caller: &Caller,
    json: Value,
) -> Result<Value, Status> {
    let test: OnResource = request(json)?;
    sources::find(service, &test.resource)?;
    if let Some(wild) = test.permissions.iter().find(|name| name.contains('*')) {
        return Err(Status::field(
            "permissions",
            format!("permissions: {wild:?} must not have wildcards."),
        ));
    }
    let allowed: Vec<&String> = test
        .permissions
        .iter()
        .filter(|wanted| {
            METHODS
                .iter()
                .any(|method| method.permission == wanted.as_str() && method.role <= caller.role)
        })
        .collect();
    Ok(json!({"permissions": allowed}))
}
