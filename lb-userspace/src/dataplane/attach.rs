//! Devices: attaching the programs to them, replacing and detaching them.
//!
//! Owns: links, the `devices` array and the `tx_devices` map, in this order: a device is described before a packet can meet a
//! program on it, and forgotten after the last program is gone. Must not know why a device is an uplink or a pod's, nor
//! which XDP mode suits it.

use std::collections::BTreeSet;

use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, MapData, MapError};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, TcError, Xdp, XdpMode, tc};
use lb_common::addr::{Addr4, Addr6};
use lb_common::device::{self, Device, MAX_DEVICES};
use lb_common::layout::{maps, programs};
use nix::net::if_::if_indextoname;

use super::error::DataplaneError;
use super::links::{self, Hook, PinnedHook, State};
use super::load::Dataplane;
use super::pins::Pins;
use super::typed::AsPod;

/// What XDP does on an uplink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpAttach {
    /// Nothing: tc does all.
    Off,
    /// Run by the driver.
    Native,
    /// Run by the kernel's receive path.
    Generic,
}

/// What a device is to the load balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// To the outside.
    Uplink(XdpAttach),
    /// The host's end of a pod's device.
    Pod,
    /// Of the host to itself.
    Loopback,
}

/// A device to attach to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its number.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its hardware address; zeroes on a device without one.
    pub mac: [u8; 6],
    /// The source that rewritten packets get here.
    pub addr4: Option<Addr4>,
    /// The same for IPv6.
    pub addr6: Option<Addr6>,
    /// XDP programs of other devices may transmit out of it: its driver takes XDP frames, and (a veth) so does its peer.
    pub xdp_transmit: bool,
}

impl Target {
    fn entry(&self) -> Device {
        let kind = match self.role {
            Role::Uplink(_) => device::UPLINK,
            Role::Pod => device::POD,
            Role::Loopback => device::LOOPBACK,
        };
        let flags = if self.xdp_transmit { device::XDP_TX } else { 0 };
        Device::new(self.mac, kind, flags, self.addr4, self.addr6)
    }

    fn xdp(&self) -> XdpAttach {
        match self.role {
            Role::Uplink(xdp) => xdp,
            Role::Pod | Role::Loopback => XdpAttach::Off,
        }
    }

    fn at(&self, hook: Hook) -> PinnedHook {
        PinnedHook {
            ifindex: self.ifindex,
            hook,
        }
    }
}

/// Priorities of our filters on kernels without tcx, where a priority is a place: first on ingress, last on egress.
const CLSACT_FIRST: u16 = 1;
const CLSACT_LAST: u16 = 0xfff0;
/// The filter's handle at its priority; fixed, so that a restart replaces it in place.
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 1);

/// The names under which our filters can stand, by direction.
const CLSACT_PROGRAMS: [(TcAttachType, &str); 5] = [
    (TcAttachType::Ingress, programs::TC_UPLINK_INGRESS),
    (TcAttachType::Ingress, programs::TC_POD_INGRESS),
    (TcAttachType::Egress, programs::TC_UPLINK_EGRESS),
    (TcAttachType::Egress, programs::TC_POD_EGRESS),
    (TcAttachType::Egress, programs::TC_LOOPBACK_EGRESS),
];

