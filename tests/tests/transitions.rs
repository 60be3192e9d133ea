//! A Service that changes while it is used: from every state of a list to every other, in the reconciler's maps in memory.
//!
//! A change leaves nothing behind: once what is idle has been collected, the maps hold what a node would have programmed that had
//! never known the state before. And it costs nobody a connection.

use std::collections::BTreeSet;

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use lab::programmed::{Held, InMemory, same};
use lab::scenario::HERE;
use lb_userspace::model::{ServiceKey, SliceKey, Update, parse, parse::Parsed};
use serde_json::{Value, json};

/// A state of the Service and its endpoints.
struct State {
    /// What is different from the state before.
    what: &'static str,
    /// The Service as the API server stores it.
    service: Value,
    /// Its EndpointSlices.
    slices: Vec<Value>,
    /// Where it is reached.
    frontends: BTreeSet<String>,
    /// Whether it is UDP: there, an endpoint that is gone while others serve takes its flows with it (S35).
    udp: bool,
}

/// The states, each a change to the one before, in the form of a JSON merge patch.
fn states() -> Vec<State> {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "uid": "1"},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    });
    let mut slices = vec![slice4(8080, "TCP")];
    let mut states: Vec<State> = Vec::new();
    let mut state = |what, patch: Value, new_slices: Option<Vec<Value>>, frontends: &[&str]| {
        merge(&mut service, &patch);
        slices = new_slices.unwrap_or_else(|| slices.clone());
        states.push(State {
            what,
            service: service.clone(),
            slices: slices.clone(),
            frontends: frontends.iter().map(ToString::to_string).collect(),
            udp: service["spec"]["ports"][0]["protocol"] == "UDP",
        });
    };
    let http = |port: u16, node_port: u16| {
        let node_port = (node_port != 0).then_some(node_port);
        json!({"name": "http", "protocol": "TCP", "port": port, "targetPort": 8080, "nodePort": node_port})
    };
    let ingress = |ip: &str, mode: &str| json!({"loadBalancer": {"ingress": [{"ip": ip, "ipMode": mode}]}});
    let cluster_ip = ["10.96.0.10:0/any", "10.96.0.10:80/TCP"];
    let node_port = [&cluster_ip[..], &["0.0.0.0:30080/TCP"]].concat();
    let balanced = [&node_port[..], &["198.51.100.7:80/TCP"]].concat();
    let external = [&balanced[..], &["203.0.113.7:80/TCP"]].concat();

    state("a cluster IP", json!({}), None, &cluster_ip);
    let spec = json!({"type": "NodePort", "ports": [http(80, 30080)]});
    state("node ports", json!({"spec": spec}), None, &node_port);
    let spec = json!({"type": "LoadBalancer"});
    let patch = json!({"spec": spec, "status": ingress("198.51.100.7", "VIP")});
    state("a load balancer", patch, None, &balanced);
    let spec = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 30999});
    state(
        "external traffic to local endpoints",
        json!({"spec": spec}),
        None,
        &balanced,
    );
    let spec = json!({"loadBalancerSourceRanges": ["203.0.113.0/24"]});
    state("source ranges", json!({"spec": spec}), None, &balanced);
    let spec = json!({"loadBalancerSourceRanges": ["203.0.113.0/24", "198.18.0.0/15"]});
    state("another source range", json!({"spec": spec}), None, &balanced);
    let spec = json!({"loadBalancerSourceRanges": null, "externalTrafficPolicy": "Cluster", "healthCheckNodePort": null,
        "internalTrafficPolicy": "Local"});
    state(
        "internal traffic to local endpoints",
        json!({"spec": spec}),
        None,
        &balanced,
    );
    let spec = json!({"internalTrafficPolicy": "Cluster", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90}}});
    state("affinity", json!({"spec": spec}), None, &balanced);
    let spec = json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 900}}});
    state("a longer affinity", json!({"spec": spec}), None, &balanced);
    let spec =
        json!({"sessionAffinity": "None", "sessionAffinityConfig": null, "externalIPs": ["203.0.113.7"]});
    state(
        "no affinity, and an external IP",
        json!({"spec": spec}),
        None,
        &external,
    );
    let patch = json!({"spec": {"externalIPs": null}, "status": ingress("198.51.100.8", "VIP")});
    let moved = [&node_port[..], &["198.51.100.8:80/TCP"]].concat();
    state("another address of the load balancer", patch, None, &moved);
    let patch = json!({"status": ingress("198.51.100.8", "Proxy")});
    state("a load balancer that is a proxy", patch, None, &node_port);
    let spec = json!({"ports": [http(80, 30081)]});
    let other_node_port = [&cluster_ip[..], &["0.0.0.0:30081/TCP"]].concat();
    state("another node port", json!({"spec": spec}), None, &other_node_port);
    let spec = json!({"type": "ClusterIP", "ports": [http(8000, 0)]});
    let other_port = ["10.96.0.10:0/any", "10.96.0.10:8000/TCP"];
    state(
        "another port, no node port",
        json!({"spec": spec, "status": null}),
        None,
        &other_port,
    );
    let admin = json!({"name": "admin", "protocol": "TCP", "port": 81, "targetPort": 8081});
    let spec = json!({"ports": [http(80, 0), admin]});
    let two_ports = [&cluster_ip[..], &["10.96.0.10:81/TCP"]].concat();
    state("a second port", json!({"spec": spec}), None, &two_ports);
    let spec = json!({"ports": [http(80, 0)]});
    let retargeted = Some(vec![slice4(9090, "TCP")]);
    state(
        "another target port",
        json!({"spec": spec}),
        retargeted,
        &cluster_ip,
    );
    let udp = json!({"name": "http", "protocol": "UDP", "port": 80, "targetPort": 8080});
    let over_udp = ["10.96.0.10:0/any", "10.96.0.10:80/UDP"];
    state(
        "another protocol",
        json!({"spec": {"ports": [udp]}}),
        Some(vec![slice4(8080, "UDP")]),
        &over_udp,
    );
    let spec = json!({"type": "ExternalName", "externalName": "shop.example.com", "clusterIP": null, "clusterIPs": null,
        "ports": [http(80, 0)]});
    state(
        "an external name",
        json!({"spec": spec}),
        Some(vec![slice4(8080, "TCP")]),
        &[],
    );
    let spec = json!({"type": "ClusterIP", "externalName": null, "clusterIP": "10.96.0.11", "clusterIPs": ["10.96.0.11"]});
    let elsewhere = ["10.96.0.11:0/any", "10.96.0.11:80/TCP"];
    state("a new cluster IP", json!({"spec": spec}), None, &elsewhere);
    let spec = json!({"clusterIPs": ["10.96.0.11", "fd00:96::11"]});
    let both_families = [&elsewhere[..], &["[fd00:96::11]:0/any", "[fd00:96::11]:80/TCP"]].concat();
    let both_slices = Some(vec![slice4(8080, "TCP"), slice6(8080)]);
    state(
        "a second family",
        json!({"spec": spec}),
        both_slices,
        &both_families,
    );
    let spec = json!({"type": "NodePort", "ports": [http(80, 30080)]});
    let both_node_ports = [&both_families[..], &["0.0.0.0:30080/TCP", "[::]:30080/TCP"]].concat();
    state(
        "node ports of both families",
        json!({"spec": spec}),
        None,
        &both_node_ports,
    );
    let spec = json!({"type": "ClusterIP", "ports": [http(80, 0)], "clusterIP": "fd00:96::11", "clusterIPs": ["fd00:96::11"]});
    state(
        "the second family alone",
        json!({"spec": spec}),
        Some(vec![slice6(8080)]),
        &both_families[2..],
    );
    let spec = json!({"clusterIP": "10.96.0.11", "clusterIPs": ["10.96.0.11"]});
    state(
        "no endpoints",
        json!({"spec": spec}),
        Some(Vec::new()),
        &elsewhere,
    );
    let labels = json!({"service.kubernetes.io/service-proxy-name": "other"});
    let endpoints = Some(vec![slice4(8080, "TCP")]);
    state(
        "another proxy's",
        json!({"metadata": {"labels": labels}}),
        endpoints,
        &[],
    );
    let annotations = json!({"xvip.dev/exclude": "true"});
    let metadata = json!({"labels": null, "annotations": annotations});
    state("excluded", json!({"metadata": metadata}), None, &[]);
    let patch =
        json!({"metadata": {"annotations": null}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
    state("headless", patch, None, &[]);
    states
}

/// An endpoint here and one elsewhere.
fn slice4(port: u16, protocol: &str) -> Value {
    slice("web-ipv4", "IPv4", port, protocol, ["10.244.0.2", "10.244.1.2"])
}

fn slice6(port: u16) -> Value {
    slice(
        "web-ipv6",
        "IPv6",
        port,
        "TCP",
        ["fd00:10:244::2", "fd00:10:244:1::2"],
    )
}

fn slice(name: &str, family: &str, port: u16, protocol: &str, [here, there]: [&str; 2]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": family,
        "ports": [{"name": "http", "port": port, "protocol": protocol}, {"name": "admin", "port": 8081, "protocol": protocol}],
        "endpoints": [{"addresses": [here], "nodeName": HERE}, {"addresses": [there], "nodeName": "there"}],
    })
}

