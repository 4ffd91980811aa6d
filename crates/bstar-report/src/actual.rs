//! What a run has spent: responses, tokens, steps, seconds and bytes, by what they were spent on.
//!
//! Counts and seconds come from the events, tokens of responses from the rollout files, bytes from
//! the folder. `bstar plan --against` holds it beside what was planned. Seconds are those between
//! events, so work that was interrupted and made again is not in them. Of runs that share their
//! iteration 0, each adds its own part only.

use bstar_core::controller::Configuration;
use bstar_core::event::{Event, Piece};
use bstar_core::plan::{Part, Purpose};
use bstar_core::{Rollout, Stage};
use bstar_store::{Footprint, LoggedEvent, RunError, RunView};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Add;

/// What was spent on a purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ActualFor {
    /// Responses drawn.
    pub responses: f64,
    /// Tokens generated; those of validations are not on record.
    pub generated: f64,
    /// Optimizer steps.
    pub steps: f64,
    /// Response tokens that losses were taken over.
    pub learned: f64,
    /// Time. Completions are timed together with the responses that they label.
    pub seconds: f64,
}

/// What a run has spent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Actual {
    /// Whether every iteration is complete.
    pub finished: bool,
    /// By purpose.
    pub on: BTreeMap<Purpose, ActualFor>,
    /// On disk.
    pub disk: Footprint,
}

impl Actual {
    /// Reads events, rollout files and folder of a run, as far as they are of this part. The event log
    /// counts whole: a run that takes over iteration 0 writes its events again.
    pub fn of(run: &RunView, part: Part) -> Result<Self, RunError> {
        Self::counted(run, run.events()?, part)
    }

    /// The same of a whole run of a comparison: what it took over of iteration 0 is counted with the time
    /// that the first of `starts` with the same P_0 needed for it. None where none of them has that.
    pub fn beside(run: &RunView, starts: &[RunView]) -> Result<Option<Self>, RunError> {
        let mut events = run.events()?;
        let is_p_0 =
            |event: &Event| matches!(event, Event::IterationCommitted { iteration: 0, .. });
        let Some(p_0) = events.iter().find(|line| is_p_0(&line.event)).map(|line| &line.event)
        else {
            return Ok(None);
        };
        let mut timed = Vec::new();
        for start in starts {
            let made = start.events()?;
            if made.iter().any(|line| line.event == *p_0) {
                timed.extend(made);
            }
        }
        if timed.is_empty() {
            return Ok(None);
        }
        let taken_over = events.iter().position(|line| is_p_0(&line.event)).unwrap_or(0);
        for line in &mut events[..=taken_over] {
            // A start that took its supervised stage over has no time of it either: the longest counts.
            let made = timed.iter().filter(|made| made.event == line.event);
            line.elapsed_s = made.map(|made| made.elapsed_s).fold(line.elapsed_s, f64::max);
        }
        Self::counted(run, events, Part::Whole).map(Some)
    }

    fn counted(run: &RunView, events: Vec<LoggedEvent>, part: Part) -> Result<Self, RunError> {
        let kept =
            |piece: Piece, iteration: u32| part.holds(iteration, purpose_of(piece, iteration));
        let mut spent = Self { disk: run.footprint(&kept)?, ..Self::default() };
        // What won a race in an iteration: what it drew there belongs to the draw.
        let mut raced: BTreeMap<u32, Configuration> = BTreeMap::new();
        let mut drawn: BTreeSet<(u32, Stage)> = BTreeSet::new();
        let mut labelled: BTreeSet<u32> = BTreeSet::new();
        for line in events {
            spent.finished |= matches!(line.event, Event::RunFinished { .. });
            let Some((iteration, purpose)) = timed_as(&line.event, &mut labelled) else { continue };
            if !part.holds(iteration, purpose) {
                continue;
            }
            spent.on(purpose).seconds += line.elapsed_s;
            match &line.event {
                Event::Decided { iteration, decision } if decision.race.is_some() => {
                    raced.insert(*iteration, decision.configuration());
                }
                Event::Published { iteration, piece } => {
                    drawn.extend(stage_of(*piece).map(|stage| (*iteration, stage)));
                }
                event => spent.count(event),
            }
        }
        for (iteration, stage) in drawn {
            let kept = raced.get(&iteration).filter(|_| stage == Stage::Probe);
            let rollouts = run.read_rollouts(iteration, stage)?;
            let spent = spent.on(purpose_of_stage(stage));
            let is_kept = |one: &&Rollout| kept.is_some_and(|of| of.draws(one));
            for rollout in rollouts.iter().filter(|one| !is_kept(one)) {
                spent.responses += 1.0;
                spent.generated += f64::from(rollout.token_count.unwrap_or(0));
            }
        }
        Ok(spent)
    }

