//! What-if on the rollouts of a scripted run: with its own settings the run itself, with others what
//! a run of those settings does in its first iteration.

use super::{Memory, decisions, finished, settings};
use bstar_core::controller::Configuration;
use bstar_core::draw::lanes_of;
use bstar_core::event::Piece;
use bstar_core::improve::ImproveSettings;
use bstar_core::knobs::KnobGrid;
use bstar_core::method::Method;
use bstar_core::pool::exact_hash;
use bstar_core::ports::{Ledger as _, Task as _};
use bstar_core::ranking::{Deduplication, GoldSolutions};
use bstar_core::reward::RewardScale;
use bstar_core::search::Search;
use bstar_core::testing::EchoTask;
use bstar_core::whatif::{Answer, StoredRollouts, Unanswerable, answer};
use bstar_core::{QueryId, Rollout, Stage};

type Change = fn(&mut ImproveSettings);

fn gold_of(task: &EchoTask, queries: &[QueryId]) -> Vec<Option<u64>> {
    let gold = |id: &QueryId| {
        let query = task.train().iter().find(|query| query.id == *id)?;
        query.gold_solution.as_deref().map(exact_hash)
    };
    queries.iter().map(gold).collect()
}

/// Asks the rollouts that `ledger` holds of an iteration.
fn ask(
    ledger: &Memory,
    settings: &ImproveSettings,
    iteration: u32,
    previous: Option<Configuration>,
) -> Result<Answer, Unanswerable> {
    let task = EchoTask::new(100);
    let is_probed = ledger.is_published(iteration, Piece::Probe);
    let probe = is_probed.then(|| ledger.read_rollouts(iteration, Stage::Probe).expect("probed"));
    let probe = probe.unwrap_or_default();
    let (probe_queries, probes) = lanes_of(&probe);
    let train = ledger.read_rollouts(iteration, Stage::Train).expect("drawn");
    let (drawn, draw) = lanes_of(&train);
    let stored = StoredRollouts {
        iteration,
        probes: &probes,
        probe_gold: &gold_of(&task, &probe_queries),
        draw: &draw[0].pool,
        draw_gold: &gold_of(&task, &drawn),
    };
    answer(settings, &stored, previous)
}

/// The rollouts that a selection takes, as coordinates.
fn taken(answer: &Answer, queries: &[QueryId]) -> Vec<(QueryId, u32)> {
    let (draw, selection) = answer.selected.as_ref().expect("the same temperature");
    let mut taken = Vec::new();
    for ((chosen, group), query) in selection.chosen.iter().zip(&draw.groups).zip(queries) {
        taken.extend(chosen.iter().map(|&place| (query.clone(), group[place].sample_index)));
    }
    taken.sort();
    taken
}

fn marked(rollouts: &[Rollout]) -> Vec<(QueryId, u32)> {
    let selected = rollouts.iter().filter(|rollout| rollout.selected == Some(true));
    let mut marked: Vec<_> = selected.map(|r| (r.query_id.clone(), r.sample_index)).collect();
    marked.sort();
    marked
}

#[test]
fn a_run_asked_with_its_own_settings_answers_with_itself() {
    for method in Method::ALL {
        let mut settings = settings(method);
        settings.gold_solutions = GoldSolutions::Compete;
        settings.ranking.gold_competes = true;
        let ledger = finished(&settings);
        let mut previous = None;
        for (iteration, decided) in (1..).zip(decisions(&ledger)) {
            let answer = ask(&ledger, &settings, iteration, previous).expect("its own settings");
            assert_eq!(answer.decision, decided, "{method:?}, iteration {iteration}");
            let rollouts = ledger.read_rollouts(iteration, Stage::Train).expect("drawn");
            assert_eq!(taken(&answer, &lanes_of(&rollouts).0), marked(&rollouts));
            previous = Some(decided.configuration());
        }
    }
}

