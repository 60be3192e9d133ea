//! One packet through one program, by BPF_PROG_TEST_RUN.

use anyhow::{Context, Result, bail};
use aya::programs::{Program, TestRun, TestRunOptions};
use lb_common::device::LOOPBACK_IFINDEX;
use lb_common::layout::programs;

use super::datapath::Datapath;
use super::packet::source_of;
use super::testbed::Testbed;
use super::who::{Family, Who};

/// Where a packet meets a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// XDP of the first uplink.
    UplinkXdp,
    /// tc ingress of the first uplink.
    UplinkIn,
    /// XDP of the second uplink.
    SecondXdp,
    /// tc ingress of the second uplink.
    SecondIn,
    /// tc egress of the first uplink: what the node forwards.
    UplinkOut,
    /// tc egress of the second uplink: the same.
    SecondOut,
    /// tc egress of the first uplink: what the node's own sockets send.
    HostOut,
    /// tc egress of the loopback device.
    LoopbackOut,
    /// tc ingress of the pod's device: what the pod sends.
    PodIn,
    /// tc egress of the pod's device: what the pod gets.
    PodOut,
}

/// What a program said, whichever hook it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on: XDP_PASS, TC_ACT_UNSPEC.
    Pass,
    /// Dropped: XDP_DROP, TC_ACT_SHOT.
    Drop,
    /// Out of the device it came in by: XDP_TX.
    Transmit,
    /// Out of the device the program named: XDP_REDIRECT, TC_ACT_REDIRECT.
    Redirect,
    /// Anything else: no program of ours says that.
    Other(u32),
}

/// What came of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The program's word.
    pub verdict: Verdict,
    /// The packet as the program left it.
    pub frame: Vec<u8>,
}

/// Size of `struct __sk_buff` in the kernel's ABI.
const SK_BUFF: usize = 192;
/// Offset of its `ingress_ifindex`, which `ifindex` follows.
const INGRESS_IFINDEX: usize = 36;

impl Hook {
    fn program(self) -> &'static str {
        match self {
            Self::UplinkXdp | Self::SecondXdp => programs::XDP_UPLINK,
            Self::UplinkIn | Self::SecondIn => programs::TC_UPLINK_INGRESS,
            Self::UplinkOut | Self::SecondOut | Self::HostOut => programs::TC_UPLINK_EGRESS,
            Self::LoopbackOut => programs::TC_LOOPBACK_EGRESS,
            Self::PodIn => programs::TC_POD_INGRESS,
            Self::PodOut => programs::TC_POD_EGRESS,
        }
    }

    fn device(self, bed: &Testbed) -> u32 {
        match self {
            Self::UplinkXdp | Self::UplinkIn | Self::UplinkOut | Self::HostOut => bed.uplink(),
            Self::SecondXdp | Self::SecondIn | Self::SecondOut => bed.second(),
            Self::PodIn | Self::PodOut => bed.pod(),
            Self::LoopbackOut => LOOPBACK_IFINDEX,
        }
    }

    fn is_egress(self) -> bool {
        matches!(
            self,
            Self::UplinkOut | Self::SecondOut | Self::PodOut | Self::HostOut | Self::LoopbackOut
        )
    }

    /// The device that the packet came into the node by; 0 where the node itself made it.
    fn came_by(self, bed: &Testbed) -> u32 {
        match self {
            Self::UplinkOut | Self::SecondOut => bed.pod(),
            Self::PodOut => bed.uplink(),
            Self::HostOut | Self::LoopbackOut => 0,
            Self::UplinkXdp | Self::UplinkIn | Self::SecondXdp | Self::SecondIn | Self::PodIn => {
                self.device(bed)
            }
        }
    }

    /// Sends `frame` through the program attached here.
    ///
    /// # Errors
    /// When the kernel refuses the run.
    ///
    /// # Panics
    /// When the program lets a packet go on that may not.
    pub fn run(self, datapath: &Datapath, bed: &Testbed, frame: &[u8]) -> Result<Run> {
        let mut out = vec![0; frame.len() + 256];
        let device = self.device(bed);
        let result = match datapath.program(self.program())? {
            Program::Xdp(program) => {
                let context = xdp_md(frame.len(), device);
                program.test_run(options(frame, &mut out, &context))
            }
            Program::SchedClassifier(program) => {
                let context = sk_buff(device, self.came_by(bed));
                program.test_run(options(frame, &mut out, &context))
            }
            _ => bail!("{} is neither XDP nor tc", self.program()),
        }
        .with_context(|| format!("running {} on {} bytes", self.program(), frame.len()))?;
        out.truncate(usize::try_from(result.data_size_out)?);
        let verdict = self.verdict(result.return_value);
        if verdict == Verdict::Pass {
            self.assert_may_go_up(frame, &out);
        }
        Ok(Run { verdict, frame: out })
    }

    /// Two rules that hold whatever a test is about: XDP passes nothing it has changed, and nothing that came in goes up with
    /// a source of the node's own, which the stack would drop as martian.
    fn assert_may_go_up(self, before: &[u8], after: &[u8]) {
        if before == after {
            return;
        }
        assert!(
            !matches!(self, Self::UplinkXdp | Self::SecondXdp),
            "{self:?} passed a packet it had changed: {before:02x?} became {after:02x?}"
        );
        let source = source_of(after);
        let is_own = |who: Who| Family::BOTH.iter().any(|family| source == Some(who.ip(*family)));
        assert!(
            self.is_egress() || !(is_own(Who::Node) || is_own(Who::NodeSecond)),
            "{self:?} handed the stack a packet from {source:?}"
        );
    }

    fn verdict(self, code: u32) -> Verdict {
        match (self, code) {
            (Self::UplinkXdp | Self::SecondXdp, code) => match code {
                1 => Verdict::Drop,
                2 => Verdict::Pass,
                3 => Verdict::Transmit,
                4 => Verdict::Redirect,
                _ => Verdict::Other(code),
            },
            (_, u32::MAX) => Verdict::Pass,
            (_, 2) => Verdict::Drop,
            (_, 7) => Verdict::Redirect,
            _ => Verdict::Other(code),
        }
    }
}

fn options<'a>(frame: &'a [u8], out: &'a mut [u8], context: &'a [u8]) -> TestRunOptions<'a> {
    TestRunOptions {
        data_in: Some(frame),
        data_out: Some(out),
        ctx_in: Some(context),
        ..TestRunOptions::default()
    }
}

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
pub(crate) fn xdp_md(len: usize, ifindex: u32) -> Vec<u8> {
    let len = u32::try_from(len).expect("a frame");
    [0, len, 0, ifindex, 0, 0]
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect()
}

/// `struct __sk_buff` of a packet at device `ifindex` that came into the host by `came_by`, or from its own sockets (0).
pub(crate) fn sk_buff(ifindex: u32, came_by: u32) -> Vec<u8> {
    let mut bytes = vec![0; SK_BUFF];
    bytes[INGRESS_IFINDEX..INGRESS_IFINDEX + 4].copy_from_slice(&came_by.to_ne_bytes());
    bytes[INGRESS_IFINDEX + 4..INGRESS_IFINDEX + 8].copy_from_slice(&ifindex.to_ne_bytes());
    bytes
}
