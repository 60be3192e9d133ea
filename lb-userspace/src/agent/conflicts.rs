//! Network plugins that balance Services themselves.
//!
//! Two balancers on one device would both translate, and each would lose the other's replies. Owns: how such a plugin is
//! recognised. Must not know: what follows from it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The usual place of pinned maps, shared by everybody on the node.
const GLOBALS: &str = "/sys/fs/bpf/tc/globals";

/// A plugin that balances Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    plugin: &'static str,
    evidence: PathBuf,
    remedy: &'static str,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} balances Services on this node already ({} is there). Two balancers undo each other's work: {}, or give \
             --force when that is a leftover",
            self.plugin,
            self.evidence.display(),
            self.remedy
        )
    }
}

impl std::error::Error for Conflict {}

/// How a plugin shows.
struct Sign {
    plugin: &'static str,
    /// How the names of its maps of Services begin.
    map_prefix: &'static str,
    /// A device that must be there too: maps stay pinned when a plugin goes, and a network namespace it does not serve may share
    /// the BPF file system with one it does.
    devices: &'static [&'static str],
    remedy: &'static str,
}

const SIGNS: [Sign; 2] = [
    Sign {
        plugin: "Cilium's kube-proxy replacement",
        map_prefix: "cilium_lb4_services",
        devices: &["cilium_host"],
        remedy: "set kubeProxyReplacement to false in Cilium",
    },
    Sign {
        plugin: "Calico's eBPF dataplane",
        map_prefix: "cali_v4_nat_fe",
        devices: &["bpfin.cali", "bpfout.cali"],
        remedy: "set bpfEnabled to false in Calico",
    },
];

/// The first plugin that both its maps and its devices show.
#[must_use]
pub fn find(maps: &BTreeSet<String>, devices: &BTreeSet<String>) -> Option<Conflict> {
    SIGNS.iter().find_map(|sign| {
        let map = maps.iter().find(|map| map.starts_with(sign.map_prefix))?;
        sign.devices
            .iter()
            .any(|device| devices.contains(*device))
            .then(|| Conflict {
                plugin: sign.plugin,
                evidence: Path::new(GLOBALS).join(map),
                remedy: sign.remedy,
            })
    })
}

/// [`find`] over what this network namespace shows.
#[must_use]
pub fn find_here() -> Option<Conflict> {
    let devices = nix::net::if_::if_nameindex();
    let devices = devices.iter().flat_map(|names| names.iter());
    let devices = devices.map(|device| device.name().to_string_lossy().into_owned());
    find(&names_in(GLOBALS), &devices.collect())
}

/// The names in a directory; one that cannot be read shows nothing.
fn names_in(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(maps: &[&str], devices: &[&str], expected: Option<&str>) {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let found = find(&set(maps), &set(devices)).map(|conflict| conflict.plugin);
        assert_eq!(found, expected, "{maps:?} {devices:?}");
    }

    #[test]
    fn a_plugin_shows_by_its_maps_and_its_devices() {
        let cilium = Some("Cilium's kube-proxy replacement");
        let calico = Some("Calico's eBPF dataplane");
        check(&[], &["lo", "eth0"], None);
        check(
            &["cilium_lb4_services_v2", "cilium_ct4_global"],
            &["cilium_host", "eth0"],
            cilium,
        );
        check(&["cali_v4_nat_fe3"], &["bpfin.cali", "eth0"], calico);
    }

    #[test]
    fn leftovers_and_other_namespaces_do_not_count() {
        check(&["cilium_lb4_services_v2"], &["eth0"], None);
        check(&["cali_v4_nat_fe3"], &["cali12345", "eth0"], None);
    }

    #[test]
    fn a_plugin_that_only_routes_does_not_count() {
        check(&["cilium_ct4_global"], &["cilium_host"], None);
        check(&["cali_jump3"], &["cali12345"], None);
    }
}
