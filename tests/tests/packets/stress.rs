//! The flow table under two CPUs: XDP on one, tc on the other, more flows than places, and user space reading along.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::packets::storm::Way;
use lab::packets::{Datapath, Family, Flow, Options, Storm, Table, TablePlace, Testbed, Who};
use lb_common::flow::{Forward, HookClass, WAYS};
use lb_common::reason::Reason;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Buckets of the table: 32 places, for 64 flows of two entries each.
const BUCKETS: u32 = 8;
const FLOWS: u32 = 64;
/// How often it blows for each family, and how long: the table is looked at whenever it has ceased.
const ROUNDS: u32 = 20;
const ROUND: Duration = Duration::from_millis(200);
/// Packets between two looks at the clock.
const GUST: u32 = 10_000;

/// Tests that want all CPUs for themselves.
mod heavy {
    use super::*;

    #[test]
    fn two_cpus_on_one_table_never_mix_flows() {
        // The whole machine: the testbed stays on one CPU.
        let cpus = allowed_cpus().expect("the CPU affinity");
        let bed = Testbed::new().expect("the testbed");
        let mut datapath = Datapath::load(Options {
            flow_buckets: BUCKETS,
            // So few that connections compete for the tuples of their replies.
            snat_ports: (61_000, 64),
            // A refresh every few ticks.
            hz: 4,
            rejects_per_second: 0,
            ..Options::default()
        })
        .expect("the kernel object");
        for family in Family::BOTH {
            datapath.reset(&bed).expect("empty maps");
            datapath
                .install(family, &Storm::services())
                .expect("the services");
            storm(&mut datapath, &bed, family, &cpus).unwrap_or_else(|error| panic!("{family:?}: {error:#}"));
        }
    }
}

fn storm(datapath: &mut Datapath, bed: &Testbed, family: Family, cpus: &[usize]) -> Result<()> {
    let [first, second, ..] = cpus else {
        anyhow::bail!("two CPUs are needed, these may be used: {cpus:?}");
    };
    let mut storm = Storm::new(datapath, bed, family, FLOWS)?;
    let table = datapath.table(family)?;
    let before = datapath.reasons()?;
    let mut read = Read::default();
    let mut halves = Halves::default();
    for number in 0..ROUNDS {
        if number == ROUNDS / 2 {
            halves.come_and_go_together()?;
            storm.with_ends()?;
        }
        round(&storm, [*first, *second], || read.all(&storm, &table))?;
        at_rest(datapath, &storm, &table, &mut halves)
            .with_context(|| format!("{:?}, {read:?}", storm.tally()))?;
    }

    let tally = storm.tally()?;
    let reasons: BTreeMap<_, _> = datapath
        .reasons()?
        .into_iter()
        .map(|(reason, n)| (reason, n - before[&reason]))
        .filter(|(_, n)| *n != 0)
        .collect();
    let counted = |reason| reasons.get(&reason).copied().unwrap_or(0);
    let story = format!("{tally:?}, {read:?}, {halves:?}, {reasons:?}");
    println!("{family:?}: {story}");

    ensure!(
        tally.wrong == 0,
        "wrong packets: {:#?}; {story}",
        storm.wrong_packets()?
    );
    ensure!(read.wrong.is_empty(), "wrong entries: {:#?}", read.wrong);
    // A connection that begins anew on a closing tuple may leave the reply's entry of the old one behind, until that expires.
    ensure!(
        halves.lone_requests <= halves.requests / 50,
        "requests alone: {story}"
    );
    // It was a storm: of everything there was much.
    for (what, n) in [
        ("requests rewritten", tally.requests),
        ("replies rewritten", tally.replies),
        ("packets left alone", tally.untouched),
        ("entries read", read.entries),
        ("evictions", counted(Reason::Evicted)),
    ] {
        ensure!(n > 1000, "only {n} {what}: {story}");
    }
    // Locks are held for less than a microsecond: what gives up waiting for one is an exception.
    ensure!(
        counted(Reason::Busy) < tally.sent / 10,
        "too many packets found the table busy: {story}"
    );
    // Every packet has one reason, or none where the hot program was enough; evictions come on top.
    let one_each: u64 = reasons.values().sum::<u64>() - counted(Reason::Evicted);
    ensure!(one_each <= tally.sent, "more reasons than packets: {story}");
    let sent_on: u64 = [Reason::Sent, Reason::SentNeighbour, Reason::ToStack]
        .map(counted)
        .iter()
        .sum();
    // The last packet of each gust is not looked at.
    let unseen = tally.sent - tally.untouched - tally.requests - tally.replies;
    ensure!(
        sent_on <= tally.requests + tally.replies + unseen && unseen <= tally.sent.div_ceil(u64::from(GUST)),
        "more packets counted as sent than were rewritten: {story}"
    );
    Ok(())
}

