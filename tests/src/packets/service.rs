//! Services as a packet test states them: what the agent would compile from a manifest.

use lb_common::protocol;

use super::who::Who;

/// A service port with its frontends and backends. Backends are numbered in the order of all services' backends, from 1.
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) frontends: Vec<(Option<Who>, u16)>,
    pub(super) proto: u8,
    pub(super) inside: Vec<(Who, u16)>,
    pub(super) outside: Option<Vec<(Who, u16)>>,
    pub(super) flags: u32,
    pub(super) affinity_seconds: u32,
    pub(super) sources: Vec<(Who, Net)>,
}

/// Leading bits of a network, in each family.
#[derive(Debug, Clone, Copy)]
pub struct Net {
    /// IPv4
    pub v4: u8,
    /// IPv6
    pub v6: u8,
}

impl Net {
    /// One address.
    pub const HOST: Self = Self { v4: 32, v6: 128 };
}

impl Service {
    fn new(frontend: Who, port: u16, proto: u8) -> Self {
        Self {
            frontends: vec![(Some(frontend), port)],
            proto,
            inside: Vec::new(),
            outside: None,
            flags: 0,
            affinity_seconds: 0,
            sources: Vec::new(),
        }
    }

    /// A TCP service at an address, without backends yet.
    #[must_use]
    pub fn tcp(frontend: Who, port: u16) -> Self {
        Self::new(frontend, port, protocol::TCP)
    }

    /// A UDP service at an address.
    #[must_use]
    pub fn udp(frontend: Who, port: u16) -> Self {
        Self::new(frontend, port, protocol::UDP)
    }

    /// What stands for all ports of an address that no service has (S24).
    #[must_use]
    pub fn unknown_ports(frontend: Who) -> Self {
        Self::new(frontend, 0, 0).flags(lb_common::service::flags::UNKNOWN_PORT)
    }

    /// Another address.
    #[must_use]
    pub fn also_at(mut self, frontend: Who, port: u16) -> Self {
        self.frontends.push((Some(frontend), port));
        self
    }

    /// A port of the node's addresses.
    #[must_use]
    pub fn node_port(mut self, port: u16) -> Self {
        self.frontends.push((None, port));
        self
    }

    /// An endpoint for all clients.
    #[must_use]
    pub fn backend(mut self, who: Who, port: u16) -> Self {
        self.inside.push((who, port));
        self
    }

    /// Endpoints for clients outside, in place of those for all.
    #[must_use]
    pub fn outside(self, backends: &[(Who, u16)]) -> Self {
        Self {
            outside: Some(backends.to_vec()),
            ..self
        }
    }

    /// Clients in this network around somebody may use it, and those in other networks so named; everybody if none is.
    #[must_use]
    pub fn source(mut self, who: Who, net: Net) -> Self {
        self.sources.push((who, net));
        self
    }

    /// Bits of [`lb_common::service::flags`].
    #[must_use]
    pub fn flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    /// Session affinity by client address.
    #[must_use]
    pub fn affinity(self, seconds: u32) -> Self {
        Self {
            affinity_seconds: seconds,
            ..self
        }
    }
}

/// Whether an endpoint is on this node.
pub(super) fn is_local(who: Who) -> bool {
    matches!(who, Who::Pod | Who::OtherPod)
}
