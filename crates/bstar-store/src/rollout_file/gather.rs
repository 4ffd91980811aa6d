//! Scored responses gathered into pools, query by query, as rows come by in any order.

use super::scored::{ScoredRollouts, Wanted};
use super::{ReadNotes, RolloutFileError};
use bstar_core::knobs::Sampling;
use bstar_core::pool::{Pool, ScoredResponse, exact_hash};
use bstar_core::{QueryId, Stage, Verdict};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// A row on its way into a pool.
pub(super) struct Entry<'a> {
    pub(super) query: &'a str,
    pub(super) temperature: f64,
    pub(super) top_p: Option<f64>,
    pub(super) sample_index: Option<u32>,
    pub(super) text: &'a str,
    pub(super) verdict: Verdict,
    pub(super) score: Option<f64>,
    pub(super) gold: Option<&'a str>,
    pub(super) origin: Origin,
}

/// Where a row stands, and what tells it from rows of equal query, sampling and sample index.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) file: usize,
    pub(super) row: u64,
    pub(super) iteration: Option<u32>,
    pub(super) stage: Option<Stage>,
}

/// What has been read so far.
#[derive(Default)]
pub(super) struct Gathered {
    wanted: Wanted,
    populations: BTreeSet<(Option<u32>, Option<Stage>)>,
    greedy: u64,
    pub(super) notes: ReadNotes,
    queries: Vec<QueryId>,
    gold: Vec<Option<u64>>,
    /// Asked, never walked.
    places: HashMap<String, usize>,
    /// The query of the row before, which most rows share.
    latest_query: usize,
    pools: Vec<GrowingPool>,
    latest_pool: usize,
}

struct GrowingPool {
    sampling: Sampling,
    groups: Vec<Group>,
}

#[derive(Default)]
struct Group {
    responses: Vec<ScoredResponse>,
    origins: Vec<Origin>,
    unnumbered: u32,
}

impl Gathered {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, ..Self::default() }
    }

    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        let Wanted { iteration, stage } = self.wanted;
        let Origin { iteration: of_row, stage: stage_of_row, .. } = entry.origin;
        let left_out = iteration.is_some_and(|wanted| of_row != Some(wanted))
            || stage.is_some_and(|wanted| stage_of_row != Some(wanted));
        if left_out {
            return;
        }
        if entry.temperature == 0.0 {
            self.greedy += 1;
            return;
        }
        self.populations.insert((of_row, stage_of_row));
        let query = self.query(entry.query);
        if let (None, Some(gold)) = (self.gold[query], entry.gold) {
            self.gold[query] = Some(exact_hash(gold));
        }
        let Entry { temperature, top_p, .. } = *entry;
        let pool = self.pool(Sampling { temperature, top_p });
        let groups = &mut self.pools[pool].groups;
        if groups.len() <= query {
            groups.resize_with(query + 1, Group::default);
        }
        let group = &mut groups[query];
        let sample_index = entry.sample_index.unwrap_or_else(|| {
            group.unnumbered += 1;
            group.unnumbered - 1
        });
        let response = ScoredResponse::new(sample_index, entry.text, entry.verdict, entry.score);
        group.responses.push(response);
        group.origins.push(entry.origin);
    }

    pub(super) fn finish(mut self, paths: &[PathBuf]) -> Result<ScoredRollouts, RolloutFileError> {
        // No top-p comes before any.
        let place =
            |pool: &GrowingPool| (pool.sampling.temperature, pool.sampling.top_p.unwrap_or(0.0));
        self.pools.sort_by(|a, b| {
            let (a, b) = (place(a), place(b));
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let mut pools = Vec::with_capacity(self.pools.len());
        for mut pool in self.pools {
            pool.groups.resize_with(self.queries.len(), Group::default);
            for (group, query) in pool.groups.iter().zip(&self.queries) {
                refuse_duplicates(group, query, pool.sampling.temperature, paths)?;
            }
            let groups = pool.groups.into_iter().map(|group| group.responses).collect();
            let Sampling { temperature, top_p } = pool.sampling;
            pools.push(Pool { temperature, top_p, groups });
        }
        Ok(ScoredRollouts {
            queries: self.queries,
            pools,
            populations: self.populations.into_iter().collect(),
            greedy: self.greedy,
            gold: self.gold,
            notes: self.notes,
        })
    }

    fn query(&mut self, id: &str) -> usize {
        if self.queries.get(self.latest_query).is_some_and(|latest| latest.as_str() == id) {
            return self.latest_query;
        }
        self.latest_query = if let Some(&place) = self.places.get(id) {
            place
        } else {
            self.places.insert(id.to_owned(), self.queries.len());
            self.queries.push(id.into());
            self.gold.push(None);
            self.queries.len() - 1
        };
        self.latest_query
    }

    fn pool(&mut self, sampling: Sampling) -> usize {
        let is_it = |pool: &GrowingPool| pool.sampling == sampling;
        if !self.pools.get(self.latest_pool).is_some_and(is_it) {
            self.latest_pool = self.pools.iter().position(is_it).unwrap_or_else(|| {
                self.pools.push(GrowingPool { sampling, groups: Vec::new() });
                self.pools.len() - 1
            });
        }
        self.latest_pool
    }
}

fn refuse_duplicates(
    group: &Group,
    query: &QueryId,
    temperature: f64,
    paths: &[PathBuf],
) -> Result<(), RolloutFileError> {
    let key = |&index: &usize| {
        let origin = &group.origins[index];
        (group.responses[index].sample_index, origin.iteration, origin.stage)
    };
    let mut order: Vec<usize> = (0..group.responses.len()).collect();
    // The sort is stable, so the first of two equal samples is the one that was read first.
    order.sort_by_key(key);
    let Some(pair) = order.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) else {
        return Ok(());
    };
    let (first, second) = (&group.origins[pair[0]], &group.origins[pair[1]]);
    Err(RolloutFileError::Duplicate {
        query_id: query.to_string(),
        temperature,
        sample_index: group.responses[pair[0]].sample_index,
        path: paths[first.file].clone(),
        row: first.row,
        other_path: paths[second.file].clone(),
        other_row: second.row,
    })
}
