//! The controller: which (temperature, threshold) an iteration uses (paper Algorithm 1, line 3).
//!
//! It holds two grids and says which of the two knobs it may turn; [`crate::knobs`] adds further
//! ones. Candidates are measured on the probe set; the decision is the cell with the highest balance
//! score, ties broken by a documented
//! rule, and carries the whole grid so that the choice can be checked afterwards.

use crate::balance::{BalanceRule, Cell, RankedPool};
use crate::calibration::Calibration;
use crate::confidence::{Confidence, Difference, Scores};
use crate::knobs::{KnobGrid, Knobs, Sampling};
use crate::pool::Pool;
use crate::ranking::RankingRule;
use crate::rng::RngKey;
use crate::rollout::Rollout;
use crate::search::SearchRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Scores that differ by less than this are a tie, which more queries would not tell apart.
pub(crate) const TIE: f64 = 1e-12;

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
    /// Temperature and threshold (B-STaR), and further knobs where they are given values.
    Both,
}

impl Adaptation {
    /// Whether the knobs beside temperature and threshold may be turned ([`crate::knobs`]).
    pub fn turns_knobs(self) -> bool {
        self == Self::Both
    }
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

/// A temperature with a threshold, and the further knobs where these are turned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Sampling temperature t.
    pub temperature: f64,
    /// Reward threshold τ.
    pub threshold: f64,
    /// The other knobs.
    #[serde(flatten)]
    pub knobs: Knobs,
}

impl Configuration {
    /// A temperature with a threshold, no other knob turned.
    pub fn new(temperature: f64, threshold: f64) -> Self {
        Self { temperature, threshold, knobs: Knobs::default() }
    }

    /// How its responses are sampled.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.knobs.top_p }
    }

    /// Whether a draw with it holds this rollout.
    pub fn draws(&self, rollout: &Rollout) -> bool {
        let is_within = |samples: u32| rollout.sample_index < samples;
        rollout.sampling() == self.sampling() && self.knobs.samples.is_none_or(is_within)
    }
}

/// The configuration of an iteration and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Sampling temperature t.
    pub temperature: f64,
    /// Reward threshold τ.
    pub threshold: f64,
    /// The other knobs.
    #[serde(flatten)]
    pub knobs: Knobs,
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
    /// The better cell of a larger k that was not worth its price, where k is a knob: the gain is
    /// its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub economised: Option<Difference>,
    /// The race or the re-weighting that the temperature won, where there was one; `grid` is then of
    /// the winner alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub race: Option<SearchRecord>,
    /// What reward-model scores were ranked in, where they are ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Arc<Calibration>>,
}

impl Decision {
    /// The strongest rival of the best candidate: of the whole surface, or else of the search.
    pub fn rival(&self) -> Option<Difference> {
        let of_race = || self.race.as_ref().and_then(|search| search.rival);
        self.confidence.as_ref().and_then(|confidence| confidence.rival).or_else(of_race)
    }

    /// The rival that leaves the best candidate in doubt; none where the resamples are sure of that.
    pub fn open_rival(&self) -> Option<Difference> {
        let is_sure = self.confidence.as_ref().is_some_and(|known| known.sure_chance().is_some());
        self.rival().filter(|rival| !is_sure && rival.more_queries != Some(0))
    }

    /// What was chosen.
    pub fn configuration(&self) -> Configuration {
        let Self { temperature, threshold, knobs, .. } = *self;
        Configuration { temperature, threshold, knobs }
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
    /// Further knobs; all are left alone by default.
    pub knobs: KnobGrid,
}

impl Controller {
    /// What must be probed; empty for a fixed configuration.
    pub fn candidates(&self) -> Vec<Sampling> {
        match self.adaptation {
            Adaptation::Fixed => Vec::new(),
            Adaptation::Threshold => self.knobs.samplings(&[self.fixed.temperature]),
            Adaptation::Temperature | Adaptation::Both => self.knobs.samplings(&self.temperatures),
        }
    }

    /// Thresholds that are tried at each temperature.
    pub fn thresholds(&self) -> Vec<f64> {
        match self.adaptation {
            Adaptation::Fixed | Adaptation::Temperature => vec![self.fixed.threshold],
            Adaptation::Threshold | Adaptation::Both => self.thresholds.clone(),
        }
    }