impl Dataplane {
    /// Describes a device and attaches the programs of its role, replacing those of an earlier start without a gap. May be
    /// repeated, also with another role, mode or address.
    ///
    /// # Errors
    /// The device has gone, or refuses (native XDP on a driver without it; another XDP program in the place). What was
    /// attached before stays; the call may be repeated.
    pub fn attach(&mut self, target: &Target) -> Result<(), DataplaneError> {
        self.describe(target)?;
        let (ingress, egress) = match target.role {
            Role::Uplink(_) => (Some(programs::TC_UPLINK_INGRESS), programs::TC_UPLINK_EGRESS),
            Role::Pod => (Some(programs::TC_POD_INGRESS), programs::TC_POD_EGRESS),
            Role::Loopback => (None, programs::TC_LOOPBACK_EGRESS),
        };
        // Egress before ingress, tc before XDP: an answer is never looked for before it can be seen.
        self.attach_tc(target, Hook::TcEgress, egress)?;
        match ingress {
            Some(program) => self.attach_tc(target, Hook::TcIngress, program)?,
            None => target.at(Hook::TcIngress).remove(&self.pins)?,
        }
        for (hook, mode, wanted) in [
            (Hook::XdpNative, XdpMode::Driver, XdpAttach::Native),
            (Hook::XdpGeneric, XdpMode::Skb, XdpAttach::Generic),
        ] {
            if target.xdp() != wanted {
                target.at(hook).remove(&self.pins)?;
            } else {
                // A device has one place for XDP: the other mode has to go first.
                let other = if hook == Hook::XdpNative {
                    Hook::XdpGeneric
                } else {
                    Hook::XdpNative
                };
                target.at(other).remove(&self.pins)?;
                self.attach_xdp(target, hook, mode)?;
            }
        }
        Ok(())
    }

    /// Writes a device's entry in `devices` and `tx_devices`, without touching its programs: for a changed address.
    ///
    /// # Errors
    /// The number is beyond the array, or a map cannot be written.
    pub fn describe(&mut self, target: &Target) -> Result<(), DataplaneError> {
        if name_of(target.ifindex).as_ref() != Some(&target.name) {
            return Err(renumbered(target));
        }
        let mut transmit = tx_devices(&self.pins)?;
        let mut devices = devices(&self.pins)?;
        let entry = target.entry();
        if target.ifindex as usize >= MAX_DEVICES {
            return Err(DataplaneError::Refused(format!(
                "device {} has number {}: xvip holds numbers below {MAX_DEVICES}",
                target.name, target.ifindex
            )));
        }
        self.described.insert(target.ifindex);
        // The flag promises the map entry: set after it, cleared before it.
        if target.xdp_transmit {
            transmit
                .insert(target.ifindex, target.ifindex, None, 0)
                .map_err(|e| {
                    DataplaneError::io(format!("map {}", maps::TX_DEVICES))(std::io::Error::other(e))
                })?;
            set_device(&mut devices, target.ifindex, entry)
        } else {
            set_device(&mut devices, target.ifindex, entry)?;
            forget(transmit.remove(target.ifindex), maps::TX_DEVICES)
        }
    }

