//! The loop with a cheaper search for the temperature: what it draws, what it costs, and that it
//! resumes.

use super::{Memory, base, decisions, finished, run, settings};
use bstar_core::improve::ImproveSettings;
use bstar_core::method::Method;
use bstar_core::ports::Ledger as _;
use bstar_core::search::Search;
use bstar_core::{FaultClass, Rollout, Stage};

fn racing(method: Method) -> ImproveSettings {
    let settings = settings(method);
    ImproveSettings { search: Search::Racing, search_budget: 0.3, probe_queries: 30, ..settings }
}

#[test]
fn a_race_stays_within_its_budget_and_says_what_it_cost() {
    let settings = racing(Method::BStar);
    let ledger = finished(&settings);
    for (iteration, decision) in (1..).zip(decisions(&ledger)) {
        let race = decision.race.expect("a race");
        assert_eq!(race.contenders.len(), 3);
        assert!(race.net_cost <= settings.search_budget, "{race:?}");
        let drawn = ledger.read_rollouts(iteration, Stage::Probe).expect("published");
        let groups: usize = race.contenders.iter().map(|contender| contender.queries).sum();
        assert_eq!(drawn.len(), groups * settings.samples_per_query);
        let rival = race.rival.expect("one that came second");
        assert_ne!(rival.configuration.temperature, decision.temperature);
        assert!(rival.standard_error > 0.0 && rival.more_queries.is_some(), "{rival:?}");
        let won = race.contenders.iter().max_by_key(|contender| contender.queries);
        assert_eq!(won.map(|won| won.temperature), Some(decision.temperature));
        assert_eq!(
            won.map(|won| won.queries),
            Some(30),
            "the threshold has a probe set of its own"
        );
        assert!(decision.grid.iter().all(|cell| cell.temperature == decision.temperature));
    }
}

#[test]
fn the_draw_after_a_race_is_the_draw_without_one() {
    let raced = finished(&racing(Method::BStar));
    let chosen = decisions(&raced)[0].clone();
    let mut fixed = settings(Method::OnlineRft);
    fixed.controller.fixed = chosen.configuration();
    let plain = finished(&fixed);
    let train = |ledger: &Memory| ledger.read_rollouts(1, Stage::Train).expect("published");
    assert_eq!(train(&raced), train(&plain));
}

#[test]
fn one_candidate_runs_alone_and_a_fixed_one_not_at_all() {
    let alone = finished(&racing(Method::BStarThreshold));
    let race = decisions(&alone)[0].race.clone().expect("a race of one");
    assert_eq!((race.contenders.len(), race.contenders[0].queries), (1, 30));
    assert!(race.net_cost.abs() < 1e-12 && race.rival.is_none());
    assert!(decisions(&finished(&racing(Method::OnlineRft))).iter().all(|d| d.race.is_none()));
}

#[test]
fn a_race_that_was_cut_off_ends_like_one_that_was_not() {
    let settings = racing(Method::BStar);
    let whole = finished(&settings);
    let mut kills = 0;
    for operations in (1..).step_by(29) {
        let mut ledger = Memory::new(base());
        ledger.fail_after(operations);
        match run(&settings, &mut ledger) {
            Ok(_) => break,
            Err(fault) => assert_eq!(fault.class, FaultClass::Interrupted),
        }
        kills += 1;
        ledger.reopen();
        run(&settings, &mut ledger).expect("the rest");
        assert_eq!(ledger.events().expect("memory"), whole.events().expect("memory"));
    }
    assert!(kills > 4, "only {kills} kills");
}

fn reweighting() -> ImproveSettings {
    let settings = racing(Method::BStar);
    let mut settings = ImproveSettings { search: Search::Reweighting, ..settings };
    settings.controller.temperatures = vec![0.5, 0.8, 1.1, 1.4, 1.7, 2.0];
    settings
}

/// The race with a budget that buys no round, or none worth the name.
#[test]
fn a_budget_that_buys_no_search_is_refused_before_anything_is_drawn() {
    for (search, least) in [(Search::Racing, 16.0), (Search::Reweighting, 16.0)] {
        let of = |groups: f64| ImproveSettings {
            search,
            search_budget: groups / 60.0,
            ..racing(Method::BStar)
        };
        let mut ledger = Memory::new(base());
        let fault = run(&of(least - 1.0), &mut ledger).expect_err("too little");
        assert_eq!(fault.class, FaultClass::Usage);
        let told = (fault.message.as_str(), fault.hint.as_deref().unwrap_or_default());
        assert!(told.0.contains("`balance.search_budget`"), "{told:?}");
        assert!(told.1.contains("`balance.search_budget`"), "{told:?}");
        assert!(ledger.events().expect("memory").is_empty());
        for decision in decisions(&finished(&of(least))) {
            let cost = decision.race.expect("a search").net_cost;
            assert!(cost <= least / 60.0 + 1e-12, "{search:?}: {cost}");
        }
    }
}

