//! The two slot ranges of a record, and the backends behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::lists::{Endpoints, cluster_list, is_local, local_list};
use super::paths::Paths;
use super::{EmptyVerdict, EndpointList, PlannedBackend, PlannedList, PlannedRecord, ThisNode};

/// The endpoints of a service port that are in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lists {
    cluster: BTreeSet<SocketAddr>,
    local: BTreeSet<SocketAddr>,
}

impl Lists {
    /// Both lists of S13 and S14.
    pub(super) fn of(endpoints: &Endpoints<'_>, node: &ThisNode) -> Self {
        Self {
            cluster: cluster_list(endpoints, node),
            local: local_list(endpoints, node),
        }
    }

    /// A record: for clients inside and outside the list their path leads to, and whose source is rewritten.
    ///
    /// An empty list rejects where nobody serves anywhere (S21), and drops where it is the local one and there are endpoints
    /// elsewhere (S22).
    pub(super) fn record(&self, paths: Paths) -> PlannedRecord {
        PlannedRecord {
            inside: self.planned(paths.inside),
            outside: self.planned(paths.outside),
            rewrite: paths.rewrite,
        }
    }

    /// The endpoints that some client gets by one of `paths`; an endpoint in a list that no path leads to is no backend by it.
    pub(super) fn backends(
        &self,
        endpoints: &Endpoints<'_>,
        paths: &[Paths],
        node: &ThisNode,
    ) -> BTreeMap<SocketAddr, PlannedBackend> {
        let used = |list| paths.iter().any(|paths| paths.use_list(list));
        let planned = endpoints.iter().map(|(&address, endpoint)| {
            let backend = PlannedBackend {
                local: is_local(endpoint, node),
                in_cluster_list: used(EndpointList::Cluster) && self.cluster.contains(&address),
                in_local_list: used(EndpointList::Local) && self.local.contains(&address),
            };
            (address, backend)
        });
        planned
            .filter(|(_, backend)| backend.in_cluster_list || backend.in_local_list)
            .collect()
    }

    fn planned(&self, list: EndpointList) -> PlannedList {
        let endpoints = match list {
            EndpointList::Cluster => &self.cluster,
            EndpointList::Local => &self.local,
        };
        PlannedList {
            list,
            endpoints: endpoints.iter().copied().collect(),
            when_empty: match list {
                EndpointList::Local if !self.cluster.is_empty() => EmptyVerdict::Drop,
                EndpointList::Local | EndpointList::Cluster => EmptyVerdict::Reject,
            },
        }
    }
}

/// The record with nobody for clients outside, who are dropped.
pub(super) fn closed_to_outside(record: PlannedRecord) -> PlannedRecord {
    PlannedRecord {
        outside: PlannedList {
            endpoints: Vec::new(),
            when_empty: EmptyVerdict::Drop,
            ..record.outside
        },
        ..record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Rewrite;
    use crate::plan::fixtures::{ep, here, this_node};

    /// The lists of a service port, as last bytes of addresses.
    fn lists(cluster: &[u8], local: &[u8]) -> Lists {
        let addresses = |hosts: &[u8]| {
            hosts
                .iter()
                .map(|host| ([10, 1, 0, *host], 8080).into())
                .collect()
        };
        Lists {
            cluster: addresses(cluster),
            local: addresses(local),
        }
    }

    fn paths(inside: EndpointList, outside: EndpointList) -> Paths {
        Paths {
            inside,
            outside,
            rewrite: Rewrite::default(),
        }
    }

    /// S21, S22.
    #[test]
    fn a_range_is_its_list_and_an_empty_one_rejects_or_drops() {
        use EmptyVerdict::{Drop, Reject};
        use EndpointList::{Cluster, Local};
        // (cluster list, local list, which, its endpoints, what empty means)
        type Row<'a> = (&'a [u8], &'a [u8], EndpointList, &'a [u8], EmptyVerdict);
        let rows: &[Row] = &[
            (&[1, 2], &[1], Cluster, &[1, 2], Reject),
            (&[1, 2], &[1], Local, &[1], Drop),
            (&[2], &[], Cluster, &[2], Reject),
            (&[2], &[], Local, &[], Drop),
            (&[2], &[1], Local, &[1], Drop),
            (&[], &[], Cluster, &[], Reject),
            (&[], &[], Local, &[], Reject),
        ];
        for (cluster, local, list, endpoints, when_empty) in rows {
            let other = if *list == Cluster { Local } else { Cluster };
            let lists = lists(cluster, local);
            let expected = PlannedList {
                list: *list,
                endpoints: endpoints
                    .iter()
                    .map(|host| ([10, 1, 0, *host], 8080).into())
                    .collect(),
                when_empty: *when_empty,
            };
            assert_eq!(
                lists.record(paths(*list, other)).inside,
                expected,
                "{list:?} of {lists:?}"
            );
            assert_eq!(
                lists.record(paths(other, *list)).outside,
                expected,
                "{list:?} of {lists:?}"
            );
        }
    }

    #[test]
    fn backends_are_in_the_lists_that_some_path_leads_to() {
        use EndpointList::{Cluster, Local};
        let (near, far) = (here("10.1.0.1"), ep("10.1.0.2"));
        let endpoints: Endpoints = [&near, &far]
            .map(|endpoint| (SocketAddr::new(endpoint.address, 8080), endpoint))
            .into();
        // (the paths, "c" and "l" for the lists of the near endpoint, and of the far one)
        type Row<'a> = (&'a [Paths], &'a str, &'a str);
        let rows: &[Row] = &[
            (&[paths(Cluster, Cluster)], "c", "c"),
            (&[paths(Local, Local)], "l", ""),
            (&[paths(Cluster, Local)], "cl", "c"),
            (&[paths(Cluster, Cluster), paths(Cluster, Local)], "cl", "c"),
            (&[paths(Local, Local), paths(Cluster, Cluster)], "cl", "c"),
        ];
        for (paths, near_in, far_in) in rows {
            let lists = Lists::of(&endpoints, &this_node());
            let backends = lists.backends(&endpoints, paths, &this_node());
            for (endpoint, local, lists) in [(&near, true, near_in), (&far, false, far_in)] {
                let expected = (!lists.is_empty()).then_some(PlannedBackend {
                    local,
                    in_cluster_list: lists.contains('c'),
                    in_local_list: lists.contains('l'),
                });
                let backend = backends.get(&SocketAddr::new(endpoint.address, 8080));
                assert_eq!(backend.copied(), expected, "{paths:?}");
            }
        }
    }

    #[test]
    fn a_record_closed_to_outside_drops_there_and_is_otherwise_as_it_was() {
        use EndpointList::Cluster;
        let open = lists(&[1], &[]).record(paths(Cluster, Cluster));
        let closed = closed_to_outside(open.clone());
        assert_eq!((&closed.inside, closed.rewrite), (&open.inside, open.rewrite));
        assert!(closed.outside.endpoints.is_empty());
        assert_eq!(closed.outside.when_empty, EmptyVerdict::Drop);
    }
}
