//! What a temperature would score, from rollouts of others: importance weights in place of a race.
//!
//! Where a response is drawn token by token from one distribution, its probability at any other
//! temperature is known exactly once the policy has scored it. With p its probability, k samples hold
//! it with chance q = 1 - (1 - p)^k. So the distinct responses that an anchor temperature a drew, each
//! standing for 1/q_a like it (Horvitz and Thompson's estimator, the factor truncated), say how many
//! distinct responses, and how many right ones, a group at temperature t would hold: the sum of
//! q_t/q_a. A response counts only at the anchor that holds it most surely (Veach's maximum heuristic):
//! weights stay small, and the sum stays unbiased although all temperatures share their luck. Ranked by
//! reward the weights give n and n' for every threshold and cap, and so a balance score.
//!
//! n' of a group varies around its mean, and min(n'/n*, 1) bends; a normal approximation carries that.
//! What is left of the error cancels in the difference: a candidate is credited with what the anchor
//! scored, plus what the model says of the candidate less what it says of the anchor. Between two
//! anchors their two estimates are blended by distance.
//!
//! The candidate with the highest estimate is drawn too, since its answers cost nothing if it wins, and
//! is credited with the mean of estimate and measurement.
//!
//! It needs plain sampling (no top-p, top-k, min-p or repetition penalty, which cut the support) and
//! duplicates dropped before ranking. `docs/concepts/search.md` has the cost and `docs/log.md` the
//! measurements.

use crate::balance::{BalanceRule, CapRule, RankedPool};
use crate::plan::Span;
use crate::ranking::RankingRule;
use crate::search::{Found, Lane, Lanes, Limits, Scoring, highest};
use statrs::distribution::{ContinuousCDF as _, Normal};

/// An anchor's response stands for at most so many like it.
const MOST_LIKE_IT: f64 = 20.0;
/// Anchors, and one candidate that they speak for.
const LANES: usize = 3;

/// What was drawn at an anchor, with the probabilities of its responses.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// Its place among the candidates.
    pub candidate: usize,
    /// What was drawn; the queries are the same for all anchors.
    pub lane: Lane,
}

/// The places of the anchors among so many candidates: at one and two thirds of the grid, or at its
/// ends where it has no more than three.
pub fn anchor_places(candidates: usize) -> Vec<usize> {
    let last = candidates.saturating_sub(1);
    // Rounded to the nearest place.
    let mut places = match candidates {
        0..=3 => vec![0, last],
        _ => vec![(2 * last + 3) / 6, (4 * last + 3) / 6],
    };
    places.dedup();
    places
}

/// Lanes that are drawn at most, one of which wins.
pub(crate) fn lanes(candidates: usize) -> usize {
    candidates.min(LANES)
}

/// Groups of responses that the search draws beside those of its winner.
pub(crate) fn cost(limits: Limits, candidates: usize) -> Span {
    let each = limits.each(lanes(candidates));
    let of = |lanes: usize| (each * lanes.saturating_sub(1)) as f64;
    let (least, most) = (of(anchor_places(candidates).len()), of(lanes(candidates)));
    Span { least, expected: most, most }
}

/// Groups of responses of the anchors, which are weighed.
pub(crate) fn weighed(limits: Limits, candidates: usize) -> usize {
    limits.each(lanes(candidates)) * anchor_places(candidates).len()
}

/// Searches among candidates at these temperatures, ascending: draws the anchors, and where another
/// candidate has the highest estimate that one too; the best of what was drawn wins, the first of
/// several.
pub fn reweight<L: Lanes>(
    temperatures: &[f64],
    limits: Limits,
    scoring: &Scoring<'_>,
    lanes: &mut L,
) -> Result<Found, L::Error> {
    let each = limits.each(self::lanes(temperatures.len()));
    let mut queries = vec![0; temperatures.len()];
    let mut anchors = Vec::new();
    for candidate in anchor_places(temperatures.len()) {
        let pool = lanes.answers(candidate, each)?;
        let logprobs = lanes.logprobs(candidate, each)?;
        queries[candidate] = each;
        anchors.push(Anchor { candidate, lane: Lane { pool, logprobs } });
    }
    let ranking = scoring.ranking.calibrated_on(anchors.iter().map(|anchor| &anchor.lane.pool));
    let estimates = estimates(&anchors, temperatures, scoring, &ranking);
    let likeliest = highest(estimates.iter().copied()).unwrap_or(0);
    let mut credit = vec![f64::NEG_INFINITY; temperatures.len()];
    for anchor in &anchors {
        credit[anchor.candidate] = estimates[anchor.candidate];
    }
    if queries[likeliest] == 0 {
        let measured = scoring.best(&lanes.answers(likeliest, each)?, &ranking).1;
        queries[likeliest] = each;
        credit[likeliest] = f64::midpoint(estimates[likeliest], measured);
    }
    let winner = highest(credit).unwrap_or(likeliest);
    Ok(Found { winner, queries, estimates: Some(estimates) })
}

