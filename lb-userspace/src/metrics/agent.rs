//! What the agent notes of its own work.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec};

use lb_common::layout::maps;

use super::catalog as m;
use super::exposition::{counter, gauge, histogram};
use super::tally::Tally;
use crate::dataplane::Sizes;
use crate::health::CountAnswers;
use crate::model::IpFamily;
use crate::reconcile::Usage;

/// The agent's own metrics.
#[derive(Debug)]
pub struct AgentMetrics {
    sync_duration: HistogramVec,
    programming_duration: HistogramVec,
    last_sync: GaugeVec,
    last_queued: GaugeVec,
    service_changes: IntCounterVec,
    service_changes_pending: GaugeVec,
    endpoint_changes: IntCounterVec,
    endpoint_changes_pending: GaugeVec,
    no_local_endpoints: GaugeVec,
    healthz: IntCounterVec,
    livez: IntCounterVec,
    build_info: GaugeVec,
    services: GaugeVec,
    service_ports: GaugeVec,
    endpoints: GaugeVec,
    services_failed: GaugeVec,
    sync_failures: IntCounterVec,
    events_dropped: IntCounterVec,
    map_entries: GaugeVec,
    map_capacity: GaugeVec,
}

/// A sync that is over.
#[derive(Clone, Copy, Debug)]
pub struct Sync {
    /// How long it took; `None` when there was nothing to do.
    pub took: Option<Duration>,
    /// When it was over.
    pub at: SystemTime,
    /// Services that failed in it.
    pub failures: usize,
    /// Services that are not as they should be after it.
    pub failed: usize,
    /// Everything that was asked for is in the kernel.
    pub in_force: bool,
}

impl Default for AgentMetrics {
    fn default() -> Self {
        let metrics = Self {
            sync_duration: histogram(&m::SYNC_DURATION),
            programming_duration: histogram(&m::PROGRAMMING_DURATION),
            last_sync: gauge(&m::LAST_SYNC),
            last_queued: gauge(&m::LAST_QUEUED),
            service_changes: counter(&m::SERVICE_CHANGES),
            service_changes_pending: gauge(&m::SERVICE_CHANGES_PENDING),
            endpoint_changes: counter(&m::ENDPOINT_CHANGES),
            endpoint_changes_pending: gauge(&m::ENDPOINT_CHANGES_PENDING),
            no_local_endpoints: gauge(&m::NO_LOCAL_ENDPOINTS),
            healthz: counter(&m::HEALTHZ),
            livez: counter(&m::LIVEZ),
            build_info: gauge(&m::BUILD_INFO),
            services: gauge(&m::SERVICES),
            service_ports: gauge(&m::SERVICE_PORTS),
            endpoints: gauge(&m::ENDPOINTS),
            services_failed: gauge(&m::SERVICES_FAILED),
            sync_failures: counter(&m::SYNC_FAILURES),
            events_dropped: counter(&m::EVENTS_DROPPED),
            map_entries: gauge(&m::MAP_ENTRIES),
            map_capacity: gauge(&m::MAP_CAPACITY),
        };
        metrics.begin();
        metrics
    }
}

impl AgentMetrics {
    /// What may not be missing because nothing has happened yet: a rate over a counter that appears with its first event
    /// misses that event.
    fn begin(&self) {
        self.build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        for family in IpFamily::ALL.map(|family| family.to_string()) {
            self.sync_duration.with_label_values(&[&family]);
            self.programming_duration.with_label_values(&[&family]);
        }
        for counter in [
            &self.service_changes,
            &self.endpoint_changes,
            &self.sync_failures,
            &self.events_dropped,
        ] {
            counter.with_label_values::<&str>(&[]);
        }
        for counter in [&self.healthz, &self.livez] {
            for code in ["200", "503"] {
                counter.with_label_values(&[code]);
            }
        }
        self.tallied(&Tally::default());
        set(&self.services_failed, &[], 0);
        set(&self.service_changes_pending, &[], 0);
        set(&self.endpoint_changes_pending, &[], 0);
    }

    /// Changes were heard of that wait for a sync.
    pub fn queued(&self, at: SystemTime, services: usize, endpoint_slices: usize) {
        for family in IpFamily::ALL {
            set_time(&self.last_queued, family, at);
        }
        self.service_changes
            .with_label_values::<&str>(&[])
            .inc_by(services as u64);
        self.endpoint_changes
            .with_label_values::<&str>(&[])
            .inc_by(endpoint_slices as u64);
        add(&self.service_changes_pending, services);
        add(&self.endpoint_changes_pending, endpoint_slices);
    }

