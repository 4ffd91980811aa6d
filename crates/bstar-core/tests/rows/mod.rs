//! Every method with and without a reward model: what its row of the paper's tables must hold.

use super::{Memory, base, decisions, events, finished, settings, with_reward_training};
use bstar_core::controller::Decision;
use bstar_core::evaluate::query_values;
use bstar_core::event::Event;
use bstar_core::improve::ImproveSettings;
use bstar_core::method::Method;
use bstar_core::ports::{Checkpoint, Ledger as _};
use bstar_core::reward::{RewardKind, RewardScale};
use bstar_core::reward_training::RewardStart;
use bstar_core::testing::EchoTask;
use bstar_core::{Rollout, Stage};

const SELF_TRAINING: [Method; 6] = [
    Method::RestEm,
    Method::IterativeRft,
    Method::OnlineRft,
    Method::BStar,
    Method::BStarTemperature,
    Method::BStarThreshold,
];

fn row(method: Method, kind: RewardKind) -> ImproveSettings {
    let mut settings = settings(method);
    settings.ranking.reward.kind = kind;
    settings.evaluation.reward.kind = kind;
    settings
}

fn drawn(ledger: &Memory, iteration: u32) -> Vec<Rollout> {
    ledger.read_rollouts(iteration, Stage::Train).expect("published")
}

/// `1[correct]`, and what the reward model adds.
fn parts(rollout: &Rollout) -> (f64, f64) {
    let answer = if rollout.verdict.is_correct() { 1.0 } else { 0.0 };
    let raw = rollout.reward_model_score.expect("every response is scored");
    (answer, (raw / 5.0).clamp(-1.0, 1.0))
}

#[test]
fn the_reward_of_a_row_is_what_its_kind_says_and_decides_what_is_learnt() {
    for method in SELF_TRAINING {
        for kind in [RewardKind::Answer, RewardKind::AnswerAndRewardModel] {
            let name = format!("{} {kind:?}", method.name());
            let ledger = finished(&row(method, kind));
            for (iteration, decision) in (1..).zip(decisions(&ledger)) {
                for rollout in drawn(&ledger, iteration) {
                    let (answer, part) = parts(&rollout);
                    let expected = match kind {
                        RewardKind::Answer => answer,
                        RewardKind::AnswerAndRewardModel => answer + part,
                    };
                    assert_eq!(rollout.reward, Some(expected), "{name}");
                    let is_selected = rollout.selected.expect("marked");
                    assert!(!is_selected || expected > decision.threshold, "{name}");
                    let learns_wrong = is_selected && answer == 0.0;
                    assert!(!learns_wrong || kind != RewardKind::Answer, "{name}");
                }
            }
        }
    }
}

#[test]
fn at_the_baselines_setting_a_reward_model_lets_wrong_answers_in_and_ranks_the_rest() {
    for method in [Method::RestEm, Method::IterativeRft, Method::OnlineRft] {
        // Without a cap everything above τ = 0 is selected, so the first iterations compare.
        let learnt = |kind| {
            let ledger = finished(&ImproveSettings { cap_to_pool: false, ..row(method, kind) });
            for decision in decisions(&ledger) {
                let fixed = (decision.temperature, decision.threshold, decision.grid.len());
                assert_eq!(fixed, (1.0, 0.0, 0), "a baseline searches nothing");
            }
            let selected = drawn(&ledger, 1).into_iter().filter(|r| r.selected == Some(true));
            let wrong = |rollout: &Rollout| !rollout.verdict.is_correct();
            let all: Vec<Rollout> = selected.collect();
            (all.iter().filter(|rollout| wrong(rollout)).count(), all.len())
        };
        let (wrong, without) = learnt(RewardKind::Answer);
        assert_eq!(wrong, 0, "{}", method.name());
        let (wrong, with) = learnt(RewardKind::AnswerAndRewardModel);
        assert!(wrong > 0 && with > without, "{}: {wrong} of {with}", method.name());
    }
}

#[test]
fn supervised_fine_tuning_alone_needs_and_trains_no_reward_model() {
    for kind in [RewardKind::Answer, RewardKind::AnswerAndRewardModel] {
        let ledger = finished(&row(Method::Sft, kind));
        assert!(decisions(&ledger).is_empty());
        let later = |event: &Event| matches!(event, Event::Step { iteration: 1.., .. });
        assert!(!events(&ledger).iter().any(later));
    }
}

