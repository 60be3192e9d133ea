//! What manifests hold that a cluster would run: workloads, Services' selectors, endpoints made by hand.
//!
//! Owns: reading these kinds, leniently: the agent's own source is the strict reader of what it serves, and says
//! what is wrong with it. Must not know: nodes, addresses of pods, allocation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::server::Protocol;

/// All that was read.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub(super) workloads: Vec<Workload>,
    /// Services as they were written.
    pub(super) services: Vec<v1::Service>,
    pub(super) hand_made: Vec<HandMade>,
    /// What people should know about what was not used.
    pub(super) notes: Vec<String>,
}

/// Something that becomes pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    /// As written.
    pub(super) replicas: Option<i32>,
    /// Of its pods.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ports: Vec<ContainerPort>,
}

/// How many pods a workload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As many as it says.
    Replicated,
    /// One a node.
    DaemonSet,
    /// It is one.
    Pod,
}

/// A port a container declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

/// An endpoint somebody wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HandMade {
    /// The Service's name, as far as it is said.
    pub(super) service: String,
    pub(super) address: IpAddr,
    pub(super) ports: BTreeSet<(Protocol, u16)>,
}

impl Manifests {
    /// Adds what a file's text holds. Text that is not YAML is passed over: the agent's source reports it.
    pub(super) fn read(&mut self, file: &str, text: &str) -> Result<()> {
        for (line, document) in documents(text) {
            if let Ok(value) = serde_saphyr::from_str::<Value>(document) {
                self.unpack(value).with_context(|| format!("{file}:{line}"))?;
            }
        }
        Ok(())
    }

