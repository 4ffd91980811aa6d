//! What each number of a config may be: one table, read by the check and by the reference.

use super::resolve::require;
use super::{Config, PlanConfig};
use bstar_core::Fault;

/// The most that a count may be, far from any overflow.
const MANY: u64 = 1_000_000_000;
/// The most examples that two counts may ask for together; times any number of queries that fits
/// into memory this still fits into 64 bits.
const MOST_EXAMPLES: u64 = 1_000_000_000_000;
/// Positions and vocabulary entries are held in tables, so they are limited sooner.
const MOST_IN_A_TABLE: u64 = 1_000_000;
/// Far above any rank in use; what adapter folders may have.
const MOST_RANK: u64 = 1 << 16;
/// Far more than any machine has cores.
const MOST_THREADS: u64 = 1024;

/// What a number may be. None of these allows a number that is not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Range {
    /// Any finite number.
    Finite,
    /// Above 0.
    Positive,
    /// 0 or more.
    NotNegative,
    /// From 0 to 1, both included.
    Share,
    /// From 0 to 1 without 0.
    PositiveShare,
    /// From 0 to 1 without 1: the decay of a running mean.
    Decay,
    /// A whole number between these, both included.
    Count(u64, u64),
}

use Range::{Count, Decay, Finite, NotNegative, Positive, PositiveShare, Share};

impl Range {
    fn holds(self, value: f64) -> bool {
        let fits = match self {
            Finite => true,
            Positive => value > 0.0,
            NotNegative => value >= 0.0,
            Share => (0.0..=1.0).contains(&value),
            PositiveShare => value > 0.0 && value <= 1.0,
            Decay => (0.0..1.0).contains(&value),
            Count(least, most) => value >= least as f64 && value <= most as f64,
        };
        fits && value.is_finite()
    }

    /// In words, to stand after "number" or "must be"; empty where there is nothing to say.
    pub(crate) fn words(self) -> String {
        match self {
            Finite | Count(0, MANY | MOST_EXAMPLES) => String::new(),
            Positive | Count(1, MANY) => "above 0".into(),
            NotNegative => "of 0 or more".into(),
            Share => "between 0 and 1".into(),
            PositiveShare => "above 0 and at most 1".into(),
            Decay => "of 0 or more and below 1".into(),
            Count(0, most) => format!("of at most {most}"),
            Count(1, most) => format!("above 0 and at most {most}"),
            Count(least, most) => format!("from {least} to {most}"),
        }
    }

    fn check(self, key: &str, value: f64) -> Result<(), Fault> {
        require(self.holds(value), || {
            let wanted = match self {
                _ if !value.is_finite() => "finite".into(),
                Count(_, most) if value > most as f64 => format!("of at most {most}"),
                range => range.words(),
            };
            format!("`{key}` is {value}, but must be a number {wanted}")
        })
    }
}

impl PlanConfig {
    #[rustfmt::skip]
    fn numbers(&self) -> Vec<(&'static str, f64, Range)> {
        let (plan, any) = (self, Count(0, MANY));
        vec![
            ("plan.supervised_steps", plan.supervised_steps as f64, any),
            ("plan.train_queries", plan.train_queries as f64, any),
            ("plan.validation_queries", plan.validation_queries as f64, any),
            ("plan.test_queries", plan.test_queries as f64, any),
            ("plan.solutions", plan.solutions as f64, any),
            ("plan.prompt_tokens", plan.prompt_tokens, NotNegative),
            ("plan.response_tokens", plan.response_tokens, NotNegative),
            ("plan.solution_tokens", plan.solution_tokens, NotNegative),
            ("plan.steps_per_response", plan.steps_per_response, NotNegative),
            ("plan.sampling_tokens_per_second", plan.sampling_tokens_per_second, NotNegative),
            ("plan.training_tokens_per_second", plan.training_tokens_per_second, NotNegative),
            ("plan.scoring_tokens_per_second", plan.scoring_tokens_per_second, NotNegative),
            ("plan.weighing_tokens_per_second", plan.weighing_tokens_per_second, NotNegative),
            ("plan.gradings_per_second", plan.gradings_per_second, NotNegative),
            ("plan.parameters", plan.parameters, NotNegative),
            ("plan.weight_bytes", plan.weight_bytes, Positive),
            ("plan.moment_bytes", plan.moment_bytes, NotNegative),
            ("plan.rollout_bytes", plan.rollout_bytes, NotNegative),
            ("plan.accelerators", plan.accelerators, Positive),
            ("plan.price_per_hour", plan.price_per_hour, NotNegative),
            ("plan.calibration_seconds", plan.calibration_seconds, Positive),
        ]
    }
}

