//! The plan of a comparison: the sum of its runs, what they share counted once, and how long they take
//! side by side.

use super::Plan;
use super::earlier::{Contents, Earlier};
use super::facts::{self, Facts};
use super::table::{self, duration, quantity, span};
use crate::commands::compare::{self, Aim, Job};
use crate::commands::run::UNIMPORTANT_KEYS;
use crate::config::Config;
use crate::config::comparison::Comparison;
use crate::config::layers::Loaded;
use crate::named;
use crate::output::Notes;
use crate::reward_folder;
use bstar_core::plan::{Known, Part, Purpose, Span};
use bstar_core::reward::RewardKind;
use bstar_core::{Fault, FaultClass};
use bstar_report::{Actual, Align, Table};
use bstar_store::{ComparisonLayout, RunView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a comparison will take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ComparisonPlan {
    /// All of it, one run after the other; the memory is that of those that work side by side.
    pub(crate) total: Plan,
    /// What several runs start from.
    pub(crate) starts: Share,
    /// Each entry with all its seeds, starts not counted.
    pub(crate) entries: Vec<Share>,
    /// Runs side by side.
    pub(crate) workers: usize,
    /// Time with so many runs side by side, each after the start that it needs.
    pub(crate) wall_seconds: Span,
    /// What it is of: see [`identity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Value>,
}

/// What a part of a comparison takes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
pub(crate) fn plan(
    comparison: &Comparison,
    earlier: Earlier,
    notes: Notes,
) -> Result<ComparisonPlan, Fault> {
    let layout = ComparisonLayout::new(Path::new(""));
    let plan = compare::Plan::of(comparison, &layout, Aim::Estimate, notes)?;
    plan.check_searches(comparison, true)?;
    for run in plan.runs.iter().filter(|run| !run.loaded.config.plan.is_elsewhere()) {
        let entry = &comparison.entries[run.entry];
        let found = reward_folder::of_config(&run.loaded);
        found.map_err(|fault| comparison.of_entry(entry, fault))?;
    }
    let mut measured = Measured { groups: Vec::new(), earlier, notes };
    let all: Vec<&Loaded> = plan.runs.iter().map(|run| &run.loaded).collect();
    let mut planned: BTreeMap<Job, Plan> = BTreeMap::new();
    for (index, start) in plan.starts.iter().enumerate() {
        let made = measured.plan((&start.loaded, &start.data), &all, part_of(start))?;
        planned.insert(Job::Start(index), made);
    }
    for (index, run) in plan.runs.iter().enumerate() {
        let labels = |start: usize| Ok(Some(labels_of(&planned[&Job::Start(start)])));
        let counted = compare::Plan::after_labels(comparison, run, &labels)?;
        let loaded = counted.as_ref().unwrap_or(&run.loaded);
        run.check_search(comparison, &loaded.config)?;
        let made = measured.plan((loaded, &run.data), &all, Part::Iterations)?;
        planned.insert(Job::Run(index), made);
    }
    let workers = comparison.workers(None);
    let seconds =
        |of: fn(&Span) -> f64| plan.seconds_with(workers, &|job| of(&planned[&job].seconds()));
    let wall_seconds = Span {
        least: seconds(|span| span.least),
        expected: seconds(|span| span.expected),
        most: seconds(|span| span.most),
    };
    let memory = memory_of(&planned, workers.min(plan.runs.len()));
    let (mut starts, mut total) = (Share::named("what they start from"), None);
    let entries = comparison.entries.iter().map(|entry| Share::named(&entry.name));
    let mut entries: Vec<Share> = entries.collect();
    for (job, planned) in planned {
        match job {
            Job::Start(_) => starts.add(&planned),
            Job::Run(index) => entries[plan.runs[index].entry].add(&planned),
        }
        add(&mut total, planned);
    }
    let total = Plan { memory_bytes: memory, ..total.expect("a comparison has runs") };
    let config = Some(identity(comparison)?);
    Ok(ComparisonPlan { total, starts, entries, workers, wall_seconds, config })
}

/// What decides what a comparison takes: its seeds, and of each entry budget and config, of the first
/// seed.
pub(crate) fn identity(comparison: &Comparison) -> Result<Value, Fault> {
    let mut entries = serde_json::Map::new();
    for entry in &comparison.entries {
        let config = comparison.run_config(entry, comparison.seeds[0], None)?.config;
        let mut keys = serde_json::to_value(config).expect("configs are JSON");
        if let Some(keys) = keys.as_object_mut() {
            keys.retain(|key, _| !UNIMPORTANT_KEYS.contains(&key.as_str()));
            keys.insert("budget".into(), entry.budget.name().into());
        }
        entries.insert(entry.name.clone(), keys);
    }
    let reference = &comparison.entries[comparison.reference].name;
    Ok(json!({"seeds": comparison.seeds, "reference": reference, "entry": entries}))
}

fn part_of(start: &compare::Start) -> Part {
    Part::Start { is_made: start.supervised_from.is_none() }
}

/// Responses and completions that label steps in a start.
fn labels_of(start: &Plan) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean count")]
    let labels = start.responses(&[Purpose::Labels, Purpose::Completions]).round() as u64;
    labels
}

