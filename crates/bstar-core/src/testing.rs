//! Scripted stand-ins for policy, task, reward model and ledger: the loop without tensors or files.
//!
//! The scripted policy answers `x` queries whose gold answer is the number in the prompt. It is
//! right with a chance that its skill, temperature and top-p set, writes one of a few wordings (fewer
//! with a small top-p), and
//! grows in skill with every example it is taught. Everything is a function of keys.

use crate::event::{Activity, Event, Piece, TrainStep};
use crate::fault::{Fault, FaultClass};
use crate::ports::{
    Checkpoint, Ledger, Policy, Progress, RewardHead, RewardModel, RewardUpdate, SampleRequest,
    ScoreRequest, StepRequest, Task, Tick, Update,
};
use crate::rng::{RngKey, below, uniform};
use crate::rollout::{Completion, FinishReason, Grade, Query, Rollout, Stage, Verdict};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// A policy with one number inside.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptedPolicy {
    /// Chance of a right answer at temperature 0.
    pub skill: f64,
    /// What is added to the skill by each optimizer step.
    pub gain: f64,
    /// Distinct wordings of a right answer at temperature 1.
    pub wordings: usize,
    /// Optimizer steps since the optimizer was fresh.
    pub optimizer_steps: u64,
}

impl Policy for ScriptedPolicy {
    type RewardModel = TableReward;

    fn version(&self) -> Arc<str> {
        format!("skill-{:016x}-{}", self.skill.to_bits(), self.optimizer_steps).into()
    }

    fn sample(
        &mut self,
        request: &SampleRequest<'_>,
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<Completion>>, Fault> {
        let total = (request.prompts.len() * request.samples) as u64;
        let (temperature, top_p) = (request.decoding.temperature, request.decoding.top_p);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        let likely = (self.wordings as f64 * top_p).round() as usize;
        let mut groups = Vec::new();
        for prompt in &request.prompts {
            let group = (0..request.samples as u64).map(|sample| {
                let mut rng = prompt.key.index(sample).rng();
                let right = uniform(&mut rng) < self.skill * (1.0 - 0.4 * temperature * top_p);
                let wordings = 1 + if temperature > 0.0 { likely } else { 0 };
                let wording = below(&mut rng, wordings);
                let answer = if right { prompt.prompt } else { "wrong" };
                let wording = match prompt.begun {
                    "" => format!("wording {wording}"),
                    _ => String::new(),
                };
                Completion {
                    text: format!("{wording}\n{answer}"),
                    finish_reason: FinishReason::Stop,
                    token_count: 3,
                    logprob: -1.5,
                    entropy: 0.5,
                }
            });
            groups.push(group.collect());
            let done = (groups.len() * request.samples) as u64;
            tick(Progress { done, total })?;
        }
        Ok(groups)
    }

    fn log_probabilities(
        &mut self,
        requests: &[ScoreRequest<'_>],
        temperatures: &[f64],
        _tick: Tick<'_>,
    ) -> Result<Vec<Vec<f64>>, Fault> {
        let wordings = (1 + self.wordings) as f64;
        let of = |request: &ScoreRequest<'_>| {
            let is_right = request.response.lines().nth(1) == Some(request.prompt);
            let at = |temperature: &f64| {
                let right = self.skill * (1.0 - 0.4 * temperature);
                ((if is_right { right } else { 1.0 - right }) / wordings).ln()
            };
            temperatures.iter().map(at).collect()
        };
        Ok(requests.iter().map(of).collect())
    }

    fn update(
        &mut self,
        update: &Update<'_>,
        on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if update.fresh_optimizer {
            self.optimizer_steps = 0;
        }
        for (step, batch) in (update.first_step..).zip(update.batches) {
            let learning_rate = update.schedule.learning_rate(step);
            if !learning_rate.is_finite() {
                return Err(Fault::new(FaultClass::Training, "the learning rate is not finite"));
            }
            self.skill = (self.skill + self.gain).min(1.0);
            self.optimizer_steps += 1;
            on_step(TrainStep {
                step,
                loss: 1.0 - self.skill,
                learning_rate,
                gradient_norm: 1.0,
                tokens: batch.len() as u64,
            })?;
        }
        Ok(())
    }

    fn reward_model(&self, _head: RewardHead, _key: RngKey) -> Result<TableReward, Fault> {
        Ok(TableReward(Self::FRESH_SCORES.to_vec()))
    }
}

/// Scores a response by a table of its wordings; the sign says nothing of the answer. Training
/// moves every score by the mean label of the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct TableReward(pub Vec<f64>);

impl RewardModel for TableReward {
    fn version(&self) -> Arc<str> {
        format!("{:?}", self.0).into()
    }

