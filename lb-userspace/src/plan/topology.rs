//! Topology aware routing.

use crate::model::Endpoint;

use super::ThisNode;

/// Which ready endpoints the hints leave for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology<'a> {
    /// All of them.
    Off,
    /// Those with a hint for this node.
    SameNode(&'a str),
    /// Those with a hint for this zone.
    SameZone(&'a str),
}

impl<'a> Topology<'a> {
    /// The mode, over ready endpoints only (S12): all have a node hint and at least one names this node → same node;
    /// else all have a zone hint and at least one names this node's zone → same zone; else off. One ready endpoint
    /// without hints of a kind switches that kind off.
    pub(super) fn of<'e>(endpoints: impl Iterator<Item = &'e Endpoint> + Clone, node: &'a ThisNode) -> Self {
        let ready = endpoints.filter(|endpoint| endpoint.ready);
        let hinted = |hints: fn(&Endpoint) -> &std::collections::BTreeSet<String>, name: &str| {
            ready.clone().all(|endpoint| !hints(endpoint).is_empty())
                && ready.clone().any(|endpoint| hints(endpoint).contains(name))
        };
        if hinted(|endpoint| &endpoint.node_hints, &node.name) {
            return Self::SameNode(&node.name);
        }
        match node.zone.as_deref() {
            Some(zone) if hinted(|endpoint| &endpoint.zone_hints, zone) => Self::SameZone(zone),
            _ => Self::Off,
        }
    }

    /// Whether the mode leaves this endpoint.
    pub(super) fn admits(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Off => true,
            Self::SameNode(node) => endpoint.node_hints.contains(node),
            Self::SameZone(zone) => endpoint.zone_hints.contains(zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{ep, this_node};

    /// An endpoint: ready or not, its node hints, its zone hints.
    type Hints<'a> = (bool, &'a [&'a str], &'a [&'a str]);

    /// S12.
    #[test]
    fn hints_count_only_when_every_ready_endpoint_has_them_and_one_is_meant_for_here() {
        const HERE: &[&str] = &["node-1"];
        const THERE: &[&str] = &["node-2"];
        const ZONE: &[&str] = &["zone-a"];
        const FAR: &[&str] = &["zone-b"];
        let node = this_node();
        let cases: &[(&str, &[Hints], Topology)] = &[
            ("no endpoint", &[], Topology::Off),
            ("no hints", &[(true, &[], &[]), (true, &[], &[])], Topology::Off),
            (
                "all have node hints, one for here",
                &[(true, HERE, &[]), (true, THERE, &[])],
                Topology::SameNode("node-1"),
            ),
            (
                "node hints for here come before zone hints for here",
                &[(true, HERE, FAR), (true, THERE, ZONE)],
                Topology::SameNode("node-1"),
            ),
            (
                "several hints of one endpoint",
                &[(true, &["node-2", "node-1"], FAR), (true, THERE, FAR)],
                Topology::SameNode("node-1"),
            ),
            (
                "node hints, none for here, and no zone hints",
                &[(true, THERE, &[])],
                Topology::Off,
            ),
            (
                "node hints, none for here, zone hints for here",
                &[(true, THERE, ZONE), (true, THERE, FAR)],
                Topology::SameZone("zone-a"),
            ),
            (
                "one without a node hint",
                &[(true, HERE, ZONE), (true, &[], FAR)],
                Topology::SameZone("zone-a"),
            ),
            (
                "one without a zone hint",
                &[(true, &[], ZONE), (true, &[], &[])],
                Topology::Off,
            ),
            ("zone hints, none for here", &[(true, &[], FAR)], Topology::Off),
            (
                "an endpoint that is not ready has no say",
                &[(true, &[], ZONE), (false, &[], &[])],
                Topology::SameZone("zone-a"),
            ),
            (
                "nor is its hint for here enough",
                &[(false, &[], ZONE), (true, &[], FAR)],
                Topology::Off,
            ),
        ];
        for (description, hints, expected) in cases {
            let endpoints: Vec<Endpoint> = hints
                .iter()
                .map(|(ready, nodes, zones)| {
                    let mut endpoint = ep("10.1.0.1");
                    endpoint.ready = *ready;
                    endpoint.node_hints = nodes.iter().map(ToString::to_string).collect();
                    endpoint.zone_hints = zones.iter().map(ToString::to_string).collect();
                    endpoint
                })
                .collect();
            assert_eq!(Topology::of(endpoints.iter(), &node), *expected, "{description}");
        }
    }

    /// S10, S12.
    #[test]
    fn a_node_without_a_zone_has_no_zone_mode() {
        let mut node = this_node();
        node.zone = None;
        let mut endpoint = ep("10.1.0.1");
        endpoint.zone_hints = ["zone-a".to_owned()].into();
        assert_eq!(Topology::of([&endpoint].into_iter(), &node), Topology::Off);
    }
}
