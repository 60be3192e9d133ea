//! How big the maps are made.

use super::declared::{self, Definition};
use super::error::DataplaneError;
use super::pins::Pins;
use lb_common::layout::maps;

/// Entries of the maps whose size is a choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Buckets of four entries in the IPv4 flow table: a power of two up to 2^24. A connection takes two entries.
    pub flow4_buckets: u32,
    /// The same for IPv6.
    pub flow6_buckets: u32,
    /// Frontends: an address, port and protocol each.
    pub frontends: u32,
    /// Service records: several a service, while lists change.
    pub records: u32,
    /// Slots: one an endpoint, list and service, twice while lists change.
    pub slots: u32,
    /// Backends: one an endpoint and service port.
    pub backends: u32,
    /// Service ports: their names and statistics.
    pub services: u32,
    /// Clients remembered for session affinity.
    pub affinity: u32,
    /// Source ranges: one a range, service port and family, twice while they change.
    pub source_ranges: u32,
}

impl Default for Sizes {
    /// A node of a cluster of a few thousand services: 100 MB in all.
    fn default() -> Self {
        Self {
            flow4_buckets: 1 << 17,
            flow6_buckets: 1 << 15,
            frontends: 1 << 16,
            records: 1 << 16,
            slots: 1 << 20,
            backends: 1 << 18,
            services: 1 << 15,
            affinity: 1 << 16,
            source_ranges: 1 << 16,
        }
    }
}

/// Largest number of buckets: the hash takes its candidates from 24 bits each.
const MAX_BUCKETS: u32 = 1 << 24;

impl Sizes {
    /// The maps each size is for. The first of a row is the one that is asked when they exist already.
    fn rows(&mut self) -> [(&mut u32, &'static [&'static str]); 9] {
        [
            (&mut self.flow4_buckets, &[maps::FLOWS4, maps::LOCKS4]),
            (&mut self.flow6_buckets, &[maps::FLOWS6, maps::LOCKS6]),
            (&mut self.frontends, &[maps::FRONTENDS]),
            (&mut self.records, &[maps::SERVICES]),
            (&mut self.slots, &[maps::SLOTS]),
            (&mut self.backends, &[maps::BACKENDS]),
            (&mut self.services, &[maps::NAMES, maps::SERVICE_STATS]),
            (&mut self.affinity, &[maps::AFFINITY]),
            (&mut self.source_ranges, &[maps::SOURCE_RANGES]),
        ]
    }

    /// Refuses sizes that cannot be.
    pub(super) fn check(&mut self) -> Result<(), DataplaneError> {
        for (size, names) in self.rows() {
            if *size == 0 {
                return Err(DataplaneError::Refused(format!(
                    "map {} cannot have no entries",
                    names[0]
                )));
            }
        }
        for (buckets, name) in [
            (self.flow4_buckets, maps::FLOWS4),
            (self.flow6_buckets, maps::FLOWS6),
        ] {
            if !buckets.is_power_of_two() || buckets > MAX_BUCKETS {
                return Err(DataplaneError::Refused(format!(
                    "map {name} cannot have {buckets} buckets: a power of two up to {MAX_BUCKETS} is needed"
                )));
            }
        }
        Ok(())
    }

    /// Takes the sizes of the maps that exist: a table of another size would lose every flow and every id.
    pub(super) fn adopt_pinned(&mut self, pins: &Pins) -> Result<(), DataplaneError> {
        for (size, names) in self.rows() {
            if let Some(pinned) = declared::pinned_entries(pins, names[0])?
                && pinned != *size
            {
                tracing::warn!(
                    map = names[0],
                    existing = pinned,
                    configured = *size,
                    "keeping the size of the map that exists; another one takes effect after `xvip cleanup`"
                );
                *size = pinned;
            }
        }
        Ok(())
    }

    /// Writes the sizes into what the object declares.
    pub(super) fn apply<'a>(
        mut self,
        definitions: impl Iterator<Item = (&'a String, &'a mut Definition)>,
    ) -> Result<(), DataplaneError> {
        let rows = self.rows();
        let mut wanted: Vec<(&str, u32)> = rows
            .iter()
            .flat_map(|(size, names)| names.iter().map(|name| (*name, **size)))
            .collect();
        for (name, definition) in definitions {
            if let Some(i) = wanted.iter().position(|(n, _)| n == name) {
                definition.max_entries = wanted.swap_remove(i).1;
            }
        }
        match wanted.first() {
            None => Ok(()),
            Some((name, _)) => Err(DataplaneError::Missing(format!("map {name}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_refused_in_words() {
        let good = Sizes::default();
        let cases = [
            (
                Sizes {
                    flow4_buckets: 3,
                    ..good
                },
                "flows4 cannot have 3 buckets",
            ),
            (
                Sizes {
                    flow6_buckets: 1 << 25,
                    ..good
                },
                "flows6 cannot have 33554432 buckets",
            ),
            (Sizes { slots: 0, ..good }, "slots cannot have no entries"),
        ];
        for (mut sizes, message) in cases {
            let error = sizes.check().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(Sizes::default().check().is_ok());
    }
}
