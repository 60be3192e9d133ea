//! The endpoints a Service's health check counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{EndpointSlice, IpFamily, Protocol, Service};

use super::ThisNode;
use super::endpoints::endpoints;
use super::lists::is_local;

/// In each family the Service has: how many distinct addresses of ready endpoints there are on this node (S40), whichever of its
/// ports they serve. Terminating endpoints are not ready, whatever the fallback of S14 does with them.
#[must_use]
pub fn local_endpoints(
    service: &Service,
    slices: &[&EndpointSlice],
    node: &ThisNode,
) -> BTreeMap<IpFamily, usize> {
    let families = IpFamily::ALL.into_iter();
    families
        .filter(|family| service.cluster_ip(*family).is_some())
        .map(|family| (family, ready_addresses(slices, node, family).len()))
        .collect()
}

fn ready_addresses(slices: &[&EndpointSlice], node: &ThisNode, family: IpFamily) -> BTreeSet<IpAddr> {
    let ports = slices.iter().flat_map(|slice| &slice.ports);
    let ports: BTreeSet<(&str, Protocol)> = ports.map(|port| (port.name.as_str(), port.protocol)).collect();
    let merged = ports
        .into_iter()
        .flat_map(|(name, protocol)| endpoints(slices.iter().copied(), family, name, protocol));
    merged
        .filter(|(_, endpoint)| endpoint.ready && is_local(endpoint, node))
        .map(|(address, _)| address.ip())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Endpoint;
    use crate::plan::fixtures::{ep, here, service, slice, this_node};

    fn count(slices: &[EndpointSlice]) -> BTreeMap<IpFamily, usize> {
        let slices: Vec<&EndpointSlice> = slices.iter().collect();
        local_endpoints(&service(), &slices, &this_node())
    }

    /// S40.
    #[test]
    fn ready_addresses_of_this_node_count_once_each() {
        let unready = Endpoint {
            ready: false,
            ..here("10.1.0.3")
        };
        let leaving = Endpoint {
            ready: false,
            terminating: true,
            ..here("10.1.0.4")
        };
        let mut admin = slice("web-2", &[here("10.1.0.1"), here("10.1.0.5")]);
        admin.ports[0].name = "admin".into();
        admin.ports[0].port = 9090;
        let slices = [
            slice("web-1", &[here("10.1.0.1"), ep("10.1.0.2"), unready, leaving]),
            admin,
        ];
        assert_eq!(count(&slices), [(IpFamily::V4, 2)].into());
        assert_eq!(
            count(&[]),
            [(IpFamily::V4, 0)].into(),
            "the family is there without endpoints"
        );
    }

    /// S40.
    #[test]
    fn families_are_those_of_the_service() {
        let mut dual = service();
        dual.cluster_ips.push("fd00::10".parse().unwrap());
        let mut six = slice("web-6", &[here("fd00:1::1")]);
        six.family = IpFamily::V6;
        let four = slice("web-4", &[here("10.1.0.1"), here("10.1.0.2")]);
        let slices = [&six, &four];
        let counts = local_endpoints(&dual, &slices, &this_node());
        assert_eq!(counts, [(IpFamily::V4, 2), (IpFamily::V6, 1)].into());
        let counts = local_endpoints(&service(), &slices, &this_node());
        assert_eq!(counts, [(IpFamily::V4, 2)].into());
    }
}