#[test]
fn other_settings_give_what_a_fresh_run_selects() {
    let original = finished(&settings(Method::BStar));
    let changes: [(&str, Change); 8] = [
        ("ranks", |s| s.ranking.reward.scale = RewardScale::Rank),
        ("verified count", |s| s.ranking.verified_above = Some(0.05)),
        ("grid", |s| s.controller.thresholds = vec![-0.3, 0.1]),
        ("target count", |s| s.target_count = Some(2)),
        ("divisor", |s| s.ranking.reward.divisor = 2.0),
        ("cap", |s| s.cap_to_pool = false),
        ("duplicates", |s| s.ranking.deduplication = Deduplication::AfterCap),
        ("fewer samples and queries", |s| {
            (s.samples_per_query, s.queries_per_iteration, s.probe_queries) = (5, 40, 10);
        }),
    ];
    let mut same_temperature = 0;
    for (name, change) in changes {
        let mut other = settings(Method::BStar);
        other.iterations = 1;
        change(&mut other);
        let fresh = finished(&other);
        let answer = ask(&original, &other, 1, None).expect(name);
        if answer.selected.is_none() {
            let own = decisions(&original)[0].temperature;
            assert_ne!(answer.decision.temperature, own, "{name}");
            continue;
        }
        same_temperature += 1;
        assert_eq!(answer.decision, decisions(&fresh)[0], "{name}");
        let rollouts = fresh.read_rollouts(1, Stage::Train).expect("drawn");
        assert_eq!(taken(&answer, &lanes_of(&rollouts).0), marked(&rollouts), "{name}");
    }
    assert!(same_temperature >= 3, "only {same_temperature} changes kept the temperature");
}

/// Settings that turn every knob that is read off rollouts.
fn knobs() -> ImproveSettings {
    let mut settings = settings(Method::BStar);
    settings.controller.knobs = KnobGrid {
        top_p: vec![0.3, 1.0],
        samples: vec![3, 6, 8],
        samples_tolerance: 0.2,
        caps: vec![0, 2],
        ..KnobGrid::default()
    };
    settings
}

#[test]
fn knobs_are_answered_for_and_a_larger_draw_is_left_open() {
    let settings = knobs();
    let ledger = finished(&settings);
    let mut previous = None;
    let mut open = 0;
    for (iteration, decided) in (1..).zip(decisions(&ledger)) {
        let answer = ask(&ledger, &settings, iteration, previous).expect("its own settings");
        assert_eq!(answer.decision, decided, "iteration {iteration}");
        let rollouts = ledger.read_rollouts(iteration, Stage::Train).expect("drawn");
        assert_eq!(taken(&answer, &lanes_of(&rollouts).0), marked(&rollouts));
        let mut generous = settings.clone();
        generous.controller.knobs.samples_tolerance = 0.0;
        let answer = ask(&ledger, &generous, iteration, previous).expect("the same probe");
        let k = answer.decision.knobs.samples.expect("a knob");
        let same_way = answer.decision.configuration().sampling() == rollouts[0].sampling();
        let is_drawn = same_way && Some(k) <= decided.knobs.samples;
        assert_eq!(answer.selected.is_some(), is_drawn, "k = {k}");
        open += usize::from(!is_drawn);
        previous = Some(decided.configuration());
    }
    assert!(open > 0, "the larger k was drawn in every iteration");
}

#[test]
fn other_knobs_give_what_a_fresh_run_selects() {
    let original = finished(&knobs());
    let chosen = decisions(&original)[0].knobs;
    let top_p: Vec<f64> = chosen.top_p.into_iter().collect();
    let grid = knobs().controller.knobs;
    let changes: [(&str, KnobGrid); 4] = [
        ("the chosen top-p alone", KnobGrid { top_p, ..grid.clone() }),
        ("one top-p", KnobGrid { top_p: vec![0.3], ..grid.clone() }),
        ("smaller k", KnobGrid { samples: vec![2, 3], ..grid.clone() }),
        ("another cap", KnobGrid { caps: vec![1], ..grid }),
    ];
    let mut known = 0;
    for (name, grid) in changes {
        let mut other = knobs();
        other.iterations = 1;
        other.controller.knobs = grid;
        let fresh = finished(&other);
        let answer = ask(&original, &other, 1, None).expect(name);
        let decided = &decisions(&fresh)[0];
        assert_eq!(answer.decision.configuration(), decided.configuration(), "{name}");
        if answer.selected.is_some() {
            known += 1;
            assert_eq!(answer.decision, *decided, "{name}");
            let rollouts = fresh.read_rollouts(1, Stage::Train).expect("drawn");
            assert_eq!(taken(&answer, &lanes_of(&rollouts).0), marked(&rollouts), "{name}");
        }
    }
    assert!(known > 0, "every change led to another draw");
}

