//! Several methods with several seeds, compared: estimates, paired differences, what each generated,
//! what each chose.
//!
//! Values per query come from the evaluation after the last iteration of each run, everything else
//! from events. Only complete runs count; an entry is compared with its references over the seeds that
//! both have completed.

mod csv;
mod lines;
mod markdown;
mod plots;

pub use plots::{Plot, PlotError};

use crate::iterations::RunReport;
use bstar_core::RngKey;
use bstar_core::budget::{Spent, Tally};
use bstar_core::evaluate::QueryValues;
use bstar_core::goal::MissedGoal;
use bstar_core::statistics::{Estimate, FEWEST_SEEDS, PairedDifference, Sample, estimate, paired};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What was compared, and everything measured.
#[derive(Clone, Debug)]
pub struct ComparisonInput {
    /// What it shows, in words.
    pub title: String,
    /// The entries by name, with the keys that they vary and the name of their budget.
    pub entries: Vec<EntryInput>,
    /// Index of the entry that the others are compared with, unless they name another.
    pub reference: usize,
    /// Seeds asked for.
    pub seeds: Vec<u64>,
    /// Whether all seeds are evaluated on the same queries.
    pub shared_queries: bool,
    /// The complete runs.
    pub runs: Vec<RunInput>,
    /// Runs that failed: entry, seed and why.
    pub failures: Vec<(usize, u64, String)>,
}

/// An entry.
#[derive(Clone, Debug)]
pub struct EntryInput {
    /// Its name.
    pub name: String,
    /// Indices of the entries that it is compared with.
    pub references: Vec<usize>,
    /// The name that it shares with its siblings.
    pub group: String,
    /// Its budget rule.
    pub budget: String,
    /// Keys and values that tell it from its siblings.
    pub varied: Vec<(String, String)>,
}

/// A complete run.
#[derive(Clone, Debug)]
pub struct RunInput {
    /// Index of its entry.
    pub entry: usize,
    /// Its seed.
    pub seed: u64,
    /// What its events tell.
    pub report: RunReport,
    /// What it generated; responses that a race took over into the draw count as drawn only.
    pub spent: Spent,
    /// Training queries drawn in each iteration.
    pub queries: u64,
    /// Values per query after the last iteration.
    pub values: QueryValues,
    /// The iteration that validation chose, with its values per query.
    pub selected: Option<(u32, QueryValues)>,
}

/// Which checkpoint of a run is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Last,
    Selected,
}

impl RunInput {
    fn values(&self, which: Which) -> Option<&QueryValues> {
        match which {
            Which::Last => Some(&self.values),
            Which::Selected => self.selected.as_ref().map(|(_, values)| values),
        }
    }
}

/// A comparison's results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonReport {
    /// What it shows, in words.
    pub title: String,
    /// The task's name in metrics.
    pub task: String,
    /// Name of the entry that the others are compared with, unless they name another.
    pub reference: String,
    /// How intervals and tests are made.
    pub method: String,
    /// Seeds asked for.
    pub seeds: Vec<u64>,
    /// One result for each entry, in the order of the config.
    pub entries: Vec<EntryReport>,
    /// Runs that failed.
    pub failures: Vec<Failure>,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// Name of the entry.
    pub entry: String,
    /// Seed.
    pub seed: u64,
    /// Why.
    pub problem: String,
}

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EntryReport {
    /// Its name.
    pub name: String,
    /// The name that it shares with its siblings.
    pub group: String,
    /// Its budget rule.
    pub budget: String,
    /// Names of the entries that it is compared with.
    pub references: Vec<String>,
    /// Keys and values that tell it from its siblings.
    pub varied: Vec<(String, String)>,
    /// Seeds whose run is complete.
    pub seeds: Vec<u64>,
    /// Metrics after the last iteration, by name.
    pub metrics: BTreeMap<String, MetricReport>,
    /// Metrics at the checkpoints that validation chose, if it did.
    pub selected: BTreeMap<String, MetricReport>,
    /// These checkpoints by seed.
    pub selected_iterations: BTreeMap<u64, u32>,
    /// What a run generated, on average over its seeds.
    pub spent: SpentReport,
    /// What P_0 reached by seed, where that is not its goal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub missed_goals: BTreeMap<u64, MissedGoal>,
    /// P_0 and the iterations.
    pub iterations: Vec<IterationReport>,
}

/// A metric after the last iteration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricReport {
    /// Mean and interval.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// The mean of each seed.
    pub by_seed: BTreeMap<u64, f64>,
    /// The entry minus each of its references with which it has a seed in common.
    pub differences: Vec<Against>,
}

/// An entry minus one of its references.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Against {
    /// Name of the reference.
    pub reference: String,
    /// The difference, with its tests.
    #[serde(flatten)]
    pub paired: PairedDifference,
}

impl MetricReport {
    /// The entry minus the reference of this name.
    pub fn against(&self, reference: &str) -> Option<&PairedDifference> {
        let found = self.differences.iter().find(|against| against.reference == reference);
        found.map(|against| &against.paired)
    }
}

