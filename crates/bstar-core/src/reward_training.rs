//! The reward model of a run: given, or trained on labels that the policy makes, once before the loop
//! or again every few iterations (spec §5).

use crate::batches::batches;
use crate::event::{Activity, Event, Piece};
use crate::fault::{Fault, FaultClass};
use crate::improve::Improver;
use crate::iteration::drawn_queries;
use crate::monitor::Metric;
use crate::ports::{
    Checkpoint, LabelledResponse, Ledger, Policy, Progress, RewardHead, RewardModel as _,
    RewardUpdate, StepRequest,
};
use crate::reward_quality::reward_quality;
use crate::rng::RngKey;
use crate::schedule::CosineSchedule;
use crate::step_labels::{LabelSettings, Labelled, label_steps};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The weights that a reward model starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RewardStart {
    /// Those of the policy at that moment.
    Policy,
    /// Those of the model before supervised fine-tuning (the paper).
    Base,
}

/// How a reward model is made.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardTrainingSettings {
    /// How steps are labelled.
    pub labels: LabelSettings,
    /// Training queries whose responses are labelled; 0 means all.
    pub queries: usize,
    /// Share of these queries that is held out to measure the quality.
    pub held_out: f64,
    /// What makes its scores.
    pub head: RewardHead,
    /// Where it starts.
    pub start: RewardStart,
    /// Train a new one after so many iterations; 0 trains one before the first and no other.
    pub refresh_every: u32,
    /// Optimizer steps.
    pub steps: usize,
    /// Responses per step.
    pub batch_size: usize,
    /// Learning rate over the steps.
    pub schedule: CosineSchedule,
    /// Each token of a step carries its label; else only the last one does.
    pub every_token: bool,
}

impl RewardTrainingSettings {
    /// Whether a reward model is trained before this iteration draws anything; 0 is before the
    /// first.
    pub fn is_due(&self, iteration: u32) -> bool {
        iteration == 0
            || (iteration > 1
                && self.refresh_every > 0
                && (iteration - 1).is_multiple_of(self.refresh_every))
    }

    /// Queries whose responses are labelled, of so many training queries.
    pub(crate) fn query_count(&self, all: usize) -> usize {
        match self.queries {
            0 => all,
            wanted => wanted.min(all),
        }
    }
}

