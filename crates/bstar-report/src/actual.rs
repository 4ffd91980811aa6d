//! What a run has spent: responses, tokens, steps, seconds and bytes, by what they were spent on.
//!
//! Counts and seconds come from the events, tokens of responses from the rollout files, bytes from
//! the folder. `bstar plan --against` holds it beside what was planned. Seconds are those between
//! events, so work that was interrupted and made again is not in them.

use bstar_core::controller::Configuration;
use bstar_core::event::{Event, Piece};
use bstar_core::plan::Purpose;
use bstar_core::{Rollout, Stage};
use bstar_store::{Footprint, RunError, RunView};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Reads events, rollout files and folder of a run.
    pub fn of(run: &RunView) -> Result<Self, RunError> {
        let mut spent = Self { disk: run.footprint()?, ..Self::default() };
        // What won a race in an iteration: what it drew there belongs to the draw.
        let mut raced: BTreeMap<u32, Configuration> = BTreeMap::new();
        let mut drawn: BTreeSet<(u32, Stage)> = BTreeSet::new();
        let mut labelled: BTreeSet<u32> = BTreeSet::new();
        for line in run.events()? {
            spent.finished |= matches!(line.event, Event::RunFinished { .. });
            if let Some(purpose) = timed_as(&line.event, &mut labelled) {
                spent.on(purpose).seconds += line.elapsed_s;
            }
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
            let spent = spent.on(match stage {
                Stage::Probe => Purpose::Probe,
                Stage::Train => Purpose::Draw,
                Stage::Eval => Purpose::Evaluation,
            });
            let is_kept = |one: &&Rollout| kept.is_some_and(|of| of.draws(one));
            for rollout in rollouts.iter().filter(|one| !is_kept(one)) {
                spent.responses += 1.0;
                spent.generated += f64::from(rollout.token_count.unwrap_or(0));
            }
        }
        Ok(spent)
    }

    /// What was spent on several purposes together.
    pub fn sum(&self, purposes: &[Purpose], of: impl Fn(&ActualFor) -> f64) -> f64 {
        purposes.iter().filter_map(|purpose| self.on.get(purpose)).map(of).sum()
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

/// What the time before an event was spent on. `labelled` holds the iterations whose reward model
/// began to learn: what comes before its first step is labelling.
fn timed_as(event: &Event, labelled: &mut BTreeSet<u32>) -> Option<Purpose> {
    match event {
        Event::RunStarted { .. } => None,
        Event::Step { iteration: 0, .. }
        | Event::Published { iteration: 0, piece: Piece::Train } => Some(Purpose::Supervised),
        Event::Validated { .. } => Some(Purpose::Validation),
        Event::RewardModelStep { iteration, .. } if labelled.insert(*iteration) => {
            Some(Purpose::Labels)
        }
        Event::RewardModelStep { .. }
        | Event::RewardModelTrained { .. }
        | Event::Published { piece: Piece::RewardModel, .. } => Some(Purpose::RewardModel),
        Event::Graded { stage: Stage::Probe, .. }
        | Event::Published { piece: Piece::Probe, .. } => Some(Purpose::Probe),
        Event::Decided { .. }
        | Event::Selected { .. }
        | Event::QueriesRenewed { .. }
        | Event::Graded { stage: Stage::Train, .. }
        | Event::Measured { stage: Stage::Train, .. }
        | Event::Published { piece: Piece::Draw, .. } => Some(Purpose::Draw),
        Event::Step { .. }
        | Event::StepsChosen { .. }
        | Event::NothingSelected { .. }
        | Event::Published { piece: Piece::Train, .. } => Some(Purpose::Train),
        Event::Graded { stage: Stage::Eval, .. }
        | Event::Measured { .. }
        | Event::Published { piece: Piece::Evaluate, .. }
        | Event::IterationCommitted { .. }
        | Event::RunFinished { .. } => Some(Purpose::Evaluation),
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
