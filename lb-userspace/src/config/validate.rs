//! What must hold between settings. One pure function; each problem names the field to change.

use std::path::Path;

use ipnet::IpNet;
use lb_common::flow::WAYS;

use super::port_range::PortRange;
use super::{Config, PerServiceMetrics, cidr};
use crate::model::{IpFamily, Problem};

/// The longest idle time: the packet path compares signed 32-bit jiffies, at most 1000 of them a second.
const MAX_TIMEOUT_SECONDS: u32 = 2_000_000;
const MAX_FLOW_ENTRIES: u32 = 1 << 26;
const MAX_ENTRIES: u32 = 1 << 24;

/// Everything impossible in a configuration. `local_ports` is the node's net.ipv4.ip_local_port_range, if known.
#[must_use]
pub fn validate(config: &Config, local_ports: Option<PortRange>) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_ports(config, local_ports, &mut problems);
    check_ranges(config, &mut problems);
    check_numbers(config, &mut problems);
    check_names(config, &mut problems);
    check_servers(config, &mut problems);
    problems
}

fn check_ports(config: &Config, local_ports: Option<PortRange>, problems: &mut Vec<Problem>) {
    let snat = config.snat_port_range;
    let node_ports = config.service_node_port_range;
    if snat.overlaps(node_ports) {
        problems.push(Problem::new(
            "snatPortRange",
            format!("{snat} overlaps serviceNodePortRange {node_ports}"),
        ));
    }
    if let Some(local) = local_ports.filter(|local| snat.overlaps(*local)) {
        problems.push(Problem::new(
            "snatPortRange",
            format!(
                "{snat} overlaps the ports this node's own sockets are given (sysctl net.ipv4.ip_local_port_range = \
                 {} {}); move one of the two",
                local.first(),
                local.last()
            ),
        ));
    }
}

fn check_ranges(config: &Config, problems: &mut Vec<Problem>) {
    let services = ("serviceClusterIPRange", &config.service_cluster_ip_range);
    let pods = ("clusterCIDRs", &config.cluster_cidrs);
    for (field, ranges) in [services, pods] {
        for family in IpFamily::ALL {
            let ranges = ranges.iter();
            if ranges.filter(|net| IpFamily::of_net(**net) == family).count() > 1 {
                problems.push(Problem::new(
                    field,
                    format!("more than one {family} range; one of each family is allowed"),
                ));
            }
        }
    }
    let balancers = ("lbIPRange", &config.lb_ip_range);
    for (one, other) in [(services, pods), (balancers, services), (balancers, pods)] {
        if let Some((a, b)) = first_overlap(one.1, other.1) {
            problems.push(Problem::new(one.0, format!("{a} overlaps {b} of {}", other.0)));
        }
    }
}

fn first_overlap<'a>(ones: &'a [IpNet], others: &'a [IpNet]) -> Option<(&'a IpNet, &'a IpNet)> {
    ones.iter()
        .flat_map(|one| others.iter().map(move |other| (one, other)))
        .find(|(one, other)| cidr::overlap(one, other))
}

fn check_numbers(config: &Config, problems: &mut Vec<Problem>) {
    let t = &config.timeouts;
    for (field, seconds) in [
        ("conntrack.tcpSynRecvTimeout", t.tcp_open),
        ("conntrack.tcpEstablishedTimeout", t.tcp_established),
        ("conntrack.tcpCloseWaitTimeout", t.tcp_closing),
        ("conntrack.tcpCloseTimeout", t.tcp_reset),
        ("conntrack.udpTimeout", t.udp),
        ("conntrack.udpStreamTimeout", t.udp_stream),
    ] {
        if seconds == 0 || seconds > MAX_TIMEOUT_SECONDS {
            problems.push(Problem::new(
                field,
                format!("{seconds}s is not between 1s and {MAX_TIMEOUT_SECONDS}s"),
            ));
        }
    }

    let sizes = &config.map_sizes;
    for (field, entries) in [
        ("mapSizes.flowEntries4", sizes.flow_entries4),
        ("mapSizes.flowEntries6", sizes.flow_entries6),
    ] {
        let least = u32::try_from(WAYS).unwrap_or(u32::MAX);
        if !(least..=MAX_FLOW_ENTRIES).contains(&entries) || !entries.is_power_of_two() {
            problems.push(Problem::new(
                field,
                format!("{entries} is no power of two between {least} and {MAX_FLOW_ENTRIES}"),
            ));
        }
    }
    for (field, entries) in [
        ("mapSizes.services", sizes.services),
        ("mapSizes.backends", sizes.backends),
        ("mapSizes.slots", sizes.slots),
        ("mapSizes.frontends", sizes.frontends),
        ("mapSizes.affinityEntries", sizes.affinity_entries),
        ("mapSizes.sourceRanges", sizes.source_ranges),
    ] {
        if !(1..=MAX_ENTRIES).contains(&entries) {
            problems.push(Problem::new(
                field,
                format!("{entries} is not between 1 and {MAX_ENTRIES}"),
            ));
        }
    }
}

fn check_names(config: &Config, problems: &mut Vec<Problem>) {
    if let Some(name) = &config.hostname_override {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 253 || !name.chars().all(fits) {
            problems.push(Problem::new(
                "hostnameOverride",
                format!("{name:?} is no Node's name: lower-case letters, digits, '-' and '.' are allowed"),
            ));
        }
    }
    let absolute = |field: &str, path: &Path| {
        (!path.is_absolute()).then(|| {
            Problem::new(
                field,
                format!("{:?} is no absolute path", path.display().to_string()),
            )
        })
    };
    problems.extend(absolute("bpffs", &config.bpffs));
    problems.extend(absolute("stateDirectory", &config.state_directory));
}

fn check_servers(config: &Config, problems: &mut Vec<Problem>) {
    let healthz = config.healthz_bind_address.address();
    let metrics = config.metrics_bind_address.address();
    if let (Some(healthz), Some(metrics)) = (healthz, metrics) {
        let shared =
            healthz.ip() == metrics.ip() || healthz.ip().is_unspecified() || metrics.ip().is_unspecified();
        if shared && healthz.port() == metrics.port() {
            problems.push(Problem::new(
                "metricsBindAddress",
                format!("{metrics} and healthzBindAddress {healthz} are the same port"),
            ));
        }
    }
    let top = config.per_service_metrics.top;
    if top > PerServiceMetrics::MOST {
        problems.push(Problem::new(
            "metrics.perService.top",
            format!("{top} is more than {}", PerServiceMetrics::MOST),
        ));
    }
}
