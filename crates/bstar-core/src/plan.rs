//! What a run will draw and train, counted from its settings before anything runs.
//!
//! [`ImproveSettings::planned_work`] lists the work of [`crate::improve::improve`] piece by piece, by
//! the same rules; [`Work::tokens`] multiplies by the lengths of texts. Some numbers are known
//! within bounds only, and are a [`Span`]: the steps until supervised fine-tuning reaches its
//! accuracy goal, what a race costs, how many beginnings of responses are told apart when steps
//! are labelled, and where training ends whose steps are a knob. Time, bytes and money are the
//! business of the caller.

use crate::improve::ImproveSettings;
use crate::reward::RewardKind;
use crate::reward_training::{RewardTrainingSettings, held_out_count};
use crate::search::Search;
use crate::step_labels::StepLabels;
use serde::{Deserialize, Serialize};
use std::iter::Sum;
use std::ops::{Add, Mul};

/// A number of which perhaps only bounds are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// It is not less.
    pub least: f64,
    /// What to reckon with.
    pub expected: f64,
    /// It is not more.
    pub most: f64,
}

impl Span {
    /// A number that is known.
    pub fn exact(number: usize) -> Self {
        Self::same(number as f64)
    }

    /// The same number three times.
    pub fn same(number: f64) -> Self {
        Self { least: number, expected: number, most: number }
    }

    /// Whether nothing is open.
    pub fn is_exact(&self) -> bool {
        self.least == self.most
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            least: self.least + other.least,
            expected: self.expected + other.expected,
            most: self.most + other.most,
        }
    }
}

impl Mul<f64> for Span {
    type Output = Self;

    /// Times a number that is not negative.
    fn mul(self, by: f64) -> Self {
        Self { least: self.least * by, expected: self.expected * by, most: self.most * by }
    }
}

impl Sum for Span {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::default(), Add::add)
    }
}

/// What tokens are drawn or trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Supervised fine-tuning towards P_0.
    Supervised,
    /// Greedy validation while that lasts.
    Validation,
    /// Responses whose steps are labelled for a reward model.
    Labels,
    /// Completions that label them.
    Completions,
    /// Training of the reward model.
    RewardModel,
    /// Responses that only measure candidates: with a race, those of all but its winner.
    Probe,
    /// Responses to train on, those of a race's winner included.
    Draw,
    /// Training on the selection.
    Train,
    /// Greedy validation between the stretches of that training, where steps are a knob.
    Stretches,
    /// Responses to test queries.
    Evaluation,
}

impl Purpose {
    /// Every purpose, in the order in which a run comes to them.
    pub const ALL: [Self; 10] = [
        Self::Supervised,
        Self::Validation,
        Self::Labels,
        Self::Completions,
        Self::RewardModel,
        Self::Probe,
        Self::Draw,
        Self::Train,
        Self::Stretches,
        Self::Evaluation,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supervised => "supervised fine-tuning",
            Self::Validation => "validation",
            Self::Labels => "reward model: responses",
            Self::Completions => "reward model: completions",
            Self::RewardModel => "reward model: training",
            Self::Probe => "probe",
            Self::Draw => "draw",
            Self::Train => "fine-tuning",
            Self::Stretches => "validation of stretches",
            Self::Evaluation => "evaluation",
        }
    }
}

/// How much of a run is meant, where several runs start from the same iteration 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    Whole,
    /// P_0, its reward model and its evaluation; P_0 is made, or taken from elsewhere.
    Start {
        /// Whether it is made.
        is_made: bool,
    },
    /// What comes after.
    Iterations,
}

impl Part {
    /// Whether what an iteration does for a purpose is in it.
    pub fn holds(self, iteration: u32, purpose: Purpose) -> bool {
        let is_supervised = matches!(purpose, Purpose::Supervised | Purpose::Validation);
        match self {
            Self::Whole => true,
            Self::Start { is_made } => iteration == 0 && (is_made || !is_supervised),
            Self::Iterations => iteration > 0,
        }
    }
}

/// Sizes of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSize {
    /// Examples of supervised fine-tuning.
    pub supervised: usize,
    /// Training queries.
    pub train: usize,
    /// Validation queries.
    pub validation: usize,
    /// Test queries.
    pub test: usize,
}

