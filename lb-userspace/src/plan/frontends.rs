//! Where a Service is reached.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::addr::Addr;
use lb_common::frontend::FrontendKey;
use lb_common::port::Port;
use lb_common::protocol;

use crate::model::{IpFamily, Problem, Protocol, Service, ServicePort};

use super::endpoints::is_routable;
use super::{PlanConfig, RecordRole, ThisNode};

/// The addresses of a Service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    cluster: IpAddr,
    /// External and load-balancer addresses.
    external: Vec<IpAddr>,
    /// Load-balancer addresses that only some clients may use: closed as long as the datapath cannot tell clients apart.
    closed: Vec<IpAddr>,
}

impl Addresses {
    /// The addresses of a family, or `None` where the Service does not exist in it: it has no cluster IP there (S6).
    ///
    /// External IPs count unless they are switched off (S7). The load-balancer VIPs of a Service that restricts its
    /// clients (S23, S28) are closed: the datapath has no source ranges, and an open VIP would be worse than none.
    pub(super) fn of(
        service: &Service,
        family: IpFamily,
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
        let mut closed = Vec::new();
        if is_restricted(&service.load_balancer_source_ranges, family) && !vips.is_empty() {
            let reason = format!(
                "source ranges are not supported yet: the {family} load-balancer addresses are closed to everybody"
            );
            warnings.push(Problem::new("spec.loadBalancerSourceRanges", reason));
            closed.append(&mut vips);
        }
        external.append(&mut vips);
        Some(Self {
            cluster,
            external,
            closed,
        })
    }

    /// The frontends of one port: the cluster IP, external and load-balancer addresses at the port's number, and every
    /// address of the node at its nodePort. An external address equal to the cluster IP is the cluster IP.
    pub(super) fn of_port(&self, port: &ServicePort) -> BTreeMap<FrontendKey, RecordRole> {
        let proto = protocol_number(port.protocol);
        let at = |ip: IpAddr| FrontendKey::new(ip.into(), Port::new(port.port), proto);
        let mut frontends: BTreeMap<_, _> = self
            .external
            .iter()
            .map(|&ip| (at(ip), RecordRole::External))
            .collect();
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

    /// The entries that reject packets to ports the cluster IP does not have (S24); closed addresses have no port. Other ports
    /// of external and load-balancer addresses are not ours: the address may be a host's, this node's among them (S25).
    pub(super) fn of_unknown_ports(&self, node: &ThisNode) -> BTreeMap<FrontendKey, RecordRole> {
        let closed = self.closed.iter().copied();
        closed
            .chain([self.cluster])
            .filter(|ip| !node.addresses.contains(ip))
            .map(|ip| {
                (
                    FrontendKey::new(ip.into(), Port::NONE, 0),
                    RecordRole::UnknownPort,
                )
            })
            .collect()
    }
}

/// Whether source ranges keep any client of a family out: ranges of the other family alone, or one that holds
/// every address, do not (S28).
fn is_restricted(ranges: &[IpNet], family: IpFamily) -> bool {
    let mut of_family = ranges
        .iter()
        .filter(|net| IpFamily::of_net(**net) == family)
        .peekable();
    of_family.peek().is_some() && of_family.all(|net| net.prefix_len() != 0)
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
    use crate::plan::service::tests::{service, this_node};

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
        let addresses = Addresses::of(service, family, &config, &mut warnings);
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

    #[test]
    fn without_a_cluster_ip_of_the_family_there_is_nothing_in_it() {
        check(&everywhere(), IpFamily::V6, PlanConfig::default(), &[]);
    }

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
    fn a_closed_address_that_is_also_the_nodes_is_the_hosts() {
        let mut service = service();
        service.load_balancer_vips = ips(&["172.18.0.2"]);
        service.load_balancer_source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
        check(
            &service,
            IpFamily::V4,
            PlanConfig::default(),
            &["10.96.0.10 0 0 UnknownPort", "10.96.0.10 80 6 Cluster"],
        );
    }

    #[test]
    fn restricted_load_balancer_addresses_are_closed_and_the_others_stay_open() {
        let mut service = everywhere();
        service.load_balancer_source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
        let warnings = check(
            &service,
            IpFamily::V4,
            PlanConfig::default(),
            &[
                "0.0.0.0 30080 6 External",
                "10.96.0.10 0 0 UnknownPort",
                "10.96.0.10 80 6 Cluster",
                "192.0.2.10 80 6 External",
                "198.51.100.5 0 0 UnknownPort",
            ],
        );
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].field, "spec.loadBalancerSourceRanges");
    }

    #[test]
    fn ranges_that_keep_nobody_of_the_family_out_do_not_restrict() {
        let nets = |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        let cases: &[(&[&str], bool)] = &[
            (&[], false),
            (&["2001:db8::/32"], false),
            (&["10.0.0.0/8", "0.0.0.0/0"], false),
            (&["10.0.0.0/8", "::/0"], true),
            (&["10.0.0.0/8"], true),
        ];
        for (ranges, expected) in cases {
            assert_eq!(
                is_restricted(&nets(ranges), IpFamily::V4),
                *expected,
                "{ranges:?}"
            );
        }
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
