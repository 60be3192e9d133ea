//! Programs on devices, as they come and go.
//!
//! Owns: what is attached and what failed. A failure concerns its device alone: it is reported once and tried again. Must not
//! know: which devices are worth attaching to.

use std::collections::BTreeMap;

use crate::dataplane::{Dataplane, DataplaneError, Target};
use crate::node::{DeviceChoice, Xdp};

use super::host;

/// The devices and what was done about them.
#[derive(Debug, Default)]
pub struct Devices {
    /// As asked for, which may be more than the driver could.
    attached: BTreeMap<u32, DeviceChoice>,
    complaints: BTreeMap<u32, String>,
}

/// What a round changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Devices attached or described anew.
    pub attached: usize,
    /// Devices let go.
    pub detached: usize,
    /// Devices that refused.
    pub failed: usize,
}

impl Devices {
    /// Takes over what an earlier agent left: of the devices it had, `left`, those that are no longer wanted are let go.
    ///
    /// # Errors
    /// A link cannot be looked at or removed.
    pub fn adopt(
        dataplane: &mut Dataplane,
        left: impl IntoIterator<Item = u32>,
        wanted: &BTreeMap<u32, DeviceChoice>,
    ) -> Result<(), DataplaneError> {
        let gone = dataplane.prune_devices()?;
        for ifindex in &gone {
            tracing::info!(ifindex, "a device went while no agent ran");
        }
        let unwanted = |ifindex: &u32| !gone.contains(ifindex) && !wanted.contains_key(ifindex);
        for ifindex in left.into_iter().filter(unwanted) {
            tracing::info!(ifindex, "letting go of a device that is no longer served");
            dataplane.detach(ifindex)?;
        }
        Ok(())
    }

    /// Attaches what is missing or different and detaches what is not wanted.
    pub fn follow(&mut self, dataplane: &mut Dataplane, wanted: &BTreeMap<u32, DeviceChoice>) -> Change {
        let mut change = Change::default();
        let gone: Vec<u32> = self
            .attached
            .keys()
            .filter(|ifindex| !wanted.contains_key(ifindex))
            .copied()
            .collect();
        for ifindex in gone {
            match dataplane.detach(ifindex) {
                Ok(()) => {
                    self.attached.remove(&ifindex);
                    change.detached += 1;
                }
                Err(error) => self.complain(ifindex, &error, &mut change),
            }
        }
        for (ifindex, device) in wanted {
            if self.attached.get(ifindex) == Some(device) {
                continue;
            }
            match attach(dataplane, device) {
                Ok(()) => {
                    self.attached.insert(*ifindex, device.clone());
                    self.complaints.remove(ifindex);
                    change.attached += 1;
                }
                Err(error) => self.complain(*ifindex, &error, &mut change),
            }
        }
        self.complaints
            .retain(|ifindex, _| wanted.contains_key(ifindex) || self.attached.contains_key(ifindex));
        change
    }

    /// Whether something failed that is worth another try.
    #[must_use]
    pub fn incomplete(&self) -> bool {
        !self.complaints.is_empty()
    }

    /// Reports an error of a device, once.
    fn complain(&mut self, ifindex: u32, error: &DataplaneError, change: &mut Change) {
        change.failed += 1;
        let text = error.to_string();
        if self.complaints.get(&ifindex) != Some(&text) {
            tracing::warn!("{text}; trying again");
            self.complaints.insert(ifindex, text);
        }
    }
}

/// Attaches a device's programs. A driver without native XDP is served by tc alone.
fn attach(dataplane: &mut Dataplane, device: &DeviceChoice) -> Result<(), DataplaneError> {
    let target: Target = host::target(device);
    let Err(error) = dataplane.attach(&target) else {
        tracing::info!(device = device.name, role = ?device.role, xdp = ?device.xdp, "serving device");
        return Ok(());
    };
    let Xdp::Native { expected } = device.xdp else {
        return Err(error);
    };
    dataplane.attach(&host::without_xdp(target))?;
    if expected {
        tracing::warn!("{error}; tc serves {} alone", device.name);
    } else {
        tracing::info!("{error}; tc serves {} alone", device.name);
    }
    Ok(())
}
