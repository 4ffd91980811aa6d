//! The policy as a whole: learning, going on after a save, texts that do not fit, faults.

use super::*;
use crate::compute::Precision;
use crate::lora::LoraSettings;
use bstar_core::FinishReason;
use bstar_core::ports::{Decoding, PromptRequest};
use bstar_core::schedule::CosineSchedule;

fn policy() -> EmbeddedPolicy {
    EmbeddedPolicy::from_scratch(
        ModelSize::from_width(32).unwrap(),
        Tokenizer::characters(["0123456789+= "]),
        24,
        RngKey::from_seed(1),
        OptimizerSettings::default(),
    )
}

fn examples() -> Vec<Example> {
    (0..10)
        .map(|n| Example { prompt: format!("{n}+1=").into(), response: (n + 1).to_string().into() })
        .collect()
}

fn schedule(peak: f64) -> CosineSchedule {
    CosineSchedule { peak, floor: peak / 10.0, warmup_steps: 10.0, horizon_steps: 200.0 }
}

fn train(policy: &mut EmbeddedPolicy, steps: std::ops::Range<u64>) -> Vec<TrainStep> {
    let batches: Vec<_> = steps.clone().map(|_| (0..10).collect()).collect();
    let update = Update {
        examples: &examples(),
        batches: &batches,
        schedule: schedule(1e-2),
        first_step: steps.start,
        fresh_optimizer: false,
    };
    let mut told = Vec::new();
    policy
        .update(&update, &mut |step| {
            told.push(step);
            Ok(())
        })
        .unwrap();
    told
}

fn greedy(policy: &mut EmbeddedPolicy, prompts: &[&str]) -> Vec<Completion> {
    let key = RngKey::from_seed(5);
    let prompts = prompts.iter().map(|prompt| PromptRequest { prompt, begun: "", key }).collect();
    let request = SampleRequest { prompts, samples: 1, decoding: Decoding::greedy(8) };
    policy.sample(&request, &mut |_| Ok(())).unwrap().into_iter().flatten().collect()
}

#[test]
fn a_policy_learns_to_add_one() {
    let mut policy = policy();
    let before = policy.version();
    let told = train(&mut policy, 0..200);
    assert_eq!(told.len(), 200);
    assert_eq!((told[7].step, told[7].tokens), (7, 21));
    assert!(told[0].learning_rate < told[9].learning_rate);
    assert!(told[199].loss < 0.05, "{:?}", told[199]);
    assert_ne!(policy.version(), before);
    let completions = greedy(&mut policy, &["3+1=", "9+1="]);
    assert_eq!(completions[0].text, "4");
    assert_eq!(completions[1].text, "10");
    assert_eq!(completions[1].finish_reason, FinishReason::Stop);
    assert_eq!(completions[1].token_count, 3);
    assert!(completions[1].logprob < 0.0 && completions[1].logprob > -0.3);
}

#[test]
fn a_saved_policy_goes_on_with_the_same_bits() {
    let mut straight = policy();
    train(&mut straight, 0..10);

    let mut first_half = policy();
    train(&mut first_half, 0..5);
    let dir = tempfile::tempdir().unwrap();
    first_half.save(dir.path()).unwrap();
    first_half.save_trainer_state(dir.path()).unwrap();
    let settings = OptimizerSettings::default();
    let mut resumed = EmbeddedPolicy::from_folder(dir.path(), settings).unwrap();
    assert!(resumed.load_trainer_state(dir.path()).unwrap());
    train(&mut resumed, 5..10);
    assert_eq!(resumed.version(), straight.version());

    let mut forgetful = EmbeddedPolicy::from_folder(dir.path(), settings).unwrap();
    train(&mut forgetful, 5..10);
    assert_ne!(forgetful.version(), straight.version());
}

