//! A cheaper search for the temperature: candidates race, and those that are clearly behind stop.
//!
//! Every candidate starts on the same few queries. After each round the per-query balance scores of
//! each candidate, at its own best threshold, are compared with those of the leader query by query;
//! candidates behind by more than [`RaceRule::margin`] standard errors of that paired difference stop,
//! the others go on with half as many queries again. The race ends when one is left or the budget is
//! spent.
//!
//! The queries are the first of the iteration's own draw, and they are sampled with its keys: what
//! the winner answered in the race is, rollout for rollout, the beginning of the draw, so that only
//! the others cost anything. The numbers that led here are in `docs/log.md`.

use crate::pool::Pool;
use crate::search::{FEWEST, Found, Lanes, Limits, Scoring, highest};

/// How a race is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RaceRule {
    /// Budget and queries.
    pub limits: Limits,
    /// Standard errors behind the leader at which a candidate stops.
    pub margin: f64,
}

/// The most queries of the first round, which takes a quarter of the budget and at least
/// [`FEWEST`] queries.
const FIRST_ROUND: usize = 32;
/// See [`RaceRule::margin`]; chosen on stored surfaces, `docs/log.md`.
pub const MARGIN: f64 = 2.0;

/// What the race asks for next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The candidates that go on, as places in the list of contenders.
    pub stay: Vec<usize>,
    /// The number of queries that each of them is to be measured on.
    pub queries: usize,
}

impl RaceRule {
    /// Queries of the first round for so many candidates: never more than the budget buys.
    pub fn first_round(&self, candidates: usize) -> usize {
        let affordable = self.limits.each(candidates);
        (affordable / 4).clamp(FEWEST, FIRST_ROUND).min(affordable)
    }

    /// The next round, given the scores of those still running on the same queries, and the groups
    /// drawn so far by all; none when the race is over.
    pub fn next_round(&self, running: &[Vec<f64>], drawn: usize) -> Option<Round> {
        let queries = running.first()?.len();
        let leader = leader(running)?;
        let in_touch = |place: &usize| {
            let (gap, error) = gap(&running[leader], &running[*place]);
            *place == leader || gap <= self.margin * error
        };
        let stay: Vec<usize> = (0..running.len()).filter(in_touch).collect();
        // The winner will be one of those that stay, so the groups of one of them cost nothing.
        let spent = drawn.saturating_sub(queries);
        let others = stay.len().checked_sub(1).filter(|others| *others > 0)?;
        let affordable = queries + self.limits.budget.saturating_sub(spent) / others;
        let wanted = queries + queries.div_ceil(2);
        let next = wanted.min(affordable).min(self.limits.queries);
        (next > queries).then_some(Round { stay, queries: next })
    }
}

/// Lets so many candidates race.
pub fn race<L: Lanes>(
    candidates: usize,
    rule: &RaceRule,
    scoring: &Scoring<'_>,
    lanes: &mut L,
) -> Result<Found, L::Error> {
    let mut pools: Vec<Option<Pool>> = vec![None; candidates];
    let mut queries = vec![0; candidates];
    let mut running: Vec<usize> = (0..candidates).collect();
    let mut target = rule.first_round(candidates);
    loop {
        for &lane in &running {
            pools[lane] = Some(lanes.answers(lane, target)?);
            queries[lane] = target;
        }
        let ranking = scoring.ranking.calibrated_on(pools.iter().flatten());
        let score = |lane: &usize| {
            let pool = pools[*lane].as_ref();
            pool.map(|pool| scoring.best(pool, &ranking).0).unwrap_or_default()
        };
        let scores: Vec<Vec<f64>> = running.iter().map(score).collect();
        let Some(round) = rule.next_round(&scores, queries.iter().sum()) else {
            let winner = leader(&scores).map_or(0, |place| running[place]);
            return Ok(Found { winner, queries, estimates: None });
        };
        running = round.stay.into_iter().map(|place| running[place]).collect();
        target = round.queries;
    }
}

/// The candidate with the highest mean, the first of several.
fn leader(running: &[Vec<f64>]) -> Option<usize> {
    highest(running.iter().map(|scores| scores.iter().sum()))
}

/// Mean of the paired differences, and its standard error.
fn gap(leader: &[f64], other: &[f64]) -> (f64, f64) {
    let count = leader.len() as f64;
    let differences: Vec<f64> = leader.iter().zip(other).map(|(a, b)| a - b).collect();
    let mean = differences.iter().sum::<f64>() / count;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0) / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { budget: 100, queries: 1000 };
    const RULE: RaceRule = RaceRule { limits: LIMITS, margin: MARGIN };

    #[test]
    fn those_clearly_behind_stop_and_the_rest_go_on() {
        let noisy = |height: f64, phase: u32| {
            (0..16)
                .map(|q| height + if (q + phase).is_multiple_of(2) { 0.1 } else { -0.1 })
                .collect()
        };
        let running: Vec<Vec<f64>> = vec![noisy(0.2, 0), noisy(0.5, 0), noisy(0.49, 1)];
        let round = RULE.next_round(&running, 48).expect("two are in touch");
        assert_eq!(round, Round { stay: vec![1, 2], queries: 24 });
    }

    #[test]
    fn one_that_is_left_ends_the_race() {
        assert_eq!(RULE.next_round(&[vec![0.1; 8], vec![0.5; 8]], 16), None);
        assert_eq!(RULE.next_round(&[vec![0.1; 8]], 8), None);
        assert_eq!(RULE.next_round(&[], 0), None);
    }

    #[test]
    fn the_budget_is_spent_and_never_exceeded() {
        for budget in 3 * FEWEST..200 {
            let rule = RaceRule { limits: Limits { budget, ..LIMITS }, ..RULE };
            let mut queries = rule.first_round(4);
            assert!(queries >= FEWEST, "nobody stops on fewer");
            let mut drawn = 4 * queries;
            // Ties never stop.
            while let Some(round) = rule.next_round(&vec![vec![0.5; queries]; 4], drawn) {
                assert_eq!(round.stay.len(), 4);
                drawn += 4 * (round.queries - queries);
                queries = round.queries;
            }
            let net = drawn - queries;
            assert!(net <= budget && net + 3 > budget, "{budget}: {net}");
        }
        let small = RaceRule { limits: Limits { queries: 10, ..LIMITS }, ..RULE };
        assert_eq!(small.next_round(&vec![vec![0.5; 10]; 2], 20), None, "no more queries");
    }

    #[test]
    fn a_budget_that_buys_too_few_queries_is_refused() {
        for budget in 0..60 {
            let limits = Limits { budget, queries: 1000 };
            let checked = limits.check(4);
            assert_eq!(checked.is_ok(), budget >= 24, "{budget}");
            let told = checked.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(budget >= 24 || told.contains("costs 24 rollout groups"), "{told}");
        }
        assert!(Limits { budget: 100, queries: 7 }.check(2).is_err(), "no eighth query");
    }
}
