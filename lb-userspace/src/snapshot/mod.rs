//! What the maps hold at one moment, as plain data.
//!
//! Owns: the type, and the look-ups several views of it share ([`Flow`], names). A snapshot may hold only some of
//! the maps: a reader fills what it was asked for. Must not know: how maps are read, or how a view prints them.

mod flow;
mod inventory;

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::addr::Addr;
use lb_common::affinity::{AffinityKey, AffinityValue};
use lb_common::backend::Backend;
use lb_common::device::Device;
use lb_common::flow::{FlowEntry4, FlowEntry6};
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::name::Name;
use lb_common::service::{ServiceRecord, SlotRange};
use lb_common::settings::Settings;
use lb_common::slot::Slot;
use lb_common::source_range::{SourceRangeKey, SourceRangeOwner};
use lb_common::stats::ServiceStats;

pub use flow::{Connection, Flow, Tuple};
pub use inventory::{Inventory, Link, MapInfo, RunningAgent};

/// The maps' contents. Empty places (free backends, unused records, empty flow places) are left out.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC when the maps were read, in nanoseconds.
    pub monotonic_ns: u64,
    /// `settings`
    pub settings: Option<Settings>,
    /// `frontends`
    pub frontends: Vec<(FrontendKey, FrontendValue)>,
    /// `services`, by index.
    pub services: BTreeMap<u32, ServiceRecord>,
    /// `slots`, from index 0; those past the last one in use may be missing.
    pub slots: Vec<Slot>,
    /// `backends`, by index.
    pub backends: BTreeMap<u32, Backend>,
    /// `flows4`, in any order.
    pub flows4: Vec<FlowEntry4>,
    /// `flows6`, in any order.
    pub flows6: Vec<FlowEntry6>,
    /// `source_ranges`
    pub source_ranges: Vec<(SourceRangeKey, SourceRangeOwner)>,
    /// `affinity`
    pub affinity: Vec<(AffinityKey, AffinityValue)>,
    /// `node_addrs`
    pub node_addrs: Vec<(Addr, u32)>,
    /// `prefilter`: the bits that are set, ascending.
    pub prefilter: Vec<u32>,
    /// `devices`, by ifindex.
    pub devices: BTreeMap<u32, Device>,
    /// `service_stats`, summed over the CPUs, by service port.
    pub service_stats: BTreeMap<u32, ServiceStats>,
    /// `reasons`, summed over the CPUs, by reason number.
    pub reasons: Vec<u64>,
    /// `names`, by service port.
    pub names: BTreeMap<u32, Name>,
    /// `locks4`: words that are not zero, by bucket.
    pub locks4: BTreeMap<u32, u32>,
    /// `locks6`: words that are not zero, by bucket.
    pub locks6: BTreeMap<u32, u32>,
    /// `tx_devices`: ifindices by key.
    pub tx_devices: BTreeMap<u32, u32>,
    /// `reject_tokens`, by CPU: tokens left and the second (jiffies) they are of.
    pub reject_tokens: Vec<[u32; 2]>,
    /// `xdp_stages`: program ids by stage.
    pub xdp_stages: BTreeMap<u32, u32>,
    /// `tc_stages`: program ids by stage.
    pub tc_stages: BTreeMap<u32, u32>,
    /// Names of the network devices of this network namespace, by ifindex.
    pub device_names: BTreeMap<u32, String>,
}

impl Snapshot {
    /// `namespace/name:port` of a service port; its number where the name is unknown.
    #[must_use]
    pub fn service_name(&self, service: u32) -> String {
        match self.names.get(&service) {
            Some(name) => text_of(name),
            None => format!("service {service}"),
        }
    }

    /// The namespace of a service port, where its name is known.
    #[must_use]
    pub fn namespace(&self, service: u32) -> Option<String> {
        let text = text_of(self.names.get(&service)?);
        text.split_once('/').map(|(namespace, _)| namespace.to_owned())
    }

