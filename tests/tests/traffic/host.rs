//! Clients on a node itself: sockets of the host's own network namespace, served where their packets leave.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::client::{Caller, Outcome};
use lab::cluster_lab::conversation::{Association, bulk};
use lab::cluster_lab::netfilter::forward_and_masquerade;
use lab::cluster_lab::service::{PORT, TARGET_PORT};
use lab::cluster_lab::{Service, Shape};
use lab::poll;
use lab::server::{Protocol, Server};

use crate::standard::{FAMILIES, FAR, NEAR, Standard, name};
use crate::{on_both_shapes, on_both_shapes_with_other_pods};

on_both_shapes!(
    the_node_itself_reaches_every_kind_of_address,
    answers_pass_a_strict_node_beside_netfilter,
    megabytes_pass_between_the_node_and_every_backend,
    a_pod_on_the_hosts_network_is_a_backend_of_its_own_node,
    an_address_of_the_node_is_a_load_balancers,
    nobody_serving_refuses_the_node_at_once,
    policies_and_affinity_of_the_node_itself,
    connections_that_nobody_knows_are_reset_where_they_leave,
    a_listener_at_a_cluster_ip_is_called_in_place_of_the_service,
    other_traffic_of_the_node_is_untouched,
);
on_both_shapes_with_other_pods!(
    the_node_itself_reaches_every_kind_of_address,
    megabytes_pass_between_the_node_and_every_backend,
);

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const LIMIT: Duration = Duration::from_secs(20);
/// "At once", on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(900);

fn host(standard: &Standard) -> Caller {
    Caller::new(standard.lab.topology().node(0).ns())
}

/// Every address of a Service as node 0 may call it; its own nodePorts pass the loopback device.
fn addresses(standard: &Standard, service: &Service, v6: bool) -> [SocketAddr; 5] {
    [
        service.cluster_ip(v6),
        standard.lab.node_port(0, service, v6),
        standard.lab.node_port(1, service, v6),
        service.load_balancer(v6),
        service.external(v6),
    ]
}

#[track_caller]
fn expect(standard: &Standard, outcome: Outcome, pod: &str, what: &str) -> IpAddr {
    if outcome.by() != Some(pod) {
        panic!("{what}: {outcome} instead of {pod}\n{}", standard.lab.account());
    }
    outcome.answer().client.ip()
}

/// S17: a backend sees the node. S30: so it does on the node's own nodePorts.
fn the_node_itself_reaches_every_kind_of_address(shape: Shape) {
    let standard = Standard::running(shape);
    let topology = standard.lab.topology();
    for v6 in FAMILIES {
        for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
            for to in addresses(&standard, service, v6) {
                // Node 1 is asked as by anybody outside: a backend elsewhere sees node 1.
                let by_node_1 = to == standard.lab.node_port(1, service, v6) && pod == NEAR[0];
                for protocol in PROTOCOLS {
                    let what = format!("{protocol:?} to {to}");
                    let outcome = host(&standard).call(protocol, to);
                    let seen = expect(&standard, outcome, name(pod), &what);
                    assert_eq!(seen, topology.node(by_node_1.into()).address(v6), "{what}");
                }
                let mut connection = host(&standard).connect(to).unwrap();
                let flow = Association::open(topology.node(0).ns(), 0, to).unwrap();
                for _ in 0..3 {
                    assert_eq!(connection.request().answer().pod, name(pod), "{to}");
                    assert_eq!(flow.request(LIMIT).answer().pod, name(pod), "{to}");
                }
            }
        }
    }
}

/// Answers come in by the device the requests left by: no reverse path filter drops them, and conntrack sees one connection.
fn answers_pass_a_strict_node_beside_netfilter(shape: Shape) {
    let standard = Standard::running(shape);
    let node = standard.lab.topology().node(0);
    node.ns().sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
    forward_and_masquerade(node.ns()).unwrap();
    for v6 in FAMILIES {
        for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
            for to in addresses(&standard, service, v6) {
                for protocol in PROTOCOLS {
                    let outcome = host(&standard).call(protocol, to);
                    expect(&standard, outcome, name(pod), &format!("{protocol:?} to {to}"));
                }
            }
        }
    }
}

fn megabytes_pass_between_the_node_and_every_backend(shape: Shape) {
    const BYTES: usize = 4 << 20;
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    for v6 in FAMILIES {
        for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
            for to in [service.cluster_ip(v6), lab.node_port(0, service, v6)] {
                let answer = bulk(lab.topology().node(0).ns(), to, BYTES, LIMIT)
                    .unwrap_or_else(|error| panic!("{to}: {error:#}\n{}", lab.account()));
                assert_eq!(answer.pod, name(pod));
            }
        }
    }
}