/// The estimated balance score of each candidate at its best threshold and cap, anchors by what they
/// measured. `temperatures` are the candidates', ascending, and so are the anchors' places.
pub fn estimates(
    anchors: &[Anchor],
    temperatures: &[f64],
    scoring: &Scoring<'_>,
    ranking: &RankingRule,
) -> Vec<f64> {
    let queries = anchors.first().map_or(0, |anchor| anchor.lane.pool.groups.len());
    let rules = scoring.rules(queries);
    let thresholds = scoring.thresholds;
    let cells: Vec<(f64, &BalanceRule)> = rules
        .iter()
        .flat_map(|rule| thresholds.iter().map(move |threshold| (*threshold, rule)))
        .collect();
    let ranked: Vec<RankedPool> = anchors
        .iter()
        .map(|anchor| RankedPool::new(&anchor.lane.pool, scoring.gold, ranking))
        .collect();
    let seen: Vec<Vec<Seen>> =
        (0..queries).map(|query| seen(anchors, &ranked, query, (scoring, ranking))).collect();
    let slack = ranking.slack();
    let modelled = |candidate: usize| -> Vec<f64> {
        let score = |(threshold, rule): &(f64, &BalanceRule)| {
            modelled_score(&seen, candidate, threshold + slack, rule)
        };
        cells.iter().map(score).collect()
    };
    let modelled: Vec<Vec<f64>> = (0..temperatures.len()).map(modelled).collect();
    let measured = |anchor: &RankedPool| -> Vec<f64> {
        let score = |(threshold, rule): &(f64, &BalanceRule)| anchor.cell(*threshold, rule);
        cells.iter().map(|cell| score(cell).balance_score).collect()
    };
    let measured: Vec<Vec<f64>> = ranked.iter().map(measured).collect();
    let best = |candidate: usize| {
        let blend = blend(anchors, temperatures, candidate);
        let by = |anchor: usize, cell: usize| {
            let own = anchors[anchor].candidate;
            measured[anchor][cell] + (modelled[candidate][cell] - modelled[own][cell])
        };
        let at = |cell| blend.iter().map(|(anchor, share)| share * by(*anchor, cell)).sum();
        (0..cells.len()).map(at).fold(0.0, f64::max)
    };
    (0..temperatures.len()).map(best).collect()
}

/// The anchors that a candidate is estimated from, with their shares.
fn blend(anchors: &[Anchor], temperatures: &[f64], candidate: usize) -> Vec<(usize, f64)> {
    let place = |anchor: usize| anchors[anchor].candidate;
    let above = (0..anchors.len()).find(|anchor| place(*anchor) >= candidate);
    let Some(above) = above else { return vec![(anchors.len() - 1, 1.0)] };
    if above == 0 || place(above) == candidate {
        return vec![(above, 1.0)];
    }
    let [low, here, high] =
        [place(above - 1), candidate, place(above)].map(|place| temperatures[place]);
    let share = (here - low) / (high - low);
    vec![(above - 1, 1.0 - share), (above, share)]
}

/// A distinct response to a query.
#[derive(Clone, Debug)]
struct Seen {
    reward: f64,
    correct: bool,
    /// How many it stands for at its anchor.
    alike: f64,
    /// Chance that a group at each candidate holds it.
    held: Vec<f64>,
}

