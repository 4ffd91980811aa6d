//! From logits to tokens: what is drawn, and what is known of the draw.
//!
//! Log-probability and entropy are those of the distribution at temperature 1 without truncation,
//! whatever the token was drawn from. A token is drawn by inverting the cumulative distribution: of
//! the tokens in order of their ids, the first whose cumulative weight exceeds a uniform number
//! times the total. The weights are `exp((logit - largest) / temperature)`; top-k then keeps the k
//! largest weights, top-p the smallest set of the largest of those that holds its share of what
//! top-k kept (ties in both: the lower ids stay), and min-p of those the ones that are at least its
//! share of the largest. Temperature 0 takes the largest logit (ties: the
//! lowest id). Sums are `f64` in the order of ids, so a lane's draw depends on its logits alone.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::lanes::{
    Buffer, Lanes, MAX_LANES, WithLanes, exp, lanes_of, mul, rows, rows_mut, splat, sub,
};
use bstar_core::ports::Decoding;
use pulp::Simd;

/// The next-token distributions of a group of lanes.
#[derive(Debug)]
pub(super) struct Distribution {
    lanes: Lanes,
    /// `[token][lane]`: the exponential of each logit less the largest.
    exponentials: Buffer,
    /// `[token][lane]`: what is drawn from; empty until a draw needs it.
    weights: Buffer,
    /// For each lane, the largest logit.
    largest: [f32; MAX_LANES],
    /// For each lane, the lowest token with the largest logit.
    likeliest: [u32; MAX_LANES],
    /// For each lane, the sum of its exponentials.
    total: [f64; MAX_LANES],
    /// For each lane, the sum of exponential × (logit - largest).
    weighted: [f64; MAX_LANES],
}

impl Distribution {
    /// Room for a group.
    pub(super) fn new(vocabulary: usize, lanes: Lanes) -> Self {
        Self {
            lanes,
            exponentials: Buffer::zeroed(vocabulary * lanes.count()),
            weights: Buffer::zeroed(0),
            largest: [0.0; MAX_LANES],
            likeliest: [0; MAX_LANES],
            total: [0.0; MAX_LANES],
            weighted: [0.0; MAX_LANES],
        }
    }

    /// Takes the distributions of logits `[token][lane]`.
    pub(super) fn load(&mut self, logits: &[f32]) {
        self.lanes.dispatch(Summarise { logits, distribution: self });
    }

    /// Whether the distribution of a lane exists: every logit is finite.
    pub(super) fn is_finite(&self, lane: usize) -> bool {
        self.total[lane].is_finite() && self.weighted[lane].is_finite()
    }

    /// Log-probability (nats) of a token whose logit this is.
    pub(super) fn log_probability(&self, lane: usize, logit: f32) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "records are f32")]
        let log_probability =
            (f64::from(logit - self.largest[lane]) - self.total[lane].ln()) as f32;
        log_probability
    }

    /// Entropy (nats).
    pub(super) fn entropy(&self, lane: usize) -> f32 {
        let total = self.total[lane];
        #[expect(clippy::cast_possible_truncation, reason = "records are f32")]
        let entropy = (total.ln() - self.weighted[lane] / total) as f32;
        entropy.max(0.0)
    }

    /// Draws a token for each lane from its uniform number in `[0, 1)`. `active` tells which lanes
    /// matter; the tokens of others are arbitrary.
    pub(super) fn draw(
        &mut self,
        logits: &[f32],
        decoding: &Decoding,
        uniform: &[f64; MAX_LANES],
        active: &[bool; MAX_LANES],
    ) -> [u32; MAX_LANES] {
        if decoding.temperature == 0.0 {
            return self.likeliest;
        }
        let lanes = self.lanes.count();
        let vocabulary = self.exponentials.len() / lanes;
        let top_k = if decoding.top_k == 0 { vocabulary } else { decoding.top_k.min(vocabulary) };
        let truncates = top_k < vocabulary || decoding.top_p < 1.0;
        if decoding.temperature == 1.0 && !truncates && decoding.min_p == 0.0 {
            return self.lanes.dispatch(Walk { weights: &self.exponentials, uniform });
        }
        if self.weights.is_empty() {
            self.weights = Buffer::zeroed(self.exponentials.len());
        }
        #[expect(clippy::cast_possible_truncation, reason = "arithmetic is f32")]
        let inverse_temperature = (1.0 / decoding.temperature) as f32;
        self.lanes.dispatch(Temper {
            logits,
            largest: &self.largest,
            inverse_temperature,
            weights: &mut self.weights,
        });
        if truncates {
            for lane in (0..lanes).filter(|&lane| active[lane]) {
                truncate(&mut self.weights, lanes, lane, top_k, decoding.top_p);
            }
        }
        if decoding.min_p > 0.0 {
            // The largest weight is exactly 1.
            #[expect(clippy::cast_possible_truncation, reason = "arithmetic is f32")]
            let least = decoding.min_p as f32;
            for weight in &mut *self.weights {
                *weight = if *weight < least { 0.0 } else { *weight };
            }
        }
        self.lanes.dispatch(Walk { weights: &self.weights, uniform })
    }
}

