//! Where a Service is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::addr::Addr;
use lb_common::frontend::FrontendKey;
use lb_common::port::Port;
use lb_common::protocol;

use crate::model::{IpFamily, Problem, Protocol, Service, ServicePort};

use super::endpoints::is_routable;
use super::sources::allowed_sources;
use super::{PlanConfig, RecordRole, ThisNode};

/// The addresses of a Service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    cluster: IpAddr,
    /// External and load-balancer addresses that every client may use.
    external: Vec<IpAddr>,
    /// Load-balancer addresses that only clients in `sources` may use.
    restricted: Vec<IpAddr>,
    /// Empty when no address is restricted.
    pub(super) sources: BTreeSet<IpNet>,
}

impl Addresses {
    /// The addresses of a family, or `None` where the Service does not exist in it: it has no cluster IP there (S6).
    ///
    /// External IPs count unless they are switched off (S7). Source ranges apply to load-balancer VIPs alone (S27).
    pub(super) fn of(
        service: &Service,
        family: IpFamily,
        node: &ThisNode,
        config: &PlanConfig,
        warnings: &mut Vec<Problem>,
    ) -> Option<Self> {
        let cluster = service.cluster_ip(family).filter(|&ip| is_routable(ip))?;
        let mut usable = |field: &str, addresses: &[IpAddr]| -> Vec<IpAddr> {
            let of_family = addresses.iter().copied().filter(|&ip| IpFamily::of(ip) == family);
            let (usable, odd): (Vec<_>, Vec<_>) = of_family.partition(|&ip| is_routable(ip));
            warnings.extend(odd.iter().map(|ip| {
                let reason = format!("ignored: {ip} is unspecified, loopback or multicast");
                Problem::new(field, reason)
            }));
            usable
        };
        let mut external = if config.allow_external_ips {
            usable("spec.externalIPs", &service.external_ips)
        } else {
            Vec::new()
        };
        let mut vips = usable("status.loadBalancer.ingress", &service.load_balancer_vips);
        let ranges = &service.load_balancer_source_ranges;
        let sources = allowed_sources(ranges, family, &vips, node).filter(|_| !vips.is_empty());
        let restricted = match sources {
            Some(_) => vips,
            None => {
                external.append(&mut vips);
                Vec::new()
            }
        };
        Some(Self {
            cluster,
            external,
            restricted,
            sources: sources.unwrap_or_default(),
        })
    }

    /// The frontends of one port: the cluster IP, external and load-balancer addresses at the port's number, and every
    /// address of the node at its nodePort. An external address equal to the cluster IP is the cluster IP; one equal to a
    /// restricted address is restricted.
    pub(super) fn of_port(&self, port: &ServicePort) -> BTreeMap<FrontendKey, RecordRole> {
        let proto = protocol_number(port.protocol);
        let at = |ip: IpAddr| FrontendKey::new(ip.into(), Port::new(port.port), proto);
        let mut frontends: BTreeMap<_, _> = self
            .external
            .iter()
            .map(|&ip| (at(ip), RecordRole::External))
            .collect();
        frontends.extend(self.restricted.iter().map(|&ip| (at(ip), RecordRole::Restricted)));
        if let Some(node_port) = port.node_port {
            let any = match IpFamily::of(self.cluster) {
                IpFamily::V4 => Addr::ANY4,
                IpFamily::V6 => Addr::ANY6,
            };
            let key = FrontendKey::new(any, Port::new(node_port), proto);
            frontends.insert(key, RecordRole::External);
        }
        frontends.insert(at(self.cluster), RecordRole::Cluster);
        frontends
    }

    /// The entry that rejects packets to ports the cluster IP does not have (S24). Other ports of external and
    /// load-balancer addresses are not ours: the address may be a host's, this node's among them (S25).
    pub(super) fn of_unknown_ports(&self, node: &ThisNode) -> Option<(FrontendKey, RecordRole)> {
        let key = FrontendKey::new(self.cluster.into(), Port::NONE, 0);
        (!node.addresses.contains(&self.cluster)).then_some((key, RecordRole::UnknownPort))
    }
}