#[test]
fn half_precision_learns_samples_and_goes_on_with_the_same_bits() {
    let compute = ComputeSettings { precision: Precision::Bf16, ..ComputeSettings::default() };
    let half_policy = || {
        let mut policy = policy();
        policy.compute_with(compute);
        policy
    };
    let mut straight = half_policy();
    train(&mut straight, 0..200);
    assert_eq!(greedy(&mut straight, &["3+1="])[0].text, "4");

    let mut first_half = half_policy();
    train(&mut first_half, 0..5);
    let dir = tempfile::tempdir().unwrap();
    first_half.save(dir.path()).unwrap();
    first_half.save_trainer_state(dir.path()).unwrap();
    let settings = OptimizerSettings::default();
    let mut resumed = EmbeddedPolicy::from_folder(dir.path(), settings).unwrap();
    resumed.compute_with(compute);
    assert!(resumed.load_trainer_state(dir.path()).unwrap());
    train(&mut resumed, 5..200);
    assert_eq!(resumed.version(), straight.version());

    let mut single = policy();
    train(&mut single, 0..200);
    assert_ne!(single.version(), straight.version());
}

fn update_on(policy: &mut EmbeddedPolicy, examples: &[Example]) -> Result<Vec<u64>, Fault> {
    let update = Update {
        examples,
        batches: &[(0..examples.len()).collect()],
        schedule: schedule(1e-2),
        first_step: 0,
        fresh_optimizer: true,
    };
    let mut tokens = Vec::new();
    policy.update(&update, &mut |step| {
        tokens.push(step.tokens);
        Ok(())
    })?;
    Ok(tokens)
}

#[test]
fn probabilities_of_responses_are_those_that_it_samples_with() {
    let mut policy = policy();
    train(&mut policy, 0..60);
    let decoding = Decoding { temperature: 0.8, ..Decoding::greedy(4) };
    let prompts = ["3+1=", "8+1="].map(|prompt| PromptRequest {
        prompt,
        begun: "",
        key: RngKey::from_seed(3).child(prompt),
    });
    let request = SampleRequest { prompts: prompts.to_vec(), samples: 400, decoding };
    let drawn = policy.sample(&request, &mut |_| Ok(())).unwrap();
    let temperatures = [0.8, 1.0, 1.5];
    for (group, prompt) in drawn.iter().zip(["3+1=", "8+1="]) {
        let scored: Vec<ScoreRequest<'_>> = group
            .iter()
            .map(|completion| ScoreRequest {
                prompt,
                response: &completion.text,
                ended: completion.finish_reason == FinishReason::Stop,
            })
            .collect();
        let told = policy.log_probabilities(&scored, &temperatures, &mut |_| Ok(())).unwrap();
        let mut frequent = (0, 0.0);
        for (completion, told) in group.iter().zip(&told) {
            assert!((told[1] - completion.logprob).abs() < 1e-3, "{completion:?}: {told:?}");
            let same = group.iter().filter(|other| {
                (&other.text, other.finish_reason) == (&completion.text, completion.finish_reason)
            });
            frequent = std::cmp::max_by(frequent, (same.count(), told[0]), |a, b| a.0.cmp(&b.0));
        }
        // The most frequent response is as frequent as it is likely at the temperature of the draw.
        let (share, chance) = (frequent.0 as f64 / 400.0, frequent.1.exp());
        let error = (chance * (1.0 - chance) / 400.0).sqrt();
        assert!((share - chance).abs() < 5.0 * error + 1e-3, "{share} {chance}");
    }
}

#[test]
fn an_example_longer_than_the_context_is_named_and_cut() {
    let mut policy = policy();
    let example = |count| Example { prompt: "1+1=".into(), response: "2".repeat(count).into() };
    policy.check_example(&example(20)).unwrap();
    let fault = policy.check_example(&example(21)).unwrap_err();
    assert_eq!(fault.class, FaultClass::Data);
    assert_eq!(
        fault.message,
        "the prompt \"1+1=\" (4 tokens) and its response (21 tokens) do not fit into the \
         context of 24 tokens"
    );
    // Twenty and the end, twenty-one without an end, and twenty-one of thirty.
    for (count, learned) in [(20, 21), (21, 21), (30, 21)] {
        assert_eq!(update_on(&mut policy, &[example(count)]).unwrap(), [learned], "{count}");
    }
}

