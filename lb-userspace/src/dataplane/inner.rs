//! The maps that programs use among themselves, for a look inside: locks, tokens, tail calls, transmit devices.

use std::collections::BTreeMap;

use aya::maps::{Array, DevMapHash, Map, MapData, PerCpuArray};
use lb_common::layout::maps;

use super::error::DataplaneError;
use super::maps::{is_absent, open, open_data};
use super::reader::Reader;

impl Reader {
    /// The lock words of a flow table that are not zero, by bucket; `map` is [`maps::LOCKS4`] or [`maps::LOCKS6`].
    ///
    /// # Errors
    /// The map cannot be read; the same holds for all below.
    pub fn locks(&self, map: &str) -> Result<BTreeMap<u32, u32>, DataplaneError> {
        Ok(self.array(map, |word: &u32| *word != 0)?.into_iter().collect())
    }

    /// The devices XDP may transmit out of: ifindices by key.
    ///
    /// # Errors
    /// See [`Self::locks`].
    pub fn tx_devices(&self) -> Result<BTreeMap<u32, u32>, DataplaneError> {
        let error = DataplaneError::map;
        let map: DevMapHash<MapData> = open(&self.pins, maps::TX_DEVICES)?
            .try_into()
            .map_err(error(maps::TX_DEVICES))?;
        let entries = map
            .iter()
            .map(|entry| entry.map(|(key, value)| (key, value.if_index)));
        entries.collect::<Result<_, _>>().map_err(error(maps::TX_DEVICES))
    }

    /// Tokens of the reject stage and when they were last filled, by CPU.
    ///
    /// # Errors
    /// See [`Self::locks`].
    pub fn reject_tokens(&self) -> Result<Vec<[u32; 2]>, DataplaneError> {
        let error = DataplaneError::map;
        let map: PerCpuArray<MapData, [u32; 2]> = open(&self.pins, maps::REJECT_TOKENS)?
            .try_into()
            .map_err(error(maps::REJECT_TOKENS))?;
        let values = map.get(&0, 0).map_err(error(maps::REJECT_TOKENS))?;
        Ok(values.iter().copied().collect())
    }

    /// The programs of a table of tail calls: ids by place; `map` is [`maps::XDP_STAGES`] or [`maps::TC_STAGES`].
    ///
    /// # Errors
    /// See [`Self::locks`].
    pub fn stages(&self, map: &str) -> Result<BTreeMap<u32, u32>, DataplaneError> {
        // aya writes program arrays and does not read them; to a reader they are arrays of ids.
        let table: Array<MapData, u32> = Map::Array(open_data(&self.pins, map)?)
            .try_into()
            .map_err(DataplaneError::map(map))?;
        let mut programs = BTreeMap::new();
        for index in 0..table.len() {
            match table.get(&index, 0) {
                Ok(id) => {
                    programs.insert(index, id);
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(DataplaneError::map(map)(error)),
            }
        }
        Ok(programs)
    }
}
