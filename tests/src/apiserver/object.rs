//! Objects as JSON: what identifies them, and what the API server does to their metadata.
//!
//! Must not know: where they are kept.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use super::resource::Resource;

/// An object's `resourceVersion`.
pub(super) fn version_of(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// Sets an object's `resourceVersion`.
pub(super) fn set_version(object: &mut Value, version: u64) {
    object["metadata"]["resourceVersion"] = version.to_string().into();
}

/// A JSON merge patch (RFC 7386).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (field, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|target| target.remove(field));
        } else {
            merge(&mut target[field.as_str()], value);
        }
    }
}

/// The resource and key an object is stored under.
///
/// # Panics
/// When it has none.
pub(super) fn identity(object: &Value) -> (Resource, String) {
    let resource =
        Resource::of(object).unwrap_or_else(|| panic!("an object of no resource that is served: {object}"));
    let metadata = &object["metadata"];
    let name = metadata["name"]
        .as_str()
        .unwrap_or_else(|| panic!("an object without a name: {object}"));
    let namespace = metadata["namespace"].as_str();
    assert!(
        namespace.is_some() == resource.namespaced(),
        "a namespace too many or too few: {object}"
    );
    (resource, resource.key(namespace, name))
}

/// Gives an object what the server assigns on a write over `old`: all but a new version. A new object that says when it was
/// created is believed, which the API server does not do: tests of who is older need no years.
pub(super) fn assign(object: &mut Value, old: Option<&Value>, resource: Resource) {
    let kept = |field: &str| old.map(|old| old["metadata"][field].clone());
    let uid = kept("uid").unwrap_or_else(|| random_uid().into());
    let given = object["metadata"]["creationTimestamp"].as_str().map(Value::from);
    let created = kept("creationTimestamp")
        .or(given)
        .unwrap_or_else(|| now().into());
    let version = kept("resourceVersion").unwrap_or_default();
    let generation = (resource == Resource::EndpointSlices).then(|| match old {
        None => 1,
        Some(old) => {
            old["metadata"]["generation"].as_u64().unwrap_or(1) + u64::from(slice_differs(old, object))
        }
    });
    let metadata = &mut object["metadata"];
    metadata["uid"] = uid;
    metadata["creationTimestamp"] = created;
    metadata["resourceVersion"] = version;
    if let Some(generation) = generation {
        metadata["generation"] = generation.into();
    }
}

/// Whether a slice's generation moves: with its content and its labels, not with other metadata.
fn slice_differs(old: &Value, new: &Value) -> bool {
    ["addressType", "endpoints", "ports"]
        .iter()
        .any(|field| old[field] != new[field])
        || old["metadata"]["labels"] != new["metadata"]["labels"]
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A version 4 UUID.
fn random_uid() -> String {
    let mut bits: u128 = rand::random();
    bits = (bits & !(0xf << 76)) | (0x4 << 76);
    bits = (bits & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