/// Means over runs of what was generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SpentReport {
    /// Training queries drawn in an iteration.
    pub queries: f64,
    /// To choose the configuration: responses and tokens.
    pub probe: [f64; 2],
    /// To train on.
    pub draw: [f64; 2],
    /// To label steps.
    pub labels: [f64; 2],
    /// All of these.
    pub generated: [f64; 2],
    /// To evaluate; no part of the budget.
    pub evaluation: [f64; 2],
    /// Optimizer steps on selections.
    pub steps: f64,
    /// Optimizer steps of supervised fine-tuning.
    pub supervised_steps: f64,
}

/// One iteration, over seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IterationReport {
    /// The iteration; 0 is P_0.
    pub iteration: u32,
    /// Sampling temperature by seed, where one was used.
    pub temperatures: Vec<f64>,
    /// Threshold by seed.
    pub thresholds: Vec<f64>,
    /// Balance score of the chosen cell by seed.
    pub balance_scores: Vec<f64>,
    /// Evaluation metrics by name, with an interval over seeds.
    pub metrics: BTreeMap<String, Estimate>,
}

impl ComparisonReport {
    /// Compares.
    pub fn of(input: &ComparisonInput) -> Self {
        let task = input.runs.first().map_or("", |run| &run.report.task).to_owned();
        let entries: Vec<_> = (0..input.entries.len()).map(|entry| input.entry(entry)).collect();
        let complete = entries.iter().map(|entry| entry.seeds.len()).filter(|seeds| *seeds > 0);
        let seeds = (complete.clone().min().unwrap_or(0), complete.max().unwrap_or(0));
        let failure = |(entry, seed, problem): &(usize, u64, String)| Failure {
            entry: input.entries[*entry].name.clone(),
            seed: *seed,
            problem: problem.clone(),
        };
        Self {
            title: input.title.clone(),
            task,
            reference: input.entries[input.reference].name.clone(),
            method: method(input.shared_queries, seeds),
            seeds: input.seeds.clone(),
            entries,
            failures: input.failures.iter().map(failure).collect(),
        }
    }

    /// Whether an entry is compared with another than the reference of the whole.
    fn has_own_references(&self) -> bool {
        let is_other = |name: &String| *name != self.reference;
        self.entries.iter().any(|entry| entry.references.iter().any(is_other))
    }
}

/// How intervals and tests are made, in words, where entries have from `least` to `most` complete seeds.
fn method(shared_queries: bool, (least, most): (usize, usize)) -> String {
    let mean = match most {
        0 | 1 => "Mean over the queries of one seed.",
        _ => "Mean over seeds of the mean over queries.",
    };
    let over_seeds = if shared_queries {
        "Student's t over seed means, plus the variance over queries, which all seeds share"
    } else {
        "Student's t over seed means; each seed has queries of its own, so they vary with the queries \
         too"
    };
    let intervals = match (least, most) {
        (_, most) if most < FEWEST_SEEDS => "over queries only".to_owned(),
        (least, _) if least < FEWEST_SEEDS => {
            format!("{over_seeds}. Of entries with fewer than three seeds: over queries only")
        }
        _ => over_seeds.to_owned(),
    };
    let (pairs, tests) = match most {
        0 | 1 => ("on the same queries", "p over queries: a two-sided sign-flip test."),
        _ => (
            "seed by seed on the same queries",
            "p over seeds and over queries: two-sided sign-flip tests.",
        ),
    };
    format!(
        "{mean} 95 % intervals: {intervals}. Differences: {pairs}; false positives and diversity, which not \
         every query has, between the means. {tests}"
    )
}

impl IterationReport {
    /// Everything that a figure can show, by name: metrics, `t`, `τ` and `balance_score`.
    fn all(&self) -> Vec<(String, Estimate)> {
        let chosen = [
            ("t", &self.temperatures),
            ("τ", &self.thresholds),
            ("balance_score", &self.balance_scores),
        ];
        let chosen = chosen
            .into_iter()
            .filter_map(|(name, values)| Some((name.to_owned(), over_seeds(values.iter())?)));
        let metrics = self.metrics.iter().map(|(name, estimate)| (name.clone(), *estimate));
        chosen.chain(metrics).collect()
    }
}

/// An estimate from one value a seed.
fn over_seeds<'a>(values: impl Iterator<Item = &'a f64>) -> Option<Estimate> {
    let samples: Vec<Sample> =
        values.map(|value| Sample::from([("mean".into(), *value)])).collect();
    estimate(&samples.iter().collect::<Vec<_>>(), false)
}

impl ComparisonInput {
    fn runs_of(&self, entry: usize) -> impl Iterator<Item = &RunInput> {
        self.runs.iter().filter(move |run| run.entry == entry)
    }

