//! What other settings would have chosen and selected from the stored rollouts of an iteration.
//!
//! No model is asked: settings that only read rollouts (grids, n*, reward, cap, duplicates, a smaller
//! k or fewer queries) are applied to what lies there, by the functions that the loop itself uses.
//! With the run's own settings the answer is the run's own decision and selection.
//!
//! What cannot be known is left open: where another temperature is chosen, nobody drew the training
//! rollouts of it.

use crate::controller::{Configuration, Decision};
use crate::improve::ImproveSettings;
use crate::pool::Pool;
use crate::race::Search;
use crate::ranking::RankingRule;
use crate::rng::RngKey;
use crate::selection::{Selection, select};
use thiserror::Error;

/// What an iteration left on disk, over its queries in the order in which they were drawn.
#[derive(Clone, Copy, Debug)]
pub struct StoredRollouts<'a> {
    /// The iteration.
    pub iteration: u32,
    /// Probe rollouts, one pool for each temperature.
    pub probes: &'a [Pool],
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
    /// it; none where the decision is for another temperature than the draw's.
    pub selected: Option<(Pool, Selection)>,
}

/// Settings that the stored rollouts cannot answer.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Unanswerable {
    /// Temperatures that were not probed.
    #[error(
        "iteration {iteration} was not probed at temperature {}; it was at {}",
        list(wanted),
        list(stored)
    )]
    Temperatures {
        /// The iteration.
        iteration: u32,
        /// Wanted and not there.
        wanted: Vec<f64>,
        /// There.
        stored: Vec<f64>,
    },
}

fn list(values: &[f64]) -> String {
    if values.is_empty() {
        return "none".into();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Decides and selects by `settings` from what is stored. `previous` is the configuration of the
/// iteration before.
pub fn answer(
    settings: &ImproveSettings,
    stored: &StoredRollouts<'_>,
    previous: Option<Configuration>,
) -> Result<Answer, Unanswerable> {
    let samples = settings.samples_per_query;
    let queries = match settings.queries_per_iteration {
        0 => stored.draw.groups.len(),
        wanted => wanted.min(stored.draw.groups.len()),
    };
    let probes = probes_of(settings, stored)?;
    let key = RngKey::from_seed(settings.seed).child("iteration");
    let key = key.index(u64::from(stored.iteration)).child("confidence");
    let decision = settings.decide(probes, stored.probe_gold, queries, (previous, key));
    if decision.temperature != stored.draw.temperature {
        let ranking = settings.ranking_of(&decision);
        return Ok(Answer { decision, ranking, selected: None });
    }
    let draw = first(stored.draw, queries, samples);
    let balance = settings.balance_rule(queries, queries);
    let gold = stored.draw_gold;
    let decision = settings.settle(decision, &draw, gold, &balance, previous);
    let ranking = settings.ranking_of(&decision);
    let selection = select(&draw, gold, &ranking, &balance, decision.threshold);
    Ok(Answer { decision, ranking, selected: Some((draw, selection)) })
}

/// The pools of the candidates, cut to the wanted queries and samples.
fn probes_of(
    settings: &ImproveSettings,
    stored: &StoredRollouts<'_>,
) -> Result<Vec<Pool>, Unanswerable> {
    let candidates = settings.controller.candidates();
    let find = |t: &f64| stored.probes.iter().find(|pool| pool.temperature == *t);
    let wanted: Vec<f64> = candidates.iter().copied().filter(|t| find(t).is_none()).collect();
    if !wanted.is_empty() {
        let stored_at = stored.probes.iter().map(|pool| pool.temperature).collect();
        let iteration = stored.iteration;
        return Err(Unanswerable::Temperatures { iteration, wanted, stored: stored_at });
    }
    let pools = candidates.iter().filter_map(find);
    let most = match settings.search {
        Search::Exhaustive => settings.probe_queries,
        Search::Racing => usize::MAX,
    };
    Ok(pools.map(|pool| first(pool, most, settings.samples_per_query)).collect())
}

/// The first queries of a pool and the first samples of each: what a smaller draw of the same run
/// would have drawn, since a rollout depends on its coordinates only.
fn first(pool: &Pool, queries: usize, samples: usize) -> Pool {
    let wanted = |index: u32| (index as usize) < samples;
    let groups = pool.groups.iter().take(queries);
    let cut =
        groups.map(|group| group.iter().filter(|r| wanted(r.sample_index)).copied().collect());
    Pool { temperature: pool.temperature, groups: cut.collect() }
}