/// Changes an object by a JSON merge patch (RFC 7386).
fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut object[name], value);
        }
    }
}

impl State {
    /// What a source tells of it, whatever it has told before.
    fn updates(&self) -> Vec<Update> {
        let service: v1::Service = serde_json::from_value(self.service.clone()).unwrap();
        let mut updates = vec![match parse::service(&service).unwrap() {
            Parsed::Accepted { value, warnings } => {
                assert_eq!(warnings, [], "{}", self.what);
                Update::ServiceApplied(value)
            }
            Parsed::Skipped(_) => Update::ServiceDeleted(ServiceKey::new("shop", "web")),
        }];
        let gone = ["web-ipv4", "web-ipv6"].map(|name| Update::SliceDeleted(SliceKey::new("shop", name)));
        updates.extend(gone);
        for slice in &self.slices {
            let slice: discovery::EndpointSlice = serde_json::from_value(slice.clone()).unwrap();
            let Ok(Parsed::Accepted { value, .. }) = parse::endpoint_slice(&slice) else {
                panic!("{}: a slice that is not taken", self.what);
            };
            updates.push(Update::SliceApplied(value));
        }
        updates
    }

    /// What a node programs for it that never knew another state.
    fn programmed_alone(&self) -> (Vec<String>, Held) {
        let mut node = node();
        node.take(self.updates()).unwrap();
        (node.lines().unwrap(), node.held())
    }
}

