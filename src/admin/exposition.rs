//! Writes metrics as Prometheus text 0.0.4 or OpenMetrics 1.0, whichever the scraper prefers.
//!
//! Owns the two formats and nothing of what is exported; that is `scrape`'s.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::metrics::{BUCKETS, Histogram, Kind, Metric};

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` field asks for (RFC 9110, section 12.5.1): OpenMetrics where it is named and at
    /// least as welcome as plain text, else the Prometheus format, which every scraper reads.
    pub(crate) fn negotiate(accept: &str) -> Self {
        let (mut open, mut text) = (0, 0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut quality, mut version) = (1000, None);
            for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
                if name.eq_ignore_ascii_case("q") {
                    quality = parse_quality(value);
                } else if name.eq_ignore_ascii_case("version") {
                    version = Some(value.trim_matches('"'));
                }
            }
            if media.eq_ignore_ascii_case("application/openmetrics-text") && matches!(version, None | Some("1.0.0")) {
                open = open.max(quality);
            } else if media.eq_ignore_ascii_case("text/plain") {
                text = text.max(quality);
            }
        }
        if open > 0 && open >= text { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The value of `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A quality value in thousandths; what is malformed counts as 0 (RFC 9110, section 12.4.2).
fn parse_quality(value: &str) -> u32 {
    let quality = value.parse::<f32>().unwrap_or(0.0);
    if (0.0..=1.0).contains(&quality) { (quality * 1000.0) as u32 } else { 0 }
}

/// An exposition being written.
pub(crate) struct Exposition {
    format: Format,
    text: String,
}

impl Exposition {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(32 * 1024) }
    }

    /// Begins a family. Each family is begun once, and all of its samples follow.
    pub(crate) fn family(&mut self, metric: &'static Metric) -> Family<'_> {
        let full = metric.full_name();
        // OpenMetrics names a counter's family without the suffix of its samples.
        let name = match self.format {
            Format::OpenMetrics => full.strip_suffix("_total").unwrap_or(&full),
            Format::Prometheus => &full,
        };
        // Writing to a String cannot fail, so the results are dropped, here and below.
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {}", metric.help, metric.kind.as_str());
        Family { metric, text: &mut self.text }
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// A family being written.
pub(crate) struct Family<'a> {
    metric: &'static Metric,
    text: &'a mut String,
}

impl Family<'_> {
    /// Writes one sample; `values` are those of the metric's labels, in its order.
    pub(crate) fn sample(&mut self, values: &[&str], value: impl Display) {
        debug_assert_ne!(self.metric.kind, Kind::Histogram);
        self.line("", values, None, value);
    }

    /// Writes one histogram.
    pub(crate) fn histogram(&mut self, values: &[&str], durations: &Durations) {
        debug_assert_eq!(self.metric.kind, Kind::Histogram);
        let mut count = 0;
        for (bound, n) in BUCKETS.iter().zip(&durations.buckets) {
            count += n;
            // `1.0`, not `1`: OpenMetrics wants it so, and one spelling keeps the series the same in both formats.
            self.line("_bucket", values, Some(&format!("{bound:?}")), count);
        }
        let count = durations.count();
        self.line("_bucket", values, Some("+Inf"), count);
        self.line("_sum", values, None, durations.sum.as_secs_f64());
        self.line("_count", values, None, count);
    }

    fn line(&mut self, suffix: &str, values: &[&str], le: Option<&str>, value: impl Display) {
        debug_assert_eq!(self.metric.labels.len(), values.len(), "{}", self.metric.name);
        let _ = write!(self.text, "{}{suffix}", self.metric.full_name());
        let labels = self.metric.labels.iter().copied().zip(values.iter().copied()).chain(le.map(|le| ("le", le)));
        let mut open = '{';
        for (name, value) in labels {
            let _ = write!(self.text, "{open}{name}=\"");
            escape(self.text, value);
            self.text.push('"');
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            _ => text.push(c),
        }
    }
}

