//! Training on a selection, in stretches: how many optimizer steps an iteration makes.
//!
//! A probe cannot measure what steps are worth, so they are chosen while they are made. Where steps
//! are a knob, training pauses at each of their values and the policy answers the same validation
//! queries greedily; it goes on only if the stretch just made gained more right answers than the
//! margin asks for, query by query. The weights after the last stretch are kept, so that nothing is
//! stored or trained twice: a stretch that gained nothing is the last, but it is not undone. The cost
//! is one greedy answer per validation query and stretch.
//!
//! The learning rate follows the schedule of the whole iteration, wherever training ends.

use crate::batches::batches;
use crate::confidence::mean_and_deviation;
use crate::event::{Activity, Event, Stretch};
use crate::fault::{Fault, FaultClass};
use crate::improve::{ImproveSettings, Improver};
use crate::method::StartPoint;
use crate::ports::{Example, Ledger, Policy, Progress, Update};
use crate::rng::RngKey;
use crate::rollout::Query;
use crate::supervised::right_answers;

impl ImproveSettings {
    /// The steps at which the training on so many examples may end, ascending.
    pub(crate) fn ends(&self, examples: usize) -> Vec<usize> {
        let most = self.steps_on(examples);
        let earlier = self.controller.knobs.steps.iter().copied().filter(|end| *end < most);
        earlier.chain([most]).collect()
    }

    /// The gain of a stretch, and whether training goes on after it.
    fn goes_on(&self, before: &[bool], after: &[bool]) -> (Stretch, bool) {
        let value = |right: bool| f64::from(u8::from(right));
        let gains: Vec<f64> = before
            .iter()
            .zip(after)
            .map(|(before, after)| value(*after) - value(*before))
            .collect();
        let (gain, deviation) = mean_and_deviation(&gains);
        let queries = after.len().max(1) as f64;
        let standard_error = deviation / queries.sqrt();
        let accuracy = after.iter().filter(|right| **right).count() as f64 / queries;
        let margin = self.controller.knobs.steps_margin;
        let asked = margin * standard_error;
        // Below 0 only a loss stops, and standing still is none.
        let goes_on = if margin < 0.0 { gain >= asked } else { gain > asked };
        (Stretch { steps: 0, accuracy, gain, standard_error }, goes_on)
    }
}

impl<P: Policy, L: Ledger<P>> Improver<'_, P, L> {
    /// Refuses a run whose steps could never be chosen.
    pub(crate) fn check_validation(&self) -> Result<(), Fault> {
        if self.settings.controller.knobs.steps.len() < 2 || !self.task.validation().is_empty() {
            return Ok(());
        }
        let message = "`knobs.steps` is chosen on validation queries, and the task has none";
        Err(Fault::new(FaultClass::Usage, message)
            .hint("give the task a validation split, or leave `knobs.steps` empty"))
    }

    /// Trains after `updates` earlier iterations that trained; the first starts the optimizer and
    /// the schedule.
    pub(crate) fn update(
        &mut self,
        iteration: u32,
        updates: u32,
        examples: &[Example],
        key: RngKey,
    ) -> Result<(), Fault> {
        let (settings, method) = (self.settings, self.settings.method.spec());
        if method.start == StartPoint::Reset {
            self.ledger.restore(settings.reset_to, self.policy)?;
        }
        let ends = settings.ends(examples.len());
        let most = ends.last().copied().unwrap_or(0);
        let order = batches(examples.len(), settings.batch_size, most, key.child("batches"));
        let (schedule, first_step) = settings.schedule(updates);
        let carries = settings.optimizer_state.carries(method.carries_optimizer);
        let fresh_optimizer = updates == 0 || !carries;
        let mut before = if ends.len() > 1 { self.validate(key)? } else { Vec::new() };
        let asked = before.len();
        let (mut done, mut stretches) = (0, Vec::new());
        for end in ends {
            let update = Update {
                examples,
                batches: &order[done..end],
                schedule,
                first_step: first_step + done as u64,
                fresh_optimizer: fresh_optimizer && done == 0,
            };
            let ledger = &mut *self.ledger;
            self.policy.update(&update, &mut |step| {
                ledger.record(Event::Step { iteration, step })?;
                let progress = Progress { done: step.step - first_step + 1, total: most as u64 };
                ledger.tick(Activity::Train { iteration }, progress)
            })?;
            done = end;
            if done == most {
                break;
            }
            let after = self.validate(key)?;
            let (stretch, goes_on) = settings.goes_on(&before, &after);
            stretches.push(Stretch { steps: done as u64, ..stretch });
            if !goes_on {
                break;
            }
            before = after;
        }
        if stretches.is_empty() {
            return Ok(());
        }
        let (steps, queries) = (done as u64, asked as u64);
        self.ledger.record(Event::StepsChosen { iteration, steps, queries, stretches })
    }

    /// Which validation queries the policy answers right.
    fn validate(&mut self, key: RngKey) -> Result<Vec<bool>, Fault> {
        let count = self.settings.controller.knobs.steps_queries;
        let decoding = &self.settings.supervised.decoding;
        let key_of = |query: &Query| key.child(query.id.as_str());
        right_answers(count, decoding, self.policy, self.task, self.ledger, key_of)
    }
}
