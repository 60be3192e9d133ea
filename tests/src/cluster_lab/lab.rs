//! The standing cluster.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_userspace::source::dir;

use super::objects::Objects;
use super::service::{Endpoint, Service, TARGET_PORT};
use crate::agent::Agent;
use crate::apiserver::ApiServer;
use crate::client::Caller;
use crate::host::Uplink;
use crate::pod::{Pod, PodNet};
use crate::poll;
use crate::server::{Protocol, Server};
use crate::topology::Topology;

/// How long an agent may take to bring about a change of the objects: it may be waiting to ask an API server once more.
const APPLIED: Duration = Duration::from_secs(45);
/// Room for tests, and not much more: dumps, which tests wait with, go over whole arrays.
const CONFIG: &str = "apiVersion: config.xvip.dev/v1alpha1
kind: LoadBalancerConfiguration
mapSizes: {services: 4096, backends: 4096, slots: 16384, frontends: 4096}
";
/// The ranges Services' addresses are from.
const CLUSTER_IPS: [&str; 2] = ["10.96.0.0/16", "fd00:96::/108"];
/// What every pod's server listens on.
const SERVED: [(Protocol, u16); 2] = [(Protocol::Tcp, TARGET_PORT), (Protocol::Udp, TARGET_PORT)];

/// What a cluster is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many nodes; clients send to node 0.
    pub nodes: u8,
    /// How pods are attached.
    pub pods: PodNet,
    /// What frames on the wire look like.
    pub uplink: Uplink,
    /// The agents' `--xdp-mode`.
    pub xdp: &'static str,
    /// Where the agents get the cluster's objects from.
    pub source: ObjectSource,
}

/// Where agents get objects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectSource {
    /// A directory all of them read.
    #[value(name = "dir")]
    Directory,
    /// An API server on the wire, the double of [`apiserver`](crate::apiserver), over TLS.
    Kube,
}

impl Shape {
    /// Two nodes, routed pods, whole frames: native XDP.
    pub const NATIVE: Self = Self {
        nodes: 2,
        pods: PodNet::Routed,
        uplink: Uplink::WholeFrames,
        xdp: "native",
        source: ObjectSource::Directory,
    };
    /// The same with bridged pods.
    pub const NATIVE_BRIDGED: Self = Self {
        pods: PodNet::Bridge,
        ..Self::NATIVE
    };
    /// Two nodes, bridged pods, frames as veth delivers them: tc, which the agent has to find out.
    pub const AUTO: Self = Self {
        nodes: 2,
        pods: PodNet::Bridge,
        uplink: Uplink::Unfinished,
        xdp: "auto",
        source: ObjectSource::Directory,
    };
    /// The same with routed pods.
    pub const AUTO_ROUTED: Self = Self {
        pods: PodNet::Routed,
        ..Self::AUTO
    };

    /// The same with an API server.
    #[must_use]
    pub const fn on_kube(self) -> Self {
        Self {
            source: ObjectSource::Kube,
            ..self
        }
    }
}

/// A cluster; gone on drop.
#[derive(Debug)]
pub struct ClusterLab {
    // Dropped in this order: agents, those who talk, the API server and the files, the lab.
    agents: Vec<Agent>,
    servers: Vec<Option<Server>>,
    pods: Vec<Pod>,
    objects: Objects,
    topology: Topology,
    shape: Shape,
}

impl ClusterLab {
    /// Nodes without pods and agents, and their Node objects.
    ///
    /// # Errors
    /// When not root, or when the kernel refuses.
    pub fn build(shape: Shape) -> Result<Self> {
        let topology = Topology::builder()
            .nodes(shape.nodes)
            .pods(shape.pods)
            .uplink(shape.uplink)
            .build()?;
        let cluster_ips = CLUSTER_IPS.map(|range| range.parse().expect("a constant"));
        let ranges = dir::Ranges::new(&cluster_ips, 30_000..=32_767, &[])?;
        let objects = match shape.source {
            ObjectSource::Directory => Objects::in_directory("cluster", ranges)?,
            ObjectSource::Kube => Objects::in_api("cluster", ranges, topology.wire(0))?,
        };
        let lab = Self {
            agents: Vec::new(),
            servers: Vec::new(),
            pods: Vec::new(),
            objects,
            topology,
            shape,
        };
        lab.write_nodes()?;
        Ok(lab)
    }

