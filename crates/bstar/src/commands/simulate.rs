//! `bstar simulate`: scripted policies, and races replayed on simulated or stored surfaces.

use crate::cli::{SimulateChoiceArgs, SimulateSearchArgs};
use crate::config::layers;
use crate::output;
use crate::progress::short;
use bstar_core::balance::{BalanceRule, CapRule, cap_limit, target_count};
use bstar_core::pool::Pool;
use bstar_core::race::{Search, measured};
use bstar_core::ranking::RankingRule;
use bstar_core::simulate::search::{Replay, Surface, Trial};
use bstar_core::simulate::{Outcome, Scenario, Study, study};
use bstar_core::{Fault, FaultClass, RngKey, Stage};
use bstar_report::{Align, Table, percent};
use bstar_store::RunView;
use bstar_store::rollout_file::{Wanted, read_scored};
use serde::Serialize;
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
    searches: Vec<Replay>,
}

/// A surface before it is scored.
struct Stored {
    name: String,
    pools: Vec<Pool>,
    ranking: RankingRule,
    balance: BalanceRule,
    thresholds: Vec<f64>,
    draw_queries: usize,
}

/// Searches surfaces and prints losses and costs.
pub(crate) fn search(args: &SimulateSearchArgs) -> Result<(), Fault> {
    if !(0.0..=1.0).contains(&args.budget) || args.margin.is_nan() || args.margin < 0.0 {
        let message = "--budget is a share from 0 to 1, and --margin is not below 0";
        return Err(Fault::new(FaultClass::Usage, message));
    }
    let mut surfaces = Vec::new();
    for run in &args.runs {
        surfaces.extend(stored(run)?);
    }
    if args.runs.is_empty() {
        surfaces = Scenario::all().iter().map(simulated).collect();
    }
    let searched: Vec<Searched> =
        surfaces.into_iter().map(|surface| searched(surface, args)).collect();
    if args.json {
        return output::print_json(&searched);
    }
    output::print(&table(&searched))
}

fn searched(stored: Stored, args: &SimulateSearchArgs) -> Searched {
    let draw_queries = args.queries.unwrap_or(stored.draw_queries);
    let trial = Trial {
        ranking: &stored.ranking,
        balance: &stored.balance,
        thresholds: &stored.thresholds,
        draw_queries,
        budget: args.budget,
        margin: args.margin,
    };
    let surface = Surface::new(stored.pools, &trial);
    let key = RngKey::from_seed(0).child("search").child(&stored.name);
    let searches = (1..=args.seeds).map(|seed| match args.exhaustive {
        Some(queries) => surface.exhaustive(&trial, queries, key.index(seed)),
        None => surface.race(&trial, key.index(seed)),
    });
    let best = surface.scores().reduce(|a, b| if b.1 > a.1 { b } else { a });
    Searched {
        searches: searches.collect(),
        surface: stored.name,
        draw_queries,
        best_temperature: best.map_or(0.0, |(temperature, _)| temperature),
    }
}

fn simulated(scenario: &Scenario) -> Stored {
    let key = RngKey::from_seed(0).child("surface");
    let draw = |&temperature: &f64| scenario.draw(temperature, SURFACE_QUERIES, key).pool;
    Stored {
        name: scenario.name.into(),
        pools: scenario.temperatures.iter().map(draw).collect(),
        ranking: scenario.ranking(),
        balance: scenario.balance(),
        thresholds: scenario.thresholds.clone(),
        draw_queries: DRAW_QUERIES,
    }
}

/// The probe rollouts of a run, iteration by iteration.
fn stored(run: &Path) -> Result<Vec<Stored>, Fault> {
    let view = RunView::open(run)?;
    let config = layers::load_written(&view.config_toml()?, &[])?.config;
    if config.balance.search == Search::Racing {
        let message = format!("{} raced, so it holds no whole surface", run.display());
        return Err(Fault::new(FaultClass::Usage, message)
            .hint("name runs with `balance.search = \"exhaustive\"`"));
    }
    let mut surfaces = Vec::new();
    for iteration in 1..MOST_ITERATIONS {
        let Some(path) = view.rollouts_path(iteration, Stage::Probe) else { break };
        let scored = read_scored(&[path], config.reward.reduction, Wanted::default())?;
        let settings = config.improve_settings(config.sample.queries.max(scored.queries.len()));
        let (queries, all) = (scored.queries.len() as u64, settings.queries_per_iteration as u64);
        let target = (settings.target_samples * queries + all / 2) / all.max(1);
        let limit = cap_limit(settings.samples_per_query);
        let cap = CapRule::ToPool { target, limit };
        let target_count =
            settings.target_count.unwrap_or_else(|| target_count(settings.target_samples, all));
        let is_whole = |pool: &Pool| measured(pool) == scored.queries.len();
        if scored.pools.len() < 2 || !scored.pools.iter().all(is_whole) {
            let message =
                format!("iteration {iteration} of {} has no whole surface", run.display());
            return Err(Fault::new(FaultClass::Data, message)
                .hint("a search needs every probe query at two temperatures or more"));
        }
        let ranking = settings.ranking.calibrated_on(&scored.pools);
        surfaces.push(Stored {
            name: format!("{} {iteration}", run.display()),
            pools: scored.pools,
            ranking,
            balance: BalanceRule {
                target_count,
                cap: if settings.cap_to_pool { cap } else { CapRule::Uncapped },
                empty_queries: settings.empty_queries,
            },
            thresholds: settings.controller.thresholds(),
            draw_queries: settings.queries_per_iteration,
        });
    }
    Ok(surfaces)
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