#[test]
fn every_row_trains_and_refreshes_a_reward_model_alike() {
    let reference = with_reward_training(RewardStart::Policy).reward_training;
    for method in SELF_TRAINING {
        let mut settings = row(method, RewardKind::AnswerAndRewardModel);
        settings.reward_training.clone_from(&reference);
        let ledger = finished(&settings);
        let trained: Vec<u32> = events(&ledger)
            .iter()
            .filter_map(|event| match event {
                Event::RewardModelTrained { iteration, .. } => Some(*iteration),
                _ => None,
            })
            .collect();
        assert_eq!(trained, [0, 3], "{}", method.name());
        assert!(drawn(&ledger, 3).iter().all(|rollout| rollout.reward_model_score.is_some()));
    }
}

#[test]
fn an_ablation_chooses_what_the_whole_method_would_at_its_fixed_knob() {
    for kind in [RewardKind::Answer, RewardKind::AnswerAndRewardModel] {
        let of = |method| decisions(&finished(&row(method, kind)))[0].clone();
        let (both, temperature, threshold) =
            (of(Method::BStar), of(Method::BStarTemperature), of(Method::BStarThreshold));
        // The first iteration starts from the same P_0: an ablation's cells are cells of the whole.
        for cell in temperature.grid.iter().chain(&threshold.grid) {
            assert!(both.grid.contains(cell), "{cell:?}");
        }
        assert_eq!((temperature.threshold, threshold.temperature), (0.0, 1.0));
        let best = |decision: &Decision| decision.balance_score.expect("probed");
        let least = best(&both) + 1e-9;
        assert!(least > best(&temperature) && least > best(&threshold));
    }
}

#[test]
fn a_reset_forgets_everything_that_iterations_taught() {
    for kind in [RewardKind::Answer, RewardKind::AnswerAndRewardModel] {
        for reset_to in [Checkpoint::Iteration(0), Checkpoint::Base] {
            let ledger = finished(&ImproveSettings { reset_to, ..row(Method::RestEm, kind) });
            let at = |checkpoint| {
                let mut policy = base();
                ledger.restore(checkpoint, &mut policy).expect("kept");
                policy
            };
            let start = at(reset_to);
            for iteration in 1..=3 {
                let policy = at(Checkpoint::Iteration(iteration));
                let gained = policy.skill - start.skill;
                assert!((gained - 6.0 * start.gain).abs() < 1e-12, "{reset_to:?}: {gained}");
                assert_eq!(policy.optimizer_steps, 6, "a new optimizer");
            }
            assert_eq!(start == base(), reset_to == Checkpoint::Base);
        }
    }
}

#[test]
fn rows_of_one_seed_start_from_the_same_policy_and_draw_the_same_first_queries() {
    let first = |method, kind| {
        let ledger = finished(&row(method, kind));
        let mut policy = base();
        ledger.restore(Checkpoint::Iteration(0), &mut policy).expect("P_0");
        let ids: Vec<_> = drawn(&ledger, 1).into_iter().map(|rollout| rollout.query_id).collect();
        (policy, ids)
    };
    let reference = first(Method::OnlineRft, RewardKind::Answer);
    for method in SELF_TRAINING {
        for kind in [RewardKind::Answer, RewardKind::AnswerAndRewardModel] {
            assert_eq!(first(method, kind), reference, "{} {kind:?}", method.name());
        }
    }
}

#[test]
fn an_evaluation_taken_apart_ranks_scores_as_it_did_whole() {
    let mut settings = row(Method::OnlineRft, RewardKind::AnswerAndRewardModel);
    settings.ranking.reward.scale = RewardScale::Rank;
    settings.evaluation.reward.scale = RewardScale::Rank;
    let ledger = finished(&settings);
    let rollouts = ledger.read_rollouts(2, Stage::Eval).expect("published");
    let values = query_values(&settings.evaluation, &rollouts, &EchoTask::new(100));
    let mut combined = 0;
    for event in events(&ledger) {
        let Event::Measured { iteration: 2, stage: Stage::Eval, metrics } = event else { continue };
        for metric in metrics.iter().filter(|metric| metric.value.is_some()) {
            let of_queries = &values[&metric.name];
            let mean = of_queries.values().sum::<f64>() / of_queries.len() as f64;
            assert!((metric.value.expect("a value") - mean).abs() < 1e-12, "{metric:?} {mean}");
            combined += u32::from(metric.name.ends_with("/combined"));
        }
    }
    assert!(combined >= 3, "ranks are combined with answers");
    // A run may have left out test queries that the task still has.
    assert_eq!(query_values(&settings.evaluation, &rollouts, &EchoTask::new(130)), values);
}