    fn unpack(&mut self, value: Value) -> Result<()> {
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        let version = value["apiVersion"].as_str().unwrap_or_default();
        if let ("v1", "List", Some(items)) = (version, kind.as_str(), value["items"].as_array()) {
            return items.iter().cloned().try_for_each(|item| self.unpack(item));
        }
        match (version, kind.as_str()) {
            ("apps/v1", "Deployment") => {
                let object: apps::Deployment = decode(value)?;
                let spec = object.spec.unwrap_or_default();
                self.workload(Kind::Replicated, &object.metadata, spec.replicas, &spec.template)
            }
            ("apps/v1", "StatefulSet") => {
                let object: apps::StatefulSet = decode(value)?;
                let spec = object.spec.unwrap_or_default();
                self.workload(Kind::Replicated, &object.metadata, spec.replicas, &spec.template)
            }
            ("apps/v1", "ReplicaSet") => {
                let object: apps::ReplicaSet = decode(value)?;
                let spec = object.spec.unwrap_or_default();
                let template = spec.template.unwrap_or_default();
                self.workload(Kind::Replicated, &object.metadata, spec.replicas, &template)
            }
            ("apps/v1", "DaemonSet") => {
                let object: apps::DaemonSet = decode(value)?;
                let spec = object.spec.unwrap_or_default();
                self.workload(Kind::DaemonSet, &object.metadata, None, &spec.template)
            }
            ("v1", "Pod") => {
                let object: v1::Pod = decode(value)?;
                let template = v1::PodTemplateSpec {
                    metadata: Some(object.metadata.clone()),
                    spec: object.spec,
                };
                self.workload(Kind::Pod, &object.metadata, None, &template)
            }
            ("v1", "Service") => {
                // One that cannot be read has been refused by the source.
                self.services.extend(decode(value).ok());
                Ok(())
            }
            ("v1", "Endpoints") => {
                self.endpoints(value);
                Ok(())
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                self.slice(value);
                Ok(())
            }
            ("batch/v1", "Job" | "CronJob") | ("v1", "ReplicationController") => {
                let name = value["metadata"]["name"].as_str().unwrap_or("?");
                self.notes
                    .push(format!("{kind} {name}: the demo does not run these"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn workload(
        &mut self,
        kind: Kind,
        metadata: &ObjectMeta,
        replicas: Option<i32>,
        template: &v1::PodTemplateSpec,
    ) -> Result<()> {
        let name = metadata.name.clone().unwrap_or_default();
        ensure!(!name.is_empty(), "metadata.name: Required value");
        let labels = template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.clone());
        let spec = template.spec.clone().unwrap_or_default();
        let mut ports = Vec::new();
        for port in spec
            .containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
        {
            let number = u16::try_from(port.container_port).ok().filter(|&port| port > 0);
            let number = number.with_context(|| {
                format!(
                    "{name}: containerPort: Invalid value: {}: must be between 1 and 65535, inclusive",
                    port.container_port
                )
            })?;
            match protocol(port.protocol.as_deref()) {
                Some(protocol) => ports.push(ContainerPort {
                    name: port.name.clone(),
                    protocol,
                    port: number,
                }),
                None => self.notes.push(format!(
                    "{name}: port {number}/{}: the lab's servers speak TCP and UDP only",
                    port.protocol.as_deref().unwrap_or_default()
                )),
            }
        }
        self.workloads.push(Workload {
            kind,
            namespace: namespace(metadata),
            name,
            replicas,
            labels: labels.unwrap_or_default(),
            ports,
        });
        Ok(())
    }

    fn endpoints(&mut self, value: Value) {
        let Ok(object) = decode::<v1::Endpoints>(value) else {
            return;
        };
        let service = object.metadata.name.unwrap_or_default();
        for subset in object.subsets.unwrap_or_default() {
            let ports = subset.ports.unwrap_or_default();
            let ports: BTreeSet<_> = ports
                .iter()
                .filter_map(|port| server_port(port.protocol.as_deref(), port.port))
                .collect();
            let addresses = subset.addresses.into_iter().flatten();
            for address in addresses.chain(subset.not_ready_addresses.into_iter().flatten()) {
                self.add_hand_made(&service, &address.ip, &ports);
            }
        }
    }

    fn slice(&mut self, value: Value) {
        let Ok(object) = decode::<discovery::EndpointSlice>(value) else {
            return;
        };
        let labels = object.metadata.labels.unwrap_or_default();
        let service = labels
            .get(super::slices::SERVICE_NAME)
            .cloned()
            .unwrap_or_default();
        let ports = object.ports.unwrap_or_default();
        let ports: BTreeSet<_> = ports
            .iter()
            .filter_map(|port| server_port(port.protocol.as_deref(), port.port?))
            .collect();
        for endpoint in object.endpoints {
            if let Some(address) = endpoint.addresses.first() {
                self.add_hand_made(&service, address, &ports);
            }
        }
    }

    fn add_hand_made(&mut self, service: &str, address: &str, ports: &BTreeSet<(Protocol, u16)>) {
        if let Some(address) = lb_userspace::model::parse_ip_sloppy(address) {
            self.hand_made.push(HandMade {
                service: service.to_owned(),
                address,
                ports: ports.clone(),
            });
        }
    }
}

/// An object's namespace.
pub(super) fn namespace(metadata: &ObjectMeta) -> String {
    let namespace = metadata.namespace.clone().unwrap_or_default();
    if namespace.is_empty() {
        "default".to_owned()
    } else {
        namespace
    }
}

/// The protocol of an API object, when the lab speaks it.
pub(super) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or_default() {
        "" | "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

fn server_port(text: Option<&str>, port: i32) -> Option<(Protocol, u16)> {
    let port = u16::try_from(port).ok().filter(|&port| port > 0)?;
    Some((protocol(text)?, port))
}

fn decode<T: DeserializeOwned>(value: Value) -> Result<T> {
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let name = value["metadata"]["name"].as_str().unwrap_or("?").to_owned();
    serde_json::from_value(value).with_context(|| format!("{kind} {name}"))
}

/// A file's documents, each with the number of its first line.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        offset += line.len();
        let marker = line.trim_end();
        if marker == "---" || marker.starts_with("--- ") {
            documents.push((first, &text[start..offset - line.len()]));
            (start, first) = (offset, number + 2);
        }
    }
    documents.push((first, &text[start..]));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers:
      - {name: init, ports: [{containerPort: 1}]}
      containers:
      - {name: a, ports: [{containerPort: 8080, name: http}, {containerPort: 53, protocol: UDP}]}
      - {name: b, ports: [{containerPort: 9090, protocol: SCTP}]}
---
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: Job
  metadata: {name: once}
- apiVersion: v1
  kind: Pod
  metadata: {name: single, labels: {app: single}}
  spec: {containers: [{name: a}]}
---
this is not: [YAML
---
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets:
- addresses: [{ip: 10.244.0.50}]
  notReadyAddresses: [{ip: 192.0.2.42}]
  ports: [{port: 5432}]
";

    #[test]
    fn workloads_become_pod_templates_and_the_rest_is_named() {
        let mut manifests = Manifests::default();
        manifests.read("x.yaml", TEXT).unwrap();
        let [web, single] = &manifests.workloads[..] else {
            panic!("{:?}", manifests.workloads)
        };
        assert_eq!(
            (web.kind, web.namespace.as_str(), web.replicas),
            (Kind::Replicated, "shop", None)
        );
        let ports: Vec<_> = web.ports.iter().map(|port| (port.protocol, port.port)).collect();
        assert_eq!(ports, [(Protocol::Tcp, 8080), (Protocol::Udp, 53)]);
        assert_eq!((single.kind, single.namespace.as_str()), (Kind::Pod, "default"));
        assert_eq!(
            manifests.notes,
            [
                "web: port 9090/SCTP: the lab's servers speak TCP and UDP only",
                "Job once: the demo does not run these"
            ]
        );
        let addresses: Vec<_> = manifests
            .hand_made
            .iter()
            .map(|made| made.address.to_string())
            .collect();
        assert_eq!(addresses, ["10.244.0.50", "192.0.2.42"]);
    }

    #[test]
    fn a_bad_workload_is_named_with_its_place() {
        let text = TEXT.replace("containerPort: 8080", "containerPort: 99999");
        let error = Manifests::default().read("x.yaml", &text).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "x.yaml:1: web: containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive"
        );
        let text =
            "\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: many}\n";
        let error = Manifests::default().read("y.yaml", text).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("y.yaml:3: Deployment a: "),
            "{error:#}"
        );
    }
}
