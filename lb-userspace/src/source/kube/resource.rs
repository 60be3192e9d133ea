//! What is watched: the three kinds of objects, where they are asked for, and how one becomes a model's type.
//!
//! Owns: paths, selectors (S1, S2, S10), decoding an object. Must not know: how and when objects come.

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::model::parse::{self, Parsed};
use crate::model::{ObjectRef, Problem, Rejection, ServiceKey, SliceKey, Update};

/// Names an object of a resource; Nodes have no namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is used, but for the parts the warnings name.
    Accepted {
        update: Box<Update>,
        warnings: Vec<Problem>,
    },
    /// It is none of the proxy's business.
    Skipped,
    /// It cannot be used.
    Refused(Vec<Problem>),
}

/// Where an object's text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrapping {
    /// It is the whole text.
    Bare,
    /// It is the field `object` of an event.
    Event,
}

/// Which of the resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    Services,
    EndpointSlices,
    OwnNode,
}

/// A collection of the API, and the part of it that is ours.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) which: Which,
    /// As in the URL and in RBAC rules.
    pub(super) plural: String,
    /// The API group, empty for the core one.
    pub(super) group: String,
    pub(super) path: String,
    pub(super) labels: Option<&'static str>,
    pub(super) fields: Option<String>,
    kind: &'static str,
    read: fn(&[u8], Wrapping) -> Reading,
    gone: fn(Key) -> Update,
}

impl Resource {
    /// The Services a proxy may serve (S1).
    pub(super) fn services() -> Self {
        Self {
            labels: Some("!service.kubernetes.io/service-proxy-name"),
            fields: Some("spec.clusterIP!=None".to_owned()),
            ..Self::new::<v1::Service>(
                Which::Services,
                "Service",
                |text, wrapping| read(text, wrapping, parse::service, Update::ServiceApplied),
                |key| Update::ServiceDeleted(ServiceKey::new(key.namespace, key.name)),
            )
        }
    }

    /// The EndpointSlices of Services that are not headless (S2).
    pub(super) fn endpoint_slices() -> Self {
        Self {
            labels: Some("!service.kubernetes.io/headless"),
            ..Self::new::<discovery::EndpointSlice>(
                Which::EndpointSlices,
                "EndpointSlice",
                |text, wrapping| read(text, wrapping, parse::endpoint_slice, Update::SliceApplied),
                |key| Update::SliceDeleted(SliceKey::new(key.namespace, key.name)),
            )
        }
    }

    /// The Node of this name (S10).
    pub(super) fn node(name: &str) -> Self {
        Self {
            fields: Some(format!("metadata.name={name}")),
            ..Self::new::<v1::Node>(
                Which::OwnNode,
                "Node",
                |text, wrapping| read(text, wrapping, parse::node, Update::NodeApplied),
                |key| Update::NodeDeleted(key.name),
            )
        }
    }

    fn new<K: kube::Resource<DynamicType = ()>>(
        which: Which,
        kind: &'static str,
        read: fn(&[u8], Wrapping) -> Reading,
        gone: fn(Key) -> Update,
    ) -> Self {
        Self {
            which,
            plural: K::plural(&()).into_owned(),
            group: K::group(&()).into_owned(),
            path: K::url_path(&(), None),
            labels: None,
            fields: None,
            kind,
            read,
            gone,
        }
    }

    /// Reads an element of a list.
    pub(super) fn read_item(&self, text: &[u8]) -> Reading {
        (self.read)(text, Wrapping::Bare)
    }

    /// Reads the object of an event.
    pub(super) fn read_event(&self, line: &[u8]) -> Reading {
        (self.read)(line, Wrapping::Event)
    }

    /// Tells that an object is gone.
    pub(super) fn gone(&self, key: Key) -> Update {
        (self.gone)(key)
    }

    /// How an object is called in messages.
    pub(super) fn object_ref(&self, key: &Key) -> ObjectRef {
        ObjectRef::new(self.kind, &key.namespace, &key.name)
    }

    /// The key of an object of this namespace and name.
    pub(super) fn key(&self, namespace: String, name: String) -> Key {
        let namespace = match self.which {
            Which::OwnNode => String::new(),
            // As `model::parse` reads it.
            _ if namespace.is_empty() => "default".to_owned(),
            _ => namespace,
        };
        Key { namespace, name }
    }
}

fn read<Object: DeserializeOwned, Value>(
    text: &[u8],
    wrapping: Wrapping,
    parse: fn(&Object) -> Result<Parsed<Value>, Rejection>,
    update: fn(Value) -> Update,
) -> Reading {
    let object = match wrapping {
        Wrapping::Bare => decode(text),
        Wrapping::Event => decode(text).map(|Event { object }| object),
    };
    let object: Object = match object {
        Ok(object) => object,
        Err(problem) => return Reading::Refused(vec![problem]),
    };
    match parse(&object) {
        Ok(Parsed::Accepted { value, warnings }) => Reading::Accepted {
            update: Box::new(update(value)),
            warnings,
        },
        Ok(Parsed::Skipped(_)) => Reading::Skipped,
        Err(rejection) => Reading::Refused(rejection.problems),
    }
}

#[derive(Deserialize)]
struct Event<Object> {
    object: Object,
}

fn decode<Object: DeserializeOwned>(text: &[u8]) -> Result<Object, Problem> {
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let path = path.strip_prefix("object.").unwrap_or(&path);
        let path = if path == "." { "" } else { path };
        Problem::new(path, error.inner().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reading: Reading) -> String {
        match reading {
            Reading::Refused(problems) => problems[0].field.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_by_its_field() {
        let services = Resource::services();
        let object = r#"{"metadata":{"name":"web"},"spec":{"ports":[{"port":"http"}]}}"#;
        assert_eq!(
            refused(services.read_item(object.as_bytes())),
            "spec.ports[0].port"
        );
        let event = format!(r#"{{"type":"ADDED","object":{object}}}"#);
        assert_eq!(
            refused(services.read_event(event.as_bytes())),
            "spec.ports[0].port"
        );
    }

    #[test]
    fn each_resource_has_its_path_and_its_kind_of_key() {
        let of = |resource: &Resource| {
            (
                resource.path.clone(),
                resource.key(String::new(), "x".to_owned()).namespace,
            )
        };
        assert_eq!(
            of(&Resource::services()),
            ("/api/v1/services".to_owned(), "default".to_owned())
        );
        let slices = "/apis/discovery.k8s.io/v1/endpointslices".to_owned();
        assert_eq!(of(&Resource::endpoint_slices()), (slices, "default".to_owned()));
        assert_eq!(
            of(&Resource::node("n1")),
            ("/api/v1/nodes".to_owned(), String::new())
        );
    }
}
