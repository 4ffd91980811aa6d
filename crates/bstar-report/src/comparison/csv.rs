//! A comparison as CSV, one value a row, for spreadsheets and other programs.

use super::ComparisonReport;
use bstar_core::statistics::Estimate;
use csv::Writer;

impl ComparisonReport {
    /// `results.csv`: every metric after the last iteration, with its difference to the reference; an
    /// entry with several references has a row for each.
    pub fn results_csv(&self) -> String {
        let mut rows = vec![heads(&[
            "entry",
            "metric",
            "mean",
            "low",
            "high",
            "seeds",
            "values",
            "reference",
            "difference",
            "difference_low",
            "difference_high",
            "p_seeds",
            "p_queries",
        ])];
        for entry in &self.entries {
            for (name, metric) in &entry.metrics {
                let all = metric.differences.iter().map(Some);
                let none = metric.differences.is_empty().then_some(None);
                for against in all.chain(none) {
                    let paired = against.map(|against| against.paired);
                    let mut row = vec![entry.name.clone(), name.clone()];
                    row.extend(interval(Some(metric.estimate)));
                    row.push(metric.estimate.seeds.to_string());
                    row.push(metric.estimate.values.to_string());
                    row.push(against.map_or_else(String::new, |against| against.reference.clone()));
                    row.extend(interval(paired.map(|paired| paired.difference)));
                    row.push(number(paired.and_then(|paired| paired.p_seeds)));
                    row.push(number(paired.and_then(|paired| paired.p_queries)));
                    rows.push(row);
                }
            }
        }
        text(rows)
    }

    /// `iterations.csv`: what figures show, over seeds.
    pub fn iterations_csv(&self) -> String {
        let columns = ["entry", "iteration", "metric", "mean", "low", "high", "seeds"];
        let mut rows = vec![heads(&columns)];
        for entry in &self.entries {
            for iteration in &entry.iterations {
                for (name, estimate) in iteration.all() {
                    let number = iteration.iteration.to_string();
                    let mut row = vec![entry.name.clone(), number, name];
                    row.extend(interval(Some(estimate)));
                    row.push(estimate.seeds.to_string());
                    rows.push(row);
                }
            }
        }
        text(rows)
    }

    /// `runs.csv`: every metric after the last iteration of every run.
    pub fn runs_csv(&self) -> String {
        let mut rows = vec![heads(&["entry", "seed", "metric", "mean"])];
        for entry in &self.entries {
            for (name, metric) in &entry.metrics {
                for (seed, mean) in &metric.by_seed {
                    let seed = seed.to_string();
                    rows.push(vec![entry.name.clone(), seed, name.clone(), mean.to_string()]);
                }
            }
        }
        text(rows)
    }
}

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// Mean, low and high.
fn interval(estimate: Option<Estimate>) -> [String; 3] {
    let of = |value: fn(&Estimate) -> Option<f64>| number(estimate.as_ref().and_then(value));
    [of(|e| Some(e.mean)), of(|e| e.low), of(|e| e.high)]
}

fn text(rows: Vec<Vec<String>>) -> String {
    let mut writer = Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("memory takes every row");
    }
    let bytes = writer.into_inner().expect("memory takes every row");
    String::from_utf8(bytes).expect("rows are text")
}
