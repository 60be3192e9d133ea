//! The endpoints of a service port, merged out of its slices.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::model::{Endpoint, EndpointSlice, IpFamily, Protocol};

/// The endpoints that slices name for a port, by address.
///
/// Slices of the family are joined by port name and protocol, so the number may differ from slice to slice (S2, S4).
/// An address named twice is taken from the slice in which it is not terminating (S5), else from the first.
/// Addresses that no endpoint can have (unspecified, loopback, multicast) are left out.
pub(super) fn endpoints<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    family: IpFamily,
    port_name: &str,
    protocol: Protocol,
) -> BTreeMap<SocketAddr, &'a Endpoint> {
    let mut merged: BTreeMap<SocketAddr, &Endpoint> = BTreeMap::new();
    for slice in slices.into_iter().filter(|slice| slice.family == family) {
        let ports = slice
            .ports
            .iter()
            .filter(|port| port.name == port_name && port.protocol == protocol);
        for port in ports {
            for endpoint in slice.endpoints.iter().filter(|e| is_routable(e.address)) {
                let present = merged
                    .entry(SocketAddr::new(endpoint.address, port.port))
                    .or_insert(endpoint);
                if present.terminating && !endpoint.terminating {
                    *present = endpoint;
                }
            }
        }
    }
    merged
}

/// Whether packets to this address can be for another host or a pod.
pub(super) fn is_routable(address: IpAddr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{ep, here, slice};

    /// S2, S4.
    #[test]
    fn slices_merge_by_port_name_and_protocol_with_their_own_numbers() {
        let mut second = slice("web-2", &[ep("10.1.0.2")]);
        second.ports[0].port = 9090;
        let mut other = slice("web-3", &[ep("10.1.0.3")]);
        other.ports[0].name = "metrics".into();
        let mut udp = slice("web-4", &[ep("10.1.0.4")]);
        udp.ports[0].protocol = Protocol::Udp;
        let slices = [slice("web-1", &[ep("10.1.0.1")]), second, other, udp];
        let merged = endpoints(&slices, IpFamily::V4, "http", Protocol::Tcp);
        let addresses: Vec<String> = merged.keys().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.1:8080", "10.1.0.2:9090"]);
    }

    /// S5.
    #[test]
    fn of_two_entries_for_one_address_the_one_not_terminating_wins() {
        let staying = ep("10.1.0.1");
        let mut leaving = ep("10.1.0.1");
        leaving.terminating = true;
        leaving.ready = false;
        for order in [[&staying, &leaving], [&leaving, &staying]] {
            let slices = [
                slice("a", std::slice::from_ref(order[0])),
                slice("b", std::slice::from_ref(order[1])),
            ];
            let merged = endpoints(&slices, IpFamily::V4, "http", Protocol::Tcp);
            assert_eq!(merged.into_values().collect::<Vec<_>>(), [&staying]);
        }
    }

    #[test]
    fn of_two_entries_that_are_alike_in_that_the_first_counts() {
        let leaving = |address| Endpoint {
            ready: false,
            terminating: true,
            ..ep(address)
        };
        for (first, second) in [
            (here("10.1.0.1"), ep("10.1.0.1")),
            (
                Endpoint {
                    node_name: Some("node-1".into()),
                    ..leaving("10.1.0.1")
                },
                leaving("10.1.0.1"),
            ),
        ] {
            let slices = [slice("a", std::slice::from_ref(&first)), slice("b", &[second])];
            let merged = endpoints(&slices, IpFamily::V4, "http", Protocol::Tcp);
            assert_eq!(merged.into_values().collect::<Vec<_>>(), [&first]);
        }
    }

    #[test]
    fn addresses_no_endpoint_can_have_are_left_out() {
        let slices = [slice(
            "a",
            &[ep("0.0.0.0"), ep("127.0.0.1"), ep("224.0.0.1"), ep("10.1.0.1")],
        )];
        assert_eq!(endpoints(&slices, IpFamily::V4, "http", Protocol::Tcp).len(), 1);
    }
}
