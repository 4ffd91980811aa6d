//! The loop with more knobs: the controller finds the best setting that the script has, says so in
//! its events, resumes, and without knobs says nothing new.

use super::{Memory, base, decisions, events, finished, killed_anywhere, run_on, settings};
use bstar_core::event::{Event, Stretch};
use bstar_core::improve::ImproveSettings;
use bstar_core::knobs::{KnobGrid, Knobs};
use bstar_core::method::Method;
use bstar_core::ports::Ledger as _;
use bstar_core::preset::Preset;
use bstar_core::reward::RewardKind;
use bstar_core::search::Search;
use bstar_core::testing::EchoTask;
use bstar_core::{FaultClass, Stage};

/// Settings whose reward is the answer check, at a temperature that a small top-p must tame.
fn with_knobs(knobs: KnobGrid) -> ImproveSettings {
    let mut settings = settings(Method::BStar);
    settings.ranking = Preset::Recommended.values().ranking(RewardKind::Answer);
    settings.controller.temperatures = vec![2.0];
    settings.controller.thresholds = vec![0.0];
    settings.controller.knobs = knobs;
    settings.probe_queries = 40;
    settings
}

/// The same from a P_0 that is right nine times out of ten where nothing is hot.
fn skilled(knobs: KnobGrid) -> ImproveSettings {
    let mut settings = with_knobs(knobs);
    settings.supervised.stop_at_accuracy = None;
    settings
}

/// With a top-p of 0.05 the script has one wording, with 1 it is hardly ever right at this heat.
fn top_p() -> KnobGrid {
    KnobGrid { top_p: vec![0.05, 0.5, 1.0], ..KnobGrid::default() }
}

#[test]
fn the_best_top_p_is_found_and_sampled_with() {
    for search in [Search::Exhaustive, Search::Racing] {
        let mut settings = skilled(top_p());
        (settings.search, settings.search_budget) = (search, 0.5);
        let ledger = finished(&settings);
        for (iteration, decision) in (1..).zip(decisions(&ledger)) {
            assert_eq!(decision.knobs, Knobs { top_p: Some(0.5), ..Knobs::default() });
            let confidence = decision.confidence.expect("probed");
            if search == Search::Exhaustive {
                assert_eq!(decision.grid.len(), 3);
                let chances: Vec<_> =
                    confidence.temperatures.iter().map(|of| (of.top_p, of.chance > 0.9)).collect();
                assert_eq!(chances, [(Some(0.05), false), (Some(0.5), true), (Some(1.0), false)]);
                let rival = confidence.rival.expect("another top-p");
                assert_ne!(rival.configuration.knobs.top_p, Some(0.5));
            } else {
                let contenders = decision.race.expect("a race").contenders;
                assert_eq!(contenders.iter().filter_map(|c| c.top_p).count(), 3);
            }
            let drawn = ledger.read_rollouts(iteration, Stage::Train).expect("published");
            assert_eq!(drawn.len(), 60 * 8);
            assert!(drawn.iter().all(|rollout| rollout.top_p == Some(0.5)));
        }
    }
}

#[test]
fn the_smallest_k_that_is_good_enough_is_drawn() {
    let samples = vec![2, 4, 6, 8];
    let with_tolerance = |samples_tolerance| {
        let knobs = KnobGrid { samples: samples.clone(), samples_tolerance, ..top_p() };
        finished(&with_knobs(knobs))
    };
    for tolerance in [0.0, 0.2, 1.0] {
        let ledger = with_tolerance(tolerance);
        for (iteration, decision) in (1..).zip(decisions(&ledger)) {
            let best_of = |k: u32| {
                let cells = decision.grid.iter().filter(|cell| cell.knobs.samples == Some(k));
                cells.map(|cell| cell.balance_score).fold(0.0, f64::max)
            };
            let best = samples.iter().map(|k| best_of(*k)).fold(0.0, f64::max);
            let wanted = samples.iter().find(|k| best_of(**k) >= best * (1.0 - tolerance));
            assert_eq!(decision.knobs.samples.as_ref(), wanted, "tolerance {tolerance}");
            let k = decision.knobs.samples.expect("chosen") as usize;
            assert_eq!(decision.economised.is_some(), k < 8, "{:?}", decision.economised);
            let read = |stage| ledger.read_rollouts(iteration, stage).expect("published");
            assert_eq!(read(Stage::Train).len(), 60 * k);
            assert_eq!(read(Stage::Probe).len(), 40 * 8 * 3, "the probe draws the largest");
        }
        let chosen: Vec<_> = decisions(&ledger).iter().filter_map(|d| d.knobs.samples).collect();
        match tolerance {
            0.0 => assert_eq!(chosen, [8; 3], "every sample finds something new"),
            1.0 => assert_eq!(chosen, [2; 3], "nothing is worth a sample"),
            _ => assert!(chosen.iter().all(|k| (2..8).contains(k)), "{chosen:?}"),
        }
    }
}

