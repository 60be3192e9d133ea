//! Values become families, families become text.

use std::collections::HashMap;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, TextEncoder,
};

use super::catalog::{Kind, Metric};

/// The content type of [`text`].
pub(super) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

const VALID: &str = "the catalog's names are valid";

pub(super) fn gauge(metric: &Metric) -> GaugeVec {
    debug_assert_eq!(metric.kind, Kind::Gauge);
    GaugeVec::new(options(metric), metric.labels).expect(VALID)
}

pub(super) fn counter(metric: &Metric) -> IntCounterVec {
    debug_assert_eq!(metric.kind, Kind::Counter);
    IntCounterVec::new(options(metric), metric.labels).expect(VALID)
}

pub(super) fn histogram(metric: &Metric) -> HistogramVec {
    let options = HistogramOpts {
        common_opts: options(metric),
        buckets: metric.kind.buckets(),
    };
    HistogramVec::new(options, metric.labels).expect(VALID)
}

fn options(metric: &Metric) -> Opts {
    Opts {
        const_labels: HashMap::new(),
        ..Opts::new(metric.name, metric.help)
    }
}

/// Values that are counted elsewhere and read just now.
pub(super) fn family(
    metric: &Metric,
    values: impl IntoIterator<Item = (Vec<String>, u64)>,
) -> Vec<MetricFamily> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "every number of the text format is a float"
    )]
    let float = |value: u64| value as f64;
    match metric.kind {
        Kind::Gauge => {
            let gauge = gauge(metric);
            for (labels, value) in values {
                gauge.with_label_values(&labels).set(float(value));
            }
            gauge.collect()
        }
        _ => {
            let counter = CounterVec::new(options(metric), metric.labels).expect(VALID);
            for (labels, value) in values {
                counter.with_label_values(&labels).inc_by(float(value));
            }
            counter.collect()
        }
    }
}

/// The text format 0.0.4. A family without values is left out.
pub(super) fn text(mut families: Vec<MetricFamily>) -> String {
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&families, &mut text)
        .expect("families with values have a text, and memory takes it");
    String::from_utf8(text).expect("the text format is UTF-8")
}