/// The distinct responses to a query, the highest reward first, each once: where the anchor holds it
/// most surely.
fn seen(
    anchors: &[Anchor],
    ranked: &[RankedPool],
    query: usize,
    (scoring, ranking): (&Scoring<'_>, &RankingRule),
) -> Vec<Seen> {
    let held = |log_probability: f64| {
        let p = log_probability.exp().min(1.0 - 1e-12);
        -(scoring.samples as f64 * (-p).ln_1p()).exp_m1()
    };
    let mut all = Vec::new();
    let mut gold = None;
    for (own, (anchor, ranked)) in anchors.iter().zip(ranked).enumerate() {
        for place in &ranked.rankings[query].places {
            let reward = place.reward;
            let Some(response) = place.response else {
                // A gold solution is always there.
                let held = vec![1.0; anchor.lane.logprobs[query].first().map_or(0, Vec::len)];
                gold = Some(Seen { reward, correct: true, alike: 1.0, held });
                continue;
            };
            let held: Vec<f64> =
                anchor.lane.logprobs[query][response].iter().map(|log| held(*log)).collect();
            let surest = highest(anchors.iter().map(|anchor| held[anchor.candidate]));
            if surest == Some(own) {
                // It was drawn, so it has a chance, however small.
                let alike = (1.0 / held[anchor.candidate]).min(MOST_LIKE_IT);
                let correct = ranking.counts(&anchor.lane.pool.groups[query][response]);
                all.push(Seen { reward, correct, alike, held });
            }
        }
    }
    all.extend(gold);
    all.sort_by(|a, b| b.reward.total_cmp(&a.reward));
    all
}

/// The mean balance score that a candidate's weights lead to above a threshold.
fn modelled_score(seen: &[Vec<Seen>], candidate: usize, above: f64, rule: &BalanceRule) -> f64 {
    let rows: Vec<&[Seen]> = seen
        .iter()
        .map(|row| &row[..row.partition_point(|response| response.reward > above)])
        .collect();
    let cap = match rule.cap {
        CapRule::Uncapped => f64::INFINITY,
        CapRule::Fixed(cap) => f64::from(cap),
        CapRule::ToPool { target, limit } => {
            let weight = |response: &Seen| response.alike * response.held[candidate];
            let totals: Vec<f64> =
                rows.iter().map(|row| row.iter().map(weight).sum::<f64>()).collect();
            let selected = |cap: u32| totals.iter().map(|n| n.min(f64::from(cap))).sum::<f64>();
            let smallest = (1..limit).find(|cap| selected(*cap) >= target as f64);
            f64::from(smallest.unwrap_or(limit))
        }
    };
    let target_count = f64::from(rule.target_count);
    let sum: f64 = rows.iter().map(|row| query_score(row, candidate, cap, target_count)).sum();
    sum / rows.len().max(1) as f64
}

/// The expected balance score of one query, of which the first `cap` places are selected.
fn query_score(row: &[Seen], candidate: usize, cap: f64, target_count: f64) -> f64 {
    let (mut selected, mut correct, mut variance) = (0.0, 0.0, 0.0);
    for response in row {
        let held = response.held[candidate];
        let weight = response.alike * held;
        // Nothing is divided by a weight of nothing.
        let share = ((cap - selected) / weight.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        selected += share * weight;
        if response.correct {
            correct += share * weight;
            variance += share * weight * (1.0 - held);
        }
    }
    if selected <= 0.0 {
        return 0.0;
    }
    bent(correct, variance, target_count) * correct / selected
}

/// The mean of min(n'/n*, 1) where n' is normal around `mean`.
fn bent(mean: f64, variance: f64, target_count: f64) -> f64 {
    let deviation = variance.max(1e-9).sqrt();
    let z = (target_count - mean) / deviation;
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let below = Normal::standard().cdf(z);
    let value = mean * below - deviation * density + target_count * (1.0 - below);
    (value / target_count).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::EmptyQueries;
    use crate::controller::surface;
    use crate::knobs::KnobGrid;
    use crate::pool::{Pool, ScoredResponse};
    use crate::preset::Preset;
    use crate::reward::RewardKind;
    use crate::rng::{RngKey, uniform};
    use crate::rollout::Verdict;

    const TEMPERATURES: [f64; 6] = [0.4, 0.6, 0.8, 1.0, 1.2, 1.4];
    const THRESHOLDS: [f64; 2] = [-0.5, 0.0];
    const SAMPLES: usize = 16;

    fn ranking() -> RankingRule {
        Preset::Recommended.values().ranking(RewardKind::Answer)
    }

    /// Probabilities of the 40 responses to a query, of which every third is right: likelier ones
    /// gain where it is cold.
    fn probabilities(query: usize, temperature: f64) -> Vec<f64> {
        let logit = |i: usize| (0.9 + 0.02 * (query % 20) as f64) * (-(i as f64)) / 3.0;
        soft((0..40).map(logit), temperature)
    }

    fn soft(logits: impl Iterator<Item = f64>, temperature: f64) -> Vec<f64> {
        let weights: Vec<f64> = logits.map(|logit| (logit / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    fn is_right(response: usize) -> bool {
        response % 3 == 1
    }

    fn scored(sample: usize, response: usize) -> ScoredResponse {
        let verdict = if is_right(response) { Verdict::Correct } else { Verdict::Incorrect };
        let sample = u32::try_from(sample).expect("small");
        ScoredResponse::new(sample, &format!("{response}"), verdict, None)
    }

    fn draw(temperature: f64, queries: usize, key: RngKey) -> (Pool, Vec<Vec<usize>>) {
        let group = |query: usize| -> Vec<usize> {
            let p = probabilities(query, temperature);
            let respond = |sample: usize| {
                let key = key.index(query as u64).index(sample as u64);
                let mut left = uniform(&mut key.rng());
                let response = p.iter().position(|p| {
                    left -= p;
                    left < 0.0
                });
                response.unwrap_or(39)
            };
            (0..SAMPLES).map(respond).collect()
        };
        let drawn: Vec<Vec<usize>> = (0..queries).map(group).collect();
        let scored_group = |group: &Vec<usize>| {
            group.iter().enumerate().map(|(sample, response)| scored(sample, *response)).collect()
        };
        let groups = drawn.iter().map(scored_group).collect();
        (Pool { temperature, top_p: None, groups }, drawn)
    }

    fn anchor(candidate: usize, queries: usize, key: RngKey) -> Anchor {
        let (pool, drawn) = draw(TEMPERATURES[candidate], queries, key);
        let of_query = |(query, responses): (usize, &Vec<usize>)| {
            let at: Vec<Vec<f64>> = TEMPERATURES.iter().map(|t| probabilities(query, *t)).collect();
            responses.iter().map(|r| at.iter().map(|p| p[*r].ln()).collect()).collect()
        };
        let logprobs = drawn.iter().enumerate().map(of_query).collect();
        Anchor { candidate, lane: Lane { pool, logprobs } }
    }

    fn balance(cap: CapRule) -> BalanceRule {
        BalanceRule { target_count: 3, cap, empty_queries: EmptyQueries::Zero }
    }

    /// The best score of each candidate over many queries.
    fn truth(balance: &BalanceRule) -> Vec<f64> {
        let key = RngKey::from_seed(5);
        let best = |temperature: &f64| {
            let pool = draw(*temperature, 2000, key).0;
            let cells = surface(&[pool], &[], &ranking(), balance, &THRESHOLDS);
            cells.iter().map(|cell| cell.balance_score).fold(0.0, f64::max)
        };
        TEMPERATURES.iter().map(best).collect()
    }

    /// Runs with the scoring of a draw of so many queries.
    fn with_scoring<T>(
        balance: &BalanceRule,
        caps: &[u32],
        all_queries: usize,
        run: impl FnOnce(&Scoring<'_>) -> T,
    ) -> T {
        let knobs = KnobGrid { caps: caps.to_vec(), ..KnobGrid::default() };
        run(&Scoring {
            ranking: &ranking(),
            gold: &[],
            balance,
            all_queries,
            knobs: &knobs,
            thresholds: &THRESHOLDS,
            samples: SAMPLES,
        })
    }

    #[test]
    fn two_anchors_tell_the_whole_surface() {
        let to_pool = CapRule::ToPool { target: 4000, limit: 64 };
        for cap in [CapRule::Uncapped, CapRule::Fixed(2), to_pool] {
            let balance = balance(cap);
            let truth = truth(&balance);
            let key = RngKey::from_seed(6);
            let anchors: Vec<Anchor> =
                anchor_places(6).iter().map(|place| anchor(*place, 2000, key)).collect();
            let told = with_scoring(&balance, &[], 2000, |scoring| {
                estimates(&anchors, &TEMPERATURES, scoring, &ranking())
            });
            for (candidate, (told, truth)) in told.iter().zip(&truth).enumerate() {
                // The truth is of another draw; far beyond an anchor a bias is left.
                let allowed = if candidate == 5 { 0.08 } else { 0.035 };
                assert!((told - truth).abs() < allowed, "{cap:?}: {told} for {truth}");
            }
            // And nearer than what the nearest anchor scored.
            for (candidate, anchor) in [(0, 2), (1, 2), (4, 3), (5, 3)] {
                let [told, as_anchor] =
                    [told[candidate], truth[anchor]].map(|told| (told - truth[candidate]).abs());
                assert!(told < 0.9 * as_anchor, "{cap:?}: {told} {as_anchor} at {candidate}");
            }
            let spread = truth.iter().copied().fold(0.0, f64::max)
                - truth.iter().copied().fold(1.0, f64::min);
            assert!(spread > 0.1, "a surface with something to tell: {truth:?}");
        }
    }

    #[test]
    fn an_anchor_is_what_it_measured_at_its_best_cap() {
        let key = RngKey::from_seed(7);
        let anchors = [anchor(2, 50, key), anchor(3, 50, key)];
        for caps in [&[][..], &[0, 2]] {
            let balance = balance(CapRule::Uncapped);
            let told = with_scoring(&balance, caps, 50, |scoring| {
                estimates(&anchors, &TEMPERATURES, scoring, &ranking())
            });
            for anchor in &anchors {
                let pools = std::slice::from_ref(&anchor.lane.pool);
                let best_at = |rule: BalanceRule| {
                    let cells = surface(pools, &[], &ranking(), &rule, &THRESHOLDS);
                    cells.iter().map(|cell| cell.balance_score).fold(0.0, f64::max)
                };
                let plain = best_at(balance);
                let capped = best_at(balance.with_cap(Some(2)));
                let best = if caps.is_empty() { plain } else { plain.max(capped) };
                assert!((told[anchor.candidate] - best).abs() < 1e-12);
                assert!((plain - capped).abs() > 1e-3, "a cap that matters");
            }
        }
    }

    const ANCHORS: [usize; 2] = [1, 4];
    /// Of a query with five responses.
    const LOGITS: [f64; 5] = [0.0, -0.3, -0.7, -1.0, -1.2];

    fn at_each() -> Vec<Vec<f64>> {
        TEMPERATURES.iter().map(|t| soft(LOGITS.into_iter(), *t)).collect()
    }

    /// Every pair of groups of three that the anchors draw with one and the same luck, with its chance:
    /// a uniform number falls where both draw these two responses.
    fn groups_of_one_luck() -> Vec<([Vec<usize>; 2], f64)> {
        let at = at_each();
        let ends = |anchor: usize, response: usize| {
            let before: f64 = at[ANCHORS[anchor]][..response].iter().sum();
            (before, before + at[ANCHORS[anchor]][response])
        };
        let mut both = Vec::new();
        for (a, b) in (0..5).flat_map(|a| (0..5).map(move |b| (a, b))) {
            let ((a_low, a_high), (b_low, b_high)) = (ends(0, a), ends(1, b));
            let chance = a_high.min(b_high) - a_low.max(b_low);
            if chance > 0.0 {
                both.push(((a, b), chance));
            }
        }
        let mut groups = vec![([Vec::new(), Vec::new()], 1.0)];
        for _ in 0..3 {
            let longer = |(groups, chance): &([Vec<usize>; 2], f64)| {
                let add = |((a, b), more): &((usize, usize), f64)| {
                    let [first, second] = groups;
                    let [first, second] = [(first, a), (second, b)]
                        .map(|(group, response)| [group.as_slice(), &[*response]].concat());
                    ([first, second], chance * more)
                };
                both.iter().map(add).collect::<Vec<_>>()
            };
            groups = groups.iter().flat_map(longer).collect();
        }
        groups
    }

    fn small_anchor(place: usize, group: &[usize], at: &[Vec<f64>]) -> Anchor {
        let rows = group.iter().enumerate().map(|(sample, r)| scored(sample, *r)).collect();
        let candidate = ANCHORS[place];
        let pool = Pool { temperature: TEMPERATURES[candidate], top_p: None, groups: vec![rows] };
        let logs = |r: &usize| at.iter().map(|p| p[*r].ln()).collect();
        Anchor { candidate, lane: Lane { pool, logprobs: vec![group.iter().map(logs).collect()] } }
    }

    #[test]
    fn over_everything_that_can_be_drawn_the_weights_are_exact() {
        let at = at_each();
        let rule = BalanceRule { target_count: 2, ..balance(CapRule::Uncapped) };
        let mut told = vec![[0.0; 3]; TEMPERATURES.len()];
        let all = groups_of_one_luck();
        assert!((all.iter().map(|(_, chance)| chance).sum::<f64>() - 1.0).abs() < 1e-12);
        for (groups, chance) in all {
            let anchors = [0, 1].map(|place| small_anchor(place, &groups[place], &at));
            let ranked = [0, 1].map(|a| RankedPool::new(&anchors[a].lane.pool, &[], &ranking()));
            with_scoring(&rule, &[], 1, |scoring| {
                let scoring = Scoring { samples: 3, thresholds: &[-0.5], ..*scoring };
                let seen = seen(&anchors, &ranked, 0, (&scoring, &ranking()));
                let scores = estimates(&anchors, &TEMPERATURES, &scoring, &ranking());
                for (candidate, told) in told.iter_mut().enumerate() {
                    for response in &seen {
                        let weight = chance * response.alike * response.held[candidate];
                        told[0] += weight;
                        told[1] += if response.correct { weight } else { 0.0 };
                    }
                    told[2] += chance * scores[candidate];
                }
            });
        }
        let distinct = |group: &[usize], right: bool| {
            let kept = group.iter().filter(|r| !right || is_right(**r));
            kept.collect::<std::collections::BTreeSet<_>>().len() as f64
        };
        for (told, p) in told.iter().zip(&at) {
            let mut exact = [0.0; 3];
            for code in 0..125 {
                let group = [code % 5, code / 5 % 5, code / 25];
                let chance: f64 = group.iter().map(|response| p[*response]).product();
                let (n, right) = (distinct(&group, false), distinct(&group, true));
                exact[0] += chance * n;
                exact[1] += chance * right;
                exact[2] += chance * (right / 2.0).min(1.0) * right / n;
            }
            // Counts are unbiased; a score, which bends, is nearly so.
            assert!((told[0] - exact[0]).abs() < 1e-12, "{told:?} {exact:?}");
            assert!((told[1] - exact[1]).abs() < 1e-12, "{told:?} {exact:?}");
            assert!((told[2] - exact[2]).abs() < 0.02, "{told:?} {exact:?}");
        }
    }

    #[test]
    fn a_gold_solution_weighs_one_at_every_candidate() {
        let at = at_each();
        let anchors = [small_anchor(0, &[0, 2, 3], &at), small_anchor(1, &[0, 4, 2], &at)];
        let gold = RankingRule { gold_competes: true, ..ranking() };
        let ranked = [0, 1].map(|a| RankedPool::new(&anchors[a].lane.pool, &[Some(7)], &gold));
        with_scoring(&balance(CapRule::Uncapped), &[], 1, |scoring| {
            let seen = seen(&anchors, &ranked, 0, (scoring, &gold));
            let is_gold = |response: &&Seen| response.held.iter().all(|held| *held == 1.0);
            assert_eq!(seen.iter().filter(is_gold).count(), 1, "{seen:?}");
            assert!(seen.windows(2).all(|two| two[0].reward >= two[1].reward));
        });
    }

    #[test]
    fn anchors_stand_at_the_thirds() {
        let places: Vec<Vec<usize>> = (1..=8).map(anchor_places).collect();
        let wanted = [
            vec![0],
            vec![0, 1],
            vec![0, 2],
            vec![1, 2],
            vec![1, 3],
            vec![2, 3],
            vec![2, 4],
            vec![2, 5],
        ];
        assert_eq!(places, wanted);
    }

    #[test]
    fn a_bend_is_a_bend() {
        assert!((bent(1.0, 0.0, 4.0) - 0.25).abs() < 1e-6);
        assert!((bent(9.0, 0.0, 4.0) - 1.0).abs() < 1e-6);
        // The mean of min(x, 4) of a normal x around 4 with deviation 1 is 4 - 1/√(2π).
        let lost = 1.0 / std::f64::consts::TAU.sqrt();
        assert!((bent(4.0, 1.0, 4.0) - (4.0 - lost) / 4.0).abs() < 1e-6);
    }

    #[test]
    fn what_it_may_cost_is_what_its_lanes_cost() {
        let limits = Limits { budget: 120, queries: 1200 };
        for (candidates, least, most) in [(2, 120.0, 120.0), (3, 60.0, 120.0), (8, 60.0, 120.0)] {
            let span = cost(limits, candidates);
            assert_eq!((span.least, span.most), (least, most), "{candidates}");
        }
    }
}
