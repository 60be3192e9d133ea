//! Devices and addresses: what is served how, and those that come later.

use std::time::Duration;

use lab::agent::Agent;
use lab::cluster_lab::{ClusterLab, Service, Shape};
use lab::host::Uplink;
use lab::poll;

use crate::on_both_shapes;
use crate::standard::{FAMILIES, NEAR, Standard, name};

on_both_shapes!(
    uplinks_get_xdp_where_frames_come_whole,
    a_pod_that_comes_later_is_served_within_a_second,
    node_addresses_that_come_later_serve_node_ports,
);

const SHORT: Duration = Duration::from_millis(200);
/// A second, and what a busy machine adds.
const A_SECOND: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);

/// The programs `xvip get devices` tells of a device.
fn programs(agent: &Agent, device: &str) -> Vec<String> {
    let devices = agent.xvip_json(&["get", "devices"]).unwrap();
    let mut rows = devices.as_array().into_iter().flatten();
    let row = rows.find(|row| row["device"] == device);
    let programs = row
        .and_then(|row| row["programs"].as_array())
        .into_iter()
        .flatten();
    programs
        .filter_map(|text| text.as_str())
        .map(str::to_owned)
        .collect()
}

fn uplinks_get_xdp_where_frames_come_whole(shape: Shape) {
    let mut lab = ClusterLab::build(Shape { nodes: 1, ..shape }).unwrap();
    lab.add_pod(0, "pod").unwrap();
    lab.start_agents(&[]).unwrap();
    let with_xdp = programs(lab.agent(0), "eth0")
        .iter()
        .any(|text| text.starts_with("xdp"));
    assert_eq!(with_xdp, shape.xdp == "native", "auto never puts XDP on a veth");
    let pod = programs(lab.agent(0), lab.pod(0).host_end().name());
    assert_eq!(pod, ["tc ingress", "tc egress"]);
    // Asked for on a virtual device it is done, and said to be dangerous.
    assert_eq!(lab.agent(0).log().contains("damaged"), shape.xdp == "native");
}

#[test]
fn native_xdp_on_a_veth_that_leaves_checksums_unfinished_is_warned_about() {
    let shape = Shape {
        nodes: 1,
        uplink: Uplink::Unfinished,
        ..Shape::NATIVE
    };
    let mut lab = ClusterLab::build(shape).unwrap();
    lab.start_agents(&[]).unwrap();
    lab.agent(0).wait_log("unfinished checksum", LIMIT).unwrap();
}

fn a_pod_that_comes_later_is_served_within_a_second(shape: Shape) {
    let mut standard = Standard::running(shape);
    let late = standard.lab.add_pod(0, "late").unwrap();
    let lab = &standard.lab;
    let device = lab.pod(late).host_end().name().to_owned();
    poll::until("the pod's device attached", A_SECOND, || {
        let there = programs(lab.agent(0), &device);
        if there.len() == 2 {
            Ok(())
        } else {
            Err(format!("{there:?}"))
        }
    })
    .unwrap();
    for v6 in FAMILIES {
        for service in [&standard.near, &standard.far] {
            lab.pod_caller(late).tcp(service.cluster_ip(v6)).answer();
            lab.pod_caller(late).udp(service.cluster_ip(v6)).answer();
        }
    }
    lab.apply(&standard.near, &standard.endpoints(&[late])).unwrap();
    for v6 in FAMILIES {
        let answer = lab.client().tcp(standard.near.cluster_ip(v6)).answer();
        assert_eq!(answer.pod, "late");
        assert_eq!(answer.client.ip(), lab.topology().client().address(v6));
    }
}

/// S30: inside the configured ranges, without a restart; an address that goes serves no more.
fn node_addresses_that_come_later_serve_node_ports(shape: Shape) {
    let mut lab = ClusterLab::build(shape).unwrap();
    for (node, pod) in [(0, "near-0"), (1, "far-0")] {
        lab.add_pod(node, pod).unwrap();
    }
    let web = Service::new("web", 1);
    lab.write(&web, &[lab.endpoint(NEAR[0])]).unwrap();
    lab.start_agents(&["--nodeport-addresses", "192.0.2.32/27,2001:db8:0:1:1::/80"])
        .unwrap();
    let uplink = lab.topology().node(0).host().uplink().clone();
    let hasty = lab.client().patience(SHORT);
    for (v6, address) in [(false, "192.0.2.50/24"), (true, "2001:db8:0:1:1::50/64")] {
        let address: ipnet::IpNet = address.parse().unwrap();
        let to = (address.addr(), web.node_port()).into();
        let outside = hasty.tcp(lab.node_port(0, &web, v6));
        assert!(
            outside.by().is_none(),
            "the primary address is outside the ranges: {outside}"
        );
        assert!(hasty.tcp(to).by().is_none());
        uplink.add_address(address).unwrap();
        let served = poll::until("the new address serving", LIMIT, || {
            let outcome = hasty.tcp(to);
            outcome.by().map(str::to_owned).ok_or_else(|| outcome.to_string())
        });
        assert_eq!(
            served.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.account())),
            name(NEAR[0])
        );
        uplink.remove_address(address.addr()).unwrap();
        let listed = |text: &str| text.contains(&address.addr().to_string());
        poll::until("the address forgotten", LIMIT, || {
            let held = lab
                .agent(0)
                .xvip(&["dump", "node_addrs"])
                .map_err(|error| format!("{error:#}"))?;
            if listed(&held) { Err(held) } else { Ok(()) }
        })
        .unwrap();
        assert!(hasty.tcp(to).by().is_none());
    }
}