    /// Adds what another run has spent; together they are finished if both are.
    pub fn add(&mut self, other: &Self) {
        self.finished &= other.finished;
        for (purpose, spent) in &other.on {
            let own = self.on(*purpose);
            own.responses += spent.responses;
            own.generated += spent.generated;
            own.steps += spent.steps;
            own.learned += spent.learned;
            own.seconds += spent.seconds;
        }
        self.disk.checkpoints += other.disk.checkpoints;
        self.disk.reward_models += other.disk.reward_models;
        self.disk.rollouts += other.disk.rollouts;
        self.disk.events += other.disk.events;
    }

    /// What was spent on several purposes together.
    pub fn sum(&self, purposes: &[Purpose], of: impl Fn(&ActualFor) -> f64) -> f64 {
        // The sum of no numbers would be -0.
        purposes.iter().filter_map(|purpose| self.on.get(purpose)).map(of).fold(0.0, Add::add)
    }

    fn on(&mut self, purpose: Purpose) -> &mut ActualFor {
        self.on.entry(purpose).or_default()
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::Step { iteration, step } => {
                let is_start = *iteration == 0;
                let on = self.on(if is_start { Purpose::Supervised } else { Purpose::Train });
                on.steps += 1.0;
                on.learned += step.tokens as f64;
            }
            Event::Validated { queries, .. } => {
                self.on(Purpose::Validation).responses += *queries as f64;
            }
            Event::StepsChosen { queries, stretches, .. } => {
                let validations = 1.0 + stretches.len() as f64;
                self.on(Purpose::Stretches).responses += *queries as f64 * validations;
            }
            Event::RewardModelStep { step, .. } => {
                let on = self.on(Purpose::RewardModel);
                on.steps += 1.0;
                on.learned += step.tokens as f64;
            }
            Event::RewardModelTrained { labels, .. } => {
                self.on(Purpose::Completions).responses += labels.completions as f64;
                let on = self.on(Purpose::Labels);
                on.responses += labels.drawn as f64;
                // Of both together.
                on.generated += labels.tokens as f64;
            }
            _ => {}
        }
    }
}

/// The iteration of an event, and what the time before it was spent on. `labelled` holds the iterations
/// whose reward model began to learn: what comes before its first step is labelling. Validation of
/// stretches is timed together with the training that it interrupts.
fn timed_as(event: &Event, labelled: &mut BTreeSet<u32>) -> Option<(u32, Purpose)> {
    Some(match event {
        Event::RunStarted { .. } => return None,
        Event::Step { iteration: 0, .. } => (0, Purpose::Supervised),
        Event::Validated { .. } => (0, Purpose::Validation),
        Event::RewardModelStep { iteration, .. } if labelled.insert(*iteration) => {
            (*iteration, Purpose::Labels)
        }
        Event::RewardModelStep { iteration, .. } | Event::RewardModelTrained { iteration, .. } => {
            (*iteration, Purpose::RewardModel)
        }
        Event::Published { iteration, piece } => (*iteration, purpose_of(*piece, *iteration)),
        Event::Graded { iteration, stage, .. } | Event::Measured { iteration, stage, .. } => {
            (*iteration, purpose_of_stage(*stage))
        }
        Event::Decided { iteration, .. }
        | Event::Selected { iteration, .. }
        | Event::QueriesRenewed { iteration, .. } => (*iteration, Purpose::Draw),
        Event::Step { iteration, .. }
        | Event::StepsChosen { iteration, .. }
        | Event::NothingSelected { iteration, .. } => (*iteration, Purpose::Train),
        Event::IterationCommitted { iteration, .. }
        | Event::RunFinished { iterations: iteration } => (*iteration, Purpose::Evaluation),
    })
}

/// What a piece of an iteration is made for.
fn purpose_of(piece: Piece, iteration: u32) -> Purpose {
    match piece {
        Piece::Train if iteration == 0 => Purpose::Supervised,
        Piece::Train => Purpose::Train,
        Piece::RewardModel => Purpose::RewardModel,
        Piece::Probe => Purpose::Probe,
        Piece::Draw => Purpose::Draw,
        Piece::Evaluate => Purpose::Evaluation,
    }
}

fn purpose_of_stage(stage: Stage) -> Purpose {
    match stage {
        Stage::Probe => Purpose::Probe,
        Stage::Train => Purpose::Draw,
        Stage::Eval => Purpose::Evaluation,
    }
}

fn stage_of(piece: Piece) -> Option<Stage> {
    match piece {
        Piece::Probe => Some(Stage::Probe),
        Piece::Draw => Some(Stage::Train),
        Piece::Evaluate => Some(Stage::Eval),
        Piece::Train | Piece::RewardModel => None,
    }
}
