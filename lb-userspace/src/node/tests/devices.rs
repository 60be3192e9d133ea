//! Which devices are chosen, as what, with which XDP and which source.

use std::net::IpAddr;

use super::super::{
    DeviceChoice, DeviceSettings, NoXdp, Role, Selection, SourceAddresses, Xdp, select_devices,
};
use super::*;
use crate::config::{DevicePattern, XdpMode};

fn patterns(texts: &[&str]) -> Vec<DevicePattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn select(
    host: &Host,
    devices: &[&str],
    pod_devices: &[&str],
    xdp_mode: XdpMode,
    internal: &[&str],
) -> Selection {
    let internal: Vec<IpAddr> = internal.iter().map(|text| text.parse().unwrap()).collect();
    let settings = DeviceSettings {
        devices: &patterns(devices),
        pod_devices: &patterns(pod_devices),
        xdp_mode,
    };
    select_devices(&host.0, &settings, &internal)
}

/// `name:role` of each device chosen but the loopback one, which is always.
fn roles(selection: &Selection) -> Vec<String> {
    let role = |device: &DeviceChoice| match device.role {
        Role::Uplink => Some("uplink"),
        Role::Pod => Some("pod"),
        Role::Loopback => None,
    };
    let devices = selection.devices.iter();
    devices
        .filter_map(|device| Some(format!("{}:{}", device.name, role(device)?)))
        .collect()
}

#[test]
fn the_loopback_device_is_one_of_ours_whatever_the_patterns_say() {
    for (devices, pod_devices) in [
        (&[][..], &[][..]),
        (&["lo"][..], &[][..]),
        (&["eth*"][..], &["lo"][..]),
    ] {
        let selection = select(&Host::new(), devices, pod_devices, XdpMode::Native, &[]);
        let [lo] = selection.devices.as_slice() else {
            panic!("{selection:?}");
        };
        assert_eq!((lo.ifindex, lo.role), (1, Role::Loopback));
        assert_eq!(lo.xdp, Xdp::None(NoXdp::Loopback));
        assert_eq!(
            lo.sources,
            SourceAddresses::default(),
            "nothing leaves the host by it"
        );
    }
}

#[test]
fn devices_are_found_by_what_they_carry() {
    let cases: Vec<(&str, Host, &[&str], &[&str])> = vec![
        (
            "flannel on a machine: the bridge is the pods' gateway, its ports lead to pods, replies come out of the tunnel",
            Host::new()
                .with(2, link(LinkKind::Physical, "eth0", &["192.0.2.10/24"]))
                .with(3, link(LinkKind::Bridge, "cni0", &["10.244.1.1/24"]))
                .with(
                    4,
                    Link {
                        master: Some(3),
                        ..pod("veth1", &["fe80::1/64"])
                    },
                )
                .with(5, link(LinkKind::Tunnel, "flannel.1", &["10.244.1.0/32"]))
                .default_route(2, None),
            &["192.0.2.10"],
            &["eth0:uplink", "veth1:pod", "flannel.1:uplink"],
        ),
        (
            "kind: a node is a network namespace, and ptp puts its gateway's address on every pod's veth",
            Host::new()
                .with(2, pod("veth1", &["10.244.0.1/32"]))
                .with(3, pod("veth2", &["10.244.0.1/32", "fd00:244::1/128"]))
                .with(9, pod("eth0", &["172.18.0.2/16"]))
                .default_route(9, None),
            &["172.18.0.2"],
            &["veth1:pod", "veth2:pod", "eth0:uplink"],
        ),
        (
            "a veth without a default route is an uplink by its subnet, one family is enough",
            Host::new()
                .with(2, pod("up0", &["2001:db8::1/64"]))
                .with(3, pod("pod0", &["fe80::1/64"])),
            &[],
            &["up0:uplink", "pod0:pod"],
        ),
        (
            "a veth with both ends here leads nowhere",
            Host::new()
                .with(2, link(LinkKind::Veth, "a", &[]))
                .with(3, link(LinkKind::Veth, "b", &[])),
            &[],
            &[],
        ),
        (
            "VLANs and bonds: the device that carries the address, not the one under it",
            Host::new()
                .with(
                    2,
                    Link {
                        master: Some(4),
                        ..link(LinkKind::Physical, "eth0", &[])
                    },
                )
                .with(
                    3,
                    Link {
                        master: Some(4),
                        ..link(LinkKind::Physical, "eth1", &[])
                    },
                )
                .with(4, link(LinkKind::Bond, "bond0", &[]))
                .with(
                    5,
                    Link {
                        lower: Some(4),
                        ..link(LinkKind::Vlan, "bond0.7", &["192.0.2.1/24"])
                    },
                )
                .default_route(5, None),
            &["192.0.2.1"],
            &["bond0.7:uplink"],
        ),
        (
            "a bridge is an uplink when the default route or the Node's address is on it",
            Host::new()
                .with(2, link(LinkKind::Bridge, "br0", &["192.0.2.1/24"]))
                .with(3, link(LinkKind::Bridge, "br1", &["198.51.100.1/24"]))
                .with(4, link(LinkKind::Bridge, "docker0", &["172.17.0.1/16"]))
                .default_route(2, None),
            &["198.51.100.1"],
            &["br0:uplink", "br1:uplink"],
        ),
        (
            "devices that only carry addresses lead nowhere",
            Host::new()
                .with(2, link(LinkKind::Dummy, "kube-ipvs0", &["10.96.0.1/32"]))
                .with(3, link(LinkKind::Dummy, "nodelocaldns", &["169.254.20.10/32"])),
            &["10.96.0.1"],
            &[],
        ),
        (
            "a second network card without a default route, a tunnel without an address",
            Host::new()
                .with(2, link(LinkKind::Physical, "eth0", &["192.0.2.1/24"]))
                .with(3, link(LinkKind::Physical, "eth1", &["198.51.100.1/24"]))
                .with(4, link(LinkKind::Physical, "eth2", &["fe80::2/64"]))
                .with(5, link(LinkKind::Tunnel, "tunl0", &[]))
                .default_route(2, None),
            &[],
            &["eth0:uplink", "eth1:uplink"],
        ),
    ];
    for (what, host, internal, expected) in cases {
        let selection = select(&host, &[], &[], XdpMode::Auto, internal);
        assert_eq!(roles(&selection), expected, "{what}");
        assert_eq!(selection.warnings, Vec::<String>::new(), "{what}");
    }
}

