//! The metrics.
//!
//! Where kube-proxy has one of the same meaning, name and labels are its own, so that dashboards go on working.

use prometheus::{exponential_buckets, linear_buckets};

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// A metric's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until the agent is started anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds, with buckets from 1 ms, each twice the last, to 16 s.
    SyncHistogram,
    /// Seconds, with buckets from 0.25 s to five minutes.
    ProgrammingHistogram,
}

impl Kind {
    /// As the text format calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::SyncHistogram | Self::ProgrammingHistogram => "histogram",
        }
    }

    /// The upper ends of a histogram's buckets, kube-proxy's own.
    pub(super) fn buckets(self) -> Vec<f64> {
        let ranges = match self {
            Self::Counter | Self::Gauge => Vec::new(),
            Self::SyncHistogram => vec![exponential_buckets(0.001, 2.0, 15)],
            Self::ProgrammingHistogram => vec![
                linear_buckets(0.25, 0.25, 2),
                linear_buckets(1.0, 1.0, 59),
                linear_buckets(60.0, 5.0, 12),
                linear_buckets(120.0, 30.0, 7),
            ],
        };
        ranges
            .into_iter()
            .flat_map(|range| range.expect("the widths above are positive"))
            .collect()
    }
}

macro_rules! catalog {
    ($($constant:ident: $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)+) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every metric of the agent, in the order of the documentation.
        pub const CATALOG: &[Metric] = &[$($constant),+];
    };
}

