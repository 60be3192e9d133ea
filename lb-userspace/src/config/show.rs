//! A configuration in force, written as the file would be.

use std::fmt::Display;

use serde_json::{Value, json};

use super::file::{API_VERSION, KIND};
use super::{Config, NodePortAddresses};

impl Config {
    /// The configuration file, in JSON, that says all of it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let seconds = |seconds: u32| format!("{seconds}s");
        let timeouts = &self.timeouts;
        let sizes = &self.map_sizes;
        let mut file = json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "source": self.source.to_string(),
            "clientConnection": {
                "apiServers": texts(&self.client_connection.api_servers),
            },
            "devices": texts(&self.devices),
            "podDevices": texts(&self.pod_devices),
            "xdpMode": self.xdp_mode.to_string(),
            "bpffs": self.bpffs,
            "stateDirectory": self.state_directory,
            "clusterCIDRs": texts(&self.cluster_cidrs),
            "nodePortAddresses": match &self.node_port_addresses {
                NodePortAddresses::Primary => texts(&["primary"]),
                NodePortAddresses::Cidrs(ranges) => texts(ranges),
            },
            "serviceClusterIPRange": texts(&self.service_cluster_ip_range),
            "serviceNodePortRange": self.service_node_port_range.to_string(),
            "lbIPRange": texts(&self.lb_ip_range),
            "snatPortRange": self.snat_port_range.to_string(),
            "sourceAddress": self.source_address.to_string(),
            "masqueradeAll": self.masquerade_all,
            "allowServiceExternalIPs": self.allow_service_external_ips,
            "conntrack": {
                "tcpSynRecvTimeout": seconds(timeouts.tcp_open),
                "tcpEstablishedTimeout": seconds(timeouts.tcp_established),
                "tcpCloseWaitTimeout": seconds(timeouts.tcp_closing),
                "tcpCloseTimeout": seconds(timeouts.tcp_reset),
                "udpTimeout": seconds(timeouts.udp),
                "udpStreamTimeout": seconds(timeouts.udp_stream),
            },
            "mapSizes": {
                "flowEntries4": sizes.flow_entries4,
                "flowEntries6": sizes.flow_entries6,
                "services": sizes.services,
                "backends": sizes.backends,
                "slots": sizes.slots,
                "frontends": sizes.frontends,
                "affinityEntries": sizes.affinity_entries,
                "sourceRanges": sizes.source_ranges,
            },
            "rejectsPerSecond": self.rejects_per_second,
            "healthzBindAddress": self.healthz_bind_address.to_string(),
            "metricsBindAddress": self.metrics_bind_address.to_string(),
            "metrics": {
                "perService": {
                    "namespaces": self.per_service_metrics.namespaces,
                    "top": self.per_service_metrics.top,
                },
            },
            "logLevel": self.log_level.to_string(),
            "datapathTrace": self.datapath_trace.to_string(),
        });
        if let Some(name) = &self.hostname_override {
            file["hostnameOverride"] = json!(name);
        }
        if let Some(path) = &self.client_connection.kubeconfig {
            file["clientConnection"]["kubeconfig"] = json!(path);
        }
        file
    }
}

fn texts(values: &[impl Display]) -> Value {
    values.iter().map(ToString::to_string).collect()
}
