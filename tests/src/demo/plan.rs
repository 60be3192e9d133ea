//! Which pods there are, on which nodes, with which addresses and ports.
//!
//! Owns: replica counts, placement and numbering, pure. Must not know: how pods are made, Services' allocation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::manifest::{ContainerPort, HandMade, Kind, Manifests, namespace, protocol};
use super::slices::selects;
use crate::host::{POD_NUMBERS, pod_addresses};
use crate::server::Protocol;

/// A pod to make.
#[derive(Debug, Clone)]
pub(super) struct PodPlan {
    pub(super) namespace: String,
    /// Unique in the whole cluster.
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) node: u8,
    /// Stands for its addresses on the node.
    pub(super) number: u8,
    /// What its containers declare.
    pub(super) ports: Vec<ContainerPort>,
    /// What it listens on: that, and numbers Services send to without a container declaring them.
    pub(super) serves: BTreeSet<(Protocol, u16)>,
}

impl PodPlan {
    /// Its addresses, IPv4 first.
    pub(super) fn addresses(&self) -> [IpAddr; 2] {
        pod_addresses(self.node, self.number)
    }
}

/// The pods of a cluster.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pods: Vec<PodPlan>,
    pub(super) notes: Vec<String>,
}

/// Places everything on `nodes` nodes, with `replicas` pods where a manifest says 1 or nothing.
pub(super) fn plan(manifests: &Manifests, nodes: u8, replicas: u16) -> Result<Plan> {
    let mut placer = Placer {
        nodes,
        next_node: 0,
        numbers: BTreeMap::new(),
        names: BTreeSet::new(),
        pods: Vec::new(),
    };
    let mut notes = Vec::new();
    // Addresses people wrote down are taken before the others are given out.
    for made in &manifests.hand_made {
        if !placer.hand_made(made, nodes) {
            notes.push(format!(
                "endpoint {} of {}: outside the lab (pods are in 10.244.NODE.0/24 and fd00:10:244:NODE::/64), left alone",
                made.address, made.service
            ));
        }
    }
    for workload in &manifests.workloads {
        let count = match workload.kind {
            Kind::DaemonSet => nodes.into(),
            Kind::Pod => 1,
            Kind::Replicated => match workload.replicas {
                None | Some(1) => replicas,
                Some(count) => u16::try_from(count)
                    .with_context(|| format!("{}: spec.replicas: {count}", workload.name))?,
            },
        };
        for index in 0..count {
            let node = match workload.kind {
                Kind::DaemonSet => u8::try_from(index)?,
                Kind::Pod | Kind::Replicated => placer.next_node(),
            };
            let name = match workload.kind {
                Kind::Pod => workload.name.clone(),
                Kind::DaemonSet | Kind::Replicated => format!("{}-{index}", workload.name),
            };
            let name = placer.unique(&workload.namespace, name);
            placer.place(PodPlan {
                name,
                namespace: workload.namespace.clone(),
                labels: workload.labels.clone(),
                node,
                number: 0,
                serves: workload
                    .ports
                    .iter()
                    .map(|port| (port.protocol, port.port))
                    .collect(),
                ports: workload.ports.clone(),
            })?;
        }
    }
    let mut pods = placer.pods;
    listen_for_services(&mut pods, manifests);
    Ok(Plan { pods, notes })
}

/// A container need not declare the port it listens on: what a Service sends to by number is served.
fn listen_for_services(pods: &mut [PodPlan], manifests: &Manifests) {
    for service in &manifests.services {
        let Some(spec) = &service.spec else { continue };
        for port in spec.ports.iter().flatten() {
            let number = match &port.target_port {
                None | Some(IntOrString::Int(0)) => port.port,
                Some(IntOrString::Int(number)) => *number,
                Some(IntOrString::String(_)) => continue,
            };
            let (Some(protocol), Ok(number)) = (protocol(port.protocol.as_deref()), u16::try_from(number))
            else {
                continue;
            };
            let namespace = namespace(&service.metadata);
            for pod in pods
                .iter_mut()
                .filter(|pod| pod.namespace == namespace && selects(spec.selector.as_ref(), &pod.labels))
            {
                pod.serves.insert((protocol, number));
            }
        }
    }
}

/// Gives out nodes, numbers and names.
struct Placer {
    nodes: u8,
    next_node: u8,
    numbers: BTreeMap<u8, BTreeSet<u8>>,
    names: BTreeSet<String>,
    pods: Vec<PodPlan>,
}

impl Placer {
    fn next_node(&mut self) -> u8 {
        let node = self.next_node;
        self.next_node = (node + 1) % self.nodes;
        node
    }