/// Sets to zero the weights `[token][lane]` of a lane that top-k and top-p leave out.
fn truncate(weights: &mut [f32], lanes: usize, lane: usize, top_k: usize, top_p: f64) {
    let weight = |token: usize| weights[token * lanes + lane];
    let mut order: Vec<usize> = (0..weights.len() / lanes).collect();
    order.sort_unstable_by(|&a, &b| weight(b).total_cmp(&weight(a)).then(a.cmp(&b)));
    let enough = top_p * order[..top_k].iter().map(|&token| f64::from(weight(token))).sum::<f64>();
    let mut reached = 0.0;
    let mut kept = 0;
    // With a top-p of 1 rounding must not leave anything out.
    while kept < top_k && (top_p >= 1.0 || reached < enough) {
        reached += f64::from(weight(order[kept]));
        kept += 1;
    }
    for token in &order[kept..] {
        weights[token * lanes + lane] = 0.0;
    }
}

struct Summarise<'a> {
    logits: &'a [f32],
    distribution: &'a mut Distribution,
}

impl WithLanes for Summarise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        let Self { logits, distribution } = self;
        let lanes = lanes_of::<S, V>();
        let (mut best, mut likeliest) = ([f32::NEG_INFINITY; MAX_LANES], [0; MAX_LANES]);
        for (token, row) in (0_u32..).zip(logits.chunks_exact(lanes)) {
            let lanes = best[..lanes].iter_mut().zip(&mut likeliest[..lanes]).zip(row);
            for ((best, likeliest), &logit) in lanes {
                *likeliest = if logit > *best { token } else { *likeliest };
                *best = if logit > *best { logit } else { *best };
            }
        }
        let (mut total, mut weighted) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        let largest = rows::<S, V>(&best)[0];
        let exponentials = distribution.exponentials.chunks_exact_mut(lanes);
        for (row, exponentials) in logits.chunks_exact(lanes).zip(exponentials) {
            let less = sub(simd, rows::<S, V>(row)[0], largest);
            let exponential = exp(simd, less);
            rows_mut::<S, V>(exponentials)[0] = exponential;
            let mut products = [0.0; MAX_LANES];
            rows_mut::<S, V>(&mut products)[0] = mul(simd, exponential, less);
            for (total, &mut exponential) in total[..lanes].iter_mut().zip(exponentials) {
                *total += f64::from(exponential);
            }
            for (weighted, &product) in weighted[..lanes].iter_mut().zip(&products) {
                *weighted += f64::from(product);
            }
        }
        distribution.largest = best;
        distribution.likeliest = likeliest;
        distribution.total = total;
        distribution.weighted = weighted;
    }
}

struct Temper<'a> {
    logits: &'a [f32],
    largest: &'a [f32; MAX_LANES],
    inverse_temperature: f32,
    weights: &'a mut [f32],
}

impl WithLanes for Temper<'_> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        let largest = rows::<S, V>(self.largest)[0];
        let inverse_temperature = splat(simd, self.inverse_temperature);
        let logits = rows::<S, V>(self.logits).iter();
        for (logit, weight) in logits.zip(rows_mut::<S, V>(self.weights)) {
            let less = sub(simd, *logit, largest);
            *weight = exp(simd, mul(simd, less, inverse_temperature));
        }
    }
}

struct Walk<'a> {
    weights: &'a [f32],
    uniform: &'a [f64; MAX_LANES],
}

