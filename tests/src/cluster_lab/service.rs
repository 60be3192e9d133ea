//! Services for tests: every address follows from a Service's name and number.
//!
//! | what | IPv4 | IPv6 | port |
//! |---|---|---|---|
//! | ClusterIP of Service *n* | 10.96.0.n | fd00:96::n | 80 |
//! | nodePort | | | 30000 + n |
//! | load balancer | 198.51.100.n | 2001:db8:0:2::n | 80 |
//! | external IP | 198.51.100.(100 + n) | 2001:db8:0:2::(100 + n) | 80 |
//!
//! Each has TCP and UDP on the same numbers; endpoints serve both at [`TARGET_PORT`].

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::pod::Pod;

/// The port of every frontend but nodePorts.
pub const PORT: u16 = 80;
/// Where endpoints listen.
pub const TARGET_PORT: u16 = 8080;

/// A dual-stack Service in namespace `default`.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    number: u8,
    metadata: Vec<String>,
    load_balancers: Option<[IpAddr; 2]>,
    external: bool,
    fields: Vec<String>,
}

/// An endpoint of a Service, and its conditions.
#[derive(Debug, Clone)]
pub struct Endpoint {
    node: String,
    addresses: [IpAddr; 2],
    ready: bool,
    serving: bool,
    terminating: bool,
}

impl Service {
    /// A Service with a ClusterIP and a nodePort; `number` is from 1 to 99.
    #[must_use]
    pub fn new(name: &str, number: u8) -> Self {
        assert!((1..100).contains(&number), "a Service's number is from 1 to 99");
        Self {
            name: name.to_owned(),
            number,
            metadata: Vec::new(),
            load_balancers: None,
            external: false,
            fields: Vec::new(),
        }
    }

    /// Gives it a load balancer's address.
    #[must_use]
    pub fn with_load_balancer(self) -> Self {
        let addresses = [false, true].map(|v6| outside(v6, self.number));
        self.load_balanced_at(addresses)
    }

    /// Gives it these addresses as a load balancer's, IPv4 first.
    #[must_use]
    pub fn load_balanced_at(self, addresses: [IpAddr; 2]) -> Self {
        Self {
            load_balancers: Some(addresses),
            ..self
        }
    }

    /// Says when it was created, as `2026-01-01T00:00:00Z`.
    #[must_use]
    pub fn created(mut self, when: &str) -> Self {
        self.metadata.push(format!(", creationTimestamp: \"{when}\""));
        self
    }

    /// Leaves it to another Service proxy.
    #[must_use]
    pub fn for_another_proxy(mut self) -> Self {
        let label = "service.kubernetes.io/service-proxy-name: another";
        self.metadata.push(format!(", labels: {{{label}}}"));
        self
    }

    /// Gives it an external address.
    #[must_use]
    pub fn with_external(self) -> Self {
        Self {
            external: true,
            ..self
        }
    }

    /// Adds a line to its `spec`, as `externalTrafficPolicy: Local`.
    #[must_use]
    pub fn field(mut self, line: &str) -> Self {
        self.fields.push(line.to_owned());
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ClusterIP and port.
    #[must_use]
    pub fn cluster_ip(&self, v6: bool) -> SocketAddr {
        let ip: IpAddr = if v6 {
            Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, self.number.into()).into()
        } else {
            Ipv4Addr::new(10, 96, 0, self.number).into()
        };
        (ip, PORT).into()
    }

    /// Its nodePort.
    #[must_use]
    pub fn node_port(&self) -> u16 {
        30_000 + u16::from(self.number)
    }

    /// Its load balancer's address and port, which are those of the table unless it was given others.
    #[must_use]
    pub fn load_balancer(&self, v6: bool) -> SocketAddr {
        let given = self.load_balancers.map(|addresses| addresses[usize::from(v6)]);
        (given.unwrap_or_else(|| outside(v6, self.number)), PORT).into()
    }