#[test]
fn named_devices_are_what_they_are_named_for() {
    let host = Host::new()
        .with(2, link(LinkKind::Physical, "eth0", &["192.0.2.1/24"]))
        .with(3, link(LinkKind::Physical, "eth1", &["198.51.100.1/24"]))
        .with(4, pod("cali1", &[]))
        .with(5, pod("other", &[]))
        .default_route(2, None);
    let cases: [(&[&str], &[&str], &[&str]); 7] = [
        (&["eth1"], &[], &["eth1:uplink", "cali1:pod", "other:pod"]),
        (
            &["eth*"],
            &["cali*"],
            &["eth0:uplink", "eth1:uplink", "cali1:pod"],
        ),
        (&[], &["cali*"], &["eth0:uplink", "eth1:uplink", "cali1:pod"]),
        (&[], &["eth1"], &["eth0:uplink", "eth1:pod"]),
        (&["cali1"], &["cali*", "other"], &["cali1:uplink", "other:pod"]),
        (&["eth[1-9]"], &["?ther"], &["eth1:uplink", "other:pod"]),
        (
            &["*"],
            &[],
            &["eth0:uplink", "eth1:uplink", "cali1:uplink", "other:uplink"],
        ),
    ];
    for (devices, pod_devices, expected) in cases {
        let selection = select(&host, devices, pod_devices, XdpMode::Auto, &[]);
        assert_eq!(roles(&selection), expected, "{devices:?} {pod_devices:?}");
    }
    let selection = select(&host, &["wlan0", "ens*"], &[], XdpMode::Auto, &[]);
    assert_eq!(selection.warnings, ["no device matches devices: wlan0,ens*"]);
}

#[test]
fn a_device_beyond_the_map_is_reported_not_chosen() {
    let host = Host::new()
        .with(65_535, link(LinkKind::Physical, "eth0", &["192.0.2.1/24"]))
        .with(65_536, link(LinkKind::Physical, "eth1", &["192.0.2.2/24"]));
    let selection = select(&host, &[], &[], XdpMode::Auto, &[]);
    assert_eq!(roles(&selection), ["eth0:uplink"]);
    assert_eq!(
        selection.warnings,
        ["eth1 is not served: its interface index 65536 is beyond the 65536 that fit"]
    );
}