/// As every control plane has it: `kubernetes.default` is the API server on the node's own address.
fn a_pod_on_the_hosts_network_is_a_backend_of_its_own_node(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    let node = lab.topology().node(0);
    let port = TARGET_PORT;
    let listens = PROTOCOLS.map(|protocol| (protocol, port));
    let _server = Server::start(node.ns(), "node0", &node.host().addresses(0), &listens).unwrap();
    let service = Service::new("control-plane", 40);
    lab.apply(&service, &[lab.endpoint(NEAR[0]).at(node.host().addresses(0))])
        .unwrap();
    for v6 in FAMILIES {
        for to in [service.cluster_ip(v6), lab.node_port(0, &service, v6)] {
            for protocol in PROTOCOLS {
                let what = format!("{protocol:?} to {to}");
                let seen = expect(&standard, host(&standard).call(protocol, to), "node0", &what);
                assert_eq!(seen, node.address(v6), "{what}");
            }
            let answer = bulk(node.ns(), to, 1 << 20, LIMIT)
                .unwrap_or_else(|error| panic!("{to}: {error:#}\n{}", lab.account()));
            assert_eq!(answer.pod, "node0");
        }
    }
}

/// S25: on the ports the Service has; the others are the host's.
fn an_address_of_the_node_is_a_load_balancers(shape: Shape) {
    const SSH: u16 = 22;
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    let node = lab.topology().node(0);
    let vips: Vec<IpAddr> = [&standard.near, &standard.far]
        .into_iter()
        .flat_map(|service| FAMILIES.map(|v6| service.load_balancer(v6).ip()))
        .collect();
    for vip in &vips {
        node.ns().link("lo").unwrap().add_address((*vip).into()).unwrap();
        wait_for_node_address(&standard, *vip);
    }
    let _ssh = Server::start(node.ns(), "node0", &vips, &[(Protocol::Tcp, SSH)]).unwrap();
    for v6 in FAMILIES {
        for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
            let to = service.load_balancer(v6);
            for protocol in PROTOCOLS {
                let what = format!("{protocol:?} to {to}");
                let seen = expect(&standard, host(&standard).call(protocol, to), name(pod), &what);
                let here = pod == NEAR[0];
                assert!(
                    seen == node.address(v6) || here && vips.contains(&seen),
                    "{what}: {seen}"
                );
            }
            for caller in [host(&standard), lab.client()] {
                let outcome = caller.tcp((to.ip(), SSH).into());
                expect(&standard, outcome, "node0", "a port the Service does not have");
            }
        }
    }
}

fn wait_for_node_address(standard: &Standard, address: IpAddr) {
    poll::until("an address of the node in the maps", LIMIT, || {
        let held = standard
            .lab
            .agent(0)
            .xvip(&["dump", "node_addrs"])
            .map_err(|error| format!("{error:#}"))?;
        let there = held
            .split_whitespace()
            .any(|word| word == format!("address={address}"));
        if there { Ok(()) } else { Err(held) }
    })
    .unwrap();
}

/// S21, S24: RST and port unreachable; an address that nobody has is silence, and is told from those by the counter.
fn nobody_serving_refuses_the_node_at_once(shape: Shape) {
    let mut standard = Standard::start(shape);
    let empty = Service::new("empty", 20).with_load_balancer();
    standard.lab.write(&empty, &[]).unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    for v6 in FAMILIES {
        let mut unknown_port = standard.near.cluster_ip(v6);
        unknown_port.set_port(4444);
        for to in [
            empty.cluster_ip(v6),
            empty.load_balancer(v6),
            lab.node_port(0, &empty, v6),
            unknown_port,
        ] {
            let began = Instant::now();
            let caller = host(&standard);
            assert_eq!(caller.tcp(to), Outcome::Refused, "TCP to {to}\n{}", lab.account());
            assert_eq!(
                caller.udp(to),
                Outcome::Unreachable,
                "UDP to {to}\n{}",
                lab.account()
            );
            assert!(began.elapsed() < AT_ONCE, "{to} took {:?}", began.elapsed());
        }
        let unserved = Service::new("nobody", 99).cluster_ip(v6);
        for caller in [host(&standard), lab.pod_caller(NEAR[0])] {
            let before = lab.counted(0, "unserved").unwrap();
            let outcome = caller.patience(Duration::from_millis(300)).tcp(unserved);
            assert_eq!(outcome, Outcome::TimedOut);
            assert!(
                lab.counted(0, "unserved").unwrap() > before,
                "{unserved} left the node"
            );
        }
    }
}

/// S17: `externalTrafficPolicy: Local` is short-circuited for the node itself. S32: it is one client, whatever address it calls.
fn policies_and_affinity_of_the_node_itself(shape: Shape) {
    let mut standard = Standard::start(shape);
    let elsewhere = Service::new("elsewhere", 21)
        .with_load_balancer()
        .field("externalTrafficPolicy: Local");
    let inside = Service::new("inside", 22).field("internalTrafficPolicy: Local");
    let sticky = Service::new("sticky", 23)
        .with_load_balancer()
        .field("sessionAffinity: ClientIP");
    let all = standard.endpoints(&[0, 1, 2, 3]);
    standard
        .lab
        .write(&elsewhere, &standard.endpoints(&FAR[..1]))
        .unwrap();
    standard.lab.write(&inside, &all).unwrap();
    standard.lab.write(&sticky, &all).unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    let caller = host(&standard);
    for v6 in FAMILIES {
        for to in [elsewhere.load_balancer(v6), lab.node_port(0, &elsewhere, v6)] {
            expect(&standard, caller.tcp(to), name(FAR[0]), &format!("{to}"));
        }
        let served = |to: SocketAddr, calls| -> BTreeSet<String> {
            let outcomes = caller.calls(Protocol::Tcp, to, calls);
            outcomes.into_iter().map(|outcome| outcome.answer().pod).collect()
        };
        let near: BTreeSet<String> = NEAR.map(|pod| name(pod).to_owned()).into();
        assert!(served(inside.cluster_ip(v6), 20).is_subset(&near));
        let mut stuck = BTreeSet::new();
        for to in [
            sticky.cluster_ip(v6),
            sticky.load_balancer(v6),
            lab.node_port(0, &sticky, v6),
        ] {
            stuck.append(&mut served(to, 5));
        }
        assert_eq!(stuck.len(), 1, "one client, one endpoint: {stuck:?}");
    }
}

