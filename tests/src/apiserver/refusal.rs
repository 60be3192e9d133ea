//! What the API server answers when it will not: `metav1.Status` in its words.
//!
//! Must not know: when to refuse.

use serde_json::{Value, json};

use super::resource::Resource;

/// A refusal: the HTTP status and the body that says why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The `Status` object; `None` where the server answers in plain text.
    pub status: Option<Value>,
}

impl Refusal {
    fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason, "code": code,
        });
        Self {
            code,
            status: Some(status),
        }
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        if let Some(status) = &mut self.status {
            status[field] = value;
        }
        self
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// No such path.
    pub(super) fn no_page() -> Self {
        Self {
            code: 404,
            status: None,
        }
    }

    pub(super) fn not_found(resource: Resource, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} \"{name}\" not found", resource.qualified()),
        )
        .with(
            "details",
            object_details(resource.group(), resource.plural(), name),
        )
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with("details", json!({}))
    }

    pub(super) fn already_exists(resource: Resource, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", resource.qualified()),
        )
        .with(
            "details",
            object_details(resource.group(), resource.plural(), name),
        )
    }

    /// History that is asked for is gone; in a watch this is the object of an `ERROR` event.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// As [`Refusal::expired`], with a token that goes on regardless.
    pub(super) fn expired_page(token: &str) -> Self {
        Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
             results. Continuing with the provided token results in an inconsistent list - objects that were created, \
             modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        )
        .with("metadata", json!({"continue": token}))
    }

    pub(super) fn unsupported_media_type(content_type: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/merge-patch+json (got {content_type:?})"
            ),
        )
    }

    /// An object, or options, with fields that are wrong.
    pub(super) fn invalid(group: &str, kind: &str, name: &str, problems: &[Problem]) -> Self {
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let said: Vec<_> = problems
            .iter()
            .map(|problem| format!("{}: {}", problem.field, problem.message))
            .collect();
        let said = match said.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let mut details = object_details(group, kind, name);
        details["causes"] = problems
            .iter()
            .map(
                |problem| json!({"reason": problem.reason, "message": problem.message, "field": problem.field}),
            )
            .collect();
        Self::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {said}")).with("details", details)
    }

    /// The version asked for is not there yet.
    pub(super) fn too_large_resource_version(asked: u64, current: u64) -> Self {
        Self::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
        )
        .with(
            "details",
            json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            }),
        )
    }

    /// Seconds for the `Retry-After` header, which repeats what the body says.
    pub(super) fn retry_after(&self) -> Option<u64> {
        self.status.as_ref()?["details"]["retryAfterSeconds"].as_u64()
    }
}

/// What is wrong with a field, as `field.Error` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub field: String,
    pub reason: &'static str,
    pub message: String,
}

impl Problem {
    pub(super) fn forbidden(field: &str, why: &str) -> Self {
        Self {
            field: field.to_owned(),
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {why}"),
        }
    }

    pub(super) fn required(field: &str) -> Self {
        Self {
            field: field.to_owned(),
            reason: "FieldValueRequired",
            message: "Required value".to_owned(),
        }
    }

    pub(super) fn invalid(field: &str, value: &str, why: &str) -> Self {
        Self {
            field: field.to_owned(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value:?}: {why}"),
        }
    }

    pub(super) fn not_supported(field: &str, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
        Self {
            field: field.to_owned(),
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: {value:?}: supported values: {}",
                supported.join(", ")
            ),
        }
    }
}

fn object_details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = json!({"kind": kind});
    for (field, value) in [("group", group), ("name", name)] {
        if !value.is_empty() {
            details[field] = value.into();
        }
    }
    details
}