impl WithLanes for Walk<'_> {
    type Output = [u32; MAX_LANES];

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, _: S) -> [u32; MAX_LANES] {
        let lanes = lanes_of::<S, V>();
        let mut total = [0.0; MAX_LANES];
        for row in self.weights.chunks_exact(lanes) {
            for (total, &weight) in total[..lanes].iter_mut().zip(row) {
                *total += f64::from(weight);
            }
        }
        // A product with a number below 1 is below the total, so that the walk ends at a token of
        // positive weight.
        let mut target = [0.0; MAX_LANES];
        for ((target, total), uniform) in target.iter_mut().zip(total).zip(self.uniform) {
            *target = total * uniform;
        }
        let (mut reached, mut passed) = ([0.0; MAX_LANES], [0_u32; MAX_LANES]);
        for row in self.weights.chunks_exact(lanes) {
            let sums = reached[..lanes].iter_mut().zip(&mut passed[..lanes]);
            for (((reached, passed), target), &weight) in sums.zip(&target[..lanes]).zip(row) {
                *reached += f64::from(weight);
                *passed += u32::from(*reached <= *target);
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstar_core::RngKey;
    use bstar_core::rng::uniform;
    use pulp::Arch;

    /// Draws from the same logits in every lane, `lanes` at a time.
    fn draws(logits: &[f32], decoding: &Decoding, count: usize) -> Vec<u32> {
        let group = Lanes::wide(Arch::new());
        let lanes = group.count();
        let logits: Vec<f32> =
            logits.iter().flat_map(|&logit| std::iter::repeat_n(logit, lanes)).collect();
        let mut distribution = Distribution::new(logits.len() / lanes, group);
        distribution.load(&logits);
        let mut rng = RngKey::from_seed(11).rng();
        let mut drawn = Vec::new();
        while drawn.len() < count {
            let uniform = std::array::from_fn(|_| uniform(&mut rng));
            let tokens = distribution.draw(&logits, decoding, &uniform, &[true; MAX_LANES]);
            drawn.extend_from_slice(&tokens[..lanes]);
        }
        drawn.truncate(count);
        drawn
    }

    fn decoding(temperature: f64, top_k: usize, top_p: f64) -> Decoding {
        Decoding { temperature, top_p, top_k, ..Decoding::greedy(1) }
    }

    /// Which tokens are drawn at all.
    fn check_support(top_k: usize, top_p: f64, expected: &[u32]) {
        // Probabilities 0.1, 0.3, 0.05, 0.3, 0.2, 0.05.
        let logits = [0.1_f32, 0.3, 0.05, 0.3, 0.2, 0.05].map(f32::ln);
        let mut drawn = draws(&logits, &decoding(1.0, top_k, top_p), 4000);
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, expected, "top-k {top_k}, top-p {top_p}");
    }

    #[test]
    fn top_k_then_top_p_keep_the_likeliest_tokens_and_the_lower_id_of_equals() {
        check_support(0, 1.0, &[0, 1, 2, 3, 4, 5]);
        check_support(6, 1.0, &[0, 1, 2, 3, 4, 5]);
        check_support(1, 1.0, &[1]);
        check_support(2, 1.0, &[1, 3]);
        check_support(5, 1.0, &[0, 1, 2, 3, 4]);
        check_support(0, 0.25, &[1]);
        check_support(0, 0.35, &[1, 3]);
        check_support(0, 0.79, &[1, 3, 4]);
        check_support(0, 0.85, &[0, 1, 3, 4]);
        check_support(0, 1e-9, &[1]);
        // Of what top-3 keeps (0.8), 0.7 is 0.56: two tokens; of all, three would be needed.
        check_support(3, 0.7, &[1, 3]);
        check_support(0, 0.7, &[1, 3, 4]);
    }

    #[test]
    fn min_p_keeps_the_tokens_that_are_at_least_its_share_of_the_largest() {
        let logits = [0.1_f32, 0.3, 0.05, 0.3, 0.2, 0.05].map(f32::ln);
        for (temperature, top_k, min_p, expected) in [
            (1.0, 0, 0.9, vec![1, 3]),
            (1.0, 0, 0.6, vec![1, 3, 4]),
            (1.0, 0, 0.3, vec![0, 1, 3, 4]),
            (1.0, 0, 0.1, vec![0, 1, 2, 3, 4, 5]),
            (1.0, 1, 0.6, vec![1]),
            // At temperature 1/2 probabilities are squared: 0.2 is 4/9 of the largest.
            (0.5, 0, 0.6, vec![1, 3]),
            (1.0, 0, 1.0, vec![1, 3]),
        ] {
            let decoding = Decoding { min_p, ..decoding(temperature, top_k, 1.0) };
            let mut drawn = draws(&logits, &decoding, 4000);
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn, expected, "temperature {temperature}, min-p {min_p}");
        }
    }

    #[test]
    fn temperature_zero_takes_the_lowest_of_the_likeliest_tokens() {
        for (logits, expected) in
            [([0.0, 2.0, 2.0, -1.0], 1), ([5.0, 5.0, 5.0, 5.0], 0), ([-3.0, -2.5, -9.0, -2.25], 3)]
        {
            assert_eq!(draws(&logits, &decoding(0.0, 0, 1.0), 5), [expected; 5], "{logits:?}");
        }
    }

    /// Pearson's statistic of 200,000 draws; the bound is the 99.9 % point of chi-square with 7
    /// degrees of freedom (tokens of no weight have none).
    fn check_distribution(decoding: &Decoding, kept: &[usize]) {
        let logits = [0.3_f32, -1.0, 2.0, 0.0, 1.1, -0.4, 0.9, 1.7];
        let count = 200_000;
        let mut observed = [0_u32; 8];
        for token in draws(&logits, decoding, count) {
            observed[token as usize] += 1;
        }
        let weight = |token: usize| (f64::from(logits[token]) / decoding.temperature).exp();
        let total: f64 = kept.iter().map(|&token| weight(token)).sum();
        let mut statistic = 0.0;
        for token in 0..8 {
            let observed = f64::from(observed[token]);
            if kept.contains(&token) {
                let expected = count as f64 * weight(token) / total;
                statistic += (observed - expected).powi(2) / expected;
            } else {
                assert_eq!(observed, 0.0, "token {token} was left out");
            }
        }
        assert!(statistic < 24.32, "{decoding:?}: {statistic}");
    }

    #[test]
    fn tokens_follow_the_distribution_that_was_asked_for() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7];
        check_distribution(&decoding(1.0, 0, 1.0), &all);
        check_distribution(&decoding(0.7, 0, 1.0), &all);
        check_distribution(&decoding(1.3, 0, 1.0), &all);
        check_distribution(&decoding(1.0, 3, 1.0), &[2, 4, 7]);
        check_distribution(&decoding(0.5, 5, 0.98), &[2, 4, 6, 7]);
    }

    #[test]
    fn records_are_those_of_the_untempered_distribution() {
        let group = Lanes::wide(Arch::new());
        let lanes = group.count();
        let rows: Vec<f32> = (0..9 * lanes).map(|i| 4.0 * (0.37 * i as f32).sin()).collect();
        let mut distribution = Distribution::new(9, group);
        distribution.load(&rows);
        for lane in 0..lanes {
            let logits: Vec<f64> = (0..9).map(|t| f64::from(rows[t * lanes + lane])).collect();
            let log_total = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
            let entropy: f64 =
                logits.iter().map(|l| -(l - log_total).exp() * (l - log_total)).sum();
            assert!((f64::from(distribution.entropy(lane)) - entropy).abs() < 1e-6);
            let log_probability = distribution.log_probability(lane, rows[3 * lanes + lane]);
            assert!((f64::from(log_probability) - (logits[3] - log_total)).abs() < 1e-6);
            assert!(distribution.is_finite(lane));
        }
    }

    #[test]
    fn a_logit_that_is_not_a_number_is_noticed_in_its_lane_only() {
        let group = Lanes::wide(Arch::new());
        let lanes = group.count();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut rows = vec![0.5; 4 * lanes];
            rows[2 * lanes + 1] = bad;
            let mut distribution = Distribution::new(4, group);
            distribution.load(&rows);
            let finite: Vec<usize> = (0..lanes).filter(|&i| distribution.is_finite(i)).collect();
            assert_eq!(finite, (0..lanes).filter(|&i| i != 1).collect::<Vec<_>>(), "{bad}");
        }
    }
}
