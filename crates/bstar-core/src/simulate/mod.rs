//! Scripted policies whose best setting is known: what the balance score chooses against it.
//!
//! A simulated policy is a few formulas. A query has a difficulty; a hotter policy is right less
//! often, spreads its right answers over more of the query's solutions, and reaches more of them by
//! wrong steps; a reward model scores true and false reasoning with a given AUC. Because the truth is
//! known, so is what a selection is worth ([`Worth`]), and with it the best (t, τ).
//!
//! This is a model of the mechanism, not of any language model; `docs/concepts/theory.md` says what
//! it shows.

mod scenario;
pub mod search;

pub use scenario::Scenario;

use crate::balance::{BalanceRule, CapRule, EmptyQueries, RankedPool};
use crate::controller::{Configuration, TieRule, choose, surface};
use crate::pool::{Pool, ScoredResponse};
use crate::preset::Preset;
use crate::ranking::RankingRule;
use crate::reward::RewardKind;
use crate::rng::{Rng, RngKey, below, normal, uniform};
use crate::rollout::Verdict;
use crate::search::Lane;
use serde::Serialize;

/// Queries that the worth of a setting is computed on; far more than any probe has.
const MANY_QUERIES: usize = 1000;

/// What a policy drew at one temperature, with the truth about each response.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// What the search sees.
    pub pool: Pool,
    /// `[query][response]`: whether answer and every step are right.
    pub sound: Vec<Vec<bool>>,
    /// `[query][response]`.
    said: Vec<Vec<Said>>,
}

/// What a response is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// This of the query's solutions.
    Solution(usize),
    /// One of very many unsound chains.
    Chain,
}

/// Unsound chains that there are.
const CHAINS: usize = 1_000_000;

/// What a selection is worth to a policy that is trained on it, since the truth is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Worth {
    /// Mean over queries of min(distinct sound responses selected / n*, 1).
    pub coverage: f64,
    /// Sound responses among the selected, distinct ones in both.
    pub purity: f64,
}

impl Worth {
    /// Coverage times purity: an unbounded balance score of a perfect checker over the whole pool.
    pub fn total(self) -> f64 {
        self.coverage * self.purity
    }
}

/// A setting with what it scores and what it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The setting.
    pub configuration: Configuration,
    /// Its balance score on many queries.
    pub balance_score: f64,
    /// Its worth on many queries.
    pub worth: f64,
    /// Its coverage and purity.
    pub parts: Worth,
}

/// What the balance score chooses in a scenario, and what it should have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Study {
    /// The setting that is worth most.
    pub optimum: Outcome,
    /// The setting with the highest balance score on as many queries: free of noise.
    pub expected: Outcome,
    /// The setting chosen on a probe set, for each seed.
    pub chosen: Vec<Outcome>,
    /// The same where n' counts what a reward model verifies; none without a reward model.
    pub verified: Option<Verified>,
}

/// What the balance score chooses where n' counts verified responses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// The bar, [`RankingRule::verified_above`].
    pub above: f64,
    /// See [`Study::expected`].
    pub expected: Outcome,
    /// See [`Study::chosen`].
    pub chosen: Vec<Outcome>,
}

/// Studies a scenario with probe sets of this many queries; `bar` is that of the verified count.
pub fn study(scenario: &Scenario, probe_queries: usize, seeds: u64, bar: f64) -> Study {
    let key = RngKey::from_seed(0).child("simulate");
    let probes: Vec<Vec<Pool>> = (1..=seeds)
        .map(|seed| {
            let key = key.child("probe").index(seed);
            let draw = |&t: &f64| scenario.draw(t, probe_queries, key).pool;
            scenario.temperatures.iter().map(draw).collect()
        })
        .collect();
    let many: Vec<Drawn> = scenario
        .temperatures
        .iter()
        .map(|&t| scenario.draw(t, MANY_QUERIES, key.child("many")))
        .collect();
    let by = |ranking: &RankingRule| {
        let outcomes = outcomes(scenario, &many, ranking);
        let choice = |pools: &Vec<Pool>| {
            let grid = surface(pools, &[], ranking, &scenario.balance(), &scenario.thresholds);
            let cell = choose(&grid, TieRule::Documented, None).expect("a grid");
            let is_it = |outcome: &&Outcome| outcome.configuration == cell.configuration();
            *outcomes.iter().find(is_it).expect("every cell was valued")
        };
        let chosen: Vec<Outcome> = probes.iter().map(choice).collect();
        (best(&outcomes, |outcome| outcome.balance_score), chosen, outcomes)
    };
    let ranking = scenario.ranking();
    let (expected, chosen, outcomes) = by(&ranking);
    let verified = scenario.reward_model_auc.map(|_| {
        let ranking = RankingRule { verified_above: Some(bar), ..ranking.clone() };
        let (expected, chosen, _) = by(&ranking);
        Verified { above: bar, expected, chosen }
    });
    Study { optimum: best(&outcomes, |outcome| outcome.worth), expected, chosen, verified }
}

