//! The form of an event in the API.
//!
//! Owns: names, lengths, fields, so that the API server's validation has nothing to refuse. Must not know: whether it is sent.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use crate::model::ObjectRef;
use crate::source::events::ObjectEvent;

/// Who reports.
const CONTROLLER: &str = "xvip";
/// What was being done.
const ACTION: &str = "Balance";
/// The API's limits, in bytes.
const NOTE: usize = 1024;
const INSTANCE: usize = 128;
const NAME: usize = 253;
/// Where events about objects without a namespace live.
const DEFAULT_NAMESPACE: &str = "default";

/// The namespace of the event about an object.
pub(super) fn namespace(object: &ObjectRef) -> &str {
    if object.namespace.is_empty() {
        DEFAULT_NAMESPACE
    } else {
        &object.namespace
    }
}

/// The event's name: made from what it says, so that it is the same on all nodes. (The hash may differ between versions of the
/// agent, which is one event more.)
pub(super) fn name(event: &ObjectEvent) -> String {
    let mut hasher = DefaultHasher::new();
    let ObjectEvent {
        object,
        uid,
        reason,
        note,
    } = event;
    (object, uid, reason.as_str(), note).hash(&mut hasher);
    let hash = format!(".{:016x}", hasher.finish());
    let object = cut(&object.name, NAME - hash.len()).trim_end_matches(['.', '-']);
    format!("{object}{hash}")
}

/// The event.
pub(super) fn event(event: &ObjectEvent, node: &str, now: Timestamp) -> Event {
    let object = &event.object;
    Event {
        metadata: ObjectMeta {
            namespace: Some(namespace(object).to_owned()),
            name: Some(name(event)),
            ..ObjectMeta::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(event.reason.as_str().to_owned()),
        note: Some(cut(&event.note, NOTE).to_owned()),
        action: Some(ACTION.to_owned()),
        event_time: Some(MicroTime(now)),
        regarding: Some(ObjectReference {
            api_version: Some(api_version(&object.kind).to_owned()),
            kind: Some(object.kind.clone()),
            namespace: some(&object.namespace),
            name: some(&object.name),
            uid: some(&event.uid),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(node, INSTANCE).to_owned()),
        ..Event::default()
    }
}

/// The patch that tells of an event's repeats.
pub(super) fn repeat(count: i32, now: Timestamp) -> serde_json::Value {
    let series = EventSeries {
        count,
        last_observed_time: MicroTime(now),
    };
    serde_json::json!({ "series": series })
}

fn api_version(kind: &str) -> &'static str {
    match kind {
        "EndpointSlice" => "discovery.k8s.io/v1",
        _ => "v1",
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// As much of a text as fits, whole characters only.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::events::Reason;

    fn about(kind: &str, namespace: &str, name: &str, note: &str) -> ObjectEvent {
        ObjectEvent {
            object: ObjectRef::new(kind, namespace, name),
            uid: "4f1c".to_owned(),
            reason: Reason::PartIgnored,
            note: note.to_owned(),
        }
    }

    #[test]
    fn an_event_has_what_the_api_demands() {
        let about = about("Service", "shop", "web", "spec.externalIPs[0]: ignored");
        let now: Timestamp = "2026-01-02T03:04:05.000006Z".parse().unwrap();
        let json = serde_json::to_value(event(&about, "node-1", now)).unwrap();
        let expected = serde_json::json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "namespace": "shop", "name": name(&about) },
            "type": "Warning",
            "reason": "PartIgnored",
            "note": "spec.externalIPs[0]: ignored",
            "action": "Balance",
            "eventTime": "2026-01-02T03:04:05.000006Z",
            "regarding": { "apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web", "uid": "4f1c" },
            "reportingController": "xvip",
            "reportingInstance": "node-1",
        });
        assert_eq!(json, expected);
        let series = repeat(3, now);
        assert_eq!(
            series,
            serde_json::json!({ "series": { "count": 3, "lastObservedTime": "2026-01-02T03:04:05.000006Z" } })
        );
    }

    #[test]
    fn a_node_has_no_namespace_and_its_events_are_in_the_default_one() {
        let event = event(&about("Node", "", "node-1", "x"), "node-1", Timestamp::UNIX_EPOCH);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.regarding.unwrap().namespace, None);
    }

    #[test]
    fn a_slice_is_of_another_group() {
        let event = event(
            &about("EndpointSlice", "shop", "web-1", "x"),
            "node-1",
            Timestamp::UNIX_EPOCH,
        );
        let version = event.regarding.unwrap().api_version;
        assert_eq!(version.as_deref(), Some("discovery.k8s.io/v1"));
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let note = format!("{}é", "x".repeat(1023));
        let node = "n".repeat(200);
        let event = event(
            &about("Service", "shop", "web", &note),
            &node,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(event.note.unwrap().len(), 1023);
        assert_eq!(event.reporting_instance.unwrap().len(), 128);
    }

    #[test]
    fn the_longest_name_of_a_slice_still_makes_a_name() {
        let long = format!("{}.{}", "a".repeat(235), "b".repeat(17));
        let name = name(&about("EndpointSlice", "shop", &long, "x"));
        let (object, hash) = name.split_once('.').unwrap();
        assert_eq!((object.len(), hash.len()), (235, 16));
    }

    #[test]
    fn names_differ_where_events_do_and_nowhere_else() {
        let events = [
            about("Service", "shop", "web", "a"),
            about("Service", "shop", "web", "b"),
            about("EndpointSlice", "shop", "web", "a"),
            ObjectEvent {
                uid: "another".to_owned(),
                ..about("Service", "shop", "web", "a")
            },
            ObjectEvent {
                reason: Reason::Refused,
                ..about("Service", "shop", "web", "a")
            },
        ];
        let names: std::collections::BTreeSet<String> = events.iter().map(name).collect();
        assert_eq!(names.len(), events.len());
        assert_eq!(name(&events[0]), name(&about("Service", "shop", "web", "a")));
    }
}
