//! `bench datapath`: nanoseconds a packet spends in the programs, by BPF_PROG_TEST_RUN.
//!
//! Every scenario is run in rounds of empty program, floor, xvip, so that what changes on the machine changes for all of them; the
//! figure of a program is the middle of its rounds less the empty program's, which holds generator and harness. The
//! floor is the least a balancer on the kernel's own LRU hash can do.

use std::fmt;

use anyhow::{Context, Result, ensure};
use lb_common::layout::programs::{TC_UPLINK_INGRESS, XDP_UPLINK};
use lb_common::lifetime::seen;
use serde::Serialize;

use super::programs::{Programs, Traffic};
use crate::packets::run::{sk_buff, xdp_md};
use crate::packets::{Datapath, Family, Keep, Mac, Options, Packet, Service, State, Testbed, Who, flags};

/// The balanced port.
const PORT: u16 = 80;
/// Flows made in one round of new flows: a third of the table below.
const NEW_FLOWS: u32 = 8192;
/// Buckets of the flow table.
const BUCKETS: u32 = 16_384;

/// Where the program under test is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// XDP of an uplink.
    Xdp,
    /// tc ingress of an uplink.
    Tc,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A program that returns at once.
    Empty,
    /// The floor.
    Floor,
    /// The product.
    Xvip,
}

/// What the packets are to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Segments of one connection.
    OneFlow,
    /// Segments of 1,024 connections in turn.
    ThousandFlows,
    /// A SYN of another connection each time.
    NewFlow,
    /// Segments to an address nobody balances.
    NotOurs,
}

/// One line of the result, nanoseconds a packet.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Where.
    pub hook: Hook,
    /// `v4` or `v6`.
    pub family: &'static str,
    /// Of what.
    pub scenario: Scenario,
    /// Generator and harness: what is already subtracted from the others.
    pub harness_ns: f64,
    /// The product.
    pub xvip_ns: f64,
    /// The floor.
    pub floor_ns: f64,
}

impl Figure {
    /// The product's share of the floor.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.xvip_ns / self.floor_ns
    }

    /// Whether this is one of the figures that must not exceed the floor: that is what the flow table is for.
    #[must_use]
    pub fn is_promised(&self) -> bool {
        self.hook == Hook::Xdp
            && self.family == "v4"
            && matches!(self.scenario, Scenario::OneFlow | Scenario::ThousandFlows)
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Effort {
    /// Rounds of all programs, one after the other.
    pub rounds: u32,
    /// Packets of a program in a round.
    pub packets: u32,
}

impl Effort {
    /// A quarter of a minute.
    pub const QUICK: Self = Self {
        rounds: 9,
        packets: 300_000,
    };
    /// A few minutes.
    pub const THOROUGH: Self = Self {
        rounds: 31,
        packets: 3_000_000,
    };
}

/// Measures everything; `progress` is told what comes next.
///
/// # Errors
/// When not root, when the kernel refuses something, or when a program does not do what is measured.
pub fn measure(effort: Effort, mut progress: impl FnMut(&str)) -> Result<Vec<Figure>> {
    let bed = Testbed::new()?;
    // As many ticks a second as a kernel ever has: an entry is refreshed at least as often as there.
    let options = Options {
        snat_ports: (20_000, 32_768),
        flow_buckets: BUCKETS,
        hz: 1000,
        ..Options::default()
    };
    let mut bench = Bench {
        datapath: Datapath::load(options)?,
        programs: Programs::load()?,
        bed: &bed,
        effort,
    };
    let mut figures = Vec::new();
    for hook in [Hook::Xdp, Hook::Tc] {
        for family in Family::BOTH {
            for scenario in Scenario::ALL {
                progress(&format!("{hook} {family:?} {scenario}"));
                let figure = bench
                    .figure(hook, family, scenario)
                    .with_context(|| format!("measuring {hook} {family:?} {scenario}"))?;
                figures.push(figure);
            }
        }
    }
    Ok(figures)
}

struct Bench<'a> {
    datapath: Datapath,
    programs: Programs,
    bed: &'a Testbed,
    effort: Effort,
}

