//! Events that clients write are kept, and held to the API server's rules.

use lab::apiserver::{ApiServer, Resource};
use serde_json::{Value, json};

use crate::client::send;

fn event() -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "web.1", "namespace": "t"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "xvip", "reportingInstance": "xvip-node0",
        "action": "Refuse", "reason": "Conflict", "note": "why", "type": "Warning",
        "regarding": {"kind": "Service", "namespace": "t", "name": "web"},
    })
}

fn post(server: &ApiServer, event: &Value) -> (u16, Value) {
    let line = "POST /apis/events.k8s.io/v1/namespaces/t/events";
    send(
        server.address(),
        line,
        &[("Content-Type", "application/json")],
        &event.to_string(),
    )
    .unwrap()
    .json()
}

fn patch(server: &ApiServer, name: &str, content_type: &str, patch: &Value) -> (u16, Value) {
    let line = format!("PATCH /apis/events.k8s.io/v1/namespaces/t/events/{name}");
    send(
        server.address(),
        &line,
        &[("Content-Type", content_type)],
        &patch.to_string(),
    )
    .unwrap()
    .json()
}

#[test]
fn an_event_is_created_and_its_series_patched() {
    let server = ApiServer::start().unwrap();
    let (status, created) = post(&server, &event());
    assert_eq!(status, 201, "{created}");
    assert!(created["metadata"]["uid"].is_string());

    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}});
    let (status, patched) = patch(&server, "web.1", "application/merge-patch+json", &series);
    assert_eq!((status, &patched["series"]["count"]), (200, &json!(2)));
    let [kept] = server.store().list(Resource::Events).try_into().unwrap();
    assert_eq!(kept, patched);
    let verbs: Vec<_> = server
        .requests()
        .iter()
        .map(|seen| (seen.verb, seen.api_group.clone(), seen.resource.clone()))
        .collect();
    let of_events = |verb| (verb, "events.k8s.io".to_owned(), "events".to_owned());
    assert_eq!(verbs, [of_events("create"), of_events("patch")]);
}

#[test]
fn a_name_is_made_where_only_its_beginning_is_given() {
    let server = ApiServer::start().unwrap();
    let mut nameless = event();
    nameless["metadata"] = json!({"generateName": "web."});
    let (status, created) = post(&server, &nameless);
    assert_eq!(status, 201, "{created}");
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web.") && name.len() == 9, "{name}");
}

#[test]
fn events_that_break_the_rules_are_refused() {
    let server = ApiServer::start().unwrap();
    for (field, value, status, why) in [
        ("/action", json!(""), 422, "action: Required value"),
        (
            "/reportingController",
            json!(null),
            422,
            "reportingController: Required value",
        ),
        ("/eventTime", json!(null), 422, "eventTime: Required value"),
        ("/type", json!("Error"), 422, "has invalid value: Error"),
        (
            "/note",
            json!("x".repeat(1025)),
            422,
            "message: Invalid value: \"\": can have at most 1024 characters",
        ),
        ("/regarding", json!({}), 422, "does not match event.namespace"),
        (
            "/series",
            json!({"count": 1}),
            422,
            "series.lastObservedTime: Required value",
        ),
        (
            "/metadata/namespace",
            json!("u"),
            400,
            "does not match the namespace sent on the request",
        ),
        (
            "/kind",
            json!("Service"),
            400,
            "does not match the expected API version",
        ),
    ] {
        let mut broken = event();
        if let Some(place) = broken.pointer_mut(field) {
            *place = value;
        } else {
            broken[&field[1..]] = value;
        }
        let (refused, said) = post(&server, &broken);
        assert_eq!(refused, status, "{field}: {said}");
        assert!(said["message"].as_str().unwrap().contains(why), "{field}: {said}");
    }
    assert_eq!(server.store().list(Resource::Events), [] as [Value; 0]);
}

#[test]
fn what_is_there_and_what_is_not_are_told_apart() {
    let server = ApiServer::start().unwrap();
    post(&server, &event());
    let (status, said) = post(&server, &event());
    assert_eq!((status, said["reason"].as_str()), (409, Some("AlreadyExists")));
    let merge = "application/merge-patch+json";
    let (status, said) = patch(&server, "web.2", merge, &json!({}));
    assert_eq!(
        (status, said["message"].as_str()),
        (404, Some("events.events.k8s.io \"web.2\" not found"))
    );
    let (status, said) = patch(&server, "web.1", merge, &json!({"reason": "Other"}));
    assert_eq!(status, 422);
    assert!(
        said["message"].as_str().unwrap().contains("field is immutable"),
        "{said}"
    );
    let (status, _) = patch(&server, "web.1", "application/json-patch+json", &json!([]));
    assert_eq!(status, 415);
}