/// Both CPUs for a while; `meanwhile` is called over and over.
fn round(storm: &Storm, [first, second]: [usize; 2], mut meanwhile: impl FnMut()) -> Result<()> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let blow = |way, cpu| {
            let over = &over;
            scope.spawn(move || -> Result<()> {
                pin_to(cpu)?;
                while !over.load(Ordering::Relaxed) {
                    storm.blow(way, GUST)?;
                }
                Ok(())
            })
        };
        let threads = [blow(Way::Xdp, first), blow(Way::Tc, second)];
        let until = Instant::now() + ROUND;
        while Instant::now() < until && threads.iter().all(|thread| !thread.is_finished()) {
            meanwhile();
        }
        over.store(true, Ordering::Relaxed);
        let ended = threads.map(|thread| thread.join().expect("a thread that does not panic"));
        ended.into_iter().collect()
    })
}

/// What the reader met.
#[derive(Debug, Default)]
struct Read {
    entries: u64,
    busy: u64,
    wrong: Vec<String>,
}

impl Read {
    /// Reads the whole table once.
    fn all(&mut self, storm: &Storm, table: &Table) {
        for (_, _, place) in table.places() {
            match place {
                TablePlace::Unused | TablePlace::TakenBack => {}
                TablePlace::Busy => self.busy += 1,
                TablePlace::Flow(flow) => {
                    self.entries += 1;
                    if let Err(error) = is_whole(storm, &flow)
                        && self.wrong.len() < 10
                    {
                        self.wrong.push(format!("{error:#}: {flow:?}"));
                    }
                }
            }
        }
    }
}

/// Checks that all of an entry belongs to one flow: everything follows from the client's address and port.
fn is_whole(storm: &Storm, entry: &Flow) -> Result<()> {
    let client = if entry.reply { entry.new_dst } else { entry.src };
    let flow = storm.flow_of(client).context("of no client's")?;
    ensure!(entry.proto == Storm::PROTO, "another protocol");
    ensure!(
        entry.state.backend == flow.index && entry.state.generation == 2,
        "another backend than its service's"
    );
    let (vip, far) = if entry.reply {
        (entry.new_src, entry.src)
    } else {
        (entry.dst, entry.new_dst)
    };
    ensure!(
        vip == flow.vip && far == flow.backend,
        "another service or backend"
    );
    let seen_from = if entry.reply { entry.dst } else { entry.new_src };
    if flow.local {
        ensure!(seen_from == client, "the source should have been kept");
    } else {
        let family = if client.is_ipv4() { Family::V4 } else { Family::V6 };
        let node = Who::Node.ip(family);
        ensure!(
            seen_from.ip() == node && (61_000..61_064).contains(&seen_from.port()),
            "rewritten to a source that is not ours"
        );
    }
    let class = |reply| {
        if reply && flow.local {
            HookClass::Egress
        } else {
            HookClass::UplinkIngress
        }
    };
    let goes_on = |forward| flow.local == (forward == Forward::Stack);
    ensure!(
        entry.class == class(entry.reply) && goes_on(entry.forward),
        "another instruction"
    );
    let (mirror_class, mirror_forward, mirror_reply) = entry.mirror;
    ensure!(
        mirror_reply != entry.reply && mirror_class == class(mirror_reply) && goes_on(mirror_forward),
        "another other half"
    );
    let addresses = delta(
        &[octets(entry.src), octets(entry.dst)].concat(),
        &[octets(entry.new_src), octets(entry.new_dst)].concat(),
    );
    let port = |address: std::net::SocketAddr| address.port().to_be_bytes();
    let ports = delta(
        &[port(entry.src), port(entry.dst)].concat(),
        &[port(entry.new_src), port(entry.new_dst)].concat(),
    );
    let (by_addresses, by_ports) = entry.deltas;
    ensure!(
        u32::from(by_addresses) % 0xffff == addresses && u32::from(by_ports) % 0xffff == ports,
        "deltas of another rewrite: {addresses:#x} and {ports:#x} are right"
    );
    Ok(())
}

