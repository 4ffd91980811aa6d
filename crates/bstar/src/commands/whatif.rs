//! `bstar whatif`: other settings applied to the stored rollouts of a run, without a model.
//!
//! The run's own settings are applied too: if they do not lead to what the run recorded, its files
//! were changed, and that is told instead of a comparison.

use crate::cli::WhatifArgs;
use crate::commands::run::UNIMPORTANT_KEYS;
use crate::config::layers::{self, Loaded};
use crate::gold::GoldHashes;
use crate::named;
use crate::output::{self, Notes};
use crate::progress::short;
use bstar_core::controller::{Configuration, Decision};
use bstar_core::curriculum::QueryOrder;
use bstar_core::draw::lanes_of;
use bstar_core::event::{Event, SelectionSummary};
use bstar_core::improve::ImproveSettings;
use bstar_core::pool::{Pool, ScoredResponse};
use bstar_core::reward::RewardKind;
use bstar_core::search::{Lane, Search};
use bstar_core::whatif::{Answer, StoredRollouts, Unanswerable, answer};
use bstar_core::{Fault, FaultClass, QueryId, Stage};
use bstar_report::{Align, Table};
use bstar_store::rollout_file::{ScoredRollouts, Wanted, read_scored};
use bstar_store::{RunView, config_diff};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Keys that only say how stored rollouts are read; a key of a table stands for all of it.
const ANSWERABLE: [&str; 9] = [
    "preset",
    "method",
    "balance",
    "knobs",
    "reward",
    "selection",
    "sample.k",
    "sample.queries",
    "sample.target_samples",
];

/// Keys below those that are not: which queries were probed, and the score that was stored reduced.
const UNANSWERABLE: [&str; 8] = [
    "balance.candidate_logprobs",
    "balance.redraw_probe",
    "balance.search",
    "balance.search_budget",
    "knobs.steps",
    "knobs.steps_margin",
    "knobs.steps_queries",
    "reward.reduction",
];

/// What was chosen and selected in an iteration.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    decision: Decision,
    /// None where the draw was made in another way, or of a smaller k.
    selection: Option<SelectionOutcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct SelectionOutcome {
    selected: u64,
    correct: u64,
    /// None where n' counts answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<u64>,
    queries: u64,
    cap: Option<u32>,
    balance_score: f64,
}

