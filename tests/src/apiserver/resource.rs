//! The resources the double serves: a table of what Kubernetes calls them.
//!
//! Must not know: requests, the store.

use serde_json::{Value, json};

/// A resource of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// core/v1 Services.
    Services,
    /// core/v1 Nodes, the only ones without a namespace.
    Nodes,
    /// discovery.k8s.io/v1 EndpointSlices.
    EndpointSlices,
    /// events.k8s.io/v1 Events: the only ones that clients may write.
    Events,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Services, Self::Nodes, Self::EndpointSlices, Self::Events];

    /// The API group; empty for core.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::Services | Self::Nodes => "",
            Self::EndpointSlices => "discovery.k8s.io",
            Self::Events => "events.k8s.io",
        }
    }

    /// `apiVersion` of its objects.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Services | Self::Nodes => "v1",
            Self::EndpointSlices => "discovery.k8s.io/v1",
            Self::Events => "events.k8s.io/v1",
        }
    }

    /// The name in paths and roles.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Nodes => "nodes",
            Self::EndpointSlices => "endpointslices",
            Self::Events => "events",
        }
    }

    /// `kind` of its objects.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Services => "Service",
            Self::Nodes => "Node",
            Self::EndpointSlices => "EndpointSlice",
            Self::Events => "Event",
        }
    }

    /// Whether its objects live in namespaces.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        !matches!(self, Self::Nodes)
    }

    /// The resource an object belongs to, by its `apiVersion` and `kind`.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| {
            object["apiVersion"] == resource.api_version() && object["kind"] == resource.kind()
        })
    }

    /// The resource of a path's group, version and plural.
    pub(super) fn named(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|resource| version == "v1" && resource.group() == group && resource.plural() == plural)
    }

    /// The name errors use: `endpointslices.discovery.k8s.io`.
    pub(super) fn qualified(self) -> String {
        match self.group() {
            "" => self.plural().to_owned(),
            group => format!("{}.{group}", self.plural()),
        }
    }

    /// Where an object is stored below its resource. Lists are in the order of these keys, as etcd has it.
    pub(super) fn key(self, namespace: Option<&str>, name: &str) -> String {
        match namespace {
            Some(namespace) if self.namespaced() => format!("/{namespace}/{name}"),
            _ => format!("/{name}"),
        }
    }

    /// Fields that selectors may name besides `metadata.name` and `metadata.namespace`.
    pub(super) const fn selectable_fields(self) -> &'static [&'static str] {
        match self {
            Self::Services => &["spec.clusterIP", "spec.type"],
            Self::Nodes => &["spec.unschedulable"],
            Self::EndpointSlices => &[],
            Self::Events => &["reason", "type"],
        }
    }

    /// An object of this kind with nothing in it, as bookmarks carry it.
    pub(super) fn empty_object(self) -> Value {
        let mut object = match self {
            Self::Services => json!({"spec": {}, "status": {"loadBalancer": {}}}),
            Self::Nodes => json!({"spec": {}, "status": {
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
                "nodeInfo": {
                    "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "",
                    "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "",
                    "operatingSystem": "", "architecture": "",
                },
            }}),
            Self::EndpointSlices => json!({"addressType": "", "endpoints": null, "ports": null}),
            Self::Events => json!({"eventTime": null, "regarding": {}, "deprecatedSource": {}}),
        };
        object["kind"] = self.kind().into();
        object["apiVersion"] = self.api_version().into();
        object
    }
}
