//! IP ranges in the configuration.

use ipnet::IpNet;

/// A range; host bits are cut off, as kube-proxy does.
pub(super) fn parse(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
        format!("{text:?} is no IP range: an address and a prefix length are wanted, as in 10.244.0.0/16")
    })
}

/// Whether two ranges share an address.
pub(super) fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}
