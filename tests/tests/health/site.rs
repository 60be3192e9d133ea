//! A node with its agent, a client on the wire, and the manifests between them.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use lab::agent::{Agent, Source};
use lab::netns::NsHandle;
use lab::pod::{Pod, PodNet};
use lab::poll;
use lab::topology::Topology;

use crate::http::{self, Response};

/// For answers while the machine is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// The healthCheckNodePort of [`Web`].
pub(crate) const CHECK_PORT: u16 = 31_000;
pub(crate) const HEALTH_PORT: u16 = 10_256;
pub(crate) const METRICS: &str = "127.0.0.1:10249";

/// The lab.
pub(crate) struct Site {
    pub(crate) agent: Agent,
    /// Kept for their addresses.
    pub(crate) pods: Vec<Pod>,
    pub(crate) topology: Topology,
    files: tempfile::TempDir,
}

/// A dual-stack Service; the fields are what tests change.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    pub(crate) kind: &'static str,
    pub(crate) policy: &'static str,
    pub(crate) check_port: u16,
    /// Addresses of either family, each with its node.
    pub(crate) endpoints: Vec<(String, &'static str)>,
    /// Annotations of the EndpointSlices.
    pub(crate) annotations: String,
}

impl Web {
    /// A load balancer with a Local policy, and these endpoints.
    pub(crate) fn local(endpoints: &[(&str, &'static str)]) -> Self {
        Self {
            kind: "LoadBalancer",
            policy: "Local",
            check_port: CHECK_PORT,
            endpoints: endpoints
                .iter()
                .map(|(ip, node)| ((*ip).to_owned(), *node))
                .collect(),
            annotations: "{}".to_owned(),
        }
    }

    fn manifests(&self) -> String {
        let Self { kind, policy, .. } = self;
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n  type: {kind}\n  \
             ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n  clusterIP: 10.96.0.1\n  \
             clusterIPs: [10.96.0.1, \"fd00:96::1\"]\n  \
             ports: [{{name: http, port: 80, targetPort: 8080, nodePort: 30001}}]\n  externalTrafficPolicy: {policy}\n"
        );
        if *kind == "LoadBalancer" && *policy == "Local" {
            let _ = writeln!(text, "  healthCheckNodePort: {}", self.check_port);
        }
        for family in ["IPv4", "IPv6"] {
            let _ = write!(
                text,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-{lower}\n  namespace: shop\n  \
                 labels: {{kubernetes.io/service-name: web}}\n  annotations: {annotations}\naddressType: {family}\n\
                 ports: [{{name: http, port: 8080}}]\nendpoints:",
                lower = family.to_lowercase(),
                annotations = self.annotations,
            );
            let own = self
                .endpoints
                .iter()
                .filter(|(ip, _)| ip.contains(':') == (family == "IPv6"));
            let own: Vec<_> = own
                .map(|(ip, node)| format!("\n- {{addresses: [\"{ip}\"], nodeName: {node}}}"))
                .collect();
            let _ = writeln!(
                text,
                "{}",
                if own.is_empty() {
                    " []".to_owned()
                } else {
                    own.concat()
                }
            );
        }
        text
    }
}

impl Site {
    /// A node whose agent is started, not yet ready.
    pub(crate) fn start(web: &Web, arguments: &[&str]) -> Self {
        let topology = Topology::builder().pods(PodNet::Routed).build().unwrap();
        Self::start_on(topology, web, arguments)
    }

    /// The same on a node that something was done to before.
    pub(crate) fn start_on(topology: Topology, web: &Web, arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        for directory in ["manifests", "state"] {
            fs::create_dir(files.path().join(directory)).unwrap();
        }
        let state = files.path().join("state");
        let fixed = [
            "--hostname-override=node0",
            "--xdp-mode=native",
            "--state-dir",
            state.to_str().unwrap(),
            "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/108",
        ];
        let manifests = files.path().join("manifests");
        fs::write(manifests.join("web.yaml"), web.manifests()).unwrap();
        let ns = topology.node(0).ns();
        let agent = Agent::start(ns, Source::Directory(manifests), &[&fixed, arguments].concat()).unwrap();
        Self {
            agent,
            pods: Vec::new(),
            topology,
            files,
        }
    }

    /// The same with an agent that is ready.
    pub(crate) fn ready(web: &Web, arguments: &[&str]) -> Self {
        let mut site = Self::start(web, arguments);
        site.agent.wait_ready().unwrap();
        site
    }

    /// Writes the Service as it is now.
    pub(crate) fn write(&self, web: &Web) {
        self.put("web.yaml", &web.manifests());
    }

    /// Puts a manifest in place whole.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let aside = self.files.path().join("aside");
        fs::write(&aside, text).unwrap();
        fs::rename(&aside, self.files.path().join("manifests").join(name)).unwrap();
    }

    pub(crate) fn node(&self) -> &NsHandle {
        self.topology.node(0).ns()
    }

    /// An address of the node at a port.
    pub(crate) fn at(&self, v6: bool, port: u16) -> SocketAddr {
        (self.topology.node(0).address(v6), port).into()
    }

    /// The client on the wire asks the node.
    pub(crate) fn ask(&self, v6: bool, port: u16, path: &str) -> Result<Response, String> {
        http::get(self.topology.client().ns(), self.at(v6, port), path).map_err(|error| format!("{error:#}"))
    }

    /// The same until the answer is as wanted; tells it.
    pub(crate) fn ask_until(
        &self,
        v6: bool,
        port: u16,
        path: &str,
        wanted: impl Fn(&Response) -> bool,
    ) -> Response {
        let answer = poll::until(
            &format!("answer of {path} at {}", self.at(v6, port)),
            LIMIT,
            || {
                let response = self.ask(v6, port, path)?;
                if wanted(&response) {
                    Ok(response)
                } else {
                    Err(format!("{response:?}"))
                }
            },
        );
        answer.unwrap_or_else(|error| panic!("{error:#}\n{}", self.agent.log()))
    }

    /// Asks where metrics are, on the node itself.
    pub(crate) fn metrics(&self, path: &str) -> Result<Response, String> {
        let to = METRICS.parse().unwrap();
        http::get(self.node(), to, path).map_err(|error| format!("{error:#}"))
    }
}