/// Memory of the so many largest jobs together.
fn memory_of(planned: &BTreeMap<Job, Plan>, at_once: usize) -> f64 {
    let mut each: Vec<f64> = planned.values().map(|plan| plan.memory_bytes).collect();
    each.sort_by(|a, b| b.total_cmp(a));
    each.iter().take(at_once.max(1)).sum()
}

/// What a comparison has spent.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    /// By all its runs, and by what they start from.
    pub(crate) all: Actual,
    /// Runs that are not finished.
    pub(crate) open: usize,
    /// How often P_0 was made, where it has an accuracy goal.
    pub(crate) starts: Option<usize>,
}

/// The folder of a comparison, named by it or by its name where comparisons lie.
pub(crate) fn folder(dir: &Path) -> Result<PathBuf, Fault> {
    let places = [dir.to_owned(), Path::new(named::COMPARISONS).join(dir)];
    places.into_iter().find(|dir| ComparisonLayout::new(dir).is_there()).ok_or_else(|| {
        Fault::new(FaultClass::Run, format!("{} holds no comparison", dir.display()))
            .hint("name the folder that `bstar compare` told at its end")
    })
}

/// What the runs of a comparison in a folder, and what they start from, have spent together.
pub(crate) fn spent(comparison: &Comparison, dir: &Path, notes: Notes) -> Result<Spent, Fault> {
    let layout = ComparisonLayout::new(dir);
    let plan = compare::Plan::of(comparison, &layout, Aim::Estimate, notes)?;
    let (mut all, mut open, mut starts) = (Actual::default(), 0, None);
    for start in plan.starts.iter().filter(|start| start.dir.is_dir()) {
        let stops = start.loaded.config.supervised.stop_at_accuracy > 0.0;
        if stops && start.supervised_from.is_none() {
            starts = Some(starts.unwrap_or(0) + 1);
        }
        all.add(&Actual::of(&RunView::open(&start.dir)?, part_of(start))?);
    }
    for run in &plan.runs {
        let spent = if run.dir.is_dir() {
            Actual::of(&RunView::open(&run.dir)?, Part::Iterations)?
        } else {
            Actual::default()
        };
        open += usize::from(!spent.finished);
        all.add(&spent);
    }
    all.finished = open == 0;
    Ok(Spent { all, open, starts })
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
    earlier: Earlier,
    notes: Notes,
}

impl Measured {
    fn plan(
        &mut self,
        (loaded, data): (&Loaded, &str),
        all: &[&Loaded],
        part: Part,
    ) -> Result<Plan, Fault> {
        let config = &loaded.config;
        let facts = self.facts(loaded, all)?;
        let Known { size, steps_per_response, .. } = facts.known;
        let contents = Contents::of(loaded, Some(data.to_owned()));
        let known = facts::known_of(config, (&self.earlier, &contents), size, steps_per_response);
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
        let example = example.map_or(loaded, |example| example);
        let facts = facts::gather(example, &self.earlier, self.notes)?;
        self.groups.push((group, facts.clone()));
        Ok(facts)
    }
}

/// What lengths, speeds and sizes depend on.
fn group_of(config: &Config) -> Value {
    json!([
        config.task,
        config.model,
        config.lora,
        config.compute,
        config.sample.max_tokens,
        config.supervised.batch_size,
        config.train.batch_size,
        config.plan,
        config.improve_settings(0).weighs(),
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
