//! The Prometheus text format 0.0.4: families of samples, with labels that are escaped and not too many.

use std::fmt::{Display, Write as _};

use model::sketch::{Bucket, Sketch};

/// Samples of one family with different labels; of more, the rest is left out and counted. Of a histogram all samples
/// together count as one.
pub(super) const SAMPLES_MAX: usize = 2_000;

/// Upper bounds of the buckets that a sketch is shown in: as text in seconds, and in µs.
const BOUNDS: [(&str, u64); 16] = [
    ("0.0005", 500),
    ("0.001", 1_000),
    ("0.0025", 2_500),
    ("0.005", 5_000),
    ("0.01", 10_000),
    ("0.025", 25_000),
    ("0.05", 50_000),
    ("0.1", 100_000),
    ("0.25", 250_000),
    ("0.5", 500_000),
    ("1", 1_000_000),
    ("2.5", 2_500_000),
    ("5", 5_000_000),
    ("10", 10_000_000),
    ("30", 30_000_000),
    ("60", 60_000_000),
];

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Metrics as text.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    family: &'static str,
    samples: usize,
    /// Samples that were left out.
    pub(super) left_out: u64,
}

impl Text {
    /// Begins a family of metrics.
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        (self.family, self.samples) = (name, 0);
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Whether there is room for one more in this family.
    fn takes_one(&mut self) -> bool {
        self.samples += 1;
        let fits = self.samples <= SAMPLES_MAX;
        self.left_out += u64::from(!fits);
        fits
    }

    /// One sample of the family.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        if self.takes_one() {
            self.line("", labels, None, value);
        }
    }

    /// A sketch as a histogram of the family. What is in the same narrow bucket as a bound counts as above it.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, sketch: &Sketch) {
        if !self.takes_one() {
            return;
        }
        let mut found = sketch.buckets().peekable();
        let mut count = 0_u64;
        for (text, bound) in BOUNDS {
            let end = Bucket::of_micros(bound + 1);
            while let Some((_, more)) = found.next_if(|(bucket, _)| *bucket < end) {
                count += more;
            }
            self.line("_bucket", labels, Some(text), count);
        }
        count += found.map(|(_, more)| more).sum::<u64>();
        self.line("_bucket", labels, Some("+Inf"), count);
        let (seconds, micros) = (sketch.sum_micros() / 1_000_000, sketch.sum_micros() % 1_000_000);
        self.line("_sum", labels, None, format_args!("{seconds}.{micros:06}"));
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        let family = self.family;
        self.put(format_args!("{family}{suffix}"));
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.put(format_args!("{before}{name}=\""));
            self.escape(value);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        self.put(format_args!(" {value}\n"));
    }

    fn escape(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("invariant: a String takes all");
    }

    /// All of it.
    pub(super) fn into_string(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_out_of_their_quotes() {
        let mut text = Text::default();
        text.family("a", "gauge", "Help.");
        text.sample(&[("x", "a\"b\\c\nd")], 1);
        text.sample(&[], 2);
        assert_eq!(text.into_string(), "# HELP a Help.\n# TYPE a gauge\na{x=\"a\\\"b\\\\c\\nd\"} 1\na 2\n");
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_everything() {
        let mut sketch = Sketch::default();
        for micros in [400, 900, 2_000, 2_000, 90_000_000] {
            sketch.record_micros(micros);
        }
        let mut text = Text::default();
        text.family("t_seconds", "histogram", "Help.");
        text.histogram(&[("s", "w")], &sketch);
        let text = text.into_string();
        let has = |line: &str| assert!(text.contains(line), "{line} in {text}");
        has("t_seconds_bucket{s=\"w\",le=\"0.0005\"} 1\n");
        has("t_seconds_bucket{s=\"w\",le=\"0.001\"} 2\n");
        has("t_seconds_bucket{s=\"w\",le=\"0.0025\"} 4\n");
        has("t_seconds_bucket{s=\"w\",le=\"60\"} 4\n");
        has("t_seconds_bucket{s=\"w\",le=\"+Inf\"} 5\n");
        has("t_seconds_sum{s=\"w\"} 90.005300\n");
        has("t_seconds_count{s=\"w\"} 5\n");
    }

    #[test]
    fn more_samples_than_the_limit_are_left_out_and_counted() {
        let mut text = Text::default();
        text.family("a", "gauge", "Help.");
        (0..SAMPLES_MAX + 3).for_each(|number| text.sample(&[], number));
        assert_eq!((text.left_out, text.into_string().lines().count()), (3, SAMPLES_MAX + 2));
    }
}