/// A policy whose tokens are bytes, many of which are no text by themselves.
fn byte_policy() -> EmbeddedPolicy {
    let size = ModelSize::from_width(32).unwrap();
    let tokenizer = Tokenizer::train_bpe(["1+1=2"], 262).unwrap();
    EmbeddedPolicy::from_scratch(
        size,
        tokenizer,
        24,
        RngKey::from_seed(1),
        OptimizerSettings::default(),
    )
}

#[test]
fn what_fills_the_context_when_sampled_can_be_trained_on() {
    for mut policy in [policy(), byte_policy()] {
        let key = RngKey::from_seed(5);
        let mut longest = 0;
        for max_tokens in [19, 20, 21, 24, 100] {
            let prompts = vec![PromptRequest { prompt: "1+1=", begun: "", key }];
            let decoding = Decoding { temperature: 1.0, ..Decoding::greedy(max_tokens) };
            let request = SampleRequest { prompts, samples: 40, decoding };
            let drawn = policy.sample(&request, &mut |_| Ok(())).unwrap();
            let examples: Vec<_> = drawn[0]
                .iter()
                .map(|completion| Example {
                    prompt: "1+1=".into(),
                    response: completion.text.as_str().into(),
                })
                .collect();
            longest = longest.max(drawn[0].iter().map(|c| c.token_count).max().unwrap());
            update_on(&mut policy, &examples).unwrap();
        }
        assert_eq!(longest, 20);
    }
}

#[test]
fn weights_that_are_not_finite_are_neither_kept_going_nor_saved() {
    let mut policy = policy();
    let batches = [vec![0], vec![1]];
    let update = Update {
        examples: &examples(),
        batches: &batches,
        schedule: CosineSchedule { peak: 1e39, floor: 1e39, warmup_steps: 0.0, horizon_steps: 9.0 },
        first_step: 0,
        fresh_optimizer: false,
    };
    let mut told = 0;
    let fault = policy
        .update(&update, &mut |_| {
            told += 1;
            Ok(())
        })
        .unwrap_err();
    assert_eq!((fault.class, told), (FaultClass::Training, 0));
    let message = "the step made `model.embed_tokens.weight` not finite (at step 0)";
    assert_eq!(fault.message, message);
    assert!(fault.hint.unwrap().contains("`train.learning_rate`"));
    let dir = tempfile::tempdir().unwrap();
    let fault = policy.save(dir.path()).unwrap_err();
    assert_eq!(fault.class, FaultClass::Training);
    assert!(fault.message.contains("`lm_head.weight`"), "{fault}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_prompt_that_fills_the_context_is_named() {
    let mut policy = policy();
    let prompt = "1+".repeat(30);
    let key = RngKey::from_seed(5);
    let prompts = vec![PromptRequest { prompt: &prompt, begun: "", key }];
    let request = SampleRequest { prompts, samples: 1, decoding: Decoding::greedy(8) };
    let fault = policy.sample(&request, &mut |_| Ok(())).unwrap_err();
    assert_eq!(fault.class, FaultClass::Data);
    assert!(fault.message.contains("1+1+…\" (60 tokens)"), "{fault}");
    assert_eq!(policy.check_prompt(&prompt).unwrap_err().message, fault.message);
    policy.check_prompt(&"1".repeat(23)).unwrap();
    assert!(policy.check_prompt(&"1".repeat(24)).is_err());
}

#[test]
fn a_loss_that_is_not_finite_stops_before_the_step() {
    let mut policy = policy();
    let batches = [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]];
    let update = Update {
        examples: &examples(),
        batches: &batches,
        // The first step throws the weights out of the range of f32.
        schedule: CosineSchedule { peak: 1e30, floor: 1e30, warmup_steps: 0.0, horizon_steps: 9.0 },
        first_step: 0,
        fresh_optimizer: false,
    };
    let mut told = Vec::new();
    let fault = policy
        .update(&update, &mut |step| {
            told.push(step);
            Ok(())
        })
        .unwrap_err();
    assert_eq!(fault.class, FaultClass::Training);
    assert_eq!(told.len(), 1, "{fault}");
    assert_eq!(policy.optimizer_steps(), 1);
    assert!(fault.message.ends_with("(at step 1)"), "{fault}");
}