    /// Its external address and port.
    #[must_use]
    pub fn external(&self, v6: bool) -> SocketAddr {
        (outside(v6, 100 + self.number), PORT).into()
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        let kind = if self.load_balancers.is_some() {
            "LoadBalancer"
        } else {
            "NodePort"
        };
        let [v4, v6] = [false, true].map(|v6| self.cluster_ip(v6).ip());
        let metadata = self.metadata.concat();
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {}, namespace: default{metadata}}}\nspec:\n  type: {kind}\n  \
             ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n  clusterIP: {v4}\n  \
             clusterIPs: [\"{v4}\", \"{v6}\"]\n  ports:\n",
            self.name
        );
        for (name, protocol) in PORTS {
            let node_port = self.node_port();
            let _ = writeln!(
                text,
                "  - {{name: {name}, protocol: {protocol}, port: {PORT}, targetPort: {TARGET_PORT}, nodePort: {node_port}}}"
            );
        }
        for field in &self.fields {
            let _ = writeln!(text, "  {field}");
        }
        if self.external {
            let [v4, v6] = [false, true].map(|v6| self.external(v6).ip());
            let _ = writeln!(text, "  externalIPs: [\"{v4}\", \"{v6}\"]");
        }
        if self.load_balancers.is_some() {
            let [v4, v6] = [false, true].map(|v6| self.load_balancer(v6).ip());
            let _ = writeln!(
                text,
                "status:\n  loadBalancer:\n    ingress: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]"
            );
        }
        text
    }

    /// The manifests of its EndpointSlices, one a family.
    #[must_use]
    pub fn slices(&self, endpoints: &[Endpoint]) -> String {
        let mut text = String::new();
        for (family, kind) in ["IPv4", "IPv6"].into_iter().enumerate() {
            let _ = write!(
                text,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{lower}\n  \
                 namespace: default\n  labels: {{kubernetes.io/service-name: {name}}}\naddressType: {kind}\nports:\n",
                name = self.name,
                lower = kind.to_lowercase(),
            );
            for (name, protocol) in PORTS {
                let _ = writeln!(
                    text,
                    "- {{name: {name}, protocol: {protocol}, port: {TARGET_PORT}}}"
                );
            }
            text.push_str("endpoints:");
            if endpoints.is_empty() {
                text.push_str(" []");
            }
            text.push('\n');
            for endpoint in endpoints {
                let _ = writeln!(
                    text,
                    "- {{addresses: [\"{}\"], nodeName: {}, conditions: {{ready: {}, serving: {}, terminating: {}}}}}",
                    endpoint.addresses[family],
                    endpoint.node,
                    endpoint.ready,
                    endpoint.serving,
                    endpoint.terminating
                );
            }
        }
        text
    }
}

const PORTS: [(&str, &str); 2] = [("tcp", "TCP"), ("udp", "UDP")];

fn outside(v6: bool, number: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, number.into()).into()
    } else {
        Ipv4Addr::new(198, 51, 100, number).into()
    }
}

impl Endpoint {
    /// A pod that is ready.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        Self {
            node: format!("node{}", pod.node()),
            addresses: pod.addresses(),
            ready: true,
            serving: true,
            terminating: false,
        }
    }

    /// The same at other addresses: its node's own, for a pod on the host's network.
    #[must_use]
    pub fn at(self, addresses: [IpAddr; 2]) -> Self {
        Self { addresses, ..self }
    }

    /// The same on its way out: no longer ready, still serving or not.
    #[must_use]
    pub fn terminating(self, serving: bool) -> Self {
        Self {
            ready: false,
            serving,
            terminating: true,
            ..self
        }
    }

    /// What the Services' tables call it, at a protocol.
    #[must_use]
    pub fn address(&self, v6: bool) -> SocketAddr {
        (self.addresses[usize::from(v6)], TARGET_PORT).into()
    }
}
