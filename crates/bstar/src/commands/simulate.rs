//! `bstar simulate`: scripted policies, and searches replayed on simulated or stored surfaces.

use crate::cli::{SimulateChoiceArgs, SimulateSearchArgs};
use crate::config::layers;
use crate::gold::GoldHashes;
use crate::named;
use crate::output::{self, Notes};
use crate::progress::short;
use bstar_core::balance::BalanceRule;
use bstar_core::draw::lanes_of;
use bstar_core::knobs::KnobGrid;
use bstar_core::ranking::RankingRule;
use bstar_core::search::{Lane, Scoring, Search, measured};
use bstar_core::simulate::search::{Replay, Surface, Trial};
use bstar_core::simulate::{Outcome, Scenario, Study, study};
use bstar_core::{Fault, FaultClass, RngKey, Stage};
use bstar_report::{Align, Table, percent};
use bstar_store::RunView;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Queries of a simulated surface, and of the draw that its cost is a share of.
const SURFACE_QUERIES: usize = 400;
const DRAW_QUERIES: usize = 4000;
/// Iterations of a run are searched up to this one.
const MOST_ITERATIONS: u32 = 10_000;

#[derive(Serialize)]
struct NamedStudy {
    scenario: Scenario,
    study: Study,
}

/// Studies scenarios and prints what is chosen against what is best.
pub(crate) fn choice(args: &SimulateChoiceArgs) -> Result<(), Fault> {
    let &SimulateChoiceArgs { probe_queries, seeds, verified_above, json, .. } = args;
    if !verified_above.is_finite() {
        return Err(Fault::new(FaultClass::Usage, "--verified-above is a finite number"));
    }
    let scenarios = match args.scenario.as_deref() {
        None => Scenario::all(),
        Some(name) => vec![Scenario::named(name).ok_or_else(|| {
            let known: Vec<&str> = Scenario::all().iter().map(|scenario| scenario.name).collect();
            Fault::new(FaultClass::Usage, format!("there is no scenario `{name}`"))
                .hint(format!("the scenarios are {}", known.join(", ")))
        })?],
    };
    let studies: Vec<NamedStudy> = scenarios
        .into_iter()
        .map(|scenario| {
            let study = study(&scenario, probe_queries as usize, seeds, verified_above);
            NamedStudy { scenario, study }
        })
        .collect();
    if json {
        return output::print_json(&studies);
    }
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("scenario", left),
        ("setting", left),
        ("t", right),
        ("τ", right),
        ("balance", right),
        ("coverage", right),
        ("purity %", right),
        ("worth", right),
        ("kept %", right),
    ]);
    for NamedStudy { scenario, study } in &studies {
        let best = study.optimum.worth;
        table.row(row(scenario.name, "worth most", &study.optimum, best));
        let label = format!("{seeds} probes of {probe_queries}");
        table.row(row("", "balance score", &study.expected, best));
        table.row(kept(label.clone(), &study.chosen, best));
        if let Some(verified) = &study.verified {
            table.row(row("", "verified count", &verified.expected, best));
            table.row(kept(label, &verified.chosen, best));
        }
    }
    let about = studies.iter().fold(String::new(), |about, study| {
        about + study.scenario.name + ": " + study.scenario.about + "\n"
    });
    output::print(&format!("{}\n{about}", table.render()))
}

/// The mean share of the most worth that choices on probe sets keep.
fn kept(label: String, chosen: &[Outcome], best: f64) -> Vec<String> {
    let kept: f64 = chosen.iter().map(|outcome| outcome.worth / best).sum();
    let mean = Some(kept / chosen.len() as f64).filter(|_| !chosen.is_empty());
    let mut cells = vec![String::new(), label];
    cells.resize(8, String::new());
    cells.push(percent(mean));
    cells
}

fn row(name: &str, label: &str, outcome: &Outcome, best: f64) -> Vec<String> {
    vec![
        name.into(),
        label.into(),
        outcome.configuration.temperature.to_string(),
        short(outcome.configuration.threshold).to_string(),
        format!("{:.3}", outcome.balance_score),
        format!("{:.3}", outcome.parts.coverage),
        percent(Some(outcome.parts.purity)),
        format!("{:.3}", outcome.worth),
        percent(Some(outcome.worth / best)),
    ]
}

/// The searches of one surface.
#[derive(Serialize)]
struct Searched {
    surface: String,
    draw_queries: usize,
    best_temperature: f64,
    best_balance_score: f64,
    searches: Vec<Replay>,
}