#[test]
fn xdp_goes_where_frames_come_whole_or_where_it_is_asked_for() {
    use XdpMode::{Auto, Generic, Native, Off};

    let plain = |kind: LinkKind| {
        Host::new()
            .with(2, link(kind, "dev", &["192.0.2.1/24"]))
            .default_route(2, None)
    };
    let with_vlan = |kind: LinkKind, strips_vlan| {
        Host::new()
            .with(
                2,
                Link {
                    strips_vlan,
                    ..link(kind, "dev", &["192.0.2.1/24"])
                },
            )
            .with(
                3,
                Link {
                    lower: Some(2),
                    ..link(LinkKind::Vlan, "dev.7", &[])
                },
            )
    };
    let bond_of = |kind: LinkKind| {
        plain(LinkKind::Bond).with(
            3,
            Link {
                master: Some(2),
                ..link(kind, "port", &[])
            },
        )
    };
    let bare = || {
        let tunnel = Link {
            mac: None,
            ..link(LinkKind::Tunnel, "dev", &["192.0.2.1/24"])
        };
        Host::new().with(2, tunnel)
    };
    let native = |expected| Xdp::Native { expected };
    let cases: Vec<(Host, XdpMode, Xdp, bool)> = vec![
        (plain(LinkKind::Physical), Auto, native(false), false),
        (plain(LinkKind::Physical), Native, native(true), false),
        (plain(LinkKind::Physical), Generic, Xdp::Generic, false),
        (plain(LinkKind::Physical), Off, Xdp::None(NoXdp::Off), false),
        (plain(LinkKind::Veth), Auto, Xdp::None(NoXdp::Virtual), false),
        (plain(LinkKind::Veth), Native, native(true), true),
        (plain(LinkKind::Veth), Generic, Xdp::Generic, true),
        (plain(LinkKind::Bridge), Auto, Xdp::None(NoXdp::Virtual), false),
        (plain(LinkKind::Vlan), Auto, Xdp::None(NoXdp::Virtual), false),
        (
            plain(LinkKind::Other("tun".to_owned())),
            Auto,
            Xdp::None(NoXdp::Virtual),
            false,
        ),
        (bond_of(LinkKind::Physical), Auto, native(false), false),
        (bond_of(LinkKind::Veth), Auto, Xdp::None(NoXdp::Virtual), false),
        (plain(LinkKind::Bond), Auto, Xdp::None(NoXdp::Virtual), false),
        (bare(), Native, Xdp::None(NoXdp::NoEthernet), false),
        (
            with_vlan(LinkKind::Physical, Some(false)),
            Auto,
            native(false),
            false,
        ),
        (
            with_vlan(LinkKind::Physical, Some(true)),
            Auto,
            Xdp::None(NoXdp::VlanStripping),
            true,
        ),
        (
            with_vlan(LinkKind::Physical, None),
            Auto,
            Xdp::None(NoXdp::VlanStripping),
            true,
        ),
        (
            with_vlan(LinkKind::Physical, Some(true)),
            Native,
            Xdp::None(NoXdp::VlanStripping),
            true,
        ),
        (
            with_vlan(LinkKind::Physical, Some(true)),
            Generic,
            Xdp::None(NoXdp::VlanStripping),
            true,
        ),
        (
            with_vlan(LinkKind::Physical, Some(true)),
            Off,
            Xdp::None(NoXdp::Off),
            false,
        ),
    ];
    for (host, mode, expected, warns) in cases {
        let what = format!("{:?} {mode}", host.0.links[&2]);
        let selection = select(&host, &["dev"], &[], mode, &[]);
        assert_eq!(selection.devices[1].xdp, expected, "{what}");
        assert_eq!(
            !selection.warnings.is_empty(),
            warns,
            "{what}: {:?}",
            selection.warnings
        );
    }
}

#[test]
fn a_pod_device_has_no_xdp() {
    let host = Host::new().with(2, pod("veth1", &[]));
    let selection = select(&host, &[], &[], XdpMode::Native, &[]);
    assert_eq!(selection.devices[1].xdp, Xdp::None(NoXdp::PodDevice));
    assert_eq!(selection.warnings, Vec::<String>::new());
}

/// What it shows, the host, the device asked about, its IPv4 and IPv6 source.
type SourceCase<'a> = (&'a str, Host, u32, Option<&'a str>, Option<&'a str>);

