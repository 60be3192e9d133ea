//! The agent's flags. A flag given overrides the file's field of the same meaning.

use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

use super::api_server::ApiServer;
use super::bind_address::BindAddress;
use super::choice::{TraceLevel, XdpMode};
use super::cidr;
use super::device_pattern::DevicePattern;
use super::node_port_addresses::NodePortAddress;
use super::port_range::PortRange;
use super::source::Source;

/// What `xvip agent` and `xvip check` take to make a configuration.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Configuration")]
pub struct AgentFlags {
    /// Configuration file (YAML, kind LoadBalancerConfiguration); the flags below override its fields
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where Services come from: `kube` is the Kubernetes API, `dir:PATH` a directory of manifests, followed as
    /// it changes [default: kube]
    #[arg(long, value_name = "kube|dir:PATH")]
    pub source: Option<Source>,

    /// Kubeconfig with which the Kubernetes API is reached [default: the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// API servers (https://HOST:6443), tried in turn, whose certificates name HOST; what they are shown comes from the
    /// kubeconfig or the service account. Give addresses that need no Service on this node [default: the kubeconfig's,
    /// or KUBERNETES_SERVICE_HOST]
    #[arg(long = "api-server", value_name = "URL,...", value_delimiter = ',')]
    pub api_servers: Vec<ApiServer>,

    /// Name of this node in Node objects and in endpoints' nodeName [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,

    /// Devices to the outside, wildcards allowed (eth*,bond0) [default: those with a default route or an address of
    /// the node]
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    pub devices: Vec<DevicePattern>,

    /// The host's ends of pods' devices, wildcards allowed (cali*) [default: veths whose other end is in another
    /// network namespace]
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    pub pod_devices: Vec<DevicePattern>,

    /// XDP on uplinks. auto: native where the driver can and frames come whole, tc elsewhere; native: also on veth
    /// and the like, where packets with unfinished checksums are damaged; generic: the kernel's emulation; off: tc
    /// only [default: auto]
    #[arg(long, value_name = "auto|native|generic|off")]
    pub xdp_mode: Option<XdpMode>,

    /// Directory on a BPF file system for maps and links; agents in different network namespaces need different
    /// ones [default: /sys/fs/bpf/xvip]
    #[arg(long, value_name = "PATH")]
    pub bpffs: Option<PathBuf>,

    /// Addresses of the cluster's pods, one range of each family: packets from there count as a pod's wherever they
    /// come in
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = cidr::parse)]
    pub cluster_cidr: Vec<IpNet>,

    /// Addresses of this node that serve nodePorts: `primary` is the Node's internal address of each family, or
    /// ranges; a family without a range has all its addresses [default: primary]
    #[arg(
        long = "nodeport-addresses",
        value_name = "primary|CIDR,...",
        value_delimiter = ','
    )]
    pub node_port_addresses: Vec<NodePortAddress>,

    /// Ranges ClusterIPs are allocated from, one a family (source dir:) [default: 10.96.0.0/12,fd00:10:96::/112]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = cidr::parse)]
    pub service_cluster_ip_range: Vec<IpNet>,

    /// Ports nodePorts are allocated from [default: 30000-32767]
    #[arg(long, value_name = "A-B")]
    pub service_node_port_range: Option<PortRange>,

    /// Ranges that Services of type LoadBalancer get addresses from (source dir:) [default: none]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = cidr::parse)]
    pub lb_ip_range: Vec<IpNet>,

    /// Directory for what the agent must remember over restarts [default: /var/lib/xvip]
    #[arg(long, value_name = "PATH")]
    pub state_dir: Option<PathBuf>,

    /// Address of /healthz and /livez, 0.0.0.0 meaning every address of both families; empty = off [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP:PORT")]
    pub healthz_bind_address: Option<BindAddress>,

    /// Address of /metrics, /proxyMode, /healthz and /configz; empty = off [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_bind_address: Option<BindAddress>,

    /// What the kernel programs log of each packet's walk; for development, takes effect when they are loaded
    /// [default: off]
    #[arg(long, value_name = "off|info|debug")]
    pub datapath_trace: Option<TraceLevel>,
}