    fn unique(&mut self, namespace: &str, name: String) -> String {
        let name = if self.names.contains(&name) {
            format!("{namespace}-{name}")
        } else {
            name
        };
        let free = (0..)
            .map(|copy| match copy {
                0 => name.clone(),
                copy => format!("{name}-copy{copy}"),
            })
            .find(|name| !self.names.contains(name));
        let name = free.unwrap_or(name);
        self.names.insert(name.clone());
        name
    }

    fn place(&mut self, pod: PodPlan) -> Result<()> {
        let taken = self.numbers.entry(pod.node).or_default();
        let number = POD_NUMBERS
            .into_iter()
            .find(|number| !taken.contains(number))
            .with_context(|| {
                format!(
                    "pod {}: node{} is full; --nodes or --replicas helps",
                    pod.name, pod.node
                )
            })?;
        taken.insert(number);
        self.pods.push(PodPlan { number, ..pod });
        Ok(())
    }

    /// Makes the pod of a written address; `false` when no node has it.
    fn hand_made(&mut self, made: &HandMade, nodes: u8) -> bool {
        let Some((node, number)) = (0..nodes)
            .flat_map(|node| POD_NUMBERS.map(move |number| (node, number)))
            .find(|&(node, number)| pod_addresses(node, number).contains(&made.address))
        else {
            return false;
        };
        if self.numbers.entry(node).or_default().insert(number) {
            let name = self.unique("", format!("{}-node{node}-{number}", made.service));
            self.pods.push(PodPlan {
                namespace: String::new(),
                name,
                labels: BTreeMap::new(),
                node,
                number,
                ports: Vec::new(),
                serves: made.ports.clone(),
            });
        } else if let Some(pod) = self
            .pods
            .iter_mut()
            .find(|pod| (pod.node, pod.number) == (node, number))
        {
            pod.serves.extend(&made.ports);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(text: &str, nodes: u8) -> Vec<String> {
        let mut manifests = Manifests::default();
        manifests.read("x.yaml", text).unwrap();
        let plan = plan(&manifests, nodes, 3).unwrap();
        plan.pods
            .iter()
            .map(|pod| {
                let serves: Vec<_> = pod
                    .serves
                    .iter()
                    .map(|(protocol, port)| format!("{protocol:?}{port}"))
                    .collect();
                format!("{} {} {}", pod.name, pod.addresses()[0], serves.join(","))
            })
            .chain(plan.notes)
            .collect()
    }

    fn workload(kind: &str, name: &str, replicas: &str) -> String {
        format!(
            "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  {replicas}\n  selector: {{}}\n  \
             template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: a, ports: \
             [{{containerPort: 80}}]}}]}}\n"
        )
    }

    #[test]
    fn replicas_are_spread_and_counted_as_asked() {
        assert_eq!(
            pods(
                &(workload("Deployment", "one", "replicas: 1")
                    + &workload("StatefulSet", "two", "replicas: 2")
                    + &workload("ReplicaSet", "none", "replicas: 0")
                    + &workload("DaemonSet", "all", "")),
                2
            ),
            [
                "one-0 10.244.0.2 Tcp80",
                "one-1 10.244.1.2 Tcp80",
                "one-2 10.244.0.3 Tcp80",
                "two-0 10.244.1.3 Tcp80",
                "two-1 10.244.0.4 Tcp80",
                "all-0 10.244.0.5 Tcp80",
                "all-1 10.244.1.4 Tcp80",
            ]
        );
    }

    #[test]
    fn written_addresses_get_their_pod_and_nobody_elses() {
        let text = workload("DaemonSet", "web", "")
            + "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: db}\nsubsets:\n- addresses: [{ip: 10.244.0.2}, {ip: \
               'fd00:10:244::2'}, {ip: 192.0.2.42}, {ip: 10.244.7.2}]\n  ports: [{port: 5432}]\n";
        assert_eq!(
            pods(&text, 1),
            [
                "db-node0-2 10.244.0.2 Tcp5432",
                "web-0 10.244.0.3 Tcp80",
                "endpoint 192.0.2.42 of db: outside the lab (pods are in 10.244.NODE.0/24 and fd00:10:244:NODE::/64), left alone",
                "endpoint 10.244.7.2 of db: outside the lab (pods are in 10.244.NODE.0/24 and fd00:10:244:NODE::/64), left alone",
            ]
        );
    }

    #[test]
    fn a_port_nobody_declares_is_served_when_a_service_sends_there() {
        let text = workload("Deployment", "web", "replicas: 1")
            + "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  selector: {app: web}\n  ports: [{port: \
               1, targetPort: 8080}, {port: 53, protocol: UDP}, {port: 2, targetPort: http}]\n";
        assert_eq!(pods(&text, 1)[0], "web-0 10.244.0.2 Tcp80,Tcp8080,Udp53");
    }
}
