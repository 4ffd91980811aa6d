//! The element-wise parts of a layer, on groups of lanes: RMS norms, biases, rotary embedding and
//! `SwiGLU`.
//!
//! Each kernel does the same to every lane, in an order that depends on shapes only.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::lanes::{Row, WithLanes, add, div, exp, mul, mul_add, rows, rows_mut, splat, sqrt, sub};
use pulp::Simd;

/// `output = input / rms(input) · weight`, over the features of each lane.
pub(super) struct RmsNorm<'a> {
    pub(super) weight: &'a [f32],
    pub(super) epsilon: f32,
    pub(super) input: &'a [f32],
    pub(super) output: &'a mut [f32],
}

impl WithLanes for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        let input = rows::<S, V>(self.input);
        let scale = inverse_rms(simd, input, self.epsilon);
        let output = rows_mut::<S, V>(self.output);
        for ((output, x), weight) in output.iter_mut().zip(input).zip(self.weight) {
            *output = mul(simd, mul(simd, *x, scale), splat(simd, *weight));
        }
    }
}

/// The RMS norm of each head, in place.
pub(super) struct NormHeads<'a> {
    /// Of every head; its length is that of a head.
    pub(super) weight: &'a [f32],
    pub(super) epsilon: f32,
    /// `[head][feature][lane]`.
    pub(super) heads: &'a mut [f32],
}

impl WithLanes for NormHeads<'_> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        for head in rows_mut::<S, V>(self.heads).chunks_exact_mut(self.weight.len()) {
            let scale = inverse_rms(simd, head, self.epsilon);
            for (x, weight) in head.iter_mut().zip(self.weight) {
                *x = mul(simd, mul(simd, *x, scale), splat(simd, *weight));
            }
        }
    }
}

/// Adds a bias to every lane.
pub(super) struct AddBias<'a> {
    /// `[feature]`.
    pub(super) bias: &'a [f32],
    /// `[feature][lane]`.
    pub(super) features: &'a mut [f32],
}

impl WithLanes for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        for (feature, bias) in rows_mut::<S, V>(self.features).iter_mut().zip(self.bias) {
            *feature = add(simd, *feature, splat(simd, *bias));
        }
    }
}

/// One over the root of the mean square of the features of each lane.
#[inline(always)]
fn inverse_rms<S: Simd, const V: usize>(simd: S, input: &[Row<S, V>], epsilon: f32) -> Row<S, V> {
    // Four partial sums, so that one addition need not wait for the last.
    let mut sums = [splat(simd, 0.0); 4];
    let (blocks, rest) = input.as_chunks::<4>();
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block) {
            *sum = mul_add(simd, *x, *x, *sum);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum = mul_add(simd, *x, *x, *sum);
    }
    let square = add(simd, add(simd, sums[0], sums[1]), add(simd, sums[2], sums[3]));
    let share = splat(simd, 1.0 / input.len() as f32);
    let mean = mul_add(simd, square, share, splat(simd, epsilon));
    div(simd, splat(simd, 1.0), sqrt(simd, mean))
}

/// Rotates query and key heads by the angles of their positions, in place. The first half of a
/// head's features rows with the second half.
pub(super) struct Rotate<'a> {
    /// `[half a head][lane]`.
    pub(super) cosines: &'a [f32],
    /// `[half a head][lane]`.
    pub(super) sines: &'a [f32],
    /// Queries are also multiplied by this.
    pub(super) query_scale: f32,
    /// How many of the heads are queries.
    pub(super) query_heads: usize,
    /// `[head][feature][lane]`: queries, then keys.
    pub(super) heads: &'a mut [f32],
}

impl WithLanes for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        let cosines = rows::<S, V>(self.cosines);
        let sines = rows::<S, V>(self.sines);
        let half = cosines.len();
        let heads = rows_mut::<S, V>(self.heads).chunks_exact_mut(2 * half);
        for (number, head) in heads.enumerate() {
            let scale = if number < self.query_heads { self.query_scale } else { 1.0 };
            let scale = splat(simd, scale);
            let (low, high) = head.split_at_mut(half);
            for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                let turned = sub(simd, mul(simd, *a, *cos), mul(simd, *b, *sin));
                *b = mul(simd, add(simd, mul(simd, *b, *cos), mul(simd, *a, *sin)), scale);
                *a = mul(simd, turned, scale);
            }
        }
    }
}

/// `gate = gate · sigmoid(gate) · up`, in place, with the gates above the ups.
pub(super) struct SwiGlu<'a> {
    /// `[gates, then ups][lane]`.
    pub(super) gates_ups: &'a mut [f32],
}

