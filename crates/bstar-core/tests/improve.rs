//! The improve loop with scripted stand-ins: methods, decisions, resume and failure.

mod carried;
mod curriculum;
mod knobs;
mod planned;
mod racing;
mod rows;
mod what_if;

use bstar_core::balance::EmptyQueries;
use bstar_core::controller::{Adaptation, Configuration, Controller, Decision, choose};
use bstar_core::curriculum::QueryOrder;
use bstar_core::evaluate::EvaluationSettings;
use bstar_core::event::{Activity, Event, Piece};
use bstar_core::improve::{ImproveSettings, Improver, improve};
use bstar_core::knobs::KnobGrid;
use bstar_core::method::{Continuity, Method};
use bstar_core::ports::{Checkpoint, Decoding, Example, Ledger, RewardHead};
use bstar_core::preset::Preset;
use bstar_core::ranking::GoldSolutions;
use bstar_core::reward::RewardKind;
use bstar_core::reward_training::{RewardStart, RewardTrainingSettings};
use bstar_core::schedule::CosineSchedule;
use bstar_core::search::Search;
use bstar_core::step_labels::{LabelSettings, StepLabels};
use bstar_core::supervised::SupervisedSettings;
use bstar_core::testing::{EchoTask, MemoryLedger, ScriptedPolicy, TableReward};
use bstar_core::{Fault, FaultClass, RngKey, Stage};

type Memory = MemoryLedger<ScriptedPolicy>;

fn settings(method: Method) -> ImproveSettings {
    let preset = Preset::Recommended.values();
    let ranking = preset.ranking(RewardKind::AnswerAndRewardModel);
    let reward = ranking.reward;
    let decoding = Decoding { temperature: 1.0, ..Decoding::greedy(16) };
    ImproveSettings {
        method,
        seed: 7,
        iterations: 3,
        supervised: SupervisedSettings {
            steps: 40,
            batch_size: 4,
            schedule: CosineSchedule {
                peak: 1e-3,
                floor: 0.0,
                warmup_steps: 2.0,
                horizon_steps: 40.0,
            },
            stop_at_accuracy: Some(0.4),
            validate_every: 5,
            validation_queries: 10,
            decoding: decoding.clone(),
        },
        queries_per_iteration: 60,
        query_order: QueryOrder::Shuffled,
        samples_per_query: 8,
        target_samples: 180,
        target_count: None,
        cap_to_pool: true,
        empty_queries: EmptyQueries::Zero,
        probe_queries: 20,
        redraw_probe: false,
        search: Search::Exhaustive,
        search_budget: 0.1,
        candidate_logprobs: false,
        decoding: decoding.clone(),
        reward_training: None,
        ranking,
        gold_solutions: GoldSolutions::Exclude,
        controller: controller(method),
        steps_per_iteration: 6,
        batch_size: 8,
        most_passes: 0,
        learning_rate: 1e-3,
        learning_rate_floor: 1e-4,
        warmup_steps: 2.0,
        optimizer_state: Continuity::Method,
        schedule: Continuity::Method,
        reset_to: Checkpoint::Iteration(0),
        evaluation: EvaluationSettings {
            queries: 0,
            sampled_queries: 5,
            samples: 8,
            decoding,
            k: vec![1, 4, 8],
            s: vec![1, 2],
            reward,
            key: RngKey::from_seed(99),
        },
        most_ungradable: 0.25,
        most_empty_iterations: 2,
    }
}

fn controller(method: Method) -> Controller {
    let preset = Preset::Recommended.values();
    Controller {
        adaptation: method.spec().adaptation,
        fixed: Configuration::new(1.0, 0.0),
        temperatures: vec![0.5, 1.0, 1.5],
        thresholds: (-5..=5).map(|i| f64::from(i) / 5.0).collect(),
        ties: preset.ties,
        threshold_from: preset.threshold_from,
        hysteresis: 0.0,
        knobs: KnobGrid::default(),
    }
}

fn base() -> ScriptedPolicy {
    ScriptedPolicy { skill: 0.1, gain: 0.02, wordings: 5, optimizer_steps: 0 }
}

