//! Stop strings: where the text of a response ends, and when enough of it was drawn.

use crate::tokenizer::{Tokenizer, TokenizerError};
use bstar_core::ports::Decoding;

/// What ends the text of a response.
pub(crate) struct Stops<'a> {
    tokenizer: &'a Tokenizer,
    decoding: &'a Decoding,
    /// Tokens that are looked at behind a new one: more than a stop string has.
    tail: usize,
}

impl<'a> Stops<'a> {
    /// The stop strings and tokens of a decoding, and the end tokens of a tokenizer.
    pub(crate) fn new(decoding: &'a Decoding, tokenizer: &'a Tokenizer) -> Self {
        let longest = decoding.stop.iter().map(String::len).max().unwrap_or(0);
        Self { tokenizer, decoding, tail: longest + MARGIN }
    }

    /// Whether there are no stop strings.
    pub(crate) fn is_empty(&self) -> bool {
        self.decoding.stop.is_empty()
    }

    /// Whether the text of these tokens holds a stop string that the last of them completed.
    ///
    /// Only the last tokens are turned into text: the cost of a response must not grow with the
    /// square of its length. A tokenizer that fails ends nothing here; the text of the response
    /// will say so.
    pub(crate) fn reached(&self, tokens: &[u32]) -> bool {
        let tail = &tokens[tokens.len().saturating_sub(self.tail)..];
        let found = |tokens| {
            let text = self.tokenizer.decode(tokens).unwrap_or_default();
            self.first(&text).is_some()
        };
        // The tail's first tokens may read differently without those before them.
        found(tail) && (tail.len() == tokens.len() || found(tokens))
    }

    /// The text of a response, without what ended it.
    pub(crate) fn text(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        let (eos, stop) = (self.tokenizer.eos_tokens(), &self.decoding.stop_tokens);
        let tokens = match tokens {
            [text @ .., last] if eos.contains(last) || stop.contains(last) => text,
            all => all,
        };
        let mut text = self.tokenizer.decode(tokens)?;
        if let Some(end) = self.first(&text) {
            text.truncate(end);
        }
        Ok(text)
    }

    /// Where the first stop string of a text begins.
    fn first(&self, text: &str) -> Option<usize> {
        self.decoding.stop.iter().filter_map(|stop| text.find(stop)).min()
    }
}

/// Tokens of the tail beyond one for each byte of a stop string: special tokens have no text, and
/// the first tokens may lose a space.
const MARGIN: usize = 8;
