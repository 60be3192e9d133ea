//! What a source says about the objects it was given.
//!
//! Owns: one entry an object, with file and line, and how it reads. The same text feeds `xvip check`, the
//! log and the tests. Must not know: how the verdict came about.

use std::fmt;
use std::path::PathBuf;

use crate::model::{EndpointSlice, Node, ObjectRef, Problem, Service, ServiceKey};

/// A place in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file, as the user would type it.
    pub file: PathBuf,
    /// The line, from 1; 0 stands for the whole file.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)
        } else {
            Ok(())
        }
    }
}

/// A problem and the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedProblem {
    /// Where.
    pub location: Location,
    /// What.
    pub problem: Problem,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A Service that is served.
    Service(Box<Service>),
    /// A slice that is used.
    EndpointSlice(EndpointSlice),
    /// `Endpoints` that are used as these slices.
    Endpoints(ServiceKey, Vec<EndpointSlice>),
    /// A Node.
    Node(Node),
    /// None of the proxy's business, and why.
    Skipped(String),
    /// Not used.
    Refused {
        /// Why; never empty.
        problems: Vec<LocatedProblem>,
        /// An earlier good version stays in force.
        kept: bool,
    },
}

/// One object of a manifest, or a document that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the object starts.
    pub location: Location,
    /// The object; absent when the text could not be read that far.
    pub object: Option<ObjectRef>,
    /// What became of it.
    pub outcome: Outcome,
    /// Parts of an accepted object that are ignored.
    pub warnings: Vec<LocatedProblem>,
}

impl Entry {
    /// Whether the object was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Refused { .. })
    }

    /// The lines of refusals and warnings alone.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Outcome::Refused { problems, kept } = &self.outcome {
            let kept = if *kept {
                " (the last good version stays in force)"
            } else {
                ""
            };
            lines.extend(problems.iter().map(|located| self.line("refused", located, kept)));
        }
        lines.extend(
            self.warnings
                .iter()
                .map(|located| self.line("warning", located, "")),
        );
        lines
    }

    fn line(&self, verdict: &str, located: &LocatedProblem, suffix: &str) -> String {
        let LocatedProblem { location, problem } = located;
        match &self.object {
            Some(object) => format!("{location}: {object}: {verdict}: {problem}{suffix}"),
            None => format!("{location}: {verdict}: {problem}{suffix}"),
        }
    }
}

impl fmt::Display for Entry {
    /// One or more lines, without the last line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        let verdict = match &self.outcome {
            Outcome::Service(service) => Some(format!("accepted: {}", frontends(service))),
            Outcome::EndpointSlice(slice) => Some(format!(
                "accepted: {} of Service {}",
                count(slice.endpoints.len()),
                slice.service
            )),
            Outcome::Endpoints(service, slices) => {
                let endpoints = slices.iter().map(|slice| slice.endpoints.len()).sum();
                Some(format!("accepted: {} of Service {service}", count(endpoints)))
            }
            Outcome::Node(node) => {
                let addresses: Vec<String> = node.internal_ips.iter().map(ToString::to_string).collect();
                Some(format!("accepted: {}", addresses.join(", ")))
            }
            Outcome::Skipped(reason) => Some(format!("skipped: {reason}")),
            Outcome::Refused { .. } => None,
        };
        if let (Some(verdict), Some(object)) = (verdict, &self.object) {
            lines.push(format!("{}: {object}: {verdict}", self.location));
        }
        lines.extend(self.complaints());
        f.write_str(&lines.join("\n"))
    }
}

fn count(endpoints: usize) -> String {
    if endpoints == 1 {
        "1 endpoint".to_owned()
    } else {
        format!("{endpoints} endpoints")
    }
}

/// What a Service is reachable by, in one line.
fn frontends(service: &Service) -> String {
    fn list(items: &[impl ToString]) -> String {
        items
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| format!("{}/{}", port.port, port.protocol))
        .collect();
    let mut parts = vec![format!(
        "{} {} ports {}",
        service.service_type,
        list(&service.cluster_ips),
        list(&ports)
    )];
    let node_ports: Vec<String> = service
        .ports
        .iter()
        .filter_map(|port| {
            port.node_port
                .map(|node_port| format!("{node_port}/{}", port.protocol))
        })
        .collect();
    if !node_ports.is_empty() {
        parts.push(format!("nodePorts {}", list(&node_ports)));
    }
    if !service.external_ips.is_empty() {
        parts.push(format!("externalIPs {}", list(&service.external_ips)));
    }
    if !service.load_balancer_vips.is_empty() {
        parts.push(format!("load balancer {}", list(&service.load_balancer_vips)));
    }
    if let Some(port) = service.health_check_node_port {
        parts.push(format!("healthCheckNodePort {port}"));
    }
    if let Some(timeout) = service.session_affinity {
        parts.push(format!("affinity {} s", timeout.as_secs()));
    }
    if service.excluded {
        parts.push("left to the host (xvip.dev/exclude)".to_owned());
    }
    parts.join("; ")
}

/// Everything a source was given, in the order of files and lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One entry an object.
    pub entries: Vec<Entry>,
}

impl Report {
    /// How many entries were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_refused()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}
