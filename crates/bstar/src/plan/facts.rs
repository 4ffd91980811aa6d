//! Everything that a plan is made of beside the settings, and where each number comes from: measured
//! here, counted in the data, given in `[plan]`, recorded by earlier runs, or assumed.

use super::calibration::Bench;
use super::earlier::{Contents, Earlier, Recorded};
use super::memory::{Drawn, longer_caches};
use super::rates::Rates;
use super::texts;
use crate::commands::preflight;
use crate::commands::run::{base_policy, load_task, open_device};
use crate::config::layers::Loaded;
use crate::config::{Config, PlanConfig, ShapeConfig};
use crate::models;
use crate::output::Notes;
use crate::reward_folder;
use bstar_core::plan::{Known, Lengths, Span, TaskSize, TextLengths};
use bstar_core::ports::Task as _;
use bstar_core::reward::RewardKind;
use bstar_core::step_labels::StepLabels;
use bstar_core::{Fault, FaultClass};
use bstar_model::config::ModelConfig;
use bstar_model::footprint::{ModelNumbers, NumberBytes};
use bstar_model::policy::EmbeddedPolicy;
use bstar_tasks::LoadedTask;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// Timed or sized on this machine.
    Measured,
    /// Counted in the data or the model at hand.
    Counted,
    /// By `[plan]`.
    Given,
    /// In the logs of earlier runs.
    Recorded,
    /// By us, for want of better.
    Assumed,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Counted => "counted",
            Self::Given => "given",
            Self::Recorded => "recorded",
            Self::Assumed => "assumed",
        }
    }
}

/// A number with its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fact {
    /// What it is.
    pub(crate) what: String,
    /// The number.
    pub(crate) value: f64,
    /// Where it comes from.
    pub(crate) source: Source,
    /// How, in a few words.
    pub(crate) how: String,
}

/// What a plan is made of.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// For the counts.
    pub(crate) known: Known,
    /// For the tokens.
    pub(crate) lengths: TextLengths,
    /// For the time.
    pub(crate) rates: Rates,
    /// The model.
    pub(crate) numbers: ModelNumbers,
    /// Bytes of its numbers.
    pub(crate) bytes: NumberBytes,
    /// Bytes of what is stored beside them.
    pub(crate) stored: Stored,
    /// Bytes of memory without the responses of a draw.
    pub(crate) memory: f64,
    /// All of it, for people.
    pub(crate) told: Vec<Fact>,
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    /// Of the tokenizer in a checkpoint.
    pub(crate) tokenizer: f64,
    /// Of a response.
    pub(crate) rollout: f64,
    /// Of a response with its scores.
    pub(crate) scored_rollout: f64,
    /// Of a rollout file beside its responses.
    pub(crate) file: f64,
}

/// Bytes of a stored response beside its text, and of each of its tokens, where none can be
/// sized.
const BYTES_OF_RESPONSE: f64 = 16.0;
const BYTES_OF_TOKEN: f64 = 1.0;
/// Bytes of each stored score, of which a response has one for each step and one in all, where none can
/// be sized: on the built-in task 8 of them (`docs/log.md`).
const BYTES_OF_SCORE: f64 = 8.0;
/// What a rollout file has beside its responses, where none can be sized.
const BYTES_OF_FILE: f64 = 6000.0;

