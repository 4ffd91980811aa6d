//! `bstar balance`: the configuration search of B-STaR on stored rollouts.

use crate::cli::BalanceArgs;
use crate::commands::metrics;
use crate::gold::stand_in;
use crate::named::{self, Asked};
use crate::output::{self, Notes};
use crate::progress::short;
use bstar_core::balance::{BalanceRule, CapRule, Cell, EmptyQueries, cap_limit, target_count};
use bstar_core::confidence::{Confidence, Difference, TemperatureChance};
use bstar_core::controller::{
    Adaptation, Configuration, Controller, ThresholdSource, TieRule, choose,
};
use bstar_core::event::Event;
use bstar_core::grid::Grid;
use bstar_core::knobs::{KnobGrid, Knobs};
use bstar_core::preset::{Preset, PresetValues};
use bstar_core::ranking::{GoldSolutions, RankingRule};
use bstar_core::reward::{RewardKind, RewardScale};
use bstar_core::{Fault, FaultClass, RngKey, Stage};
use bstar_report::{Align, Table, percent};
use bstar_store::RunView;
use bstar_store::rollout_file::{ScoredRollouts, Wanted, read_scored};
use serde::Serialize;
use std::collections::BTreeSet;

#[derive(Serialize)]
struct Chosen {
    temperature: f64,
    threshold: f64,
    #[serde(flatten)]
    knobs: Knobs,
    balance_score: f64,
}

#[derive(Serialize)]
struct Search {
    chosen: Chosen,
    grid: Vec<Cell>,
    confidence: Confidence,
    /// The better cell of a larger k that was not worth its price.
    #[serde(skip_serializing_if = "Option::is_none")]
    economised: Option<Difference>,
}

/// Searches and prints.
pub(crate) fn balance(args: &BalanceArgs, notes: Notes) -> Result<(), Fault> {
    let mut values = preset_values(args)?;
    let stages = [Stage::Probe, Stage::Train, Stage::Eval];
    let named = |stage: &Stage| args.stage.as_deref() == Some(stage.name());
    let wanted = Wanted { iteration: args.iteration, stage: stages.into_iter().find(named) };
    let asked = Asked {
        stages: &[wanted.stage.unwrap_or(Stage::Probe)],
        iteration: args.iteration,
        last_only: true,
    };
    let named = named::rollouts(&args.files, asked, notes)?;
    let scored = read_scored(&named.files, values.reduction, wanted)?;
    check_population(&scored)?;
    tell_assumptions(&scored, args, &values, notes);
    if values.target_count == 0 && args.cap_to_pool.is_none() {
        values.target_count = target_of_run(named.run.as_ref(), args, notes)?;
    }
    let rule = balance_rule(args, &values, &scored)?;
    let groups = || scored.pools.iter().flat_map(|pool| &pool.groups).flatten();
    let has_scores = groups().any(|response| response.reward_model_score.is_some());
    let kind = if has_scores { RewardKind::AnswerAndRewardModel } else { RewardKind::Answer };
    if has_scores {
        let unscored = groups().filter(|response| response.reward_model_score.is_none()).count();
        if unscored > 0 {
            notes.tell(&format!(
                "note: {unscored} responses have no reward-model score and count as scored -5, as in the authors' code"
            ));
        }
    }
    let gold = gold_of(&scored, &values);
    let ranking = ranking(args, &values, kind)?.calibrated_on(&scored.pools);
    let controller = controller(args, &values, &scored)?;
    let key = RngKey::from_seed(args.seed).child("balance");
    let decision = controller.decide(&scored.pools, &gold, &ranking, &rule, (None, key));
    let Configuration { temperature, threshold, knobs } = decision.configuration();
    let balance_score = decision.balance_score.expect("files with rows make a grid with cells");
    if balance_score == 0.0 {
        notes.tell(
            "note: no candidate selects a correct response; the choice is that of the tie rule",
        );
    }
    let search = Search {
        chosen: Chosen { temperature, threshold, knobs, balance_score },
        grid: decision.grid,
        confidence: decision.confidence.expect("a probed grid"),
        economised: decision.economised,
    };
    if args.json {
        return output::print_json(&search);
    }
    let verifies = ranking.verified_above.is_some();
    let queries = scored.queries.len();
    output::print(&table(&search, values.ties, verifies, (queries, &rule)))
}

