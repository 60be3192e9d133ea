//! The writes that lead from one state of the maps to the next, as data.
//!
//! Owns: carrying one out in a map and in its [`Mirror`], and what takes it back. Must not know: why it is done, and in
//! which order ([`super::stage`]).

use std::time::Instant;

use lb_common::backend::Backend;
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::name::Name;
use lb_common::service::ServiceRecord;
use lb_common::source_range::SourceRangeKey;

use crate::plan::ServicePortKey;

use super::maps::{MapError, ServiceMaps};
use super::mirror::Mirror;
use super::settle;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    SetPrefilterBit(u32),
    PutName {
        id: u32,
        key: ServicePortKey,
        name: Box<Name>,
    },
    ClearStats(u32),
    WriteBackend {
        index: u32,
        backend: Backend,
    },
    WriteSlots {
        offset: u32,
        service: u32,
        slots: Vec<u32>,
    },
    PutSourceRange {
        key: SourceRangeKey,
        service: u32,
    },
    WriteRecord {
        index: u32,
        record: ServiceRecord,
    },
    PutFrontend {
        key: FrontendKey,
        record: u32,
    },
    DeleteFrontend(FrontendKey),
    ClearPrefilterBit(u32),
    FreeRecord(u32),
    DeleteSourceRange(SourceRangeKey),
    FreeBackend(u32),
    DeleteName(u32),
}

impl Op {
    /// Writes to the maps, and then to their mirror.
    pub(super) fn carry_out(
        &self,
        maps: &mut impl ServiceMaps,
        mirror: &mut Mirror,
        now: Instant,
    ) -> Result<(), MapError> {
        match self {
            Self::SetPrefilterBit(bit) => {
                maps.set_prefilter_bit(*bit)?;
                mirror.prefilter.set(*bit);
            }
            Self::ClearPrefilterBit(bit) => {
                maps.clear_prefilter_bit(*bit)?;
                mirror.prefilter.clear(*bit);
            }
            Self::PutName { id, key, name } => {
                maps.put_name(*id, name)?;
                mirror.put_name(*id, key.clone());
            }
            Self::DeleteName(id) => {
                maps.delete_name(*id)?;
                mirror.delete_name(*id);
            }
            Self::ClearStats(id) => maps.clear_stats(*id)?,
            Self::WriteBackend { index, backend } => {
                maps.write_backend(*index, backend)?;
                mirror.put_backend(*index, *backend);
            }
            Self::FreeBackend(index) => {
                let present = mirror.backends.get(index).map(|entry| entry.backend);
                let left_behind = settle::freed(&present.unwrap_or_default());
                maps.write_backend(*index, &left_behind)?;
                mirror.free_backend(*index, left_behind);
            }
            Self::WriteSlots {
                offset,
                service,
                slots,
            } => {
                maps.write_slots(*offset, slots)?;
                mirror.put_range(*offset, *service, slots.clone());
            }
            Self::PutSourceRange { key, service } => {
                maps.put_source_range(key, *service)?;
                mirror.source_sets.put(*key, *service);
            }
            Self::DeleteSourceRange(key) => {
                maps.delete_source_range(key)?;
                mirror.source_sets.delete(key);
            }
            Self::WriteRecord { index, record } => {
                maps.write_record(*index, record)?;
                mirror.put_record(*index, *record, true, now);
            }
            Self::FreeRecord(index) => {
                maps.write_record(*index, &ServiceRecord::default())?;
                mirror.free_record(*index);
            }
            Self::PutFrontend { key, record } => {
                maps.put_frontend(key, FrontendValue::new(key, *record))?;
                mirror.put_frontend(*key, *record, now);
            }
            Self::DeleteFrontend(key) => {
                maps.delete_frontend(key)?;
                mirror.delete_frontend(key, now);
            }
        }
        Ok(())
    }

    /// What takes this back, asked before it is carried out. Writes that no frontend leads to need nothing: they are
    /// idle, and freed like everything idle.
    pub(super) fn undo(&self, mirror: &Mirror) -> Option<Undo> {
        match self {
            Self::PutFrontend { key, .. } | Self::DeleteFrontend(key) => {
                Some(match mirror.frontends.get(key) {
                    Some(&record) => Undo::Op(Self::PutFrontend { key: *key, record }),
                    None => Undo::Op(Self::DeleteFrontend(*key)),
                })
            }
            Self::WriteBackend { index, .. } => {
                let entry = mirror.backends.get(index)?;
                Some(Undo::Backend {
                    index: *index,
                    before: entry.backend,
                })
            }
            _ => None,
        }
    }
}

/// A way back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Undo {
    Op(Op),
    /// A backend as it was, whatever it is by then.
    Backend {
        index: u32,
        before: Backend,
    },
}

impl Undo {
    pub(super) fn carry_out(
        self,
        maps: &mut impl ServiceMaps,
        mirror: &mut Mirror,
        now: Instant,
    ) -> Result<(), MapError> {
        let op = match self {
            Self::Op(op) => op,
            Self::Backend { index, before } => {
                let Some(entry) = mirror.backends.get(&index) else {
                    return Ok(());
                };
                let backend = settle::taken_back(&before, &entry.backend);
                Op::WriteBackend { index, backend }
            }
        };
        op.carry_out(maps, mirror, now)
    }
}