/// Finds out everything.
pub(crate) fn gather(loaded: &Loaded, earlier: &Earlier, notes: Notes) -> Result<Facts, Fault> {
    let config = &loaded.config;
    let plan = &config.plan;
    let is_here = !plan.is_elsewhere();
    let task = if plan.train_queries > 0 { None } else { Some(load_task(loaded)?) };
    let contents = Contents::of(loaded, task.as_ref().map(LoadedTask::fingerprint));
    let (told, missing) = (Vec::new(), Vec::new());
    let mut gatherer = Gatherer { config, earlier, contents, told, missing };
    match (task, is_here) {
        (Some(task), true) => {
            preflight::check_splits(config, &task)?;
            let model = models::of_config(loaded, notes)?;
            reward_folder::of_config(loaded)?;
            let mut policy = base_policy(loaded, model.as_ref(), &task, notes)?;
            policy.limit_cache(config.run.cache_bytes());
            let device = open_device(config)?;
            let draws_here = device.is_none();
            policy.use_device(device);
            let task = preflight::readable(config, &policy, task, notes);
            preflight::check_splits(config, &task)?;
            gatherer.contents = Contents::of(loaded, Some(task.fingerprint()));
            gatherer.measured((policy, draws_here), &task, notes)
        }
        (None, true) => Err(Fault::new(
            FaultClass::Usage,
            "`plan.train_queries` is set, so the data are not read and the model is not measured",
        )
        .hint("give `plan.parameters` or `plan.shape` too, or remove `plan.train_queries`")),
        (task, false) => {
            let size = gatherer.size(task.as_ref());
            gatherer.given(size)
        }
    }
}

/// What a config leaves open, filled in.
pub(crate) fn known_of(
    config: &Config,
    (earlier, contents): (&Earlier, &Contents),
    size: TaskSize,
    steps_per_response: f64,
) -> Known {
    let given = Some(config.plan.supervised_steps).filter(|steps| *steps > 0).map(Span::exact);
    let recorded = || earlier.supervised_steps(config, contents).map(Recorded::steps);
    let stops = config.supervised.stop_at_accuracy > 0.0;
    Known {
        size,
        given_reward_model: config.reward_model.is_given(),
        steps_per_response,
        supervised_steps: given.or_else(|| if stops { recorded() } else { None }),
    }
}

pub(super) struct Gatherer<'a> {
    pub(super) config: &'a Config,
    earlier: &'a Earlier,
    contents: Contents,
    told: Vec<Fact>,
    /// Keys that should have been given.
    missing: Vec<&'static str>,
}