/// S19: the route's preferred source, else the device's address, else another device's of global scope.
#[test]
fn a_rewritten_source_is_the_address_the_kernel_would_choose() {
    let mut secondary = link(LinkKind::Physical, "eth0", &["192.0.2.1/24", "192.0.2.2/24"]);
    secondary.addresses[0].secondary = true;
    let mut unusable = link(
        LinkKind::Physical,
        "eth0",
        &["2001:db8::1/64", "2001:db8::2/64", "2001:db8::3/64"],
    );
    unusable.addresses[0].deprecated = true;
    unusable.addresses[1].tentative = true;
    let dual = || {
        link(
            LinkKind::Physical,
            "eth0",
            &["fe80::1/64", "192.0.2.1/24", "2001:db8::1/64"],
        )
    };

    let cases: Vec<SourceCase<'_>> = vec![
        (
            "its own",
            Host::new().with(2, dual()),
            2,
            Some("192.0.2.1"),
            Some("2001:db8::1"),
        ),
        (
            "the default route's",
            Host::new().with(2, dual()).default_route(2, Some("198.51.100.9")),
            2,
            Some("198.51.100.9"),
            Some("2001:db8::1"),
        ),
        (
            "not a secondary one",
            Host::new().with(2, secondary),
            2,
            Some("192.0.2.2"),
            None,
        ),
        (
            "neither deprecated nor tentative",
            Host::new().with(2, unusable),
            2,
            None,
            Some("2001:db8::3"),
        ),
        (
            "another device's, the lowest index first",
            Host::new().with(2, pod("veth1", &[])).with(3, dual()),
            2,
            Some("192.0.2.1"),
            Some("2001:db8::1"),
        ),
        (
            "not of a device that is down, nor of IPVS",
            Host::new()
                .with(2, pod("veth1", &[]))
                .with(3, link(LinkKind::Dummy, "kube-ipvs0", &["10.96.0.1/32"]))
                .with(
                    4,
                    Link {
                        up: false,
                        ..link(LinkKind::Physical, "eth9", &["203.0.113.1/24"])
                    },
                )
                .with(5, dual()),
            2,
            Some("192.0.2.1"),
            Some("2001:db8::1"),
        ),
        (
            "a port sends for its bridge",
            Host::new()
                .with(2, dual())
                .with(3, link(LinkKind::Bridge, "cni0", &["10.244.1.1/24"]))
                .with(
                    4,
                    Link {
                        master: Some(3),
                        ..pod("veth1", &[])
                    },
                ),
            4,
            Some("10.244.1.1"),
            Some("2001:db8::1"),
        ),
        (
            "an overlay device sends with the tunnel's",
            Host::new()
                .with(2, dual())
                .with(3, link(LinkKind::Tunnel, "flannel.1", &["10.244.1.0/32"])),
            3,
            Some("10.244.1.0"),
            Some("2001:db8::1"),
        ),
        (
            "not a load balancer's, though it is listed first",
            Host::new().with(
                2,
                link(
                    LinkKind::Physical,
                    "eth0",
                    &[
                        "2001:db8::100/128",
                        "2001:db8::1/64",
                        "192.0.2.100/32",
                        "192.0.2.1/24",
                    ],
                ),
            ),
            2,
            Some("192.0.2.1"),
            Some("2001:db8::1"),
        ),
        (
            "nor one of another device",
            Host::new()
                .with(
                    1,
                    link(
                        LinkKind::Loopback,
                        "lo",
                        &["198.51.100.1/32", "2001:db8:0:2::1/128"],
                    ),
                )
                .with(2, pod("veth1", &[]))
                .with(3, dual()),
            2,
            Some("192.0.2.1"),
            Some("2001:db8::1"),
        ),
        (
            "if there is no other, even that",
            Host::new().with(2, link(LinkKind::Physical, "eth0", &["192.0.2.100/32"])),
            2,
            Some("192.0.2.100"),
            None,
        ),
        (
            "none is none",
            Host::new().with(2, pod("veth1", &["fe80::1/64"])),
            2,
            None,
            None,
        ),
    ];
    for (what, host, ifindex, v4, v6) in cases {
        let selection = select(&host, &[], &[], XdpMode::Auto, &[]);
        let device = selection
            .devices
            .iter()
            .find(|device| device.ifindex == ifindex)
            .unwrap();
        assert_eq!(device.sources.v4, v4.map(|text| text.parse().unwrap()), "{what}");
        assert_eq!(device.sources.v6, v6.map(|text| text.parse().unwrap()), "{what}");
    }
}