#[derive(Debug, Serialize)]
struct Comparison {
    iteration: u32,
    old: Outcome,
    new: Outcome,
    /// Responses that the new settings add to the selection, and that they drop from it.
    added: Option<u64>,
    dropped: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Changed {
    key: String,
    old: serde_json::Value,
    new: serde_json::Value,
}

#[derive(Debug, Serialize)]
struct Comparisons {
    changed: Vec<Changed>,
    iterations: Vec<Comparison>,
}

/// Compares and prints.
pub(crate) fn whatif(args: &WhatifArgs, notes: Notes) -> Result<(), Fault> {
    let view = named::open(&args.run, args.dir.as_deref(), notes)?;
    let written = view.config_toml()?;
    let old = layers::load_written(&written, &[])?;
    let new = layers::load_written(&written, &args.settings)?;
    let changed = changes(&old, &new)?;
    new.config.check_stored()?;
    let gold = GoldHashes::of(&[&old, &new], notes);
    let recorded = recorded(&view)?;
    if recorded.is_empty() {
        return Err(Fault::new(FaultClass::Run, "the run has no iteration with a whole draw yet")
            .hint("continue it, or name another run"));
    }
    if let Some(wanted) = args.iteration.filter(|wanted| !recorded.contains_key(wanted)) {
        let (first, last) = (recorded.keys().min(), recorded.keys().max());
        let known = first.zip(last).map_or_else(String::new, |(a, b)| format!("{a} to {b}"));
        return Err(Fault::new(FaultClass::Usage, format!("the run has no iteration {wanted}"))
            .hint(format!("iterations {known} can be asked")));
    }
    let asked = Asked { view: &view, old: &old, new: &new, gold: &gold };
    let mut iterations = Vec::new();
    let mut previous = [None, None];
    for (&iteration, recorded) in &recorded {
        if args.iteration.is_some_and(|wanted| iteration > wanted) {
            break;
        }
        let comparison = asked.compare(iteration, recorded, &mut previous)?;
        if args.iteration.is_none_or(|wanted| iteration == wanted) {
            iterations.push(comparison);
        }
    }
    let comparisons = Comparisons { changed, iterations };
    if args.json {
        return output::print_json(&comparisons);
    }
    output::print(&comparisons.text())
}

/// What differs, in keys that stored rollouts can answer.
fn changes(old: &Loaded, new: &Loaded) -> Result<Vec<Changed>, Fault> {
    let [stored, given] =
        [old, new].map(|loaded| serde_json::to_value(&loaded.config).expect("configs are JSON"));
    let mut changed = Vec::new();
    for change in config_diff(&stored, &given, &UNIMPORTANT_KEYS) {
        // Log-probabilities are stored at the temperatures of the run.
        let is_weighed = old.config.balance.search == Search::Reweighting;
        let fixed = is_weighed && change.key == "balance.temperatures";
        let answerable = !fixed
            && ANSWERABLE.iter().any(|key| {
                change.key == *key
                    || change.key.strip_prefix(key).is_some_and(|r| r.starts_with('.'))
            });
        if !answerable || UNANSWERABLE.contains(&change.key.as_str()) {
            let message = format!("`{}` changes what is drawn or trained", change.key);
            return Err(Fault::new(FaultClass::Usage, message).hint(
                "only a new run can tell; stored rollouts answer for `balance`, `knobs`, `reward`, \
                 `selection`, `preset`, `method`, `sample.k`, `sample.queries` and \
                 `sample.target_samples`",
            ));
        }
        let [old, new] = [change.stored, change.given].map(Option::unwrap_or_default);
        changed.push(Changed { key: change.key, old, new });
    }
    Ok(changed)
}

/// Decision and selection of each iteration whose draw is on disk, as the run recorded them.
fn recorded(view: &RunView) -> Result<BTreeMap<u32, (Decision, SelectionSummary)>, Fault> {
    let mut decisions = BTreeMap::new();
    let mut whole = BTreeMap::new();
    for logged in view.events()? {
        match logged.event {
            Event::Decided { iteration, decision } => {
                decisions.insert(iteration, *decision);
            }
            Event::Selected { iteration, selection } => {
                let path = view.rollouts_path(iteration, Stage::Train);
                if let Some(decision) = decisions.remove(&iteration).filter(|_| path.is_some()) {
                    whole.insert(iteration, (decision, selection));
                }
            }
            _ => {}
        }
    }
    Ok(whole)
}

struct Asked<'a> {
    view: &'a RunView,
    old: &'a Loaded,
    new: &'a Loaded,
    gold: &'a GoldHashes,
}