impl Gatherer<'_> {
    pub(super) fn plan(&self) -> &PlanConfig {
        &self.config.plan
    }

    pub(super) fn tell(&mut self, what: &str, value: f64, source: Source, how: impl Into<String>) {
        self.told.push(Fact { what: what.into(), value, source, how: how.into() });
    }

    /// What is given, if anything; else `found`.
    pub(super) fn value(
        &mut self,
        what: &str,
        given: f64,
        found: f64,
        source: Source,
        how: impl Into<String>,
    ) -> f64 {
        if given > 0.0 {
            self.tell(what, given, Source::Given, "`[plan]`");
            return given;
        }
        self.tell(what, found, source, how);
        found
    }

    /// What has to be given.
    pub(super) fn needed(&mut self, what: &str, given: f64, key: &'static str) -> f64 {
        if given > 0.0 {
            self.tell(what, given, Source::Given, "`[plan]`");
        } else {
            self.missing.push(key);
        }
        given
    }

    fn size(&mut self, task: Option<&LoadedTask>) -> TaskSize {
        let plan = self.plan();
        let (size, source, how) = if let Some(task) = task {
            let size = TaskSize {
                supervised: task.supervised().len(),
                train: task.train().len(),
                validation: task.validation().len(),
                test: task.test().len(),
            };
            (size, Source::Counted, "the data")
        } else {
            let size = TaskSize {
                supervised: plan.solutions,
                train: plan.train_queries,
                validation: plan.validation_queries,
                test: plan.test_queries,
            };
            (size, Source::Given, "`[plan]`")
        };
        for (what, count) in [
            ("training queries", size.train),
            ("validation queries", size.validation),
            ("test queries", size.test),
            ("examples of supervised fine-tuning", size.supervised),
        ] {
            self.tell(what, count as f64, source, how);
        }
        size
    }

    fn tell_supervised_steps(&mut self) {
        let supervised = &self.config.supervised;
        let given = self.plan().supervised_steps;
        let stops = supervised.stop_at_accuracy > 0.0 && supervised.steps > 0;
        if !stops {
            return;
        }
        let what = "steps of supervised fine-tuning";
        let recorded = self.earlier.supervised_steps(self.config, &self.contents);
        let (found, source, how) = if let Some(recorded) = recorded {
            (recorded.steps().expected, Source::Recorded, recorded.how())
        } else {
            let how = "half of `supervised.steps`, for want of an earlier run; \
                       `--set plan.supervised_steps=N` tells better";
            ((supervised.steps / 2) as f64, Source::Assumed, how.to_owned())
        };
        self.value(what, given as f64, found, source, how);
    }

    /// Whether responses are scored by a reward model.
    pub(super) fn scores(&self) -> bool {
        let self_trains = self.config.method.spec().self_training;
        let given = self.config.reward_model.is_given();
        self.config.reward.kind == RewardKind::AnswerAndRewardModel && (self_trains || given)
    }

    /// Whether completions label the steps of responses.
    fn completes(&self) -> bool {
        let config = self.config;
        self.scores()
            && !config.reward_model.is_given()
            && config.reward_model.labels != StepLabels::Outcome
    }

    /// Bytes of a stored response with its scores, told where there are any; what is given is given for
    /// both.
    fn scored_bytes(&mut self, plain: f64, found: f64, source: Source) -> f64 {
        if !self.scores() || self.plan().rollout_bytes > 0.0 {
            return plain;
        }
        self.tell("bytes of one with its scores", found, source, "one a step, and one in all");
        found
    }

    /// What a reward model takes beside the policy; one that the run trains has a gradient and moments.
    fn memory_of_reward_model(&mut self, numbers: &ModelNumbers) -> f64 {
        if !self.scores() {
            return 0.0;
        }
        let NumberBytes { weight, moment } = self.bytes();
        let is_given = self.config.reward_model.is_given();
        let each = if is_given { weight } else { 2.0 * (weight + moment) };
        let bytes = numbers.reward_model * each;
        self.tell("bytes of memory of the reward model", bytes, Source::Counted, "its parameters");
        bytes
    }

    /// What the keys and values of the longest responses take, where only shorter ones were drawn.
    fn memory_of_long_responses(
        &mut self,
        model: &ModelConfig,
        prompt: f64,
        (tokens, responses): ([usize; 2], f64),
    ) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean length"
        )]
        let prompt = prompt.ceil() as usize;
        let drawn = Drawn { prompt, samples: self.config.sample.k, responses };
        let bytes = longer_caches(model, drawn, tokens, self.config.run.cache_bytes());
        if bytes > 0.0 {
            let how = "keys and values up to `sample.max_tokens`";
            self.tell("bytes of memory of long responses", bytes, Source::Counted, how);
        }
        bytes
    }

    fn known(&mut self, size: TaskSize, steps_per_response: f64) -> Known {
        self.tell_supervised_steps();
        self.filled_in(size, steps_per_response)
    }

    fn filled_in(&self, size: TaskSize, steps_per_response: f64) -> Known {
        known_of(self.config, (self.earlier, &self.contents), size, steps_per_response)
    }

    fn bytes(&self) -> NumberBytes {
        NumberBytes { weight: self.plan().weight_bytes, moment: self.plan().moment_bytes }
    }

    /// With model and data on this machine, whose processor perhaps does the drawing.
    fn measured(
        mut self,
        (mut policy, draws_here): (EmbeddedPolicy, bool),
        task: &LoadedTask,
        notes: Notes,
    ) -> Result<Facts, Fault> {
        let config = self.config;
        let size = self.size(Some(task));
        let settings = config.improve_settings(size.train);
        let learns = config.supervised.steps > 0 && size.supervised > 0;
        let (can_sample, time) = (!config.model.is_from_scratch(), config.plan.calibration_seconds);
        let sampled = (!learns && can_sample).then_some(16);
        let found = texts::look_at(task, &mut policy, &settings.decoding, sampled)?;
        let source = if sampled.is_some() { Source::Measured } else { Source::Counted };
        let lengths = self.lengths(found.lengths, source, found.how);
        let steps = self.steps_per_response(found.steps_per_response);
        let head = config.reward_model.head;
        let numbers = ModelNumbers::new(&policy.weights().config, &config.lora, head);
        let mut bench = Bench {
            settings: &settings,
            task,
            policy: &mut policy,
            specimens: &found.specimens,
            response_tokens: lengths.train.response,
            scores: self.scores(),
            weighs: settings.weighs(),
            micro_batch_size: config.compute.micro_batch_size,
            checkpoints: config.compute.checkpoint_activations,
            time: Duration::from_secs_f64(time),
            notes,
        };
        let measured = bench.measure()?;
        let rates = self.rates(measured.rates);
        let given = self.plan().rollout_bytes;
        let how = "specimens, every third a repeat";
        let what = "bytes of a stored response";
        let rollout_bytes = self.value(what, given, measured.rollout_bytes, Source::Measured, how);
        let scored_rollout =
            self.scored_bytes(rollout_bytes, measured.scored_bytes, Source::Measured);
        self.tell("parameters", numbers.parameters, Source::Counted, "the model");
        let tokenizer = if config.lora.rank == 0 { policy.tokenizer().file_bytes() } else { 0.0 };
        let (memory, source) = match measured.memory {
            Some(bytes) => (bytes, Source::Measured),
            None => (numbers.training_memory(self.bytes()), Source::Assumed),
        };
        let how = if measured.made_full_step {
            "training and sampling"
        } else {
            "training and sampling; a full step from small ones"
        };
        self.tell("bytes of memory before a draw", memory, source, how);
        let memory = memory + self.memory_of_reward_model(&numbers);
        let memory = if draws_here {
            let model = &policy.weights().config;
            let tokens = [measured.drawn_tokens, config.sample.max_tokens];
            let work = settings.planned_work(&self.filled_in(size, steps));
            let most = work.iter().map(|work| work.responses.most).fold(0.0, f64::max);
            memory + self.memory_of_long_responses(model, lengths.train.prompt, (tokens, most))
        } else {
            memory
        };
        let bytes = self.bytes();
        let known = self.known(size, steps);
        let told = self.told;
        let (rollout, file) = (rollout_bytes, measured.file_bytes);
        let stored = Stored { tokenizer, rollout, scored_rollout, file };
        Ok(Facts { known, lengths, rates, numbers, bytes, stored, memory, told })
    }

    fn lengths(&mut self, found: TextLengths, source: Source, how: &str) -> TextLengths {
        let plan = self.plan();
        let (prompt, response, solution) =
            (plan.prompt_tokens, plan.response_tokens, plan.solution_tokens);
        let counted = Source::Counted;
        let prompt = self.value("tokens of a prompt", prompt, found.train.prompt, counted, "data");
        let what = "tokens of a response";
        let response = self.value(what, response, found.train.response, source, how);
        let what = "tokens of an example's response";
        let solution = self.value(what, solution, found.supervised.response, counted, "data");
        // Given lengths are about all queries; those that were counted keep their differences.
        let by = |given: f64, found: f64| if found > 0.0 { given / found } else { 1.0 };
        let prompts = by(prompt, found.train.prompt);
        let responses = by(response, found.train.response);
        let scaled = |of: Lengths| Lengths {
            prompt: of.prompt * prompts,
            response: of.response * responses,
        };
        TextLengths {
            supervised: Lengths { response: solution, ..found.supervised },
            validation: scaled(found.validation),
            train: scaled(found.train),
            test: scaled(found.test),
            completion: scaled(found.completion),
        }
    }

    fn steps_per_response(&mut self, found: f64) -> f64 {
        if !self.completes() {
            return found;
        }
        let given = self.plan().steps_per_response;
        self.value("steps of a response", given, found, Source::Counted, "the same responses")
    }

    /// With a model, and perhaps data, that are elsewhere.
    fn given(mut self, size: TaskSize) -> Result<Facts, Fault> {
        let (config, plan) = (self.config, self.plan().clone());
        let prompt = self.needed("tokens of a prompt", plan.prompt_tokens, "plan.prompt_tokens");
        let response =
            self.needed("tokens of a response", plan.response_tokens, "plan.response_tokens");
        let learns = config.supervised.steps > 0;
        if learns && size.supervised == 0 {
            self.missing.push("plan.solutions");
        }
        let solution = if learns {
            let how = "as long as a response";
            let what = "tokens of an example's response";
            self.value(what, plan.solution_tokens, response, Source::Assumed, how)
        } else {
            response
        };
        let steps = if self.completes() {
            self.needed("steps of a response", plan.steps_per_response, "plan.steps_per_response")
        } else {
            1.0
        };
        let rates = self.given_rates();
        let how = "16, and 1 for each token";
        let found = BYTES_OF_RESPONSE + BYTES_OF_TOKEN * response;
        let what = "bytes of a stored response";
        let rollout_bytes = self.value(what, plan.rollout_bytes, found, Source::Assumed, how);
        let with_scores = rollout_bytes + BYTES_OF_SCORE * (1.0 + steps);
        let scored_rollout = self.scored_bytes(rollout_bytes, with_scores, Source::Assumed);
        let numbers = match &plan.shape {
            None => ModelNumbers::of_count(plan.parameters),
            Some(shape) => {
                ModelNumbers::new(&model_config(shape)?, &config.lora, config.reward_model.head)
            }
        };
        if config.lora.rank > 0 && plan.shape.is_none() {
            self.missing.push("plan.shape");
        }
        let parameters =
            self.value("parameters", plan.parameters, numbers.parameters, Source::Given, "shape");
        let numbers = ModelNumbers { parameters, ..numbers };
        let memory = numbers.training_memory(self.bytes());
        let how = "weights, gradient and moments; activations and caches come on top";
        self.tell("bytes of memory before a draw", memory, Source::Assumed, how);
        let memory = memory + self.memory_of_reward_model(&numbers);
        self.refuse_missing()?;
        let typical = Lengths { prompt, response };
        // Beginnings end anywhere: half of the response is left.
        let completion = Lengths { prompt: prompt + response / 2.0, response: response / 2.0 };
        let supervised = Lengths { response: solution, ..typical };
        let (validation, train, test) = (typical, typical, typical);
        let lengths = TextLengths { supervised, validation, train, test, completion };
        let (bytes, known) = (self.bytes(), self.known(size, steps));
        let (told, tokenizer) = (self.told, 0.0);
        let (rollout, file) = (rollout_bytes, BYTES_OF_FILE);
        let stored = Stored { tokenizer, rollout, scored_rollout, file };
        Ok(Facts { known, lengths, rates, numbers, bytes, stored, memory, told })
    }

    fn refuse_missing(&self) -> Result<(), Fault> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let keys = self.missing.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let message = format!("to plan for a model that is not measured, set {keys}");
        Err(Fault::new(FaultClass::Usage, message).hint(
            "or remove `plan.parameters` and `plan.shape`: then the model of the config is measured \
             on this machine",
        ))
    }
}

fn model_config(shape: &ShapeConfig) -> Result<ModelConfig, Fault> {
    let mut fields = serde_json::to_value(shape).expect("a shape is JSON");
    fields["model_type"] = "llama".into();
    let text = serde_json::to_vec(&fields).expect("a shape is JSON");
    let config = ModelConfig::from_json(&text);
    config.map_err(|error| {
        Fault::new(FaultClass::Usage, format!("`plan.shape`: {error}"))
            .hint("its keys are those of the model's config.json")
    })
}