/// What the settings do not say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Sizes of the task.
    pub size: TaskSize,
    /// Whether a reward model was given, rather than trained by the run.
    pub given_reward_model: bool,
    /// Mean steps of a response, the answer among them.
    pub steps_per_response: f64,
    /// Optimizer steps after which supervised fine-tuning reaches its accuracy goal, where somebody
    /// knows; bounds beyond what the settings allow are cut.
    pub supervised_steps: Option<Span>,
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// The iteration; 0 is what comes before the first.
    pub iteration: u32,
    /// What for.
    pub purpose: Purpose,
    /// Prompts that are read: one for all responses to a query that are drawn together.
    pub prompts: Span,
    /// Responses that are drawn, and graded.
    pub responses: Span,
    /// Responses that a reward model scores.
    pub scored: Span,
    /// Responses whose probability the policy tells at every candidate's temperature.
    pub weighed: Span,
    /// Rollouts that are stored.
    pub stored: Span,
    /// Optimizer steps.
    pub steps: Span,
    /// Examples of a step.
    pub batch_size: usize,
    /// Tokens of an example that the loss is taken over, where these are not its whole response.
    pub labelled: Option<f64>,
}

/// Mean tokens of a prompt and of a response to it, its end-of-sequence token included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Of the prompt.
    pub prompt: f64,
    /// Of the response.
    pub response: f64,
}

/// Mean lengths of the texts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextLengths {
    /// Examples of supervised fine-tuning.
    pub supervised: Lengths,
    /// Validation queries.
    pub validation: Lengths,
    /// Training queries.
    pub train: Lengths,
    /// Test queries.
    pub test: Lengths,
    /// What completes a response from the end of a step; its prompt holds the beginning.
    pub completion: Lengths,
}

/// Tokens of a piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// Read as prompts, once for all responses to a query that are drawn together.
    pub prompt: Span,
    /// Generated.
    pub generated: Span,
    /// Read by a reward model to score responses.
    pub scored: Span,
    /// Read by the policy to tell how likely responses are.
    #[serde(default)]
    pub weighed: Span,
    /// Run through training: prompts and responses, as often as they are trained on.
    pub trained: Span,
    /// Those of them that the loss is taken over: responses, or the labelled tokens of their steps.
    pub learned: Span,
}

impl Add for Tokens {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            prompt: self.prompt + other.prompt,
            generated: self.generated + other.generated,
            scored: self.scored + other.scored,
            weighed: self.weighed + other.weighed,
            trained: self.trained + other.trained,
            learned: self.learned + other.learned,
        }
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(tokens: I) -> Self {
        tokens.fold(Self::default(), Add::add)
    }
}

impl Work {
    fn new(iteration: u32, purpose: Purpose) -> Self {
        let none = Span::default();
        Self {
            iteration,
            purpose,
            prompts: none,
            responses: none,
            scored: none,
            weighed: none,
            stored: none,
            steps: none,
            batch_size: 0,
            labelled: None,
        }
    }

    /// Tokens, given the mean lengths of texts.
    pub fn tokens(&self, lengths: &TextLengths) -> Tokens {
        let Lengths { prompt, response } = match self.purpose {
            Purpose::Supervised => lengths.supervised,
            Purpose::Validation | Purpose::Stretches => lengths.validation,
            Purpose::Completions => lengths.completion,
            Purpose::Evaluation => lengths.test,
            Purpose::Labels
            | Purpose::RewardModel
            | Purpose::Probe
            | Purpose::Draw
            | Purpose::Train => lengths.train,
        };
        let examples = self.steps * self.batch_size as f64;
        Tokens {
            prompt: self.prompts * prompt,
            generated: self.responses * response,
            scored: self.scored * (prompt + response),
            weighed: self.weighed * (prompt + response),
            trained: examples * (prompt + response),
            learned: examples * self.labelled.unwrap_or(response),
        }
    }
}

/// Share of the beginnings of responses that are expected to differ from those of other responses to
/// their query; measured on the built-in task, `docs/log.md`.
pub const DISTINCT_BEGINNINGS: f64 = 0.9;

impl ImproveSettings {
    /// The work of a run, in order.
    pub fn planned_work(&self, known: &Known) -> Vec<Work> {
        let mut work = self.initial_policy(known);
        work.extend(self.reward_model_work(0, known));
        work.extend(self.evaluation_work(0, known));
        for iteration in 1..=self.planned_iterations() {
            work.extend(self.reward_model_work(iteration, known));
            work.extend(self.sampling_work(iteration, known));
            let steps = self.update_steps(known);
            let batch_size = self.batch_size;
            work.push(Work { steps, batch_size, ..Work::new(iteration, Purpose::Train) });
            work.extend(self.stretches_work(iteration, known));
            work.extend(self.evaluation_work(iteration, known));
        }
        work
    }