impl Asked<'_> {
    fn compare(
        &self,
        iteration: u32,
        (decision, summary): &(Decision, SelectionSummary),
        previous: &mut [Option<Configuration>; 2],
    ) -> Result<Comparison, Fault> {
        let (probed, lanes) = self.read_probe(iteration)?;
        let mut draw = self.read(iteration, Stage::Train)?;
        let mut outcomes = Vec::new();
        let mut answers = Vec::new();
        for (loaded, previous) in [self.old, self.new].into_iter().zip(previous.iter_mut()) {
            let settings = loaded.config.improve_settings(draw.queries.len());
            self.check_stored(&settings, &draw)?;
            let gold = |queries| self.gold.of_queries(queries, &loaded.config);
            let stored = StoredRollouts {
                iteration,
                probes: &lanes,
                probe_gold: &gold(&probed),
                draw: &draw.pools[0],
                draw_gold: &gold(&draw.queries),
            };
            let answer =
                answer(&settings, &stored, *previous).map_err(|error| unanswerable(&error))?;
            *previous = Some(answer.decision.configuration());
            outcomes.push(outcome(&answer));
            answers.push(answer);
        }
        draw.pools.clear();
        let [old, new] = <[Answer; 2]>::try_from(answers).expect("two settings");
        let (added, dropped) = difference(&old, &new).unzip();
        let [old, new] = <[Outcome; 2]>::try_from(outcomes).expect("two settings");
        let comparison = Comparison { iteration, old, new, added, dropped };
        comparison.check_recorded(decision, summary, self.gold)?;
        Ok(comparison)
    }

    fn read(&self, iteration: u32, stage: Stage) -> Result<ScoredRollouts, Fault> {
        let Some(path) = self.view.rollouts_path(iteration, stage) else {
            return Ok(ScoredRollouts::default());
        };
        let reduction = self.new.config.reward.reduction;
        let read = read_scored(&[path], reduction, Wanted::default());
        Ok(read?)
    }

    /// The queries of the probe, with a lane for each way to sample. Log-probabilities are read only
    /// where the search needs them.
    fn read_probe(&self, iteration: u32) -> Result<(Vec<QueryId>, Vec<Lane>), Fault> {
        let is_weighed = self.old.config.balance.search == Search::Reweighting;
        if is_weighed && self.view.rollouts_path(iteration, Stage::Probe).is_some() {
            return Ok(lanes_of(&self.view.read_rollouts(iteration, Stage::Probe)?));
        }
        let scored = self.read(iteration, Stage::Probe)?;
        Ok((scored.queries, scored.pools.into_iter().map(Lane::plain).collect()))
    }

    /// More than was drawn cannot be had.
    fn check_stored(&self, settings: &ImproveSettings, draw: &ScoredRollouts) -> Result<(), Fault> {
        let (old, new) = (&self.old.config, &self.new.config);
        let more = |key: &str, wanted: usize, stored: usize| {
            let message = format!("`{key}` is {wanted}, but the run drew {stored}");
            Err(Fault::new(FaultClass::Usage, message)
                .hint("stored rollouts answer for fewer, not for more"))
        };
        if new.sample.k > old.sample.k {
            return more("sample.k", new.sample.k, old.sample.k);
        }
        let by_record = old.sample.query_order == QueryOrder::AdaStar;
        if new.sample.queries != old.sample.queries && by_record {
            let message = "`sample.queries` changes which queries are drawn with \
                           `sample.query_order = \"ada-star\"`";
            return Err(Fault::new(FaultClass::Usage, message).hint("only a new run can tell"));
        }
        if new.sample.queries != old.sample.queries
            && (new.sample.queries == 0 || new.sample.queries > draw.queries.len())
        {
            return more("sample.queries", new.sample.queries, draw.queries.len());
        }
        if new.balance.probe_queries > old.balance.probe_queries {
            let (wanted, stored) = (new.balance.probe_queries, old.balance.probe_queries);
            return more("balance.probe_queries", wanted, stored);
        }
        let scored = draw.pools[0].groups.iter().flatten();
        let wants_scores = settings.ranking.reward.kind == RewardKind::AnswerAndRewardModel;
        if wants_scores && scored.clone().all(|response| response.reward_model_score.is_none()) {
            let message = "the stored rollouts carry no reward-model scores";
            return Err(Fault::new(FaultClass::Usage, message)
                .hint("`reward.kind = \"answer\"` needs none"));
        }
        Ok(())
    }
}

fn unanswerable(error: &Unanswerable) -> Fault {
    let hint = match error {
        Unanswerable::Temperatures { .. } => {
            "choose among these with --set balance.temperatures=… and --set knobs.top_p=…; others \
             need a new run"
        }
        Unanswerable::Search { .. } => {
            "the run searched for less and did not draw what these settings ask for; only a new run \
             can tell"
        }
    };
    Fault::new(FaultClass::Usage, error.to_string()).hint(hint)
}

fn outcome(answer: &Answer) -> Outcome {
    let selection = answer.selected.as_ref().map(|(draw, selection)| {
        let counts = selection.counts(draw, &answer.ranking);
        SelectionOutcome {
            selected: counts.selected,
            correct: counts.correct,
            verified: counts.verified,
            queries: counts.queries,
            cap: selection.cell.cap,
            balance_score: selection.cell.balance_score,
        }
    });
    Outcome { decision: answer.decision.clone(), selection }
}

/// Responses that the new selection has and the old one has not, and the other way round.
fn difference(old: &Answer, new: &Answer) -> Option<(u64, u64)> {
    let taken = |answer: &Answer| {
        let (draw, selection) = answer.selected.as_ref()?;
        Some(samples(draw, &selection.chosen))
    };
    let (old, new) = (taken(old)?, taken(new)?);
    Some((new.difference(&old).count() as u64, old.difference(&new).count() as u64))
}

