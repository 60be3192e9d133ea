//! The ranges a cluster allocates from, and the choice of a free value in them.
//!
//! Owns: what the ranges may be, and where a search starts, so that agents which see the same objects choose
//! the same values. Must not know: who holds what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::IpFamily;

/// The ranges of `--service-cluster-ip-range`, `--service-node-port-range` and `--lb-ip-range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    cluster: Vec<IpNet>,
    node_ports: RangeInclusive<u16>,
    load_balancer: Vec<IpNet>,
}

/// Why ranges cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// Not one or two cluster ranges, or two of one family.
    #[error("the service cluster IP range must be one IPv4 range, one IPv6 range, or one of each")]
    ClusterFamilies,
    /// The node port range is empty or holds port 0.
    #[error("the service node port range {0}-{1} must go from a port of at least 1 to one not below it")]
    NodePorts(u16, u16),
}

impl Default for Ranges {
    /// What kubeadm and kind configure: 10.96.0.0/12 and fd00:10:96::/112, ports 30000 to 32767, no
    /// load-balancer addresses.
    fn default() -> Self {
        let v4 = Ipv4Addr::new(10, 96, 0, 0);
        let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0);
        Self {
            cluster: vec![
                IpNet::new_assert(v4.into(), 12),
                IpNet::new_assert(v6.into(), 112),
            ],
            node_ports: 30_000..=32_767,
            load_balancer: Vec::new(),
        }
    }
}

impl Ranges {
    /// Checks the ranges; the first cluster range is that of the primary family.
    ///
    /// # Errors
    /// See [`RangesError`].
    pub fn new(
        cluster: &[IpNet],
        node_ports: RangeInclusive<u16>,
        load_balancer: &[IpNet],
    ) -> Result<Self, RangesError> {
        let families: Vec<IpFamily> = cluster.iter().copied().map(IpFamily::of_net).collect();
        if !matches!(
            families.as_slice(),
            [_] | [IpFamily::V4, IpFamily::V6] | [IpFamily::V6, IpFamily::V4]
        ) {
            return Err(RangesError::ClusterFamilies);
        }
        if node_ports.is_empty() || *node_ports.start() == 0 {
            return Err(RangesError::NodePorts(*node_ports.start(), *node_ports.end()));
        }
        Ok(Self {
            cluster: cluster.iter().map(IpNet::trunc).collect(),
            node_ports,
            load_balancer: load_balancer.iter().map(IpNet::trunc).collect(),
        })
    }

    /// The families of the cluster, the primary one first.
    pub fn families(&self) -> impl Iterator<Item = IpFamily> {
        self.cluster.iter().copied().map(IpFamily::of_net)
    }

    /// The cluster range of a family.
    #[must_use]
    pub fn cluster(&self, family: IpFamily) -> Option<IpNet> {
        self.cluster
            .iter()
            .copied()
            .find(|&net| IpFamily::of_net(net) == family)
    }

    /// The node port range.
    #[must_use]
    pub fn node_ports(&self) -> RangeInclusive<u16> {
        self.node_ports.clone()
    }

    /// The load-balancer ranges of a family.
    pub fn load_balancer(&self, family: IpFamily) -> impl Iterator<Item = IpNet> {
        self.load_balancer
            .iter()
            .copied()
            .filter(move |&net| IpFamily::of_net(net) == family)
    }
}

/// Whether an address of the range may be given to a Service: not the network's own, not IPv4 broadcast.
pub(super) fn is_usable(net: IpNet, ip: IpAddr) -> bool {
    if !net.contains(&ip) {
        return false;
    }
    let (first, count) = usable(net);
    number(ip).wrapping_sub(first) < count
}

/// A free address of the range, always the same one for the same seed and the same free addresses.
pub(super) fn pick_address(net: IpNet, seed: u64, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (first, count) = usable(net);
    let static_band = (count / 16).clamp(16, 256);
    let at = |offset: u128| match IpFamily::of_net(net) {
        // A v4 range has at most 2³² addresses.
        IpFamily::V4 => Ipv4Addr::from(u32::try_from(first + offset).unwrap_or(u32::MAX)).into(),
        IpFamily::V6 => Ipv6Addr::from(first + offset).into(),
    };
    pick(count, static_band, seed, |offset| taken(at(offset))).map(at)
}

