//! The plan of a comparison: the sum of its runs, what they share counted once.

use super::facts::{self, Facts};
use super::table::{self, duration, quantity, span};
use super::{Part, Plan};
use crate::commands::compare;
use crate::commands::run::use_threads;
use crate::config::Config;
use crate::config::comparison::Comparison;
use crate::config::layers::Loaded;
use crate::output::Notes;
use bstar_core::Fault;
use bstar_core::plan::Span;
use bstar_core::reward::RewardKind;
use bstar_report::{Align, Table};
use bstar_store::ComparisonLayout;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// What a comparison will take.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ComparisonPlan {
    /// All of it, one run after the other.
    pub(crate) total: Plan,
    /// What several runs start from.
    pub(crate) starts: Share,
    /// Each entry with all its seeds, starts not counted.
    pub(crate) entries: Vec<Share>,
    /// Runs side by side.
    pub(crate) workers: usize,
    /// Time with so many runs side by side.
    pub(crate) wall_seconds: Span,
}

/// What a part of a comparison takes.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Share {
    /// Its name.
    pub(crate) name: String,
    /// Runs in it.
    pub(crate) runs: usize,
    /// Responses drawn.
    pub(crate) responses: Span,
    /// Tokens generated.
    pub(crate) generated: Span,
    /// Tokens trained on.
    pub(crate) trained: Span,
    /// Time.
    pub(crate) seconds: Span,
}

impl Share {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn add(&mut self, plan: &Plan) {
        let tokens = plan.tokens();
        self.runs += 1;
        self.responses =
            self.responses + plan.purposes.iter().map(|row| row.responses).sum::<Span>();
        self.generated = self.generated + tokens.generated;
        self.trained = self.trained + tokens.trained;
        self.seconds = self.seconds + plan.seconds();
    }
}

/// Whether a file is a comparison: it has entries.
pub(crate) fn is_comparison(path: &Path) -> bool {
    let table =
        std::fs::read_to_string(path).ok().and_then(|text| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| table.contains_key("entry"))
}

/// Plans a comparison.
pub(crate) fn plan(path: &Path, over: &[String], notes: Notes) -> Result<ComparisonPlan, Fault> {
    let comparison = Comparison::load(path, over)?;
    let plan = compare::Plan::of(&comparison, &ComparisonLayout::new(Path::new("")))?;
    use_threads(comparison.threads)?;
    let mut measured = Measured { groups: Vec::new(), notes };
    let all: Vec<&Loaded> = plan.runs.iter().map(|run| &run.loaded).collect();
    let (mut starts, mut total) = (Share::named("what they start from"), None);
    let entries = comparison.entries.iter().map(|entry| Share::named(&entry.name));
    let mut entries: Vec<Share> = entries.collect();
    for start in &plan.starts {
        let part = Part::Start { is_made: start.supervised_from.is_none() };
        let planned = measured.plan(&start.loaded, &all, part)?;
        starts.add(&planned);
        add(&mut total, planned);
    }
    for run in &plan.runs {
        let planned = measured.plan(&run.loaded, &all, Part::Iterations)?;
        entries[run.entry].add(&planned);
        add(&mut total, planned);
    }
    let total = total.expect("a comparison has runs");
    let workers = match comparison.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let wall_seconds = total.seconds() * (1.0 / workers as f64);
    Ok(ComparisonPlan { total, starts, entries, workers, wall_seconds })
}

fn add(total: &mut Option<Plan>, plan: Plan) {
    match total {
        Some(total) => total.add(plan),
        None => *total = Some(plan),
    }
}

/// What was found out, by model and task: seeds and methods do not change it.
struct Measured {
    groups: Vec<(Value, Facts)>,
    notes: Notes,
}

impl Measured {
    fn plan(&mut self, loaded: &Loaded, all: &[&Loaded], part: Part) -> Result<Plan, Fault> {
        let config = &loaded.config;
        let facts = self.facts(loaded, all)?;
        let known = facts::known_of(config, facts.known.size, facts.known.steps_per_response);
        Plan::new(config, Facts { known, ..facts }, part)
    }

    fn facts(&mut self, loaded: &Loaded, all: &[&Loaded]) -> Result<Facts, Fault> {
        let group = group_of(&loaded.config);
        if let Some((_, facts)) = self.groups.iter().find(|(known, _)| *known == group) {
            return Ok(facts.clone());
        }
        // One that has a reward model measures all that the others need.
        let mut alike = all.iter().filter(|other| group_of(&other.config) == group);
        let scores = |other: &&&Loaded| {
            other.config.reward.kind == RewardKind::AnswerAndRewardModel
                && other.config.method.spec().self_training
        };
        let example = alike.clone().find(scores).or_else(|| alike.next());
        let facts = facts::gather(example.map_or(loaded, |example| example), self.notes)?;
        self.groups.push((group, facts.clone()));
        Ok(facts)
    }
}

/// What lengths, speeds and sizes depend on.
fn group_of(config: &Config) -> Value {
    serde_json::json!([
        config.task,
        config.model,
        config.lora,
        config.sample.max_tokens,
        config.supervised.batch_size,
        config.train.batch_size,
        config.plan,
    ])
}

/// The plan as text.
pub(crate) fn render(plan: &ComparisonPlan) -> String {
    let mut table = Table::new(&[
        ("entry", Align::Left),
        ("runs", Align::Right),
        ("responses", Align::Right),
        ("generated", Align::Right),
        ("trained tokens", Align::Right),
        ("time", Align::Right),
    ]);
    for share in std::iter::once(&plan.starts).chain(&plan.entries) {
        table.row([
            share.name.clone(),
            share.runs.to_string(),
            span(share.responses, quantity),
            span(share.generated, quantity),
            span(share.trained, quantity),
            span(share.seconds, duration),
        ]);
    }
    let mut out = format!("{}\n{}", table::render(&plan.total), table.render());
    let wall = span(plan.wall_seconds, duration);
    writeln!(out, "\n{} runs side by side: {wall}", plan.workers).expect("text");
    out
}
