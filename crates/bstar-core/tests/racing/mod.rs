//! The loop with a race for the temperature: what it draws, what it costs, and that it resumes.

use super::{Memory, base, run, settings};
use bstar_core::controller::Decision;
use bstar_core::event::Event;
use bstar_core::improve::ImproveSettings;
use bstar_core::method::Method;
use bstar_core::ports::Ledger as _;
use bstar_core::race::Search;
use bstar_core::{FaultClass, Stage};

fn racing(method: Method) -> ImproveSettings {
    let settings = settings(method);
    ImproveSettings { search: Search::Racing, search_budget: 0.3, probe_queries: 30, ..settings }
}

fn finished(settings: &ImproveSettings) -> Memory {
    let mut ledger = Memory::new(base());
    run(settings, &mut ledger).expect("a run");
    ledger
}

fn decisions(ledger: &Memory) -> Vec<Decision> {
    let decided = ledger.events().expect("memory").into_iter().filter_map(|event| match event {
        Event::Decided { decision, .. } => Some(*decision),
        _ => None,
    });
    decided.collect()
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
    assert!(race.net_cost.abs() < 1e-12);
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
