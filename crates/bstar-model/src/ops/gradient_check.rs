//! Checks the backward pass of an operation by finite differences (tests only).
//!
//! The operation's result is reduced to one number by a fixed random linear form; each component of
//! each input is then moved both ways and the slope compared with the gradient that the backward
//! pass gives for that form.

use bstar_core::RngKey;
use bstar_core::rng::normal;

/// Standard normal draws.
#[expect(clippy::cast_possible_truncation, reason = "inputs are f32")]
pub(crate) fn draw(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = RngKey::from_seed(seed).child("gradient-check").rng();
    (0..count).map(|_| normal(&mut rng) as f32).collect()
}

/// Asserts that `backward(inputs, gradient of the output)`, one gradient for each input, has the
/// slopes of `forward` at `inputs`.
pub(crate) fn check_gradients(
    inputs: &[Vec<f32>],
    forward: impl Fn(&[Vec<f32>]) -> Vec<f32>,
    backward: impl Fn(&[Vec<f32>], &[f32]) -> Vec<Vec<f32>>,
) {
    check_gradients_within(2e-3, inputs, forward, backward);
}

/// The same for an operation that rounds more: `tolerance` is the error of a slope near 0, and the
/// relative one of a large slope.
pub(crate) fn check_gradients_within(
    tolerance: f64,
    inputs: &[Vec<f32>],
    forward: impl Fn(&[Vec<f32>]) -> Vec<f32>,
    backward: impl Fn(&[Vec<f32>], &[f32]) -> Vec<Vec<f32>>,
) {
    const STEP: f32 = 1.0 / 128.0;
    let form = draw(99, forward(inputs).len());
    let value = |inputs: &[Vec<f32>]| -> f64 {
        forward(inputs).iter().zip(&form).map(|(y, f)| f64::from(*y) * f64::from(*f)).sum()
    };
    let gradients = backward(inputs, &form);
    assert_eq!(gradients.len(), inputs.len(), "one gradient for each input");
    for (index, gradient) in gradients.iter().enumerate() {
        assert_eq!(gradient.len(), inputs[index].len());
        for (component, found) in gradient.iter().copied().map(f64::from).enumerate() {
            let moved = |by: f32| {
                let mut inputs = inputs.to_vec();
                inputs[index][component] += by;
                value(&inputs)
            };
            let slope = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            assert!(
                (found - slope).abs() < tolerance * (1.0 + slope.abs()),
                "input {index}, component {component}: gradient {found}, slope {slope}"
            );
        }
    }
}
