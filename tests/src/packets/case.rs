//! Cases as data, and the one function that checks them.
//!
//! A case is a story: services, then packets and events one after the other. It is told once and played for both families,
//! and for both ways into a node: XDP with tc behind it, and tc alone. What XDP may not complete it must leave byte for
//! byte as it was, so that [`Outcome`] follows for both from one word.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use lb_common::flow::{Forward, HookClass};
use lb_common::reason::{Disposition, Reason};

use super::datapath::{Datapath, Options};
use super::packet::{Packet, ports_of};
use super::run::{Hook, Verdict};
use super::service::Service;
use super::testbed::Testbed;
use super::who::{Family, Who};

/// Stands in an expected packet for a port the programs choose, and in a later packet for the one they chose.
pub const CHOSEN: u16 = 0;

/// A story with a name that is a sentence.
pub struct Case {
    /// What is shown.
    pub name: &'static str,
    /// What is balanced.
    pub services: Vec<Service>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// The families it is about.
    pub families: Vec<Family>,
}

/// Something that happens.
pub enum Step {
    /// A packet arrives.
    Send {
        /// Where.
        at: Place,
        /// The packet.
        packet: Packet,
        /// What the packet lacks that a description cannot say: spoils its bytes.
        spoil: Option<fn(&mut Vec<u8>, Family)>,
        /// What must come of it.
        outcome: Outcome,
    },
    /// Something else: changes maps, or looks at them.
    Do(&'static str, Event),
}

/// An event on the maps.
pub type Event = fn(&mut Datapath, Family) -> Result<()>;

/// Where a packet arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From the first uplink's wire.
    Uplink,
    /// From the second uplink's wire.
    Second,
    /// Forwarded by the stack, leaving by the first uplink.
    Leaving,
    /// From the stack, leaving by the second uplink.
    LeavingSecond,
    /// From a socket of the node, leaving by the first uplink.
    Host,
    /// From a socket of the node to an address of the node.
    Loopback,
    /// From the pod.
    Pod,
    /// From the stack, on its way into the pod.
    IntoPod,
}

/// What must come of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on as it came, counted under the reason.
    Untouched(Reason),
    /// It goes to the stack rewritten: tc's work, XDP leaves it.
    ToStack(Packet),
    /// It goes to the stack rewritten, as if it had come in by another device.
    Received(Packet),
    /// It goes on leaving by the device it was leaving by, rewritten.
    SentOn(Packet),
    /// It leaves by the device it came in by.
    SentBack(Packet),
    /// It leaves by another device.
    SentOut(Packet),
    /// It leaves by a device that takes no XDP frames: tc's work, XDP leaves it.
    SentByTc(Packet),
    /// It leaves by a device whose neighbour the kernel has yet to find: tc's work, XDP leaves it. The kernel writes the hardware
    /// addresses afterwards.
    SentUnresolved(Packet),
    /// It leaves, and may take the kernel's neighbour table on its way, as one packet in a while does: XDP may leave it.
    SentSomehow(Packet),
    /// It is answered.
    Answered(Packet, Reason),
    /// It is dropped, counted under the reason.
    Dropped(Reason),
}

/// How packets from the wires come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// XDP first, and tc for what it leaves.
    Xdp,
    /// tc alone.
    Tc,
}

impl Case {
    /// A story that has not begun.
    #[must_use]
    pub fn new(name: &'static str, services: impl IntoIterator<Item = Service>) -> Self {
        Self {
            name,
            services: services.into_iter().collect(),
            steps: Vec::new(),
            families: Family::BOTH.to_vec(),
        }
    }

    /// A packet arrives.
    #[must_use]
    pub fn send(self, at: Place, packet: Packet, outcome: Outcome) -> Self {
        self.step(Step::Send {
            at,
            packet,
            spoil: None,
            outcome,
        })
    }

    /// A packet arrives whose bytes were spoiled.
    #[must_use]
    pub fn send_spoiled(
        self,
        at: Place,
        packet: Packet,
        spoil: fn(&mut Vec<u8>, Family),
        outcome: Outcome,
    ) -> Self {
        self.step(Step::Send {
            at,
            packet,
            spoil: Some(spoil),
            outcome,
        })
    }

    /// Something else happens.
    #[must_use]
    pub fn then(self, what: &'static str, event: Event) -> Self {
        self.step(Step::Do(what, event))
    }

