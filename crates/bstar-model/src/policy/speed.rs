//! How fast a policy samples, measured on prompts of a task.
//!
//! Responses are made to be of a given length: an untrained policy would end them anywhere, and how
//! long they will be is not for it to say.

use super::{EmbeddedPolicy, complete};
use crate::decode::{DecodeRequest, Ends};
use crate::stops::Stops;
use bstar_core::ports::Decoding;
use bstar_core::{Fault, RngKey};
use std::time::{Duration, Instant};

/// A draw that was timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedDraw {
    /// Tokens of prompts that were read.
    pub prompt_tokens: usize,
    /// Tokens that were drawn.
    pub drawn_tokens: usize,
    /// How long it took.
    pub time: Duration,
}

impl EmbeddedPolicy {
    /// Draws `samples` responses of `length` tokens to each prompt, shorter only where the context
    /// ends. `decoding` says how tokens are drawn; nothing that it holds ends a response.
    pub fn time_draw(
        &mut self,
        prompts: &[&str],
        samples: usize,
        length: usize,
        decoding: &Decoding,
    ) -> Result<TimedDraw, Fault> {
        // As `Policy::sample` does: from texts to texts.
        let (context, began) = (self.context_length(), Instant::now());
        let prompts: Vec<Vec<u32>> =
            prompts.iter().map(|prompt| self.encode_prompt(prompt)).collect::<Result<_, _>>()?;
        let key = RngKey::from_seed(1).child("speed");
        let requests: Vec<DecodeRequest<'_>> = (0_u64..)
            .zip(&prompts)
            .map(|(place, prompt)| DecodeRequest {
                prompt,
                keys: (0..samples as u64).map(|sample| key.index(place).index(sample)).collect(),
            })
            .collect();
        let (stop, stop_tokens) = (Vec::new(), Vec::new());
        let decoding =
            Decoding { max_tokens: length.max(1), stop, stop_tokens, ..decoding.clone() };
        let drawer = self.sampler()?;
        let ends = Ends { tokens: &[], condition: None };
        let drawn = drawer.generate_until(&requests, &decoding, ends, &mut |_| Ok(()))?;
        let stops = Stops::new(&decoding, &self.tokenizer);
        for generation in drawn.iter().flatten() {
            complete(generation, &stops)?;
        }
        let time = began.elapsed();
        let drawn_tokens = drawn.iter().flatten().map(|one| one.tokens.len()).sum();
        let prompt_tokens = prompts.iter().map(|prompt| prompt.len().min(context)).sum();
        Ok(TimedDraw { prompt_tokens, drawn_tokens, time })
    }

    /// Tokens of a prompt.
    pub fn prompt_tokens(&self, prompt: &str) -> Result<usize, Fault> {
        Ok(self.tokenizer.encode_prompt(prompt)?.len())
    }

    /// Tokens of a response, its end-of-sequence token not counted.
    pub fn response_tokens(&self, response: &str) -> Result<usize, Fault> {
        Ok(self.tokenizer.encode_response(response)?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::OptimizerSettings;
    use crate::size::ModelSize;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn responses_have_the_length_that_is_asked_for_and_end_with_the_context() {
        let tokenizer = Tokenizer::characters(["0123456789+="]);
        let (size, key) = (ModelSize::from_width(16).unwrap(), RngKey::from_seed(1));
        let settings = OptimizerSettings::default();
        let mut policy = EmbeddedPolicy::from_scratch(size, tokenizer, 16, key, settings);
        let decoding = Decoding { temperature: 1.0, ..Decoding::greedy(3) };
        let prompts = ["1+2=", "12+34="];
        let own: usize = prompts.iter().map(|p| policy.prompt_tokens(p).unwrap()).sum();
        let draw = policy.time_draw(&prompts, 5, 7, &decoding).unwrap();
        assert_eq!((draw.prompt_tokens, draw.drawn_tokens), (own, 2 * 5 * 7));
        assert!(draw.time > Duration::ZERO);
        let draw = policy.time_draw(&prompts[..1], 2, 100, &decoding).unwrap();
        let room = 16 - policy.prompt_tokens(prompts[0]).unwrap();
        assert_eq!(draw.drawn_tokens, 2 * room);
    }
}
