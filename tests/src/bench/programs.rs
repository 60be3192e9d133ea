//! The benchmark's kernel programs, and the product's behind them.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{Program, ProgramFd, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};

use self::params::Params;
use super::datapath::{Hook, Subject};
use crate::object;
use crate::packets::{Datapath, Family, Mac, Who};

#[path = "../../../lb-ebpf/src/bin/bench/params.rs"]
mod params;

// SAFETY: integers and arrays of them; the fields' sizes add up to the struct's, as asserted below.
unsafe impl aya::Pod for Params {}
const _: () = assert!(size_of::<Params>() == 44 + 16 + 32 + 4 + 12 + 4);

/// Port of the floor's rewritten destination.
const BACKEND_PORT: u16 = 8080;

/// What a run of packets looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traffic {
    /// The family of all of them.
    pub(super) family: Family,
    /// Where they go.
    pub(super) to: (Who, u16),
    /// How many flows, a power of two.
    pub(super) flows: u32,
}

/// The loaded benchmark object.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    pub(super) fn load() -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .load(object::BENCH)
            .context("opening the benchmark's object")?;
        for (name, program) in ebpf.programs_mut() {
            match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => continue,
            }
            .with_context(|| format!("loading {name}"))?;
        }
        Ok(Self { ebpf })
    }

    /// Puts a program behind the generators of its hook.
    pub(super) fn put_under_test(
        &mut self,
        datapath: &Datapath,
        hook: Hook,
        family: Family,
        subject: Subject,
    ) -> Result<()> {
        let number = if family == Family::V4 { 4 } else { 6 };
        let name = hook.name();
        let program = match subject {
            Subject::Empty => self.program(&format!("{name}_empty"))?,
            Subject::Floor => self.program(&format!("{name}_floor{number}"))?,
            Subject::Xvip => datapath.program(hook.entry_point())?,
        };
        let fd = fd_of(program)?;
        let target = format!("{name}_target");
        let map = self
            .ebpf
            .map_mut(&target)
            .with_context(|| format!("no map {target}"))?;
        Ok(ProgramArray::try_from(map)?.set(0, &fd, 0)?)
    }

    /// Describes the packets to come; the first is flow 0's.
    pub(super) fn set_traffic(&mut self, traffic: Traffic, frame: &[u8], ifindex: u32) -> Result<()> {
        let half = |at: usize| u16::from_ne_bytes([frame[at], frame[at + 1]]);
        let (ttl_at, checksum_at, l4) = match traffic.family {
            Family::V4 => (22, 24, 34),
            Family::V6 => (20, 20, 54),
        };
        let family = traffic.family;
        let new_ports = u32::from(61_000_u16.to_be()) | u32::from(BACKEND_PORT.to_be()) << 16;
        let params = Params {
            src: words(Who::Client.ip(family)),
            dst: words(traffic.to.0.ip(family)),
            macs: macs(Mac::Client, Mac::Uplink),
            sport: 1024,
            dport: traffic.to.1.to_be(),
            mask: traffic.flows - 1,
            ttl_word: half(ttl_at),
            ip_checksum: half(checksum_at),
            tcp_checksum: half(l4 + 16),
            pad: 0,
            new_src: words(Who::Node.ip(family)),
            new_dst: words(Who::RemotePod.ip(family)),
            new_ports,
            new_macs: macs(Mac::Uplink, Mac::RemoteNode),
            ifindex,
        };
        let mut map: Array<&mut MapData, Params> = Array::try_from(self.map("params")?)?;
        Ok(map.set(0, params, 0)?)
    }

    /// Starts again with flow 0.
    pub(super) fn rewind(&mut self) -> Result<()> {
        let mut map: Array<&mut MapData, u64> = Array::try_from(self.map("counter")?)?;
        Ok(map.set(0, 0, 0)?)
    }

    /// Sends `repeat` packets through generator and program; returns the nanoseconds for one, and the program's last word.
    pub(super) fn run(
        &self,
        hook: Hook,
        family: Family,
        frame: &[u8],
        context: &[u8],
        repeat: u32,
    ) -> Result<(f64, u32)> {
        let number = if family == Family::V4 { 4 } else { 6 };
        let name = format!("{}_generate{number}", hook.name());
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(context),
            repeat,
            ..Default::default()
        };
        let result = match self.program(&name)? {
            Program::Xdp(program) => program.test_run(options),
            Program::SchedClassifier(program) => program.test_run(options),
            _ => return Err(anyhow!("{name} is neither XDP nor tc")),
        }
        .with_context(|| format!("running {name}"))?;
        ensure!(!result.duration.is_zero(), "{name} took no time at all");
        Ok((result.duration.as_secs_f64() * 1e9, result.return_value))
    }

    fn program(&self, name: &str) -> Result<&Program> {
        self.ebpf
            .program(name)
            .with_context(|| format!("no program {name} in the benchmark's object"))
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }
}

fn fd_of(program: &Program) -> Result<ProgramFd> {
    Ok(match program {
        Program::Xdp(program) => program.fd()?.try_clone()?,
        Program::SchedClassifier(program) => program.fd()?.try_clone()?,
        _ => return Err(anyhow!("a program under test is neither XDP nor tc")),
    })
}

/// An address as words of the header; the first alone counts for IPv4. Host part zero: the generator adds to it.
fn words(ip: IpAddr) -> [u32; 4] {
    let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    match ip {
        IpAddr::V4(v4) => [word(&v4.octets()), 0, 0, 0],
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            [0, 4, 8, 12].map(|at| word(&octets[at..at + 4]))
        }
    }
}

fn macs(src: Mac, dst: Mac) -> [u32; 3] {
    let bytes = [dst.bytes(), src.bytes()].concat();
    [0, 4, 8].map(|at| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes")))
}
