//! The controller: which (temperature, threshold) an iteration uses (paper Algorithm 1, line 3).
//!
//! It holds two grids and says which of the two knobs it may turn. Candidates are measured on the
//! probe set; the decision is the cell with the highest balance score, ties broken by a documented
//! rule, and carries the whole grid so that the choice can be checked afterwards.

use crate::balance::{BalanceRule, Cell, RankedPool};
use crate::calibration::Calibration;
use crate::confidence::{Confidence, Difference, Scores};
use crate::pool::Pool;
use crate::race::RaceRecord;
use crate::ranking::RankingRule;
use crate::rng::RngKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// How sure the scores of `grid` are; none in logs of older versions and for a fixed
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// The better cell that hysteresis held back from, where it did: the gain is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<Difference>,
    /// The race that the temperature won, where there was one; `grid` is then of the winner alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub race: Option<RaceRecord>,
    /// What reward-model scores were ranked in, where they are ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Arc<Calibration>>,
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
    /// Stay with the previous configuration unless the best cell of the probe set exceeds it by more
    /// than so many standard errors of their paired difference; 0 always moves (paper).
    pub hysteresis: f64,
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

    /// Chooses from probe pools, one for each candidate temperature. `key` seeds the bootstrap, which
    /// decides nothing.
    pub fn decide(
        &self,
        probes: &[Pool],
        gold: &[Option<u64>],
        ranking: &RankingRule,
        balance: &BalanceRule,
        (previous, key): (Option<Configuration>, RngKey),
    ) -> Decision {
        let ranked: Vec<RankedPool> =
            probes.iter().map(|pool| RankedPool::new(pool, gold, ranking)).collect();
        let grid = cells(&ranked, balance, &self.thresholds());
        let scores = Scores::of(&ranked, &grid, balance);
        let best = choose(&grid, self.ties, previous);
        let best = best.and_then(|best| grid.iter().position(|cell| *cell == best));
        let held = best.and_then(|best| self.hold(&grid, &scores, best, previous));
        let chosen = held.map(|(cell, _)| cell).or(best).map(|cell| grid[cell]);
        let configuration = chosen.map_or(self.fixed, configuration_of);
        Decision {
            temperature: configuration.temperature,
            threshold: configuration.threshold,
            balance_score: chosen.map(|cell| cell.balance_score),
            target_count: balance.target_count,
            threshold_from: self.threshold_from,
            confidence: best.map(|best| scores.confidence(&grid, Some(best), key)),
            held_back: held.map(|(_, difference)| difference),
            race: None,
            calibration: ranking.calibration.clone(),
            grid,
            full_grid: Vec::new(),
        }
    }

    /// The previous cell, where the gain of the best one is within its noise, with that gain.
    fn hold(
        &self,
        grid: &[Cell],
        scores: &Scores,
        best: usize,
        previous: Option<Configuration>,
    ) -> Option<(usize, Difference)> {
        let is_previous = |cell: &Cell| Some(configuration_of(*cell)) == previous;
        let held = grid.iter().position(is_previous).filter(|_| self.hysteresis > 0.0)?;
        let difference = scores.difference(grid, best, held);
        let within = difference.gain <= self.hysteresis * difference.standard_error;
        let configuration = configuration_of(grid[best]);
        (held != best && within).then_some((held, Difference { configuration, ..difference }))
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
    let ranked: Vec<RankedPool> =
        pools.iter().map(|pool| RankedPool::new(pool, gold, ranking)).collect();
    cells(&ranked, balance, thresholds)
}

/// The cells of ranked pools, thresholds changing fastest.
pub fn cells(ranked: &[RankedPool], balance: &BalanceRule, thresholds: &[f64]) -> Vec<Cell> {
    let of_pool = |pool: &RankedPool| {
        thresholds.iter().map(|&threshold| pool.cell(threshold, balance)).collect::<Vec<_>>()
    };
    ranked.iter().flat_map(of_pool).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{CapRule, EmptyQueries};
    use crate::pool::ScoredResponse;
    use crate::preset::Preset;
    use crate::reward::RewardKind;
    use crate::rollout::Verdict;

    /// 0.5 and 1.0 differ by little and noisily, 1.5 is better than both by much.
    fn probes() -> Vec<Pool> {
        let group = |count: u32| {
            (0..count)
                .map(|i| ScoredResponse::new(i, &format!("{i}"), Verdict::Correct, None))
                .collect()
        };
        let pool = |temperature, correct: &dyn Fn(u32) -> u32| Pool {
            temperature,
            groups: (0..40).map(|query| group(correct(query))).collect(),
        };
        let noisy = |query| query % 3 + u32::from(query % 20 == 7);
        vec![pool(0.5, &|query| (query + 1) % 3), pool(1.0, &noisy), pool(1.5, &|q| 2 + q % 2)]
    }

    fn decide(probes: &[Pool], hysteresis: f64, previous: Option<f64>) -> Decision {
        let controller = Controller {
            adaptation: Adaptation::Both,
            fixed: Configuration { temperature: 1.0, threshold: 0.0 },
            temperatures: vec![0.5, 1.0, 1.5],
            thresholds: vec![-0.5, 0.0],
            ties: TieRule::Documented,
            threshold_from: ThresholdSource::Probe,
            hysteresis,
        };
        let ranking = Preset::Recommended.values().ranking(RewardKind::Answer);
        let balance = BalanceRule {
            target_count: 4,
            cap: CapRule::Uncapped,
            empty_queries: EmptyQueries::Zero,
        };
        let previous = previous.map(|temperature| Configuration { temperature, threshold: 0.0 });
        controller.decide(probes, &[], &ranking, &balance, (previous, RngKey::from_seed(1)))
    }

    #[test]
    fn a_gain_within_the_noise_does_not_move_the_configuration() {
        let near = &probes()[..2];
        let free = decide(near, 0.0, Some(0.5));
        assert_eq!((free.temperature, free.held_back), (1.0, None), "the paper moves");
        let held = decide(near, 1.0, Some(0.5));
        assert_eq!((held.temperature, held.threshold), (0.5, 0.0));
        let from = held.held_back.expect("a better cell was passed over");
        assert_eq!(from.configuration.temperature, 1.0);
        assert!(from.gain > 0.0 && from.gain <= from.standard_error, "{from:?}");
        let score = held.balance_score.expect("a probed cell");
        assert!(score < free.balance_score.expect("a probed cell"));
        assert_eq!(held.confidence, free.confidence, "the surface is the same");
    }

    #[test]
    fn a_gain_beyond_the_noise_moves_it() {
        let decision = decide(&probes(), 3.0, Some(0.5));
        assert_eq!((decision.temperature, decision.held_back), (1.5, None));
        let chances = decision.confidence.expect("probed").temperatures;
        assert!(chances[2].chance > 0.99, "{chances:?}");
        assert_eq!(decide(&probes(), 3.0, None).temperature, 1.5, "nothing to stay with");
        assert_eq!(decide(&probes(), 3.0, Some(0.7)).temperature, 1.5, "not a candidate any more");
    }

    #[test]
    fn decisions_of_older_logs_are_read() {
        let decision = decide(&probes(), 0.0, None);
        let mut json = serde_json::to_value(&decision).expect("JSON");
        json.as_object_mut().expect("an object").remove("confidence");
        let old: Decision = serde_json::from_value(json).expect("an old decision");
        assert_eq!(old, Decision { confidence: None, ..decision });
    }
}
