//! Where the steps of a response lie among its tokens.

use std::ops::Range;

/// A prompt with a response as tokens, and the last token of each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StepTokens {
    tokens: Vec<u32>,
    prompt_len: usize,
    ends: Vec<usize>,
    is_cut: bool,
}

/// The same with a label for each token that is learned from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LabelledTokens {
    tokens: Vec<u32>,
    prompt_len: usize,
    /// Token and label, ascending.
    labels: Vec<(usize, f32)>,
}

impl StepTokens {
    /// `ends[i]` is the byte at which token `i` of the response ends; a step ends with the last token
    /// that ends within it, or, if a token reaches beyond it, with that token. What lies beyond the
    /// `context` is cut; steps there are judged at the last token left.
    pub(super) fn new(
        prompt: &[u32],
        response: &[u32],
        ends: &[usize],
        steps: &[Range<usize>],
        context: usize,
    ) -> Self {
        let mut tokens = [prompt, response].concat();
        let is_cut = tokens.len() > context;
        tokens.truncate(context);
        let last = tokens.len().saturating_sub(1);
        let end_of = |step: &Range<usize>| {
            let within = ends.partition_point(|&end| end <= step.end);
            let reaches_into_step = within > 0 && ends[within - 1] > step.start;
            let token = if reaches_into_step { within - 1 } else { within };
            (prompt.len() + token).min(last)
        };
        let ends = steps.iter().map(end_of).collect();
        Self { tokens, prompt_len: prompt.len(), ends, is_cut }
    }

    /// Prompt and response.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of the prompt.
    pub(super) fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// Whether some of it lies beyond the context.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The last token of each step.
    pub(super) fn step_ends(&self) -> &[usize] {
        &self.ends
    }

    /// With one label for each step, on every token of a step or on its last one. A token that two
    /// steps share has the label of the later one.
    pub(super) fn labelled(&self, labels: &[f64], every_token: bool) -> LabelledTokens {
        let mut found: Vec<(usize, f32)> = Vec::new();
        let mut next = self.prompt_len;
        for (&end, &label) in self.ends.iter().zip(labels) {
            #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
            let label = label as f32;
            while found.last().is_some_and(|(token, _)| *token >= end) {
                found.pop();
            }
            let first = if every_token { next.min(end) } else { end };
            found.extend((first..=end).map(|token| (token, label)));
            next = end + 1;
        }
        LabelledTokens { tokens: self.tokens.clone(), prompt_len: self.prompt_len, labels: found }
    }
}

impl LabelledTokens {
    /// Prompt and response.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of the prompt.
    pub(super) fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// Tokens and their labels, ascending.
    pub(super) fn labels(&self) -> &[(usize, f32)] {
        &self.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> [Range<usize>; 3] {
        [0..4, 4..6, 6..9]
    }

    #[test]
    fn a_step_ends_with_its_last_token() {
        // Tokens of 2, 2, 2, 1 and 2 bytes.
        let tokens = StepTokens::new(&[7, 7], &[1, 2, 3, 4, 5], &[2, 4, 6, 7, 9], &steps(), 100);
        assert_eq!(tokens.tokens(), [7, 7, 1, 2, 3, 4, 5]);
        assert_eq!(tokens.step_ends(), [3, 4, 6]);
        assert!(!tokens.is_cut());
        let every = tokens.labelled(&[1.0, 0.5, 0.0], true);
        assert_eq!(every.labels(), [(2, 1.0), (3, 1.0), (4, 0.5), (5, 0.0), (6, 0.0)]);
        assert_eq!(
            tokens.labelled(&[1.0, 0.5, 0.0], false).labels(),
            [(3, 1.0), (4, 0.5), (6, 0.0)]
        );
    }

    #[test]
    fn a_token_over_the_edge_ends_the_step_that_it_swallows() {
        // The second token covers the end of the first step and all of the second.
        let tokens = StepTokens::new(&[], &[1, 2, 3], &[3, 7, 9], &steps(), 100);
        assert_eq!(tokens.step_ends(), [0, 1, 2]);
        let tokens = StepTokens::new(&[], &[1, 2], &[7, 9], &steps(), 100);
        assert_eq!(tokens.step_ends(), [0, 0, 1]);
        assert_eq!(tokens.labelled(&[1.0, 0.5, 0.0], true).labels(), [(0, 0.5), (1, 0.0)]);
    }

    #[test]
    fn what_is_beyond_the_context_is_judged_at_its_end() {
        let tokens = StepTokens::new(&[7, 7], &[1, 2, 3, 4, 5], &[2, 4, 6, 7, 9], &steps(), 4);
        assert_eq!(tokens.tokens(), [7, 7, 1, 2]);
        assert_eq!(tokens.step_ends(), [3, 3, 3]);
        assert!(tokens.is_cut());
        assert_eq!(tokens.labelled(&[1.0, 0.5, 0.0], false).labels(), [(3, 0.0)]);
    }
}
