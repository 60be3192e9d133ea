//! `xvip check`: would this configuration do, with these manifests or this cluster, and what would be programmed? Touches nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, anyhow};
use clap::Args;
use lb_common::port::Port;
use serde::Serialize;

use super::exit::Failure;
use super::output::{self, Column, Format, Row};
use super::terminal;
use super::view::words;
use crate::agent::cluster::{Cluster, Touched};
use crate::agent::settings;
use crate::config::{AgentFlags, Config};
use crate::model::Update;
use crate::plan::{PlanConfig, PlannedServicePort, RecordRole, ThisNode, plan_service};
use crate::source::events::{ObjectEvent, Reason};
use crate::source::kube::{self, Look};
use crate::source::{self, Entry, Outcome, Report, dir};

/// Options of `xvip check`.
#[derive(Debug, Args)]
pub struct Check {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    flags: AgentFlags,
}

/// What a check found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Findings {
    /// Verdicts on objects, one or more lines each.
    objects: Vec<String>,
    /// Objects refused.
    refused: usize,
    /// What would be programmed.
    frontends: Vec<PlannedFrontend>,
    /// Parts of Services that would not be served.
    warnings: Vec<String>,
}

/// An address that would be served.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlannedFrontend {
    /// The service port.
    service: String,
    /// The address; the unspecified one stands for every nodePort address of the node.
    address: IpAddr,
    /// The port.
    port: u16,
    /// The protocol.
    protocol: String,
    /// Endpoints for clients in pods and on the node.
    inside: Vec<SocketAddr>,
    /// Endpoints for all other clients.
    outside: Vec<SocketAddr>,
    /// The networks whose clients may use it; empty when everybody may.
    sources: Vec<String>,
}

impl Check {
    /// Checks, and says what it found.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let config = Config::load(self.flags.config.as_deref(), &self.flags).map_err(Failure::refused)?;
        let found = match settings::source(&config).map_err(Failure::refused)? {
            source::Config::Directory(directory) => {
                Found::in_directory(&dir::check(directory).map_err(Failure::refused)?)
            }
            source::Config::Kube(kube) => Found::in_cluster(look(&kube)?, &kube.node_name),
        };
        let findings = findings(found, &config.node_name()?, &settings::plan(&config));
        terminal::print(&findings.render(self.output)?)?;
        match findings.refused {
            0 => Ok(()),
            1 => Err(Failure::refused(anyhow!("1 object refused"))),
            refused => Err(Failure::refused(anyhow!("{refused} objects refused"))),
        }
    }
}

/// What a source has.
#[derive(Debug, Default)]
struct Found {
    /// What it says about its objects, one or more lines each.
    objects: Vec<String>,
    /// Objects refused.
    refused: usize,
    /// What it would tell the agent.
    updates: Vec<Update>,
}

impl Found {
    /// The verdict on every object: people look for those they have just written.
    fn in_directory(report: &Report) -> Self {
        let lines = report.entries.iter().map(ToString::to_string);
        Self {
            objects: lines.filter(|text| !text.is_empty()).collect(),
            refused: report.refused(),
            updates: report.entries.iter().flat_map(updates).collect(),
        }
    }

    /// What is wrong alone: a cluster has thousands of objects that are not.
    fn in_cluster(look: Look, node_name: &str) -> Self {
        let is_refusal = |remark: &ObjectEvent| remark.reason == Reason::Refused;
        let mut objects: Vec<String> = look
            .remarks
            .iter()
            .map(|remark| {
                let verdict = if is_refusal(remark) { "refused" } else { "warning" };
                format!("{}: {verdict}: {}", remark.object, remark.note)
            })
            .collect();
        let is_node = |update: &Update| matches!(update, Update::NodeApplied(_));
        if !look.updates.iter().any(is_node) {
            objects.push(format!(
                "Node {node_name}: warning: there is none of this name, and so no zone and no internal address of this node; \
                 Nodes that are not named as their hosts need --hostname-override"
            ));
        }
        Self {
            objects,
            refused: look.remarks.iter().filter(|remark| is_refusal(remark)).count(),
            updates: look.updates,
        }
    }
}

/// Reads the cluster, and says on a terminal how far it got.
fn look(kube: &kube::Config) -> anyhow::Result<Look> {
    let mut progress = terminal::Progress::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let look = runtime.block_on(kube::look(kube, |read| {
        progress.say(&format!("{read} objects read from the API server"));
    }));
    drop(progress);
    look.context("the cluster cannot be read")
}

fn findings(found: Found, node_name: &str, config: &PlanConfig) -> Findings {
    let mut cluster = Cluster::default();
    for update in found.updates {
        cluster.apply(update, &mut Touched::default());
    }
    let node = ThisNode {
        name: node_name.to_owned(),
        zone: cluster.node(node_name).and_then(|node| node.zone.clone()),
        ..ThisNode::default()
    };
    let mut frontends = BTreeSet::new();
    let mut warnings = Vec::new();
    for service in cluster.services() {
        let plan = plan_service(service, &cluster.slices_of(&service.key), &node, config);
        warnings.extend(
            plan.warnings
                .iter()
                .map(|problem| format!("Service {}: {problem}", service.key)),
        );
        frontends.extend(plan.ports.iter().flat_map(planned_frontends));
    }
    Findings {
        objects: found.objects,
        refused: found.refused,
        frontends: frontends.into_iter().collect(),
        warnings,
    }
}