    /// Supervised fine-tuning, and the validations on its way.
    fn initial_policy(&self, known: &Known) -> Vec<Work> {
        let settings = &self.supervised;
        if settings.steps == 0 || known.size.supervised == 0 {
            return Vec::new();
        }
        let queries = settings.validations(known.size.validation);
        let stretch = if queries > 0 { settings.validate_every } else { settings.steps };
        let all = settings.steps as f64;
        let open = Span { least: 0.0, expected: (settings.steps / 2) as f64, most: all };
        let known = match settings.stop_at_accuracy.filter(|_| queries > 0) {
            None => Span::same(all),
            Some(_) => known.supervised_steps.unwrap_or(open),
        };
        // It stops at validations only.
        let stretches = |steps: f64| (steps / stretch as f64).ceil().max(1.0);
        let whole = |steps: f64| (stretches(steps) * stretch as f64).min(all);
        let span = |of: &dyn Fn(f64) -> f64| Span {
            least: of(whole(known.least)),
            expected: of(whole(known.expected)),
            most: of(whole(known.most)),
        };
        let steps = span(&|steps| steps);
        let training =
            Work { steps, batch_size: settings.batch_size, ..Work::new(0, Purpose::Supervised) };
        if queries == 0 {
            return vec![training];
        }
        let answered = span(&|steps| stretches(steps) * queries as f64);
        let validation =
            Work { prompts: answered, responses: answered, ..Work::new(0, Purpose::Validation) };
        vec![training, validation]
    }

    fn scores(&self, known: &Known) -> bool {
        let has_part = self.ranking.reward.kind == RewardKind::AnswerAndRewardModel;
        has_part && (known.given_reward_model || self.reward_training.is_some())
    }

    fn reward_model_work(&self, iteration: u32, known: &Known) -> Vec<Work> {
        let due = |settings: &&RewardTrainingSettings| settings.is_due(iteration);
        let Some(settings) = self.reward_training.as_ref().filter(due) else { return Vec::new() };
        let (queries, labels) = (settings.query_count(known.size.train), &settings.labels);
        let drawn = queries * labels.responses;
        let held_out = held_out_count(queries, settings.held_out) * labels.responses;
        let labelled = Work {
            prompts: Span::exact(queries),
            responses: Span::exact(drawn),
            ..Work::new(iteration, Purpose::Labels)
        };
        let mut work = vec![labelled];
        if labels.labels != StepLabels::Outcome {
            let beginnings = drawn as f64 * (known.steps_per_response - 1.0).max(0.0);
            let expected = DISTINCT_BEGINNINGS * beginnings;
            let prompts = Span { least: 0.0, expected, most: beginnings };
            let responses = prompts * labels.completions as f64;
            let completions = Work::new(iteration, Purpose::Completions);
            work.push(Work { prompts, responses, ..completions });
        }
        work.push(Work {
            steps: Span::exact(settings.steps),
            batch_size: settings.batch_size,
            labelled: (!settings.every_token).then_some(known.steps_per_response),
            scored: Span::exact(held_out),
            ..Work::new(iteration, Purpose::RewardModel)
        });
        work
    }

    /// Probe and draw.
    fn sampling_work(&self, iteration: u32, known: &Known) -> Vec<Work> {
        let (all, k) = (known.size.train, self.samples_per_query);
        let drawn = self.training_count(all);
        let probed = self.probe_queries.min(all);
        let candidates = self.controller.candidates().len();
        let with_model = self.scores(known);
        let piece = |purpose, groups: Span, kept: Span| {
            let responses = groups * k as f64;
            let stored = kept * k as f64;
            let work = Work { prompts: groups, responses, stored, ..Work::new(iteration, purpose) };
            if with_model { Work { scored: responses, ..work } } else { work }
        };
        let mut work = Vec::new();
        if candidates > 0 {
            let (groups, stored) = match self.search {
                Search::Exhaustive => {
                    let groups = Span::exact(candidates * probed);
                    (groups, groups)
                }
                Search::Racing | Search::Reweighting => {
                    let cost = self.search_cost(drawn, candidates);
                    // What the winner answered is stored with the probe and with the draw.
                    (cost, cost + Span::exact(self.probe_queries.min(drawn)))
                }
            };
            let weighed = self.weighed_groups(stored, drawn, candidates) * k as f64;
            work.push(Work { weighed, ..piece(Purpose::Probe, groups, stored) });
        }
        // Where k is a knob, the draw may be smaller.
        let share = |samples: Option<&u32>| samples.map_or(1.0, |of| f64::from(*of) / k as f64);
        let samples = &self.controller.knobs.samples;
        let most = drawn as f64 * share(samples.last());
        let groups = Span { least: drawn as f64 * share(samples.first()), expected: most, most };
        work.push(piece(Purpose::Draw, groups, groups));
        work
    }

