//! The cluster in miniature, standing: the lab's nodes and pods, servers on them, manifests in a directory, an agent on
//! each node that serves from it, or from an API server that holds the same.
//!
//! Without an API server all agents share a state directory: the directory source allocates under a lock there, so they agree on every
//! address. And they pin into a bpffs each, as they would on machines of their own.
//!
//! Owns: making and changing it. Must not know: traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use lb_userspace::model::TOPOLOGY_ZONE_LABEL;
use lb_userspace::source::{Report, dir};
use serde::Serialize;

use super::plan::PodPlan;
use super::probe::{CallerId, World};
use super::slices::{slices, zone};
use crate::agent::{Agent, Source};
use crate::cluster_lab::ObjectSource;
use crate::cluster_lab::objects::Objects;
use crate::host::Uplink;
use crate::netns::NsHandle;
use crate::pod::Pod;
use crate::server::Server;
use crate::topology::Topology;

/// A manifest as the user wrote it.
#[derive(Debug, Clone)]
pub(super) struct ManifestFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The ranges the cluster allocates from.
#[derive(Debug, Clone)]
pub(super) struct Ranges {
    pub(super) cluster_ips: Vec<IpNet>,
    pub(super) load_balancers: Vec<IpNet>,
}

/// A standing cluster; gone on drop.
#[derive(Debug)]
pub(super) struct Cluster {
    // Dropped in this order: agents, those who talk, the API server and the files, the lab.
    pub(super) agents: Vec<Agent>,
    servers: BTreeMap<String, Server>,
    made: BTreeMap<String, Pod>,
    callers: Vec<Pod>,
    directory: Directory,
    pub(super) topology: Topology,
    ranges: Ranges,
    /// The pods that still live.
    pub(super) pods: Vec<PodPlan>,
    services: Vec<v1::Service>,
}

impl Cluster {
    /// Makes nodes and a calling pod on each, and writes the directory.
    pub(super) fn build(
        nodes: u8,
        source: ObjectSource,
        ranges: Ranges,
        files: &[ManifestFile],
        services: Vec<v1::Service>,
    ) -> Result<Self> {
        let routed = ranges
            .cluster_ips
            .iter()
            .chain(&ranges.load_balancers)
            .copied()
            .collect();
        let topology = Topology::builder()
            .nodes(nodes)
            .uplink(Uplink::WholeFrames)
            .service_ranges(routed)
            .build()?;
        let mut directory = Directory::new(source, &ranges, &topology)?;
        directory.write_manifests(files)?;
        directory.write_nodes(&topology)?;
        Ok(Self {
            agents: Vec::new(),
            servers: BTreeMap::new(),
            made: BTreeMap::new(),
            callers: Vec::new(),
            topology,
            directory,
            ranges,
            pods: Vec::new(),
            services,
        })
    }

    /// Makes a pod with its server.
    pub(super) fn add_pod(&mut self, plan: &PodPlan) -> Result<()> {
        let pod = self
            .topology
            .add_pod_at(plan.node.into(), &plan.name, plan.number)?;
        let ports: Vec<_> = plan.serves.iter().copied().collect();
        let server = Server::start(pod.ns(), pod.name(), &pod.addresses(), &ports)?;
        self.servers.insert(plan.name.clone(), server);
        self.made.insert(plan.name.clone(), pod);
        self.pods.push(plan.clone());
        Ok(())
    }

    /// Makes the pods that call, one a node.
    pub(super) fn add_callers(&mut self) -> Result<()> {
        for node in 0..self.topology.nodes().len() {
            self.callers
                .push(self.topology.add_pod(node, &format!("caller-{node}"))?);
        }
        Ok(())
    }

    /// Writes the EndpointSlices of the pods that live; gives what could not be resolved.
    pub(super) fn write_slices(&self) -> Result<BTreeSet<String>> {
        let mut notes = BTreeSet::new();
        for service in &self.services {
            self.directory
                .write_slices(service, &slices(service, &self.pods, &mut notes))?;
        }
        Ok(notes)
    }

    /// Starts an agent on every node and waits until each has everything in the kernel.
    pub(super) fn start_agents(&mut self) -> Result<()> {
        let list = |ranges: &[IpNet]| {
            let texts: Vec<_> = ranges.iter().map(ToString::to_string).collect();
            texts.join(",")
        };
        let state = self.directory.objects.state();
        let state = state
            .to_str()
            .context("the scratch directory's path is no text")?;
        for node in self.topology.nodes() {
            let name = node.name();
            let agent = Agent::start(
                node.ns(),
                self.directory.objects.source(),
                &[
                    "--hostname-override",
                    &name,
                    "--xdp-mode",
                    "native",
                    "--state-dir",
                    state,
                    "--service-cluster-ip-range",
                    &list(&self.ranges.cluster_ips),
                    "--lb-ip-range",
                    &list(&self.ranges.load_balancers),
                ],
            )?;
            self.agents.push(agent);
        }
        self.agents.iter_mut().try_for_each(Agent::wait_ready)
    }

    /// What the agents make of the directory: the same reader with the same state.
    pub(super) fn report(&self) -> Result<Report> {
        Ok(dir::check(self.directory.objects.config())?)
    }

