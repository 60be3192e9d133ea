//! The configuration file as it is written: `LoadBalancerConfiguration`.
//!
//! Owns: the fields' names, and turning the YAML reader's complaints into ours. Must not know: what the values mean; they
//! stay text with a position, so that a flag and a field are parsed by the same code.

use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::error::{ConfigProblem, Origin};

/// The file's `apiVersion`.
pub const API_VERSION: &str = "config.xvip.dev/v1alpha1";
/// The file's `kind`.
pub const KIND: &str = "LoadBalancerConfiguration";

type Text = Option<Spanned<String>>;
type List = Option<Vec<Spanned<String>>>;
type Number = Option<Spanned<u32>>;
type Switch = Option<Spanned<bool>>;

/// The file. Every field but the first two may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LoadBalancerConfiguration {
    pub(super) api_version: Text,
    pub(super) kind: Text,
    pub(super) source: Text,
    #[serde(default)]
    pub(super) client_connection: ClientConnection,
    pub(super) hostname_override: Text,
    pub(super) devices: List,
    pub(super) pod_devices: List,
    pub(super) xdp_mode: Text,
    pub(super) bpffs: Text,
    #[serde(rename = "clusterCIDRs")]
    pub(super) cluster_cidrs: List,
    pub(super) node_port_addresses: List,
    #[serde(rename = "serviceClusterIPRange")]
    pub(super) service_cluster_ip_range: List,
    pub(super) service_node_port_range: Text,
    #[serde(rename = "lbIPRange")]
    pub(super) lb_ip_range: List,
    pub(super) snat_port_range: Text,
    pub(super) source_address: Text,
    pub(super) masquerade_all: Switch,
    #[serde(rename = "allowServiceExternalIPs")]
    pub(super) allow_service_external_ips: Switch,
    #[serde(default)]
    pub(super) conntrack: Conntrack,
    #[serde(default)]
    pub(super) map_sizes: MapSizes,
    pub(super) rejects_per_second: Number,
    pub(super) healthz_bind_address: Text,
    pub(super) metrics_bind_address: Text,
    #[serde(default)]
    pub(super) metrics: Metrics,
    pub(super) log_level: Text,
    pub(super) datapath_trace: Text,
    pub(super) state_directory: Text,
}

/// The way to the API servers, `kubeconfig` named as kube-proxy's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClientConnection {
    pub(super) kubeconfig: Text,
    pub(super) api_servers: List,
}

/// Idle times, named as kube-proxy's and conntrack's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Conntrack {
    pub(super) tcp_syn_recv_timeout: Text,
    pub(super) tcp_established_timeout: Text,
    pub(super) tcp_close_wait_timeout: Text,
    pub(super) tcp_close_timeout: Text,
    pub(super) udp_timeout: Text,
    pub(super) udp_stream_timeout: Text,
}

/// Entries of the maps.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MapSizes {
    pub(super) flow_entries4: Number,
    pub(super) flow_entries6: Number,
    pub(super) services: Number,
    pub(super) backends: Number,
    pub(super) slots: Number,
    pub(super) frontends: Number,
    pub(super) affinity_entries: Number,
    pub(super) source_ranges: Number,
}

/// What metrics there are beside those that are always there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metrics {
    #[serde(default)]
    pub(super) per_service: PerService,
}

/// Service ports that are shown one by one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PerService {
    pub(super) namespaces: List,
    pub(super) top: Number,
}

/// Reads the text of `path`; the file is not opened here.
pub(super) fn parse(path: &Path, text: &str) -> Result<LoadBalancerConfiguration, ConfigProblem> {
    serde_saphyr::from_str(text).map_err(|error| problem(path, text, &error))
}

fn problem(path: &Path, text: &str, error: &serde_saphyr::Error) -> ConfigProblem {
    use serde_saphyr::Error;

    let position = error.location().map(|at| (at.line(), at.column()));
    let field = position
        .and_then(|(line, _)| key_at(text, line))
        .unwrap_or_default();
    let (field, reason) = match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => (
            field.clone(),
            format!("no such field; there are {}", expected.join(", ")),
        ),
        Error::SerdeInvalidType {
            unexpected, expected, ..
        }
        | Error::SerdeInvalidValue {
            unexpected, expected, ..
        } => (field, format!("{expected} is wanted, not {unexpected}")),
        Error::InvalidScalar { ty, .. } => (field, format!("{} is wanted", wanted(ty))),
        Error::Unexpected { expected, .. } => (field, format!("{} is wanted", wanted(expected))),
        Error::DuplicateMappingKey { .. } => (field, "given twice".to_owned()),
        Error::MultipleDocuments { .. } => (
            String::new(),
            "one YAML document is wanted, not several".to_owned(),
        ),
        other => (field, other.to_string()),
    };
    ConfigProblem {
        origin: Origin::File {
            path: path.to_owned(),
            position,
        },
        field,
        reason,
    }
}

/// The YAML reader's words in those of somebody who writes a file.
fn wanted(expected: &str) -> &str {
    match expected {
        "sequence start" => "a list",
        "mapping start" => "a mapping of fields",
        "string scalar" => "a single text",
        "boolean" => "true or false",
        "u32" => "a whole number from 0 to 4294967295",
        other => other,
    }
}

/// The path of the key written on a line, as in `mapSizes.services`. The YAML reader knows where a value is wrong, not whose
/// it is.
fn key_at(text: &str, line: u64) -> Option<String> {
    let number = usize::try_from(line).ok()?.checked_sub(1)?;
    let lines: Vec<&str> = text.lines().take(number + 1).collect();
    let (line, above) = lines.split_last().filter(|_| lines.len() == number + 1)?;
    let (mut depth, mut path) = key_of(line)?;
    // Each line above with less indentation than all between opens the mapping they are in.
    for line in above.iter().rev() {
        if let Some((outer, key)) = key_of(line)
            && outer < depth
        {
            path = format!("{key}.{path}");
            depth = outer;
        }
    }
    Some(path)
}

/// The key a line begins with, and how far it is indented.
fn key_of(line: &str) -> Option<(usize, String)> {
    let (key, _) = line.split_once(':')?;
    let depth = key.len() - key.trim_start().len();
    let key = key.trim().trim_matches(['"', '\'']);
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric())).then(|| (depth, key.to_owned()))
}
