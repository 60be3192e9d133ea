//! What clients may write: Events, with the rules the API server holds them to.
//!
//! Must not know: HTTP.

use http::Method;
use serde_json::Value;

use super::object::merge;
use super::refusal::{Problem, Refusal};
use super::request::Request;
use super::resource::Resource;
use super::store::Store;

/// The longest `note`, in bytes.
const NOTE_LIMIT: usize = 1024;
/// The longest `action`, `reason` and `reportingInstance`, in bytes.
const WORD_LIMIT: usize = 128;
/// What an update of an Event may change besides its metadata.
const MUTABLE: [&str; 2] = ["metadata", "series"];

/// Carries out a POST or PATCH; returns the HTTP status and the object as stored.
pub(super) fn write(
    store: &Store,
    resource: Resource,
    request: &Request,
    content_type: &str,
    body: &[u8],
) -> Result<(u16, Value), Refusal> {
    let (Resource::Events, Some(namespace)) = (resource, request.namespace.as_deref()) else {
        return Err(Refusal::method_not_allowed());
    };
    match (&request.method, request.name.as_deref()) {
        (&Method::POST, None) => create(store, namespace, decode(body)?).map(|object| (201, object)),
        (&Method::PATCH, Some(name)) => {
            if content_type != "application/merge-patch+json" {
                return Err(Refusal::unsupported_media_type(content_type));
            }
            patch(store, namespace, name, &decode(body)?).map(|object| (200, object))
        }
        _ => Err(Refusal::method_not_allowed()),
    }
}

fn decode(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("the object provided is unrecognized: {error}")))
}

fn create(store: &Store, namespace: &str, mut event: Value) -> Result<Value, Refusal> {
    let resource = Resource::Events;
    if Resource::of(&event) != Some(resource) {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({}, Kind={}) does not match the expected API version ({}, Kind={})",
            event["apiVersion"].as_str().unwrap_or_default(),
            event["kind"].as_str().unwrap_or_default(),
            resource.api_version(),
            resource.kind(),
        )));
    }
    let metadata = &mut event["metadata"];
    match metadata["namespace"].as_str() {
        None => metadata["namespace"] = namespace.into(),
        Some(own) if own == namespace => {}
        Some(_) => {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    if metadata["name"].is_null()
        && let Some(prefix) = metadata["generateName"].as_str()
    {
        let suffix = rand::random::<u32>() & 0xf_ffff;
        metadata["name"] = format!("{prefix}{suffix:05x}").into();
    }
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    let mut problems = problems(&event);
    if name.is_empty() {
        problems.insert(0, Problem::required("metadata.name"));
    }
    if event["eventTime"].is_null() {
        problems.push(Problem::required("eventTime"));
    }
    check(&name, &problems)?;
    if store.get(resource, Some(namespace), &name).is_some() {
        return Err(Refusal::already_exists(resource, &name));
    }
    Ok(store.apply(event))
}

fn patch(store: &Store, namespace: &str, name: &str, patch: &Value) -> Result<Value, Refusal> {
    let resource = Resource::Events;
    let missing = || Refusal::not_found(resource, name);
    let old = store.get(resource, Some(namespace), name).ok_or_else(missing)?;
    let mut new = old.clone();
    merge(&mut new, patch);
    let mut problems = problems(&new);
    for (field, _) in new.as_object().into_iter().flatten() {
        if !MUTABLE.contains(&field.as_str()) && new[field] != old[field] {
            problems.push(Problem::invalid(field, "", "field is immutable"));
        }
    }
    check(name, &problems)?;
    store
        .patch(resource, Some(namespace), name, patch)
        .ok_or_else(missing)
}

fn check(name: &str, problems: &[Problem]) -> Result<(), Refusal> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid("events.k8s.io", "Event", name, problems))
    }
}

/// What is wrong with an Event of events.k8s.io/v1.
fn problems(event: &Value) -> Vec<Problem> {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let mut problems = Vec::new();
    let regarding = event["regarding"]["namespace"].as_str().unwrap_or_default();
    let own = event["metadata"]["namespace"].as_str().unwrap_or_default();
    if regarding.is_empty() && !["default", "kube-system"].contains(&own) {
        problems.push(Problem::invalid(
            "involvedObject.namespace",
            regarding,
            "does not match event.namespace",
        ));
    }
    for field in ["reportingController", "reportingInstance", "action", "reason"] {
        if text(field).is_empty() {
            problems.push(Problem::required(field));
        }
    }
    for (field, limit) in [
        ("reportingInstance", WORD_LIMIT),
        ("action", WORD_LIMIT),
        ("reason", WORD_LIMIT),
        ("note", NOTE_LIMIT),
    ] {
        if text(field).len() > limit {
            // The server knows the note by its name in core/v1.
            let known = if field == "note" { "message" } else { field };
            problems.push(Problem::invalid(
                known,
                "",
                &format!("can have at most {limit} characters"),
            ));
        }
    }
    if !["Normal", "Warning"].contains(&text("type")) {
        problems.push(Problem::invalid(
            "type",
            "",
            &format!("has invalid value: {}", text("type")),
        ));
    }
    if let Some(series) = event["series"].as_object() {
        if series
            .get("count")
            .and_then(Value::as_u64)
            .is_none_or(|count| count < 2)
        {
            problems.push(Problem::invalid("series.count", "", "should be at least 2"));
        }
        if series.get("lastObservedTime").is_none_or(Value::is_null) {
            problems.push(Problem::required("series.lastObservedTime"));
        }
    }
    problems
}
