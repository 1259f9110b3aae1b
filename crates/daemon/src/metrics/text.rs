//! The figures as Prometheus reads them. It knows no figure by name.

use peerkeep::{Metric, MetricKind, MetricValue, Sample};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

/// Writes them in Prometheus' text format.
///
/// # Errors
/// When the library refuses to write them, which would be a bug.
pub fn write(all: &[Metric]) -> prometheus::Result<String> {
    let families: Vec<MetricFamily> = all.iter().map(family).collect();
    let mut bytes = Vec::new();
    TextEncoder::new().encode(&families, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn family(metric: &Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        MetricKind::Counter => MetricType::COUNTER,
        MetricKind::Gauge => MetricType::GAUGE,
        MetricKind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(metric.samples.iter().map(|sample| value(metric.kind, sample)).collect());
    family
}

fn value(kind: MetricKind, sample: &Sample) -> proto::Metric {
    let mut metric = proto::Metric::default();
    if let Some((name, word)) = sample.label {
        let mut label = proto::LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(word.to_owned());
        metric.set_label(vec![label]);
    }
    match (&sample.value, kind) {
        (MetricValue::Number(number), MetricKind::Counter) => {
            let mut counter = proto::Counter::default();
            counter.set_value(float(*number));
            metric.set_counter(counter);
        }
        (MetricValue::Number(number), _) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(float(*number));
            metric.set_gauge(gauge);
        }
        (MetricValue::Spans { buckets, count, sum }, _) => {
            let mut histogram = proto::Histogram::default();
            histogram.set_sample_count(*count);
            histogram.set_sample_sum(*sum);
            let bucket = |(bound, count): &(f64, u64)| {
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(*count);
                bucket
            };
            histogram.set_bucket(buckets.iter().map(bucket).collect());
            metric.set_histogram(histogram);
        }
    }
    metric
}

/// Prometheus has no other numbers; beyond 2^53 the last digits go.
#[expect(clippy::cast_precision_loss, reason = "the format has floats only")]
fn float(number: u64) -> f64 {
    number as f64
}
