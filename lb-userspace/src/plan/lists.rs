//! The two lists of endpoints a frontend can use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::model::Endpoint;

use super::ThisNode;
use super::topology::Topology;

/// The endpoints of a service port, by address.
pub(super) type Endpoints<'a> = BTreeMap<SocketAddr, &'a Endpoint>;

/// The cluster list (S13): every ready endpoint the topology admits (S12); when there is none, every serving and
/// terminating endpoint anywhere, topology ignored. An endpoint that is neither ready nor terminating is never used (S15).
///
/// It is empty exactly when the service port has no usable endpoint anywhere: the topology is on only where it admits one.
pub(super) fn cluster_list(endpoints: &Endpoints<'_>, node: &ThisNode) -> BTreeSet<SocketAddr> {
    let topology = Topology::of(endpoints.values().copied(), node);
    ready_or_terminating(endpoints, |endpoint| topology.admits(endpoint), |_| true)
}

/// The local list (S14): every ready endpoint of this node; when there is none, its serving and terminating ones.
/// Topology never applies, and whether the cluster list falls back does not matter.
pub(super) fn local_list(endpoints: &Endpoints<'_>, node: &ThisNode) -> BTreeSet<SocketAddr> {
    let local = |endpoint: &Endpoint| is_local(endpoint, node);
    ready_or_terminating(endpoints, local, local)
}

/// Whether an endpoint runs on this node (S3).
pub(super) fn is_local(endpoint: &Endpoint, node: &ThisNode) -> bool {
    endpoint.node_name.as_ref() == Some(&node.name)
}

fn ready_or_terminating(
    endpoints: &Endpoints<'_>,
    among_ready: impl Fn(&Endpoint) -> bool,
    among_terminating: impl Fn(&Endpoint) -> bool,
) -> BTreeSet<SocketAddr> {
    let select = |wanted: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
        let chosen = endpoints.iter().filter(|(_, endpoint)| wanted(endpoint));
        chosen.map(|(&address, _)| address).collect()
    };
    let ready = select(&|endpoint| endpoint.ready && among_ready(endpoint));
    if !ready.is_empty() {
        return ready;
    }
    select(&|endpoint| endpoint.serving && endpoint.terminating && among_terminating(endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{ep, this_node};

    #[derive(Clone, Copy)]
    enum State {
        Ready,
        /// Serving and terminating.
        Leaving,
        /// Terminating, no longer serving.
        Gone,
        /// Serving, neither ready nor terminating (S15).
        Warming,
    }
    use State::{Gone, Leaving, Ready, Warming};

    /// S13, S14, S15; and S12, which narrows the cluster list alone.
    #[test]
    fn each_list_is_its_ready_endpoints_or_else_its_terminating_ones() {
        let node = this_node();
        // (state, on this node, hinted zone); endpoint n has the address 10.1.0.n.
        type Case<'a> = (
            &'a str,
            &'a [(State, bool, Option<&'a str>)],
            &'a [usize],
            &'a [usize],
        );
        let cases: &[Case] = &[
            ("none", &[], &[], &[]),
            (
                "ready",
                &[(Ready, true, None), (Ready, false, None)],
                &[1, 2],
                &[1],
            ),
            (
                "terminating ones do not count beside ready ones",
                &[(Ready, true, None), (Leaving, true, None), (Leaving, false, None)],
                &[1],
                &[1],
            ),
            (
                "both fall back",
                &[(Leaving, true, None), (Leaving, false, None), (Gone, true, None)],
                &[1, 2],
                &[1],
            ),
            (
                "the local list falls back alone",
                &[(Leaving, true, None), (Ready, false, None)],
                &[2],
                &[1],
            ),
            ("endpoints elsewhere only", &[(Ready, false, None)], &[1], &[]),
            (
                "serving, neither ready nor terminating, is never used",
                &[(Warming, true, None), (Warming, false, None)],
                &[],
                &[],
            ),
            (
                "topology narrows the cluster list alone",
                &[(Ready, true, Some("zone-b")), (Ready, false, Some("zone-a"))],
                &[2],
                &[1],
            ),
            (
                "the fallback ignores topology",
                &[(Leaving, false, Some("zone-b")), (Leaving, false, Some("zone-a"))],
                &[1, 2],
                &[],
            ),
        ];
        for (description, states, cluster, local) in cases {
            let endpoints: Vec<Endpoint> = (1..)
                .zip(*states)
                .map(|(n, (state, here, zone))| {
                    let mut endpoint = ep(&format!("10.1.0.{n}"));
                    endpoint.node_name = Some(if *here { "node-1" } else { "node-2" }.to_owned());
                    endpoint.zone_hints = zone.iter().map(ToString::to_string).collect();
                    (endpoint.ready, endpoint.serving, endpoint.terminating) = match state {
                        Ready => (true, true, false),
                        Leaving => (false, true, true),
                        Gone => (false, false, true),
                        Warming => (false, true, false),
                    };
                    endpoint
                })
                .collect();
            let endpoints: Endpoints = endpoints
                .iter()
                .map(|endpoint| (SocketAddr::new(endpoint.address, 8080), endpoint))
                .collect();
            let named = |numbers: &[usize]| -> BTreeSet<SocketAddr> {
                numbers
                    .iter()
                    .map(|n| format!("10.1.0.{n}:8080").parse().unwrap())
                    .collect()
            };
            assert_eq!(
                cluster_list(&endpoints, &node),
                named(cluster),
                "cluster list: {description}"
            );
            assert_eq!(
                local_list(&endpoints, &node),
                named(local),
                "local list: {description}"
            );
        }
    }
}
