//! Freeing what is idle.
//!
//! A record is freed when no frontend has pointed at it for the grace, with the slot ranges and the sets of source ranges no other record
//! has: until then a program may be reading them. A backend that no range names any more, and a bit of the prefilter that
//! nothing needs, are freed when no flow names them; a service-port id, when nothing but its name is left.

use std::time::Instant;

use lb_common::prefilter;

use super::maps::{FlowQuery, MapError, ServiceMaps};
use super::op::Op;
use super::reconciler::Reconciler;
use super::report::Collected;

impl Reconciler {
    /// Whether [`Self::collect`] may find something to free.
    #[must_use]
    pub fn has_idle(&self) -> bool {
        let mirror = &self.mirror;
        !mirror.idle_records.is_empty()
            || !mirror.idle_backends.is_empty()
            || !mirror.prefilter.idle.is_empty()
            || mirror.source_sets.has_idle()
            || mirror.empty_ports().next().is_some()
    }

    /// Frees what is idle and may be freed at `now`; what may not be yet is left for the next time. Backends and bits
    /// cost one scan of the flow tables, so this is for every few seconds, not for every change.
    ///
    /// Before [`Self::inputs_complete`] nothing is freed. Afterwards, Services that there was no room for are tried again
    /// with the next [`Self::apply`].
    ///
    /// # Errors
    /// A map cannot be read or written; what was freed until then stays so.
    pub fn collect(&mut self, maps: &mut impl ServiceMaps, now: Instant) -> Result<Collected, MapError> {
        let mut collected = Collected::default();
        if !self.is_complete {
            return Ok(collected);
        }
        let result = self.collect_into(maps, now, &mut collected);
        self.retry_failed |= collected != Collected::default();
        result.map(|()| collected)
    }

    fn collect_into(
        &mut self,
        maps: &mut impl ServiceMaps,
        now: Instant,
        collected: &mut Collected,
    ) -> Result<(), MapError> {
        for index in self.records_past_grace(now) {
            Op::FreeRecord(index).carry_out(maps, &mut self.mirror, now)?;
            collected.records += 1;
        }
        for key in self.mirror.source_sets.idle_ranges() {
            Op::DeleteSourceRange(key).carry_out(maps, &mut self.mirror, now)?;
            collected.source_ranges += 1;
        }
        let query = self.idle_in_flows();
        if query != FlowQuery::default() {
            let named = maps.flows_naming(&query)?;
            for &index in query.backends.difference(&named.backends) {
                Op::FreeBackend(index).carry_out(maps, &mut self.mirror, now)?;
                collected.backends += 1;
            }
            for &bit in query.prefilter_bits.difference(&named.prefilter_bits) {
                if self.mirror.prefilter.idle.contains(&bit) {
                    Op::ClearPrefilterBit(bit).carry_out(maps, &mut self.mirror, now)?;
                    collected.prefilter_bits += 1;
                }
            }
        }
        let empty: Vec<u32> = self.mirror.empty_ports().collect();
        for id in empty {
            Op::DeleteName(id).carry_out(maps, &mut self.mirror, now)?;
            collected.services += 1;
        }
        Ok(())
    }

    fn records_past_grace(&self, now: Instant) -> Vec<u32> {
        let idle = self.mirror.idle_records.iter();
        idle.filter(|(_, since)| now.saturating_duration_since(**since) >= self.grace)
            .map(|(&index, _)| index)
            .collect()
    }

    /// What the flow tables have a say in: idle backends, idle bits, and the bits that become idle with those backends.
    fn idle_in_flows(&self) -> FlowQuery {
        let backends = self.mirror.idle_backends.clone();
        let bits_of_backends = backends
            .iter()
            .filter_map(|index| self.mirror.backends.get(index))
            .map(|entry| prefilter::bit(entry.backend.addr));
        let idle_bits = self.mirror.prefilter.idle.iter().copied();
        let prefilter_bits = idle_bits.chain(bits_of_backends).collect();
        FlowQuery {
            backends,
            prefilter_bits,
        }
    }
}