fn run(settings: &ImproveSettings, ledger: &mut Memory) -> Result<ScriptedPolicy, Fault> {
    run_on(&EchoTask::new(100), settings, ledger)
}

fn run_on(
    task: &EchoTask,
    settings: &ImproveSettings,
    ledger: &mut Memory,
) -> Result<ScriptedPolicy, Fault> {
    let mut policy = base();
    let given = TableReward(ScriptedPolicy::FRESH_SCORES.to_vec());
    let supervised = supervised();
    improve(&mut Improver {
        settings,
        task,
        supervised: &supervised,
        policy: &mut policy,
        reward_model: settings.reward_training.is_none().then_some(given),
        ledger,
    })?;
    Ok(policy)
}

/// A run to its end.
fn finished(settings: &ImproveSettings) -> Memory {
    let mut ledger = Memory::new(base());
    run(settings, &mut ledger).expect("a run");
    ledger
}

/// What it decided, iteration by iteration.
/// Kills a run at every `step`-th operation from the first on, and insists that what goes on from there ends
/// like the run that was not killed, which comes back.
fn killed_anywhere(settings: &ImproveSettings, first: usize, step: usize) -> Memory {
    let mut whole = Memory::new(base());
    let policy = run(settings, &mut whole).expect("a run");
    for operation in (0..whole.operations).skip(first).step_by(step) {
        let mut ledger = Memory::new(base());
        ledger.fail_after(operation);
        let fault = run(settings, &mut ledger).expect_err("killed");
        assert_eq!(fault.class, FaultClass::Interrupted);
        ledger.reopen();
        let resumed = run(settings, &mut ledger).expect("resumed");
        let method = settings.method.name();
        assert_eq!(resumed, policy, "{method} killed at operation {operation}");
        assert_eq!(events(&ledger), events(&whole), "{method} killed at operation {operation}");
    }
    whole
}

fn decisions(ledger: &Memory) -> Vec<Decision> {
    let decided = events(ledger).into_iter().filter_map(|event| match event {
        Event::Decided { decision, .. } => Some(*decision),
        _ => None,
    });
    decided.collect()
}

fn supervised() -> Vec<Example> {
    let example = |index: usize| Example {
        prompt: format!("train{index}").as_str().into(),
        response: "gold".into(),
    };
    (0..30).map(example).collect()
}

fn events(ledger: &Memory) -> Vec<Event> {
    ledger.events().expect("memory does not fail")
}

#[test]
fn every_method_runs_to_the_end_and_self_training_improves() {
    for method in Method::ALL {
        let mut ledger = Memory::new(base());
        let settings = settings(method);
        let policy = run(&settings, &mut ledger)
            .unwrap_or_else(|fault| panic!("{}: {fault}", method.name()));
        let iterations = settings.planned_iterations();
        assert_eq!(ledger.last_committed(), Some(iterations), "{}", method.name());
        assert_eq!(events(&ledger).last(), Some(&Event::RunFinished { iterations }));
        assert_eq!(iterations == 0, method == Method::Sft);
        if method.spec().self_training {
            let steps = events(&ledger)
                .iter()
                .filter(|e| matches!(e, Event::Step { iteration: 1.., .. }))
                .count();
            assert_eq!(steps, 18, "{}", method.name());
            let mut start = base();
            ledger.restore(Checkpoint::Iteration(0), &mut start).expect("P_0 is kept");
            let gained = policy.skill - start.skill;
            assert!(gained > 0.1, "{} gained {gained}", method.name());
        }
    }
}

