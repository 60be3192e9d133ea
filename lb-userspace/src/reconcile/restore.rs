//! The mirror of maps that another agent filled.
//!
//! Owns: what to make of entries that do not fit together, as an agent leaves them that was killed between two writes,
//! or a hand that touched the maps. They are taken in as they are, never used again, and freed in time.

use std::time::Instant;

use lb_common::service::{ServiceRecord, SlotRange};

use super::maps::{MapError, ServiceMaps};
use super::mirror::{Mirror, address_of, slot_range, slot_ranges};
use super::names::from_name;

/// Reads the maps, from what is pointed at to what points.
pub(super) fn restore(maps: &impl ServiceMaps, now: Instant) -> Result<Mirror, MapError> {
    let mut mirror = Mirror::new(maps.capacities());
    for bit in maps.read_prefilter()? {
        mirror.prefilter.set(bit);
    }
    restore_names(maps, &mut mirror)?;
    restore_backends(maps, &mut mirror)?;
    restore_source_ranges(maps, &mut mirror)?;
    let mut records = maps.read_records()?;
    records.sort_by_key(|(index, _)| *index);
    for (index, record) in records {
        restore_record(maps, &mut mirror, index, record, now)?;
    }
    let mut frontends = maps.read_frontends()?;
    frontends.sort_by_key(|(key, _)| *key);
    for (key, value) in frontends {
        let index = value.index();
        // A frontend that leads nowhere keeps its index taken: nobody else's record may appear there.
        if !mirror.records.contains_key(&index) && mirror.taken.records.reserve(index) {
            mirror.put_record(index, ServiceRecord::default(), false, now);
        }
        mirror.put_frontend(key, index, now);
    }
    Ok(mirror)
}

fn restore_names(maps: &impl ServiceMaps, mirror: &mut Mirror) -> Result<(), MapError> {
    let mut names = maps.read_names()?;
    names.sort_by_key(|(id, _)| *id);
    for (id, name) in names {
        if !mirror.taken.ids.reserve(id) {
            continue;
        }
        match from_name(&name).filter(|key| !mirror.ids.contains_key(key)) {
            Some(key) => mirror.put_name(id, key),
            None => {
                mirror.ports.entry(id).or_default();
            }
        }
    }
    Ok(())
}

fn restore_backends(maps: &impl ServiceMaps, mirror: &mut Mirror) -> Result<(), MapError> {
    let mut backends = maps.read_backends()?;
    backends.sort_by_key(|(index, _)| *index);
    for (index, backend) in backends {
        if backend.service == 0 {
            mirror.past_backends.insert(index, backend);
        } else if mirror.taken.backends.reserve(index) {
            reserve_id(mirror, backend.service);
            mirror.put_backend(index, backend);
        }
    }
    Ok(())
}

fn restore_source_ranges(maps: &impl ServiceMaps, mirror: &mut Mirror) -> Result<(), MapError> {
    let mut ranges = maps.read_source_ranges()?;
    ranges.sort_by_key(|(key, _)| *key);
    for (key, service) in ranges {
        reserve_id(mirror, service);
        mirror.source_sets.restore(key.bits.set, service);
        mirror.source_sets.put(key, service);
    }
    Ok(())
}

fn restore_record(
    maps: &impl ServiceMaps,
    mirror: &mut Mirror,
    index: u32,
    record: ServiceRecord,
    now: Instant,
) -> Result<(), MapError> {
    if !mirror.taken.records.reserve(index) {
        return Ok(());
    }
    reserve_id(mirror, record.service);
    let mut sound = true;
    for range in slot_ranges(&record) {
        sound &= restore_range(maps, mirror, range, record.service)?;
    }
    if record.sources != 0 {
        mirror.source_sets.restore(record.sources, record.service);
    }
    mirror.put_record(index, record, sound, now);
    Ok(())
}

/// Takes a range in; false when it overlaps another, leaves the map or names a backend that is not the service port's.
fn restore_range(
    maps: &impl ServiceMaps,
    mirror: &mut Mirror,
    range: SlotRange,
    service: u32,
) -> Result<bool, MapError> {
    if let Some(entry) = mirror.ranges.get(&range.offset) {
        return Ok(slot_range(range.offset, &entry.slots) == range && entry.service == service);
    }
    if !mirror.taken.slots.reserve(range) {
        return Ok(false);
    }
    let slots = maps.read_slots(range)?;
    let port = mirror.ports.get(&service);
    let sound = slots.iter().all(|slot| {
        let backend = mirror.backends.get(slot).map(|entry| address_of(&entry.backend));
        let own = port.and_then(|port| port.backends.get(&backend?));
        own == Some(slot)
    });
    mirror.put_range(range.offset, service, slots);
    Ok(sound)
}

/// An id that has entries but no name is taken all the same.
fn reserve_id(mirror: &mut Mirror, id: u32) {
    if !mirror.ports.contains_key(&id) && mirror.taken.ids.reserve(id) {
        mirror.ports.entry(id).or_default();
    }
}
