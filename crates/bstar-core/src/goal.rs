//! Whether P_0 reached its accuracy goal, as the events of a run tell it.

use crate::event::{Event, Piece};
use serde::Serialize;
use std::fmt;

/// The last validation of a P_0 that did not reach its accuracy goal within its steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MissedGoal {
    /// Steps done.
    pub step: u64,
    /// Share of the validation queries answered right.
    pub accuracy: f64,
    /// Validation queries.
    pub queries: u64,
    /// The share that was wanted.
    pub goal: f64,
}

impl fmt::Display for MissedGoal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, accuracy, queries, goal } = self;
        let [accuracy, goal] = [accuracy, goal].map(|share| 100.0 * share);
        write!(
            out,
            "{accuracy:.1} % of {queries} validation queries after {step} steps, not {goal:.1} %"
        )
    }
}

/// Follows the validations of P_0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GoalWatch {
    /// The last one towards a goal, until P_0 is complete.
    validated: Option<MissedGoal>,
    missed: Option<MissedGoal>,
}

impl GoalWatch {
    /// The next event of the run.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Validated { step, accuracy, queries, goal } => {
                let (step, accuracy, queries) = (*step, *accuracy, *queries);
                self.validated = goal.map(|goal| MissedGoal { step, accuracy, queries, goal });
            }
            Event::Published { iteration: 0, piece: Piece::Train } => {
                self.missed = self.validated.take().filter(|last| last.accuracy < last.goal);
            }
            _ => {}
        }
    }

    /// What P_0 reached, where it is complete and that is not its goal.
    pub fn missed(&self) -> Option<MissedGoal> {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_missed_once_p_0_is_complete_below_it() {
        let validated =
            |step, accuracy, goal| Event::Validated { step, accuracy, queries: 40, goal };
        let complete = Event::Published { iteration: 0, piece: Piece::Train };
        let missed = |events: &[Event]| {
            let mut watch = GoalWatch::default();
            for event in events {
                watch.add(event);
            }
            watch.missed().map(|missed| missed.step)
        };
        let short = validated(60, 0.45, Some(0.9));
        assert_eq!(
            missed(&[validated(25, 0.8, Some(0.9)), short.clone(), complete.clone()]),
            Some(60)
        );
        assert_eq!(missed(std::slice::from_ref(&short)), None, "it may still reach it");
        assert_eq!(missed(&[short, validated(75, 0.9, Some(0.9)), complete.clone()]), None);
        assert_eq!(missed(&[validated(60, 0.45, None), complete]), None, "there is none");
    }
}