/// The number of a protocol in an IP header.
fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Sctp => protocol::SCTP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{service, this_node};

    fn show(frontends: &BTreeMap<FrontendKey, RecordRole>) -> Vec<String> {
        let mut lines: Vec<String> = frontends
            .iter()
            .map(|(key, role)| {
                let port = Port(key.port).number();
                format!("{} {port} {} {role:?}", key.addr.to_ip(), key.proto)
            })
            .collect();
        lines.sort();
        lines
    }

    fn check(service: &Service, family: IpFamily, config: PlanConfig, expected: &[&str]) -> Vec<Problem> {
        let mut warnings = Vec::new();
        let addresses = Addresses::of(service, family, &this_node(), &config, &mut warnings);
        let frontends = addresses.map(|addresses| {
            let mut all = addresses.of_port(&service.ports[0]);
            all.extend(addresses.of_unknown_ports(&this_node()));
            all
        });
        assert_eq!(show(&frontends.unwrap_or_default()), expected);
        warnings
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn everywhere() -> Service {
        let mut service = service();
        service.ports[0].node_port = Some(30080);
        service.external_ips = ips(&["192.0.2.10", "2001:db8::10"]);
        service.load_balancer_vips = ips(&["198.51.100.5"]);
        service
    }

    #[test]
    fn a_port_is_reached_at_every_kind_of_address() {
        let warnings = check(
            &everywhere(),
            IpFamily::V4,
            PlanConfig::default(),
            &[
                "0.0.0.0 30080 6 External",
                "10.96.0.10 0 0 UnknownPort",
                "10.96.0.10 80 6 Cluster",
                "192.0.2.10 80 6 External",
                "198.51.100.5 80 6 External",
            ],
        );
        assert!(warnings.is_empty());
    }

    /// S6.
    #[test]
    fn without_a_cluster_ip_of_the_family_there_is_nothing_in_it() {
        check(&everywhere(), IpFamily::V6, PlanConfig::default(), &[]);
    }

    #[test]
    fn a_cluster_ip_no_packet_is_sent_to_is_none() {
        let mut service = everywhere();
        service.cluster_ips = ips(&["127.0.0.1"]);
        check(&service, IpFamily::V4, PlanConfig::default(), &[]);
    }

    #[test]
    fn ranges_without_a_load_balancer_address_are_nobodys() {
        let mut service = service();
        service.load_balancer_source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
        let mut warnings = Vec::new();
        let config = PlanConfig::default();
        let addresses = Addresses::of(&service, IpFamily::V4, &this_node(), &config, &mut warnings);
        assert_eq!(addresses.unwrap().sources, BTreeSet::new());
    }

    /// S6.
    #[test]
    fn the_second_family_has_its_own_addresses_and_node_port() {
        let mut service = everywhere();
        service.cluster_ips = ips(&["10.96.0.10", "fd00::10"]);
        check(
            &service,
            IpFamily::V6,
            PlanConfig::default(),
            &[
                "2001:db8::10 80 6 External",
                ":: 30080 6 External",
                "fd00::10 0 0 UnknownPort",
                "fd00::10 80 6 Cluster",
            ],
        );
    }

    /// S7.
    #[test]
    fn external_ips_can_be_switched_off() {
        let mut service = everywhere();
        service.load_balancer_vips.clear();
        let config = PlanConfig {
            allow_external_ips: false,
            ..PlanConfig::default()
        };
        check(
            &service,
            IpFamily::V4,
            config,
            &[
                "0.0.0.0 30080 6 External",
                "10.96.0.10 0 0 UnknownPort",
                "10.96.0.10 80 6 Cluster",
            ],
        );
    }

    #[test]
    fn s27_source_ranges_restrict_load_balancer_addresses_alone() {
        let mut service = everywhere();
        service.cluster_ips = ips(&["10.96.0.10", "fd00::10"]);
        service.load_balancer_vips = ips(&["198.51.100.5", "2001:db8:2::5"]);
        service.load_balancer_source_ranges = vec![
            "203.0.113.0/24".parse().unwrap(),
            "2001:db8:3::/48".parse().unwrap(),
        ];
        check(
            &service,
            IpFamily::V4,
            PlanConfig::default(),
            &[
                "0.0.0.0 30080 6 External",
                "10.96.0.10 0 0 UnknownPort",
                "10.96.0.10 80 6 Cluster",
                "192.0.2.10 80 6 External",
                "198.51.100.5 80 6 Restricted",
            ],
        );
        check(
            &service,
            IpFamily::V6,
            PlanConfig::default(),
            &[
                "2001:db8:2::5 80 6 Restricted",
                "2001:db8::10 80 6 External",
                ":: 30080 6 External",
                "fd00::10 0 0 UnknownPort",
                "fd00::10 80 6 Cluster",
            ],
        );
    }

    #[test]
    fn an_external_address_that_is_a_restricted_one_too_is_restricted_and_a_cluster_ip_never_is() {
        let mut service = service();
        service.external_ips = ips(&["198.51.100.5"]);
        service.load_balancer_vips = ips(&["198.51.100.5", "10.96.0.10"]);
        service.load_balancer_source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
        check(
            &service,
            IpFamily::V4,
            PlanConfig::default(),
            &[
                "10.96.0.10 0 0 UnknownPort",
                "10.96.0.10 80 6 Cluster",
                "198.51.100.5 80 6 Restricted",
            ],
        );
    }

    #[test]
    fn a_list_that_keeps_nobody_of_the_family_out_leaves_its_load_balancer_addresses_open() {
        let mut service = service();
        service.load_balancer_vips = ips(&["198.51.100.5"]);
        service.load_balancer_source_ranges = vec!["2001:db8::/32".parse().unwrap()];
        check(
            &service,
            IpFamily::V4,
            PlanConfig::default(),
            &[
                "10.96.0.10 0 0 UnknownPort",
                "10.96.0.10 80 6 Cluster",
                "198.51.100.5 80 6 External",
            ],
        );
    }

    #[test]
    fn an_address_no_packet_is_sent_to_is_ignored_with_a_warning() {
        let mut service = service();
        service.external_ips = ips(&["0.0.0.0"]);
        let warnings = check(
            &service,
            IpFamily::V4,
            PlanConfig::default(),
            &["10.96.0.10 0 0 UnknownPort", "10.96.0.10 80 6 Cluster"],
        );
        assert_eq!(warnings[0].field, "spec.externalIPs");
    }
}