/// S44: a connection that begins no flow and that nobody takes is told so, at the last place that could have.
fn connections_that_nobody_knows_are_reset_where_they_leave(shape: Shape) {
    let mut standard = Standard::running(shape);
    let state = standard.lab.state();
    let state = state.to_str().unwrap();
    for v6 in FAMILIES {
        let to = standard.all.cluster_ip(v6);
        let callers = [host(&standard), standard.lab.pod_caller(NEAR[0])];
        let mut connections = callers.map(|caller| caller.connect(to).unwrap());
        for connection in &mut connections {
            connection.request().answer();
        }
        // The flows go with the maps.
        let agent = standard.lab.agent_mut(0);
        agent.stop().unwrap();
        agent.xvip(&["cleanup", "--state-dir", state]).unwrap();
        agent.restart().unwrap();
        agent.wait_ready().unwrap();
        for connection in &mut connections {
            let outcome = connection.request();
            assert!(
                matches!(&outcome, Outcome::Broken(how) if how.contains("reset")),
                "{outcome}\n{}",
                standard.lab.account()
            );
        }
    }
}

/// S45, as NodeLocal DNSCache does it: the ClusterIP on a device of the node, and a socket bound to it. Without the socket the
/// Service serves.
fn a_listener_at_a_cluster_ip_is_called_in_place_of_the_service(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    let node = lab.topology().node(0);
    let lo = node.ns().link("lo").unwrap();
    let ips = FAMILIES.map(|v6| standard.far.cluster_ip(v6).ip());
    for ip in ips {
        lo.add_address(ip.into()).unwrap();
        wait_for_node_address(&standard, ip);
    }
    let listens = PROTOCOLS.map(|protocol| (protocol, PORT));
    let cache = Server::start(node.ns(), "cache", &ips, &listens).unwrap();
    let callers = || [host(&standard), lab.pod_caller(NEAR[0]), lab.client()];
    let all_reach = |expected: &str| {
        for v6 in FAMILIES {
            for caller in callers() {
                for protocol in PROTOCOLS {
                    let to = standard.far.cluster_ip(v6);
                    let outcome = caller.call(protocol, to);
                    expect(&standard, outcome, expected, &format!("{protocol:?} to {to}"));
                }
            }
        }
    };
    all_reach("cache");
    cache.stop();
    all_reach(name(FAR[0]));
}

/// Connections that were there before, and those that have nothing to do with Services, to pods, to others and to itself.
fn other_traffic_of_the_node_is_untouched(shape: Shape) {
    const SSH: u16 = 22;
    let mut standard = Standard::start(shape);
    let node = standard.lab.topology().node(0).ns().clone();
    let own = standard.lab.topology().node(0).host().addresses(0);
    let client = standard.lab.topology().client();
    let listens = PROTOCOLS.map(|protocol| (protocol, SSH));
    let _ssh = Server::start(&node, "node0", &own, &listens).unwrap();
    let _outside = Server::start(client.ns(), "client0", &client.addresses(0), &listens).unwrap();
    let caller = Caller::new(&node);
    let mut others: Vec<(SocketAddr, &str)> = Vec::new();
    for v6 in FAMILIES {
        let port = TARGET_PORT;
        others.push((
            (standard.lab.pod(NEAR[0]).address(v6), port).into(),
            name(NEAR[0]),
        ));
        others.push(((standard.lab.pod(FAR[0]).address(v6), port).into(), name(FAR[0])));
        others.push(((client.address(v6), SSH).into(), "client0"));
        others.push(((own[usize::from(v6)], SSH).into(), "node0"));
    }
    let mut standing: Vec<_> = others
        .iter()
        .map(|(to, _)| caller.connect(*to).unwrap())
        .collect();
    standard.lab.start_agents(&[]).unwrap();
    for ((to, by), connection) in others.iter().zip(&mut standing) {
        assert_eq!(connection.request().by(), Some(*by), "{to}, from before");
        for protocol in PROTOCOLS {
            let outcome = caller.call(protocol, *to);
            expect(&standard, outcome, by, &format!("{protocol:?} to {to}"));
        }
    }
    let flows = standard.lab.agent(0).xvip_json(&["get", "flows"]).unwrap();
    assert_eq!(flows, serde_json::json!([]), "none of them is a flow of ours");
}