    /// A sync is over; it saw every change that was queued.
    pub fn synced(&self, sync: &Sync) {
        for family in IpFamily::ALL {
            if let Some(took) = sync.took {
                let duration = self.sync_duration.with_label_values(&[family.to_string()]);
                duration.observe(took.as_secs_f64());
            }
            if sync.in_force {
                set_time(&self.last_sync, family, sync.at);
            }
        }
        set(&self.service_changes_pending, &[], 0);
        set(&self.endpoint_changes_pending, &[], 0);
        set(&self.services_failed, &[], sync.failed);
        self.sync_failures
            .with_label_values::<&str>(&[])
            .inc_by(sync.failures as u64);
    }

    /// A change that happened at `triggered` is in the kernel. Clocks of two machines may differ: nothing takes less than no time.
    pub fn programmed(&self, family: IpFamily, triggered: SystemTime, now: SystemTime) {
        let took = now.duration_since(triggered).unwrap_or_default();
        let duration = self.programming_duration.with_label_values(&[family.to_string()]);
        duration.observe(took.as_secs_f64());
    }

    /// What there is.
    pub fn tallied(&self, tally: &Tally) {
        set(&self.services, &[], tally.services());
        for family in IpFamily::ALL {
            let counts = tally.of(family);
            let family = family.to_string();
            set(&self.service_ports, &[&family], counts.ports);
            set(&self.endpoints, &[&family], counts.endpoints);
            set(
                &self.no_local_endpoints,
                &[&family, "internal"],
                counts.no_local_internal,
            );
            set(
                &self.no_local_endpoints,
                &[&family, "external"],
                counts.no_local_external,
            );
        }
    }

    /// How full the maps are.
    pub fn usage(&self, usage: Usage, sizes: &Sizes) {
        let rows = [
            (maps::FRONTENDS, usage.frontends as u64, sizes.frontends),
            (maps::SERVICES, usage.records as u64, sizes.records),
            (maps::SLOTS, usage.slots, sizes.slots),
            (maps::BACKENDS, usage.backends as u64, sizes.backends),
            (maps::NAMES, usage.services as u64, sizes.services),
        ];
        for (map, entries, capacity) in rows {
            #[expect(clippy::cast_precision_loss, reason = "no map has 2^53 entries")]
            self.map_entries.with_label_values(&[map]).set(entries as f64);
            self.map_capacity
                .with_label_values(&[map])
                .set(f64::from(capacity));
        }
    }

    /// Events were dropped since the last call.
    pub fn events_dropped(&self, count: u64) {
        self.events_dropped.with_label_values::<&str>(&[]).inc_by(count);
    }

    /// All of them, and what the kernel says of this process.
    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let process = ProcessCollector::for_self();
        let collectors: [&dyn Collector; 21] = [
            &self.sync_duration,
            &self.programming_duration,
            &self.last_sync,
            &self.last_queued,
            &self.service_changes,
            &self.service_changes_pending,
            &self.endpoint_changes,
            &self.endpoint_changes_pending,
            &self.no_local_endpoints,
            &self.healthz,
            &self.livez,
            &self.build_info,
            &self.services,
            &self.service_ports,
            &self.endpoints,
            &self.services_failed,
            &self.sync_failures,
            &self.events_dropped,
            &self.map_entries,
            &self.map_capacity,
            &process,
        ];
        collectors
            .iter()
            .flat_map(|collector| collector.collect())
            .collect()
    }
}

impl CountAnswers for std::sync::Arc<AgentMetrics> {
    fn healthz(&self, status: StatusCode) {
        self.healthz.with_label_values(&[status.as_str()]).inc();
    }

    fn livez(&self, status: StatusCode) {
        self.livez.with_label_values(&[status.as_str()]).inc();
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of what fits in memory")]
fn set(gauge: &GaugeVec, labels: &[&str], value: usize) {
    gauge.with_label_values(labels).set(value as f64);
}

#[expect(clippy::cast_precision_loss, reason = "counts of what fits in memory")]
fn add(gauge: &GaugeVec, value: usize) {
    gauge.with_label_values::<&str>(&[]).add(value as f64);
}

fn set_time(gauge: &GaugeVec, family: IpFamily, at: SystemTime) {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    gauge.with_label_values(&[family.to_string()]).set(seconds);
}