#[test]
fn a_run_that_ranks_scores_answers_with_itself_and_says_among_which() {
    for (method, search) in [
        (Method::BStar, Search::Exhaustive),
        (Method::BStar, Search::Racing),
        (Method::OnlineRft, Search::Exhaustive),
    ] {
        let mut settings = settings(method);
        (settings.search, settings.search_budget) = (search, 0.3);
        settings.ranking.reward.scale = RewardScale::Rank;
        settings.ranking.verified_above = Some(-0.5);
        let ledger = finished(&settings);
        let mut previous = None;
        for (iteration, decided) in (1..).zip(decisions(&ledger)) {
            let answer = ask(&ledger, &settings, iteration, previous).expect("its own settings");
            assert_eq!(answer.decision, decided, "{method:?}, iteration {iteration}");
            let rollouts = ledger.read_rollouts(iteration, Stage::Train).expect("drawn");
            assert_eq!(taken(&answer, &lanes_of(&rollouts).0), marked(&rollouts));
            let calibration = decided.calibration.as_deref().expect("ranked");
            let stage = match method {
                Method::OnlineRft => Stage::Train,
                _ => Stage::Probe,
            };
            let ranked_among = ledger.read_rollouts(iteration, stage).expect("drawn").len();
            assert_eq!(calibration.responses, ranked_among as u64);
            for rollout in &rollouts {
                let part = calibration.scaled(rollout.reward_model_score.expect("scored"));
                let answer = if rollout.verdict.is_correct() { 1.0 } else { 0.0 };
                assert_eq!(rollout.reward, Some(answer + part), "one reference for both");
            }
            previous = Some(decided.configuration());
        }
    }
}

#[test]
fn a_temperature_that_was_not_probed_is_named() {
    let ledger = finished(&settings(Method::BStar));
    let mut settings = settings(Method::BStar);
    settings.controller.temperatures = vec![0.5, 0.8, 1.1];
    let error = ask(&ledger, &settings, 1, None).expect_err("not probed");
    let told = "iteration 1 was not probed at temperature 0.8, 1.1; it was at 0.5, 1, 1.5";
    assert_eq!(error.to_string(), told);
}

/// A run that searched for less, with what its first iteration decided.
fn searched(search: Search) -> (ImproveSettings, Memory) {
    let mut settings = settings(Method::BStar);
    (settings.search, settings.search_budget, settings.probe_queries) = (search, 0.4, 40);
    settings.controller.temperatures = vec![0.5, 1.0, 1.5];
    if search == Search::Reweighting {
        settings.controller.temperatures = vec![0.2, 0.6, 1.0, 1.4, 1.8];
    }
    let ledger = finished(&settings);
    (settings, ledger)
}

#[test]
fn a_search_is_run_again_by_the_settings_that_are_asked_about() {
    for search in [Search::Racing, Search::Reweighting] {
        let (own, ledger) = searched(search);
        let changes: [(&str, Change); 6] = [
            ("its own", |_| ()),
            ("grid", |s| s.controller.thresholds = vec![-0.3, 0.1]),
            ("target count", |s| s.target_count = Some(1)),
            ("verified count", |s| s.ranking.verified_above = Some(0.05)),
            ("smaller k", |s| s.samples_per_query = 4),
            ("fewer queries", |s| (s.queries_per_iteration, s.probe_queries) = (45, 20)),
        ];
        let mut answered = 0;
        for (name, change) in changes {
            let mut other = own.clone();
            other.iterations = 1;
            change(&mut other);
            let fresh = decisions(&finished(&other)).remove(0);
            match ask(&ledger, &other, 1, None) {
                // What is told is what a run of these settings does, its race included.
                Ok(answer) => assert_eq!(answer.decision, fresh, "{search:?}, {name}"),
                Err(Unanswerable::Search { iteration: 1, .. }) => {
                    assert_ne!(name, "its own");
                    continue;
                }
                Err(error) => panic!("{search:?}, {name}: {error}"),
            }
            answered += 1;
        }
        assert!(answered >= 3, "{search:?}: only {answered}");
    }
}

#[test]
fn a_search_that_would_draw_more_is_not_answered_by_its_old_winner() {
    for search in [Search::Racing, Search::Reweighting] {
        let (own, ledger) = searched(search);
        let mut other = own.clone();
        match search {
            // Another contender, of which nothing is stored.
            Search::Racing => other.controller.temperatures = vec![0.5, 0.8, 1.0, 1.5],
            // Twice the budget measures the loser on more queries than are stored.
            _ => other.search_budget = 0.8,
        }
        let told = ask(&ledger, &other, 1, None).map(|answer| answer.decision);
        let told = told.expect_err("more than was drawn").to_string();
        assert!(told.starts_with("iteration 1 cannot be searched again: "), "{told}");
        assert!(told.contains("queries, and its answers to"), "{told}");
        let poor = ImproveSettings { search_budget: 0.05, ..own };
        let told = ask(&ledger, &poor, 1, None).map(|answer| answer.decision);
        let told = told.expect_err("no search").to_string();
        assert!(told.contains("at least 8 queries each"), "{told}");
    }
}