    fn update(
        &mut self,
        update: &RewardUpdate<'_>,
        on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for (step, batch) in (0..).zip(update.batches) {
            let labels: Vec<f64> =
                batch.iter().flat_map(|&i| update.examples[i].labels.iter().copied()).collect();
            let mean = labels.iter().sum::<f64>() / labels.len() as f64;
            self.0.iter_mut().for_each(|score| *score += 0.01 * mean);
            on_step(TrainStep {
                step,
                loss: 1.0 - mean,
                learning_rate: update.schedule.learning_rate(step),
                gradient_norm: 1.0,
                tokens: labels.len() as u64,
            })?;
        }
        Ok(())
    }

    fn step_scores(
        &mut self,
        requests: &[StepRequest<'_>],
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<f64>>, Fault> {
        let total = requests.len() as u64;
        tick(Progress { done: total, total })?;
        let score = |request: &StepRequest<'_>| {
            let wording = request.response.split_whitespace().nth(1);
            let index: usize = wording.and_then(|word| word.parse().ok()).unwrap_or(0);
            vec![self.0[index % self.0.len()], 1.0]
        };
        Ok(requests.iter().map(score).collect())
    }
}

impl ScriptedPolicy {
    /// The scores that its reward model starts with.
    pub const FRESH_SCORES: [f64; 3] = [3.0, -2.0, 0.5];
}

/// Numbers to repeat.
#[derive(Clone, Debug)]
pub struct EchoTask {
    train: Vec<Query>,
    validation: Vec<Query>,
    test: Vec<Query>,
    can_tell: bool,
}

impl EchoTask {
    /// The same task with a checker that cannot decide about any answer but a right one.
    #[must_use]
    pub fn that_cannot_tell(self) -> Self {
        Self { can_tell: false, ..self }
    }

    /// A task with this many queries to train on, and a tenth of it held out twice.
    pub fn new(train: usize) -> Self {
        let queries = |split: &str, count: usize| {
            let query = |index: usize| Query {
                id: format!("{split}/{index}").into(),
                prompt: format!("{split}{index}"),
                gold_answer: format!("{split}{index}"),
                gold_solution: Some(format!("gold\n{split}{index}")),
            };
            (0..count).map(query).collect()
        };
        Self {
            train: queries("train", train),
            validation: queries("validation", train / 10),
            test: queries("test", train / 10),
            can_tell: true,
        }
    }
}

impl Task for EchoTask {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn train(&self) -> &[Query] {
        &self.train
    }

    fn validation(&self) -> &[Query] {
        &self.validation
    }

    fn test(&self) -> &[Query] {
        &self.test
    }

    fn grade(&self, query: &Query, response: &str) -> Result<Grade, Fault> {
        let answer = response.lines().nth(1).map(str::to_owned);
        let (verdict, reason) = match &answer {
            None => return Ok(Grade::no_answer()),
            Some(answer) if *answer == query.gold_answer => (Verdict::Correct, "the same answer"),
            Some(_) if self.can_tell => (Verdict::Incorrect, "different value"),
            Some(_) => (Verdict::Ungradable, "cannot parse"),
        };
        Ok(Grade { answer, verdict, reason })
    }

    fn steps(&self, response: &str) -> Vec<Range<usize>> {
        let first = response.find('\n').unwrap_or(response.len());
        vec![0..first, first..response.len()]
    }

    fn equations(&self, response: &str) -> Vec<String> {
        response.lines().take(1).map(str::to_owned).collect()
    }

    fn check_steps(&self, _query: &Query, _response: &str) -> Option<bool> {
        None
    }
}

/// A ledger in memory that can be told to fail after a number of operations, like a process that is
/// killed: what was not published is forgotten by [`MemoryLedger::reopen`].
#[derive(Clone, Debug)]
pub struct MemoryLedger<P> {
    base: P,
    events: Vec<Event>,
    published: BTreeSet<(u32, Piece)>,
    rollouts: BTreeMap<(u32, Stage), Vec<Rollout>>,
    checkpoints: BTreeMap<u32, P>,
    reward_models: BTreeMap<u32, TableReward>,
    committed: Option<u32>,
    operations_left: Cell<u64>,
    interrupted_at: Option<Activity>,
    /// Operations made so far.
    pub operations: u64,
}

impl<P: Clone> MemoryLedger<P> {
    /// An empty ledger of a run that starts from `base`.
    pub fn new(base: P) -> Self {
        Self {
            base,
            events: Vec::new(),
            published: BTreeSet::new(),
            rollouts: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            reward_models: BTreeMap::new(),
            committed: None,
            operations_left: Cell::new(u64::MAX),
            interrupted_at: None,
            operations: 0,
        }
    }