/// The first outcome with the highest value.
fn best(outcomes: &[Outcome], value: impl Fn(&Outcome) -> f64) -> Outcome {
    let better = |a: &Outcome, b: &Outcome| value(b) > value(a);
    *outcomes.iter().reduce(|a, b| if better(a, b) { b } else { a }).expect("a grid")
}

/// Every cell with its balance score and worth on many queries, drawn at each temperature.
fn outcomes(scenario: &Scenario, many: &[Drawn], ranking: &RankingRule) -> Vec<Outcome> {
    let balance = scenario.balance();
    let mut outcomes = Vec::new();
    for drawn in many {
        let temperature = drawn.pool.temperature;
        let ranked = RankedPool::new(&drawn.pool, &[], ranking);
        for &threshold in &scenario.thresholds {
            let parts = worth(drawn, &ranked, threshold, balance.target_count);
            outcomes.push(Outcome {
                configuration: Configuration::new(temperature, threshold),
                balance_score: ranked.cell(threshold, &balance).balance_score,
                worth: parts.total(),
                parts,
            });
        }
    }
    outcomes
}

fn worth(drawn: &Drawn, ranked: &RankedPool, threshold: f64, target_count: u32) -> Worth {
    let (mut coverage, mut sound, mut selected) = (0.0, 0.0, 0.0);
    for (ranking, truth) in ranked.rankings.iter().zip(&drawn.sound) {
        let places = &ranking.places[..ranking.above(threshold)];
        let responses = places.iter().filter_map(|place| place.response);
        let right = responses.filter(|&response| truth[response]).count() as f64;
        coverage += (right / f64::from(target_count)).min(1.0);
        sound += right;
        selected += places.len() as f64;
    }
    let queries = drawn.sound.len().max(1) as f64;
    let purity = if selected > 0.0 { sound / selected } else { 0.0 };
    Worth { coverage: coverage / queries, purity }
}

impl Scenario {
    /// The reward of the scenario, duplicates dropped.
    pub fn ranking(&self) -> RankingRule {
        let kind = match self.reward_model_auc {
            Some(_) => RewardKind::AnswerAndRewardModel,
            None => RewardKind::Answer,
        };
        Preset::Recommended.values().ranking(kind)
    }

    /// The balance score of the scenario, without a cap.
    pub fn balance(&self) -> BalanceRule {
        BalanceRule {
            target_count: self.target_count,
            cap: CapRule::Uncapped,
            empty_queries: EmptyQueries::Zero,
        }
    }

    /// Draws `queries` queries k times at a temperature. Query q has the same difficulty and the same
    /// luck at every temperature, as in a run.
    pub fn draw(&self, temperature: f64, queries: usize, key: RngKey) -> Drawn {
        let pool = Pool { temperature, top_p: None, groups: Vec::new() };
        let mut drawn = Drawn { pool, sound: Vec::new(), said: Vec::new() };
        let half = self.reward_model_auc.map(separation);
        for query in 0..queries {
            let key = key.index(query as u64);
            let difficulty = self.difficulty(key);
            let (group, said): (_, Vec<Said>) = (0..self.samples)
                .map(|sample| {
                    let rng = &mut key.index(u64::from(sample)).rng();
                    self.respond(temperature, difficulty, (sample, half), rng)
                })
                .unzip();
            drawn.pool.groups.push(group);
            drawn.sound.push(said.iter().map(|said| *said != Said::Chain).collect());
            drawn.said.push(said);
        }
        drawn
    }

