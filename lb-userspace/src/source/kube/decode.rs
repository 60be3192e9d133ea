//! The wire forms of watches and lists, as far as they are the same for every kind of object.
//!
//! Owns: an event's type, an object's identity, a list's metadata. Must not know: what is in an object.

use std::collections::BTreeMap;

use kube::core::Status;
use serde::{Deserialize, Deserializer};

/// What tells one version of an object from another; an object without a name has an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Identity {
    #[serde(deserialize_with = "text")]
    pub(super) namespace: String,
    #[serde(deserialize_with = "text")]
    pub(super) name: String,
    #[serde(deserialize_with = "text")]
    pub(super) uid: String,
    #[serde(deserialize_with = "text")]
    pub(super) resource_version: String,
}

/// An event of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// `ADDED` and `MODIFIED`, which a watcher that begins anew cannot tell apart.
    Applied(Identity),
    /// `DELETED`.
    Deleted(Identity),
    /// `BOOKMARK`: everything up to this version has been told.
    Bookmark {
        version: String,
        initial_events_end: bool,
    },
    /// `ERROR`: the watch is over.
    Error(Box<Status>),
}

/// The annotation of the bookmark that closes a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    event_type: String,
    object: Head,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: Identity,
}

#[derive(Deserialize)]
struct Of<Object> {
    object: Object,
}

#[derive(Deserialize)]
struct Mark {
    metadata: MarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MarkMetadata {
    resource_version: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// A list without its elements.
#[derive(Debug, Deserialize)]
struct ListHead {
    metadata: ListMetadata,
    /// Elements are objects and have been taken out; what is left is none.
    #[serde(default)]
    items: Option<Vec<serde::de::IgnoredAny>>,
}

/// What a list says about itself.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    /// The token for the next page; empty at the end.
    #[serde(default, rename = "continue")]
    pub(super) continue_token: String,
}

/// Reads a line of a watch, but not the object in it.
pub(super) fn event(line: &[u8]) -> Result<Event, serde_json::Error> {
    let Envelope { event_type, object } = serde_json::from_slice(line)?;
    let identity = object.metadata;
    let happened = matches!(event_type.as_str(), "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK");
    if happened && identity.resource_version.is_empty() {
        // A watch from no version would begin at some other.
        return Err(serde::de::Error::custom("an object without a resourceVersion"));
    }
    Ok(match event_type.as_str() {
        "ADDED" | "MODIFIED" => Event::Applied(identity),
        "DELETED" => Event::Deleted(identity),
        "BOOKMARK" => {
            let Of {
                object: Mark { metadata },
            } = serde_json::from_slice(line)?;
            let annotations = metadata.annotations.unwrap_or_default();
            Event::Bookmark {
                version: metadata.resource_version,
                initial_events_end: annotations
                    .get(INITIAL_EVENTS_END)
                    .is_some_and(|value| value == "true"),
            }
        }
        "ERROR" => Event::Error(serde_json::from_slice::<Of<_>>(line)?.object),
        other => {
            let words = format!("{other:?} is no type of event");
            return Err(serde::de::Error::custom(words));
        }
    })
}

/// Reads what tells an element of a list from others. An element that is no object of the API has no name.
pub(super) fn identity(item: &[u8]) -> Identity {
    serde_json::from_slice::<Head>(item).unwrap_or_default().metadata
}

/// Reads a list that its elements were taken out of.
pub(super) fn list_metadata(skeleton: &[u8]) -> Result<ListMetadata, serde_json::Error> {
    let head: ListHead = serde_json::from_slice(skeleton)?;
    match head.items {
        Some(items) if !items.is_empty() => {
            Err(serde::de::Error::custom("an element of the list is no object"))
        }
        _ if head.metadata.resource_version.is_empty() => {
            Err(serde::de::Error::custom("a list without a resourceVersion"))
        }
        _ => Ok(head.metadata),
    }
}

/// A text, or nothing where there is something else: an object whose name is unreadable should cost only itself.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Text(text) => text,
        Lenient::Other(_) => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let said = match event(line.as_bytes()) {
            Ok(event) => format!("{event:?}"),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{line}: {said}");
    }

    #[test]
    fn events_are_told_apart_without_reading_their_objects() {
        let object = r#"{"metadata":{"namespace":"n","name":"a","resourceVersion":"7"},"spec":5}"#;
        check(&format!(r#"{{"type":"ADDED","object":{object}}}"#), "Applied(");
        check(
            &format!(r#"{{"object":{object},"type":"MODIFIED"}}"#),
            r#"resource_version: "7""#,
        );
        check(&format!(r#"{{"type":"DELETED","object":{object}}}"#), "Deleted(");
        check(
            &format!(r#"{{"type":"RENAMED","object":{object}}}"#),
            "no type of event",
        );
        for event_type in ["ADDED", "DELETED", "BOOKMARK"] {
            let nowhere = r#"{"metadata":{"name":"a","resourceVersion":""}}"#;
            check(
                &format!(r#"{{"type":"{event_type}","object":{nowhere}}}"#),
                "without a resourceVersion",
            );
        }
        check(
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
            "initial_events_end: false",
        );
        check(
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "initial_events_end: true",
        );
        check(
            r#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"reason":"Expired","code":410}}"#,
            "code: 410",
        );
        check("<html>", "expected value");
        check(r#"{"kind":"Status"}"#, "missing field `type`");
    }

    #[test]
    fn a_name_of_the_wrong_type_is_no_name() {
        let found = identity(br#"{"metadata":{"name":5,"namespace":"n"}}"#);
        assert_eq!((found.name.as_str(), found.namespace.as_str()), ("", "n"));
        assert_eq!(identity(br#"{"metadata":[]}"#).name, "");
    }

    #[test]
    fn a_list_tells_its_version_and_whether_there_is_more() {
        let metadata =
            list_metadata(br#"{"items":null,"metadata":{"resourceVersion":"5","continue":"x"}}"#).unwrap();
        assert_eq!(
            (
                metadata.resource_version.as_str(),
                metadata.continue_token.as_str()
            ),
            ("5", "x")
        );
        assert!(list_metadata(br#"{"items":[1],"metadata":{"resourceVersion":"5"}}"#).is_err());
        assert!(list_metadata(br#"{"items":[],"metadata":{"resourceVersion":""}}"#).is_err());
        assert!(list_metadata(br#"{"kind":"Status"}"#).is_err());
    }
}