    /// Fails with an interrupt after this many more operations.
    pub fn fail_after(&mut self, operations: u64) {
        self.operations_left.set(operations);
    }

    /// Is interrupted at the first sign of this activity.
    pub fn interrupt_at(&mut self, activity: Activity) {
        self.interrupted_at = Some(activity);
    }

    /// What a new process finds: events up to the last published piece or commit.
    pub fn reopen(&mut self) {
        let durable = |event: &Event| {
            matches!(
                event,
                Event::Published { .. }
                    | Event::IterationCommitted { .. }
                    | Event::RunFinished { .. }
                    | Event::RunStarted { .. }
            )
        };
        let kept = self.events.iter().rposition(durable).map_or(0, |last| last + 1);
        self.events.truncate(kept);
        self.operations_left.set(u64::MAX);
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.operations += 1;
        let left = self.operations_left.get();
        if left == 0 {
            return Err(Fault::new(FaultClass::Interrupted, "killed by the test"));
        }
        self.operations_left.set(left - 1);
        Ok(())
    }
}

impl<P: Policy<RewardModel = TableReward> + Clone> Ledger<P> for MemoryLedger<P> {
    fn record(&mut self, event: Event) -> Result<(), Fault> {
        self.count()?;
        self.events.push(event);
        Ok(())
    }

    fn tick(&mut self, activity: Activity, progress: Progress) -> Result<(), Fault> {
        assert!(progress.done <= progress.total, "{progress:?}");
        if self.interrupted_at == Some(activity) {
            return Err(Fault::new(FaultClass::Interrupted, "interrupted by the test"));
        }
        self.count()
    }

    fn is_published(&self, iteration: u32, piece: Piece) -> bool {
        self.published.contains(&(iteration, piece))
    }

    fn read_rollouts(&self, iteration: u32, stage: Stage) -> Result<Vec<Rollout>, Fault> {
        Ok(self.rollouts[&(iteration, stage)].clone())
    }

    fn publish_rollouts(
        &mut self,
        iteration: u32,
        stage: Stage,
        rollouts: &[Rollout],
    ) -> Result<(), Fault> {
        self.count()?;
        let piece = match stage {
            Stage::Probe => Piece::Probe,
            Stage::Train => Piece::Draw,
            Stage::Eval => Piece::Evaluate,
        };
        self.rollouts.insert((iteration, stage), rollouts.to_vec());
        assert!(self.published.insert((iteration, piece)), "{piece:?} of {iteration} made twice");
        self.events.push(Event::Published { iteration, piece });
        Ok(())
    }

    fn publish_checkpoint(&mut self, iteration: u32, policy: &mut P) -> Result<(), Fault> {
        self.count()?;
        self.checkpoints.insert(iteration, policy.clone());
        let piece = Piece::Train;
        assert!(self.published.insert((iteration, piece)), "{iteration} trained twice");
        self.events.push(Event::Published { iteration, piece });
        Ok(())
    }

    fn publish_reward_model(
        &mut self,
        iteration: u32,
        model: &mut TableReward,
    ) -> Result<(), Fault> {
        self.count()?;
        self.reward_models.insert(iteration, model.clone());
        let piece = Piece::RewardModel;
        assert!(self.published.insert((iteration, piece)), "{iteration} trained a model twice");
        self.events.push(Event::Published { iteration, piece });
        Ok(())
    }

    fn restore_reward_model(&self, iteration: u32, _policy: &P) -> Result<TableReward, Fault> {
        Ok(self.reward_models[&iteration].clone())
    }

    fn restore(&self, checkpoint: Checkpoint, policy: &mut P) -> Result<(), Fault> {
        *policy = match checkpoint {
            Checkpoint::Base => self.base.clone(),
            Checkpoint::Iteration(iteration) => self.checkpoints[&iteration].clone(),
        };
        Ok(())
    }

    fn commit(&mut self, iteration: u32, policy_version: &str) -> Result<(), Fault> {
        self.count()?;
        self.committed = Some(iteration);
        let policy_version = policy_version.into();
        self.events.push(Event::IterationCommitted { iteration, policy_version });
        Ok(())
    }

    fn last_committed(&self) -> Option<u32> {
        self.committed
    }

    fn events(&self) -> Result<Vec<Event>, Fault> {
        Ok(self.events.clone())
    }
}