#[test]
fn an_interrupt_keeps_the_steps_that_were_announced() {
    let (mut interrupted, mut short) = (policy(), policy());
    train(&mut short, 0..2);
    let batches: Vec<Vec<usize>> = vec![(0..10).collect(); 9];
    let update = Update {
        examples: &examples(),
        batches: &batches,
        schedule: schedule(1e-2),
        first_step: 0,
        fresh_optimizer: false,
    };
    let mut steps = 0;
    let fault = interrupted.update(&update, &mut |_| {
        steps += 1;
        if steps < 2 { Ok(()) } else { Err(Fault::new(FaultClass::Interrupted, "go on")) }
    });
    assert_eq!(fault.unwrap_err().class, FaultClass::Interrupted);
    assert_eq!(interrupted.version(), short.version());
}

#[test]
fn a_tokenizer_larger_than_the_embedding_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    policy().save(dir.path()).unwrap();
    Tokenizer::characters(["abcdefghijklmnopqrstuvwxyz"]).save(dir.path()).unwrap();
    let settings = OptimizerSettings::default();
    let fault = EmbeddedPolicy::from_folder(dir.path(), settings).err().unwrap();
    assert_eq!(fault.class, FaultClass::Data);
    assert!(fault.message.contains("29 tokens") && fault.message.contains("16 rows"));
}

#[test]
fn a_response_ends_before_a_stop_string() {
    let mut policy = policy();
    let key = RngKey::from_seed(5);
    let mut draw = |stop: &[&str]| {
        let prompts = vec![PromptRequest { prompt: "1+1=", begun: "", key }];
        let stop = stop.iter().map(|&text| text.to_owned()).collect();
        let decoding = Decoding { temperature: 1.0, stop, ..Decoding::greedy(20) };
        let request = SampleRequest { prompts, samples: 60, decoding };
        policy.sample(&request, &mut |_| Ok(())).unwrap().remove(0)
    };
    let (free, stopped) = (draw(&[]), draw(&["+", "=3", "10 "]));
    let mut cuts = 0;
    for (free, stopped) in free.iter().zip(&stopped) {
        let ends =
            ["+", "=3", "10 "].iter().filter_map(|stop| Some((free.text.find(stop)?, *stop)));
        let Some((end, stop)) = ends.min() else {
            assert_eq!(free, stopped);
            continue;
        };
        cuts += 1;
        assert_eq!(stopped.text, free.text[..end], "{stop:?} in {:?}", free.text);
        assert_eq!(stopped.finish_reason, FinishReason::Stop);
        // A token is a character, or a special one without text; the stop string was drawn too.
        let tokens = end + stop.len()..=free.token_count as usize;
        assert!(tokens.contains(&(stopped.token_count as usize)), "{stopped:?} of {free:?}");
    }
    assert!(cuts > 20, "{cuts}");
}

fn adapter_policy(base: &Path, rank: usize) -> Result<EmbeddedPolicy, Fault> {
    let lora = LoraSettings { rank, ..LoraSettings::default() };
    EmbeddedPolicy::with_adapter(base, OptimizerSettings::default(), lora, RngKey::from_seed(3))
}