impl Config {
    /// Refuses numbers that cannot be. The values of grids are finite because a grid holds only
    /// decimal numbers, and never empty.
    pub(super) fn check_ranges(&self) -> Result<(), Fault> {
        for (key, value, range) in self.numbers() {
            range.check(key, value)?;
        }
        for &temperature in self.balance.temperatures.values() {
            Positive.check("balance.temperatures", temperature)?;
        }
        let knobs = &self.knobs;
        for &top_p in &knobs.top_p {
            PositiveShare.check("knobs.top_p", top_p)?;
        }
        for &samples in &knobs.k {
            Count(1, self.sample.k as u64).check("knobs.k", f64::from(samples))?;
        }
        for &steps in &knobs.steps {
            Count(1, self.train.steps as u64).check("knobs.steps", steps as f64)?;
        }
        self.check_products()
    }

    /// Every number with what it may be.
    pub(crate) fn numbers(&self) -> Vec<(&'static str, f64, Range)> {
        let of_loop = self.numbers_of_iterations();
        self.numbers_around_it().into_iter().chain(of_loop).chain(self.plan.numbers()).collect()
    }

    /// Those of the model, its supervised start and its evaluation.
    #[rustfmt::skip]
    fn numbers_around_it(&self) -> Vec<(&'static str, f64, Range)> {
        let Self { model, lora, compute, optimizer, supervised, evaluate, .. } = self;
        let any = Count(0, MANY);
        let some = Count(1, MANY);
        vec![
            ("model.context_length", model.context_length as f64, Count(1, MOST_IN_A_TABLE)),
            ("model.vocab_size", model.vocab_size as f64, Count(1, MOST_IN_A_TABLE)),
            ("lora.rank", lora.rank as f64, Count(0, MOST_RANK)),
            ("lora.alpha", lora.alpha, Positive),
            ("compute.micro_batch_size", compute.micro_batch_size as f64, any),
            ("optimizer.beta1", optimizer.beta1, Decay),
            ("optimizer.beta2", optimizer.beta2, Decay),
            ("optimizer.epsilon", optimizer.epsilon, Positive),
            ("optimizer.weight_decay", optimizer.weight_decay, NotNegative),
            ("optimizer.clip_norm", optimizer.clip_norm, NotNegative),
            ("supervised.steps", supervised.steps as f64, any),
            ("supervised.batch_size", supervised.batch_size as f64, some),
            ("supervised.learning_rate", supervised.learning_rate, Positive),
            ("supervised.learning_rate_floor", supervised.learning_rate_floor, NotNegative),
            ("supervised.warmup_steps", supervised.warmup_steps, NotNegative),
            ("supervised.stop_at_accuracy", supervised.stop_at_accuracy, Share),
            ("supervised.validate_every", supervised.validate_every as f64, any),
            ("supervised.validation_queries", supervised.validation_queries as f64, any),
            ("evaluate.queries", evaluate.queries as f64, any),
            ("evaluate.sampled_queries", evaluate.sampled_queries as f64, any),
            ("evaluate.samples", evaluate.samples as f64, any),
            ("evaluate.temperature", evaluate.temperature, Positive),
            ("evaluate.top_p", evaluate.top_p, PositiveShare),
            ("evaluate.top_k", evaluate.top_k as f64, any),
            ("evaluate.min_p", evaluate.min_p, Share),
            ("evaluate.repetition_penalty", evaluate.repetition_penalty, Positive),
        ]
    }

