//! From the pinned maps to a [`Snapshot`].
//!
//! Owns: which reader fills which field. Must not know: what is done with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lb_common::layout::{self, maps};
use lb_common::reason::MAX_REASONS;
use nix::time::{ClockId, clock_gettime};

use crate::agent::running;
use crate::dataplane::{Hook, PinnedHook, Reader};
use crate::snapshot::{Inventory, Link, MapInfo, Snapshot};

/// An installation, for reading.
pub(super) struct Installed {
    reader: Reader,
    bpffs: PathBuf,
}

impl Installed {
    /// The installation under a directory of pins.
    pub(super) fn open(bpffs: &Path) -> Result<Self> {
        Ok(Self {
            reader: Reader::open(bpffs)?,
            bpffs: bpffs.to_owned(),
        })
    }

    /// The maps of these names ([`lb_common::layout::maps`]) at this moment.
    pub(super) fn snapshot(&self, wanted: &[&str]) -> Result<Snapshot> {
        let mut snapshot = Snapshot {
            monotonic_ns: monotonic_ns()?,
            device_names: device_names()?,
            ..Snapshot::default()
        };
        for map in wanted {
            self.fill(&mut snapshot, map)?;
        }
        Ok(snapshot)
    }

    fn fill(&self, snapshot: &mut Snapshot, map: &str) -> Result<()> {
        let reader = &self.reader;
        match map {
            maps::SETTINGS => snapshot.settings = Some(reader.settings()?),
            maps::FRONTENDS => snapshot.frontends = reader.frontends()?,
            maps::SERVICES => snapshot.services = reader.services()?.into_iter().collect(),
            maps::SLOTS => snapshot.slots = reader.slots()?,
            maps::BACKENDS => snapshot.backends = reader.backends()?.into_iter().collect(),
            // An entry that is being written is gone by the next look; a picture for the eye can do without it.
            maps::FLOWS4 => snapshot.flows4 = reader.flows4()?.iter().flatten().collect(),
            maps::FLOWS6 => snapshot.flows6 = reader.flows6()?.iter().flatten().collect(),
            maps::SOURCE_RANGES => snapshot.source_ranges = reader.source_ranges()?,
            maps::AFFINITY => snapshot.affinity = reader.affinity()?,
            maps::NODE_ADDRS => snapshot.node_addrs = reader.node_addrs()?,
            maps::PREFILTER => snapshot.prefilter = reader.prefilter()?,
            maps::DEVICES => snapshot.devices = reader.devices()?.into_iter().collect(),
            maps::NAMES => snapshot.names = reader.names()?.into_iter().collect(),
            maps::SERVICE_STATS => {
                let ids = reader.names()?.into_iter().map(|(id, _)| id);
                snapshot.service_stats = reader.service_stats(ids)?.into_iter().collect();
            }
            maps::REASONS => {
                let mut reasons = vec![0; MAX_REASONS];
                for (reason, packets) in reader.reasons()? {
                    reasons[reason as usize] = packets;
                }
                snapshot.reasons = reasons;
            }
            maps::LOCKS4 => snapshot.locks4 = reader.locks(map)?,
            maps::LOCKS6 => snapshot.locks6 = reader.locks(map)?,
            maps::TX_DEVICES => snapshot.tx_devices = reader.tx_devices()?,
            maps::REJECT_TOKENS => snapshot.reject_tokens = reader.reject_tokens()?,
            maps::XDP_STAGES => snapshot.xdp_stages = reader.stages(map)?,
            maps::TC_STAGES => snapshot.tc_stages = reader.stages(map)?,
            other => anyhow::bail!("there is no reader for map {other}"),
        }
        Ok(())
    }

    /// What is installed beside the maps' contents.
    pub(super) fn inventory(&self) -> Result<Inventory> {
        let device_names = device_names()?;
        let links = self
            .reader
            .attached()?
            .into_iter()
            .map(|link| link_row(&link, &device_names));
        Ok(Inventory {
            bpffs: self.bpffs.display().to_string(),
            layout: layout::VERSION,
            maps: self.map_infos()?,
            links: links.collect(),
            agent: running::find(&self.bpffs)
                .with_context(|| format!("cannot tell whether an agent holds {}", self.bpffs.display()))?,
        })
    }

    fn map_infos(&self) -> Result<Vec<MapInfo>> {
        let sizes = self.reader.sizes()?;
        let info = |(name, capacity): (&str, u32)| MapInfo {
            name: name.to_owned(),
            capacity,
        };
        let maps = [
            (maps::FRONTENDS, sizes.frontends),
            (maps::SERVICES, sizes.records),
            (maps::SLOTS, sizes.slots),
            (maps::BACKENDS, sizes.backends),
            (maps::NAMES, sizes.services),
            (maps::FLOWS4, sizes.flow4_buckets),
            (maps::FLOWS6, sizes.flow6_buckets),
            (maps::AFFINITY, sizes.affinity),
            (maps::SOURCE_RANGES, sizes.source_ranges),
        ];
        Ok(maps.into_iter().map(info).collect())
    }
}

fn link_row(link: &PinnedHook, device_names: &BTreeMap<u32, String>) -> Link {
    let (hook, mode) = match link.hook {
        Hook::XdpNative => ("xdp", "native"),
        Hook::XdpGeneric => ("xdp", "generic"),
        Hook::TcIngress => ("tc ingress", ""),
        Hook::TcEgress => ("tc egress", ""),
    };
    let number = || format!("if{}", link.ifindex);
    Link {
        device: device_names.get(&link.ifindex).cloned().unwrap_or_else(number),
        ifindex: link.ifindex,
        hook: hook.to_owned(),
        mode: mode.to_owned(),
    }
}

fn monotonic_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read CLOCK_MONOTONIC")?;
    Ok(u64::try_from(std::time::Duration::from(now).as_nanos()).unwrap_or(u64::MAX))
}

fn device_names() -> Result<BTreeMap<u32, String>> {
    let names = nix::net::if_::if_nameindex().context("cannot list network devices")?;
    let name =
        |device: &nix::net::if_::Interface| (device.index(), device.name().to_string_lossy().into_owned());
    Ok(names.iter().map(name).collect())
}
