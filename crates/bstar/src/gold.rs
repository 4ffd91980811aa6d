//! Hashes of gold solutions for verbs that read stored rollouts, where these compete in the ranking.
//!
//! Rollouts do not hold gold solutions; the data do, as far as they can be read.

use crate::commands::run::load_task;
use crate::config::Config;
use crate::config::layers::Loaded;
use crate::output::Notes;
use bstar_core::QueryId;
use bstar_core::pool::exact_hash;
use bstar_core::ports::Task as _;
use bstar_core::ranking::GoldSolutions;
use std::collections::BTreeMap;

/// The gold solutions of the training queries that have one.
pub(crate) struct GoldHashes {
    /// None where they compete and the data cannot be read.
    by_query: Option<BTreeMap<QueryId, u64>>,
}

impl GoldHashes {
    /// Those of the first config in which gold solutions compete. Without the data it says so, and each
    /// query gets one that equals no response.
    pub(crate) fn of(loaded: &[&Loaded], notes: Notes) -> Self {
        let Some(loaded) = loaded.iter().find(|loaded| compete(&loaded.config)) else {
            return Self { by_query: Some(BTreeMap::new()) };
        };
        match load_task(loaded) {
            Ok(task) => {
                let hash = |text: &String| exact_hash(text);
                let queries = task.train().iter();
                let known = queries.filter_map(|query| {
                    Some((query.id.clone(), query.gold_solution.as_ref().map(hash)?))
                });
                Self { by_query: Some(known.collect()) }
            }
            Err(fault) => {
                notes.tell(&format!(
                    "note: gold solutions compete and their data cannot be read ({fault}): each \
                     query gets one that equals no response"
                ));
                Self { by_query: None }
            }
        }
    }

    /// Whether the data could be read, if they were needed.
    pub(crate) fn are_known(&self) -> bool {
        self.by_query.is_some()
    }

    /// For each query its gold solution, if it has one; nothing at all where gold does not compete.
    pub(crate) fn of_queries(&self, queries: &[QueryId], config: &Config) -> Vec<Option<u64>> {
        if !compete(config) {
            return Vec::new();
        }
        let of = |id: &QueryId| match &self.by_query {
            Some(by_query) => by_query.get(id).copied(),
            None => Some(stand_in(id)),
        };
        queries.iter().map(of).collect()
    }
}

fn compete(config: &Config) -> bool {
    config.selection.gold_solutions == GoldSolutions::Compete
}

/// The hash of a gold solution that nobody has read: it equals no response.
pub(crate) fn stand_in(id: &QueryId) -> u64 {
    exact_hash(&format!("\u{0}gold solution of {id}"))
}