/// The n* that a run had when it chose for the iteration; 0 if none was named, or it chose nothing.
fn target_of_run(run: Option<&RunView>, args: &BalanceArgs, notes: Notes) -> Result<u32, Fault> {
    let Some(run) = run else { return Ok(0) };
    let chosen = run.events()?.into_iter().rev().find_map(|logged| match logged.event {
        Event::Decided { iteration, decision }
            if args.iteration.is_none_or(|asked| asked == iteration) =>
        {
            Some(decision.target_count)
        }
        _ => None,
    });
    if let Some(target) = chosen {
        notes.tell(&format!("note: n* = {target}, as in the run; --target-count takes another"));
    }
    Ok(chosen.unwrap_or(0))
}

/// The preset's ranking with the bar of the flags.
fn ranking(
    args: &BalanceArgs,
    values: &PresetValues,
    kind: RewardKind,
) -> Result<RankingRule, Fault> {
    let usage =
        |message: String, hint: &str| Err(Fault::new(FaultClass::Usage, message).hint(hint));
    match args.verified_above {
        Some(bar) if !bar.is_finite() => usage(
            format!("--verified-above {bar} is no number"),
            "scaled scores lie around -1 to 1",
        ),
        Some(_) if kind == RewardKind::Answer => usage(
            "--verified-above needs reward-model scores, and the files carry none".into(),
            "without the flag every correct response counts",
        ),
        verified_above => Ok(RankingRule { verified_above, ..values.ranking(kind) }),
    }
}

/// Chooses among everything that the files hold, by the flags.
fn controller(
    args: &BalanceArgs,
    values: &PresetValues,
    scored: &ScoredRollouts,
) -> Result<Controller, Fault> {
    let usage = |message: String, hint: &str| Fault::new(FaultClass::Usage, message).hint(hint);
    let groups = scored.pools.iter().flat_map(|pool| &pool.groups);
    let most = groups.map(Vec::len).max().unwrap_or(0);
    if let Some(k) = args.k.iter().find(|k| **k == 0 || **k as usize > most) {
        let message =
            format!("--k {k} is not from 1 to {most}, the samples of a query in the files");
        return Err(usage(message, "rollouts answer for fewer samples, not for more"));
    }
    if !(0.0..=1.0).contains(&args.k_tolerance) {
        let message = format!("--k-tolerance {} is not from 0 to 1", args.k_tolerance);
        return Err(usage(message, "0.02 lets a smaller k lose 2 % of the best balance score"));
    }
    let ascending = |values: &[u32]| values.iter().copied().collect::<BTreeSet<_>>().into_iter();
    Ok(Controller {
        adaptation: Adaptation::Both,
        fixed: Configuration::new(1.0, 0.0),
        temperatures: Vec::new(),
        thresholds: values.thresholds.values().to_vec(),
        ties: values.ties,
        threshold_from: ThresholdSource::Probe,
        hysteresis: 0.0,
        knobs: KnobGrid {
            samples: ascending(&args.k).collect(),
            samples_tolerance: args.k_tolerance,
            caps: ascending(&args.cap).collect(),
            ..KnobGrid::default()
        },
    })
}

