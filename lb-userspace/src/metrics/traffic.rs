//! What service ports carried: totals, and the ones that are shown.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::stats::ServiceStats;

use crate::config::PerServiceMetrics;
use crate::model::IpFamily;
use crate::plan::ServicePortKey;

/// What a service port has carried since it has its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) id: u32,
    pub(super) port: ServicePortKey,
    pub(super) stats: ServiceStats,
}

/// Sums over service ports that come and go. A counter must not fall: what a port that is gone has carried stays counted, as far
/// as it was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    seen: BTreeMap<u32, (ServicePortKey, ServiceStats)>,
    sums: BTreeMap<IpFamily, ServiceStats>,
}

impl Totals {
    /// Takes what all ports have carried by now.
    pub(super) fn observe(&mut self, traffic: &[Traffic]) {
        let mut seen = BTreeMap::new();
        for now in traffic {
            // An id that was given to another port began anew.
            let before = self.seen.get(&now.id).filter(|(port, _)| *port == now.port);
            let before = before.map(|(_, stats)| *stats).unwrap_or_default();
            let sum = self.sums.entry(now.port.family).or_default();
            *sum = combined(sum, &combined(&now.stats, &before, since), u64::wrapping_add);
            seen.insert(now.id, (now.port.clone(), now.stats));
        }
        self.seen = seen;
    }

    /// What a family has carried.
    pub(super) fn of(&self, family: IpFamily) -> ServiceStats {
        self.sums.get(&family).copied().unwrap_or_default()
    }
}

/// What a counter has counted since it stood at `before`. One that fell was set to zero in between.
fn since(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn combined(a: &ServiceStats, b: &ServiceStats, combine: fn(u64, u64) -> u64) -> ServiceStats {
    ServiceStats {
        packets: combine(a.packets, b.packets),
        bytes: combine(a.bytes, b.bytes),
        connections: combine(a.connections, b.connections),
        refused: combine(a.refused, b.refused),
    }
}

/// The service ports that are shown: the `top` with the most connections, and those of the chosen namespaces, of which the
/// busiest [`PerServiceMetrics::MOST`] at most. In ascending order of their names.
pub(super) fn shown<'a>(traffic: &'a [Traffic], wanted: &PerServiceMetrics) -> Vec<&'a Traffic> {
    let mut busiest: Vec<&Traffic> = traffic.iter().collect();
    busiest.sort_by(|a, b| {
        let by_connections = b.stats.connections.cmp(&a.stats.connections);
        by_connections.then_with(|| a.port.cmp(&b.port))
    });
    let top = usize::try_from(wanted.top).unwrap_or(usize::MAX);
    let chosen = busiest
        .iter()
        .filter(|traffic| wanted.namespaces.contains(&traffic.port.service.namespace))
        .take(PerServiceMetrics::MOST as usize);
    let names: BTreeSet<&ServicePortKey> = busiest
        .iter()
        .take(top)
        .chain(chosen)
        .map(|traffic| &traffic.port)
        .collect();
    let mut shown: Vec<&Traffic> = traffic
        .iter()
        .filter(|traffic| names.contains(&traffic.port))
        .collect();
    shown.sort_by(|a, b| a.port.cmp(&b.port));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, ServiceKey};

    fn traffic(id: u32, namespace: &str, name: &str, connections: u64) -> Traffic {
        Traffic {
            id,
            port: ServicePortKey {
                service: ServiceKey::new(namespace, name),
                port_name: String::new(),
                protocol: Protocol::Tcp,
                port: 80,
                family: IpFamily::V4,
            },
            stats: ServiceStats {
                connections,
                packets: connections * 10,
                ..ServiceStats::default()
            },
        }
    }

    #[test]
    fn a_total_never_falls() {
        let mut totals = Totals::default();
        let steps: [(&[Traffic], u64); 6] = [
            (&[traffic(1, "n", "a", 5), traffic(2, "n", "b", 7)], 12),
            (&[traffic(1, "n", "a", 6), traffic(2, "n", "b", 7)], 13),
            // The id of b, for another Service, which has carried more already.
            (&[traffic(1, "n", "a", 6), traffic(2, "n", "c", 9)], 22),
            (&[traffic(1, "n", "a", 6)], 22),
            // The same port under the same id, emptied in between.
            (&[traffic(1, "n", "a", 2)], 24),
            (&[], 24),
        ];
        for (index, (traffic, expected)) in steps.into_iter().enumerate() {
            totals.observe(traffic);
            assert_eq!(totals.of(IpFamily::V4).connections, expected, "step {index}");
            assert_eq!(totals.of(IpFamily::V4).packets, expected * 10, "step {index}");
        }
        assert_eq!(totals.of(IpFamily::V6), ServiceStats::default());
    }

    /// S42.
    #[test]
    fn the_busiest_and_those_of_chosen_namespaces_are_shown() {
        let all = [
            traffic(1, "shop", "web", 50),
            traffic(2, "shop", "api", 10),
            traffic(3, "kube-system", "dns", 900),
            traffic(4, "other", "idle", 10),
        ];
        let check = |namespaces: &[&str], top, expected: &[&str]| {
            let wanted = PerServiceMetrics {
                namespaces: namespaces.iter().map(ToString::to_string).collect(),
                top,
            };
            let shown: Vec<String> = shown(&all, &wanted)
                .into_iter()
                .map(|traffic| traffic.port.service.to_string())
                .collect();
            assert_eq!(shown, expected, "{namespaces:?} {top}");
        };
        check(&[], 0, &[]);
        check(&[], 1, &["kube-system/dns"]);
        check(&[], 3, &["kube-system/dns", "other/idle", "shop/web"]);
        check(&["shop"], 0, &["shop/api", "shop/web"]);
        check(&["shop", "none"], 1, &["kube-system/dns", "shop/api", "shop/web"]);
        check(
            &[],
            10,
            &["kube-system/dns", "other/idle", "shop/api", "shop/web"],
        );
    }
}