    /// Detaches every program from a device and forgets it. One that is not attached, or has gone, is no error.
    ///
    /// # Errors
    /// A pin or a map entry cannot be removed.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        for pinned in links::pinned(&self.pins)?.iter().filter(|p| p.ifindex == ifindex) {
            pinned.remove(&self.pins)?;
        }
        if !self.tcx {
            detach_clsact(ifindex)?;
        }
        self.forget_device(ifindex)
    }

    /// The links that are pinned and hold their devices.
    ///
    /// # Errors
    /// A link cannot be looked at.
    pub fn attached(&self) -> Result<Vec<PinnedHook>, DataplaneError> {
        attached(&self.pins)
    }

    /// Removes what is left of devices that have gone. Returns their numbers.
    ///
    /// # Errors
    /// A link cannot be looked at or removed.
    pub fn prune_devices(&mut self) -> Result<Vec<u32>, DataplaneError> {
        let mut gone = BTreeSet::new();
        for pinned in links::pinned(&self.pins)? {
            if pinned.state(&self.pins)? == State::Stale {
                pinned.remove(&self.pins)?;
                gone.insert(pinned.ifindex);
            }
        }
        gone.extend(
            self.described
                .iter()
                .filter(|ifindex| name_of(**ifindex).is_none()),
        );
        // A new device of that number may have been attached meanwhile.
        for pinned in links::pinned(&self.pins)? {
            gone.remove(&pinned.ifindex);
        }
        for ifindex in &gone {
            self.forget_device(*ifindex)?;
        }
        Ok(gone.into_iter().collect())
    }

    fn forget_device(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        if (ifindex as usize) < MAX_DEVICES {
            set_device(&mut devices(&self.pins)?, ifindex, Device::default())?;
        }
        forget(tx_devices(&self.pins)?.remove(ifindex), maps::TX_DEVICES)?;
        self.described.remove(&ifindex);
        Ok(())
    }

    fn attach_xdp(&mut self, target: &Target, hook: Hook, mode: XdpMode) -> Result<(), DataplaneError> {
        let name = programs::XDP_UPLINK;
        let pinned = target.at(hook);
        let path = pinned.path(&self.pins);
        let state = take_stale(&pinned, &self.pins)?;
        let program: &mut Xdp = self
            .program(name)?
            .try_into()
            .map_err(DataplaneError::program(name))?;
        if state == State::Attached {
            let link = PinnedLink::from_pin(&path).map_err(link_error(name))?;
            let link = FdLink::from(link).try_into().map_err(link_error(name))?;
            let id = program
                .attach_to_link(link)
                .map_err(DataplaneError::program(name))?;
            // Closes our descriptor; the pin keeps the link.
            return program.detach(id).map_err(DataplaneError::program(name));
        }
        let id = program
            .attach_to_if_index(target.ifindex, mode)
            .map_err(|error| refused(target, hook, error))?;
        let link = program.take_link(id).map_err(DataplaneError::program(name))?;
        let link: FdLink = link.try_into().map_err(link_error(name))?;
        link.pin(&path).map_err(|e| {
            DataplaneError::io(format!("pinning link {}", path.display()))(std::io::Error::other(e))
        })?;
        Ok(())
    }

    fn attach_tc(&mut self, target: &Target, hook: Hook, name: &str) -> Result<(), DataplaneError> {
        let (direction, order, priority) = if hook == Hook::TcIngress {
            (TcAttachType::Ingress, LinkOrder::first(), CLSACT_FIRST)
        } else {
            (TcAttachType::Egress, LinkOrder::last(), CLSACT_LAST)
        };
        let pinned = target.at(hook);
        let path = pinned.path(&self.pins);
        let state = take_stale(&pinned, &self.pins)?;
        let tcx = self.tcx;
        let program: &mut SchedClassifier = self
            .program(name)?
            .try_into()
            .map_err(DataplaneError::program(name))?;
        if !tcx {
            return attach_clsact(program, target, direction, priority)
                .map_err(|error| refused(target, hook, error));
        }
        if state == State::Attached {
            let link = PinnedLink::from_pin(&path).map_err(link_error(name))?;
            let link = FdLink::from(link).try_into().map_err(link_error(name))?;
            let id = program
                .attach_to_link(link)
                .map_err(DataplaneError::program(name))?;
            return program.detach(id).map_err(DataplaneError::program(name));
        }
        let id = program
            .attach_with_options(&target.name, direction, TcAttachOptions::TcxOrder(order))
            .map_err(|error| refused(target, hook, error))?;
        let link = program.take_link(id).map_err(DataplaneError::program(name))?;
        let link: FdLink = link.try_into().map_err(link_error(name))?;
        link.pin(&path).map_err(|e| {
            DataplaneError::io(format!("pinning link {}", path.display()))(std::io::Error::other(e))
        })?;
        // aya takes names only; the number may have changed hands since it was read.
        if pinned.state(&self.pins)? != State::Attached {
            pinned.remove(&self.pins)?;
            return Err(renumbered(target));
        }
        Ok(())
    }
}

fn renumbered(target: &Target) -> DataplaneError {
    DataplaneError::Refused(format!(
        "device {} is no longer number {}: it has gone, or was made anew",
        target.name, target.ifindex
    ))
}

/// Removes a pin whose device has gone, so that its place is free.
fn take_stale(pinned: &PinnedHook, pins: &Pins) -> Result<State, DataplaneError> {
    let state = pinned.state(pins)?;
    if state == State::Stale {
        pinned.remove(pins)?;
    }
    Ok(state)
}

