//! How much arithmetic one judgement may cost.

use std::cell::Cell;

/// Steps of one judgement: a node evaluated once, or a multiplication of a factorial.
const STEPS: u64 = 400_000;

/// What is left of the steps.
pub(super) struct Budget {
    left: Cell<u64>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: Cell::new(STEPS) }
    }

    /// Takes steps away; none where too few are left.
    pub(super) fn spend(&self, steps: u64) -> Option<()> {
        let left = self.left.get().checked_sub(steps)?;
        self.left.set(left);
        Some(())
    }
}