    fn entry(&self, index: usize) -> EntryReport {
        let entry = &self.entries[index];
        let runs: Vec<&RunInput> = self.runs_of(index).collect();
        let chosen = |run: &&RunInput| Some((run.seed, run.selected.as_ref()?.0));
        let missed = |run: &&RunInput| Some((run.seed, run.report.missed_goal?));
        EntryReport {
            name: entry.name.clone(),
            group: entry.group.clone(),
            budget: entry.budget.clone(),
            references: entry.references.iter().map(|i| self.entries[*i].name.clone()).collect(),
            varied: entry.varied.clone(),
            seeds: runs.iter().map(|run| run.seed).collect(),
            metrics: self.metrics(index, Which::Last),
            selected: self.metrics(index, Which::Selected),
            selected_iterations: runs.iter().filter_map(chosen).collect(),
            spent: SpentReport::of(&runs),
            missed_goals: runs.iter().filter_map(missed).collect(),
            iterations: iterations(&runs),
        }
    }

    fn metrics(&self, entry: usize, which: Which) -> BTreeMap<String, MetricReport> {
        let values = self.runs_of(entry).filter_map(|run| run.values(which));
        let names: BTreeSet<&String> = values.flat_map(QueryValues::keys).collect();
        let metric = |name: &String| Some((name.clone(), self.metric(entry, which, name)?));
        names.into_iter().filter_map(metric).collect()
    }

    fn metric(&self, entry: usize, which: Which, name: &str) -> Option<MetricReport> {
        let samples_of = |entry: usize| -> BTreeMap<u64, Sample> {
            let sample = |run: &RunInput| {
                let sample = run.values(which)?.get(name).cloned().unwrap_or_default();
                Some((run.seed, sample))
            };
            self.runs_of(entry).filter_map(sample).collect()
        };
        let own = samples_of(entry);
        let samples: Vec<&Sample> = own.values().collect();
        let estimate = estimate(&samples, self.shared_queries)?;
        let key = RngKey::from_seed(0).child("comparison").child(&self.entries[entry].name);
        let against = |&reference: &usize| -> Option<Against> {
            let (other, named) = (samples_of(reference), &self.entries[reference].name);
            let pairs: Vec<(&Sample, &Sample)> =
                own.iter().filter_map(|(seed, sample)| Some((sample, other.get(seed)?))).collect();
            let key = key.child(name);
            let key = if reference == self.reference { key } else { key.child(named) };
            let paired = paired(&pairs, self.shared_queries, key)?;
            Some(Against { reference: named.clone(), paired })
        };
        let differences = self.entries[entry].references.iter().filter_map(against).collect();
        let mean = |(seed, sample): (&u64, &Sample)| {
            let sum: f64 = sample.values().sum();
            (!sample.is_empty()).then(|| (*seed, sum / sample.len() as f64))
        };
        let by_seed = own.iter().filter_map(mean).collect();
        Some(MetricReport { estimate, by_seed, differences })
    }
}

impl SpentReport {
    fn of(runs: &[&RunInput]) -> Self {
        let count = runs.len().max(1) as f64;
        let mean = |value: &dyn Fn(&RunInput) -> u64| {
            runs.iter().fold(0.0, |sum, run| sum + value(run) as f64) / count
        };
        let tally = |of: &dyn Fn(&Spent) -> Tally| {
            [mean(&|run| of(&run.spent).responses), mean(&|run| of(&run.spent).tokens)]
        };
        Self {
            queries: mean(&|run| run.queries),
            probe: tally(&|spent| spent.probe),
            draw: tally(&|spent| spent.draw),
            labels: tally(&|spent| spent.labels),
            generated: tally(&Spent::generated),
            evaluation: tally(&|spent| spent.evaluation),
            steps: mean(&|run| run.spent.steps),
            supervised_steps: mean(&|run| run.spent.supervised_steps),
        }
    }
}

fn iterations(runs: &[&RunInput]) -> Vec<IterationReport> {
    let numbers: BTreeSet<u32> =
        runs.iter().flat_map(|run| &run.report.iterations).map(|row| row.iteration).collect();
    let report = |iteration: u32| {
        let of = |run: &&RunInput| {
            run.report.iterations.iter().find(|row| row.iteration == iteration).cloned()
        };
        let rows: Vec<_> = runs.iter().filter_map(of).collect();
        let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.metrics.keys()).collect();
        let metric = |name: &String| {
            let values = rows.iter().filter_map(|row| row.metrics.get(name)?.value.as_ref());
            Some((name.clone(), over_seeds(values)?))
        };
        IterationReport {
            iteration,
            temperatures: rows.iter().filter_map(|row| row.temperature).collect(),
            thresholds: rows.iter().filter_map(|row| row.threshold).collect(),
            balance_scores: rows.iter().filter_map(|row| row.balance_score).collect(),
            metrics: names.into_iter().filter_map(metric).collect(),
        }
    };
    numbers.into_iter().map(report).collect()
}

#[cfg(test)]
mod tests;