    /// Chooses from probe pools, one for each candidate. `key` seeds the bootstrap, which
    /// decides nothing.
    pub fn decide(
        &self,
        probes: &[Pool],
        gold: &[Option<u64>],
        ranking: &RankingRule,
        balance: &BalanceRule,
        (previous, key): (Option<Configuration>, RngKey),
    ) -> Decision {
        let of_pool = |pool| self.knobs.ranked(pool, gold, ranking);
        let ranked: Vec<RankedPool> = probes.iter().flat_map(of_pool).collect();
        let grid = self.cells(&ranked, balance);
        let scores = Scores::of(&ranked, &grid, balance);
        let choose = |cells: &[Cell]| choose(cells, self.ties, previous);
        let place = |wanted: Cell| grid.iter().position(|cell| *cell == wanted);
        let highest = choose(&grid).and_then(place);
        let best = highest.and_then(|best| place(self.knobs.economise(&grid, grid[best], &choose)));
        let economised = highest.zip(best).filter(|(highest, best)| highest != best);
        let held = best.and_then(|best| self.hold(&grid, &scores, best, previous));
        let chosen = held.map(|(cell, _)| cell).or(best).map(|cell| grid[cell]);
        let Configuration { temperature, threshold, knobs } =
            chosen.map_or(self.fixed, |cell| cell.configuration());
        Decision {
            temperature,
            threshold,
            knobs,
            balance_score: chosen.map(|cell| cell.balance_score),
            target_count: balance.target_count,
            threshold_from: self.threshold_from,
            confidence: best.map(|best| scores.confidence(&grid, Some(best), key)),
            held_back: held.map(|(_, difference)| difference),
            economised: economised.map(|(highest, best)| scores.lead(&grid, highest, best)),
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
        let is_previous = |cell: &Cell| Some(cell.configuration()) == previous;
        let held = grid.iter().position(is_previous).filter(|_| self.hysteresis > 0.0)?;
        let lead = scores.lead(grid, best, held);
        let within = lead.gain <= self.hysteresis * lead.standard_error;
        (held != best && within).then_some((held, lead))
    }

    /// The best cell of `winner` against that of `other`, on their common queries.
    pub(crate) fn compare(
        &self,
        winner: &Pool,
        other: &Pool,
        gold: &[Option<u64>],
        ranking: &RankingRule,
        balance: &BalanceRule,
    ) -> Option<Difference> {
        let ranked = [winner, other].map(|pool| RankedPool::new(pool, gold, ranking));
        let grid = self.cells(&ranked, balance);
        let half = grid.len() / 2;
        let best = |cells: &[Cell]| {
            let best = choose(cells, self.ties, None)?;
            cells.iter().position(|cell| *cell == best)
        };
        let (winner, other) = (best(&grid[..half])?, best(&grid[half..])?);
        Some(Scores::of(&ranked, &grid, balance).difference(&grid, winner, half + other))
    }

    /// The cells of ranked pools: each cap, and of each cap every threshold.
    fn cells(&self, ranked: &[RankedPool], balance: &BalanceRule) -> Vec<Cell> {
        let (rules, thresholds) = (self.knobs.rules(balance), self.thresholds());
        let of_rule = |pool: &RankedPool, rule: &BalanceRule| -> Vec<Cell> {
            thresholds.iter().map(|&threshold| pool.cell(threshold, rule)).collect()
        };
        let of_pool = |pool| rules.iter().flat_map(move |rule| of_rule(pool, rule));
        ranked.iter().flat_map(of_pool).collect()
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
        let balance = balance.with_cap(decision.knobs.fixed_cap);
        let full_grid = surface(pools, gold, ranking, &balance, &self.thresholds());
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
            top_p: None,
            groups: (0..40).map(|query| group(correct(query))).collect(),
        };
        let noisy = |query| query % 3 + u32::from(query % 20 == 7);
        vec![pool(0.5, &|query| (query + 1) % 3), pool(1.0, &noisy), pool(1.5, &|q| 2 + q % 2)]
    }

    fn decide(probes: &[Pool], hysteresis: f64, previous: Option<f64>) -> Decision {
        let controller = Controller {
            adaptation: Adaptation::Both,
            fixed: Configuration::new(1.0, 0.0),
            temperatures: vec![0.5, 1.0, 1.5],
            thresholds: vec![-0.5, 0.0],
            ties: TieRule::Documented,
            threshold_from: ThresholdSource::Probe,
            hysteresis,
            knobs: KnobGrid::default(),
        };
        let ranking = Preset::Recommended.values().ranking(RewardKind::Answer);
        let balance = BalanceRule {
            target_count: 4,
            cap: CapRule::Uncapped,
            empty_queries: EmptyQueries::Zero,
        };
        let previous = previous.map(|temperature| Configuration::new(temperature, 0.0));
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
