//! From a [`Config`] to the settings of the loop: checks first, then one translation.

use super::{Config, ResetPoint};
use bstar_core::balance::EmptyQueries;
use bstar_core::controller::{Configuration, Controller};
use bstar_core::evaluate::EvaluationSettings;
use bstar_core::improve::ImproveSettings;
use bstar_core::knobs::KnobGrid;
use bstar_core::method::{Continuity, StartPoint};
use bstar_core::ports::{Checkpoint, Decoding};
use bstar_core::ranking::{CorrectCount, Deduplication, GoldSolutions, RankingRule};
use bstar_core::reward::RewardKind;
use bstar_core::reward_training::RewardTrainingSettings;
use bstar_core::schedule::CosineSchedule;
use bstar_core::search::Search;
use bstar_core::step_labels::LabelSettings;
use bstar_core::supervised::SupervisedSettings;
use bstar_core::{Fault, FaultClass, RngKey};
use std::collections::BTreeSet;

impl Config {
    /// Refuses values that cannot be, and settings that contradict each other.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.check_ranges()?;
        self.check_agreement()
    }

    /// Refuses values that cannot be, for a config that is only applied to stored rollouts.
    pub(crate) fn check_stored(&self) -> Result<(), Fault> {
        self.check_ranges()?;
        self.check_weights()?;
        self.check_counts()
    }

    /// Nothing can be verified without a reward model.
    fn check_counts(&self) -> Result<(), Fault> {
        let verifies = self.balance.counts == CorrectCount::Verified;
        require(!verifies || self.reward.kind == RewardKind::AnswerAndRewardModel, || {
            "`balance.counts = \"verified\"` needs `reward.kind = \"answer-and-reward-model\"`"
                .into()
        })
    }

    /// Moments are of the weights that they were taken with.
    fn check_moments(&self) -> Result<(), Fault> {
        let resets = self.method.spec().start == StartPoint::Reset;
        require(!resets || self.train.optimizer_state != Continuity::Carried, || {
            format!(
                "`train.optimizer_state = \"carried\"` does not go with `method = \"{}\"`, whose \
                 iterations start from weights that those moments are not of",
                self.method.name()
            )
        })
    }

    fn check_agreement(&self) -> Result<(), Fault> {
        self.check_counts()?;
        self.check_moments()?;
        let self_trains = self.method.spec().self_training;
        require(!self_trains || self.iterations > 0, || {
            format!("`iterations` is 0, but `method = \"{}\"` needs some", self.method.name())
        })?;
        let most_k = self.evaluate.k.iter().copied().max().unwrap_or(0);
        require(self.evaluate.sampled_queries == 0 || most_k <= self.evaluate.samples, || {
            format!(
                "`evaluate.k` asks for Pass@{most_k}, but `evaluate.samples` draws only {}: give both, \
                 as in evaluate = {{ samples = 8, k = [1, 8] }}, or --set evaluate.samples=8 --set evaluate.k=1,8",
                self.evaluate.samples
            )
        })?;
        require(!self.evaluate.k.contains(&0) && !self.evaluate.s.contains(&0), || {
            "`evaluate.k` and `evaluate.s` must not hold 0".into()
        })?;
        let scratch = self.model.is_from_scratch();
        super::check_named("model", &self.model.folder, &self.model.name)?;
        super::check_named("reward_model", &self.reward_model.folder, &self.reward_model.name)?;
        require(!scratch || self.sample.max_tokens < self.model.context_length, || {
            format!(
                "`sample.max_tokens` ({}) leaves no room for a prompt in `model.context_length` ({})",
                self.sample.max_tokens, self.model.context_length
            )
        })?;
        require(!scratch || self.supervised.steps > 0, || {
            "`supervised.steps` is 0, and neither `model.folder` nor `model.name` is set: a model \
             from scratch knows nothing to teach itself with"
                .into()
        })?;
        let adapts = self.lora.rank > 0;
        require(!adapts || !scratch, || {
            "`lora.rank` is above 0, and neither `model.folder` nor `model.name` is set: an adapter \
             needs a model to be trained on"
                .into()
        })?;
        require(!adapts || !self.lora.targets.is_empty(), || {
            "`lora.rank` is above 0 and `lora.targets` is empty: nothing would be trained".into()
        })?;
        let stops = self.supervised.stop_at_accuracy > 0.0;
        let validates =
            self.supervised.validate_every > 0 && self.supervised.validation_queries > 0;
        require(!stops || validates, || {
            "`supervised.stop_at_accuracy` needs `supervised.validate_every` and \
             `supervised.validation_queries` above 0"
                .into()
        })?;
        for (section, peak, floor) in [
            ("train", self.train.learning_rate, self.train.learning_rate_floor),
            ("supervised", self.supervised.learning_rate, self.supervised.learning_rate_floor),
            (
                "reward_model",
                self.reward_model.learning_rate,
                self.reward_model.learning_rate_floor,
            ),
        ] {
            require((0.0..=peak).contains(&floor), || {
                format!(
                    "`{section}.learning_rate_floor` ({floor}) lies above `{section}.learning_rate` ({peak}) or below 0"
                )
            })?;
        }
        self.check_weights()?;
        require(!self.sample.stop.iter().any(String::is_empty), || {
            "`sample.stop` must not hold an empty string".into()
        })
    }

    /// Probabilities are known of plain sampling only, and estimates of distinct responses only.
    fn check_weights(&self) -> Result<(), Fault> {
        let sample = &self.sample;
        let plain = [
            ("sample.top_p", sample.top_p == 1.0),
            ("sample.top_k", sample.top_k == 0),
            ("sample.min_p", sample.min_p == 0.0),
            ("sample.repetition_penalty", sample.repetition_penalty == 1.0),
            ("sample.stop", sample.stop.is_empty()),
            ("sample.stop_tokens", sample.stop_tokens.is_empty()),
            ("knobs.top_p", self.knobs.top_p.is_empty()),
        ];
        let unique = [
            (
                "selection.deduplication",
                self.selection.deduplication == Deduplication::BeforeRanking,
            ),
            ("balance.empty_queries", self.balance.empty_queries == EmptyQueries::Zero),
        ];
        let odd = |rules: &[(&'static str, bool)]| {
            rules.iter().find(|(_, holds)| !holds).map(|(key, _)| *key)
        };
        let self_trains = self.method.spec().self_training;
        let reweights = self_trains && self.balance.search == Search::Reweighting;
        let keeps = self_trains && self.balance.candidate_logprobs;
        let by = if reweights {
            "balance.search = \"reweighting\""
        } else {
            "balance.candidate_logprobs"
        };
        let truncated = odd(&plain).filter(|_| reweights || keeps);
        require(truncated.is_none(), || {
            let key = truncated.unwrap_or_default();
            format!(
                "`{by}` needs the probabilities of responses, which are known of plain sampling \
                 only; `{key}` says otherwise"
            )
        })?;
        let repeated = odd(&unique).filter(|_| reweights);
        require(repeated.is_none(), || {
            let key = repeated.unwrap_or_default();
            format!(
                "`{by}` estimates how many distinct responses of each query are selected; `{key}` \
                 counts otherwise"
            )
        })
    }

    /// The settings of the loop, for a task with this many training queries.
    pub(crate) fn improve_settings(&self, training_queries: usize) -> ImproveSettings {
        let decoding = self.decoding(self.balance.fixed_temperature);
        let wanted = (self.train.steps * self.train.batch_size) as u64;
        ImproveSettings {
            method: self.method,
            seed: self.seed,
            iterations: self.iterations,
            supervised: self.supervised_settings(),
            queries_per_iteration: match self.sample.queries {
                0 => training_queries,
                queries => queries.min(training_queries),
            },
            query_order: self.sample.query_order,
            samples_per_query: self.sample.k,
            target_samples: if self.sample.target_samples == 0 {
                wanted
            } else {
                self.sample.target_samples
            },
            target_count: (self.balance.target_count > 0).then_some(self.balance.target_count),
            cap_to_pool: self.selection.cap_to_pool,
            empty_queries: self.balance.empty_queries,
            probe_queries: self.balance.probe_queries,
            redraw_probe: self.balance.redraw_probe,
            search: self.balance.search,
            search_budget: self.balance.search_budget,
            candidate_logprobs: self.balance.candidate_logprobs,
            decoding,
            reward_training: self.reward_training(),
            ranking: self.ranking(),
            gold_solutions: self.selection.gold_solutions,
            controller: self.controller(),
            steps_per_iteration: self.train.steps,
            batch_size: self.train.batch_size,
            most_passes: self.train.most_passes,
            learning_rate: self.train.learning_rate,
            learning_rate_floor: self.train.learning_rate_floor,
            warmup_steps: self.train.warmup_steps,
            optimizer_state: self.train.optimizer_state,
            schedule: self.train.schedule,
            reset_to: match self.train.reset_to {
                ResetPoint::Initial => Checkpoint::Iteration(0),
                ResetPoint::Base => Checkpoint::Base,
            },
            evaluation: self.evaluation_settings(),
            most_ungradable: self.run.most_ungradable,
            most_empty_iterations: self.run.most_empty_iterations,
        }
    }

    /// The evaluation of this config.
    pub(crate) fn evaluation_settings(&self) -> EvaluationSettings {
        EvaluationSettings {
            queries: self.evaluate.queries,
            sampled_queries: self.evaluate.sampled_queries,
            samples: self.evaluate.samples,
            decoding: Decoding {
                top_p: self.evaluate.top_p,
                top_k: self.evaluate.top_k,
                min_p: self.evaluate.min_p,
                repetition_penalty: self.evaluate.repetition_penalty,
                ..self.decoding(self.evaluate.temperature)
            },
            k: self.evaluate.k.clone(),
            s: self.evaluate.s.clone(),
            reward: self.reward,
            key: RngKey::from_seed(self.seed).child("evaluation"),
        }
    }

    /// How training queries are answered at a temperature.
    fn decoding(&self, temperature: f64) -> Decoding {
        let sample = &self.sample;
        Decoding {
            temperature,
            top_p: sample.top_p,
            top_k: sample.top_k,
            min_p: sample.min_p,
            repetition_penalty: sample.repetition_penalty,
            stop: sample.stop.clone(),
            stop_tokens: sample.stop_tokens.clone(),
            max_tokens: sample.max_tokens,
        }
    }

    fn supervised_settings(&self) -> SupervisedSettings {
        let supervised = &self.supervised;
        let stop = supervised.stop_at_accuracy;
        SupervisedSettings {
            steps: supervised.steps,
            batch_size: supervised.batch_size,
            schedule: CosineSchedule {
                peak: supervised.learning_rate,
                floor: supervised.learning_rate_floor,
                warmup_steps: supervised.warmup_steps,
                horizon_steps: supervised.steps as f64,
            },
            stop_at_accuracy: (stop > 0.0).then_some(stop),
            validate_every: supervised.validate_every,
            validation_queries: supervised.validation_queries,
            decoding: Decoding {
                repetition_penalty: self.evaluate.repetition_penalty,
                ..self.decoding(0.0)
            },
        }
    }

    /// How the run trains a reward model, if it does.
    fn reward_training(&self) -> Option<RewardTrainingSettings> {
        let model = &self.reward_model;
        let trains = self.reward.kind == RewardKind::AnswerAndRewardModel
            && self.method.spec().self_training
            && !model.is_given();
        trains.then(|| RewardTrainingSettings {
            labels: LabelSettings {
                labels: model.labels,
                responses: model.responses,
                completions: model.completions,
                decoding: self.decoding(model.temperature),
                most_ungradable: self.run.most_ungradable,
            },
            queries: model.queries,
            held_out: model.held_out,
            head: model.head,
            start: model.start,
            refresh_every: model.refresh_every,
            steps: model.steps,
            batch_size: model.batch_size,
            schedule: CosineSchedule {
                peak: model.learning_rate,
                floor: model.learning_rate_floor,
                warmup_steps: model.warmup_steps,
                horizon_steps: model.steps as f64,
            },
            every_token: model.every_token,
        })
    }

    fn ranking(&self) -> RankingRule {
        RankingRule {
            reward: self.reward,
            calibration: None,
            verified_above: (self.balance.counts == CorrectCount::Verified)
                .then_some(self.balance.verified_above),
            deduplication: self.selection.deduplication,
            gold_competes: self.selection.gold_solutions == GoldSolutions::Compete,
            drop_unanswered: self.selection.drop_unanswered,
            slack: self.selection.slack,
        }
    }

    fn controller(&self) -> Controller {
        Controller {
            adaptation: self.method.spec().adaptation,
            fixed: Configuration::new(self.balance.fixed_temperature, self.balance.fixed_threshold),
            temperatures: self.balance.temperatures.values().to_vec(),
            thresholds: self.balance.thresholds.values().to_vec(),
            ties: self.balance.ties,
            threshold_from: self.balance.threshold_from,
            hysteresis: self.balance.hysteresis,
            knobs: self.knob_grid(),
        }
    }

    /// The further knobs of methods that turn them.
    fn knob_grid(&self) -> KnobGrid {
        let knobs = &self.knobs;
        if !self.method.spec().adaptation.turns_knobs() {
            return KnobGrid::default();
        }
        let mut top_p = knobs.top_p.clone();
        top_p.sort_by(f64::total_cmp);
        top_p.dedup();
        KnobGrid {
            top_p,
            samples: ascending(&knobs.k),
            samples_tolerance: knobs.k_tolerance,
            caps: ascending(&knobs.cap),
            steps: ascending(&knobs.steps),
            steps_queries: knobs.steps_queries,
            steps_margin: knobs.steps_margin,
        }
    }
}

fn ascending<T: Ord + Clone>(values: &[T]) -> Vec<T> {
    values.iter().cloned().collect::<BTreeSet<T>>().into_iter().collect()
}

pub(super) fn require(holds: bool, message: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds {
        return Ok(());
    }
    Err(Fault::new(FaultClass::Usage, message())
        .hint("change it in the config file or with --set; `bstar config show` prints all values"))
}