    /// Of what only one family has.
    #[must_use]
    pub fn only(self, family: Family) -> Self {
        Self {
            families: vec![family],
            ..self
        }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// Plays all cases for both families and both ways in, and fails with every deviation.
///
/// # Panics
/// When a case does not go as told.
#[track_caller]
pub fn check(cases: impl IntoIterator<Item = Case>) {
    check_with(Options::default(), cases);
}

/// The same with other settings of the programs.
///
/// # Panics
/// When a case does not go as told.
#[track_caller]
pub fn check_with(options: Options, cases: impl IntoIterator<Item = Case>) {
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(options).expect("the kernel object");
    let mut failures = String::new();
    for case in cases {
        for &family in &case.families {
            for way in [Way::Xdp, Way::Tc] {
                let mut play = Play {
                    bed: &bed,
                    datapath: &mut datapath,
                    family,
                    way,
                    chosen: None,
                };
                if let Err(error) = play.case(&case) {
                    let _ = writeln!(failures, "- {} ({family:?}, {way:?}): {error:#}", case.name);
                }
            }
        }
    }
    assert!(failures.is_empty(), "cases that did not go as told:\n{failures}");
}

/// One case in one family on one way.
struct Play<'a> {
    bed: &'a Testbed,
    datapath: &'a mut Datapath,
    family: Family,
    way: Way,
    /// The port the programs chose last.
    chosen: Option<u16>,
}

impl Play<'_> {
    fn case(&mut self, case: &Case) -> Result<()> {
        self.datapath.reset(self.bed)?;
        self.datapath.install(self.family, &case.services)?;
        for (number, step) in case.steps.iter().enumerate() {
            match step {
                Step::Send {
                    at,
                    packet,
                    spoil,
                    outcome,
                } => {
                    let mut frame = self.with_chosen(packet)?.frame(self.family);
                    if let Some(spoil) = spoil {
                        spoil(&mut frame, self.family);
                    }
                    self.send(*at, &frame, outcome)
                        .with_context(|| format!("step {}, packet at {at:?}", number + 1))?;
                }
                Step::Do(what, event) => event(self.datapath, self.family)
                    .with_context(|| format!("step {}, {what}", number + 1))?,
            }
        }
        Ok(())
    }

    fn send(&mut self, at: Place, frame: &[u8], outcome: &Outcome) -> Result<()> {
        let (xdp, tc) = match at {
            Place::Uplink => (Some(Hook::UplinkXdp), Hook::UplinkIn),
            Place::Second => (Some(Hook::SecondXdp), Hook::SecondIn),
            Place::Leaving => (None, Hook::UplinkOut),
            Place::LeavingSecond => (None, Hook::SecondOut),
            Place::Host => (None, Hook::HostOut),
            Place::Loopback => (None, Hook::LoopbackOut),
            Place::Pod => (None, Hook::PodIn),
            Place::IntoPod => (None, Hook::PodOut),
        };
        if let (Way::Xdp, Some(xdp)) = (self.way, xdp) {
            match outcome {
                Outcome::ToStack(_)
                | Outcome::Received(_)
                | Outcome::SentByTc(_)
                | Outcome::SentUnresolved(_) => {
                    self.expect(xdp, frame, &Outcome::Untouched(Reason::LeftToTc))?;
                }
                Outcome::SentSomehow(packet) => {
                    if self
                        .expect(xdp, frame, &Outcome::SentBack(packet.clone()))
                        .is_ok()
                    {
                        return Ok(());
                    }
                }
                // What nobody wants passes both.
                Outcome::Untouched(_) => self.expect(xdp, frame, outcome)?,
                _ => return self.expect(xdp, frame, outcome),
            }
        }
        self.expect(tc, frame, outcome)
    }

    fn expect(&mut self, hook: Hook, frame: &[u8], outcome: &Outcome) -> Result<()> {
        let before = self.datapath.reasons()?;
        let run = hook.run(self.datapath, self.bed, frame)?;
        let counted = difference(&before, &self.datapath.reasons()?);
        let is_xdp = matches!(hook, Hook::UplinkXdp | Hook::SecondXdp);
        let transmit = if is_xdp {
            Verdict::Transmit
        } else {
            Verdict::Redirect
        };
        let (verdict, packet, reason) = match outcome {
            Outcome::Untouched(reason) => (Verdict::Pass, None, *reason),
            Outcome::ToStack(packet) => (Verdict::Pass, Some(packet), Reason::ToStack),
            Outcome::Received(packet) => (Verdict::Redirect, Some(packet), Reason::ToStack),
            Outcome::SentOn(packet) => (Verdict::Pass, Some(packet), Reason::Sent),
            Outcome::SentBack(packet) => (transmit, Some(packet), Reason::Sent),
            Outcome::SentOut(packet) | Outcome::SentByTc(packet) | Outcome::SentSomehow(packet) => {
                (Verdict::Redirect, Some(packet), Reason::Sent)
            }
            Outcome::SentUnresolved(packet) => (Verdict::Redirect, Some(packet), Reason::SentNeighbour),
            Outcome::Answered(packet, reason) => (transmit, Some(packet), *reason),
            Outcome::Dropped(reason) => (Verdict::Drop, None, *reason),
        };
        let as_told = |text: &str| format!("{hook:?}: {text}; counted {counted:?}");
        ensure!(
            run.verdict == verdict,
            as_told(&format!(
                "{:?} instead of {verdict:?} ({})",
                run.verdict,
                reason.name()
            ))
        );
        let somehow =
            matches!(outcome, Outcome::SentSomehow(_)) && counted_right(Reason::SentNeighbour, &counted);
        ensure!(
            somehow || counted_right(reason, &counted),
            as_told(&format!("should have been counted under {}", reason.name()))
        );
        match (outcome, packet) {
            (Outcome::Dropped(_), _) => {}
            (_, Some(packet)) => {
                let packet = self
                    .learn_chosen(packet, &run.frame)
                    .with_context(|| as_told("rewritten"))?;
                let from = if matches!(outcome, Outcome::SentUnresolved(_)) {
                    12
                } else {
                    0
                };
                let expected = packet.frame(self.family);
                same(&run.frame[from..], &expected[from..])
                    .with_context(|| as_told("the packet is another"))?;
            }
            (_, None) => same(&run.frame, frame).with_context(|| as_told("the packet was touched"))?,
        }
        Ok(())
    }

