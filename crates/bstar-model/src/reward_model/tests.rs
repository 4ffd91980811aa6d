//! What a reward model learns, how it scores, and what becomes of its folder.

use super::*;
use crate::config::family::Family;
use crate::size::ModelSize;
use bstar_core::batches::batches;
use bstar_core::ports::{LabelledResponse, Policy as _};
use bstar_core::schedule::CosineSchedule;
use std::fs;

fn policy() -> EmbeddedPolicy {
    let tokenizer = Tokenizer::characters(["0123456789+=#,-abc"]);
    let size = ModelSize::from_width(16).unwrap();
    let settings = OptimizerSettings::default();
    EmbeddedPolicy::from_scratch(size, tokenizer, 24, RngKey::from_seed(1), settings)
}

const HEADS: [RewardHead; 2] = [RewardHead::Scalar, RewardHead::Token];

fn model_with(head: RewardHead) -> EmbeddedRewardModel {
    policy().reward_model(head, RngKey::from_seed(2)).unwrap()
}

fn model() -> EmbeddedRewardModel {
    model_with(RewardHead::Scalar)
}

/// Steps of digits; a step is good unless it or one before it holds a 7.
fn examples(count: usize) -> Vec<LabelledResponse> {
    let example = |index: usize| {
        let digits = [index % 10, (index / 10) % 10, (index * 3 + 1) % 10, (index / 7) % 10];
        let response = format!("{}{}={}{}#", digits[0], digits[1], digits[2], digits[3]);
        let bad = |end: usize| digits[..end].contains(&7);
        let labels = [bad(2), bad(4)].map(|bad| f64::from(u8::from(!bad)));
        LabelledResponse {
            prompt: "1+1=".into(),
            response: response.into(),
            steps: vec![0..3, 3..6],
            labels: labels.to_vec(),
        }
    };
    (0..count).map(example).collect()
}

fn requests(examples: &[LabelledResponse]) -> Vec<StepRequest<'_>> {
    examples
        .iter()
        .map(|example| StepRequest {
            prompt: &example.prompt,
            response: &example.response,
            steps: example.steps.clone(),
        })
        .collect()
}

fn train(model: &mut EmbeddedRewardModel, examples: &[LabelledResponse], steps: usize) -> Vec<f64> {
    let order = batches(examples.len(), 16, steps, RngKey::from_seed(3));
    let schedule =
        CosineSchedule { peak: 5e-3, floor: 1e-4, warmup_steps: 5.0, horizon_steps: steps as f64 };
    let update = RewardUpdate { examples, batches: &order, schedule, every_token: true };
    let mut losses = Vec::new();
    let on_step = &mut |step: TrainStep| {
        losses.push(step.loss);
        Ok(())
    };
    model.update(&update, on_step).unwrap();
    losses
}