impl WithLanes for SwiGlu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        let gates_ups = rows_mut::<S, V>(self.gates_ups);
        let (gates, ups) = gates_ups.split_at_mut(gates_ups.len() / 2);
        let one = splat(simd, 1.0);
        for (gate, up) in gates.iter_mut().zip(ups) {
            let negated = sub(simd, splat(simd, 0.0), *gate);
            let divisor = add(simd, one, exp(simd, negated));
            *gate = mul(simd, div(simd, *gate, divisor), *up);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::lanes::Lanes;
    use pulp::Arch;

    fn wave(count: usize, step: f64) -> Vec<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "test values")]
        (0..count).map(|i| (3.0 * (step * i as f64).sin()) as f32).collect()
    }

    fn check(what: &str, value: f32, exact: f64) {
        let error = (f64::from(value) - exact).abs();
        assert!(error < 1e-6 * exact.abs().max(1.0), "{what}: {value} is not {exact}");
    }

    #[test]
    fn rms_norm_follows_its_definition() {
        let group = Lanes::wide(Arch::new());
        let lanes = group.count();
        let (weight, input) = (wave(7, 0.3), wave(7 * lanes, 0.7));
        let mut output = vec![0.0; input.len()];
        group.dispatch(RmsNorm {
            weight: &weight,
            epsilon: 1e-5,
            input: &input,
            output: &mut output,
        });
        for lane in 0..lanes {
            let row = |i: usize| f64::from(input[i * lanes + lane]);
            let square = (0..7).map(|i| row(i) * row(i)).sum::<f64>() / 7.0;
            for i in 0..7 {
                let exact = row(i) / (square + 1e-5).sqrt() * f64::from(weight[i]);
                check("norm", output[i * lanes + lane], exact);
            }
        }
    }

    #[test]
    fn heads_are_normalised_one_by_one_after_their_bias() {
        let group = Lanes::wide(Arch::new());
        let lanes = group.count();
        let (weight, bias, input) = (wave(6, 0.3), wave(12, 0.8), wave(12 * lanes, 0.7));
        let mut output = input.clone();
        group.dispatch(AddBias { bias: &bias, features: &mut output });
        group.dispatch(NormHeads { weight: &weight, epsilon: 1e-5, heads: &mut output });
        for (head, lane) in (0..2).flat_map(|head| (0..lanes).map(move |lane| (head, lane))) {
            let row = |i: usize| {
                f64::from(input[(head * 6 + i) * lanes + lane]) + f64::from(bias[head * 6 + i])
            };
            let square = (0..6).map(|i| row(i) * row(i)).sum::<f64>() / 6.0;
            for i in 0..6 {
                let exact = row(i) / (square + 1e-5).sqrt() * f64::from(weight[i]);
                check("head", output[(head * 6 + i) * lanes + lane], exact);
            }
        }
    }

    #[test]
    fn swiglu_follows_its_definition() {
        let group = Lanes::wide(Arch::new());
        let lanes = group.count();
        let input = wave(6 * lanes, 0.9);
        let mut output = input.clone();
        group.dispatch(SwiGlu { gates_ups: &mut output });
        for i in 0..3 * lanes {
            let (gate, up) = (f64::from(input[i]), f64::from(input[3 * lanes + i]));
            check("swiglu", output[i], gate / (1.0 + (-gate).exp()) * up);
        }
    }

    #[test]
    fn rotation_turns_queries_and_keys_and_scales_queries_only() {
        let group = Lanes::wide(Arch::new());
        let lanes = group.count();
        let angles = wave(2 * lanes, 0.11);
        let cosines: Vec<f32> = angles.iter().map(|x| x.cos()).collect();
        let sines: Vec<f32> = angles.iter().map(|x| x.sin()).collect();
        let input = wave(2 * 4 * lanes, 0.4);
        let mut output = input.clone();
        group.dispatch(Rotate {
            cosines: &cosines,
            sines: &sines,
            query_scale: 0.5,
            query_heads: 1,
            heads: &mut output,
        });
        for (head, scale) in [(0, 0.5), (1, 1.0)] {
            for i in 0..2 * lanes {
                let at = head * 4 * lanes + i;
                let (a, b) = (f64::from(input[at]), f64::from(input[at + 2 * lanes]));
                let (cos, sin) = (f64::from(cosines[i]), f64::from(sines[i]));
                check("low", output[at], scale * (a * cos - b * sin));
                check("high", output[at + 2 * lanes], scale * (b * cos + a * sin));
            }
        }
    }
}