    /// Groups of responses that a search draws beside those of its winner: at least its first round,
    /// and of a race hardly ever less than the budget.
    fn search_cost(&self, drawn: usize, candidates: usize) -> Span {
        if candidates < 2 {
            return Span::exact(0);
        }
        if self.search == Search::Reweighting {
            return crate::reweight::cost(self.limits(drawn), candidates);
        }
        let rule = self.race_rule(drawn);
        let least = (candidates - 1) * rule.first_round(candidates);
        let most = rule.limits.budget;
        Span { least: least as f64, expected: most as f64, most: most as f64 }
    }

    /// Groups of responses whose probabilities are asked for, of those that a probe stores: all where
    /// they are kept for later, else those of the anchors of re-weighting.
    fn weighed_groups(&self, stored: Span, drawn: usize, candidates: usize) -> Span {
        if !self.weighs() {
            return Span::default();
        }
        if self.candidate_logprobs {
            return stored;
        }
        Span::exact(crate::reweight::weighed(self.limits(drawn), candidates))
    }

    /// Optimizer steps of an iteration. Without a limit on passes they are those that are set; with
    /// one, the selection is expected to have the wanted size.
    fn update_steps(&self, known: &Known) -> Span {
        let most_selected = self.training_count(known.size.train) * self.samples_per_query;
        let wanted = usize::try_from(self.target_samples).unwrap_or(usize::MAX);
        let expected = self.steps_on(wanted.min(most_selected)) as f64;
        let most = self.steps_on(most_selected) as f64;
        let first =
            self.controller.knobs.steps.first().map_or(f64::INFINITY, |steps| *steps as f64);
        let least = if self.most_passes == 0 { expected.min(first) } else { 0.0 };
        Span { least, expected, most: most.max(expected) }
    }

    /// Validation before the first stretch of training and after each but the last of all. At least
    /// one stretch is made and validated; all are expected.
    fn stretches_work(&self, iteration: u32, known: &Known) -> Option<Work> {
        let queries = self.controller.knobs.steps_queries.min(known.size.validation);
        let most_selected = self.training_count(known.size.train) * self.samples_per_query;
        let wanted = usize::try_from(self.target_samples).unwrap_or(usize::MAX);
        let validations =
            |examples: usize| Some(self.ends(examples).len()).filter(|ends| *ends > 1);
        let most = validations(most_selected)?;
        let expected = validations(wanted.min(most_selected)).unwrap_or(0);
        let least = if self.most_passes == 0 { expected.min(2) } else { 0 };
        let [least, expected, most] = [least, expected, most].map(|of| (of * queries) as f64);
        let answered = Span { least, expected, most: most.max(expected) };
        let work = Work::new(iteration, Purpose::Stretches);
        Some(Work { prompts: answered, responses: answered, ..work })
    }

    /// Greedy responses, and samples where there are any.
    fn evaluation_work(&self, iteration: u32, known: &Known) -> Vec<Work> {
        let (asked, asked_again) = self.evaluation.counts(known.size.test);
        let samples = asked_again * self.evaluation.samples;
        let piece = |prompts: usize, responses: usize, scored: usize| Work {
            prompts: Span::exact(prompts),
            responses: Span::exact(responses),
            scored: Span::exact(scored),
            stored: Span::exact(responses),
            ..Work::new(iteration, Purpose::Evaluation)
        };
        let scored = if self.scores(known) { samples } else { 0 };
        let mut work = vec![piece(asked, asked, 0)];
        if samples > 0 {
            work.push(piece(asked_again, samples, scored));
        }
        work
    }
}
