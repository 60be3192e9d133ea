//! Which addresses are the node's and which of them serve nodePorts (S30).

use std::net::IpAddr;

use super::super::{DeviceSettings, node_addresses, select_devices};
use super::*;
use crate::config::{NodePortAddresses, XdpMode};

fn cidrs(texts: &[&str]) -> NodePortAddresses {
    NodePortAddresses::Cidrs(texts.iter().map(|text| text.parse().unwrap()).collect())
}

/// What it shows, the configuration, the Node's internal addresses, the addresses that serve.
type Case<'a> = (&'a str, NodePortAddresses, Option<&'a [&'a str]>, &'a [&'a str]);

/// S30.
#[test]
fn node_ports_are_served_where_the_configuration_says() {
    let host = || {
        Host::new()
            .with(
                2,
                link(
                    LinkKind::Physical,
                    "eth0",
                    &["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64", "fe80::1/64"],
                ),
            )
            .with(3, link(LinkKind::Bridge, "cni0", &["10.244.1.1/24"]))
            .with(
                4,
                link(LinkKind::Dummy, "kube-ipvs0", &["10.96.0.1/32", "192.0.2.99/32"]),
            )
            .default_route(2, None)
    };
    let all = [
        "10.244.1.1",
        "127.0.0.1",
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
        "::1",
        "fe80::1",
    ];
    let primary = NodePortAddresses::Primary;
    let cases: Vec<Case<'_>> = vec![
        (
            "primary: the Node's first internal address of each family",
            primary.clone(),
            Some(&["192.0.2.2", "192.0.2.1", "2001:db8::1"]),
            &["192.0.2.2", "2001:db8::1"],
        ),
        (
            "a family the Node has no address of has none",
            primary.clone(),
            Some(&["192.0.2.1"]),
            &["192.0.2.1"],
        ),
        (
            "an address that is not (yet) the host's",
            primary.clone(),
            Some(&["192.0.2.77"]),
            &[],
        ),
        (
            "no Node object: the uplinks'",
            primary,
            None,
            &["192.0.2.1", "192.0.2.2", "2001:db8::1"],
        ),
        (
            "ranges of one family: every address of the other",
            cidrs(&["192.0.2.2/32"]),
            Some(&["192.0.2.1"]),
            &["192.0.2.2", "2001:db8::1", "fe80::1"],
        ),
        (
            "ranges of both",
            cidrs(&["10.0.0.0/8", "2001:db8::/32"]),
            Some(&["192.0.2.1"]),
            &["10.244.1.1", "2001:db8::1"],
        ),
        (
            "loopback addresses never, whatever the range",
            cidrs(&["0.0.0.0/0", "::/0"]),
            None,
            &["10.244.1.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "fe80::1"],
        ),
    ];
    for (what, wanted, internal, expected) in cases {
        let host = host();
        let settings = DeviceSettings {
            devices: &[],
            pod_devices: &[],
            xdp_mode: XdpMode::Auto,
        };
        let devices = select_devices(&host.0, &settings, &[]).devices;
        let internal: Option<Vec<IpAddr>> =
            internal.map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect());
        let addresses = node_addresses(&host.0, &wanted, internal.as_deref(), &devices);

        let mut known: Vec<String> = addresses.keys().map(ToString::to_string).collect();
        known.sort();
        assert_eq!(known, all, "{what}");
        let mut serving: Vec<String> = addresses
            .iter()
            .filter(|(_, serves)| **serves)
            .map(|(address, _)| address.to_string())
            .collect();
        serving.sort();
        assert_eq!(serving, expected, "{what}");
    }
}

#[test]
fn an_address_on_two_devices_serves_if_it_does_on_one() {
    let host = Host::new()
        .with(2, link(LinkKind::Dummy, "anycast", &["192.0.2.1/32"]))
        .with(3, link(LinkKind::Physical, "eth0", &["192.0.2.1/24"]))
        .with(4, link(LinkKind::Dummy, "other", &["192.0.2.1/32"]));
    let settings = DeviceSettings {
        devices: &[],
        pod_devices: &[],
        xdp_mode: XdpMode::Auto,
    };
    let devices = select_devices(&host.0, &settings, &[]).devices;
    let addresses = node_addresses(&host.0, &NodePortAddresses::Primary, None, &devices);
    assert_eq!(
        addresses.get(&"192.0.2.1".parse::<IpAddr>().unwrap()),
        Some(&true)
    );
}

#[test]
fn an_address_somebody_else_has_is_not_the_nodes() {
    let mut eth0 = link(LinkKind::Physical, "eth0", &["2001:db8::1/64"]);
    eth0.addresses[0].duplicate = true;
    let host = Host::new().with(2, eth0);
    let addresses = node_addresses(&host.0, &cidrs(&["::/0"]), None, &[]);
    assert!(!addresses.contains_key(&"2001:db8::1".parse::<IpAddr>().unwrap()));
}