/// A surface before it is scored.
struct Stored {
    name: String,
    lanes: Vec<Lane>,
    gold: Vec<Option<u64>>,
    ranking: RankingRule,
    balance: BalanceRule,
    /// The queries that `balance` is for.
    all_queries: usize,
    knobs: KnobGrid,
    thresholds: Vec<f64>,
    samples: usize,
    draw_queries: usize,
}

/// Searches surfaces and prints losses and costs.
pub(crate) fn search(args: &SimulateSearchArgs, notes: Notes) -> Result<(), Fault> {
    if !(0.0..=1.0).contains(&args.budget) || args.margin.is_nan() || args.margin < 0.0 {
        let message = "--budget is a share from 0 to 1, and --margin is not below 0";
        return Err(Fault::new(FaultClass::Usage, message));
    }
    let mut surfaces = Vec::new();
    for run in &args.runs {
        surfaces.extend(stored(run, args, notes)?);
    }
    if args.runs.is_empty() {
        surfaces = Scenario::all().iter().map(simulated).collect();
    }
    let searched: Vec<Searched> = surfaces
        .into_iter()
        .map(|surface| searched(surface, args))
        .collect::<Result<_, Fault>>()?;
    if args.json {
        return output::print_json(&searched);
    }
    output::print(&table(&searched))
}

fn searched(stored: Stored, args: &SimulateSearchArgs) -> Result<Searched, Fault> {
    let draw_queries = args.queries.unwrap_or(stored.draw_queries);
    let scoring = Scoring {
        ranking: &stored.ranking,
        gold: &stored.gold,
        balance: &stored.balance,
        all_queries: stored.all_queries,
        knobs: &stored.knobs,
        thresholds: &stored.thresholds,
        samples: stored.samples,
    };
    let trial = Trial { scoring, draw_queries, budget: args.budget, margin: args.margin };
    let search = args.kind();
    trial.check(search, stored.lanes.len()).map_err(|error| {
        Fault::new(FaultClass::Usage, format!("{}: {error}", stored.name))
            .hint("raise --budget or --queries")
    })?;
    let count = stored.lanes.len();
    let is_weighed = stored.lanes.iter().all(|lane| lane.is_weighed_at(count));
    if search == Search::Reweighting && !is_weighed {
        let message = format!("{} was stored without log-probabilities", stored.name);
        return Err(Fault::new(FaultClass::Usage, message)
            .hint("name runs with `balance.candidate_logprobs = true`"));
    }
    let surface = Surface::new(stored.lanes, &trial);
    let key = RngKey::from_seed(0).child("search").child(&stored.name);
    let searches = (1..=args.seeds).map(|seed| match (args.exhaustive, search) {
        (Some(queries), _) => surface.exhaustive(&trial, queries, key.index(seed)),
        (None, Search::Reweighting) => surface.reweight(&trial, key.index(seed)),
        (None, _) => surface.race(&trial, key.index(seed)),
    });
    let best = surface.scores().reduce(|a, b| if b.1 > a.1 { b } else { a });
    Ok(Searched {
        searches: searches.collect(),
        surface: stored.name,
        draw_queries,
        best_temperature: best.map_or(0.0, |(temperature, _)| temperature),
        best_balance_score: best.map_or(0.0, |(_, score)| score),
    })
}

impl SimulateSearchArgs {
    fn kind(&self) -> Search {
        match (self.exhaustive, self.search.as_str()) {
            (Some(_), _) => Search::Exhaustive,
            (None, "reweighting") => Search::Reweighting,
            (None, _) => Search::Racing,
        }
    }
}

fn simulated(scenario: &Scenario) -> Stored {
    let key = RngKey::from_seed(0).child("surface");
    let draw = |&temperature: &f64| scenario.lane(temperature, SURFACE_QUERIES, key);
    Stored {
        name: scenario.name.into(),
        lanes: scenario.temperatures.iter().map(draw).collect(),
        gold: Vec::new(),
        ranking: scenario.ranking(),
        balance: scenario.balance(),
        all_queries: SURFACE_QUERIES,
        knobs: KnobGrid::default(),
        thresholds: scenario.thresholds.clone(),
        samples: scenario.samples as usize,
        draw_queries: DRAW_QUERIES,
    }
}