#[test]
fn it_learns_which_steps_are_good() {
    let examples = examples(200);
    for head in HEADS {
        let mut model = model_with(head);
        let losses = train(&mut model, &examples, 150);
        if head == RewardHead::Scalar {
            assert!(
                (losses[0] - 2_f64.ln()).abs() < 0.1,
                "a fresh head knows nothing: {}",
                losses[0]
            );
        }
        assert!(losses[149] < 0.15, "{head:?}: {}", losses[149]);
        let scores = model.step_scores(&requests(&examples), &mut |_| Ok(())).unwrap();
        let judged = examples.iter().zip(&scores).flat_map(|(example, scores)| {
            example.labels.iter().zip(scores).map(|(label, score)| (*label > 0.5) == (*score > 0.0))
        });
        let judged: Vec<bool> = judged.collect();
        let right = judged.iter().filter(|right| **right).count();
        assert!(right * 100 >= judged.len() * 97, "{head:?}: {right} of {}", judged.len());
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    HEADS.into_iter().for_each(check_gradient);
}

fn check_gradient(head: RewardHead) {
    let model = model_with(head);
    let labelled: Vec<_> = examples(5)
        .iter()
        .map(|example| {
            let tokens =
                model.step_tokens(&example.prompt, &example.response, &example.steps).unwrap();
            tokens.labelled(&[0.3, 1.0], true)
        })
        .collect();
    let batch: Vec<_> = labelled.iter().collect();
    let loss_of = |weights: &RewardWeights| {
        let mut trainer = RewardTrainer::new(
            weights.clone(),
            OptimizerSettings::default(),
            ComputeSettings::default(),
        );
        let report = trainer.measure(&batch).unwrap();
        (report.loss, trainer.gradient().to_vec())
    };
    let (_, gradient) = loss_of(&model.weights);
    let count = gradient.len();
    // Some of the body, all of the head and its bias.
    for index in (0..count).step_by(97).chain(count - 17..count) {
        let moved = |by: f32| {
            let mut weights = model.weights.clone();
            weights.flat_mut()[index] += by;
            loss_of(&weights).0
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        let found = f64::from(gradient[index]);
        let close = (slope - found).abs() < 2e-3 * (1.0 + slope.abs());
        assert!(close, "{head:?}, {index}: {slope} {found}");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let examples = examples(300);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            HEADS.map(|head| {
                let mut model = model_with(head);
                train(&mut model, &examples, 3);
                let scores = model.step_scores(&requests(&examples), &mut |_| Ok(())).unwrap();
                (model.version(), scores)
            })
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn equal_responses_have_equal_scores_and_an_empty_one_has_none() {
    let mut examples = examples(4);
    examples.push(examples[1].clone());
    examples.push(LabelledResponse {
        response: "".into(),
        steps: vec![],
        labels: vec![],
        ..examples[0].clone()
    });
    let mut told = Vec::new();
    let tick = &mut |progress: Progress| {
        told.push((progress.done, progress.total));
        Ok(())
    };
    let scores = model().step_scores(&requests(&examples), tick).unwrap();
    assert_eq!(scores[1], scores[4]);
    assert_ne!(scores[0], scores[1]);
    assert_eq!(scores[0].len(), 2);
    assert!(scores[5].is_empty());
    assert_eq!(told, [(6, 6)]);
}

#[test]
fn it_survives_its_folder_in_every_family() {
    for family in [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = policy().weights().config.clone();
        config.family = family;
        let weights = crate::weights::Weights::random(&config, RngKey::from_seed(4));
        for head in HEADS {
            let weights = RewardWeights::from_policy(&weights, head, RngKey::from_seed(5));
            weights.save(dir.path()).unwrap();
            let loaded = RewardWeights::load(dir.path()).unwrap();
            assert_eq!(loaded.flat(), weights.flat());
            assert_eq!(loaded.head_kind(), head);
            assert_eq!(loaded.config().family, family);
        }
    }
}

#[test]
fn a_loaded_one_scores_as_the_saved_one_and_is_told_from_a_policy() {
    for (head, architecture) in
        HEADS.into_iter().zip(["LlamaForTokenClassification", "LlamaForTokenReward"])
    {
        let (dir, model) = (tempfile::tempdir().unwrap(), model_with(head));
        model.save(dir.path()).unwrap();
        let fault =
            EmbeddedPolicy::from_folder(dir.path(), OptimizerSettings::default()).err().unwrap();
        assert!(fault.message.contains(architecture), "{fault}");
        let mut loaded = EmbeddedRewardModel::load(dir.path(), &policy()).unwrap();
        assert_eq!(loaded.version(), model.version());
        let examples = examples(3);
        let scores = |model: &mut EmbeddedRewardModel| {
            model.step_scores(&requests(&examples), &mut |_| Ok(())).unwrap()
        };
        assert_eq!(scores(&mut loaded), scores(&mut model.clone()));
        let config = fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(config.contains(architecture), "{config}");
    }
}

#[test]
fn the_scores_of_a_token_head_never_rise_and_its_likeliest_tokens_are_right() {
    let mut model = model_with(RewardHead::Token);
    let greedy = {
        use bstar_core::ports::{Decoding, PromptRequest, SampleRequest};
        let prompts = vec![PromptRequest { prompt: "1+1=", begun: "", key: RngKey::from_seed(6) }];
        let request = SampleRequest { prompts, samples: 1, decoding: Decoding::greedy(6) };
        policy().sample(&request, &mut |_| Ok(())).unwrap().remove(0).remove(0).text
    };
    let likeliest = LabelledResponse {
        response: greedy.as_str().into(),
        steps: (0..greedy.len()).map(|at| at..at + 1).collect(),
        labels: vec![1.0; greedy.len()],
        ..examples(1).remove(0)
    };
    let mut all = examples(20);
    all.push(likeliest);
    let scores = model.step_scores(&requests(&all), &mut |_| Ok(())).unwrap();
    for scores in &scores {
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
    // P after n likeliest tokens is σ(bias)ⁿ.
    let right = 1.0 / (1.0 + (-f64::from(token_head::FRESH_BIAS)).exp());
    for (place, score) in scores[20].iter().enumerate() {
        let product = right.powi(i32::try_from(place).unwrap() + 1);
        let expected = (product / (1.0 - product)).ln();
        assert!((score - expected).abs() < 1e-4, "{place}: {score} {expected}");
    }
}

#[test]
fn shards_are_joined() {
    let (dir, model) = (tempfile::tempdir().unwrap(), model());
    model.save(dir.path()).unwrap();
    let whole = dir.path().join("model.safetensors");
    let all = crate::tensor_file::read_tensors(&whole, |_, _| Ok(true)).unwrap();
    fs::remove_file(whole).unwrap();
    let mut map = serde_json::Map::new();
    for (shard, tensors) in all.chunks(5).enumerate() {
        let file = format!("model-{shard}.safetensors");
        map.extend(tensors.iter().map(|(name, _)| (name.clone(), file.as_str().into())));
        let tensors = tensors.iter().map(|(n, t)| (n.clone(), t.shape.clone(), &t.data[..]));
        crate::tensor_file::write_tensors(&dir.path().join(file), tensors).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let loaded = EmbeddedRewardModel::load(dir.path(), &policy()).unwrap();
    assert_eq!(loaded.version(), model.version());
    fs::remove_file(dir.path().join("model-1.safetensors")).unwrap();
    let fault = EmbeddedRewardModel::load(dir.path(), &policy()).unwrap_err();
    assert!(fault.message.contains("model-1.safetensors"), "{fault}");
}

#[test]
fn a_response_that_does_not_fit_is_not_scored_and_found_before() {
    // A context of 24 tokens, 4 of them for the prompt.
    let long = |count| LabelledResponse {
        response: "1".repeat(count).as_str().into(),
        steps: vec![0..2, 2..count],
        ..examples(1).remove(0)
    };
    let examples = [long(20), long(21)];
    let scores = model().step_scores(&requests(&examples), &mut |_| Ok(())).unwrap();
    assert_eq!((scores[0].len(), scores[1].len()), (2, 0));
    model().check_prompt("1+1=", 20, 100).unwrap();
    model().check_prompt("1+1=", usize::MAX, 24).unwrap();
    let fault = model().check_prompt("1+1=", 21, 100).unwrap_err();
    assert_eq!(fault.class, FaultClass::Data);
    assert!(fault.message.contains("prompt of 4 tokens"), "{fault}");
    assert!(fault.hint.unwrap().contains("sample.max_tokens"));
}

#[test]
fn a_model_that_diverges_names_its_own_setting() {
    let examples = examples(20);
    let order = batches(20, 8, 9, RngKey::from_seed(3));
    let schedule =
        CosineSchedule { peak: 1e30, floor: 1e30, warmup_steps: 0.0, horizon_steps: 9.0 };
    let update = RewardUpdate { examples: &examples, batches: &order, schedule, every_token: true };
    let fault = model().update(&update, &mut |_| Ok(())).unwrap_err();
    assert_eq!(fault.class, FaultClass::Training);
    assert!(fault.message.contains("the reward model, at step "), "{fault}");
    let hint = fault.hint.unwrap();
    assert!(hint.contains("reward_model.learning_rate") && !hint.contains("train."), "{hint}");
}

#[test]
fn folders_of_other_models_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    policy().save(dir.path()).unwrap();
    let fault = EmbeddedRewardModel::load(dir.path(), &policy()).unwrap_err();
    assert_eq!(fault.class, FaultClass::Data);
    assert!(fault.message.contains("LlamaForCausalLM"), "{fault}");
    model().save(dir.path()).unwrap();
    let fault =
        EmbeddedPolicy::from_folder(dir.path(), OptimizerSettings::default()).err().unwrap();
    assert!(fault.message.contains("ForTokenClassification"), "{fault}");
}

#[test]
fn a_policy_goes_on_from_a_beginning_and_has_no_room_behind_a_long_one() {
    use bstar_core::ports::{Decoding, PromptRequest, SampleRequest};
    let mut policy = policy();
    let decoding = Decoding { temperature: 1.0, ..Decoding::greedy(6) };
    let mut sample = |prompt: &str, begun: &str| {
        let key = RngKey::from_seed(6);
        let prompts = vec![PromptRequest { prompt, begun, key }];
        let request = SampleRequest { prompts, samples: 3, decoding: decoding.clone() };
        policy.sample(&request, &mut |_| Ok(())).unwrap().remove(0)
    };
    // To this policy a beginning is no other than a longer prompt.
    assert_eq!(sample("1+1=", "2#"), sample("1+1=2#", ""));
    let long = sample("1+1=", &"1".repeat(40));
    assert_eq!(long.len(), 3);
    assert!(long.iter().all(|rest| rest.text.is_empty() && rest.token_count == 0));
}

#[test]
fn split_batches_and_checkpoints_give_the_same_reward_model() {
    let examples = examples(40);
    let trained = |head, compute: ComputeSettings| {
        let mut policy = policy();
        policy.compute_with(compute);
        let mut model = policy.reward_model(head, RngKey::from_seed(2)).unwrap();
        let losses = train(&mut model, &examples, 5);
        (losses, model)
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let plain = ComputeSettings { precision, ..ComputeSettings::default() };
        let checkpoints = ComputeSettings { checkpoint_activations: true, ..plain };
        for head in HEADS {
            let (_, model) = trained(head, plain);
            let (_, kept) = trained(head, checkpoints);
            assert_eq!(kept.version(), model.version(), "{head:?} {precision:?}");
        }
        let (losses, mut model) = trained(RewardHead::Scalar, plain);
        let split = ComputeSettings { micro_batch_size: 2, ..plain };
        let (split, mut from_split) = trained(RewardHead::Scalar, split);
        assert!((split[4] - losses[4]).abs() < 1e-4, "{split:?} {losses:?}");
        let requests = requests(&examples);
        let scores = |model: &mut EmbeddedRewardModel| {
            model.step_scores(&requests, &mut |_| Ok(())).unwrap().concat()
        };
        for (one, other) in scores(&mut model).iter().zip(scores(&mut from_split)) {
            assert!((one - other).abs() < 0.02, "{one} {other}");
        }
    }
}
