//! More knobs than temperature and threshold, chosen by the same balance score (the paper's future
//! work): top-p, samples per query, a cap.
//!
//! Each is a list of values; an empty list leaves the knob alone, and then nothing changes. What a
//! knob costs decides how it is chosen:
//!
//! - **top-p** is a way to sample, as the temperature is: every pair of both is a candidate that is
//!   probed or races. It costs probe responses and has no price beside these.
//! - **k** costs nothing to measure: the first k samples of a probe group are, by their coordinates,
//!   what a draw of k would have been. More samples never lower what there is to select from, so the
//!   balance score alone would take the most; hence a price: the smallest k whose best cell falls
//!   short of the best of all by no more than a given share.
//! - **cap** costs nothing either: the same rankings are cut at another length.
//!
//! Optimizer steps cannot be read off a probe; they are in `crate::stretches`.

use crate::balance::{BalanceRule, CapRule, Cell, RankedPool};
use crate::pool::Pool;
use crate::ranking::RankingRule;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the responses of a candidate are sampled.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Sampling {
    /// Temperature t.
    pub temperature: f64,
    /// Top-p, where it is a knob; else that of the run's decoding holds.
    pub top_p: Option<f64>,
}

impl fmt::Display for Sampling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.top_p {
            None => write!(formatter, "{}", self.temperature),
            Some(top_p) => write!(formatter, "{} with top-p {top_p}", self.temperature),
        }
    }
}

/// The settings of the knobs beside temperature and threshold; none where a knob is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Knobs {
    /// Top-p.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Samples per query (k).
    #[serde(default, rename = "k", skip_serializing_if = "Option::is_none")]
    pub samples: Option<u32>,
    /// The most responses taken of a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_cap: Option<u32>,
}

impl fmt::Display for Knobs {
    /// Those that are turned, such as `top-p 0.9, k 12, cap 4`; nothing where none is.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let turned = [
            self.top_p.map(|top_p| format!("top-p {top_p}")),
            self.samples.map(|samples| format!("k {samples}")),
            self.fixed_cap.map(|cap| format!("cap {cap}")),
        ];
        formatter.write_str(&turned.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// The values that the knobs may take; an empty list leaves a knob alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnobGrid {
    /// Values of top-p, ascending.
    pub top_p: Vec<f64>,
    /// Values of k, ascending; none above the samples of the probe.
    pub samples: Vec<u32>,
    /// The share of the best balance score that a smaller k may fall short of it.
    pub samples_tolerance: f64,
    /// Caps, ascending; 0 is the cap that the run has without this knob.
    pub caps: Vec<u32>,
    /// Optimizer steps after which an iteration's training may end, ascending; see
    /// `crate::stretches`.
    pub steps: Vec<usize>,
    /// Validation queries that are answered after each of them.
    pub steps_queries: usize,
    /// Standard errors that the gain of a stretch must exceed for training to go on.
    pub steps_margin: f64,
}

impl KnobGrid {
    /// Every way to sample: all temperatures at the first top-p, then at the next.
    pub fn samplings(&self, temperatures: &[f64]) -> Vec<Sampling> {
        let at =
            |top_p| temperatures.iter().map(move |&temperature| Sampling { temperature, top_p });
        if self.top_p.is_empty() {
            return at(None).collect();
        }
        self.top_p.iter().flat_map(|&top_p| at(Some(top_p))).collect()
    }

    /// Settings of k and cap that every way to sample is scored with.
    pub fn settings(&self) -> usize {
        self.samples.len().max(1) * self.caps.len().max(1)
    }

    /// The rankings of a probed pool at each k.
    pub fn ranked(&self, pool: &Pool, gold: &[Option<u64>], rule: &RankingRule) -> Vec<RankedPool> {
        if self.samples.is_empty() {
            return vec![RankedPool::new(pool, gold, rule)];
        }
        let of = |&samples: &u32| {
            let mut ranked = RankedPool::new(&pool.first(usize::MAX, samples as usize), gold, rule);
            ranked.knobs.samples = Some(samples);
            ranked
        };
        self.samples.iter().map(of).collect()
    }

    /// The balance rule with each cap.
    pub fn rules(&self, rule: &BalanceRule) -> Vec<BalanceRule> {
        if self.caps.is_empty() {
            return vec![*rule];
        }
        self.caps.iter().map(|&cap| rule.with_cap(Some(cap).filter(|cap| *cap > 0))).collect()
    }

    /// The best cell of the smallest k that is good enough, where k is a knob; else `best`.
    pub fn economise(
        &self,
        grid: &[Cell],
        best: Cell,
        choose_of: &dyn Fn(&[Cell]) -> Option<Cell>,
    ) -> Cell {
        let enough = best.balance_score * (1.0 - self.samples_tolerance);
        let of = |&samples: &u32| {
            let cells = grid.iter().filter(|cell| cell.knobs.samples == Some(samples));
            let cells: Vec<Cell> = cells.copied().collect();
            choose_of(&cells).filter(|cell| cell.balance_score >= enough)
        };
        self.samples.iter().find_map(of).unwrap_or(best)
    }
}

impl BalanceRule {
    /// The same rule with this cap on every query; none leaves it as it is.
    #[must_use]
    pub fn with_cap(self, cap: Option<u32>) -> Self {
        Self { cap: cap.map_or(self.cap, CapRule::Fixed), ..self }
    }
}
