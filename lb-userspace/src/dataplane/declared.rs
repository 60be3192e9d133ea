//! What the kernel object declares its maps to be, and whether a pinned map is that.
//!
//! aya takes whatever it finds pinned under the right name; programs would then read foreign bytes.

use std::collections::BTreeMap;

use aya::maps::{MapData, MapInfo};
use aya_obj::generated::{BPF_F_RDONLY_PROG, bpf_map_type};
use aya_obj::{Object, ParseError};

use super::error::DataplaneError;
use super::log;
use super::pins::Pins;

/// The properties of a map that must agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Definition {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

impl Definition {
    /// What is pinned.
    fn of_pinned(info: &MapInfo) -> Result<Self, aya::maps::MapError> {
        Ok(Self {
            map_type: info.map_type()? as u32,
            key_size: info.key_size(),
            value_size: info.value_size(),
            max_entries: info.max_entries(),
            // The kernel adds this one to device maps by itself.
            flags: info.map_flags() & !BPF_F_RDONLY_PROG,
        })
    }

    /// What differs from `expected`, in words; empty when nothing does.
    fn differences(&self, expected: &Self) -> String {
        [
            ("type", self.map_type, expected.map_type),
            ("key size", self.key_size, expected.key_size),
            ("value size", self.value_size, expected.value_size),
            ("number of entries", self.max_entries, expected.max_entries),
            ("flags", self.flags, expected.flags),
        ]
        .into_iter()
        .filter(|(_, found, wanted)| found != wanted)
        .map(|(what, found, wanted)| format!("{what} is {found}, expected {wanted}"))
        .collect::<Vec<_>>()
        .join("; ")
    }
}

/// The maps of the object that are pinned, with the entries it declares for them. Its data sections and the log buffer
/// belong to one load of the programs and are not pinned.
pub(super) fn maps(object: &[u8]) -> Result<BTreeMap<String, Definition>, DataplaneError> {
    let object = Object::parse(object).map_err(|error: ParseError| Box::new(aya::EbpfError::from(error)))?;
    Ok(object
        .maps
        .iter()
        .filter(|(name, _)| !name.starts_with('.') && *name != log::BUFFER)
        .map(|(name, map)| {
            let devmap = [
                bpf_map_type::BPF_MAP_TYPE_DEVMAP as u32,
                bpf_map_type::BPF_MAP_TYPE_DEVMAP_HASH as u32,
            ]
            .contains(&map.map_type());
            let definition = Definition {
                map_type: map.map_type(),
                key_size: map.key_size(),
                // aya makes device maps with room for a program, whatever the object says.
                value_size: if devmap { 8 } else { map.value_size() },
                max_entries: map.max_entries(),
                flags: map.map_flags() & !BPF_F_RDONLY_PROG,
            };
            (name.clone(), definition)
        })
        .collect())
}

/// The entries a pinned map has; `None` when it is not there.
pub(super) fn pinned_entries(pins: &Pins, name: &str) -> Result<Option<u32>, DataplaneError> {
    Ok(pinned(pins, name)?.map(|d| d.max_entries))
}

/// Refuses a pinned map that is not what `expected` says. One that is not there is fine: it will be made.
pub(super) fn check(pins: &Pins, name: &str, expected: &Definition) -> Result<(), DataplaneError> {
    let Some(found) = pinned(pins, name)? else {
        return Ok(());
    };
    let differences = found.differences(expected);
    if differences.is_empty() {
        return Ok(());
    }
    Err(DataplaneError::PinMismatch {
        path: pins.map(name),
        differences,
    })
}

fn pinned(pins: &Pins, name: &str) -> Result<Option<Definition>, DataplaneError> {
    let path = pins.map(name);
    if !path.exists() {
        return Ok(None);
    }
    let map = MapData::from_pin(&path).map_err(DataplaneError::map(name))?;
    let info = map.info().map_err(DataplaneError::map(name))?;
    Definition::of_pinned(&info)
        .map(Some)
        .map_err(DataplaneError::map(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_what_was_found_and_what_was_expected() {
        let expected = Definition {
            map_type: 2,
            key_size: 4,
            value_size: 64,
            max_entries: 1024,
            flags: 1024,
        };
        assert_eq!(expected.differences(&expected), "");
        let found = Definition {
            value_size: 32,
            max_entries: 512,
            ..expected
        };
        assert_eq!(
            found.differences(&expected),
            "value size is 32, expected 64; number of entries is 512, expected 1024"
        );
    }
}
