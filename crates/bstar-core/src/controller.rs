//! The controller: which (temperature, threshold) an iteration uses (paper Algorithm 1, line 3).
//!
//! It holds two grids and says which of the two knobs it may turn. Candidates are measured on the
//! probe set; the decision is the cell with the highest balance score, ties broken by a documented
//! rule, and carries the whole grid so that the choice can be checked afterwards.

use crate::balance::{BalanceRule, Cell, RankedPool};
use crate::pool::Pool;
use crate::ranking::RankingRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scores that differ by less than this are a tie.
const TIE: f64 = 1e-12;

/// Which knobs the controller turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Adaptation {
    /// None: a fixed configuration, nothing is probed.
    Fixed,
    /// The temperature only.
    Temperature,
    /// The threshold only.
    Threshold,
    /// Temperature and threshold (B-STaR).
    Both,
}

/// How equal scores are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TieRule {
    /// More unique correct responses; then nearest to the previous configuration; then the lower
    /// temperature; then the threshold nearest to 0; then the lower threshold (spec §1.7, 10).
    Documented,
    /// The first in grid order: lowest temperature, lowest threshold (authors' code).
    FirstFound,
}

/// Which rollouts the threshold is chosen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdSource {
    /// The probe set, together with the temperature (paper).
    Probe,
    /// The whole draw of the iteration, at the temperature that the probe chose (authors' code).
    FullDraw,
}

/// A temperature with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Sampling temperature t.
    pub temperature: f64,
    /// Reward threshold τ.
    pub threshold: f64,
}

/// The configuration of an iteration and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Sampling temperature t.
    pub temperature: f64,
    /// Reward threshold τ.
    pub threshold: f64,
    /// Balance score of the chosen cell; none for a fixed configuration.
    pub balance_score: Option<f64>,
    /// n*, as used for the grid.
    pub target_count: u32,
    /// What the threshold was chosen on.
    pub threshold_from: ThresholdSource,
    /// Every cell that was scored on the probe set.
    pub grid: Vec<Cell>,
    /// Every cell that was scored on the whole draw, where the threshold is chosen on that.
    pub full_grid: Vec<Cell>,
}

impl Decision {
    /// The chosen pair.
    pub fn configuration(&self) -> Configuration {
        Configuration { temperature: self.temperature, threshold: self.threshold }
    }
}

/// Chooses the configuration of each iteration.
#[derive(Clone, Debug, PartialEq)]
pub struct Controller {
    /// Which knobs are turned.
    pub adaptation: Adaptation,
    /// Used as it is, or for the knob that is not turned.
    pub fixed: Configuration,
    /// Temperatures to try, ascending.
    pub temperatures: Vec<f64>,
    /// Thresholds to try, ascending.
    pub thresholds: Vec<f64>,
    /// Ties.
    pub ties: TieRule,
    /// What the threshold is chosen on.
    pub threshold_from: ThresholdSource,
}

impl Controller {
    /// Temperatures that must be probed; empty for a fixed configuration.
    pub fn candidates(&self) -> Vec<f64> {
        match self.adaptation {
            Adaptation::Fixed => Vec::new(),
            Adaptation::Threshold => vec![self.fixed.temperature],
            Adaptation::Temperature | Adaptation::Both => self.temperatures.clone(),
        }
    }

    /// Thresholds that are tried at each temperature.
    pub fn thresholds(&self) -> Vec<f64> {
        match self.adaptation {
            Adaptation::Fixed | Adaptation::Temperature => vec![self.fixed.threshold],
            Adaptation::Threshold | Adaptation::Both => self.thresholds.clone(),
        }
    }

    /// Chooses from probe pools, one for each candidate temperature.
    pub fn decide(
        &self,
        probes: &[Pool],
        gold: &[Option<u64>],
        ranking: &RankingRule,
        balance: &BalanceRule,
        previous: Option<Configuration>,
    ) -> Decision {
        let grid = surface(probes, gold, ranking, balance, &self.thresholds());
        let chosen = choose(&grid, self.ties, previous);
        let configuration = chosen.map_or(self.fixed, configuration_of);
        Decision {
            temperature: configuration.temperature,
            threshold: configuration.threshold,
            balance_score: chosen.map(|cell| cell.balance_score),
            target_count: balance.target_count,
            threshold_from: self.threshold_from,
            grid,
            full_grid: Vec::new(),
        }
    }

    /// Where the threshold is chosen on the whole draw, chooses it there; else changes nothing.
    #[must_use]
    pub fn settle(
        &self,
        decision: Decision,
        draw: &Pool,
        gold: &[Option<u64>],
        ranking: &RankingRule,
        balance: &BalanceRule,
        previous: Option<Configuration>,
    ) -> Decision {
        let turns_threshold = matches!(self.adaptation, Adaptation::Threshold | Adaptation::Both);
        if self.threshold_from == ThresholdSource::Probe || !turns_threshold {
            return decision;
        }
        let pools = std::slice::from_ref(draw);
        let full_grid = surface(pools, gold, ranking, balance, &self.thresholds());
        let Some(chosen) = choose(&full_grid, self.ties, previous) else {
            return decision;
        };
        Decision {
            threshold: chosen.threshold,
            balance_score: Some(chosen.balance_score),
            full_grid,
            ..decision
        }
    }
}

/// Scores every threshold at every pool's temperature; cells in the order of pools, then
/// thresholds. One sort per query and pool.
pub fn surface(
    pools: &[Pool],
    gold: &[Option<u64>],
    ranking: &RankingRule,
    balance: &BalanceRule,
    thresholds: &[f64],
) -> Vec<Cell> {
    let cells_of = |pool: &Pool| {
        let ranked = RankedPool::new(pool, gold, ranking);
        thresholds.iter().map(|&threshold| ranked.cell(threshold, balance)).collect::<Vec<_>>()
    };
    pools.iter().flat_map(cells_of).collect()
}

/// The cell with the highest balance score; `None` of an empty grid.
pub fn choose(grid: &[Cell], ties: TieRule, previous: Option<Configuration>) -> Option<Cell> {
    let mut best: Option<Cell> = None;
    for &cell in grid {
        let wins = best.is_none_or(|best| match ties {
            TieRule::FirstFound => cell.balance_score > best.balance_score,
            TieRule::Documented => wins(&cell, &best, previous),
        });
        if wins {
            best = Some(cell);
        }
    }
    best
}

/// Whether `cell` comes before `best` under [`TieRule::Documented`].
fn wins(cell: &Cell, best: &Cell, previous: Option<Configuration>) -> bool {
    if (cell.balance_score - best.balance_score).abs() > TIE {
        return cell.balance_score > best.balance_score;
    }
    let distance = |cell: &Cell| {
        previous.map_or(0.0, |previous| {
            (cell.temperature - previous.temperature).abs()
                + (cell.threshold - previous.threshold).abs()
        })
    };
    let near = |a: f64, b: f64| {
        if (a - b).abs() <= TIE { std::cmp::Ordering::Equal } else { a.total_cmp(&b) }
    };
    best.correct
        .cmp(&cell.correct)
        .then(near(distance(cell), distance(best)))
        .then(near(cell.temperature, best.temperature))
        .then(near(cell.threshold.abs(), best.threshold.abs()))
        .then(near(cell.threshold, best.threshold))
        .is_lt()
}

fn configuration_of(cell: Cell) -> Configuration {
    Configuration { temperature: cell.temperature, threshold: cell.threshold }
}
