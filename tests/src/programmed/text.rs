//! Frontends and backends as lines, from the records of `xvip dump`.
//!
//! Indices are the reconciler's own business: they are followed, not shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Frontends, an empty line, backends; `dump` gives the records of a map by its name.
///
/// # Errors
/// What `dump` says, and records that do not fit together.
pub fn lines(dump: impl Fn(&str) -> Result<Vec<Value>>) -> Result<Vec<String>> {
    let mut lines = frontends(&dump)?;
    lines.push(String::new());
    lines.extend(backends(&dump)?);
    Ok(lines)
}

/// A line a frontend: the dumps of frontends, services, slots and source ranges, joined by their indices.
fn frontends(dump: impl Fn(&str) -> Result<Vec<Value>>) -> Result<Vec<String>> {
    let services = by_index(dump("services")?)?;
    let slots = by_index(dump("slots")?)?;
    let source_ranges = dump("source_ranges")?;
    let sources = by_set(&source_ranges);
    let lines = dump("frontends")?.into_iter().map(|frontend| {
        ensure!(frontend["tagGood"] == true, "a stale tag: {frontend}");
        let index = frontend["record"].as_u64().context("a frontend without record")?;
        let service = services
            .get(&index)
            .with_context(|| format!("no record for {frontend}"))?;
        let mut line = format!("frontend {} {}", socket(&frontend)?, text(&service["service"]));
        let flags: BTreeSet<&str> = words(&service["flags"]).collect();
        if flags.contains("unknownPort") {
            return Ok(format!("{line} reject"));
        }
        for (side, drops, local) in [
            ("inside", "insideDrop", "insideLocalList"),
            ("outside", "outsideDrop", "outsideLocalList"),
        ] {
            let mut endpoints = endpoints(&slots, text(&service[side]))?;
            if endpoints.is_empty() {
                endpoints = if flags.contains(drops) { "drop" } else { "reject" }.to_owned();
            }
            let list = if flags.contains(local) { "local" } else { "cluster" };
            let _ = write!(line, " {side}={list}:{endpoints}");
        }
        let rewrites = flags
            .iter()
            .filter_map(|flag| flag.strip_prefix("rewrite"))
            .map(str::to_lowercase);
        let _ = write!(line, " rewrites={}", rewrites.collect::<Vec<_>>().join(","));
        if service["affinitySeconds"] != 0 {
            let _ = write!(line, " affinity={}s", service["affinitySeconds"]);
        }
        if let Some(set) = service["sources"].as_u64() {
            let ranges = sources
                .get(&set)
                .with_context(|| format!("no ranges for {service}"))?;
            let _ = write!(line, " sources={}", ranges.join(","));
        }
        Ok(line)
    });
    lines.collect()
}

/// A line a backend that is alive, by Service and address. Those on their way out stay in the map until no flow names them.
fn backends(dump: impl Fn(&str) -> Result<Vec<Value>>) -> Result<Vec<String>> {
    let alive = dump("backends")?
        .into_iter()
        .filter(|backend| backend["alive"] == true);
    let lines: Result<BTreeSet<String>> = alive
        .map(|backend| {
            let flags: Vec<_> = words(&backend["flags"]).collect();
            Ok(format!(
                "backend {} {} {}",
                text(&backend["service"]),
                socket(&backend)?,
                flags.join(",")
            ))
        })
        .collect();
    Ok(lines?.into_iter().collect())
}

/// The source ranges of each set.
fn by_set(records: &[Value]) -> BTreeMap<u64, Vec<&str>> {
    let mut sets: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for record in records {
        let set = record["set"].as_u64().unwrap_or_default();
        sets.entry(set).or_default().push(text(&record["range"]));
    }
    sets
}

fn by_index(records: Vec<Value>) -> Result<BTreeMap<u64, Value>> {
    let indexed = records
        .into_iter()
        .map(|record| Ok((record["index"].as_u64().context("no index")?, record)));
    indexed.collect()
}

/// `OFFSET+LENGTH` as the addresses that stand there.
fn endpoints(slots: &BTreeMap<u64, Value>, range: &str) -> Result<String> {
    let (offset, length) = range
        .split_once('+')
        .with_context(|| format!("no range: {range:?}"))?;
    let (offset, length): (u64, u64) = (offset.parse()?, length.parse()?);
    let addresses: Result<Vec<&str>> = (offset..offset + length)
        .map(|index| {
            let slot = slots.get(&index).with_context(|| format!("no slot {index}"))?;
            let address = text(&slot["address"]);
            Ok(address.split_once('/').map_or(address, |(socket, _)| socket))
        })
        .collect();
    Ok(addresses?.join(","))
}

/// `address:port/PROTOCOL` of a record.
fn socket(record: &Value) -> Result<String> {
    let address: IpAddr = text(&record["address"]).parse()?;
    let port = u16::try_from(record["port"].as_u64().context("no port")?)?;
    Ok(format!(
        "{}/{}",
        SocketAddr::new(address, port),
        text(&record["protocol"])
    ))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}