catalog! {
    SYNC_DURATION: "kubeproxy_sync_proxy_rules_duration_seconds", SyncHistogram, ["ip_family"],
        "How long a sync took, from what was known to what is in the kernel. One sync serves both families and is observed for each.";
    PROGRAMMING_DURATION: "kubeproxy_network_programming_duration_seconds", ProgrammingHistogram, ["ip_family"],
        "From the change of a Service or pod (endpoints.kubernetes.io/last-change-trigger-time of its EndpointSlice) to the kernel.";
    LAST_SYNC: "kubeproxy_sync_proxy_rules_last_timestamp_seconds", Gauge, ["ip_family"],
        "When everything that was asked for was last in the kernel, in seconds since 1970.";
    LAST_QUEUED: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", Gauge, ["ip_family"],
        "When something that asks for a sync was last heard of, in seconds since 1970.";
    SERVICE_CHANGES: "kubeproxy_sync_proxy_rules_service_changes_total", Counter, [],
        "Changes of Services that were heard of.";
    SERVICE_CHANGES_PENDING: "kubeproxy_sync_proxy_rules_service_changes_pending", Gauge, [],
        "Those of them that no sync has seen yet.";
    ENDPOINT_CHANGES: "kubeproxy_sync_proxy_rules_endpoint_changes_total", Counter, [],
        "Changes of EndpointSlices that were heard of.";
    ENDPOINT_CHANGES_PENDING: "kubeproxy_sync_proxy_rules_endpoint_changes_pending", Gauge, [],
        "Those of them that no sync has seen yet.";
    NO_LOCAL_ENDPOINTS: "kubeproxy_sync_proxy_rules_no_local_endpoints_total", Gauge, ["ip_family", "traffic_policy"],
        "Service ports whose traffic policy (internal or external) is Local, with endpoints, of which none is on this node.";
    HEALTHZ: "kubeproxy_proxy_healthz_total", Counter, ["code"],
        "Answers of /healthz, by HTTP status.";
    LIVEZ: "kubeproxy_proxy_livez_total", Counter, ["code"],
        "Answers of /livez, by HTTP status.";

    BUILD_INFO: "xvip_build_info", Gauge, ["version"],
        "Always 1: the version of the agent.";
    SERVICES: "xvip_services", Gauge, [],
        "Services that are served.";
    SERVICE_PORTS: "xvip_service_ports", Gauge, ["ip_family"],
        "Their ports; a dual-stack Service has each of them twice.";
    ENDPOINTS: "xvip_endpoints", Gauge, ["ip_family"],
        "Endpoints that new connections may get, counted for each service port.";
    SERVICES_FAILED: "xvip_services_failed", Gauge, [],
        "Services that are not in the kernel as they should be; the log says why.";
    SYNC_FAILURES: "xvip_sync_failures_total", Counter, [],
        "Attempts to bring a Service about that failed.";
    EVENTS_DROPPED: "xvip_events_dropped_total", Counter, [],
        "Events about objects that were not told for want of room in their queue.";
    MAP_ENTRIES: "xvip_map_entries", Gauge, ["map"],
        "Entries of a map that are taken, those included that wait to be freed.";
    MAP_CAPACITY: "xvip_map_capacity", Gauge, ["map"],
        "Entries that a map has room for.";

    CONNECTIONS: "xvip_connections_total", Counter, ["ip_family"],
        "Connections that were given an endpoint.";
    REFUSED: "xvip_connections_refused_total", Counter, ["ip_family"],
        "Connections that were rejected or dropped for want of an endpoint.";
    PACKETS: "xvip_packets_total", Counter, ["ip_family"],
        "Packets of connections, both directions.";
    BYTES: "xvip_bytes_total", Counter, ["ip_family"],
        "Their bytes, frame headers included.";
    VERDICTS: "xvip_verdicts_total", Counter, ["reason", "verdict"],
        "What became of packets (pass, forward, reject, drop) and why; `xvip get status` explains those that occurred.";
    FLOWS_EVICTED: "xvip_flows_evicted_total", Counter, [],
        "Live entries of the flow table that gave way to new ones.";
    FLOW_ENTRIES: "xvip_flow_entries", Gauge, ["ip_family"],
        "Live entries of the flow table, two a connection. Exact up to 262,144 places, beyond that estimated from as many.";
    FLOW_CAPACITY: "xvip_flow_capacity", Gauge, ["ip_family"],
        "Entries that the flow table has room for.";
    MAPS_READABLE: "xvip_maps_readable", Gauge, [],
        "1 when the counters of the kernel could be read; 0 when they are missing from this answer.";

    SERVICE_CONNECTIONS: "xvip_service_connections_total", Counter, ["namespace", "service", "port_name", "port", "protocol", "ip_family"],
        "As xvip_connections_total, of one service port. Off unless metrics.perService asks for it.";
    SERVICE_REFUSED: "xvip_service_connections_refused_total", Counter, ["namespace", "service", "port_name", "port", "protocol", "ip_family"],
        "As xvip_connections_refused_total, of one service port.";
    SERVICE_PACKETS: "xvip_service_packets_total", Counter, ["namespace", "service", "port_name", "port", "protocol", "ip_family"],
        "As xvip_packets_total, of one service port.";
    SERVICE_BYTES: "xvip_service_bytes_total", Counter, ["namespace", "service", "port_name", "port", "protocol", "ip_family"],
        "As xvip_bytes_total, of one service port.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The documentation has one row a metric, made of the catalog.
    #[test]
    fn the_documentation_is_the_catalog() {
        let text = include_str!("../../../docs/metrics.md");
        let documented: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        let expected = CATALOG.iter().map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, help) = (metric.name, metric.kind.name(), metric.help);
            format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
        });
        assert_eq!(documented, expected.collect::<Vec<_>>());
    }

    #[test]
    fn names_are_there_once_and_say_what_is_counted() {
        let names: BTreeSet<&str> = CATALOG.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), CATALOG.len());
        for metric in CATALOG {
            // kube-proxy's own exception.
            if metric.name != NO_LOCAL_ENDPOINTS.name {
                let counts = metric.name.ends_with("_total");
                assert_eq!(counts, metric.kind == Kind::Counter, "{}", metric.name);
            }
        }
    }

    #[test]
    fn buckets_are_kube_proxys() {
        let sync = Kind::SyncHistogram.buckets();
        assert_eq!((sync.len(), sync[0], sync[14]), (15, 0.001, 16.384));
        let programming = Kind::ProgrammingHistogram.buckets();
        assert_eq!(programming.len(), 80);
        assert_eq!(programming[..3], [0.25, 0.5, 1.0]);
        assert_eq!(programming[60..62], [59.0, 60.0]);
        assert_eq!(
            programming[72..],
            [115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0]
        );
        assert!(programming.is_sorted());
    }
}