#[test]
fn the_applied_configuration_is_the_best_cell_of_the_logged_grid() {
    let settings = settings(Method::BStar);
    let ledger = finished(&settings);
    let (mut previous, mut decided) = (None, 0);
    for event in events(&ledger) {
        match event {
            Event::Decided { iteration, decision } => {
                decided += 1;
                assert_eq!(decision.grid.len(), 3 * 11);
                let best =
                    choose(&decision.grid, settings.controller.ties, previous).expect("cells");
                assert_eq!(
                    (best.temperature, best.threshold),
                    (decision.temperature, decision.threshold)
                );
                assert_eq!(decision.balance_score, Some(best.balance_score));
                let drawn = ledger.read_rollouts(iteration, Stage::Train).expect("published");
                assert!(drawn.iter().all(|r| r.temperature == decision.temperature));
                let slack = 1e-9;
                assert!(
                    drawn
                        .iter()
                        .filter(|r| r.selected == Some(true))
                        .all(|r| r.reward > Some(decision.threshold + slack))
                );
                previous = Some(decision.configuration());
            }
            Event::Selected { selection, .. } => {
                assert_eq!(Some(selection.threshold), previous.map(|p| p.threshold));
            }
            _ => {}
        }
    }
    assert_eq!(decided, 3);
}

#[test]
fn ablations_keep_the_knob_that_they_do_not_turn() {
    for (method, adaptation) in [
        (Method::BStarTemperature, Adaptation::Temperature),
        (Method::BStarThreshold, Adaptation::Threshold),
    ] {
        let ledger = finished(&settings(method));
        for event in events(&ledger) {
            let Event::Decided { decision, .. } = event else { continue };
            for cell in &decision.grid {
                match adaptation {
                    Adaptation::Temperature => assert_eq!(cell.threshold, 0.0),
                    _ => assert_eq!(cell.temperature, 1.0),
                }
            }
        }
    }
}

#[test]
fn a_run_killed_at_every_operation_ends_like_one_that_was_not() {
    let mut settings = settings(Method::BStar);
    settings.queries_per_iteration = 12;
    settings.probe_queries = 6;
    settings.evaluation.k = vec![4];
    settings.evaluation.s = vec![];
    killed_anywhere(&settings, 0, 1);
}

/// Settings of a run that trains a reward model before the first and the third iteration.
fn with_reward_training(start: RewardStart) -> ImproveSettings {
    let mut settings = settings(Method::BStar);
    settings.queries_per_iteration = 12;
    settings.probe_queries = 6;
    settings.evaluation.k = vec![4];
    settings.evaluation.s = vec![];
    settings.reward_training = Some(RewardTrainingSettings {
        labels: LabelSettings {
            labels: StepLabels::Hard,
            responses: 4,
            completions: 3,
            decoding: settings.decoding.clone(),
            most_ungradable: settings.most_ungradable,
        },
        queries: 10,
        held_out: 0.2,
        start,
        refresh_every: 2,
        steps: 3,
        batch_size: 4,
        schedule: settings.supervised.schedule,
        every_token: true,
        head: RewardHead::Scalar,
    });
    settings
}