    /// Those of the iterations.
    #[rustfmt::skip]
    fn numbers_of_iterations(&self) -> Vec<(&'static str, f64, Range)> {
        let Self { sample, reward, reward_model, balance, knobs, train, run, .. } = self;
        let any = Count(0, MANY);
        let some = Count(1, MANY);
        vec![
            ("sample.queries", sample.queries as f64, any),
            ("sample.k", sample.k as f64, some),
            ("sample.target_samples", sample.target_samples as f64, Count(0, MOST_EXAMPLES)),
            ("sample.top_p", sample.top_p, PositiveShare),
            ("sample.top_k", sample.top_k as f64, any),
            ("sample.min_p", sample.min_p, Share),
            ("sample.repetition_penalty", sample.repetition_penalty, Positive),
            ("sample.max_tokens", sample.max_tokens as f64, some),
            ("reward.divisor", reward.divisor, Positive),
            ("reward.clip", reward.clip, NotNegative),
            ("reward_model.queries", reward_model.queries as f64, any),
            ("reward_model.responses", reward_model.responses as f64, some),
            ("reward_model.completions", reward_model.completions as f64, some),
            ("reward_model.temperature", reward_model.temperature, Positive),
            ("reward_model.held_out", reward_model.held_out, Decay),
            ("reward_model.refresh_every", f64::from(reward_model.refresh_every), any),
            ("reward_model.steps", reward_model.steps as f64, some),
            ("reward_model.batch_size", reward_model.batch_size as f64, some),
            ("reward_model.learning_rate", reward_model.learning_rate, Positive),
            ("reward_model.learning_rate_floor", reward_model.learning_rate_floor, NotNegative),
            ("reward_model.warmup_steps", reward_model.warmup_steps, NotNegative),
            ("balance.probe_queries", balance.probe_queries as f64, some),
            ("balance.search_budget", balance.search_budget, Share),
            ("balance.hysteresis", balance.hysteresis, NotNegative),
            ("balance.fixed_temperature", balance.fixed_temperature, Positive),
            ("balance.fixed_threshold", balance.fixed_threshold, Finite),
            ("balance.verified_above", balance.verified_above, Finite),
            ("knobs.k_tolerance", knobs.k_tolerance, Share),
            ("knobs.steps_queries", knobs.steps_queries as f64, some),
            ("knobs.steps_margin", knobs.steps_margin, Finite),
            ("train.steps", train.steps as f64, some),
            ("train.batch_size", train.batch_size as f64, some),
            ("train.most_passes", train.most_passes as f64, any),
            ("train.learning_rate", train.learning_rate, Positive),
            ("train.learning_rate_floor", train.learning_rate_floor, NotNegative),
            ("train.warmup_steps", train.warmup_steps, NotNegative),
            ("run.most_empty_iterations", f64::from(run.most_empty_iterations), some),
            ("run.most_ungradable", run.most_ungradable, Share),
            ("run.threads", run.threads as f64, Count(0, MOST_THREADS)),
            ("run.cache_gib", run.cache_gib, Positive),
        ]
    }

