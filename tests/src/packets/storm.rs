//! Many flows through a small table, from several CPUs at once, every packet checked by the generator (see the storm's
//! programs).

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{Program, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use lb_common::layout::programs::{TC_UPLINK_INGRESS, XDP_UPLINK};
use lb_common::protocol;

use self::storm_params::{Counts, LOCAL_SERVICES, SENT, SERVICES, Wrong};
use super::datapath::Datapath;
use super::packet::{Packet, flags};
use super::run::{sk_buff, xdp_md};
use super::service::Service;
use super::testbed::Testbed;
use super::who::{Family, Mac, Who};
use crate::object;

#[path = "../../../lb-ebpf/src/bin/bench/storm_params.rs"]
mod storm_params;

// SAFETY: integers and arrays of them; the fields' sizes add up to the structs', as asserted below.
unsafe impl aya::Pod for storm_params::Storm {}
// SAFETY: as above.
unsafe impl aya::Pod for Counts {}
// SAFETY: as above.
unsafe impl aya::Pod for Wrong {}
const _: () = assert!(size_of::<storm_params::Storm>() == 5 * 16 + 3 * 12 + 2 * 4 + 6 * 2);
const _: () = assert!(size_of::<Counts>() == 5 * 8 && size_of::<Wrong>() == 22 * 4);

const CLIENT_PORT: u16 = 20_000;
const VIP_PORT: u16 = 80;
const BACKEND_PORT: u16 = 8000;

/// Where a storm comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// XDP of the first uplink.
    Xdp,
    /// tc ingress of the same.
    Tc,
}

/// What became of a storm's packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets that were handed to the programs.
    pub sent: u64,
    /// They were left as they were.
    pub untouched: u64,
    /// Requests that went on to the one backend of their service.
    pub requests: u64,
    /// Replies that went back to a client of their service: while a request goes on, its flow may give way to another client's.
    pub replies: u64,
    /// Anything else: part of another flow's instruction, a checksum that is off.
    pub wrong: u64,
}

/// One flow of a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormFlow {
    /// The client.
    pub client: SocketAddr,
    /// What it asks.
    pub vip: SocketAddr,
    /// The service's one backend.
    pub backend: SocketAddr,
    /// Index of the backend.
    pub index: u32,
    /// Whether the backend is on the node: then the source is kept.
    pub local: bool,
}

/// A storm of one family.
#[derive(Debug)]
pub struct Storm {
    ebpf: Ebpf,
    family: Family,
    flows: u32,
    uplink: u32,
}

impl Storm {
    /// The services of a storm.
    #[must_use]
    pub fn services() -> Vec<Service> {
        let port = |base: u16, service: u32| base + u16::try_from(service).expect("a few services");
        let service =
            |n| Service::tcp(Who::Vip, port(VIP_PORT, n)).backend(backend(n), port(BACKEND_PORT, n));
        (0..SERVICES).map(service).collect()
    }

    /// Prepares a storm of `flows` flows that never end, a power of two, against programs whose maps hold [`Self::services`].
    ///
    /// # Errors
    /// When the kernel refuses something.
    pub fn new(datapath: &Datapath, bed: &Testbed, family: Family, flows: u32) -> Result<Self> {
        ensure!(
            flows.is_power_of_two() && flows <= 0x8000,
            "{flows} flows cannot be numbered"
        );
        let mut ebpf = EbpfLoader::new()
            .load(object::BENCH)
            .context("opening the generators' object")?;
        for (way, entry_point) in [(Way::Xdp, XDP_UPLINK), (Way::Tc, TC_UPLINK_INGRESS)] {
            let name = way.generator(family);
            let target = format!("{}_target", way.name());
            let map = ebpf
                .map_mut(&target)
                .with_context(|| format!("no map {target}"))?;
            let fd = match datapath.program(entry_point)? {
                Program::Xdp(program) => program.fd()?.try_clone()?,
                Program::SchedClassifier(program) => program.fd()?.try_clone()?,
                _ => return Err(anyhow!("{entry_point} is neither XDP nor tc")),
            };
            ProgramArray::try_from(map)?.set(0, &fd, 0)?;
            match ebpf
                .program_mut(&name)
                .with_context(|| format!("no program {name}"))?
            {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => return Err(anyhow!("{name} is neither XDP nor tc")),
            }
            .with_context(|| format!("loading {name}"))?;
        }
        let frame = frame(family);
        let ttl_at = if family == Family::V4 { 22 } else { 20 };
        let ports = datapath.snat_ports();
        let params = storm_params::Storm {
            client: words(Who::Crowd(0).ip(family)),
            vip: words(Who::Vip.ip(family)),
            node: words(Who::Node.ip(family)),
            pod: words(Who::Pod.ip(family)),
            remote: words(Who::RemotePod.ip(family)),
            macs: macs(Mac::Client, Mac::Uplink),
            request_macs: macs(Mac::Uplink, Mac::RemoteNode),
            reply_macs: macs(Mac::Uplink, Mac::Client),
            mask: flows - 1,
            ends: 0,
            client_port: CLIENT_PORT,
            vip_port: VIP_PORT,
            backend_port: BACKEND_PORT,
            snat_first: ports.start,
            snat_count: ports.end - ports.start,
            ttl_word: u16::from_ne_bytes([frame[ttl_at], frame[ttl_at + 1]]),
        };
        let mut this = Self {
            ebpf,
            family,
            flows,
            uplink: bed.uplink(),
        };
        this.params()?.set(0, params, 0)?;
        Ok(this)
    }

