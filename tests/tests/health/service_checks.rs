//! healthCheckNodePort (S40).

use std::net::TcpListener;

use lab::pod::PodNet;
use lab::poll;
use lab::topology::Topology;
use serde_json::json;

use crate::site::{CHECK_PORT, LIMIT, Site, Web};

const FAMILIES: [bool; 2] = [false, true];

fn closed(site: &Site, v6: bool, port: u16) {
    poll::until(&format!("port {port} closed"), LIMIT, || {
        match site.ask(v6, port, "/") {
            Err(error) if error.contains("refused") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
}

/// S40.
#[test]
fn answers_follow_the_endpoints_on_this_node() {
    let mut web = Web::local(&[
        ("10.244.0.9", "node0"),
        ("10.244.0.8", "node0"),
        ("10.244.1.9", "node1"),
    ]);
    let site = Site::ready(&web, &[]);
    let answer = site.ask_until(false, CHECK_PORT, "/any/path", |answer| answer.status == 200);
    let body = |count: usize| json!({"service": {"namespace": "shop", "name": "web"}, "localEndpoints": count, "serviceProxyHealthy": true});
    assert_eq!(answer.json(), body(2));
    for header in [
        "content-type: application/json",
        "x-content-type-options: nosniff",
        "x-load-balancing-endpoint-weight: 2",
    ] {
        assert!(
            answer.has_header(header),
            "{header} is not among {:?}",
            answer.headers
        );
    }
    let other = site.ask_until(true, CHECK_PORT, "/", |answer| answer.status == 503);
    assert_eq!(other.json(), body(0), "each family has its own count");
    assert!(other.has_header("x-load-balancing-endpoint-weight: 0"));

    web.endpoints = vec![
        ("fd00:10:244::9".to_owned(), "node0"),
        ("10.244.1.9".to_owned(), "node1"),
    ];
    site.write(&web);
    let four = site.ask_until(false, CHECK_PORT, "/", |answer| answer.status == 503);
    assert_eq!(four.json(), body(0));
    let six = site.ask_until(true, CHECK_PORT, "/", |answer| answer.status == 200);
    assert_eq!(six.json(), body(1));
}

/// S40.
#[test]
fn ports_open_and_close_with_type_policy_and_number() {
    let mut web = Web::local(&[("10.244.0.9", "node0"), ("fd00:10:244::9", "node0")]);
    let site = Site::ready(&web, &[]);
    let open = |port| {
        for v6 in FAMILIES {
            site.ask_until(v6, port, "/", |answer| answer.status == 200);
        }
    };
    open(CHECK_PORT);
    web.policy = "Cluster";
    site.write(&web);
    FAMILIES.into_iter().for_each(|v6| closed(&site, v6, CHECK_PORT));
    web.policy = "Local";
    site.write(&web);
    open(CHECK_PORT);
    web.kind = "NodePort";
    site.write(&web);
    FAMILIES.into_iter().for_each(|v6| closed(&site, v6, CHECK_PORT));
    web.kind = "LoadBalancer";
    web.check_port = CHECK_PORT + 1;
    site.write(&web);
    open(CHECK_PORT + 1);
    closed(&site, false, CHECK_PORT);
}

/// S40.
#[test]
fn a_port_that_is_taken_is_served_once_it_is_free() {
    let topology = Topology::builder().pods(PodNet::Routed).build().unwrap();
    let holder = topology
        .node(0)
        .ns()
        .run(|| TcpListener::bind(("0.0.0.0", CHECK_PORT)))
        .unwrap();
    let web = Web::local(&[("10.244.0.9", "node0"), ("fd00:10:244::9", "node0")]);
    let mut site = Site::start_on(topology, &web, &[]);
    site.agent.wait_ready().unwrap();
    site.ask_until(true, CHECK_PORT, "/", |answer| answer.status == 200);
    site.agent
        .wait_log(
            "Service shop/web: cannot serve the health check at 192.0.2.10:31000",
            LIMIT,
        )
        .unwrap();
    drop(holder);
    site.ask_until(false, CHECK_PORT, "/", |answer| answer.status == 200);
}

/// S40.
#[test]
fn addresses_that_come_and_go_are_asked_at() {
    let web = Web::local(&[("10.244.0.9", "node0")]);
    let site = Site::ready(&web, &["--nodeport-addresses=192.0.2.0/24"]);
    site.ask_until(false, CHECK_PORT, "/", |answer| answer.status == 200);
    let second = "192.0.2.77/24".parse().unwrap();
    let uplink = site.topology.node(0).host().uplink();
    uplink.add_address(second).unwrap();
    let client = site.topology.client().ns();
    let ask = || crate::http::get(client, "192.0.2.77:31000".parse().unwrap(), "/");
    poll::until("the new address is served", LIMIT, || match ask() {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", site.agent.log()));
}
