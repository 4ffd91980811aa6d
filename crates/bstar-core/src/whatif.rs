//! What other settings would have chosen and selected from the stored rollouts of an iteration.
//!
//! No model is asked: settings that only read rollouts (grids, n*, reward, cap, duplicates, a smaller
//! k or fewer queries) are applied to what lies there, by the functions that the loop itself uses.
//! With the run's own settings the answer is the run's own decision and selection.
//!
//! What cannot be known is left open: where another way to sample or a larger k is chosen, nobody drew
//! the training rollouts of it.

use crate::controller::{Configuration, Decision};
use crate::improve::ImproveSettings;
use crate::knobs::Sampling;
use crate::pool::Pool;
use crate::ranking::RankingRule;
use crate::rng::RngKey;
use crate::search::{Lane, Unstored};
use crate::selection::{Selection, select};
use thiserror::Error;

/// What an iteration left on disk, over its queries in the order in which they were drawn.
#[derive(Clone, Copy, Debug)]
pub struct StoredRollouts<'a> {
    /// The iteration.
    pub iteration: u32,
    /// Probe rollouts, one lane for each way to sample.
    pub probes: &'a [Lane],
    /// Exact-text hash of the gold solution of each probe query; may be empty where gold does not
    /// compete.
    pub probe_gold: &'a [Option<u64>],
    /// Training rollouts.
    pub draw: &'a Pool,
    /// Exact-text hash of the gold solution of each training query; may be empty likewise.
    pub draw_gold: &'a [Option<u64>],
}

/// What the settings make of an iteration.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// How the draw was ranked.
    pub ranking: RankingRule,
    /// The draw, cut to the queries and samples that the settings ask for, with what is selected of
    /// it; none where the decision is for another way to sample, or a larger k, than the draw's.
    pub selected: Option<(Pool, Selection)>,
}

/// Settings that the stored rollouts cannot answer.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Unanswerable {
    /// Candidates that were not probed.
    #[error(
        "iteration {iteration} was not probed at temperature {}; it was at {}",
        list(wanted),
        list(stored)
    )]
    Temperatures {
        /// The iteration.
        iteration: u32,
        /// Wanted and not there.
        wanted: Vec<Sampling>,
        /// There.
        stored: Vec<Sampling>,
    },
    /// A search that goes another way, by answers that nobody drew.
    #[error("iteration {iteration} cannot be searched again: {cause}")]
    Search {
        /// The iteration.
        iteration: u32,
        /// What is missing.
        cause: Unstored,
    },
}

fn list(ways: &[Sampling]) -> String {
    if ways.is_empty() {
        return "none".into();
    }
    ways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Decides and selects by `settings` from what is stored. `previous` is the configuration of the
/// iteration before.
pub fn answer(
    settings: &ImproveSettings,
    stored: &StoredRollouts<'_>,
    previous: Option<Configuration>,
) -> Result<Answer, Unanswerable> {
    let queries = match settings.queries_per_iteration {
        0 => stored.draw.groups.len(),
        wanted => wanted.min(stored.draw.groups.len()),
    };
    let lanes = lanes_of(settings, stored)?;
    let key = RngKey::from_seed(settings.seed).child("iteration");
    let key = key.index(u64::from(stored.iteration)).child("confidence");
    let decision =
        settings.decide(lanes, stored.probe_gold, queries, (previous, key)).map_err(|cause| {
            let iteration = stored.iteration;
            Unanswerable::Search { iteration, cause }
        })?;
    let samples = settings.samples_of(&decision);
    let is_stored = decision.configuration().sampling() == stored.draw.sampling()
        && samples <= drawn(stored.draw);
    if !is_stored {
        let ranking = settings.ranking_of(&decision);
        return Ok(Answer { decision, ranking, selected: None });
    }
    let draw = stored.draw.first(queries, samples);
    let balance = settings.balance_rule(queries, queries);
    let balance = balance.with_cap(decision.knobs.fixed_cap);
    let gold = stored.draw_gold;
    let decision = settings.settle(decision, &draw, gold, &balance, previous);
    let ranking = settings.ranking_of(&decision);
    let selection = select(&draw, gold, &ranking, &balance, decision.threshold);
    Ok(Answer { decision, ranking, selected: Some((draw, selection)) })
}

/// The lanes of the candidates, cut to the wanted queries and samples. A search is run once more on
/// them and says itself what it lacks.
fn lanes_of(
    settings: &ImproveSettings,
    stored: &StoredRollouts<'_>,
) -> Result<Vec<Lane>, Unanswerable> {
    let candidates = settings.controller.candidates();
    let find = |way: &Sampling| stored.probes.iter().find(|lane| lane.pool.sampling() == *way);
    let searches = settings.search.draws_ahead();
    let wanted: Vec<Sampling> =
        candidates.iter().copied().filter(|way| !searches && find(way).is_none()).collect();
    if !wanted.is_empty() {
        let stored_at = stored.probes.iter().map(|lane| lane.pool.sampling()).collect();
        let iteration = stored.iteration;
        return Err(Unanswerable::Temperatures { iteration, wanted, stored: stored_at });
    }
    let most = if searches { usize::MAX } else { settings.probe_queries };
    let lane = |way: &Sampling| match find(way) {
        Some(lane) => lane.first(most, settings.samples_per_query),
        None => {
            Lane::plain(Pool { temperature: way.temperature, top_p: way.top_p, groups: Vec::new() })
        }
    };
    Ok(candidates.iter().map(lane).collect())
}

/// Samples of a query that a draw holds.
fn drawn(draw: &Pool) -> usize {
    let indices = draw.groups.iter().flatten().map(|response| response.sample_index as usize + 1);
    indices.max().unwrap_or(usize::MAX)
}