    /// From now on connections are also closed and reset, and begun again after that.
    ///
    /// # Errors
    /// When the generators cannot be told.
    pub fn with_ends(&mut self) -> Result<()> {
        let mut map = self.params()?;
        let params = map.get(&0, 0)?;
        Ok(map.set(0, storm_params::Storm { ends: 1, ..params }, 0)?)
    }

    fn params(&mut self) -> Result<Array<&mut MapData, storm_params::Storm>> {
        Ok(Array::try_from(
            self.ebpf.map_mut("storm").context("no map storm")?,
        )?)
    }

    /// Sends `packets` on the calling thread's CPU.
    ///
    /// # Errors
    /// When the kernel refuses the run.
    pub fn blow(&self, way: Way, packets: u32) -> Result<()> {
        let name = way.generator(self.family);
        let frame = frame(self.family);
        let context = match way {
            Way::Xdp => xdp_md(frame.len(), self.uplink),
            Way::Tc => sk_buff(self.uplink, self.uplink),
        };
        let options = TestRunOptions {
            data_in: Some(&frame),
            ctx_in: Some(&context),
            repeat: packets,
            ..TestRunOptions::default()
        };
        match self.ebpf.program(&name) {
            Some(Program::Xdp(program)) => program.test_run(options),
            Some(Program::SchedClassifier(program)) => program.test_run(options),
            _ => return Err(anyhow!("no program {name}")),
        }
        .with_context(|| format!("running {name}"))?;
        Ok(())
    }

    /// What has become of all packets so far.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn tally(&self) -> Result<Tally> {
        let map = self.ebpf.map("storm_counts").context("no map storm_counts")?;
        let counts = PerCpuArray::<_, Counts>::try_from(map)?.get(&0, 0)?;
        Ok(counts.iter().fold(Tally::default(), |sum, counts| Tally {
            sent: sum.sent + counts.sent,
            untouched: sum.untouched + counts.untouched,
            requests: sum.requests + counts.requests,
            replies: sum.replies + counts.replies,
            wrong: sum.wrong + counts.wrong,
        }))
    }

    /// Wrong packets in words, the last of each CPU that had one.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn wrong_packets(&self) -> Result<Vec<String>> {
        let map = self.ebpf.map("storm_wrong").context("no map storm_wrong")?;
        let wrong = PerCpuArray::<_, Wrong>::try_from(map)?.get(&0, 0)?;
        let words = |wrong: &Wrong| {
            let reply = wrong.mark & storm_params::REPLY != 0;
            let number = wrong.mark & (self.flows - 1);
            let bytes: Vec<u8> = wrong.frame.iter().flat_map(|word| word.to_ne_bytes()).collect();
            format!(
                "flow {number} (reply: {reply}), {:?}: {bytes:02x?}",
                self.flow(number)
            )
        };
        Ok(wrong
            .iter()
            .filter(|wrong| wrong.mark & SENT != 0)
            .map(words)
            .collect())
    }

    /// Flow `number`.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn flow(&self, number: u32) -> StormFlow {
        assert!(number < self.flows);
        let service = number >> 3 & (SERVICES - 1);
        let port = |base: u16, n: u32| base + u16::try_from(n).expect("less than 0x8000");
        let client = Who::Crowd(u8::try_from(number & 7).expect("three bits"));
        StormFlow {
            client: SocketAddr::new(client.ip(self.family), port(CLIENT_PORT, number)),
            vip: SocketAddr::new(Who::Vip.ip(self.family), port(VIP_PORT, service)),
            backend: SocketAddr::new(backend(service).ip(self.family), port(BACKEND_PORT, service)),
            index: service + 1,
            local: service < LOCAL_SERVICES,
        }
    }

    /// The flow of a client.
    #[must_use]
    pub fn flow_of(&self, client: SocketAddr) -> Option<StormFlow> {
        let number = u32::from(client.port().checked_sub(CLIENT_PORT)?);
        (number < self.flows)
            .then(|| self.flow(number))
            .filter(|flow| flow.client == client)
    }

    /// Protocol of all flows.
    pub const PROTO: u8 = protocol::TCP;
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }

    fn generator(self, family: Family) -> String {
        let number = if family == Family::V4 { 4 } else { 6 };
        format!("{}_storm{number}", self.name())
    }
}

fn backend(service: u32) -> Who {
    if service < LOCAL_SERVICES {
        Who::Pod
    } else {
        Who::RemotePod
    }
}

/// The frame whose headers the generator writes.
fn frame(family: Family) -> Vec<u8> {
    Packet::tcp((Who::Crowd(0), CLIENT_PORT), (Who::Vip, VIP_PORT), flags::ACK)
        .payload(&[0; 10])
        .frame(family)
}

/// An address as words of the header; the first alone counts for IPv4.
fn words(ip: IpAddr) -> [u32; 4] {
    let mut bytes = [0; 16];
    match ip {
        IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes = v6.octets(),
    }
    bytemuck::cast(bytes)
}

fn macs(src: Mac, dst: Mac) -> [u32; 3] {
    let mut bytes = [0; 12];
    bytes[..6].copy_from_slice(&dst.bytes());
    bytes[6..].copy_from_slice(&src.bytes());
    bytemuck::cast(bytes)
}
