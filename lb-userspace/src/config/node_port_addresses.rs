//! Which addresses of the node serve nodePorts (S30), as configured.

use std::str::FromStr;

use ipnet::IpNet;

/// The configured choice; what it means on this node is `node::node_addresses`' matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The Node object's internal address of each family.
    #[default]
    Primary,
    /// Addresses inside these ranges; a family without one has all its addresses.
    Cidrs(Vec<IpNet>),
}

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddress {
    /// The word `primary`.
    Primary,
    /// A range.
    Cidr(IpNet),
}

impl FromStr for NodePortAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "primary" {
            return Ok(Self::Primary);
        }
        super::cidr::parse(text)
            .map(Self::Cidr)
            .map_err(|_| format!("{text:?} is neither primary nor an IP range, as in 192.0.2.0/24"))
    }
}

impl NodePortAddresses {
    /// The choice a list makes: empty is the default, and `primary` stands alone, as in kube-proxy.
    pub(super) fn from_list(list: &[NodePortAddress]) -> Result<Self, String> {
        let cidrs: Vec<IpNet> = list
            .iter()
            .filter_map(|entry| match entry {
                NodePortAddress::Primary => None,
                NodePortAddress::Cidr(net) => Some(*net),
            })
            .collect();
        if cidrs.is_empty() {
            Ok(Self::Primary)
        } else if cidrs.len() < list.len() {
            Err("primary stands alone: it cannot be combined with ranges".to_owned())
        } else {
            Ok(Self::Cidrs(cidrs))
        }
    }
}