/// The probe rollouts of a run, iteration by iteration.
fn stored(run: &Path, args: &SimulateSearchArgs, notes: Notes) -> Result<Vec<Stored>, Fault> {
    let view = named::open(&run.to_string_lossy(), None, notes)?;
    let loaded = layers::load_written(&view.config_toml()?, &[])?;
    let config = &loaded.config;
    if config.balance.search.draws_ahead() {
        let message = format!("{} searched for less, so it holds no whole surface", run.display());
        return Err(Fault::new(FaultClass::Usage, message)
            .hint("name runs with `balance.search = \"exhaustive\"`"));
    }
    let gold = GoldHashes::of(&[&loaded], notes);
    let mut surfaces = Vec::new();
    for iteration in 1..MOST_ITERATIONS {
        if view.rollouts_path(iteration, Stage::Probe).is_none() {
            break;
        }
        let rollouts = view.read_rollouts(iteration, Stage::Probe)?;
        let (queries, lanes) = lanes_of(&rollouts);
        let is_whole = |lane: &Lane| measured(&lane.pool) == queries.len();
        if lanes.len() < 2 || !lanes.iter().all(is_whole) {
            let message =
                format!("iteration {iteration} of {} has no whole surface", run.display());
            return Err(Fault::new(FaultClass::Data, message)
                .hint("a search needs every probe query at two temperatures or more"));
        }
        let all_queries = draw_queries(&view, iteration, config.sample.queries, args)?;
        let settings = config.improve_settings(all_queries);
        surfaces.push(Stored {
            name: format!("{} {iteration}", run.display()),
            lanes,
            gold: gold.of_queries(&queries, config),
            ranking: settings.ranking.clone(),
            balance: settings.balance_rule(all_queries, all_queries),
            all_queries,
            knobs: settings.controller.knobs.clone(),
            thresholds: settings.controller.thresholds(),
            samples: settings.samples_per_query,
            draw_queries: all_queries,
        });
    }
    if surfaces.is_empty() {
        let message = format!("{} stored no probe", run.display());
        return Err(Fault::new(FaultClass::Data, message).hint(
            "name a run of a method that probes, such as b-star, with a finished iteration",
        ));
    }
    Ok(surfaces)
}

/// M of an iteration: as many queries as were drawn, or, where the draw is not stored, as configured.
fn draw_queries(
    view: &RunView,
    iteration: u32,
    configured: usize,
    args: &SimulateSearchArgs,
) -> Result<usize, Fault> {
    if view.rollouts_path(iteration, Stage::Train).is_some() {
        let drawn = view.read_rollouts(iteration, Stage::Train)?;
        return Ok(drawn.iter().map(|rollout| &rollout.query_id).collect::<BTreeSet<_>>().len());
    }
    let known = Some(configured).filter(|configured| *configured > 0).or(args.queries);
    known.ok_or_else(|| {
        let message = format!(
            "{} draws all queries, and the draw of iteration {iteration} is not stored",
            view.dir().display()
        );
        Fault::new(FaultClass::Data, message).hint("say how many these are with --queries M")
    })
}

fn table(surfaces: &[Searched]) -> String {
    let right = Align::Right;
    let mut table = Table::new(&[
        ("surface", Align::Left),
        ("best t", right),
        ("M", right),
        ("mean loss %", right),
        ("worst %", right),
        ("above 5 %", right),
        ("net cost %", right),
        ("most %", right),
    ]);
    let all: Vec<&Replay> = surfaces.iter().flat_map(|surface| &surface.searches).collect();
    for surface in surfaces {
        let (best, queries) = (surface.best_temperature.to_string(), surface.draw_queries);
        let of_surface: Vec<&Replay> = surface.searches.iter().collect();
        table.row(summary(surface.surface.clone(), best, queries.to_string(), &of_surface));
    }
    let name = format!("all {} surfaces", surfaces.len());
    table.row(summary(name, String::new(), String::new(), &all));
    table.render()
}

fn summary(name: String, best: String, queries: String, searches: &[&Replay]) -> [String; 8] {
    let count = searches.len().max(1) as f64;
    let mean = |value: &dyn Fn(&Replay) -> f64| {
        Some(searches.iter().map(|search| value(search)).sum::<f64>() / count)
    };
    let most = |value: &dyn Fn(&Replay) -> f64| {
        searches.iter().map(|search| value(search)).reduce(f64::max)
    };
    let hundredths = |share: Option<f64>| bstar_report::number(share.map(|s| 100.0 * s), 2);
    [
        name,
        best,
        queries,
        hundredths(mean(&|search| search.loss)),
        percent(most(&|search| search.loss)),
        percent(mean(&|search| if search.loss > 0.05 { 1.0 } else { 0.0 })),
        percent(mean(&|search| search.net_cost)),
        percent(most(&|search| search.net_cost)),
    ]
}