    /// Sends what the client has for an address through a node.
    pub(super) fn route(&self, address: IpAddr, node: u8) -> Result<()> {
        let gateway = self.topology.node(node.into()).address(address.is_ipv6());
        let client = self.topology.client();
        client
            .ns()
            .add_route(address.into(), Some(gateway), client.uplink())
    }

    /// Stops a pod's server: callers are refused from now on.
    pub(super) fn stop_server(&mut self, name: &str) {
        self.servers.remove(name);
    }

    /// Takes a pod out of the endpoints.
    pub(super) fn withdraw(&mut self, name: &str) -> Result<()> {
        self.pods.retain(|pod| pod.name != name);
        self.write_slices().map(drop)
    }

    /// Removes what is left of a pod.
    pub(super) fn remove_pod(&mut self, name: &str) {
        self.made.remove(name);
    }

    /// Who can call from where.
    pub(super) fn namespaces(&self) -> BTreeMap<CallerId, NsHandle> {
        let pods = (0..)
            .zip(&self.callers)
            .map(|(node, pod)| (CallerId::Pod(node), pod.ns().clone()));
        pods.chain([(CallerId::Client, self.topology.client().ns().clone())])
            .collect()
    }

    /// Whose address is whose.
    pub(super) fn world(&self) -> World {
        World {
            nodes: self
                .topology
                .nodes()
                .iter()
                .map(|node| node.host().addresses(0))
                .collect(),
            client: self.topology.client().addresses(0),
            callers: self.callers.iter().map(Pod::addresses).collect(),
            pods: self
                .pods
                .iter()
                .flat_map(|pod| pod.addresses().map(|address| (address, pod.name.clone())))
                .collect(),
        }
    }

    /// A line about the copies of the user's files, as one about the files themselves.
    pub(super) fn in_users_words(&self, line: &str) -> String {
        let copies = self.directory.copies.iter();
        copies.fold(line.to_owned(), |line, (copy, original)| {
            line.replace(&copy.display().to_string(), &original.display().to_string())
        })
    }

    /// Where the agents get their objects from.
    pub(super) fn source(&self) -> Source {
        self.directory.objects.source()
    }
}

/// The files the agents read and keep.
#[derive(Debug)]
struct Directory {
    objects: Objects,
    /// The user's files, as (copy, original).
    copies: Vec<(PathBuf, PathBuf)>,
}

impl Directory {
    fn new(source: ObjectSource, ranges: &Ranges, topology: &Topology) -> Result<Self> {
        let ranges = dir::Ranges::new(&ranges.cluster_ips, 30_000..=32_767, &ranges.load_balancers)?;
        let objects = match source {
            ObjectSource::Directory => Objects::in_directory("demo", ranges),
            ObjectSource::Kube => Objects::in_api("demo", ranges, topology.wire(0)),
        };
        Ok(Self {
            objects: objects?,
            copies: Vec::new(),
        })
    }

    /// Copies the user's files unchanged, numbered, so that two of one name do not meet.
    fn write_manifests(&mut self, files: &[ManifestFile]) -> Result<()> {
        for (index, file) in files.iter().enumerate() {
            let name = file
                .path
                .file_name()
                .map_or_else(|| "manifest".into(), |name| name.to_string_lossy());
            // A file somebody names is read, whatever its name ends with.
            let suffix = match Path::new(&*name)
                .extension()
                .and_then(|extension| extension.to_str())
            {
                Some("yaml" | "yml" | "json") => "",
                _ => ".yaml",
            };
            let copy = format!("{:02}-{name}{suffix}", index + 1);
            self.objects.write(&copy, &file.text)?;
            self.copies
                .push((self.objects.manifests().join(copy), file.path.clone()));
        }
        Ok(())
    }

    fn write_nodes(&self, topology: &Topology) -> Result<()> {
        let nodes = topology.nodes().iter().map(|node| {
            let name = node.name();
            let addresses = node.host().addresses(0).map(|address| v1::NodeAddress {
                type_: "InternalIP".to_owned(),
                address: address.to_string(),
            });
            let mut object = v1::Node::default();
            object.metadata.labels = Some(
                [
                    (TOPOLOGY_ZONE_LABEL.to_owned(), zone(node.index())),
                    ("kubernetes.io/hostname".to_owned(), name.clone()),
                ]
                .into(),
            );
            object.metadata.name = Some(name);
            object.status = Some(v1::NodeStatus {
                addresses: Some(addresses.into()),
                ..Default::default()
            });
            object
        });
        self.objects.write("demo-nodes.yaml", &documents(nodes)?)
    }

    fn write_slices(
        &self,
        service: &v1::Service,
        slices: &[k8s_openapi::api::discovery::v1::EndpointSlice],
    ) -> Result<()> {
        if slices.is_empty()
            && service
                .spec
                .as_ref()
                .and_then(|spec| spec.selector.as_ref())
                .is_none()
        {
            return Ok(());
        }
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let namespace = super::manifest::namespace(&service.metadata);
        self.objects.write(
            &format!("demo-endpoints-{namespace}-{name}.yaml"),
            &documents(slices)?,
        )
    }
}

fn documents<T: Serialize>(objects: impl IntoIterator<Item = T>) -> Result<String> {
    let mut text = String::from("# Written by the demo, as a cluster's controllers would.\n");
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&object)?);
        text.push('\n');
    }
    Ok(text)
}
