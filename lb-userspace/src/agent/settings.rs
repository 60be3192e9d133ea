//! The configuration as its users want it.
//!
//! Owns: the translation for source, planner and dataplane. Must not know: defaults, which are the configuration's.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ipnet::IpNet;
use lb_common::flow::WAYS;
use lb_common::net::{self, Net4, Net6};

use crate::config::{self, Config, TraceLevel};
use crate::dataplane::{Options, Sizes};
use crate::plan::{self, PlanConfig};
use crate::source;
use crate::source::dir::{self, Ranges, RangesError};
use crate::source::kube::{self, Access};

/// Records for each service port: one for cluster IPs and one for other addresses, in old and new while lists change. The
/// few that restrict their clients take one more out of what the others leave.
const RECORDS_A_PORT: u32 = 4;
/// Places in a bucket of the flow table.
#[expect(clippy::cast_possible_truncation, reason = "it is 4")]
const WAYS_A_BUCKET: u32 = WAYS as u32;

/// What the dataplane is made with.
#[must_use]
pub fn dataplane(config: &Config) -> Options {
    let sizes = &config.map_sizes;
    let (service_net4, service_net6) = nets(config.known_service_ranges());
    let (cluster_net4, cluster_net6) = nets(&config.cluster_cidrs);
    Options {
        sizes: Sizes {
            flow4_buckets: sizes.flow_entries4 / WAYS_A_BUCKET,
            flow6_buckets: sizes.flow_entries6 / WAYS_A_BUCKET,
            frontends: sizes.frontends,
            records: sizes.services.saturating_mul(RECORDS_A_PORT),
            slots: sizes.slots,
            backends: sizes.backends,
            // Ids begin at 1.
            services: sizes.services.saturating_add(1),
            affinity: sizes.affinity_entries,
            source_ranges: sizes.source_ranges,
        },
        snat_ports: config.snat_port_range.first()..=config.snat_port_range.last(),
        timeouts: config.timeouts,
        rejects_per_second: config.rejects_per_second,
        service_net4,
        service_net6,
        cluster_net4,
        cluster_net6,
        log_level: match config.datapath_trace {
            TraceLevel::Off => None,
            TraceLevel::Info => Some(tracing::Level::INFO),
            TraceLevel::Debug => Some(tracing::Level::DEBUG),
        },
        ..Options::new(&config.bpffs)
    }
}

/// Ranges, one of each family at most, as the programs want them.
fn nets(ranges: &[IpNet]) -> (Net4, Net6) {
    let (mut net4, mut net6) = (net::NONE4, net::NONE6);
    for range in ranges {
        match range {
            IpNet::V4(range) => net4 = net::net4(range.network().into(), range.prefix_len()),
            IpNet::V6(range) => net6 = net::net6(range.network().into(), range.prefix_len()),
        }
    }
    (net4, net6)
}

/// What plans depend on.
#[must_use]
pub fn plan(config: &Config) -> PlanConfig {
    PlanConfig {
        source_address: match config.source_address {
            config::SourceAddress::Preserve => plan::SourceAddress::Preserve,
            config::SourceAddress::KubeProxy => plan::SourceAddress::KubeProxy,
        },
        masquerade_all: config.masquerade_all,
        allow_external_ips: config.allow_service_external_ips,
        ..PlanConfig::default()
    }
}

/// Where Services come from. Everything that can be refused before the agent touches anything is.
///
/// # Errors
/// Ranges that no cluster can have, no credentials for the API server, no name of this node.
pub fn source(config: &Config) -> Result<source::Config> {
    Ok(match &config.source {
        config::Source::Directory(path) => source::Config::Directory(directory(config, path.clone())?),
        config::Source::Kube => {
            let kube = kube(config)?;
            kube.access.check()?;
            source::Config::Kube(kube)
        }
    })
}

/// What the Kubernetes source is told.
///
/// # Errors
/// This node has no name.
pub fn kube(config: &Config) -> Result<kube::Config> {
    let connection = &config.client_connection;
    Ok(kube::Config {
        access: Access {
            kubeconfig: connection.kubeconfig.clone(),
            servers: connection.api_servers.iter().cloned().map(Into::into).collect(),
        },
        node_name: config.node_name().context("cannot read this host's name")?,
    })
}

/// What a directory source reads and allocates from.
///
/// # Errors
/// Ranges that no cluster can have.
pub fn directory(config: &Config, path: PathBuf) -> Result<dir::Config, RangesError> {
    let node_ports = &config.service_node_port_range;
    let ranges = Ranges::new(
        &config.service_cluster_ip_range,
        node_ports.first()..=node_ports.last(),
        &config.lb_ip_range,
    )?;
    Ok(dir::Config {
        path,
        ranges,
        state_dir: Some(config.state_directory.clone()),
    })
}
