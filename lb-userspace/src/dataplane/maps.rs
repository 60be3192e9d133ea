//! Opening pinned maps, and what the errors of working with them mean.

use std::error::Error;
use std::io;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{HashMap, Map, MapData, MapError};
use bytemuck::Pod;
use lb_common::layout::maps;
use lb_common::source_range::{SetAddr, SourceRangeOwner};

use super::error::DataplaneError;
use super::pins::Pins;
use super::typed::AsPod;

/// A kernel hash map (LRU or not) over lb-common's types.
pub(super) type Hash<K, V> = HashMap<MapData, AsPod<K>, AsPod<V>>;

/// Map `source_ranges`.
pub(super) type SourceRanges = LpmTrie<MapData, AsPod<SetAddr>, AsPod<SourceRangeOwner>>;

/// A pinned map's descriptor.
pub(super) fn open_data(pins: &Pins, name: &str) -> Result<MapData, DataplaneError> {
    let path = pins.map(name);
    MapData::from_pin(&path).map_err(|error| {
        if errno(&error) == Some(nix::libc::ENOENT) {
            DataplaneError::NotInstalled { path }
        } else {
            DataplaneError::map(name)(error)
        }
    })
}

/// A pinned map.
pub(super) fn open(pins: &Pins, name: &str) -> Result<Map, DataplaneError> {
    Map::from_map_data(open_data(pins, name)?).map_err(DataplaneError::map(name))
}

/// A pinned hash map.
pub(super) fn open_hash<K: Pod, V: Pod>(pins: &Pins, name: &str) -> Result<Hash<K, V>, DataplaneError> {
    open(pins, name)?.try_into().map_err(DataplaneError::map(name))
}

/// The pinned map `source_ranges`.
pub(super) fn open_source_ranges(pins: &Pins) -> Result<SourceRanges, DataplaneError> {
    open(pins, maps::SOURCE_RANGES)?
        .try_into()
        .map_err(DataplaneError::map(maps::SOURCE_RANGES))
}

/// The system's error number behind an error of aya's.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(number) = io.raw_os_error()
        {
            return Some(number);
        }
        next = error.source();
    }
    None
}

/// Whether an error says that the entry is not there.
pub(super) fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
        || errno(error) == Some(nix::libc::ENOENT)
}