    /// The packet with the port chosen earlier, where it refers to one.
    fn with_chosen(&self, packet: &Packet) -> Result<Packet> {
        if !packet.has_port(CHOSEN) {
            return Ok(packet.clone());
        }
        let port = self.chosen.context("no port has been chosen yet")?;
        Ok(packet.clone().with_port(CHOSEN, port))
    }

    /// The expected packet with the port that `actual` shows to have been chosen.
    fn learn_chosen(&mut self, expected: &Packet, actual: &[u8]) -> Result<Packet> {
        if !expected.has_port(CHOSEN) {
            return Ok(expected.clone());
        }
        let (sport, _) = ports_of(actual).context("a packet without ports")?;
        let range = self.datapath.snat_ports();
        ensure!(range.contains(&sport), "source port {sport} outside {range:?}");
        self.chosen = Some(sport);
        Ok(expected.clone().with_port(CHOSEN, sport))
    }
}

/// What no counter shows is what the hot program does: sent or handed on by a fresh entry, or nobody's.
fn counted_right(reason: Reason, counted: &BTreeMap<Reason, u64>) -> bool {
    let others = counted.keys().any(|other| *other != reason);
    let own = counted.get(&reason).copied().unwrap_or(0);
    !others
        && match reason.disposition() {
            _ if reason == Reason::NotOurs => own == 0,
            Disposition::Forward => own <= 1,
            _ => own == 1,
        }
}

fn difference(before: &BTreeMap<Reason, u64>, after: &BTreeMap<Reason, u64>) -> BTreeMap<Reason, u64> {
    after
        .iter()
        .map(|(reason, n)| (*reason, n - before[reason]))
        .filter(|(_, n)| *n != 0)
        .collect()
}

/// Compares frames, and says where they differ.
fn same(actual: &[u8], expected: &[u8]) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    let differ = actual
        .iter()
        .zip(expected)
        .position(|(a, b)| a != b)
        .unwrap_or(actual.len().min(expected.len()));
    bail!(
        "from byte {differ} on\n    got      {}\n    expected {}",
        hex(actual),
        hex(expected)
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What a flow entry must say: for events that look at the table.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Key.
    pub from: (Who, u16),
    /// Key.
    pub to: (Who, u16),
    /// After the rewrite.
    pub new_from: (Who, u16),
    /// After the rewrite.
    pub new_to: (Who, u16),
    /// Where it acts.
    pub class: HookClass,
    /// How its packets go on.
    pub forward: Forward,
    /// From the backend to the client.
    pub reply: bool,
}

/// Checks that the table holds these flows and no others. Ports that are [`CHOSEN`] may be any.
///
/// # Errors
/// When it does not, with what it holds.
pub fn expect_flows(datapath: &mut Datapath, family: Family, expected: &[Expected]) -> Result<()> {
    let flows = datapath.flows(family)?;
    let fits = |(who, port): (Who, u16), actual: std::net::SocketAddr| {
        actual.ip() == who.ip(family) && (port == CHOSEN || actual.port() == port)
    };
    for e in expected {
        let found = flows.iter().any(|flow| {
            fits(e.from, flow.src)
                && fits(e.to, flow.dst)
                && fits(e.new_from, flow.new_src)
                && fits(e.new_to, flow.new_dst)
                && (e.class, e.forward, e.reply) == (flow.class, flow.forward, flow.reply)
                && flow.state.seq % 2 == 0
        });
        ensure!(found, "no entry {e:?} among {flows:#?}");
    }
    ensure!(
        flows.len() == expected.len(),
        "{} entries, not {}: {flows:#?}",
        flows.len(),
        expected.len()
    );
    Ok(())
}
