//! Map `node_addrs`: addresses of this node (value: [`NODE_PORTS`] or 0).

/// nodePorts are served at this address (S30).
pub const NODE_PORTS: u32 = 1;