impl<P: Policy, L: Ledger<P>> Improver<'_, P, L> {
    /// Refuses to go on with another reward model than the one that the run was given when it began:
    /// its scores would not compare. `events` are those of the run so far.
    pub(crate) fn check_given_reward_model(&self, events: &[Event]) -> Result<(), Fault> {
        let begun = events.iter().find_map(|event| match event {
            Event::RunStarted { reward_model, .. } => reward_model.as_deref(),
            _ => None,
        });
        let (Some(begun), Some(model)) = (begun, &self.reward_model) else { return Ok(()) };
        let given = model.version();
        if *begun == *given {
            return Ok(());
        }
        let message = format!(
            "the run began with another reward model: its weights are {begun}, those given now \
             {given}"
        );
        Err(Fault::new(FaultClass::Run, message).hint(
            "put the model in `reward_model.folder`, or behind `reward_model.name`, back as it \
                 was, or start over",
        ))
    }

    /// Trains the reward model of this iteration, if one is due.
    pub(crate) fn refresh_reward_model(
        &mut self,
        iteration: u32,
        key: RngKey,
    ) -> Result<(), Fault> {
        let Some(settings) = &self.settings.reward_training else { return Ok(()) };
        if !settings.is_due(iteration) || self.ledger.is_published(iteration, Piece::RewardModel) {
            return Ok(());
        }
        let key = key.child("reward model");
        let count = settings.query_count(self.task.train().len());
        let queries = drawn_queries(self.task, count, key.child("queries"));
        let ledger = &mut *self.ledger;
        let tick = &mut |activity, progress| ledger.tick(activity, progress);
        let (policy, task) = (&mut *self.policy, self.task);
        let (all, labels) = label_steps(&settings.labels, &queries, policy, task, key, tick)?;
        let first_learned = held_out_count(queries.len(), settings.held_out);
        let (test, learned): (Vec<Labelled>, Vec<Labelled>) =
            all.into_iter().partition(|one| one.place < first_learned);
        let examples: Vec<LabelledResponse> = learned.into_iter().map(|one| one.example).collect();
        check_labels(&examples)?;
        let mut model = self.fresh_reward_model(iteration, settings, key)?;
        self.train_reward_model(settings, iteration, &mut model, &examples, key)?;
        let metrics = self.reward_quality(&mut model, &test)?;
        let version = model.version();
        let trained = Event::RewardModelTrained { iteration, version, labels, metrics };
        self.ledger.record(trained)?;
        self.ledger.publish_reward_model(iteration, &mut model)?;
        self.reward_model = Some(model);
        Ok(())
    }

    /// A reward model that has learnt nothing yet. Afterwards the policy is what it was.
    fn fresh_reward_model(
        &mut self,
        iteration: u32,
        settings: &RewardTrainingSettings,
        key: RngKey,
    ) -> Result<P::RewardModel, Fault> {
        let key = key.child("head");
        let head = settings.head;
        match settings.start {
            RewardStart::Policy => self.policy.reward_model(head, key),
            RewardStart::Base => {
                self.ledger.restore(Checkpoint::Base, self.policy)?;
                let model = self.policy.reward_model(head, key)?;
                let last = Checkpoint::Iteration(iteration.saturating_sub(1));
                self.ledger.restore(last, self.policy)?;
                Ok(model)
            }
        }
    }

    fn train_reward_model(
        &mut self,
        settings: &RewardTrainingSettings,
        iteration: u32,
        model: &mut P::RewardModel,
        examples: &[LabelledResponse],
        key: RngKey,
    ) -> Result<(), Fault> {
        let RewardTrainingSettings { steps, batch_size, schedule, every_token, .. } = *settings;
        let order = batches(examples.len(), batch_size, steps, key.child("batches"));
        let update = RewardUpdate { examples, batches: &order, schedule, every_token };
        let ledger = &mut *self.ledger;
        model.update(&update, &mut |step| {
            ledger.record(Event::RewardModelStep { iteration, step })?;
            let progress = Progress { done: step.step + 1, total: steps as u64 };
            ledger.tick(Activity::TrainRewardModel, progress)
        })
    }

    fn reward_quality(
        &mut self,
        model: &mut P::RewardModel,
        test: &[Labelled],
    ) -> Result<Vec<Metric>, Fault> {
        let requests: Vec<StepRequest<'_>> = test
            .iter()
            .map(|one| StepRequest {
                prompt: &one.example.prompt,
                response: &one.example.response,
                steps: one.example.steps.clone(),
            })
            .collect();
        let ledger = &mut *self.ledger;
        let tick = &mut |progress| ledger.tick(Activity::MeasureRewardModel, progress);
        let scores = model.step_scores(&requests, tick)?;
        Ok(reward_quality(test, &scores, self.settings.ranking.reward.reduction))
    }
}

/// Queries held out of so many; at least one where a share is held out, and never all.
pub(crate) fn held_out_count(queries: usize, share: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count of queries"
    )]
    let count = (queries as f64 * share).ceil() as usize;
    count.min(queries.saturating_sub(1))
}

/// Labels that are all alike teach nothing.
fn check_labels(examples: &[LabelledResponse]) -> Result<(), Fault> {
    let mut labels = examples.iter().flat_map(|example| &example.labels);
    let first = labels.next();
    if first.is_some() && labels.any(|label| Some(label) != first) {
        return Ok(());
    }
    let all = match first {
        None => "no response that can be graded has a step".to_owned(),
        Some(label) => format!("all steps have the label {label}"),
    };
    let message = format!("the reward model has nothing to learn from: {all}");
    Err(Fault::new(FaultClass::Training, message).hint(
        "draw more (`reward_model.queries`, `reward_model.responses`), give the policy more or less \
         supervised fine-tuning, or use `reward.kind = \"answer\"`",
    ))
}
