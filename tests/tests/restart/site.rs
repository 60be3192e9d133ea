//! What these tests stand on: a cluster with a thousand connections, and clients that call without end.

use std::time::Duration;

use lab::client::{Caller, Crowd};
use lab::cluster_lab::{ClusterLab, Endpoint, Service, Shape};
use lab::load::{Load, Manner};
use lab::poll;
use lab::server::Protocol;

const FAMILIES: [bool; 2] = [false, true];
/// For answers while both cores are busy with a thousand connections.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Clients of each load.
const CLIENTS: usize = 4;
/// Calls that each load makes in every phase of a test.
const PHASE: u64 = 100;
/// How long agents may take to bring about a change: they may be waiting to ask the API server once more.
const LIMIT: Duration = Duration::from_secs(45);

/// Two nodes with two pods each, and the Services of the tests.
pub(crate) struct Site {
    pub(crate) lab: ClusterLab,
    pub(crate) web: Service,
    pub(crate) gone: Service,
}

impl Site {
    pub(crate) fn start(shape: Shape) -> Self {
        let mut lab = ClusterLab::build(shape).unwrap();
        for (node, name) in [(0, "near-0"), (0, "near-1"), (1, "far-0"), (1, "far-1")] {
            lab.add_pod(node, name).unwrap();
        }
        let (web, gone) = (Service::new("web", 1), Service::new("gone", 2));
        let endpoints: Vec<_> = (0..4).map(|pod| lab.endpoint(pod)).collect();
        lab.write(&web, &endpoints).unwrap();
        lab.write(&gone, &endpoints).unwrap();
        lab.start_agents(&[]).unwrap();
        Self { lab, web, gone }
    }

    /// A thousand connections: of both families, from outside and from a pod, to backends near and far.
    pub(crate) fn crowds(&self) -> Vec<Crowd> {
        let client = self.lab.client().patience(PATIENCE);
        let pod = self.lab.pod_caller(1).patience(PATIENCE);
        let open = |caller: &Caller, to, count| {
            caller
                .crowd(to, count)
                .unwrap_or_else(|error| panic!("{error:#}"))
        };
        FAMILIES
            .into_iter()
            .flat_map(|v6| {
                [
                    open(&client, self.web.cluster_ip(v6), 200),
                    open(&client, self.lab.node_port(0, &self.web, v6), 150),
                    open(&pod, self.web.cluster_ip(v6), 150),
                ]
            })
            .collect()
    }

    /// A connect storm and UDP clients, from outside and from a pod.
    pub(crate) fn loads(&self) -> Vec<Load> {
        let outside: Vec<_> = FAMILIES
            .into_iter()
            .flat_map(|v6| [self.web.cluster_ip(v6), self.lab.node_port(0, &self.web, v6)])
            .collect();
        let inside = FAMILIES.map(|v6| self.web.cluster_ip(v6));
        let callers = [
            (self.lab.topology().client().ns(), &outside[..]),
            (self.lab.pod(1).ns(), &inside),
        ];
        let manners = [Manner::Connections, Manner::Datagrams, Manner::Association];
        callers
            .into_iter()
            .flat_map(|(ns, to)| manners.map(|manner| Load::start(ns, manner, to, CLIENTS).unwrap()))
            .collect()
    }

    /// New connections are served, from outside and from a pod.
    pub(crate) fn check_new_connections(&self, when: &str) {
        for caller in [self.lab.client(), self.lab.pod_caller(1)] {
            let caller = caller.patience(PATIENCE);
            for v6 in FAMILIES {
                for outcome in caller.calls(Protocol::Tcp, self.web.cluster_ip(v6), 16) {
                    assert!(outcome.by().is_some(), "a new connection {when}: {outcome}");
                }
            }
        }
    }

    /// The endpoints of every Service.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        (0..4).map(|pod| self.lab.endpoint(pod)).collect()
    }

    pub(crate) fn kill_agents(&mut self) {
        for node in 0..2 {
            self.lab.agent_mut(node).kill9().unwrap();
        }
    }

    /// Starts the agents again, without waiting for them.
    pub(crate) fn restart_agents(&mut self) {
        for node in 0..2 {
            self.lab.agent_mut(node).restart().unwrap();
        }
    }

    pub(crate) fn wait_ready(&mut self) {
        for node in 0..2 {
            self.lab.agent_mut(node).wait_ready().unwrap();
        }
    }

    /// Both nodes serve a Service now, or both do not.
    pub(crate) fn check_serving(&self, service: &Service, wanted: bool) {
        for node in 0..2 {
            assert_eq!(
                self.serves(node, service),
                wanted,
                "{} on node {node}",
                service.name()
            );
        }
    }

    /// Waits until both nodes serve a Service, or both no longer do.
    pub(crate) fn wait_serving(&self, service: &Service, wanted: bool) {
        for node in 0..2 {
            let what = format!("{} on node {node}", service.name());
            poll::until(&what, LIMIT, || {
                if self.serves(node, service) == wanted {
                    Ok(())
                } else {
                    Err(format!("wanted: {wanted}\n{}", self.lab.agent(node).log()))
                }
            })
            .unwrap();
        }
    }

    fn serves(&self, node: usize, service: &Service) -> bool {
        let services = self.lab.agent(node).xvip_json(&["get", "services"]).unwrap();
        let prefix = format!("default/{}:", service.name());
        let mut rows = services.as_array().into_iter().flatten();
        rows.any(|row| {
            row["service"]
                .as_str()
                .is_some_and(|name| name.starts_with(&prefix))
        })
    }
}

/// Every connection answers.
pub(crate) fn check_all(crowds: &mut [Crowd], when: &str) {
    let outcomes: Vec<_> = crowds.iter_mut().flat_map(Crowd::exercise).collect();
    let lost: Vec<_> = outcomes.iter().filter(|outcome| outcome.by().is_none()).collect();
    assert!(
        lost.is_empty(),
        "{} of {} connections lost {when}, the first: {}",
        lost.len(),
        outcomes.len(),
        lost[0]
    );
    assert_eq!(outcomes.len(), 1000);
}

/// Each load makes its calls, with things as they are now.
pub(crate) fn wait_calls(loads: &[Load]) {
    loads.iter().for_each(|load| load.wait_calls(PHASE).unwrap());
}

/// Every call of every load was answered.
pub(crate) fn check_loads(loads: Vec<Load>) {
    for load in loads {
        let account = load.stop().unwrap();
        println!("{account}");
        assert!(account.is_faultless(), "{account}");
    }
}