#[test]
fn a_search_by_anchors_draws_these_and_the_winner_only() {
    let settings = reweighting();
    let ledger = finished(&settings);
    for (iteration, decision) in (1..).zip(decisions(&ledger)) {
        let race = decision.race.expect("a record");
        assert!(race.net_cost <= settings.search_budget, "{race:?}");
        let at = |temperature: f64| {
            let found = race.contenders.iter().find(|c| c.temperature == temperature);
            found.map(|contender| contender.queries)
        };
        assert!(at(1.1).is_some() && at(1.4).is_some(), "{race:?}");
        assert!(race.contenders.len() <= 3, "{race:?}");
        assert_eq!(at(decision.temperature), Some(30));
        let estimated: Vec<f64> = race.estimates.iter().map(|of| of.temperature).collect();
        assert_eq!(estimated, settings.controller.temperatures);
        let drawn = ledger.read_rollouts(iteration, Stage::Probe).expect("published");
        let groups: usize = race.contenders.iter().map(|contender| contender.queries).sum();
        assert_eq!(drawn.len(), groups * settings.samples_per_query);
        // What the estimates came from is stored, and the draw does not repeat it.
        let weighed = drawn.iter().filter(|rollout| rollout.candidate_logprobs.is_some());
        assert!(weighed.clone().all(|r| r.candidate_logprobs.iter().flatten().count() == 6));
        let anchors = [1.1, 1.4].map(|t| drawn.iter().filter(move |r| r.temperature == t).count());
        assert!(weighed.count() >= anchors[0].min(anchors[1]) * 2);
        let train = ledger.read_rollouts(iteration, Stage::Train).expect("published");
        assert!(train.iter().all(|rollout| rollout.candidate_logprobs.is_none()));
    }
}

#[test]
fn kept_log_probabilities_change_nothing_else() {
    let plain = settings(Method::BStar);
    let keeping = ImproveSettings { candidate_logprobs: true, ..plain.clone() };
    let [plain, keeping] = [&plain, &keeping].map(finished);
    assert_eq!(plain.events().expect("memory"), keeping.events().expect("memory"));
    let probe = |ledger: &Memory| ledger.read_rollouts(1, Stage::Probe).expect("published");
    for (plain, keeping) in probe(&plain).into_iter().zip(probe(&keeping)) {
        assert_eq!(plain.candidate_logprobs, None);
        assert_eq!(keeping.candidate_logprobs.as_ref().map(Vec::len), Some(3));
        assert_eq!(plain, Rollout { candidate_logprobs: None, ..keeping });
    }
}

#[test]
fn anchors_find_what_a_whole_probe_finds() {
    let mut settings = reweighting();
    (settings.queries_per_iteration, settings.search_budget) = (90, 1.0);
    settings.probe_queries = 90;
    let mut whole = settings.clone();
    whole.search = Search::Exhaustive;
    // The script has one distribution for all queries, so that 90 tell the surface well.
    let (found, whole) = (decisions(&finished(&settings)), decisions(&finished(&whole)));
    let best = whole[0].balance_score.expect("probed");
    let at = |t: f64| {
        let cells = whole[0].grid.iter().filter(|cell| cell.temperature == t);
        cells.map(|cell| cell.balance_score).fold(0.0, f64::max)
    };
    assert!(at(found[0].temperature) > 0.93 * best, "{} of {best}", at(found[0].temperature));
    assert!(at(2.0) < 0.9 * best, "a surface with something to find");
}

#[test]
fn a_search_by_anchors_that_was_cut_off_ends_like_one_that_was_not() {
    let settings = reweighting();
    let whole = finished(&settings);
    let mut kills = 0;
    for operations in (1..).step_by(29) {
        let mut ledger = Memory::new(base());
        ledger.fail_after(operations);
        match run(&settings, &mut ledger) {
            Ok(_) => break,
            Err(fault) => assert_eq!(fault.class, FaultClass::Interrupted),
        }
        kills += 1;
        ledger.reopen();
        run(&settings, &mut ledger).expect("the rest");
        assert_eq!(ledger.events().expect("memory"), whole.events().expect("memory"));
    }
    assert!(kills > 4, "only {kills} kills");
}
