//! Supervised fine-tuning towards P_0, the policy that self-training starts from.
//!
//! It can stop at a validation accuracy instead of a step count: small models learn the underlying
//! skill in a sudden transition whose moment depends on the seed, so a fixed number of steps gives
//! starts that cannot be compared.

use crate::batches::batches;
use crate::event::{Activity, Event};
use crate::fault::Fault;
use crate::ports::{
    Decoding, Example, GradeRequest, Ledger, Policy, Progress, PromptRequest, SampleRequest, Task,
    Update,
};
use crate::rng::RngKey;
use crate::rollout::Query;
use crate::schedule::CosineSchedule;

/// How P_0 is made.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisedSettings {
    /// Most optimizer steps; 0 takes the policy as it is.
    pub steps: usize,
    /// Examples per step.
    pub batch_size: usize,
    /// Learning rate over the steps.
    pub schedule: CosineSchedule,
    /// Stop once greedy validation accuracy reaches this.
    pub stop_at_accuracy: Option<f64>,
    /// Steps between validations.
    pub validate_every: usize,
    /// Validation queries used.
    pub validation_queries: usize,
    /// How validation queries are answered, but greedily.
    pub decoding: Decoding,
}

impl SupervisedSettings {
    /// Queries of a validation, of so many that there are; none where nothing is validated.
    pub(crate) fn validations(&self, all: usize) -> usize {
        if self.validate_every == 0 { 0 } else { self.validation_queries.min(all) }
    }
}

/// Trains `policy` on `examples` and records what happens.
pub fn supervise<P: Policy, L: Ledger<P>>(
    settings: &SupervisedSettings,
    examples: &[Example],
    policy: &mut P,
    task: &dyn Task,
    ledger: &mut L,
    key: RngKey,
) -> Result<(), Fault> {
    if settings.steps == 0 || examples.is_empty() {
        return Ok(());
    }
    let order = batches(examples.len(), settings.batch_size, settings.steps, key.child("batches"));
    let validates = settings.validations(task.validation().len()) > 0;
    let stretch = if validates { settings.validate_every } else { settings.steps };
    let mut done = 0;
    for batches in order.chunks(stretch) {
        let update = Update {
            examples,
            batches,
            schedule: settings.schedule,
            first_step: done as u64,
            fresh_optimizer: done == 0,
        };
        let total = settings.steps as u64;
        policy.update(&update, &mut |step| {
            ledger.record(Event::Step { iteration: 0, step })?;
            ledger.tick(Activity::Supervise, Progress { done: step.step + 1, total })
        })?;
        done += batches.len();
        if !validates {
            continue;
        }
        let goal = settings.stop_at_accuracy;
        let count = settings.validation_queries;
        let right = right_answers(count, &settings.decoding, policy, task, ledger, |_| key)?;
        let queries = right.len() as u64;
        let correct = right.iter().filter(|right| **right).count();
        let accuracy = correct as f64 / queries.max(1) as f64;
        let step = done as u64;
        ledger.record(Event::Validated { step, accuracy, queries, goal })?;
        if goal.is_some_and(|goal| accuracy >= goal) {
            break;
        }
    }
    Ok(())
}

/// Which of the first validation queries are answered right, greedily.
pub(crate) fn right_answers<P: Policy, L: Ledger<P>>(
    count: usize,
    decoding: &Decoding,
    policy: &mut P,
    task: &dyn Task,
    ledger: &mut L,
    key_of: impl Fn(&Query) -> RngKey,
) -> Result<Vec<bool>, Fault> {
    let queries = &task.validation()[..count.min(task.validation().len())];
    let prompts = queries.iter().map(|query| PromptRequest {
        prompt: &query.prompt,
        begun: "",
        key: key_of(query),
    });
    let request =
        SampleRequest { prompts: prompts.collect(), samples: 1, decoding: decoding.likeliest() };
    let tick = &mut |progress| ledger.tick(Activity::Validate, progress);
    let groups = policy.sample(&request, tick)?;
    let answered = queries.iter().zip(groups.iter().flatten());
    let answered: Vec<GradeRequest<'_>> = answered
        .map(|(query, completion)| GradeRequest { query, response: &completion.text })
        .collect();
    let grades =
        task.grade_all(&answered, &mut |progress| ledger.tick(Activity::Validate, progress))?;
    Ok(grades.iter().map(|grade| grade.verdict.is_correct()).collect())
}
