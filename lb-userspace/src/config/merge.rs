//! Defaults, file and flags become one [`Config`]; who gave a setting is remembered for the error messages.
//!
//! Must not know: files on disk, `/proc`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;
use lb_common::lifetime::Timeouts;
use serde_saphyr::{Location, Spanned};

use super::error::{ConfigProblem, Origin};
use super::file::{self, API_VERSION, KIND, LoadBalancerConfiguration};
use super::flags::AgentFlags;
use super::map_sizes::MapSizes;
use super::node_port_addresses::NodePortAddresses;
use super::{ClientConnection, Config, PerServiceMetrics, cidr, duration};
use crate::model::Problem;

/// A merged configuration, not yet validated, and where its settings come from.
pub(super) struct Merged {
    pub(super) config: Config,
    pub(super) problems: Vec<ConfigProblem>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Merged {
    /// Adds to a problem where its field was given.
    pub(super) fn locate(&self, problem: Problem) -> ConfigProblem {
        ConfigProblem {
            origin: self
                .origins
                .get(problem.field.as_str())
                .cloned()
                .unwrap_or(Origin::Default),
            field: problem.field,
            reason: problem.reason,
        }
    }
}

/// Reads the layers. `file` is the file's path and text.
pub(super) fn merge(file: Option<(&Path, &str)>, flags: &AgentFlags, memory: u64) -> Merged {
    let mut layers = Layers {
        path: file.map(|(path, _)| path.to_owned()).unwrap_or_default(),
        problems: Vec::new(),
        origins: BTreeMap::new(),
    };
    let raw = match file.map(|(path, text)| file::parse(path, text)) {
        None => LoadBalancerConfiguration::default(),
        Some(Ok(raw)) => {
            layers.expect_word("apiVersion", raw.api_version.as_ref(), API_VERSION);
            layers.expect_word("kind", raw.kind.as_ref(), KIND);
            raw
        }
        Some(Err(problem)) => {
            layers.problems.push(problem);
            LoadBalancerConfiguration::default()
        }
    };
    let config = settings(&mut layers, raw, flags, memory);
    Merged {
        config,
        problems: layers.problems,
        origins: layers.origins,
    }
}

fn settings(layers: &mut Layers, raw: LoadBalancerConfiguration, flags: &AgentFlags, memory: u64) -> Config {
    let mut config = Config::for_memory(memory);

    layers.one("source", raw.source, &mut config.source);
    layers.flag("source", "--source", flags.source.clone(), &mut config.source);
    client_connection(
        layers,
        raw.client_connection,
        flags,
        &mut config.client_connection,
    );
    layers.text("hostnameOverride", raw.hostname_override, |name| {
        config.hostname_override = Some(name.to_owned());
    });
    layers.flag(
        "hostnameOverride",
        "--hostname-override",
        flags.hostname_override.clone().map(Some),
        &mut config.hostname_override,
    );
    layers.list("devices", raw.devices, &mut config.devices, str::parse);
    layers.flags("devices", "--devices", &flags.devices, &mut config.devices);
    layers.list("podDevices", raw.pod_devices, &mut config.pod_devices, str::parse);
    layers.flags(
        "podDevices",
        "--pod-devices",
        &flags.pod_devices,
        &mut config.pod_devices,
    );
    layers.one("xdpMode", raw.xdp_mode, &mut config.xdp_mode);
    layers.flag("xdpMode", "--xdp-mode", flags.xdp_mode, &mut config.xdp_mode);
    layers.path("bpffs", raw.bpffs, &mut config.bpffs);
    layers.flag("bpffs", "--bpffs", flags.bpffs.clone(), &mut config.bpffs);

    layers.nets("clusterCIDRs", raw.cluster_cidrs, &mut config.cluster_cidrs);
    layers.flags(
        "clusterCIDRs",
        "--cluster-cidr",
        &flags.cluster_cidr,
        &mut config.cluster_cidrs,
    );
    let mut addresses = Vec::new();
    layers.list(
        "nodePortAddresses",
        raw.node_port_addresses,
        &mut addresses,
        str::parse,
    );
    layers.flags(
        "nodePortAddresses",
        "--nodeport-addresses",
        &flags.node_port_addresses,
        &mut addresses,
    );
    match NodePortAddresses::from_list(&addresses) {
        Ok(choice) => config.node_port_addresses = choice,
        Err(reason) => layers.problem("nodePortAddresses", reason),
    }
    config.service_cluster_ip_range_given =
        raw.service_cluster_ip_range.is_some() || !flags.service_cluster_ip_range.is_empty();
    layers.nets(
        "serviceClusterIPRange",
        raw.service_cluster_ip_range,
        &mut config.service_cluster_ip_range,
    );
    layers.flags(
        "serviceClusterIPRange",
        "--service-cluster-ip-range",
        &flags.service_cluster_ip_range,
        &mut config.service_cluster_ip_range,
    );
    layers.one(
        "serviceNodePortRange",
        raw.service_node_port_range,
        &mut config.service_node_port_range,
    );
    layers.flag(
        "serviceNodePortRange",
        "--service-node-port-range",
        flags.service_node_port_range,
        &mut config.service_node_port_range,
    );
    layers.nets("lbIPRange", raw.lb_ip_range, &mut config.lb_ip_range);
    layers.flags(
        "lbIPRange",
        "--lb-ip-range",
        &flags.lb_ip_range,
        &mut config.lb_ip_range,
    );

    layers.one("snatPortRange", raw.snat_port_range, &mut config.snat_port_range);
    layers.one("sourceAddress", raw.source_address, &mut config.source_address);
    layers.plain("masqueradeAll", raw.masquerade_all, &mut config.masquerade_all);
    layers.plain(
        "allowServiceExternalIPs",
        raw.allow_service_external_ips,
        &mut config.allow_service_external_ips,
    );
    timeouts(layers, raw.conntrack, &mut config.timeouts);
    map_sizes(layers, &raw.map_sizes, &mut config.map_sizes);
    layers.plain(
        "rejectsPerSecond",
        raw.rejects_per_second,
        &mut config.rejects_per_second,
    );
    servers(
        layers,
        raw.healthz_bind_address,
        raw.metrics_bind_address,
        flags,
        &mut config,
    );
    per_service_metrics(layers, raw.metrics.per_service, &mut config.per_service_metrics);
    layers.one("logLevel", raw.log_level, &mut config.log_level);
    layers.one("datapathTrace", raw.datapath_trace, &mut config.datapath_trace);
    layers.flag(
        "datapathTrace",
        "--datapath-trace",
        flags.datapath_trace,
        &mut config.datapath_trace,
    );
    layers.path("stateDirectory", raw.state_directory, &mut config.state_directory);
    layers.flag(
        "stateDirectory",
        "--state-dir",
        flags.state_dir.clone(),
        &mut config.state_directory,
    );
    config
}

fn client_connection(
    layers: &mut Layers,
    raw: file::ClientConnection,
    flags: &AgentFlags,
    connection: &mut ClientConnection,
) {
    layers.text("clientConnection.kubeconfig", raw.kubeconfig, |path| {
        // Empty means none, as in kube-proxy's configuration.
        connection.kubeconfig = (!path.is_empty()).then(|| path.into());
    });
    layers.flag(
        "clientConnection.kubeconfig",
        "--kubeconfig",
        flags.kubeconfig.clone().map(Some),
        &mut connection.kubeconfig,
    );
    layers.list(
        "clientConnection.apiServers",
        raw.api_servers,
        &mut connection.api_servers,
        str::parse,
    );
    layers.flags(
        "clientConnection.apiServers",
        "--api-server",
        &flags.api_servers,
        &mut connection.api_servers,
    );
}

fn servers(
    layers: &mut Layers,
    healthz: Option<Spanned<String>>,
    metrics: Option<Spanned<String>>,
    flags: &AgentFlags,
    config: &mut Config,
) {
    layers.one("healthzBindAddress", healthz, &mut config.healthz_bind_address);
    layers.flag(
        "healthzBindAddress",
        "--healthz-bind-address",
        flags.healthz_bind_address,
        &mut config.healthz_bind_address,
    );
    layers.one("metricsBindAddress", metrics, &mut config.metrics_bind_address);
    layers.flag(
        "metricsBindAddress",
        "--metrics-bind-address",
        flags.metrics_bind_address,
        &mut config.metrics_bind_address,
    );
}

fn per_service_metrics(layers: &mut Layers, raw: file::PerService, wanted: &mut PerServiceMetrics) {
    layers.list(
        "metrics.perService.namespaces",
        raw.namespaces,
        &mut wanted.namespaces,
        |name| Ok(name.to_owned()),
    );
    layers.plain("metrics.perService.top", raw.top, &mut wanted.top);
}

fn timeouts(layers: &mut Layers, raw: file::Conntrack, timeouts: &mut Timeouts) {
    let fields = [
        (
            "conntrack.tcpSynRecvTimeout",
            raw.tcp_syn_recv_timeout,
            &mut timeouts.tcp_open,
        ),
        (
            "conntrack.tcpEstablishedTimeout",
            raw.tcp_established_timeout,
            &mut timeouts.tcp_established,
        ),
        (
            "conntrack.tcpCloseWaitTimeout",
            raw.tcp_close_wait_timeout,
            &mut timeouts.tcp_closing,
        ),
        (
            "conntrack.tcpCloseTimeout",
            raw.tcp_close_timeout,
            &mut timeouts.tcp_reset,
        ),
        ("conntrack.udpTimeout", raw.udp_timeout, &mut timeouts.udp),
        (
            "conntrack.udpStreamTimeout",
            raw.udp_stream_timeout,
            &mut timeouts.udp_stream,
        ),
    ];
    for (field, given, setting) in fields {
        layers.parsed(field, given, setting, duration::parse_seconds);
    }
}

fn map_sizes(layers: &mut Layers, raw: &file::MapSizes, sizes: &mut MapSizes) {
    let fields = [
        (
            "mapSizes.flowEntries4",
            &raw.flow_entries4,
            &mut sizes.flow_entries4,
        ),
        (
            "mapSizes.flowEntries6",
            &raw.flow_entries6,
            &mut sizes.flow_entries6,
        ),
        ("mapSizes.services", &raw.services, &mut sizes.services),
        ("mapSizes.backends", &raw.backends, &mut sizes.backends),
        ("mapSizes.slots", &raw.slots, &mut sizes.slots),
        ("mapSizes.frontends", &raw.frontends, &mut sizes.frontends),
        (
            "mapSizes.affinityEntries",
            &raw.affinity_entries,
            &mut sizes.affinity_entries,
        ),
        (
            "mapSizes.sourceRanges",
            &raw.source_ranges,
            &mut sizes.source_ranges,
        ),
    ];
    for (field, given, setting) in fields {
        layers.plain(field, given.clone(), setting);
    }
}

/// Collects problems and origins while settings are laid over each other.
struct Layers {
    path: PathBuf,
    problems: Vec<ConfigProblem>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Layers {
    fn in_file(&self, at: Option<Location>) -> Origin {
        Origin::File {
            path: self.path.clone(),
            position: at.map(|at| (at.line(), at.column())),
        }
    }

    fn expect_word(&mut self, field: &str, given: Option<&Spanned<String>>, wanted: &str) {
        let reason = match given {
            Some(given) if given.value == wanted => return,
            Some(given) => format!("{:?} is not known; {wanted} is wanted", given.value),
            None => format!("missing; {wanted} is wanted"),
        };
        self.problems.push(ConfigProblem {
            origin: self.in_file(given.map(|given| given.referenced)),
            field: field.to_owned(),
            reason,
        });
    }

    /// A problem with a field whose origin is known by now.
    fn problem(&mut self, field: &'static str, reason: String) {
        let origin = self.origins.get(field).cloned().unwrap_or(Origin::Default);
        self.problems.push(ConfigProblem {
            origin,
            field: field.to_owned(),
            reason,
        });
    }

    fn text(&mut self, field: &'static str, given: Option<Spanned<String>>, set: impl FnOnce(&str)) {
        if let Some(given) = given {
            self.origins.insert(field, self.in_file(Some(given.referenced)));
            set(&given.value);
        }
    }

    fn path(&mut self, field: &'static str, given: Option<Spanned<String>>, setting: &mut PathBuf) {
        self.text(field, given, |text| *setting = text.into());
    }

    fn plain<T>(&mut self, field: &'static str, given: Option<Spanned<T>>, setting: &mut T) {
        if let Some(given) = given {
            self.origins.insert(field, self.in_file(Some(given.referenced)));
            *setting = given.value;
        }
    }

    fn one<T: FromStr<Err = String>>(
        &mut self,
        field: &'static str,
        given: Option<Spanned<String>>,
        setting: &mut T,
    ) {
        self.parsed(field, given, setting, str::parse);
    }

    fn parsed<T, E: Display>(
        &mut self,
        field: &'static str,
        given: Option<Spanned<String>>,
        setting: &mut T,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) {
        let Some(given) = given else { return };
        self.origins.insert(field, self.in_file(Some(given.referenced)));
        match parse(&given.value) {
            Ok(value) => *setting = value,
            Err(reason) => self.problem(field, reason.to_string()),
        }
    }

    fn list<T>(
        &mut self,
        field: &'static str,
        given: Option<Vec<Spanned<String>>>,
        setting: &mut Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        let Some(given) = given else { return };
        let first = given.first().map(|entry| entry.referenced);
        self.origins.insert(field, self.in_file(first));
        setting.clear();
        for (index, entry) in given.into_iter().enumerate() {
            match parse(&entry.value) {
                Ok(value) => setting.push(value),
                Err(reason) => self.problems.push(ConfigProblem {
                    origin: self.in_file(Some(entry.referenced)),
                    field: format!("{field}[{index}]"),
                    reason,
                }),
            }
        }
    }

    fn nets(&mut self, field: &'static str, given: Option<Vec<Spanned<String>>>, setting: &mut Vec<IpNet>) {
        self.list(field, given, setting, cidr::parse);
    }

    fn flag<T>(&mut self, field: &'static str, flag: &'static str, given: Option<T>, setting: &mut T) {
        if let Some(value) = given {
            self.origins.insert(field, Origin::Flag(flag));
            *setting = value;
        }
    }

    fn flags<T: Clone>(
        &mut self,
        field: &'static str,
        flag: &'static str,
        given: &[T],
        setting: &mut Vec<T>,
    ) {
        if !given.is_empty() {
            self.origins.insert(field, Origin::Flag(flag));
            *setting = given.to_vec();
        }
    }
}
