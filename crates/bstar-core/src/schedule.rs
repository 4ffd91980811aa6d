//! The learning-rate schedule: linear warm-up, then one cosine (spec §1.6).
//!
//! A schedule spans a horizon of steps. Methods that carry it use one horizon over all iterations;
//! the others start a new one in each iteration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cosine from a peak to a floor after a linear warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineSchedule {
    /// Learning rate at the end of the warm-up.
    pub peak: f64,
    /// Learning rate at the horizon and after it.
    pub floor: f64,
    /// Length of the warm-up in steps; may be a fraction of a step.
    pub warmup_steps: f64,
    /// The step at which the floor is reached.
    pub horizon_steps: f64,
}

impl CosineSchedule {
    /// The learning rate of step `step` (0-based).
    pub fn learning_rate(&self, step: u64) -> f64 {
        let step = step as f64;
        if step < self.warmup_steps {
            return self.peak * step / self.warmup_steps;
        }
        let ratio = self.floor / self.peak;
        let span = (self.horizon_steps - self.warmup_steps).max(f64::MIN_POSITIVE);
        let progress = ((step - self.warmup_steps) / span).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.peak * (ratio + (1.0 - ratio) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_run_has_these_learning_rates() {
        // Spec §1.6: 527 steps an epoch, 9 epochs, warm-up of 0.2 of one epoch.
        let schedule = CosineSchedule {
            peak: 4.12e-6,
            floor: 2e-7,
            warmup_steps: 105.4,
            horizon_steps: 4743.0,
        };
        for (step, expected) in [
            (0, 0.0),
            (100, 3.9089e-6),
            (500, 4.0504e-6),
            (1000, 3.7710e-6),
            (2500, 2.0594e-6),
            (4500, 2.2650e-7),
            (4743, 2e-7),
        ] {
            let rate = schedule.learning_rate(step);
            assert!((rate - expected).abs() < 1e-10, "step {step}: {rate} is not {expected}");
        }
    }
}