    /// Makes a pod with a server at [`TARGET_PORT`], TCP and UDP; gives its index.
    ///
    /// # Errors
    /// When the node is full or the kernel refuses.
    pub fn add_pod(&mut self, node: usize, name: &str) -> Result<usize> {
        let pod = self.topology.add_pod(node, name)?;
        let server = Server::start(pod.ns(), name, &pod.addresses(), &SERVED)?;
        self.pods.push(pod);
        self.servers.push(Some(server));
        Ok(self.pods.len() - 1)
    }

    /// A pod by its index.
    ///
    /// # Panics
    /// When there are not as many.
    #[must_use]
    pub fn pod(&self, index: usize) -> &Pod {
        &self.pods[index]
    }

    /// Closes a pod's server.
    pub fn stop_server(&mut self, index: usize) {
        self.servers[index] = None;
    }

    /// The endpoint a pod is while it is ready.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> Endpoint {
        Endpoint::of(&self.pods[index])
    }

    /// The network under it.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A caller in the outside client.
    #[must_use]
    pub fn client(&self) -> Caller {
        Caller::new(self.topology.client().ns())
    }

    /// A caller in a pod.
    #[must_use]
    pub fn pod_caller(&self, index: usize) -> Caller {
        Caller::new(self.pods[index].ns())
    }

    /// A nodePort of a node.
    #[must_use]
    pub fn node_port(&self, node: usize, service: &Service, v6: bool) -> SocketAddr {
        (self.topology.node(node).address(v6), service.node_port()).into()
    }

    /// Starts an agent on every node and waits until all are ready.
    ///
    /// # Errors
    /// When one ends or takes too long.
    pub fn start_agents(&mut self, arguments: &[&str]) -> Result<()> {
        let state = self.state();
        let state = state
            .to_str()
            .context("the scratch directory's path is no text")?;
        let ranges = CLUSTER_IPS.join(",");
        let config = self.objects.beside("config.yaml");
        fs::write(&config, CONFIG).with_context(|| format!("writing {}", config.display()))?;
        let config = config
            .to_str()
            .context("the scratch directory's path is no text")?;
        for node in self.topology.nodes() {
            let name = node.name();
            let fixed = [
                "--config",
                config,
                "--hostname-override",
                &name,
                "--xdp-mode",
                self.shape.xdp,
                "--state-dir",
                state,
                "--service-cluster-ip-range",
                &ranges,
            ];
            let agent = Agent::start(node.ns(), self.objects.source(), &[&fixed, arguments].concat())?;
            self.agents.push(agent);
        }
        self.agents.iter_mut().try_for_each(Agent::wait_ready)
    }

    /// A node's agent.
    ///
    /// # Panics
    /// When it was not started.
    #[must_use]
    pub fn agent(&self, node: usize) -> &Agent {
        &self.agents[node]
    }

    /// The same, to end and restart it.
    ///
    /// # Panics
    /// When it was not started.
    pub fn agent_mut(&mut self, node: usize) -> &mut Agent {
        &mut self.agents[node]
    }

    /// Writes a Service and its endpoints, without waiting for agents.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write(&self, service: &Service, endpoints: &[Endpoint]) -> Result<()> {
        let text = format!("{}{}", service.manifest(), service.slices(endpoints));
        self.objects.write(&file_of(service), &text)
    }

    /// Writes a Service and its endpoints, and waits until every agent gives new connections these: ready ones, that is.
    ///
    /// # Errors
    /// When an agent takes too long.
    pub fn apply(&self, service: &Service, endpoints: &[Endpoint]) -> Result<()> {
        self.write(service, endpoints)?;
        self.wait_endpoints(service, endpoints)
    }

    /// Waits until every agent gives new connections these endpoints, and no others.
    ///
    /// # Errors
    /// When an agent takes too long.
    pub fn wait_endpoints(&self, service: &Service, endpoints: &[Endpoint]) -> Result<()> {
        let expected: BTreeSet<_> = [false, true]
            .into_iter()
            .flat_map(|v6| endpoints.iter().map(move |endpoint| endpoint.address(v6)))
            .map(|address| address.to_string())
            .collect();
        for agent in &self.agents {
            poll::until(&format!("endpoints of {}", service.name()), APPLIED, || {
                let held = cluster_ip_endpoints(agent, service).map_err(|error| format!("{error:#}"))?;
                if held == expected {
                    Ok(())
                } else {
                    Err(format!("{held:?}, wanted {expected:?}\n{}", agent.log()))
                }
            })?;
        }
        Ok(())
    }

    /// Removes a Service and its endpoints, without waiting for agents.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self, service: &Service) -> Result<()> {
        self.objects.remove(&file_of(service))
    }

    /// The packets a node's datapath has counted for a reason.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counted(&self, node: usize, reason: &str) -> Result<u64> {
        let rows = self.agents[node].xvip_json(&["dump", "reasons"])?;
        rows.as_array()
            .and_then(|rows| rows.iter().find(|row| row["reason"] == reason))
            .and_then(|row| row["packets"].as_u64())
            .with_context(|| format!("no reason {reason} in {rows}"))
    }

    /// The API server.
    ///
    /// # Panics
    /// When the shape has none.
    #[must_use]
    pub fn api(&self) -> &ApiServer {
        self.objects.api().expect("a shape with ObjectSource::Kube")
    }

    /// What somebody needs who wonders why a test failed: what the agents said and the datapaths counted.
    #[must_use]
    pub fn account(&self) -> String {
        let mut text = String::new();
        for (index, agent) in self.agents.iter().enumerate() {
            let _ = writeln!(text, "== node{index}\n{}", agent.log());
            for command in [
                &["get", "status"][..],
                &["get", "flows", "--dead", "-o", "wide"],
                &["dump", "devices"],
            ] {
                let said = agent.xvip(command).unwrap_or_else(|error| format!("{error:#}"));
                let _ = writeln!(text, "{said}");
            }
        }
        text
    }

    /// The directory the agents remember in.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.objects.state()
    }

    fn write_nodes(&self) -> Result<()> {
        let mut text = String::new();
        for node in self.topology.nodes() {
            let [v4, v6] = node.host().addresses(0);
            let name = node.name();
            let _ = writeln!(
                text,
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus:\n  addresses:\n  \
                 - {{type: InternalIP, address: \"{v4}\"}}\n  - {{type: InternalIP, address: \"{v6}\"}}"
            );
        }
        self.objects.write("nodes.yaml", &text)
    }
}

/// The file of a Service's manifests.
fn file_of(service: &Service) -> String {
    format!("service-{}.yaml", service.name())
}

/// The endpoints that new connections to a Service's ClusterIP get, of both families.
fn cluster_ip_endpoints(agent: &Agent, service: &Service) -> Result<BTreeSet<String>> {
    let name = format!("default/{}:tcp", service.name());
    let records = agent.xvip_json(&["dump", "services"])?;
    let frontends = agent.xvip_json(&["dump", "frontends"])?;
    let slots = agent.xvip_json(&["dump", "slots"])?;
    let mut endpoints = BTreeSet::new();
    for v6 in [false, true] {
        let ip = service.cluster_ip(v6).ip().to_string();
        let frontend = frontends
            .as_array()
            .into_iter()
            .flatten()
            .find(|frontend| {
                frontend["address"] == ip && frontend["protocol"] == "TCP" && frontend["service"] == name
            })
            .with_context(|| format!("no frontend {ip}"))?;
        let record = records
            .as_array()
            .into_iter()
            .flatten()
            .find(|record| record["index"] == frontend["record"])
            .with_context(|| format!("no record {}", frontend["record"]))?;
        let range = record["inside"].as_str().and_then(|range| range.split_once('+'));
        let (offset, length) = range.with_context(|| format!("no range in {record}"))?;
        let (offset, length): (u64, u64) = (offset.parse()?, length.parse()?);
        for slot in slots.as_array().into_iter().flatten() {
            if slot["index"]
                .as_u64()
                .is_some_and(|index| (offset..offset + length).contains(&index))
            {
                let address = slot["address"].as_str().unwrap_or_default();
                endpoints.insert(address.trim_end_matches("/TCP").to_owned());
            }
        }
    }
    Ok(endpoints)
}
