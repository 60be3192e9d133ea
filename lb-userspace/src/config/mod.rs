//! The agent's configuration: one YAML file, overridden by flags, refused whole when anything in it is wrong.
//!
//! Owns: the fields' names and defaults ([`LoadBalancerConfiguration`](API_VERSION)), what values are possible
//! ([`validate()`]), and where each was given, so that a refusal names file, line, field and reason. Everything below
//! [`Config::load`] is pure.
//!
//! Must not know: devices, maps, Services; what a setting does is its user's matter.

mod api_server;
mod bind_address;
mod choice;
mod cidr;
mod client_connection;
mod device_pattern;
mod duration;
mod error;
mod file;
mod flags;
mod map_sizes;
mod merge;
mod node_port_addresses;
mod per_service_metrics;
mod port_range;
mod show;
mod source;
#[cfg(test)]
mod tests;
mod validate;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_common::lifetime::Timeouts;

pub use api_server::ApiServer;
pub use bind_address::BindAddress;
pub use choice::{LogLevel, SourceAddress, TraceLevel, XdpMode};
pub use client_connection::ClientConnection;
pub use device_pattern::DevicePattern;
pub use error::{ConfigError, ConfigProblem, Origin};
pub use file::{API_VERSION, KIND};
pub use flags::AgentFlags;
pub use map_sizes::MapSizes;
pub use node_port_addresses::{NodePortAddress, NodePortAddresses};
pub use per_service_metrics::PerServiceMetrics;
pub use port_range::PortRange;
pub use source::Source;
pub use validate::validate;

/// Where maps and programs are pinned unless the configuration says otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/xvip";
/// Where the agent remembers what it must over restarts, unless the configuration says otherwise.
pub const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/xvip";

/// What the maps are sized for when the node's memory cannot be read.
const ASSUMED_MEMORY: u64 = 4 << 30;

/// A configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `source`
    pub source: Source,
    /// `clientConnection`
    pub client_connection: ClientConnection,
    /// `hostnameOverride`
    pub hostname_override: Option<String>,
    /// `devices`; empty = found
    pub devices: Vec<DevicePattern>,
    /// `podDevices`; empty = found
    pub pod_devices: Vec<DevicePattern>,
    /// `xdpMode`
    pub xdp_mode: XdpMode,
    /// `bpffs`
    pub bpffs: PathBuf,
    /// `clusterCIDRs`; empty = not known
    pub cluster_cidrs: Vec<IpNet>,
    /// `nodePortAddresses`
    pub node_port_addresses: NodePortAddresses,
    /// `serviceClusterIPRange`, at most one range of each family
    pub service_cluster_ip_range: Vec<IpNet>,
    /// Whether `serviceClusterIPRange` was given, by file or flag.
    pub service_cluster_ip_range_given: bool,
    /// `serviceNodePortRange`
    pub service_node_port_range: PortRange,
    /// `lbIPRange`; empty = none are allocated
    pub lb_ip_range: Vec<IpNet>,
    /// `snatPortRange`
    pub snat_port_range: PortRange,
    /// `sourceAddress`
    pub source_address: SourceAddress,
    /// `masqueradeAll`
    pub masquerade_all: bool,
    /// `allowServiceExternalIPs`
    pub allow_service_external_ips: bool,
    /// `conntrack`: idle times in seconds
    pub timeouts: Timeouts,
    /// `mapSizes`
    pub map_sizes: MapSizes,
    /// `rejectsPerSecond`: RSTs and ICMP errors a second and CPU
    pub rejects_per_second: u32,
    /// `healthzBindAddress`: `/healthz` and `/livez`
    pub healthz_bind_address: BindAddress,
    /// `metricsBindAddress`: `/metrics`, `/proxyMode`, `/healthz`, `/configz`
    pub metrics_bind_address: BindAddress,
    /// `metrics.perService`
    pub per_service_metrics: PerServiceMetrics,
    /// `logLevel`
    pub log_level: LogLevel,
    /// `datapathTrace`
    pub datapath_trace: TraceLevel,
    /// `stateDirectory`
    pub state_directory: PathBuf,
}

