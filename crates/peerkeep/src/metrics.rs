//! What a node counts and measures, for monitoring. A label and its value are `'static`, so they come from closed sets:
//! no peer, address or text from outside can become one (fault R6).

/// One figure, with a sample for each value of its label.
#[derive(Clone, PartialEq, Debug)]
pub struct Metric {
    /// Its name, as Prometheus writes names.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// How it is to be read.
    pub kind: MetricKind,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// How a figure is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// It only grows, from 0 at the start.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often what took how long.
    Histogram,
}

/// One value.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Which one, when there are several.
    pub label: Option<(&'static str, &'static str)>,
    /// The value.
    pub value: MetricValue,
}

/// What was counted or measured.
#[derive(Clone, PartialEq, Debug)]
pub enum MetricValue {
    /// A number.
    Number(u64),
    /// Spans of time.
    Spans {
        /// Upper bound in seconds, and how many did not exceed it; ascending.
        buckets: Vec<(f64, u64)>,
        /// How many there were.
        count: u64,
        /// Their sum in seconds.
        sum: f64,
    },
}

impl Metric {
    pub(crate) fn one(name: &'static str, kind: MetricKind, help: &'static str, value: u64) -> Metric {
        let sample = Sample { label: None, value: MetricValue::Number(value) };
        Metric { name, help, kind, samples: vec![sample] }
    }

    pub(crate) fn by(
        name: &'static str,
        kind: MetricKind,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Metric {
        let sample =
            |(word, number)| Sample { label: Some((label, word)), value: MetricValue::Number(number) };
        Metric { name, help, kind, samples: values.into_iter().map(sample).collect() }
    }
}