#[test]
fn a_reward_model_is_trained_before_the_loop_and_again_when_it_is_due() {
    let settings = with_reward_training(RewardStart::Policy);
    let ledger = finished(&settings);
    let trained: Vec<(u32, String)> = events(&ledger)
        .iter()
        .filter_map(|event| match event {
            Event::RewardModelTrained { iteration, version, labels, metrics } => {
                assert_eq!(labels.drawn, 40);
                assert!(labels.responses <= 40 && labels.completions > 0, "{labels:?}");
                assert!(metrics.iter().any(|m| m.name == "reward_model/step_auc"));
                Some((*iteration, version.to_string()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(trained.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 3]);
    assert_ne!(trained[0].1, trained[1].1, "a better policy makes other labels");
    // What was trained is what scores: its first score stands in the rollouts.
    let scored = |iteration| -> Vec<f64> {
        let drawn = ledger.read_rollouts(iteration, Stage::Train).expect("published");
        drawn.iter().filter_map(|rollout| rollout.step_scores.as_ref()?.first().copied()).collect()
    };
    let of = |version: &str, score: &f64| version.contains(&format!("{score:?}"));
    assert!(scored(1).iter().all(|score| of(&trained[0].1, score)));
    assert!(scored(3).iter().all(|score| of(&trained[1].1, score)));
}

#[test]
fn a_run_with_a_reward_model_killed_at_every_operation_ends_like_one_that_was_not() {
    // Together they are killed at two operations of three.
    for (first, start) in [RewardStart::Policy, RewardStart::Base].into_iter().enumerate() {
        let mut settings = with_reward_training(start);
        (settings.queries_per_iteration, settings.probe_queries) = (6, 4);
        killed_anywhere(&settings, first, 3);
    }
}

#[test]
fn a_run_goes_on_with_the_reward_model_that_it_was_given_and_with_no_other() {
    let settings = settings(Method::BStar);
    let mut ledger = Memory::new(base());
    ledger.fail_after(60);
    run(&settings, &mut ledger).expect_err("killed");
    ledger.reopen();
    let mut go_on = |scores: &[f64]| {
        improve(&mut Improver {
            settings: &settings,
            task: &EchoTask::new(100),
            supervised: &supervised(),
            policy: &mut base(),
            reward_model: Some(TableReward(scores.to_vec())),
            ledger: &mut ledger,
        })
    };
    let fault = go_on(&[1.0]).expect_err("another model");
    assert_eq!(fault.class, FaultClass::Run);
    assert!(fault.message.contains("another reward model"), "{fault}");
    go_on(&ScriptedPolicy::FRESH_SCORES).expect("the same model");
}

#[test]
fn a_score_that_is_not_finite_is_refused() {
    let settings = settings(Method::BStar);
    for score in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let mut ledger = Memory::new(base());
        let fault = improve(&mut Improver {
            settings: &settings,
            task: &EchoTask::new(100),
            supervised: &supervised(),
            policy: &mut base(),
            reward_model: Some(TableReward(vec![score])),
            ledger: &mut ledger,
        })
        .expect_err("no score");
        assert_eq!(fault.class, FaultClass::Training);
        assert!(fault.message.contains(&format!("the score {score}")), "{fault}");
    }
}

#[test]
fn an_interrupt_is_heard_while_held_out_steps_are_scored() {
    let settings = with_reward_training(RewardStart::Policy);
    let mut ledger = Memory::new(base());
    ledger.interrupt_at(Activity::MeasureRewardModel);
    let fault = run(&settings, &mut ledger).expect_err("interrupted");
    assert_eq!(fault.class, FaultClass::Interrupted);
    assert!(!events(&ledger).iter().any(|e| matches!(e, Event::RewardModelTrained { .. })));
}

#[test]
fn labels_that_are_all_alike_end_the_run_with_advice() {
    let mut settings = with_reward_training(RewardStart::Policy);
    settings.supervised.steps = 0;
    let mut policy = ScriptedPolicy { skill: 0.0, ..base() };
    let fault = improve(&mut Improver {
        settings: &settings,
        task: &EchoTask::new(100),
        supervised: &[],
        policy: &mut policy,
        reward_model: None,
        ledger: &mut Memory::new(base()),
    })
    .expect_err("nothing to learn");
    assert_eq!(fault.class, FaultClass::Training);
    assert!(fault.message.contains("all steps have the label 0"), "{fault}");
}

#[test]
fn a_finished_run_is_left_as_it_is() {
    let settings = settings(Method::OnlineRft);
    let mut ledger = Memory::new(base());
    run(&settings, &mut ledger).expect("a run");
    let before = events(&ledger);
    run(&settings, &mut ledger).expect("nothing to do");
    assert_eq!(events(&ledger), before);
}

#[test]
fn iterations_that_select_nothing_are_counted_explained_and_end_the_run() {
    let mut hopeless = settings(Method::OnlineRft);
    hopeless.controller.fixed.threshold = 5.0;
    let mut ledger = Memory::new(base());
    let fault = run(&hopeless, &mut ledger).expect_err("nothing is above 5");
    assert_eq!(fault.class, FaultClass::Training);
    assert!(fault.to_string().contains("2 iterations in a row"), "{fault}");
    assert!(fault.hint.as_deref().is_some_and(|hint| hint.contains("τ = 5")), "{:?}", fault.hint);
    assert_eq!(ledger.last_committed(), Some(1), "the first empty iteration is committed");
    assert!(ledger.is_published(2, Piece::Draw));
    ledger.reopen();
    let again = run(&hopeless, &mut ledger).expect_err("still hopeless");
    assert!(again.to_string().contains("2 iterations in a row"), "{again}");
}

#[test]
fn a_checker_that_cannot_tell_stops_the_run_with_everything_safe() {
    let task = EchoTask::new(100).that_cannot_tell();
    let mut settings = settings(Method::BStar);
    let mut ledger = Memory::new(base());
    let stopped = |settings: &ImproveSettings, ledger: &mut Memory| {
        let fault = run_on(&task, settings, ledger).expect_err("most answers are wrong");
        assert_eq!(fault.class, FaultClass::Training);
        assert!(fault.message.contains("cannot be graded: cannot parse"), "{fault}");
        assert!(fault.hint.expect("advice").contains("run.most_ungradable"));
        events(ledger)
    };
    let before = stopped(&settings, &mut ledger);
    let Some(Event::Graded { counts, reasons, .. }) =
        before.iter().rfind(|event| matches!(event, Event::Graded { .. }))
    else {
        panic!("the verdicts are on record");
    };
    assert_eq!(reasons["cannot parse"], counts.ungradable);
    assert_eq!(reasons["the same answer"], counts.correct);
    assert_eq!(reasons.values().sum::<u64>(), counts.total());
    assert_eq!(stopped(&settings, &mut ledger), before, "the same stop, nothing drawn again");
    settings.most_ungradable = 1.0;
    run_on(&task, &settings, &mut ledger).expect("it goes on where it stands");
    let mut whole = Memory::new(base());
    run_on(&task, &settings, &mut whole).expect("a run that never stopped");
    assert_eq!(events(&ledger), events(&whole));
}

#[test]
fn gold_solutions_are_trained_on_only_where_the_rule_says() {
    for (rule, gold_competes, wanted) in [
        (GoldSolutions::Exclude, false, 0..=0),
        (GoldSolutions::Train, false, 60..=60),
        (GoldSolutions::Compete, true, 1..=60),
    ] {
        let mut settings = settings(Method::OnlineRft);
        settings.gold_solutions = rule;
        settings.ranking.gold_competes = gold_competes;
        let ledger = finished(&settings);
        for event in events(&ledger) {
            let Event::Selected { selection, .. } = event else { continue };
            assert!(selection.correct <= selection.selected, "{selection:?}");
        }
        let gold: Vec<u64> = events(&ledger)
            .iter()
            .filter_map(|event| match event {
                Event::Selected { selection, .. } => Some(selection.gold),
                _ => None,
            })
            .collect();
        assert!(gold.iter().all(|gold| wanted.contains(gold)), "{rule:?}: {gold:?}");
    }
}

#[test]
fn supervised_fine_tuning_stops_at_the_validation_accuracy() {
    let validated = |event: Event| match event {
        Event::Validated { step, accuracy, .. } => Some((step, accuracy)),
        _ => None,
    };
    let events = events(&finished(&settings(Method::Sft)));
    let validations: Vec<(u64, f64)> = events.into_iter().filter_map(validated).collect();
    let (last, before) = validations.split_last().expect("validated");
    assert!(last.1 >= 0.4 && last.0 < 40, "{validations:?}");
    assert!(before.iter().all(|(_, accuracy)| *accuracy < 0.4), "{validations:?}");
}

#[test]
fn validation_without_a_goal_measures_and_stops_nothing() {
    let mut settings = settings(Method::Sft);
    settings.supervised.stop_at_accuracy = None;
    let ledger = finished(&settings);
    let count = |wanted: fn(&Event) -> bool| events(&ledger).iter().filter(|e| wanted(e)).count();
    assert_eq!(count(|event| matches!(event, Event::Validated { goal: None, .. })), 8);
    assert_eq!(count(|event| matches!(event, Event::Step { iteration: 0, .. })), 40);
}

#[test]
fn events_survive_json() {
    let ledger = finished(&settings(Method::BStar));
    for event in events(&ledger) {
        let line = serde_json::to_string(&event).expect("serializable");
        assert_eq!(serde_json::from_str::<Event>(&line).expect(&line), event);
    }
}
