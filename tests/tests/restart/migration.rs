//! From kube-proxy to this agent with connections open (S44).

use std::net::SocketAddr;
use std::time::Duration;

use lab::client::{Caller, Crowd};
use lab::cluster_lab::netfilter::{keep_translating, kube_proxy};
use lab::cluster_lab::{ClusterLab, Service, Shape};
use lab::poll;
use lab::server::Protocol;

use crate::site::{PATIENCE, check_all};

const FAMILIES: [bool; 2] = [false, true];
/// For what the kernel does a moment after it has said that it did.
const LIMIT: Duration = Duration::from_secs(10);
/// One of a node's two pods, which calls.
const CALLERS: [usize; 2] = [1, 3];

/// S44: what kube-proxy's rules began, the kernel's conntrack finishes, while the agent starts, while both are there, and
/// when the rules are gone. New connections are the agent's from its start, but for the host's own.
///
/// Each node has rules that keep the kernel translating, as those of a network plugin would: with the last nat chain of a
/// namespace, or its last rule that needs conntrack, the kernel stops, also for connections it knows.
fn connections_that_kube_proxy_began_live_on(shape: Shape) {
    let mut cluster = Cluster::with_kube_proxy(shape);
    let mut crowds = cluster.crowds();
    check_all(&mut crowds, "before the agents came");

    cluster.lab.start_agents(&[]).unwrap();
    check_all(&mut crowds, "with the agents beside the rules");
    for node in 0..2 {
        assert!(cluster.lab.counted(node, "mid-flow").unwrap() > 0);
        assert_eq!(
            cluster.flows(node),
            0,
            "a connection of kube-proxy's became a flow"
        );
    }
    cluster.check_new_connections("beside the rules");

    for node in cluster.lab.topology().nodes() {
        kube_proxy::cleanup(node).unwrap();
    }
    check_all(&mut crowds, "after the rules went");
    cluster.check_new_connections("after the rules went");
    cluster.check_new_connections_of_the_host("after the rules went");
    check_all(&mut crowds, "after new connections");
}

struct Cluster {
    lab: ClusterLab,
    web: Service,
}

impl Cluster {
    fn with_kube_proxy(shape: Shape) -> Self {
        let mut lab = ClusterLab::build(shape).unwrap();
        for (node, name) in [(0, "near-0"), (0, "near-1"), (1, "far-0"), (1, "far-1")] {
            lab.add_pod(node, name).unwrap();
        }
        let web = Service::new("web", 1).with_load_balancer();
        let endpoints: Vec<_> = (0..4).map(|pod| lab.endpoint(pod)).collect();
        lab.write(&web, &endpoints).unwrap();
        for node in lab.topology().nodes() {
            keep_translating(node.ns()).unwrap();
            kube_proxy::install(node, &[(&web, endpoints.clone())]).unwrap();
        }
        Self { lab, web }
    }

    /// A thousand: of both families, from outside, from pods of both nodes and from a node itself; each kind is spread over
    /// all four pods.
    fn crowds(&self) -> Vec<Crowd> {
        let open = |caller: &Caller, to, count| {
            let caller = caller.clone().patience(PATIENCE);
            caller
                .crowd(to, count)
                .unwrap_or_else(|error| panic!("{error:#}"))
        };
        let (client, host) = (self.lab.client(), self.host());
        let [near, far] = CALLERS.map(|pod| self.lab.pod_caller(pod));
        FAMILIES
            .into_iter()
            .flat_map(|v6| {
                [
                    open(&client, self.web.cluster_ip(v6), 50),
                    open(&host, self.web.cluster_ip(v6), 50),
                    open(&client, self.web.load_balancer(v6), 50),
                    open(&client, self.lab.node_port(0, &self.web, v6), 50),
                    open(&client, self.lab.node_port(1, &self.web, v6), 50),
                    open(&near, self.web.cluster_ip(v6), 100),
                    open(&far, self.web.cluster_ip(v6), 100),
                    open(&near, self.lab.node_port(0, &self.web, v6), 50),
                ]
            })
            .collect()
    }

    /// They are answered, and flows of the node they come to.
    fn check_new_connections(&self, when: &str) {
        let [near, far] = CALLERS.map(|pod| self.lab.pod_caller(pod));
        for v6 in FAMILIES {
            let (cluster_ip, vip) = (self.web.cluster_ip(v6), self.web.load_balancer(v6));
            let [port0, port1] = [0, 1].map(|node| self.lab.node_port(node, &self.web, v6));
            for (caller, node, to) in [
                (self.lab.client(), 0, cluster_ip),
                (self.lab.client(), 0, vip),
                (self.lab.client(), 0, port0),
                (self.lab.client(), 1, port1),
                (near.clone(), 0, cluster_ip),
                (far.clone(), 1, cluster_ip),
                (near.clone(), 0, port0),
            ] {
                self.check_new(caller, node, to, when);
            }
        }
    }

    /// A host's own connections meet its nat rules before they come to a device: they are the agent's when the rules are gone.
    fn check_new_connections_of_the_host(&self, when: &str) {
        for v6 in FAMILIES {
            self.check_new(self.host(), 0, self.web.cluster_ip(v6), when);
            self.check_new(self.host(), 1, self.lab.node_port(1, &self.web, v6), when);
        }
    }

    fn check_new(&self, caller: Caller, node: usize, to: SocketAddr, when: &str) {
        const CALLS: usize = 16;
        let before = self.connections(node);
        for outcome in caller.patience(PATIENCE).calls(Protocol::Tcp, to, CALLS) {
            assert!(
                outcome.by().is_some(),
                "a new connection to {to} {when}: {outcome}\n{}",
                self.lab.account()
            );
        }
        let expected = before + CALLS as u64;
        poll::until("the agent's own connections", LIMIT, || {
            match self.connections(node) {
                seen if seen >= expected => Ok(()),
                seen => Err(format!("{to} {when}: {} of {CALLS}", seen - before)),
            }
        })
        .unwrap();
    }

    /// A caller on node 0 itself.
    fn host(&self) -> Caller {
        Caller::new(self.lab.topology().node(0).ns())
    }

    /// Connections a node's datapath has begun.
    fn connections(&self, node: usize) -> u64 {
        let stats = self
            .lab
            .agent(node)
            .xvip_json(&["dump", "service_stats"])
            .unwrap();
        let rows = stats.as_array().into_iter().flatten();
        rows.filter_map(|row| row["connections"].as_u64()).sum()
    }

    /// Flows a node's datapath has.
    fn flows(&self, node: usize) -> usize {
        let flows = self.lab.agent(node).xvip_json(&["get", "flows"]).unwrap();
        flows.as_array().map_or(0, Vec::len)
    }
}

mod heavy {
    use super::*;

    #[test]
    fn a_thousand_connections_move_to_native_xdp() {
        connections_that_kube_proxy_began_live_on(Shape::NATIVE);
    }

    #[test]
    fn a_thousand_connections_move_to_tc_alone() {
        connections_that_kube_proxy_began_live_on(Shape::AUTO_ROUTED);
    }
}
