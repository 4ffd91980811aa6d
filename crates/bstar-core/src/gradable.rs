//! Whether the checker could decide: a run stops when too many answers are ungradable.
//!
//! A checker that cannot read the answers steers the run by the few that it can. Where more than
//! `most_ungradable` of the answers of a stage, or of those that a reward model is to learn from,
//! cannot be decided, that is a fault, which names the reasons and an example of each.

use crate::fault::{Fault, FaultClass};
use crate::rollout::{QueryId, Rollout, Verdict};
use std::collections::BTreeMap;

/// Characters of an answer that a message shows.
const MOST_SHOWN: usize = 60;

/// Answers that were checked, and why some of them could not be decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Undecided {
    checked: usize,
    found: usize,
    /// For each reason, how often it was given, and an answer and its query.
    reasons: BTreeMap<String, (usize, String, QueryId)>,
}

impl Undecided {
    /// Counts one more answer.
    pub(crate) fn add(
        &mut self,
        verdict: Verdict,
        reason: Option<&str>,
        answer: Option<&str>,
        query: &QueryId,
    ) {
        self.checked += 1;
        if verdict != Verdict::Ungradable {
            return;
        }
        self.found += 1;
        let reason = reason.unwrap_or("no reason given").to_owned();
        let example = || {
            let shown = answer.unwrap_or_default().chars().take(MOST_SHOWN).collect();
            (0, shown, query.clone())
        };
        self.reasons.entry(reason).or_insert_with(example).0 += 1;
    }

    /// The answers of rollouts.
    pub(crate) fn among(rollouts: &[Rollout]) -> Self {
        let mut all = Self::default();
        for rollout in rollouts {
            let (reason, answer) = (rollout.reason.as_deref(), rollout.answer.as_deref());
            all.add(rollout.verdict, reason, answer, &rollout.query_id);
        }
        all
    }

    /// How many could not be decided.
    pub(crate) fn count(&self) -> u64 {
        self.found as u64
    }

    /// Refuses more than the share `most` of these answers, which messages call `what`.
    pub(crate) fn check(&self, what: &str, most: f64) -> Result<(), Fault> {
        let Self { checked, found, reasons } = self;
        let share = *found as f64 / (*checked).max(1) as f64;
        if share <= most {
            return Ok(());
        }
        let told = reasons.iter().map(|(reason, (count, answer, query))| {
            format!("{reason} {count} times (such as {answer:?} for {query})")
        });
        let told = told.collect::<Vec<_>>().join(", ");
        let message = format!("{found} of {checked} {what} cannot be graded: {told}");
        Err(Fault::new(FaultClass::Training, message).hint(
            "if these answers make sense, choose a fitting `task.files.verifier` or \
             `task.files.extract`; if they do not, give the policy more supervised fine-tuning \
             (`supervised.steps`); `run.most_ungradable` allows more, and the run then goes on where \
             it stands",
        ))
    }
}