/// The sum of several [`Histogram`]s.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    buckets: [u64; BUCKETS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Adds the histograms up.
    pub(crate) fn sum<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        histograms.fold(Self::default(), |mut all, histogram| {
            for (sum, bucket) in all.buckets.iter_mut().zip(&histogram.buckets) {
                *sum += bucket.get();
            }
            all.sum = all.sum.saturating_add(Duration::from_nanos(histogram.sum_nanos.get()));
            all
        })
    }

    /// How many durations were observed.
    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Durations, Exposition, Format};
    use crate::metrics::{Histogram, table};

    #[test]
    fn openmetrics_is_written_only_where_it_is_named_and_most_welcome() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                            q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for open in [prometheus_2, "application/openmetrics-text", "Application/OpenMetrics-Text; q=0.5"] {
            assert_eq!(Format::negotiate(open), Format::OpenMetrics, "{open}");
        }
        let less = "application/openmetrics-text;q=0.2, text/plain;q=0.9";
        let none = "application/openmetrics-text;q=0";
        let old = "application/openmetrics-text; version=0.0.1";
        for text in ["", "*/*", "text/plain", "application/json", less, none, old, "application/openmetrics-text;q=x"] {
            assert_eq!(Format::negotiate(text), Format::Prometheus, "{text}");
        }
    }

    #[test]
    fn a_histogram_is_cumulative_and_its_last_bucket_is_its_count() {
        let histogram = Histogram::default();
        for millis in [1, 2, 2, 40_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut exposition = Exposition::new(Format::Prometheus);
        let durations = Durations::sum([&histogram, &Histogram::default()].into_iter());
        exposition.family(&table::TLS_HANDSHAKE_DURATION).histogram(&["a"], &durations);
        let text = exposition.finish();
        for line in [
            "_bucket{endpoint=\"a\",le=\"0.0005\"} 0",
            "_bucket{endpoint=\"a\",le=\"0.001\"} 1",
            "_bucket{endpoint=\"a\",le=\"0.0025\"} 3",
            "_bucket{endpoint=\"a\",le=\"30.0\"} 3",
            "_bucket{endpoint=\"a\",le=\"+Inf\"} 4",
            "_sum{endpoint=\"a\"} 40.005",
            "_count{endpoint=\"a\"} 4",
        ] {
            assert!(text.contains(&format!("portcullis_tls_handshake_duration_seconds{line}\n")), "{line}\n{text}");
        }
    }

    #[test]
    fn openmetrics_names_a_counters_family_without_its_suffix_and_ends_in_eof() {
        let mut exposition = Exposition::new(Format::OpenMetrics);
        exposition.family(&table::ACCESS_LOG_DROPPED).sample(&[], 3);
        let text = exposition.finish();
        assert!(text.contains("# TYPE portcullis_access_log_dropped counter\n"), "{text}");
        assert!(text.ends_with("\nportcullis_access_log_dropped_total 3\n# EOF\n"), "{text}");
    }

    proptest! {
        #[test]
        fn a_label_value_can_be_read_back_whatever_it_holds(value in "[\\\\\"\na-z{},=ü]{0,20}") {
            let mut exposition = Exposition::new(Format::Prometheus);
            exposition.family(&table::ENDPOINT_UP).sample(&[&value], 1);
            let text = exposition.finish();
            let line = text.lines().nth(2).unwrap_or_default();
            let written = line.strip_prefix("portcullis_endpoint_up{endpoint=\"");
            let written = written.and_then(|rest| rest.strip_suffix("\"} 1")).unwrap_or("?");
            let mut read = String::new();
            let mut chars = written.chars();
            while let Some(c) = chars.next() {
                read.push(match c {
                    '\\' => match chars.next() { Some('n') => '\n', Some(c) => c, None => '?' },
                    c => c,
                });
            }
            prop_assert_eq!(read, value);
        }

        #[test]
        fn any_accept_field_chooses_a_format(accept in ".{0,80}") {
            let _ = Format::negotiate(&accept);
        }
    }
}