    fn check_products(&self) -> Result<(), Fault> {
        for (section, first, second, [one, other]) in [
            ("train", "steps", "batch_size", [self.train.steps, self.train.batch_size]),
            (
                "supervised",
                "steps",
                "batch_size",
                [self.supervised.steps, self.supervised.batch_size],
            ),
            ("sample", "queries", "k", [self.sample.queries, self.sample.k]),
            (
                "reward_model",
                "queries",
                "responses",
                [self.reward_model.queries, self.reward_model.responses],
            ),
            (
                "reward_model",
                "steps",
                "batch_size",
                [self.reward_model.steps, self.reward_model.batch_size],
            ),
            (
                "evaluate",
                "sampled_queries",
                "samples",
                [self.evaluate.sampled_queries, self.evaluate.samples],
            ),
        ] {
            let product = (one as u64).checked_mul(other as u64);
            require(product.is_some_and(|product| product <= MOST_EXAMPLES), || {
                format!(
                    "`{section}.{first}` ({one}) times `{section}.{second}` ({other}) is more than \
                     {MOST_EXAMPLES}"
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::layers::load;

    /// The message of the check for one changed key.
    fn refusal(setting: &str) -> String {
        let config = load(None, &[setting.to_owned()]).expect(setting).config;
        config.check().expect_err(setting).to_string()
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for (key, bad) in [
            ("balance.fixed_threshold", vec!["nan", "inf", "-inf"]),
            ("balance.verified_above", vec!["nan", "inf"]),
            ("balance.fixed_temperature", vec!["0.0", "-1.0", "nan", "inf"]),
            ("balance.temperatures", vec!["0", "[-0.5, 1]"]),
            ("balance.hysteresis", vec!["-1.0", "nan", "inf"]),
            ("balance.search_budget", vec!["-0.1", "1.1", "nan"]),
            ("balance.probe_queries", vec!["0"]),
            ("knobs.top_p", vec!["[0.0]", "[0.5, 1.1]", "[nan]"]),
            ("knobs.k", vec!["[0]", "[8, 65]"]),
            ("knobs.k_tolerance", vec!["-0.1", "1.1", "nan"]),
            ("knobs.steps", vec!["[0, 10]", "[81]"]),
            ("knobs.steps_queries", vec!["0"]),
            ("knobs.steps_margin", vec!["nan", "inf"]),
            ("optimizer.beta1", vec!["1.0", "-0.1", "nan"]),
            ("optimizer.beta2", vec!["1.0", "-0.1", "nan"]),
            ("optimizer.epsilon", vec!["0.0", "-1e-8", "inf"]),
            ("optimizer.weight_decay", vec!["-0.1", "inf"]),
            ("optimizer.clip_norm", vec!["-1.0", "nan", "inf"]),
            ("supervised.learning_rate", vec!["0.0", "nan", "inf"]),
            ("supervised.learning_rate_floor", vec!["-1.0", "nan", "inf"]),
            ("supervised.warmup_steps", vec!["-1.0", "nan", "inf"]),
            ("supervised.stop_at_accuracy", vec!["-0.1", "1.1", "nan"]),
            ("supervised.batch_size", vec!["0"]),
            ("train.learning_rate", vec!["0.0", "nan", "inf"]),
            ("train.learning_rate_floor", vec!["-1.0", "nan", "inf"]),
            ("train.warmup_steps", vec!["-1.0", "nan", "inf"]),
            ("train.steps", vec!["0", "1000000001"]),
            ("lora.rank", vec!["65537"]),
            ("lora.alpha", vec!["0.0", "nan", "inf"]),
            ("sample.top_p", vec!["0.0", "1.1", "nan"]),
            ("sample.k", vec!["0", "9223372036854775807"]),
            ("sample.max_tokens", vec!["0"]),
            ("sample.min_p", vec!["-0.1", "1.1", "nan"]),
            ("evaluate.repetition_penalty", vec!["0.0", "-1.0", "inf"]),
            ("sample.target_samples", vec!["9223372036854775807"]),
            ("evaluate.top_p", vec!["0.0", "1.1", "nan"]),
            ("evaluate.temperature", vec!["0.0", "nan", "inf"]),
            ("reward.divisor", vec!["0.0", "-5.0", "nan", "inf"]),
            ("reward.clip", vec!["-1.0", "nan", "inf"]),
            ("run.most_empty_iterations", vec!["0"]),
            ("run.most_ungradable", vec!["-0.1", "1.1", "nan"]),
            ("run.threads", vec!["100000"]),
            ("run.cache_gib", vec!["0", "-1", "inf"]),
        ] {
            for value in bad {
                let message = refusal(&format!("{key}={value}"));
                assert!(message.starts_with(&format!("`{key}` is ")), "{key}={value}: {message}");
                assert!(!message.ends_with("a number "), "{key}={value}: {message}");
            }
        }
    }

    #[test]
    fn bounds_that_are_allowed_are_allowed() {
        for setting in [
            "optimizer.beta1=0.0",
            "optimizer.weight_decay=0.0",
            "optimizer.clip_norm=0.0",
            "sample.top_p=1.0",
            "balance.fixed_threshold=-7.5",
            "train.warmup_steps=0.0",
            "train.learning_rate_floor=0.0",
            "reward.clip=0.0",
            "sample.target_samples=1000000000000",
        ] {
            let config = load(None, &[setting.to_owned()]).expect(setting).config;
            assert!(config.check().is_ok(), "{setting}");
        }
    }

    #[test]
    fn moments_are_not_carried_over_a_reset() {
        let settings =
            |state: &str| ["method=rest-em".to_owned(), format!("train.optimizer_state={state}")];
        let of = |state| load(None, &settings(state)).expect("known keys").config.check();
        let message = of("carried").expect_err("nothing to carry").to_string();
        assert!(message.starts_with("`train.optimizer_state"), "{message}");
        assert!(of("renewed").is_ok());
    }

    #[test]
    fn counts_that_multiply_to_too_much_are_refused_together() {
        for (one, other) in [
            ("train.steps", "train.batch_size"),
            ("supervised.steps", "supervised.batch_size"),
            ("sample.queries", "sample.k"),
            ("evaluate.sampled_queries", "evaluate.samples"),
        ] {
            let settings = [format!("{one}=1000000"), format!("{other}=1000001")];
            let message =
                load(None, &settings).expect(one).config.check().expect_err(one).to_string();
            assert!(message.contains(one) && message.contains(other), "{message}");
        }
    }
}