#[test]
fn a_cap_is_chosen_from_the_same_rollouts_and_applied() {
    let mut settings = skilled(KnobGrid { caps: vec![0, 1, 3], ..top_p() });
    settings.controller.thresholds = vec![-0.5];
    settings.cap_to_pool = false;
    let ledger = finished(&settings);
    for (iteration, decision) in (1..).zip(decisions(&ledger)) {
        let scores: Vec<_> = decision.grid.iter().map(|c| (c.knobs.fixed_cap, c.cap)).collect();
        assert_eq!(scores.len(), 9);
        assert!(scores.iter().all(|(fixed, cap)| fixed.is_none() || fixed == cap));
        let best = decision.grid.iter().map(|cell| cell.balance_score).fold(0.0, f64::max);
        assert_eq!(decision.balance_score, Some(best));
        // Wrong responses pass the threshold, ranked below the right ones: a cap of n* leaves them out.
        assert_eq!(decision.knobs.fixed_cap, Some(3));
        let drawn = ledger.read_rollouts(iteration, Stage::Train).expect("published");
        let mut taken = std::collections::BTreeMap::new();
        for rollout in drawn.iter().filter(|rollout| rollout.selected == Some(true)) {
            *taken.entry(rollout.query_id.clone()).or_insert(0) += 1;
        }
        assert_eq!(taken.values().max(), Some(&3));
    }
}

/// Skill grows by 0.02 a step until it is 1, and with it greedy accuracy on 40 validation queries.
fn steps() -> ImproveSettings {
    let steps = vec![10, 20, 30, 40, 50, 60];
    let knobs = KnobGrid { steps, steps_queries: 40, ..KnobGrid::default() };
    let mut settings = ImproveSettings { steps_per_iteration: 60, ..with_knobs(knobs) };
    // P_0 has a skill of 0.3.
    settings.supervised.steps = 10;
    settings.supervised.stop_at_accuracy = None;
    settings
}

#[test]
fn training_goes_on_while_it_gains_and_no_longer() {
    let settings = steps();
    let mut ledger = Memory::new(base());
    let policy = run_on(&EchoTask::new(400), &settings, &mut ledger).expect("a run");
    assert_eq!(policy.skill, 1.0);
    let mut chosen: Vec<(u64, Vec<Stretch>)> = Vec::new();
    for event in events(&ledger) {
        if let Event::StepsChosen { iteration, steps, queries, stretches } = event {
            let of_iteration =
                |e: &&Event| matches!(e, Event::Step { iteration: of, .. } if *of == iteration);
            assert_eq!(events(&ledger).iter().filter(of_iteration).count() as u64, steps);
            assert_eq!(queries, 40, "all validation queries of the task");
            chosen.push((steps, stretches));
        }
    }
    assert_eq!(chosen.len(), 3);
    let (first, stretches) = &chosen[0];
    assert!((30..60).contains(first), "{first} steps");
    let (last, before) = stretches.split_last().expect("stretches");
    assert!(before.iter().all(|stretch| stretch.gain > 0.0), "{stretches:?}");
    assert!(last.gain <= 0.0 && last.steps == *first, "{stretches:?}");
    assert!(chosen[1..].iter().all(|(steps, _)| *steps == 10), "nothing left to learn: {chosen:?}");
}

#[test]
fn passes_limit_the_steps_that_may_be_chosen() {
    let mut settings = steps();
    (settings.most_passes, settings.batch_size) = (1, 1000);
    let mut ledger = Memory::new(base());
    run_on(&EchoTask::new(400), &settings, &mut ledger).expect("a run");
    let made =
        events(&ledger).iter().filter(|e| matches!(e, Event::Step { iteration: 1, .. })).count();
    assert_eq!(made, 1);
    assert!(!events(&ledger).iter().any(|event| matches!(event, Event::StepsChosen { .. })));
}

#[test]
fn steps_need_validation_queries() {
    let mut ledger = Memory::new(base());
    let fault = run_on(&EchoTask::new(9), &steps(), &mut ledger).expect_err("none to validate on");
    assert_eq!(fault.class, FaultClass::Usage);
    assert!(events(&ledger).is_empty());
}

#[test]
fn a_run_with_every_knob_killed_anywhere_ends_like_one_that_was_not() {
    for search in [Search::Exhaustive, Search::Racing] {
        let samples = vec![2, 4, 8];
        let knobs = KnobGrid {
            samples,
            samples_tolerance: 0.3,
            caps: vec![0, 2],
            steps: vec![2, 4, 6],
            steps_queries: 10,
            ..top_p()
        };
        let mut settings = ImproveSettings { search, search_budget: 0.8, ..with_knobs(knobs) };
        (settings.queries_per_iteration, settings.probe_queries) = (20, 6);
        settings.evaluation.k = vec![4];
        settings.evaluation.s = vec![];
        let whole = killed_anywhere(&settings, 0, 3);
        for event in events(&whole) {
            let line = serde_json::to_string(&event).expect("JSON");
            assert_eq!(serde_json::from_str::<Event>(&line).expect(&line), event);
        }
    }
}

#[test]
fn without_knobs_events_say_nothing_new() {
    let ledger = finished(&settings(Method::BStar));
    let decision = decisions(&ledger).remove(0);
    let json = serde_json::to_value(&decision).expect("JSON");
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    let decided = [
        "temperature",
        "threshold",
        "balance_score",
        "target_count",
        "threshold_from",
        "grid",
        "full_grid",
        "confidence",
    ];
    assert_eq!(keys(&json), decided);
    let cell = ["temperature", "threshold", "cap", "balance_score", "selected", "correct"];
    assert_eq!(keys(&json["grid"][0]), cell);
    assert_eq!(keys(&json["confidence"]["temperatures"][0]), ["temperature", "chance"]);
    let rival = &json["confidence"]["rival"]["configuration"];
    assert_eq!(keys(rival), ["temperature", "threshold"]);
    assert!(!events(&ledger).iter().any(|event| matches!(event, Event::StepsChosen { .. })));
}

#[test]
fn methods_that_do_not_turn_knobs_are_told_apart_by_data() {
    for method in Method::ALL {
        assert_eq!(method.spec().adaptation.turns_knobs(), method == Method::BStar, "{method:?}");
    }
}
