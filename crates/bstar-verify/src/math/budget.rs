//! How much arithmetic one judgement may cost.

use std::cell::Cell;

/// Steps of one judgement; a step is a few tens of nanoseconds of work.
pub(super) const STEPS: u64 = 400_000;

/// Steps that the conditions of sets may take while an answer is read.
const STEPS_OF_READING: u64 = 20_000;

/// What is left of the steps.
pub(super) struct Budget {
    left: Cell<u64>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: Cell::new(STEPS) }
    }

    /// What reading may cost.
    pub(super) fn of_reading() -> Self {
        Self { left: Cell::new(STEPS_OF_READING) }
    }

    /// Takes steps away; none where too few are left, and then nothing is left for others.
    pub(super) fn spend(&self, steps: u64) -> Option<()> {
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.unwrap_or(0));
        left.map(|_| ())
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }

    /// Takes steps away for this many bytes or digits that are looked at one by one.
    pub(super) fn spend_on(&self, length: usize) -> Option<()> {
        self.spend(length as u64 / 8 + 1)
    }
}