/// What replacing bytes adds to a one's complement sum over native half-words. Such sums are numbers modulo 0xffff.
fn delta(old: &[u8], new: &[u8]) -> u32 {
    let sum = |bytes: &[u8]| -> u32 {
        let halves = bytes.chunks_exact(2);
        halves
            .map(|half| u32::from(u16::from_ne_bytes([half[0], half[1]])))
            .sum()
    };
    // A half-word's complement is 0xffff less it: nothing less it, modulo 0xffff.
    (sum(new) + 0xffff * 64 - sum(old)) % 0xffff
}

fn octets(address: std::net::SocketAddr) -> Vec<u8> {
    match address.ip() {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Checks the table when nobody writes it any more.
fn at_rest(datapath: &mut Datapath, storm: &Storm, table: &Table, halves: &mut Halves) -> Result<()> {
    let locked = datapath.locked_buckets(table.family())?;
    ensure!(locked.is_empty(), "locks still taken: {locked:?}");
    let mut places = BTreeMap::new();
    let flows: Vec<_> = table.flows().collect();
    for (bucket, way, place) in table.places() {
        ensure!(
            place != TablePlace::Busy,
            "bucket {bucket}, {way}: an odd sequence stays"
        );
        let Some(flow) = place.flow() else { continue };
        is_whole(storm, &flow).with_context(|| format!("at rest: {flow:?}"))?;
        if let Some(other) = places.insert((flow.src, flow.dst), (bucket, way)) {
            anyhow::bail!("{flow:?} stands twice, in {other:?} and {:?}", (bucket, way));
        }
        let (first, second) = datapath.buckets_of(flow.proto, flow.src, flow.dst);
        ensure!(
            bucket == first || bucket == second,
            "{flow:?} stands in neither of its buckets"
        );
        if bucket != first {
            ensure!(
                table.bucket(first)[WAYS - 1] != TablePlace::Unused,
                "{flow:?} cannot be found behind a bucket that was never full"
            );
        }
        let number = if flow.reply {
            &mut halves.replies
        } else {
            &mut halves.requests
        };
        *number += 1;
        let has_other = flows.iter().any(|(_, _, other)| {
            (other.src, other.dst) == (flow.new_dst, flow.new_src)
                && (other.new_src, other.new_dst) == (flow.dst, flow.src)
        });
        if !has_other {
            let number = if flow.reply {
                &mut halves.lone_replies
            } else {
                &mut halves.lone_requests
            };
            *number += 1;
        }
    }
    Ok(())
}

impl Halves {
    /// A lone half is one whose other half gave way while its bucket stayed locked by the other CPU: a rare thing, which the next
    /// refresh mends.
    fn come_and_go_together(&self) -> Result<()> {
        ensure!(
            self.lone_requests + self.lone_replies <= self.requests / 50,
            "halves without their others: {self:?}"
        );
        Ok(())
    }
}

/// The halves of flows that were met at rest.
#[derive(Debug, Default)]
struct Halves {
    requests: u32,
    replies: u32,
    lone_requests: u32,
    lone_replies: u32,
}

fn allowed_cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let all = 0..CpuSet::count();
    Ok(all.filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect())
}

/// Keeps the calling thread on a CPU.
fn pin_to(cpu: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &one).context("pinning to a CPU")
}
