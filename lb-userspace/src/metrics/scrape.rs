//! Reading the kernel's counters.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use lb_common::flow::{FlowEntry4, FlowEntry6};
use lb_common::reason::{Disposition, Reason};
use lb_common::settings::Settings;
use prometheus::proto::MetricFamily;

use super::agent::AgentMetrics;
use super::catalog as m;
use super::exposition::{family, text};
use super::traffic::{Totals, Traffic, shown};
use crate::config::PerServiceMetrics;
use crate::dataplane::{Flow, FlowTable, Reader, TickClock};
use crate::model::IpFamily;
use crate::plan::ServicePortKey;
use crate::reconcile::names;

/// Places of a flow table that are looked at for its fill; a table of as many is read whole. Measured, optimised: half a
/// millisecond for that, a few where the places are spread over a table of four million.
const FLOW_SAMPLE: usize = 1 << 18;

/// Puts an answer to `/metrics` together. Reading takes milliseconds, and system calls by the thousand where there are thousands
/// of service ports.
#[derive(Debug)]
pub struct Scraper {
    agent: Arc<AgentMetrics>,
    reader: Reader,
    per_service: PerServiceMetrics,
    totals: Mutex<Totals>,
}

impl Scraper {
    /// Reads the maps of `reader`.
    #[must_use]
    pub fn new(agent: Arc<AgentMetrics>, reader: Reader, per_service: PerServiceMetrics) -> Self {
        Self {
            agent,
            reader,
            per_service,
            totals: Mutex::default(),
        }
    }

    /// All metrics, as text. The agent's own are told even where the maps cannot be read.
    #[must_use]
    pub fn text(&self) -> String {
        let mut families = self.agent.collect();
        let kernel = self.kernel();
        if let Err(error) = &kernel {
            tracing::warn!("metrics of the kernel programs: {error:#}");
        }
        families.extend(family(
            &m::MAPS_READABLE,
            [(Vec::new(), u64::from(kernel.is_ok()))],
        ));
        families.extend(kernel.unwrap_or_default());
        text(families)
    }

    fn kernel(&self) -> Result<Vec<MetricFamily>> {
        let settings = self.reader.settings()?;
        let mut families = verdicts(&self.reader.reasons()?);
        let (entries4, capacity4) = fill::<FlowEntry4>(&self.reader.flows4()?, &settings)?;
        let (entries6, capacity6) = fill::<FlowEntry6>(&self.reader.flows6()?, &settings)?;
        families.extend(family(&m::FLOW_ENTRIES, by_family([entries4, entries6])));
        families.extend(family(&m::FLOW_CAPACITY, by_family([capacity4, capacity6])));
        let traffic = self.traffic()?;
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.observe(&traffic);
        families.extend(carried(&totals));
        families.extend(carried_by_service(&shown(&traffic, &self.per_service)));
        Ok(families)
    }

    fn traffic(&self) -> Result<Vec<Traffic>> {
        let names = self.reader.names()?;
        let stats = self.reader.service_stats(names.iter().map(|(id, _)| *id))?;
        let ports = names.iter().zip(stats);
        let known = ports.filter_map(|((id, name), (_, stats))| {
            let port: ServicePortKey = names::from_name(name)?;
            Some(Traffic { id: *id, port, stats })
        });
        Ok(known.collect())
    }
}

fn verdicts(reasons: &[(Reason, u64)]) -> Vec<MetricFamily> {
    let is_verdict = |reason: Reason| !matches!(reason, Reason::NotOurs | Reason::Evicted);
    let verdicts = reasons.iter().filter(|(reason, _)| is_verdict(*reason));
    let verdicts = verdicts.map(|(reason, count)| {
        let verdict = match reason.disposition() {
            Disposition::Pass => "pass",
            Disposition::Forward => "forward",
            Disposition::Reject => "reject",
            Disposition::Drop => "drop",
        };
        (vec![reason.name().to_owned(), verdict.to_owned()], *count)
    });
    let mut families = family(&m::VERDICTS, verdicts);
    let evicted = reasons.iter().filter(|(reason, _)| *reason == Reason::Evicted);
    families.extend(family(
        &m::FLOWS_EVICTED,
        evicted.map(|(_, count)| (Vec::new(), *count)),
    ));
    families
}

/// Live entries of a flow table, and how many it has room for.
fn fill<E: Flow>(table: &FlowTable<E>, settings: &Settings) -> Result<(u64, u64)> {
    let now = TickClock::new(settings).now()?;
    let live = table.estimate_live(FLOW_SAMPLE, now, &settings.timeouts.in_jiffies(settings.hz));
    Ok((live as u64, table.capacity() as u64))
}

fn by_family(values: [u64; 2]) -> impl Iterator<Item = (Vec<String>, u64)> {
    let families = IpFamily::ALL.into_iter().zip(values);
    families.map(|(family, value)| (vec![family.to_string()], value))
}

fn carried(totals: &Totals) -> Vec<MetricFamily> {
    let of = IpFamily::ALL.map(|family| totals.of(family));
    [
        family(&m::CONNECTIONS, by_family(of.map(|stats| stats.connections))),
        family(&m::REFUSED, by_family(of.map(|stats| stats.refused))),
        family(&m::PACKETS, by_family(of.map(|stats| stats.packets))),
        family(&m::BYTES, by_family(of.map(|stats| stats.bytes))),
    ]
    .concat()
}

fn carried_by_service(shown: &[&Traffic]) -> Vec<MetricFamily> {
    let labelled = |value: fn(&Traffic) -> u64| {
        shown.iter().map(move |traffic| {
            let port = &traffic.port;
            let labels = vec![
                port.service.namespace.clone(),
                port.service.name.clone(),
                port.port_name.clone(),
                port.port.to_string(),
                port.protocol.to_string(),
                port.family.to_string(),
            ];
            (labels, value(traffic))
        })
    };
    [
        family(
            &m::SERVICE_CONNECTIONS,
            labelled(|traffic| traffic.stats.connections),
        ),
        family(&m::SERVICE_REFUSED, labelled(|traffic| traffic.stats.refused)),
        family(&m::SERVICE_PACKETS, labelled(|traffic| traffic.stats.packets)),
        family(&m::SERVICE_BYTES, labelled(|traffic| traffic.stats.bytes)),
    ]
    .concat()
}
