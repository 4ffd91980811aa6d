//! What a run generates: planned from its settings, and counted from its events by purpose.
//!
//! The unit of a plan is the response, since nobody knows beforehand how long responses will be;
//! what was generated is counted in tokens too. Evaluation is not a part of a budget: it is the same
//! for every method and nothing is learnt from it.

use crate::event::Event;
use crate::improve::ImproveSettings;
use crate::rollout::Stage;
use crate::search::Search;
use serde::Serialize;
use std::ops::AddAssign;

impl ImproveSettings {
    /// Responses that the search of an iteration draws beside the draw itself, of a task with so
    /// many training queries. A race and re-weighting may draw fewer.
    pub fn search_responses(&self, training_queries: usize) -> u64 {
        let candidates = self.controller.candidates().len() as u64;
        if candidates == 0 {
            return 0;
        }
        let k = self.samples_per_query as u64;
        match self.search {
            Search::Exhaustive => candidates * self.probe_queries.min(training_queries) as u64 * k,
            // Without another candidate there is nothing to search.
            Search::Racing | Search::Reweighting if candidates == 1 => 0,
            Search::Racing | Search::Reweighting => {
                self.limits(self.queries_per_iteration).budget as u64 * k
            }
        }
    }

    /// Responses that the iterations draw to search and to train on.
    pub fn planned_responses(&self, training_queries: usize) -> u64 {
        let draw = (self.queries_per_iteration * self.samples_per_query) as u64;
        u64::from(self.planned_iterations()) * (draw + self.search_responses(training_queries))
    }

    /// Optimizer steps on selections, if every iteration selects enough.
    pub fn planned_steps(&self) -> u64 {
        u64::from(self.planned_iterations()) * self.steps_per_iteration as u64
    }

    /// How often the run trains a reward model.
    pub fn planned_reward_models(&self) -> u64 {
        let due = |settings: &crate::reward_training::RewardTrainingSettings| {
            (0..=self.planned_iterations()).filter(|iteration| settings.is_due(*iteration)).count()
        };
        self.reward_training.as_ref().map_or(0, due) as u64
    }

    /// The most training queries an iteration may draw so that the run draws at most `responses` in
    /// all; none if not even one fits.
    pub fn queries_within(&self, responses: u64, training_queries: usize) -> Option<usize> {
        let planned = |queries: usize| {
            let settings = Self { queries_per_iteration: queries, ..self.clone() };
            settings.planned_responses(training_queries)
        };
        // Planned responses grow with the queries.
        let (mut fits, mut too_many) = (0, usize::try_from(responses).ok()?.saturating_add(1));
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if planned(middle) <= responses { fits = middle } else { too_many = middle }
        }
        (fits > 0 && planned(fits) <= responses).then_some(fits)
    }
}

/// Responses with their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Responses.
    pub responses: u64,
    /// Tokens drawn for them.
    pub tokens: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.responses += other.responses;
        self.tokens += other.tokens;
    }
}

/// What a run generated, by purpose, and its optimizer steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// To choose the configuration, what the draw took over included.
    pub probe: Tally,
    /// To train on.
    pub draw: Tally,
    /// To label steps for reward models: responses and completions.
    pub labels: Tally,
    /// To evaluate.
    pub evaluation: Tally,
    /// Optimizer steps of supervised fine-tuning.
    pub supervised_steps: u64,
    /// Optimizer steps on selections.
    pub steps: u64,
    /// Optimizer steps of reward models.
    pub reward_model_steps: u64,
}

impl Spent {
    /// Counts what the events of a run tell.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut spent = Self::default();
        for event in events {
            match event {
                Event::Graded { stage, counts, tokens, .. } => {
                    *spent.of(*stage) += Tally { responses: counts.total(), tokens: *tokens };
                }
                Event::RewardModelTrained { labels, .. } => {
                    let responses = labels.drawn + labels.completions;
                    spent.labels += Tally { responses, tokens: labels.tokens };
                }
                Event::Step { iteration: 0, .. } => spent.supervised_steps += 1,
                Event::Step { .. } => spent.steps += 1,
                Event::RewardModelStep { .. } => spent.reward_model_steps += 1,
                _ => {}
            }
        }
        spent
    }

    fn of(&mut self, stage: Stage) -> &mut Tally {
        match stage {
            Stage::Probe => &mut self.probe,
            Stage::Train => &mut self.draw,
            Stage::Eval => &mut self.evaluation,
        }
    }

    /// What counts as the price of a method: search, draw and labels.
    pub fn generated(&self) -> Tally {
        let mut all = self.probe;
        all += self.draw;
        all += self.labels;
        all
    }
}