/// What the source would tell the agent of an object.
fn updates(entry: &Entry) -> Vec<Update> {
    match &entry.outcome {
        Outcome::Service(service) => vec![Update::ServiceApplied(service.as_ref().clone())],
        Outcome::EndpointSlice(slice) => vec![Update::SliceApplied(slice.clone())],
        Outcome::Endpoints(_, slices) => slices.iter().cloned().map(Update::SliceApplied).collect(),
        Outcome::Node(node) => vec![Update::NodeApplied(node.clone())],
        Outcome::Skipped(_) | Outcome::Refused { .. } => Vec::new(),
    }
}

fn planned_frontends(port: &PlannedServicePort) -> impl Iterator<Item = PlannedFrontend> + '_ {
    port.frontends.iter().filter_map(move |(key, role)| {
        let record = match role {
            RecordRole::Cluster => &port.cluster,
            RecordRole::External | RecordRole::Restricted => port.external.as_ref()?,
            RecordRole::UnknownPort => return None,
        };
        let sources = match role {
            RecordRole::Restricted => port.sources.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        Some(PlannedFrontend {
            service: port.key.to_string(),
            address: key.addr.to_ip(),
            port: Port(key.port).number(),
            protocol: words::protocol(key.proto),
            inside: record.inside.endpoints.clone(),
            outside: record.outside.endpoints.clone(),
            sources,
        })
    })
}

impl Findings {
    fn render(&self, format: Format) -> anyhow::Result<String> {
        match format {
            Format::Json => output::json(self),
            Format::Yaml => output::yaml(self),
            Format::Table | Format::Wide => {
                let mut text = String::new();
                for line in self.objects.iter().chain(&self.warnings) {
                    text.push_str(line);
                    text.push('\n');
                }
                text.push_str("\nWould be programmed:\n");
                text.push_str(&output::render(&self.frontends, format, "nothing")?);
                Ok(text)
            }
        }
    }
}

impl Row for PlannedFrontend {
    const COLUMNS: &'static [Column] = &[
        Column::new("SERVICE"),
        Column::new("FRONTEND"),
        Column::new("INSIDE"),
        Column::new("OUTSIDE"),
        Column::wide("INSIDE ENDPOINTS"),
        Column::wide("OUTSIDE ENDPOINTS"),
        Column::wide("SOURCES"),
    ];

    fn lines(&self) -> Vec<Vec<String>> {
        let list = |endpoints: &[SocketAddr]| {
            let texts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            if texts.is_empty() {
                "-".to_owned()
            } else {
                texts.join(",")
            }
        };
        vec![vec![
            self.service.clone(),
            words::frontend(self.address, self.port, &self.protocol),
            self.inside.len().to_string(),
            self.outside.len().to_string(),
            list(&self.inside),
            list(&self.outside),
            if self.sources.is_empty() {
                "any".to_owned()
            } else {
                self.sources.join(",")
            },
        ]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::dir::{Config, Ranges};

    const MANIFEST: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  externalTrafficPolicy: Local
  ports: [{name: http, port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: shop
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.2], nodeName: here}
- {addresses: [10.0.1.2], nodeName: there}
---
apiVersion: v1
kind: Service
metadata: {name: typo}
spec:
  selektor: {a: b}
  ports: [{port: 80}]
";

    fn check(manifest: &str) -> Findings {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("shop.yaml"), manifest).unwrap();
        let config = Config {
            path: directory.path().to_owned(),
            ranges: Ranges::default(),
            state_dir: None,
        };
        let found = Found::in_directory(&dir::check(config).unwrap());
        findings(found, "here", &PlanConfig::default())
    }

    #[test]
    fn what_would_be_programmed_is_planned_for_this_node() {
        let findings = check(MANIFEST);
        let text = findings.render(Format::Table).unwrap();
        let planned = text.split("Would be programmed:\n").nth(1).unwrap();
        let expected = "\
SERVICE                           FRONTEND           INSIDE  OUTSIDE
shop/web:http (80 TCP, IPv4)      *:30080/TCP        2       1
shop/web:http (80 TCP, IPv4)      10.96.0.10:80/TCP  2       2
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(planned), squeezed(expected));
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name_and_line() {
        let findings = check(MANIFEST);
        assert_eq!(findings.refused, 1);
        let complaint = findings
            .objects
            .iter()
            .find(|line| line.contains("refused"))
            .unwrap();
        assert!(
            complaint.contains("shop.yaml:26") && complaint.contains("spec.selektor"),
            "{complaint}"
        );
    }
}
