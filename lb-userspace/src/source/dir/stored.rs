//! The objects of a directory as an API server would store them.
//!
//! Owns: which objects those are; `Endpoints` are joined by the slices that mirror them. Must not know: files, allocation.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;

use super::mirror;
use super::world::{InForce, Value, mirrored_for};
use crate::model::ObjectRef;

/// What a directory puts into a cluster: defaults filled in, addresses and ports allocated, each kind in the order of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Services, also those that are none of the proxy's business.
    pub services: Vec<v1::Service>,
    /// EndpointSlices, with those of mirrored `Endpoints`.
    pub endpoint_slices: Vec<discovery::EndpointSlice>,
    /// Nodes.
    pub nodes: Vec<v1::Node>,
}

impl Stored {
    pub(super) fn of(objects: &BTreeMap<ObjectRef, InForce>) -> Self {
        let mut stored = Self::default();
        for in_force in objects.values() {
            match &in_force.value {
                Value::Service { object, .. } => stored.services.push((**object).clone()),
                Value::EndpointSlice { object, .. } => stored.endpoint_slices.push((**object).clone()),
                Value::Endpoints(object) => {
                    if mirrored_for(object, objects).is_ok() {
                        stored.endpoint_slices.extend(mirror::slices(object));
                    }
                }
                Value::Node { object, .. } => stored.nodes.push((**object).clone()),
            }
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::allocate::{Allocations, Allocator};
    use super::super::catalog::Catalog;
    use super::super::decode;
    use super::super::ranges::Ranges;
    use crate::model::Update;
    use crate::model::parse::{self, Parsed};

    const MANIFESTS: &str = "---
apiVersion: v1
kind: Node
metadata: {name: here}
status: {addresses: [{type: InternalIP, address: 192.0.2.10}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, ipFamilyPolicy: PreferDualStack, sessionAffinity: ClientIP, selector: {a: b}, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.0.2], nodeName: here}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets: [{addresses: [{ip: 192.0.2.42}, {ip: '2001:db8::42'}], ports: [{port: 9376}]}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: db.example.org}
---
apiVersion: v1
kind: Service
metadata: {name: wrong}
spec: {ports: []}
";

    fn value<T>(parsed: Result<Parsed<T>, crate::model::Rejection>) -> Option<T> {
        match parsed.unwrap() {
            Parsed::Accepted { value, .. } => Some(value),
            Parsed::Skipped(_) => None,
        }
    }

    #[test]
    fn what_is_stored_reads_as_what_was_delivered() {
        let files = [(PathBuf::from("a.yaml"), Ok(decode::file(MANIFESTS)))].into();
        let mut allocator = Allocator::new(Ranges::default(), Allocations::new());
        let mut catalog = Catalog::default();
        let (updates, report) = catalog.reload(&files, &mut allocator, 1_000);
        assert_eq!(report.refused(), 1, "{report}");
        let stored = catalog.stored();

        let nodes = stored.nodes.iter().filter_map(|node| value(parse::node(node)));
        let slices = stored.endpoint_slices.iter();
        let slices = slices.filter_map(|slice| value(parse::endpoint_slice(slice)));
        let services = stored.services.iter();
        let services = services.filter_map(|service| value(parse::service(service)));
        let read: Vec<_> = nodes
            .map(Update::NodeApplied)
            .chain(slices.map(Update::SliceApplied))
            .chain(services.map(Update::ServiceApplied))
            .collect();
        let sorted = |updates: &[Update]| {
            let mut lines: Vec<_> = updates.iter().map(|update| format!("{update:?}")).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&read), sorted(&updates));

        let names = stored
            .services
            .iter()
            .map(|service| service.metadata.name.as_deref());
        assert_eq!(
            names.collect::<Vec<_>>(),
            [Some("db"), Some("elsewhere"), Some("web")]
        );
    }
}