/// The preset with what the flags change.
fn preset_values(args: &BalanceArgs) -> Result<PresetValues, Fault> {
    let usage = |message: String, hint: &str| Fault::new(FaultClass::Usage, message).hint(hint);
    let preset = Preset::from_name(&args.preset).ok_or_else(|| {
        let known = Preset::ALL.map(Preset::name).join(", ");
        usage(format!("there is no preset `{}`", args.preset), &format!("the presets are {known}"))
    })?;
    let mut values = preset.values();
    if let Some(grid) = &args.thresholds {
        values.thresholds = grid.parse::<Grid>().map_err(|error| {
            usage(format!("--thresholds: {error}"), "write it as -1:1:0.1 or -1,0,0.5")
        })?;
    }
    if let Some(name) = &args.rm_scale {
        let scale = RewardScale::from_name(name);
        values.scale = scale.ok_or_else(|| {
            usage(format!("there is no scale `{name}`"), "the scales are divide, sigmoid, rank")
        })?;
    }
    if let Some(divisor) = args.rm_divisor {
        if !(divisor > 0.0 && divisor.is_finite()) {
            return Err(usage(
                format!("--rm-divisor {divisor} is not above 0"),
                "the authors use 5",
            ));
        }
        values.divisor = divisor;
    }
    if let Some(clip) = &args.rm_clip {
        values.clip = match clip.as_str() {
            "none" => 0.0,
            text => {
                text.parse().ok().filter(|clip| *clip > 0.0 && f64::is_finite(*clip)).ok_or_else(
                    || usage(format!("--rm-clip {text} is not above 0"), "give a number or `none`"),
                )?
            }
        };
    }
    if let Some(target_count) = args.target_count {
        if target_count == 0 {
            let hint = "the paper uses 6, the authors' code 8";
            return Err(usage("--target-count must be above 0".into(), hint));
        }
        values.target_count = target_count;
    }
    Ok(values)
}

/// A search compares samples of one policy on one set of queries.
fn check_population(scored: &ScoredRollouts) -> Result<(), Fault> {
    let name = |(iteration, stage): &(Option<u32>, Option<Stage>)| {
        let iteration = iteration.map_or_else(String::new, |iteration| format!("{iteration}, "));
        format!("iteration {iteration}{}", stage.map_or("no stage", Stage::name))
    };
    match scored.populations.as_slice() {
        [_] => Ok(()),
        [] => Err(Fault::new(FaultClass::Data, "no row is left to search on")
            .hint("name other files, or another --iteration or --stage; greedy rows do not count")),
        many => {
            let found = many.iter().map(name).collect::<Vec<_>>().join("; ");
            let message = format!("the files hold rollouts of several draws: {found}");
            Err(Fault::new(FaultClass::Usage, message)
                .hint("choose one draw with --iteration and --stage probe, train or eval"))
        }
    }
}

/// n* from the flag, the preset, or the wanted total over the queries; the cap from the flag.
fn balance_rule(
    args: &BalanceArgs,
    values: &PresetValues,
    scored: &ScoredRollouts,
) -> Result<BalanceRule, Fault> {
    let target = match (values.target_count, args.cap_to_pool) {
        (0, Some(total)) => target_count(total, scored.queries.len() as u64),
        (0, None) => {
            return Err(Fault::new(FaultClass::Usage, "the target count n* is not known")
                .hint("give --target-count N (the paper: 6), or --cap-to-pool N to derive it"));
        }
        (target, _) => target,
    };
    let groups = scored.pools.iter().flat_map(|pool| &pool.groups);
    let limit = cap_limit(groups.map(Vec::len).max().unwrap_or(0));
    let cap =
        args.cap_to_pool.map_or(CapRule::Uncapped, |target| CapRule::ToPool { target, limit });
    Ok(BalanceRule { target_count: target, cap, empty_queries: values.empty_queries })
}

/// Where gold solutions compete, each query has one: that of the file, or else one that equals no
/// sampled response.
fn gold_of(scored: &ScoredRollouts, values: &PresetValues) -> Vec<Option<u64>> {
    if values.gold_solutions != GoldSolutions::Compete {
        return Vec::new();
    }
    let gold_or_stand_in = |(gold, id): (&Option<u64>, &bstar_core::QueryId)| {
        Some(gold.unwrap_or_else(|| stand_in(id)))
    };
    scored.gold.iter().zip(&scored.queries).map(gold_or_stand_in).collect()
}

