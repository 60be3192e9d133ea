//! Which list a client gets, and whether its source is rewritten.

use crate::model::TrafficPolicy;

use super::{EndpointList, PlanConfig, Rewrite, SourceAddress};

/// The two ways into a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paths {
    /// The list of pods and of this node.
    pub(super) inside: EndpointList,
    /// The list of everybody else.
    pub(super) outside: EndpointList,
    /// Whose source is rewritten.
    pub(super) rewrite: Rewrite,
}

/// The paths of cluster IPs under `internalTrafficPolicy` (S16): one list for all clients. With
/// [`SourceAddress::KubeProxy`] pods keep their address and all others lose it; `masqueradeAll` takes it from pods too.
/// With [`SourceAddress::Preserve`] clients outside keep theirs (S17).
pub(super) fn cluster_ip_paths(policy: TrafficPolicy, config: &PlanConfig) -> Paths {
    let list = match policy {
        TrafficPolicy::Cluster => EndpointList::Cluster,
        TrafficPolicy::Local => EndpointList::Local,
    };
    Paths {
        inside: list,
        outside: list,
        rewrite: Rewrite {
            pod: config.masquerade_all,
            node: true,
            outside: config.source_address == SourceAddress::KubeProxy,
        },
    }
}

/// The paths of nodePorts, load-balancer and external addresses under `externalTrafficPolicy` (S16). Inside, `Local` is
/// short-circuited: pods and this node get the cluster list. With [`SourceAddress::KubeProxy`] every client loses its
/// address under `Cluster`, and only this node itself under `Local`; with [`SourceAddress::Preserve`] only this node (S17).
pub(super) fn external_paths(policy: TrafficPolicy, config: &PlanConfig) -> Paths {
    let rewrite_all = policy == TrafficPolicy::Cluster && config.source_address == SourceAddress::KubeProxy;
    Paths {
        inside: EndpointList::Cluster,
        outside: match policy {
            TrafficPolicy::Cluster => EndpointList::Cluster,
            TrafficPolicy::Local => EndpointList::Local,
        },
        rewrite: Rewrite {
            pod: rewrite_all,
            node: true,
            outside: rewrite_all,
        },
    }
}

impl Paths {
    /// Whether a client may get this list.
    pub(super) fn use_list(&self, list: EndpointList) -> bool {
        self.inside == list || self.outside == list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: TrafficPolicy = TrafficPolicy::Cluster;
    const LOCAL: TrafficPolicy = TrafficPolicy::Local;

    /// A row: the policy, the lists inside and outside, and who is rewritten: "p", "n", "o".
    type Row<'a> = (TrafficPolicy, EndpointList, EndpointList, &'a str);

    fn check(name: &str, rows: &[Row], paths: impl Fn(TrafficPolicy) -> Paths) {
        for (policy, inside, outside, rewritten) in rows {
            let expected = Paths {
                inside: *inside,
                outside: *outside,
                rewrite: Rewrite {
                    pod: rewritten.contains('p'),
                    node: rewritten.contains('n'),
                    outside: rewritten.contains('o'),
                },
            };
            assert_eq!(paths(*policy), expected, "{name}, {policy}");
        }
    }

    /// S16, S17.
    #[test]
    fn kube_proxys_table_to_the_letter() {
        use EndpointList::{Cluster, Local};
        let config = PlanConfig {
            source_address: SourceAddress::KubeProxy,
            ..PlanConfig::default()
        };
        check(
            "cluster IP",
            &[(CLUSTER, Cluster, Cluster, "no"), (LOCAL, Local, Local, "no")],
            |policy| cluster_ip_paths(policy, &config),
        );
        check(
            "external",
            &[(CLUSTER, Cluster, Cluster, "pno"), (LOCAL, Cluster, Local, "n")],
            |policy| external_paths(policy, &config),
        );
    }

    /// S16, S17.
    #[test]
    fn preserving_keeps_the_lists_and_rewrites_this_node_alone() {
        use EndpointList::{Cluster, Local};
        let config = PlanConfig::default();
        check(
            "cluster IP",
            &[(CLUSTER, Cluster, Cluster, "n"), (LOCAL, Local, Local, "n")],
            |policy| cluster_ip_paths(policy, &config),
        );
        check(
            "external",
            &[(CLUSTER, Cluster, Cluster, "n"), (LOCAL, Cluster, Local, "n")],
            |policy| external_paths(policy, &config),
        );
    }

    /// S17.
    #[test]
    fn masquerade_all_takes_the_address_from_pods_at_cluster_ips_only() {
        for source_address in [SourceAddress::KubeProxy, SourceAddress::Preserve] {
            let config = PlanConfig {
                source_address,
                masquerade_all: true,
                ..PlanConfig::default()
            };
            for policy in [CLUSTER, LOCAL] {
                assert!(cluster_ip_paths(policy, &config).rewrite.pod);
            }
            assert!(!external_paths(LOCAL, &config).rewrite.pod);
        }
    }
}