/// A node that knows itself and nothing else.
fn node() -> InMemory {
    let object: v1::Node = serde_json::from_value(json!({
        "metadata": {"name": HERE},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.10"}, {"type": "InternalIP", "address": "2001:db8::10"},
        ]},
    }))
    .unwrap();
    let Ok(Parsed::Accepted { value, .. }) = parse::node(&object) else {
        panic!("a Node that is not taken");
    };
    let mut node = InMemory::new(HERE).unwrap();
    node.take(vec![Update::NodeApplied(value), Update::InitialListsDone])
        .unwrap();
    node
}

/// The lines about frontends.
fn reached(lines: &[String]) -> Vec<&String> {
    lines
        .iter()
        .filter(|line| line.starts_with("frontend "))
        .collect()
}

/// The addresses of lines that say `frontend ADDRESS …`.
fn frontends(lines: &[String]) -> BTreeSet<String> {
    let words = lines.iter().filter_map(|line| line.strip_prefix("frontend "));
    words
        .filter_map(|rest| rest.split(' ').next().map(str::to_owned))
        .collect()
}

/// S1, S6, S8, S26, S45: which of a Service's addresses are frontends, state by state.
#[test]
fn a_service_is_reached_where_its_present_state_says() {
    for state in states() {
        let (lines, _) = state.programmed_alone();
        assert_eq!(frontends(&lines), state.frontends, "{}", state.what);
    }
}

#[test]
fn each_state_differs_from_the_one_before() {
    let states = states();
    let lines: Vec<_> = states.iter().map(|state| state.programmed_alone().0).collect();
    for (pair, state) in lines.windows(2).zip(&states[1..]) {
        let nothing = state.frontends.is_empty();
        assert!(nothing || pair[0] != pair[1], "{} changes nothing", state.what);
    }
}

#[test]
fn no_change_of_a_service_leaves_anything_behind() {
    let states = states();
    let fresh: Vec<_> = states.iter().map(State::programmed_alone).collect();
    let mut node = node();
    let nothing = node.held();
    for from in &states {
        for (to, (lines, held)) in states.iter().zip(&fresh) {
            let change = || format!("from {} to {}", from.what, to.what);
            node.take(from.updates()).unwrap();
            node.take(to.updates())
                .unwrap_or_else(|error| panic!("{}: {error:#}", change()));
            same(lines, &node.lines().unwrap()).unwrap_or_else(|what| panic!("{}: {what}", change()));
            assert_eq!(node.held(), *held, "{}", change());
        }
    }
    let key = ServiceKey::new("shop", "web");
    node.take(vec![Update::ServiceDeleted(key)]).unwrap();
    assert_eq!(node.held(), nothing, "deleted");
}

/// S37: endpoints that leave without terminating, and frontends that go, take no connection with them.
#[test]
fn no_change_of_a_service_ends_a_connection() {
    let states = states();
    let fresh: Vec<_> = states.iter().map(State::programmed_alone).collect();
    for from in states.iter().filter(|state| !state.udp) {
        for (to, (lines, held)) in states.iter().zip(&fresh) {
            let change = format!("from {} to {}", from.what, to.what);
            let mut node = node();
            node.take(from.updates()).unwrap();
            let connections = node.connect();
            node.take(to.updates()).unwrap();
            assert!(
                connections.iter().all(|connection| node.lives(connection)),
                "{change}: a connection is dead"
            );
            // The backends of the connections are still there beside the new ones.
            let (due, present) = (reached(lines), node.lines().unwrap());
            same(&due, &reached(&present)).unwrap_or_else(|what| panic!("{change}: {what}"));
            node.disconnect()
                .unwrap_or_else(|error| panic!("{change}: {error:#}"));
            assert_eq!(node.held(), *held, "{change}, all connections closed");
        }
    }
}

/// S35.
#[test]
fn a_udp_flow_leaves_an_endpoint_that_is_gone_while_others_serve() {
    let states = states();
    let udp = states.iter().find(|state| state.udp).unwrap();
    let mut node = node();
    node.take(udp.updates()).unwrap();
    let connections = node.connect();
    let moved = State {
        slices: vec![slice4(9090, "UDP")],
        service: udp.service.clone(),
        frontends: udp.frontends.clone(),
        ..*udp
    };
    node.take(moved.updates()).unwrap();
    assert_eq!(connections.len(), 2);
    assert!(connections.iter().all(|connection| !node.lives(connection)));
    node.disconnect().unwrap();
    assert_eq!(node.held(), moved.programmed_alone().1);
}