/// Our filter in a clsact qdisc: replaced where it stands, else made. It has no link; it lives until it is removed.
fn attach_clsact(
    program: &mut SchedClassifier,
    target: &Target,
    direction: TcAttachType,
    priority: u16,
) -> Result<(), ProgramError> {
    match tc::qdisc_add_clsact(&target.name) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(nix::libc::EEXIST) => {}
        other => other?,
    }
    let standing = SchedClassifierLink::attached(&target.name, direction, priority, CLSACT_HANDLE, None)?;
    let id = match program.attach_to_link(standing) {
        Ok(id) => id,
        Err(_absent) => program.attach_with_options(
            &target.name,
            direction,
            TcAttachOptions::Netlink(NlOptions {
                priority,
                handle: CLSACT_HANDLE,
                classid: None,
            }),
        )?,
    };
    leave_attached(program, id)
}

/// Keeps aya from removing a filter when the program is dropped.
fn leave_attached(program: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<(), ProgramError> {
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Removes our filters from a device's clsact qdisc, whichever stand there; returns how many. A device that has gone has
/// none.
pub(super) fn detach_clsact(ifindex: u32) -> Result<usize, DataplaneError> {
    let Some(name) = name_of(ifindex) else {
        return Ok(0);
    };
    let mut removed = 0;
    for (direction, program) in CLSACT_PROGRAMS {
        match tc::qdisc_detach_program(&name, direction, program) {
            Ok(()) => removed += 1,
            Err(TcError::IoError(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) if name_of(ifindex).is_none() => return Ok(removed),
            Err(error) => return Err(DataplaneError::program(program)(error)),
        }
    }
    Ok(removed)
}

/// A device's name, while it exists in this network namespace.
fn name_of(ifindex: u32) -> Option<String> {
    let name = if_indextoname(ifindex).ok()?;
    // nix 0.31 answers with an empty name where there is no such device.
    let name = name.to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// The pinned links that hold their devices.
pub(super) fn attached(pins: &Pins) -> Result<Vec<PinnedHook>, DataplaneError> {
    let mut hooks = links::pinned(pins)?;
    let mut failure = None;
    hooks.retain(|pinned| match pinned.state(pins) {
        Ok(state) => state == State::Attached,
        Err(error) => {
            failure = Some(error);
            false
        }
    });
    failure.map_or(Ok(hooks), Err)
}

fn devices(pins: &Pins) -> Result<Array<MapData, AsPod<Device>>, DataplaneError> {
    let map = super::maps::open(pins, maps::DEVICES)?;
    map.try_into().map_err(DataplaneError::map(maps::DEVICES))
}

fn tx_devices(pins: &Pins) -> Result<DevMapHash<MapData>, DataplaneError> {
    let map = super::maps::open(pins, maps::TX_DEVICES)?;
    map.try_into().map_err(DataplaneError::map(maps::TX_DEVICES))
}

fn set_device(
    devices: &mut Array<MapData, AsPod<Device>>,
    ifindex: u32,
    entry: Device,
) -> Result<(), DataplaneError> {
    devices
        .set(ifindex, AsPod(entry), 0)
        .map_err(DataplaneError::map(maps::DEVICES))
}

/// A removal where absence is no error.
fn forget(result: Result<(), MapError>, map: &str) -> Result<(), DataplaneError> {
    match result {
        Err(error) if !super::maps::is_absent(&error) => Err(DataplaneError::map(map)(error)),
        _ => Ok(()),
    }
}

fn link_error<E: std::error::Error + Send + Sync + 'static>(
    program: &str,
) -> impl FnOnce(E) -> DataplaneError {
    DataplaneError::io_other(format!("link of program {program}"))
}

/// Why a device refused, with what the usual causes look like.
fn refused(target: &Target, hook: Hook, error: ProgramError) -> DataplaneError {
    let errno = super::maps::errno(&error);
    let hint = match (hook, errno) {
        (Hook::XdpNative | Hook::XdpGeneric, Some(nix::libc::EBUSY)) => {
            ": another XDP program is attached to it"
        }
        (Hook::XdpNative, Some(nix::libc::EOPNOTSUPP)) => ": its driver has no native XDP",
        (_, Some(nix::libc::ENODEV)) => ": it has gone",
        _ => "",
    };
    DataplaneError::io_other(format!(
        "attaching {} to device {}{hint}",
        hook.name(),
        target.name
    ))(error)
}