fn tell_assumptions(
    scored: &ScoredRollouts,
    args: &BalanceArgs,
    values: &PresetValues,
    notes: Notes,
) {
    metrics::tell_assumptions(&scored.notes, notes);
    if scored.greedy > 0 {
        notes.tell(&format!("note: {} greedy rows (temperature 0) are left out", scored.greedy));
    }
    for pool in &scored.pools {
        let absent = pool.groups.iter().filter(|group| group.is_empty()).count();
        if absent > 0 && values.empty_queries == EmptyQueries::Zero {
            let (t, all) = (pool.temperature, pool.groups.len());
            notes.tell(&format!(
                "note: {absent} of {all} queries have no rows at temperature {t} and count as 0 there"
            ));
        }
    }
    let missing = scored.gold.iter().filter(|gold| gold.is_none()).count();
    if values.gold_solutions == GoldSolutions::Compete && missing > 0 {
        notes.tell(&format!(
            "note: preset {} lets a gold solution compete in each query; {missing} queries have no \
             `gold_solution` in the files and get one that equals no response",
            args.preset
        ));
    }
    if values.cap_to_pool && args.cap_to_pool.is_none() {
        notes.tell(&format!(
            "note: preset {} caps queries to reach a total; without --cap-to-pool nothing is capped",
            args.preset
        ));
    }
}

/// The best threshold of each way to sample and each setting of the other knobs, and the choice.
fn table(
    search: &Search,
    ties: TieRule,
    verifies: bool,
    (queries, rule): (usize, &BalanceRule),
) -> String {
    let right = Align::Right;
    let mut table = Table::new(&[
        ("t", right),
        ("best τ", right),
        ("knobs", Align::Left),
        ("cap", right),
        ("balance", right),
        ("± se", right),
        ("best in %", right),
        ("selected", right),
        (if verifies { "unique verified" } else { "unique correct" }, right),
        ("", Align::Left),
    ]);
    let Search { chosen, grid, confidence, .. } = search;
    let Chosen { temperature, threshold, knobs, balance_score } = *chosen;
    let best = Configuration { temperature, threshold, knobs };
    let same = |a: &Cell, b: &Cell| (a.temperature, a.knobs) == (b.temperature, b.knobs);
    for row in grid.chunk_by(same) {
        let here = row.iter().find(|cell| cell.configuration() == best).copied();
        let Some(cell) = here.or_else(|| choose(row, ties, None)) else { continue };
        let place = grid.iter().position(|other| *other == cell);
        let known = place.and_then(|place| confidence.cells.get(place));
        let way = cell.sampling();
        let of_way =
            |of: &&TemperatureChance| (of.temperature, of.top_p) == (way.temperature, way.top_p);
        let chance = confidence.temperatures.iter().find(of_way).map(|of| of.chance);
        table.row([
            cell.temperature.to_string(),
            format!("{:.2}", cell.threshold),
            cell.knobs.to_string(),
            cell.cap.map_or_else(|| "–".into(), |cap| cap.to_string()),
            format!("{:.4}", cell.balance_score),
            bstar_report::number(known.map(|known| known.standard_error), 4),
            percent(chance),
            cell.selected.to_string(),
            cell.correct.to_string(),
            if here.is_some() { "<- chosen".into() } else { String::new() },
        ]);
    }
    let text = table.render();
    let turned = match knobs.to_string() {
        none if none.is_empty() => none,
        turned => format!(", {turned}"),
    };
    format!(
        "{text}\nchosen: temperature {temperature}, threshold {}{turned} (balance score \
         {balance_score:.4}; {queries} queries, n* = {})\n",
        short(threshold),
        rule.target_count
    ) + &economy(search.economised)
        + &doubt(confidence)
}

/// What the chosen k gives up, where k is chosen.
fn economy(economised: Option<Difference>) -> String {
    economised.map_or_else(String::new, |better| {
        format!(
            "a larger k scores {:+.4} ± {:.4} ({})\n",
            better.gain, better.standard_error, better.configuration.knobs
        )
    })
}

/// What the strongest rival says of the choice; nothing where there is one way to sample only.
fn doubt(confidence: &Confidence) -> String {
    let Some(rival) = confidence.rival else { return String::new() };
    let (gain, error) = (rival.gain, rival.standard_error);
    let sure = confidence.sure_chance();
    let verdict = match rival.more_queries {
        Some(0) => "decided".to_owned(),
        Some(_) if sure.is_some() => {
            format!("best in {} % of the resamples, which is as good as decided", percent(sure))
        }
        Some(more) => format!("about {more} more probe queries would decide it"),
        None => "a tie, which more queries would not decide".to_owned(),
    };
    let other = rival.configuration.sampling();
    format!("against temperature {other}: {gain:+.4} ± {error:.4}; {verdict}\n")
}
