//! The miniature API server: who holds which cluster IP, node port and load-balancer address.
//!
//! Owns: the allocations, pure; they are saved and restored by [`state`](super::state), which is what keeps
//! them stable over restarts. Must not know: files, the clock (the time is an argument).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use super::request::Request;
use crate::model::{Problem, ServiceKey};

/// What one Service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Allocation {
    /// When the Service was first seen, in seconds since 1970: its creationTimestamp.
    pub created: i64,
    /// Its cluster IPs, the primary one first.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<IpAddr>,
    /// Its node ports, by protocol and port (`TCP/80`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_ports: BTreeMap<String, u16>,
    /// The port of its health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// Its load-balancer addresses.
    #[serde(default, rename = "loadBalancerIPs", skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_ips: Vec<IpAddr>,
}

/// All allocations.
pub(super) type Allocations = BTreeMap<ServiceKey, Allocation>;

/// Gives out what Services ask for.
#[derive(Clone, Debug)]
pub(super) struct Allocator {
    ranges: Ranges,
    held: Allocations,
    addresses: BTreeMap<IpAddr, ServiceKey>,
    ports: BTreeMap<u16, ServiceKey>,
}

impl Allocator {
    /// An allocator that knows what was given out before.
    pub(super) fn new(ranges: Ranges, held: Allocations) -> Self {
        let mut allocator = Self {
            ranges,
            held: BTreeMap::new(),
            addresses: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
        for (key, allocation) in held {
            allocator.hold(key, allocation);
        }
        allocator
    }

    /// What is given out now.
    pub(super) fn held(&self) -> &Allocations {
        &self.held
    }

    pub(super) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    pub(super) fn is_address_taken(&self, ip: IpAddr) -> bool {
        self.addresses.contains_key(&ip)
    }

    pub(super) fn is_port_taken(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// Takes back what a Service holds.
    pub(super) fn release(&mut self, key: &ServiceKey) -> Option<Allocation> {
        let allocation = self.held.remove(key)?;
        let addresses = allocation.cluster_ips.iter().chain(&allocation.load_balancer_ips);
        for ip in addresses {
            if self.addresses.get(ip) == Some(key) {
                self.addresses.remove(ip);
            }
        }
        for port in allocation
            .node_ports
            .values()
            .chain(&allocation.health_check_node_port)
        {
            if self.ports.get(port) == Some(key) {
                self.ports.remove(port);
            }
        }
        Some(allocation)
    }

    /// Completes a valid Service (one with its defaults) with what it holds: what it asks for, else what it
    /// held before, else something free. Returns warnings.
    ///
    /// # Errors
    /// Something it asks for is out of range or taken, or nothing is free; what it held before stays.
    pub(super) fn admit(
        &mut self,
        service: &mut v1::Service,
        now: i64,
    ) -> Result<Vec<Problem>, Vec<Problem>> {
        let metadata = &service.metadata;
        let key = ServiceKey::new(
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        let before = self.release(&key);
        let spec = service.spec.get_or_insert_default();
        let is_external_name = spec.type_.as_deref() == Some("ExternalName");
        if is_external_name || spec.cluster_ip.as_deref() == Some("None") {
            return Ok(Vec::new());
        }
        let request = Request {
            allocator: self,
            key: &key,
            before: before.clone().unwrap_or_default(),
        };
        match request.serve(service, before.as_ref().map_or(now, |before| before.created)) {
            Ok((allocation, warnings)) => {
                self.hold(key, allocation);
                Ok(warnings)
            }
            Err(problem) => {
                if let Some(before) = before {
                    self.hold(key, before);
                }
                Err(vec![problem])
            }
        }
    }

    fn hold(&mut self, key: ServiceKey, allocation: Allocation) {
        for ip in allocation.cluster_ips.iter().chain(&allocation.load_balancer_ips) {
            self.addresses.entry(*ip).or_insert_with(|| key.clone());
        }
        for port in allocation
            .node_ports
            .values()
            .chain(&allocation.health_check_node_port)
        {
            self.ports.entry(*port).or_insert_with(|| key.clone());
        }
        self.held.insert(key, allocation);
    }
}
