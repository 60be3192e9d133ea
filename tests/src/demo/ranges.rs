//! The range ClusterIPs come from: the lab's, or one around the addresses a manifest insists on.
//!
//! Owns: the choice, pure. Must not know: allocation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use lb_userspace::model::{IpFamily, parse_ip_sloppy};

use crate::topology::SERVICE_RANGES;

/// The prefix lengths of a range made to measure: what clusters usually have.
const LENGTHS: [u8; 2] = [16, 108];
/// What is something else in the lab.
const TAKEN: [&str; 6] = [
    "192.0.2.0/24",
    "198.51.100.0/24",
    "10.244.0.0/16",
    "2001:db8::/61",
    "fd00:10:244::/48",
    "127.0.0.0/8",
];

/// The ranges for load balancers' addresses.
pub(super) fn load_balancers() -> Vec<IpNet> {
    SERVICE_RANGES[2..]
        .iter()
        .map(|range| range.parse().expect("a constant"))
        .collect()
}

/// The ranges for ClusterIPs, IPv4 first: a manifest taken out of another cluster brings addresses of that cluster's
/// range, so that one is used when it fits the lab.
pub(super) fn cluster_ips(services: &[v1::Service]) -> Vec<IpNet> {
    let written: Vec<IpAddr> = services
        .iter()
        .filter_map(|service| service.spec.as_ref())
        .flat_map(|spec| spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()))
        .filter_map(|text| parse_ip_sloppy(text))
        .collect();
    let defaults = SERVICE_RANGES[..2]
        .iter()
        .map(|range| range.parse::<IpNet>().expect("a constant"));
    defaults
        .zip(LENGTHS)
        .map(|(default, length)| {
            let mut written = written
                .iter()
                .filter(|ip| IpFamily::of(**ip) == IpFamily::of_net(default));
            let stranger = written.find(|ip| !default.contains(*ip));
            stranger.map_or(default, |&ip| around(ip, length).unwrap_or(default))
        })
        .collect()
}

fn around(ip: IpAddr, length: u8) -> Option<IpNet> {
    let range = IpNet::new(ip, length).ok()?.trunc();
    let unspecified: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let taken = TAKEN.iter().any(|taken| {
        let taken: IpNet = taken.parse().expect("a constant");
        taken.contains(&range) || range.contains(&taken)
    });
    (!taken && !unspecified.contains(&range.addr())).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_follows_the_addresses_people_wrote() {
        let cases: &[(&str, [&str; 2])] = &[
            ("{}", ["10.96.0.0/16", "fd00:96::/108"]),
            ("{clusterIP: None}", ["10.96.0.0/16", "fd00:96::/108"]),
            ("{clusterIP: 10.96.7.7}", ["10.96.0.0/16", "fd00:96::/108"]),
            ("{clusterIP: 10.0.171.239}", ["10.0.0.0/16", "fd00:96::/108"]),
            ("{clusterIPs: ['fd00:5::7']}", ["10.96.0.0/16", "fd00:5::/108"]),
            ("{clusterIP: 10.244.0.7}", ["10.96.0.0/16", "fd00:96::/108"]),
        ];
        for (spec, expected) in cases {
            let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {spec}\n");
            let service: v1::Service = serde_saphyr::from_str(&text).unwrap();
            let ranges: Vec<_> = cluster_ips(&[service]).iter().map(ToString::to_string).collect();
            assert_eq!(ranges, expected, "{spec}");
        }
    }
}