fn samples(draw: &Pool, chosen: &[Vec<usize>]) -> BTreeSet<(usize, u32)> {
    let groups = chosen.iter().zip(&draw.groups).enumerate();
    let of_group = |(query, (chosen, group)): (usize, (&Vec<usize>, &Vec<ScoredResponse>))| {
        let sample = |place: &usize| group[*place].sample_index;
        chosen.iter().map(|place| (query, sample(place))).collect::<Vec<_>>()
    };
    groups.flat_map(of_group).collect()
}

impl Comparison {
    /// The run's own settings must lead to what the run recorded.
    fn check_recorded(
        &self,
        decision: &Decision,
        summary: &SelectionSummary,
        gold: &GoldHashes,
    ) -> Result<(), Fault> {
        let chosen = &self.old.decision;
        let selected = self.old.selection;
        let same_choice = chosen.configuration() == decision.configuration()
            && chosen.balance_score == decision.balance_score
            && chosen.calibration == decision.calibration;
        let same_selection = selected.is_some_and(|selected| {
            (selected.selected, selected.correct, selected.balance_score)
                == (summary.selected, summary.correct, summary.balance_score)
        });
        if same_choice && same_selection {
            return Ok(());
        }
        let message = format!(
            "the rollouts of iteration {} do not lead to what the run recorded: \
             (t, τ) = ({}, {}) with {} selected, recorded ({}, {}) with {}",
            self.iteration,
            chosen.temperature,
            short(chosen.threshold),
            selected.map_or_else(|| "nothing".into(), |selected| selected.selected.to_string()),
            decision.temperature,
            short(decision.threshold),
            summary.selected,
        );
        let hint = if gold.are_known() {
            "the files of the run were changed, or another version of bstar wrote them"
        } else {
            "gold solutions take part in it, and the data that hold them cannot be read"
        };
        Err(Fault::new(FaultClass::Run, message).hint(hint))
    }
}

impl Comparisons {
    fn text(&self) -> String {
        let changed = self.changed.iter().map(|changed| {
            format!("what if {} = {} (was {})\n", changed.key, changed.new, changed.old)
        });
        let changed: String = changed.collect();
        let changed = if changed.is_empty() { "nothing changed\n".into() } else { changed };
        let mut text = changed + "\n" + &self.table();
        let elsewhere: Vec<String> = self
            .iterations
            .iter()
            .filter(|comparison| comparison.new.selection.is_none())
            .map(|comparison| comparison.iteration.to_string())
            .collect();
        if !elsewhere.is_empty() {
            text += "\nanother temperature, another top-p or a larger k in iteration ";
            text += &elsewhere.join(", ");
            text += ": nobody drew its training rollouts, so its selection is not known\n";
        }
        text
    }

    fn table(&self) -> String {
        let right = Align::Right;
        let mut table = Table::new(&[
            ("iteration", right),
            ("", Align::Left),
            ("t", right),
            ("τ", right),
            ("balance", right),
            ("knobs", Align::Left),
            ("cap", right),
            ("selected", right),
            ("unique correct", right),
            ("verified", right),
            ("queries", right),
            ("changed", Align::Left),
        ]);
        for comparison in &self.iterations {
            let changed = match (comparison.added, comparison.dropped) {
                (Some(0), Some(0)) => "nothing".into(),
                (Some(added), Some(dropped)) => format!("+{added} -{dropped}"),
                _ => "draw".into(),
            };
            let iteration = comparison.iteration.to_string();
            table.row(comparison.old.row(iteration, "run", String::new()));
            table.row(comparison.new.row(String::new(), "what if", changed));
        }
        table.render()
    }
}

impl Outcome {
    fn row(&self, iteration: String, label: &str, changed: String) -> [String; 12] {
        let decision = &self.decision;
        let count = |number: Option<u64>| number.map_or_else(|| "–".into(), |n| n.to_string());
        let selection = self.selection;
        [
            iteration,
            label.into(),
            decision.temperature.to_string(),
            short(decision.threshold).to_string(),
            bstar_report::number(decision.balance_score, 4),
            decision.knobs.to_string(),
            count(selection.and_then(|selection| selection.cap).map(u64::from)),
            count(selection.map(|selection| selection.selected)),
            count(selection.map(|selection| selection.correct)),
            count(selection.and_then(|selection| selection.verified)),
            count(selection.map(|selection| selection.queries)),
            changed,
        ]
    }
}