    /// The same draw with the log-probability of each response at every candidate temperature, as the
    /// policy would tell them.
    pub fn lane(&self, temperature: f64, queries: usize, key: RngKey) -> Lane {
        let drawn = self.draw(temperature, queries, key);
        let logprobs = drawn.said.iter().enumerate().map(|(query, group)| {
            let difficulty = self.difficulty(key.index(query as u64));
            let tables: Vec<Vec<f64>> =
                self.temperatures.iter().map(|&t| self.logprobs(t, difficulty)).collect();
            let of = |said: &Said| match *said {
                Said::Solution(j) => tables.iter().map(|table| table[j]).collect(),
                Said::Chain => tables.iter().map(|table| table[self.solutions]).collect(),
            };
            group.iter().map(of).collect()
        });
        Lane { logprobs: logprobs.collect(), pool: drawn.pool }
    }

    /// Log-probability (nats) of each solution, and last of any one unsound chain.
    fn logprobs(&self, temperature: f64, difficulty: f64) -> Vec<f64> {
        let sound = self.right(temperature, difficulty) * (1.0 - self.luck(temperature));
        let total: f64 = (0..self.solutions).map(|j| self.weight(j, temperature)).sum();
        let solution = |j| (sound * self.weight(j, temperature) / total).ln();
        let chain = ((1.0 - sound) / CHAINS as f64).ln();
        (0..self.solutions).map(solution).chain([chain]).collect()
    }

    fn difficulty(&self, key: RngKey) -> f64 {
        self.spread * normal(&mut key.child("difficulty").rng())
    }

    /// Chance of a right answer.
    fn right(&self, temperature: f64, difficulty: f64) -> f64 {
        let odds = self.skill - difficulty - self.heat * temperature;
        1.0 / (1.0 + (-odds).exp())
    }

    /// Chance that a right answer was reached by wrong steps.
    fn luck(&self, temperature: f64) -> f64 {
        (self.false_positives * temperature).min(1.0)
    }

    /// Solution j has weight e^(-j / (spread of solutions · t)): cold policies repeat themselves.
    fn weight(&self, j: usize, temperature: f64) -> f64 {
        (-(j as f64) / (self.solution_spread * temperature)).exp()
    }

    fn respond(
        &self,
        temperature: f64,
        difficulty: f64,
        (sample, half): (u32, Option<f64>),
        rng: &mut Rng,
    ) -> (ScoredResponse, Said) {
        let is_right = uniform(rng) < self.right(temperature, difficulty);
        let by_luck = uniform(rng) < self.luck(temperature);
        let solution = self.solution(temperature, rng);
        // A wrong chain is one of very many; a right one is one of the query's solutions.
        let wrong = below(rng, CHAINS);
        let sound = is_right && !by_luck;
        let text = if sound { format!("solution {solution}") } else { format!("chain {wrong}") };
        let verdict = if is_right { Verdict::Correct } else { Verdict::Incorrect };
        let score = half.map(|half| 2.0 * (if sound { half } else { -half } + normal(rng)));
        let said = if sound { Said::Solution(solution) } else { Said::Chain };
        (ScoredResponse::new(sample, &text, verdict, score), said)
    }

    fn solution(&self, temperature: f64, rng: &mut Rng) -> usize {
        let total: f64 = (0..self.solutions).map(|j| self.weight(j, temperature)).sum();
        let mut left = uniform(rng) * total;
        for j in 0..self.solutions {
            left -= self.weight(j, temperature);
            if left < 0.0 {
                return j;
            }
        }
        self.solutions - 1
    }
}

/// Half the distance between the means of two normal distributions of deviation 1 with this AUC.
fn separation(auc: f64) -> f64 {
    // AUC = Φ(√2 · half the distance); Φ is inverted by bisection.
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..60 {
        let middle: f64 = f64::midpoint(low, high);
        if normal_share_below(middle) < auc {
            low = middle;
        } else {
            high = middle;
        }
    }
    low / std::f64::consts::SQRT_2
}

