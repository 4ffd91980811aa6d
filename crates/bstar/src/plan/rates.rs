//! Seconds of each unit of work, and of a whole piece of it.

use bstar_core::plan::{Purpose, Span, Tokens, Work};
use serde::{Deserialize, Serialize};

/// Share of the responses to a query that differ from those before, for those that repeat are scored and
/// weighed with them: on the built-in task it is from 58 to 76 % (`docs/log.md`).
pub(crate) const DISTINCT: f64 = 2.0 / 3.0;

/// Seconds of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    /// To read a token of a prompt.
    pub(crate) read: f64,
    /// To draw a token.
    pub(crate) draw: f64,
    /// To train on a token: in supervised fine-tuning, and on responses.
    pub(crate) train: [f64; 2],
    /// Before the first step of an update.
    pub(crate) update: f64,
    /// To score a token.
    pub(crate) score: f64,
    /// To read a token of a response, or of its prompt, to tell how likely it is.
    pub(crate) weigh: f64,
    /// To grade a response.
    pub(crate) grade: f64,
    /// To store and monitor a response.
    pub(crate) keep: f64,
}

impl Rates {
    /// Seconds of a piece of work; supervised fine-tuning begins `updates` times.
    pub(crate) fn seconds(&self, work: &Work, tokens: &Tokens, updates: Span) -> Span {
        let [supervised, responses] = self.train;
        let train = if work.purpose == Purpose::Supervised { supervised } else { responses };
        tokens.prompt * self.read
            + tokens.generated * self.draw
            + tokens.trained * train
            + tokens.scored * (DISTINCT * self.score)
            + tokens.weighed * (DISTINCT * self.weigh)
            + work.responses * self.grade
            + work.stored * self.keep
            + updates * self.update
    }
}