impl Config {
    /// The defaults on a node with this many bytes of memory.
    #[must_use]
    pub fn for_memory(bytes: u64) -> Self {
        Self {
            source: Source::Kube,
            client_connection: ClientConnection::default(),
            hostname_override: None,
            devices: Vec::new(),
            pod_devices: Vec::new(),
            xdp_mode: XdpMode::default(),
            bpffs: PathBuf::from(DEFAULT_BPFFS),
            cluster_cidrs: Vec::new(),
            node_port_addresses: NodePortAddresses::default(),
            service_cluster_ip_range: vec![
                // kubeadm's, and the IPv6 range its documentation pairs with it.
                Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12).into(),
                Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112).into(),
            ],
            service_cluster_ip_range_given: false,
            service_node_port_range: PortRange::NODE_PORTS,
            lb_ip_range: Vec::new(),
            snat_port_range: PortRange::ABOVE_LOCAL,
            source_address: SourceAddress::default(),
            masquerade_all: false,
            allow_service_external_ips: true,
            timeouts: Timeouts::SECONDS,
            map_sizes: MapSizes::for_memory(bytes),
            rejects_per_second: 1000,
            // kube-proxy's.
            healthz_bind_address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 10_256).into(),
            metrics_bind_address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_249).into(),
            per_service_metrics: PerServiceMetrics::default(),
            log_level: LogLevel::default(),
            datapath_trace: TraceLevel::default(),
            state_directory: PathBuf::from(DEFAULT_STATE_DIRECTORY),
        }
    }

    /// Reads the file, if there is one, lays the flags over it, and validates the whole against this node.
    ///
    /// # Errors
    /// With everything that is wrong; a configuration is never used in part.
    pub fn load(file: Option<&Path>, flags: &AgentFlags) -> Result<Self, ConfigError> {
        let text = file.map(|path| read(path).map(|text| (path, text))).transpose()?;
        let memory = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| map_sizes::memory_of_meminfo(&text))
            .unwrap_or(ASSUMED_MEMORY);
        let local_ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
            .ok()
            .and_then(|text| local_ports_of_sysctl(&text));
        Self::from_layers(
            text.as_ref().map(|(path, text)| (*path, text.as_str())),
            flags,
            memory,
            local_ports,
        )
    }

    /// [`Config::load`] without the node: the file's path and text, the flags, the node's memory in bytes and its
    /// net.ipv4.ip_local_port_range are arguments.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_layers(
        file: Option<(&Path, &str)>,
        flags: &AgentFlags,
        memory: u64,
        local_ports: Option<PortRange>,
    ) -> Result<Self, ConfigError> {
        let mut merged = merge::merge(file, flags, memory);
        if merged.problems.is_empty() {
            let found = validate(&merged.config, local_ports);
            merged.problems = found.into_iter().map(|problem| merged.locate(problem)).collect();
        }
        if merged.problems.is_empty() {
            Ok(merged.config)
        } else {
            Err(ConfigError {
                problems: merged.problems,
            })
        }
    }

    /// The ranges that ClusterIPs are known to come from. A default is a guess about a cluster that allocates them itself.
    #[must_use]
    pub fn known_service_ranges(&self) -> &[IpNet] {
        match self.source {
            Source::Kube if !self.service_cluster_ip_range_given => &[],
            Source::Kube | Source::Directory(_) => &self.service_cluster_ip_range,
        }
    }

    /// This node's name: `hostnameOverride`, else the host's name in lower case, as kube-proxy takes it.
    ///
    /// # Errors
    /// When the host's name cannot be read.
    pub fn node_name(&self) -> io::Result<String> {
        if let Some(name) = &self.hostname_override {
            return Ok(name.clone());
        }
        let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
        Ok(name.trim().to_ascii_lowercase())
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| ConfigError {
        problems: vec![ConfigProblem {
            origin: Origin::File {
                path: path.to_owned(),
                position: None,
            },
            field: String::new(),
            reason: format!("cannot be read: {error}"),
        }],
    })
}

/// The range in the text of `/proc/sys/net/ipv4/ip_local_port_range`.
fn local_ports_of_sysctl(text: &str) -> Option<PortRange> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    PortRange::new(first.parse().ok()?, last.trim().parse().ok()?)
}
