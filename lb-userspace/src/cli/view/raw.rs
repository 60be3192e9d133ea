//! `xvip dump`: a map's entries, decoded, in a stable order.
//!
//! One record an entry: fields in a fixed order, names joined in where a number stands for something with a name. The same
//! records are the expectation of scenario tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use lb_common::backend::{self, Backend};
use lb_common::device;
use lb_common::flow::{class_of, forward_of};
use lb_common::frontend::FrontendKey;
use lb_common::layout::{Stage, maps};
use lb_common::lifetime::seen;
use lb_common::node_addr::NODE_PORTS;
use lb_common::port::Port;
use lb_common::reason::Reason;
use lb_common::service::{ServiceRecord, SlotRange, flags};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{devices, flows, words};
use crate::snapshot::{Flow, Snapshot, text_of};

/// An entry of a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(Vec<(&'static str, Value)>);

impl Record {
    fn with(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((field, value.into()));
        self
    }

    fn maybe(self, field: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (field, value) in &self.0 {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

impl fmt::Display for Record {
    /// `field=value field=value`, lists joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, value)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{field}=")?;
            match value {
                Value::String(text) => f.write_str(text)?,
                Value::Array(items) => {
                    let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                    f.write_str(&items.join(","))?;
                }
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

/// A map `xvip dump` knows: its name, the maps a reader must fill for it, and its records.
pub struct RawMap {
    /// The name a user types.
    pub name: &'static str,
    /// The maps whose contents the records show.
    pub needs: &'static [&'static str],
    records: fn(&Snapshot) -> Vec<Record>,
}

impl RawMap {
    /// The entries a snapshot holds.
    #[must_use]
    pub fn records(&self, snapshot: &Snapshot) -> Vec<Record> {
        (self.records)(snapshot)
    }

    /// The map of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|map| map.name == name)
    }
}

/// `flows` is both families' tables.
const FLOWS: &str = "flows";

/// Every map, in the order of the packet's way through them.
pub const ALL: &[RawMap] = &[
    RawMap {
        name: maps::FRONTENDS,
        needs: &[maps::FRONTENDS, maps::SERVICES, maps::NAMES],
        records: frontends,
    },
    RawMap {
        name: maps::SERVICES,
        needs: &[maps::SERVICES, maps::NAMES],
        records: services,
    },
    RawMap {
        name: maps::SLOTS,
        needs: &[maps::SLOTS, maps::SERVICES, maps::BACKENDS, maps::NAMES],
        records: slots,
    },
    RawMap {
        name: maps::BACKENDS,
        needs: &[maps::BACKENDS, maps::NAMES],
        records: backends,
    },
    RawMap {
        name: FLOWS,
        needs: &[
            maps::FLOWS4,
            maps::FLOWS6,
            maps::BACKENDS,
            maps::NAMES,
            maps::SETTINGS,
        ],
        records: |s| flow_entries(s, |_| true),
    },
    RawMap {
        name: maps::FLOWS4,
        needs: &[maps::FLOWS4, maps::BACKENDS, maps::NAMES, maps::SETTINGS],
        records: |s| flow_entries(s, |flow| flow.key.dst.is_ipv4()),
    },
    RawMap {
        name: maps::FLOWS6,
        needs: &[maps::FLOWS6, maps::BACKENDS, maps::NAMES, maps::SETTINGS],
        records: |s| flow_entries(s, |flow| flow.key.dst.is_ipv6()),
    },
    RawMap {
        name: maps::SOURCE_RANGES,
        needs: &[maps::SOURCE_RANGES, maps::NAMES],
        records: source_ranges,
    },
    RawMap {
        name: maps::AFFINITY,
        needs: &[maps::AFFINITY, maps::BACKENDS, maps::NAMES, maps::SETTINGS],
        records: affinity,
    },
    RawMap {
        name: maps::NODE_ADDRS,
        needs: &[maps::NODE_ADDRS],
        records: node_addrs,
    },
    RawMap {
        name: maps::PREFILTER,
        needs: &[maps::PREFILTER, maps::FRONTENDS, maps::BACKENDS],
        records: prefilter,
    },
    RawMap {
        name: maps::DEVICES,
        needs: &[maps::DEVICES],
        records: device_entries,
    },
    RawMap {
        name: maps::SERVICE_STATS,
        needs: &[maps::SERVICE_STATS, maps::NAMES],
        records: service_stats,
    },
    RawMap {
        name: maps::REASONS,
        needs: &[maps::REASONS],
        records: reasons,
    },
    RawMap {
        name: maps::SETTINGS,
        needs: &[maps::SETTINGS],
        records: settings,
    },
    RawMap {
        name: maps::NAMES,
        needs: &[maps::NAMES],
        records: names,
    },
    RawMap {
        name: maps::LOCKS4,
        needs: &[maps::LOCKS4],
        records: |s| locks(&s.locks4),
    },
    RawMap {
        name: maps::LOCKS6,
        needs: &[maps::LOCKS6],
        records: |s| locks(&s.locks6),
    },
    RawMap {
        name: maps::TX_DEVICES,
        needs: &[maps::TX_DEVICES],
        records: tx_devices,
    },
    RawMap {
        name: maps::REJECT_TOKENS,
        needs: &[maps::REJECT_TOKENS],
        records: reject_tokens,
    },
    RawMap {
        name: maps::XDP_STAGES,
        needs: &[maps::XDP_STAGES],
        records: |s| stages(&s.xdp_stages, |(_, xdp, _)| xdp),
    },
    RawMap {
        name: maps::TC_STAGES,
        needs: &[maps::TC_STAGES],
        records: |s| stages(&s.tc_stages, |(_, _, tc)| tc),
    },
];

fn record() -> Record {
    Record::default()
}

/// The names of the bits that are set.
fn bits<T: Copy + std::ops::BitAnd<Output = T> + PartialEq + Default>(
    word: T,
    names: &[(T, &'static str)],
) -> Value {
    let set = names.iter().filter(|(bit, _)| word & *bit != T::default());
    Value::from(set.map(|(_, name)| *name).collect::<Vec<_>>())
}

fn strings(items: impl IntoIterator<Item = IpAddr>) -> Value {
    Value::from(items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>())
}

fn frontends(snapshot: &Snapshot) -> Vec<Record> {
    let mut frontends = snapshot.frontends.clone();
    frontends.sort_by_key(|(key, _)| frontend_order(key));
    let records = frontends.iter().map(|(key, value)| {
        let service = snapshot.services.get(&value.index());
        record()
            .with("address", key.addr.to_ip().to_string())
            .with("port", Port(key.port).number())
            .with(
                "protocol",
                if key.proto == 0 {
                    "any".to_owned()
                } else {
                    words::protocol(key.proto)
                },
            )
            .with("record", value.index())
            .with("tag", format!("{:08x}", value.0 & u64::from(u32::MAX)))
            .with("tagGood", value.index_for(key).is_some())
            .maybe(
                "service",
                service.map(|service| snapshot.service_name(service.service)),
            )
    });
    records.collect()
}

fn frontend_order(key: &FrontendKey) -> (IpAddr, u16, u8) {
    (key.addr.to_ip(), Port(key.port).number(), key.proto)
}

const RECORD_FLAGS: [(u32, &str); 9] = [
    (flags::REWRITE_POD, "rewritePod"),
    (flags::REWRITE_NODE, "rewriteNode"),
    (flags::REWRITE_OUTSIDE, "rewriteOutside"),
    (flags::INSIDE_DROP, "insideDrop"),
    (flags::OUTSIDE_DROP, "outsideDrop"),
    (flags::INSIDE_LOCAL_LIST, "insideLocalList"),
    (flags::OUTSIDE_LOCAL_LIST, "outsideLocalList"),
    (flags::UNKNOWN_PORT, "unknownPort"),
    (flags::CLUSTER_IP, "clusterIP"),
];

fn services(snapshot: &Snapshot) -> Vec<Record> {
    let range = |range: SlotRange| format!("{}+{}", range.offset, range.len);
    let one = |(&index, service): (&u32, &ServiceRecord)| {
        record()
            .with("index", index)
            .with("service", snapshot.service_name(service.service))
            .with("id", service.service)
            .with("inside", range(service.inside))
            .with("outside", range(service.outside))
            .with("affinitySeconds", service.affinity_seconds)
            .with("flags", bits(service.flags, &RECORD_FLAGS))
            .maybe("sources", Some(service.sources).filter(|set| *set != 0))
            .with("algorithm", service.algorithm)
    };
    snapshot.services.iter().map(one).collect()
}

/// The slots that a record names; what else the array holds is left over, and no packet reads it.
fn slots(snapshot: &Snapshot) -> Vec<Record> {
    let mut owners = vec![None; snapshot.slots.len()];
    for service in snapshot.services.values() {
        for range in [service.inside, service.outside] {
            let end = range.offset.saturating_add(range.len) as usize;
            if let Some(owned) = owners.get_mut(range.offset as usize..end) {
                owned.fill(Some(service.service));
            }
        }
    }
    let slots = snapshot.slots.iter().zip(owners).enumerate();
    let records = slots.filter_map(|(index, (backend, owner))| {
        let record = record()
            .with("index", index)
            .with("backend", *backend)
            .maybe("address", snapshot.backends.get(backend).map(backend_address))
            .with("service", snapshot.service_name(owner?));
        Some(record)
    });
    records.collect()
}

fn backend_address(backend: &Backend) -> String {
    let socket = SocketAddr::new(backend.addr.to_ip(), backend.port.number());
    words::socket(socket, backend.proto)
}

fn backends(snapshot: &Snapshot) -> Vec<Record> {
    const FLAGS: [(u8, &str); 3] = [
        (backend::LOCAL, "local"),
        (backend::IN_CLUSTER_LIST, "inClusterList"),
        (backend::IN_LOCAL_LIST, "inLocalList"),
    ];
    let one = |(&index, backend): (&u32, &Backend)| {
        let owned = backend.service != 0;
        record()
            .with("index", index)
            .with("address", backend.addr.to_ip().to_string())
            .with("port", backend.port.number())
            .with("protocol", words::protocol(backend.proto))
            .with("generation", backend.generation)
            .with("alive", backend.generation.is_multiple_of(2))
            .with("epoch", backend.epoch)
            .with("flags", bits(backend.flags, &FLAGS))
            .maybe("service", owned.then(|| snapshot.service_name(backend.service)))
    };
    snapshot.backends.iter().map(one).collect()
}

fn flow_entries(snapshot: &Snapshot, shown: fn(&Flow) -> bool) -> Vec<Record> {
    let flows = snapshot.flows();
    let shown = flows.iter().filter(|flow| shown(flow));
    shown.map(|flow| flow_entry(snapshot, flow)).collect()
}

fn flow_entry(snapshot: &Snapshot, flow: &Flow) -> Record {
    const SEEN: [(u8, &str); 4] = [
        (seen::OPEN, "open"),
        (seen::ACK, "ack"),
        (seen::FIN, "fin"),
        (seen::RST, "rst"),
    ];
    let backend = snapshot.backends.get(&flow.backend);
    record()
        .with("protocol", words::protocol(flow.key.proto))
        .with("source", flow.key.src.to_string())
        .with("destination", flow.key.dst.to_string())
        .with("newSource", flow.rewritten.src.to_string())
        .with("newDestination", flow.rewritten.dst.to_string())
        .with("reply", flow.reply)
        .with("hook", flows::hook(flow.class))
        .with("forward", flows::forward(flow.forward))
        .with("device", flow.ifindex)
        .with("nextHop", words::mac(flow.next_hop))
        .with("sourceMac", words::mac(flow.source_mac))
        .with("own", bits(flow.own, &SEEN))
        .with("peer", bits(flow.peer, &SEEN))
        .with("backend", flow.backend)
        .with("generation", flow.generation)
        .maybe("idleSeconds", snapshot.seconds_since(flow.last))
        .with("live", snapshot.is_live(flow))
        .with("mirrorHook", flows::hook(class_of(flow.mirror)))
        .with("mirrorForward", flows::forward(forward_of(flow.mirror)))
        .with("sequence", flow.seq)
        .maybe(
            "service",
            backend.map(|backend| snapshot.service_name(backend.service)),
        )
}

fn source_ranges(snapshot: &Snapshot) -> Vec<Record> {
    let mut ranges = snapshot.source_ranges.clone();
    ranges.sort_by_key(|(key, _)| (key.bits.set, key.network(), *key));
    let records = ranges.iter().map(|(key, owner)| {
        let range = match key.network() {
            Some((network, len)) => format!("{network}/{len}"),
            None => format!("{} bits of {}", key.prefix_len, key.bits.addr.to_ip()),
        };
        record()
            .with("set", key.bits.set)
            .with("range", range)
            .with("service", snapshot.service_name(*owner))
    });
    records.collect()
}

fn affinity(snapshot: &Snapshot) -> Vec<Record> {
    let mut entries = snapshot.affinity.clone();
    entries.sort_by_key(|(key, _)| (key.service, key.client.to_ip()));
    let records = entries.iter().map(|(key, value)| {
        record()
            .with("service", snapshot.service_name(key.service))
            .with("id", key.service)
            .with("client", key.client.to_ip().to_string())
            .with("backend", value.backend)
            .maybe(
                "address",
                snapshot.backends.get(&value.backend).map(backend_address),
            )
            .with("epoch", value.epoch)
            .maybe("idleSeconds", snapshot.seconds_since(value.last_used))
    });
    records.collect()
}

fn node_addrs(snapshot: &Snapshot) -> Vec<Record> {
    let mut addresses: Vec<(IpAddr, u32)> = snapshot
        .node_addrs
        .iter()
        .map(|(addr, flags)| (addr.to_ip(), *flags))
        .collect();
    addresses.sort();
    let one = |(address, flags): (IpAddr, u32)| {
        record()
            .with("address", address.to_string())
            .with("nodePorts", flags & NODE_PORTS != 0)
    };
    addresses.into_iter().map(one).collect()
}

/// Bits with the addresses that set them; one without waits for the last flow that needs it.
fn prefilter(snapshot: &Snapshot) -> Vec<Record> {
    let frontends = snapshot.frontends.iter().map(|(key, _)| key.addr);
    let backends = snapshot.backends.values().map(|backend| backend.addr);
    let mut setters: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
    for addr in frontends.chain(backends) {
        setters
            .entry(lb_common::prefilter::bit(addr))
            .or_default()
            .insert(addr.to_ip());
    }
    let record = |&bit: &u32| {
        let addresses = setters.remove(&bit).unwrap_or_default();
        record().with("bit", bit).with("addresses", strings(addresses))
    };
    snapshot.prefilter.iter().map(record).collect()
}

fn device_entries(snapshot: &Snapshot) -> Vec<Record> {
    let records = snapshot.devices.iter().map(|(&ifindex, device)| {
        record()
            .with("ifindex", ifindex)
            .with("name", snapshot.device_name(ifindex))
            .with("kind", devices::kind(device.kind()))
            .with("mac", words::mac(device.mac()))
            .with("xdpTransmit", device.flags() & device::XDP_TX != 0)
            .with("sourceAddresses", strings(devices::source_addresses(device)))
    });
    records.collect()
}

fn service_stats(snapshot: &Snapshot) -> Vec<Record> {
    let records = snapshot.service_stats.iter().map(|(&id, stats)| {
        record()
            .with("service", snapshot.service_name(id))
            .with("id", id)
            .with("connections", stats.connections)
            .with("packets", stats.packets)
            .with("bytes", stats.bytes)
            .with("refused", stats.refused)
    });
    records.collect()
}

/// Every reason, also those that never occurred: a list of what can happen.
fn reasons(snapshot: &Snapshot) -> Vec<Record> {
    let counted = |(number, packets): (usize, &u64)| {
        let row = super::reasons::row(number, *packets);
        record()
            .with("number", number)
            .with("reason", row.reason)
            .with("verdict", row.disposition)
            .with("packets", *packets)
    };
    let known = |number: usize, packets: u64| number < Reason::ALL.len() || packets != 0;
    let shown = snapshot
        .reasons
        .iter()
        .enumerate()
        .filter(|(number, packets)| known(*number, **packets));
    shown.map(counted).collect()
}

fn settings(snapshot: &Snapshot) -> Vec<Record> {
    let records = snapshot.settings.iter().map(|settings| {
        let timeouts = &settings.timeouts;
        let last_port =
            u32::from(settings.snat_port_first) + u32::from(settings.snat_port_count).saturating_sub(1);
        // The hash's seed stays out: who knows it can fill a bucket of the flow table from afar.
        record()
            .with("layout", settings.layout)
            .with("hz", settings.hz)
            .with("jiffies", settings.jiffies)
            .with("monotonicNs", settings.monotonic_ns)
            .with("flow4Buckets", settings.flow4_buckets)
            .with("flow6Buckets", settings.flow6_buckets)
            .with("snatPorts", format!("{}-{last_port}", settings.snat_port_first))
            .with("rejectsPerSecond", settings.rejects_per_second)
            .with("tcpOpenSeconds", timeouts.tcp_open)
            .with("tcpEstablishedSeconds", timeouts.tcp_established)
            .with("tcpClosingSeconds", timeouts.tcp_closing)
            .with("tcpResetSeconds", timeouts.tcp_reset)
            .with("udpSeconds", timeouts.udp)
            .with("udpStreamSeconds", timeouts.udp_stream)
    });
    records.collect()
}

fn names(snapshot: &Snapshot) -> Vec<Record> {
    let records = snapshot.names.iter().map(|(&id, name)| {
        record()
            .with("id", id)
            .with("name", text_of(name))
            .with("port", Port(name.port).number())
            .with("protocol", words::protocol(name.proto))
            .with("family", name.family)
    });
    records.collect()
}

fn locks(held: &BTreeMap<u32, u32>) -> Vec<Record> {
    held.iter()
        .map(|(&bucket, &word)| record().with("bucket", bucket).with("word", word))
        .collect()
}

fn tx_devices(snapshot: &Snapshot) -> Vec<Record> {
    let records = snapshot.tx_devices.iter().map(|(&key, &ifindex)| {
        record()
            .with("key", key)
            .with("ifindex", ifindex)
            .with("name", snapshot.device_name(ifindex))
    });
    records.collect()
}

fn reject_tokens(snapshot: &Snapshot) -> Vec<Record> {
    let cpus = snapshot.reject_tokens.iter().enumerate();
    cpus.map(|(cpu, [first, second])| {
        record()
            .with("cpu", cpu)
            .with("words", format!("{first} {second}"))
    })
    .collect()
}

type StageNames = (Stage, &'static str, &'static str);

fn stages(programs: &BTreeMap<u32, u32>, name: fn(StageNames) -> &'static str) -> Vec<Record> {
    let records = Stage::ALL.into_iter().filter_map(|stage| {
        let index = stage.0 as u32;
        let program = programs.get(&index)?;
        Some(
            record()
                .with("stage", index)
                .with("program", name(stage))
                .with("id", *program),
        )
    });
    records.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_has_its_records() {
        let expected = [
            "frontends",
            "services",
            "slots",
            "backends",
            "flows",
            "flows4",
            "flows6",
            "source_ranges",
            "affinity",
            "node_addrs",
            "prefilter",
            "devices",
            "service_stats",
            "reasons",
            "settings",
            "names",
            "locks4",
            "locks6",
            "tx_devices",
            "reject_tokens",
            "xdp_stages",
            "tc_stages",
        ];
        let names: Vec<&str> = ALL.iter().map(|map| map.name).collect();
        assert_eq!(names, expected);
        for map in ALL {
            let merged = map.name == FLOWS;
            assert!(
                merged || map.needs.contains(&map.name),
                "{} does not read itself",
                map.name
            );
        }
    }

    #[test]
    fn a_record_reads_as_text_and_as_json_in_the_same_order() {
        let record = record()
            .with("b", 1)
            .with("a", "x y")
            .with("list", vec!["p", "q"]);
        assert_eq!(record.to_string(), "b=1 a=x y list=p,q");
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"b":1,"a":"x y","list":["p","q"]}"#
        );
    }
}