#[test]
fn a_policy_with_an_adapter_saves_only_the_adapter_and_goes_on_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (base, saved) = (dir.path().join("base"), dir.path().join("saved"));
    policy().save(&base).unwrap();
    let mut straight = adapter_policy(&base, 4).unwrap();
    assert_eq!(straight.version(), policy().version());
    train(&mut straight, 0..10);
    assert_ne!(straight.version(), policy().version());

    let mut first_half = adapter_policy(&base, 4).unwrap();
    train(&mut first_half, 0..5);
    first_half.save(&saved).unwrap();
    first_half.save_trainer_state(&saved).unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(&saved).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let expected = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "trainer_state.json",
    ];
    assert_eq!(names, expected);

    let mut resumed = adapter_policy(&base, 4).unwrap();
    resumed.load(&saved).unwrap();
    assert_eq!(resumed.version(), first_half.version());
    assert!(resumed.load_trainer_state(&saved).unwrap());
    train(&mut resumed, 5..10);
    assert_eq!(resumed.version(), straight.version());
    // For sampling alone, an adapter's folder is as good as a model's.
    let mut loaded = EmbeddedPolicy::from_folder(&saved, OptimizerSettings::default()).unwrap();
    assert_eq!(loaded.version(), first_half.version());
    assert_eq!(greedy(&mut loaded, &["3+1="]), greedy(&mut first_half, &["3+1="]));
}

#[test]
fn adapters_of_another_shape_or_base_do_not_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (base, saved) = (dir.path().join("base"), dir.path().join("saved"));
    policy().save(&base).unwrap();
    let mut first = adapter_policy(&base, 4).unwrap();
    train(&mut first, 0..2);
    first.save(&saved).unwrap();
    first.save_trainer_state(&saved).unwrap();
    let fault = adapter_policy(&base, 2).unwrap().load(&saved).unwrap_err();
    assert_eq!(fault.class, FaultClass::Run);
    let fault = adapter_policy(&saved, 2).err().unwrap();
    assert_eq!(fault.class, FaultClass::Usage);
    // Another model in the place of the base.
    let mut other = policy();
    train(&mut other, 0..3);
    other.save(&base).unwrap();
    let mut moved = adapter_policy(&base, 4).unwrap();
    moved.load(&saved).unwrap();
    let fault = moved.load_trainer_state(&saved).unwrap_err();
    assert!(fault.message.contains("another base model"), "{fault}");
    std::fs::remove_file(base.join("config.json")).unwrap();
    let fault = EmbeddedPolicy::from_folder(&saved, OptimizerSettings::default()).err().unwrap();
    assert!(fault.message.contains("is not a model folder"), "{fault}");
}

#[test]
fn a_response_is_taught_to_end_as_the_tokenizer_says_where_sampling_ends_at_several_tokens() {
    let dir = tempfile::tempdir().unwrap();
    policy().save(dir.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let (config, generation) = (read("config.json"), read("generation_config.json"));
    // `<eos>`, which the tokenizer names, is 1.
    for (named, taught) in [("[4, 1, 3]", 1), ("[1, 3, 4]", 1), ("[4, 3]", 4)] {
        for (name, text) in [("config.json", &config), ("generation_config.json", &generation)] {
            let one = "\"eos_token_id\": 1";
            assert!(text.contains(one), "{text}");
            let several = text.replace(one, &format!("\"eos_token_id\": {named}"));
            std::fs::write(dir.path().join(name), several).unwrap();
        }
        let load = |dir| EmbeddedPolicy::from_folder(dir, OptimizerSettings::default()).unwrap();
        let again = tempfile::tempdir().unwrap();
        load(dir.path()).save(again.path()).unwrap();
        for policy in [load(dir.path()), load(again.path())] {
            let example = policy.tokenize(&examples()[0]).unwrap();
            assert_eq!(example.tokens().last(), Some(&taught), "{named}");
            assert_eq!(policy.tokenizer().eos_tokens()[0], named[1..2].parse::<u32>().unwrap());
        }
    }
}