/// Φ, by Simpson's rule.
fn normal_share_below(x: f64) -> f64 {
    const STEPS: u32 = 200;
    let density = |z: f64| (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let width = x / f64::from(STEPS);
    let inner = |i: u32| if i.is_multiple_of(2) { 2.0 } else { 4.0 };
    let sum: f64 = (1..STEPS).map(|i| inner(i) * density(f64::from(i) * width)).sum();
    0.5 + width / 3.0 * (density(0.0) + sum + density(x))
}

#[cfg(test)]
mod tests {
    use super::search::{Surface, Trial};
    use super::*;
    use crate::knobs::KnobGrid;
    use crate::race::MARGIN;
    use crate::search::Scoring;
    use std::collections::BTreeSet;

    fn distinct_sound(drawn: &Drawn, query: usize) -> usize {
        let group = drawn.pool.groups[query].iter().zip(&drawn.sound[query]);
        let sound = group.filter(|(_, sound)| **sound).map(|(r, _)| r.normalized_hash);
        sound.collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn a_hotter_policy_is_right_less_often_and_more_varied() {
        let scenario = Scenario::named("plain").expect("known");
        let key = RngKey::from_seed(1);
        let [cold, hot] = [0.4, 1.2].map(|t| scenario.draw(t, 200, key));
        let right = |drawn: &Drawn| drawn.sound.iter().flatten().filter(|sound| **sound).count();
        assert!(right(&hot) < right(&cold));
        let distinct = |drawn: &Drawn| (0..200).map(|q| distinct_sound(drawn, q)).sum::<usize>();
        let share = |drawn: &Drawn| distinct(drawn) as f64 / right(drawn) as f64;
        assert!(share(&hot) > 1.5 * share(&cold), "{} {}", share(&hot), share(&cold));
    }

    #[test]
    fn the_reward_model_has_its_auc() {
        for auc in [0.5, 0.6, 0.9] {
            let mut rng = RngKey::from_seed(2).rng();
            let half = separation(auc);
            let wins = (0..20_000).filter(|_| half + normal(&mut rng) > normal(&mut rng) - half);
            let share = wins.count() as f64 / 20_000.0;
            assert!((share - auc).abs() < 0.01, "{auc}: {share}");
        }
    }

    #[test]
    fn the_balance_score_is_near_the_optimum_where_it_sees_everything() {
        let study = study(&Scenario::named("plain").expect("known"), 200, 3, 0.0);
        let kept = study.expected.worth / study.optimum.worth;
        assert!(kept > 0.9, "{study:?}");
        assert!(study.optimum.worth >= study.expected.worth);
        assert!(study.expected.balance_score >= study.optimum.balance_score);
        assert_eq!(study.chosen.len(), 3);
    }

    #[test]
    fn lucky_answers_make_the_balance_score_too_hot() {
        let study = study(&Scenario::named("lucky").expect("known"), 200, 1, 0.0);
        let (expected, optimum) = (study.expected, study.optimum);
        assert!(
            expected.configuration.temperature > optimum.configuration.temperature,
            "{expected:?} {optimum:?}"
        );
        assert!(expected.parts.purity < optimum.parts.purity);
        assert_eq!(study.verified, None, "nothing can verify");
    }

    #[test]
    fn a_count_of_what_is_verified_is_not_misled_by_luck() {
        let study = study(&Scenario::named("lucky-checked").expect("known"), 200, 2, 0.0);
        let verified = study.verified.expect("a reward model");
        let kept = |outcome: &Outcome| outcome.worth / study.optimum.worth;
        assert!(kept(&study.expected) < 0.9, "{:?}", study.expected);
        assert!(kept(&verified.expected) > 0.97, "{:?}", verified.expected);
        for (with, without) in verified.chosen.iter().zip(&study.chosen) {
            assert!(kept(with) > kept(without), "{with:?} {without:?}");
        }
    }

    #[test]
    fn a_response_is_as_likely_as_its_log_probability_says() {
        let scenario = Scenario::named("lucky").expect("known");
        for temperature in [0.4, 1.3] {
            let logprobs = scenario.logprobs(temperature, 0.3);
            let (chain, solutions) = logprobs.split_last().expect("chains");
            let sound: f64 = solutions.iter().map(|logprob| logprob.exp()).sum();
            assert!((sound + CHAINS as f64 * chain.exp() - 1.0).abs() < 1e-9);
        }
        let key = RngKey::from_seed(8);
        let queries = 400;
        let lane = scenario.lane(scenario.temperatures[2], queries, key);
        let drawn = scenario.draw(scenario.temperatures[2], queries, key);
        assert_eq!(lane.pool, drawn.pool);
        // The most frequent solution is drawn as often as it is likely.
        let is_first = |said: &&Said| **said == Said::Solution(0);
        let found = drawn.said.iter().flatten().filter(is_first).count() as f64;
        let chance = |query: usize| {
            let difficulty = scenario.difficulty(key.index(query as u64));
            scenario.logprobs(scenario.temperatures[2], difficulty)[0].exp()
        };
        let expected = f64::from(scenario.samples) * (0..queries).map(chance).sum::<f64>();
        assert!((found / expected - 1.0).abs() < 0.1, "{found} of {expected}");
    }

    #[test]
    fn searches_with_all_the_budget_lose_little_and_keep_to_a_small_one() {
        let scenario = Scenario::named("plain").expect("known");
        let key = RngKey::from_seed(3);
        let lanes = scenario.temperatures.iter().map(|&t| scenario.lane(t, 150, key)).collect();
        let (ranking, balance) = (scenario.ranking(), scenario.balance());
        let knobs = KnobGrid::default();
        let scoring = Scoring {
            ranking: &ranking,
            gold: &[],
            balance: &balance,
            all_queries: 150,
            knobs: &knobs,
            thresholds: &[-0.5, 0.0, 0.5, 0.9],
            samples: scenario.samples as usize,
        };
        let mut trial = Trial { scoring, draw_queries: 1500, budget: 1.0, margin: MARGIN };
        let surface = Surface::new(lanes, &trial);
        let rich = [surface.race(&trial, key), surface.reweight(&trial, key)];
        for rich in rich {
            assert!(rich.loss < 0.05 && rich.net_cost < 1.0, "{rich:?}");
        }
        assert_eq!(surface.exhaustive(&trial, 150, key).loss, 0.0);
        trial.budget = 0.06;
        let poor = [surface.race(&trial, key), surface.reweight(&trial, key)];
        assert!(poor.iter().all(|poor| poor.net_cost <= 0.06), "{poor:?}");
        assert_eq!(poor, [surface.race(&trial, key), surface.reweight(&trial, key)], "seeded");
    }

    #[test]
    fn gold_solutions_move_with_their_queries() {
        let scenario = Scenario::named("binary").expect("known");
        let key = RngKey::from_seed(4);
        let lanes: Vec<Lane> =
            scenario.temperatures.iter().map(|&t| scenario.lane(t, 60, key)).collect();
        let ranking = RankingRule { gold_competes: true, ..scenario.ranking() };
        let (balance, knobs) = (scenario.balance(), KnobGrid::default());
        // Half the queries have a solution that nobody drew: it counts, and more for poor queries.
        let gold: Vec<Option<u64>> = (0..60).map(|q| (q % 2 == 0).then_some(q)).collect();
        let scoring = Scoring {
            ranking: &ranking,
            gold: &gold,
            balance: &balance,
            all_queries: 60,
            knobs: &knobs,
            thresholds: &[0.5],
            samples: scenario.samples as usize,
        };
        let trial = Trial { scoring, draw_queries: 60, budget: 1.0, margin: MARGIN };
        let bare = Trial { scoring: Scoring { gold: &[], ..scoring }, ..trial };
        let [with, without] = [&trial, &bare].map(|trial| {
            Surface::new(lanes.clone(), trial).scores().map(|(_, score)| score).collect::<Vec<_>>()
        });
        assert!(with.iter().zip(&without).all(|(with, without)| with > without));
        // In whatever order all queries are asked, the whole surface is found again.
        let surface = Surface::new(lanes, &trial);
        for seed in 0..3 {
            assert_eq!(surface.exhaustive(&trial, 60, key.index(seed)).loss, 0.0);
        }
    }
}