    /// The name of a device; its number where it has gone.
    #[must_use]
    pub fn device_name(&self, ifindex: u32) -> String {
        match self.device_names.get(&ifindex) {
            Some(name) => name.clone(),
            None => format!("if{ifindex}"),
        }
    }

    /// The backend indices of a range of slots.
    #[must_use]
    pub fn slots_of(&self, range: SlotRange) -> &[Slot] {
        let start = range.offset as usize;
        let end = start.saturating_add(range.len as usize);
        self.slots.get(start..end).unwrap_or_default()
    }

    /// The networks of a set of source ranges, in ascending order.
    #[must_use]
    pub fn sources_of(&self, set: u32) -> Vec<(IpAddr, u8)> {
        let ranges = self.source_ranges.iter();
        let mut networks: Vec<_> = ranges
            .filter(|(key, _)| set != 0 && key.bits.set == set)
            .filter_map(|(key, _)| key.network())
            .collect();
        networks.sort_unstable();
        networks
    }

    /// Jiffies now, in the low half that entries carry; `None` before the settings are written.
    #[must_use]
    pub fn jiffies(&self) -> Option<u32> {
        let settings = self.settings.as_ref().filter(|settings| settings.hz != 0)?;
        let elapsed_ns = u128::from(self.monotonic_ns.saturating_sub(settings.monotonic_ns));
        let ticks = elapsed_ns * u128::from(settings.hz) / 1_000_000_000;
        let now = u128::from(settings.jiffies).wrapping_add(ticks);
        Some(u32::try_from(now & u128::from(u32::MAX)).unwrap_or_default())
    }

    /// Seconds since a stamp in jiffies; a stamp a tick ahead of the reader counts as now.
    #[must_use]
    pub fn seconds_since(&self, stamp: u32) -> Option<u32> {
        let hz = self.settings.as_ref()?.hz;
        let age = self.jiffies()?.wrapping_sub(stamp);
        // The upper half of the circle is the future.
        let age = if age > u32::MAX / 2 { 0 } else { age };
        age.checked_div(hz)
    }
}

/// The text of a name, which ends at the first zero.
#[must_use]
pub fn text_of(name: &Name) -> String {
    let end = name
        .text
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(name.text.len());
    String::from_utf8_lossy(&name.text[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn at(elapsed_ns: u64, jiffies: u64) -> Snapshot {
        let settings = Settings {
            hz: 250,
            jiffies,
            monotonic_ns: 1_000,
            ..Settings::zeroed()
        };
        Snapshot {
            monotonic_ns: 1_000 + elapsed_ns,
            settings: Some(settings),
            ..Snapshot::default()
        }
    }

    #[test]
    fn ages_count_from_the_measured_jiffies() {
        let snapshot = at(10_000_000_000, 5_000);
        assert_eq!(snapshot.jiffies(), Some(7_500));
        assert_eq!(snapshot.seconds_since(7_000), Some(2));
        assert_eq!(
            snapshot.seconds_since(7_501),
            Some(0),
            "a stamp a tick ahead is now"
        );
    }

    #[test]
    fn ages_survive_the_wrap_of_the_low_half() {
        let snapshot = at(0, (1 << 32) + 250);
        assert_eq!(snapshot.seconds_since(u32::MAX - 249), Some(2));
    }

    #[test]
    fn without_settings_there_is_no_age() {
        assert_eq!(Snapshot::default().seconds_since(1), None);
    }

    #[test]
    fn a_range_past_the_slots_is_empty() {
        let snapshot = Snapshot {
            slots: vec![7, 8, 9],
            ..Snapshot::default()
        };
        assert_eq!(snapshot.slots_of(SlotRange { offset: 1, len: 2 }), &[8, 9]);
        assert!(snapshot.slots_of(SlotRange { offset: 2, len: 2 }).is_empty());
        assert!(
            snapshot
                .slots_of(SlotRange {
                    offset: u32::MAX,
                    len: u32::MAX
                })
                .is_empty()
        );
    }
}