impl Bench<'_> {
    fn figure(&mut self, hook: Hook, family: Family, scenario: Scenario) -> Result<Figure> {
        const SUBJECTS: [Subject; 3] = [Subject::Empty, Subject::Floor, Subject::Xvip];
        self.datapath.reset(self.bed)?;
        self.datapath.install(family, &[service()])?;
        for subject in SUBJECTS {
            self.prepare(hook, family, scenario, subject)?;
        }
        let mut samples = [const { Vec::new() }; 3];
        for _ in 0..self.effort.rounds {
            for (subject, samples) in SUBJECTS.into_iter().zip(&mut samples) {
                samples.push(self.round(hook, family, scenario, subject)?);
            }
        }
        let [empty, floor, xvip] = samples.map(middle);
        Ok(Figure {
            hook,
            family: if family == Family::V4 { "v4" } else { "v6" },
            scenario,
            harness_ns: empty,
            xvip_ns: xvip - empty,
            floor_ns: floor - empty,
        })
    }

    /// Makes the flows whose segments are to be measured.
    fn prepare(&mut self, hook: Hook, family: Family, scenario: Scenario, subject: Subject) -> Result<()> {
        let Some(flows) = scenario.established() else {
            return Ok(());
        };
        if subject == Subject::Empty {
            return Ok(());
        }
        self.programs
            .put_under_test(&self.datapath, hook, family, subject)?;
        for flags in [flags::SYN, flags::ACK] {
            let frame = frame(family, scenario, flags);
            self.traffic(family, scenario, &frame)?;
            self.programs.rewind()?;
            self.send(hook, family, &frame, flows)?;
        }
        // As if the backends had answered.
        let both = seen::OPEN | seen::ACK;
        self.datapath.each_flow(family, |flow| {
            Keep::With(State {
                own: both,
                peer: both,
                ..flow.state
            })
        })
    }

    fn round(&mut self, hook: Hook, family: Family, scenario: Scenario, subject: Subject) -> Result<f64> {
        let is_new = scenario == Scenario::NewFlow;
        if is_new && subject == Subject::Xvip {
            self.datapath.forget_flows(family)?;
        }
        let frame = frame(family, scenario, if is_new { flags::SYN } else { flags::ACK });
        self.programs
            .put_under_test(&self.datapath, hook, family, subject)?;
        self.traffic(family, scenario, &frame)?;
        let packets = if is_new { NEW_FLOWS } else { self.effort.packets };
        if !is_new {
            self.programs.rewind()?;
        }
        let (nanoseconds, code) = self.send(hook, family, &frame, packets)?;
        let expected = hook.expected(subject, scenario);
        ensure!(
            code == expected,
            "{subject:?} said {code} where the measured work ends in {expected}: this would measure something else"
        );
        Ok(nanoseconds)
    }

    fn traffic(&mut self, family: Family, scenario: Scenario, frame: &[u8]) -> Result<()> {
        let to = (scenario.destination(), PORT);
        // New flows go on from where the round before ended: the floor's table is full of those and has to evict, as it would.
        let flows = scenario.established().unwrap_or(1 << 22);
        self.programs
            .set_traffic(Traffic { family, to, flows }, frame, self.bed.uplink())
    }

    fn send(&self, hook: Hook, family: Family, frame: &[u8], packets: u32) -> Result<(f64, u32)> {
        let context = match hook {
            Hook::Xdp => xdp_md(frame.len(), self.bed.uplink()),
            Hook::Tc => sk_buff(self.bed.uplink(), self.bed.uplink()),
        };
        self.programs.run(hook, family, frame, &context, packets)
    }
}

impl Hook {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }

    pub(super) fn entry_point(self) -> &'static str {
        match self {
            Self::Xdp => XDP_UPLINK,
            Self::Tc => TC_UPLINK_INGRESS,
        }
    }

    /// The code a program must return when it does what is measured.
    fn expected(self, subject: Subject, scenario: Scenario) -> u32 {
        let passes = subject == Subject::Empty || scenario == Scenario::NotOurs;
        match (self, passes) {
            // XDP_PASS, TC_ACT_UNSPEC
            (Self::Xdp, true) => 2,
            (Self::Tc, true) => u32::MAX,
            // XDP_TX, TC_ACT_REDIRECT
            (Self::Xdp, false) => 3,
            (Self::Tc, false) => 7,
        }
    }
}

impl Scenario {
    /// All, in the order of the table.
    pub const ALL: [Self; 4] = [Self::OneFlow, Self::ThousandFlows, Self::NewFlow, Self::NotOurs];

    fn established(self) -> Option<u32> {
        match self {
            Self::OneFlow => Some(1),
            Self::ThousandFlows => Some(1024),
            Self::NewFlow | Self::NotOurs => None,
        }
    }

    fn destination(self) -> Who {
        if self == Self::NotOurs {
            Who::Stranger
        } else {
            Who::Vip
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Xdp { "XDP" } else { "TC" })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneFlow => "established, 1 flow",
            Self::ThousandFlows => "established, 1k flows",
            Self::NewFlow => "new flow",
            Self::NotOurs => "not ours",
        })
    }
}

/// One service with backends on another node, enough of them that ports for rewritten sources seldom collide.
fn service() -> Service {
    let both = [Who::RemotePod, Who::OtherRemotePod];
    let ports = 8080..8084;
    ports
        .flat_map(|port| both.map(|who| (who, port)))
        .fold(Service::tcp(Who::Vip, PORT), |service, (who, port)| {
            service.backend(who, port)
        })
}

/// The frame whose headers the generator completes.
fn frame(family: Family, scenario: Scenario, flags: u8) -> Vec<u8> {
    Packet::tcp((Who::Client, 1024), (scenario.destination(), PORT), flags)
        .hop(Mac::Client, Mac::Uplink)
        .payload(&[0; 10])
        .frame(family)
}

/// The mean of the middle half: single outliers do not count, and the kernel's whole nanoseconds average out.
fn middle(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let quarter = samples.len() / 4;
    let half = &samples[quarter..samples.len() - quarter];
    half.iter().sum::<f64>() / half.len() as f64
}

#[cfg(test)]
mod tests {
    use super::middle;

    #[test]
    fn outliers_do_not_move_the_middle() {
        assert!((middle(vec![10.0, 11.0, 10.0, 11.0, 900.0, 1.0, 10.0, 11.0]) - 10.5).abs() < 1e-9);
        assert!((middle(vec![7.0]) - 7.0).abs() < 1e-9);
    }
}