/// A free port of the range, always the same one for the same seed and the same free ports.
pub(super) fn pick_port(range: RangeInclusive<u16>, seed: u64, taken: impl Fn(u16) -> bool) -> Option<u16> {
    let count = u128::from(range.end() - range.start()) + 1;
    let static_band = (count / 32).clamp(16, 128);
    let at = |offset: u128| range.start() + u16::try_from(offset).unwrap_or(u16::MAX);
    pick(count, static_band, seed, |offset| taken(at(offset))).map(at)
}

/// Where the search for a value starts: FNV-1a, fixed for all time, because agents must agree.
pub(super) fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Searches the part above the static band from the seed's place on, then the band from its top down: low
/// values are those people write into manifests, the very first is a cluster's own `kubernetes` Service.
fn pick(count: u128, static_band: u128, seed: u64, taken: impl Fn(u128) -> bool) -> Option<u128> {
    let band = if static_band < count { static_band } else { 0 };
    let dynamic = count - band;
    if dynamic == 0 {
        return None;
    }
    let start = u128::from(seed) % dynamic;
    let above = (0..dynamic).map(|step| band + (start + step) % dynamic);
    above.chain((0..band).rev()).find(|&offset| !taken(offset))
}

/// The first usable address as a number, and how many there are.
fn usable(net: IpNet) -> (u128, u128) {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    let size = if bits == 128 { u128::MAX } else { 1u128 << bits };
    let network = number(net.network());
    match net {
        _ if bits == 0 => (network, 1),
        IpNet::V4(_) if bits > 1 => (network + 1, size - 2),
        IpNet::V4(_) => (network, size),
        IpNet::V6(_) => (network + 1, size - 1),
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_usable_address_of_a_range_is_found_and_no_other() {
        for (range, count) in [
            ("10.0.0.0/24", 254),
            ("10.0.0.0/29", 6),
            ("10.0.0.1/32", 1),
            ("10.0.0.0/31", 2),
            ("fd00::/120", 255),
        ] {
            let net: IpNet = range.parse().unwrap();
            let mut taken = BTreeSet::new();
            while let Some(ip) = pick_address(net, seed(range), |ip| taken.contains(&ip)) {
                assert!(is_usable(net, ip), "{ip} of {range}");
                taken.insert(ip);
            }
            assert_eq!(taken.len(), count, "{range}");
        }
        assert!(!is_usable(
            "10.0.0.0/24".parse().unwrap(),
            "10.0.0.255".parse().unwrap()
        ));
        assert!(!is_usable(
            "10.0.0.0/24".parse().unwrap(),
            "10.0.0.0".parse().unwrap()
        ));
        assert!(!is_usable(
            "10.0.0.0/24".parse().unwrap(),
            "10.0.1.1".parse().unwrap()
        ));
    }

    #[test]
    fn the_low_part_of_a_range_is_given_out_last() {
        let mut taken = BTreeSet::new();
        while let Some(port) = pick_port(30_000..=30_099, seed("x"), |port| taken.contains(&port)) {
            assert!(
                taken.len() >= 84 || port >= 30_016,
                "{port} after {}",
                taken.len()
            );
            taken.insert(port);
        }
        assert_eq!(taken.len(), 100);
    }

    #[test]
    fn a_huge_range_is_searched_as_quickly_as_a_small_one() {
        let net: IpNet = "::/0".parse().unwrap();
        assert!(pick_address(net, seed("x"), |_| false).is_some());
    }

    #[test]
    fn ranges_that_make_no_cluster_are_refused() {
        let nets = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<IpNet>>()
        };
        for cluster in [
            &[][..],
            &["10.0.0.0/8", "11.0.0.0/8"],
            &["10.0.0.0/8", "fd00::/64", "fd01::/64"],
        ] {
            assert_eq!(
                Ranges::new(&nets(cluster), 1..=2, &[]),
                Err(RangesError::ClusterFamilies)
            );
        }
        let one = nets(&["10.0.0.0/8"]);
        assert_eq!(Ranges::new(&one, 0..=2, &[]), Err(RangesError::NodePorts(0, 2)));
        let (high, low) = (5, 4);
        assert_eq!(
            Ranges::new(&one, high..=low, &[]),
            Err(RangesError::NodePorts(5, 4))
        );
    }
}
