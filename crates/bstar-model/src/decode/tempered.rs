//! Log-probabilities of responses at other temperatures than they were drawn at.
//!
//! The logits of a whole response come from one pass over it, as in [`Decoder::logprobs`]; each
//! temperature then divides them and normalises again, in `f64`.

use super::body::{Activations, Until};
use super::context::run_sequences;
use super::lanes::{Buffer, Lanes};
use super::{Decoder, MOST_GROUPS, batch};
use bstar_core::Fault;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

/// A response to weigh.
#[derive(Clone, Debug)]
pub struct Weighing {
    /// The prompt; at least one token.
    pub prompt: Vec<u32>,
    /// The response without the token that ended it.
    pub response: Vec<u32>,
    /// Whether an end-of-sequence token ended it; any of them counts.
    pub ended: bool,
}

impl Decoder {
    /// Log-probability (nats, without truncation) of each response after its prompt at each
    /// temperature: `[request][temperature]`, sums over the tokens. `eos` are the tokens that end a
    /// response.
    ///
    /// Faults: as for [`Decoder::logprobs`].
    pub fn tempered_logprobs(
        &self,
        requests: &[Weighing],
        eos: &[u32],
        temperatures: &[f64],
    ) -> Result<Vec<Vec<f64>>, Fault> {
        let whole = |request: &Weighing| (request.prompt.clone(), request.response.clone());
        self.check_sequences(&requests.iter().map(whole).collect::<Vec<_>>())?;
        let rows = requests.iter().map(|request| request.prompt.len() + request.response.len());
        let lanes = Lanes::wide(self.body.arch);
        let groups = rows.max().unwrap_or(0).div_ceil(lanes.count()).clamp(1, MOST_GROUPS);
        let room = || (Activations::new(&self.body, lanes, groups), Buffer::zeroed(0));
        requests
            .par_iter()
            .map_init(room, |(numbers, scores), Weighing { prompt, response, ended }| {
                let lanes = lanes.count();
                let tokens = [prompt.as_slice(), response].concat();
                let mut sums = vec![0.0; temperatures.len()];
                let inputs = if *ended { &tokens[..] } else { &tokens[..tokens.len() - 1] };
                let until = Until::Logits;
                run_sequences(&self.body, numbers, scores, &[inputs], until, |chunk, logits| {
                    for lane in 0..chunk.tokens {
                        let next = chunk.first + lane + 1;
                        if next >= prompt.len() {
                            let column = logits[lane..].iter().step_by(lanes).copied();
                            let wanted = tokens.get(next).map_or(eos, std::slice::from_ref);
                            add(&mut sums, column, wanted, temperatures);
                        }
                    }
                });
                let finite = sums.iter().all(|sum| sum.is_finite());
                if finite { Ok(sums) } else { Err(batch::not_finite()) }
            })
            .collect()
    }
}

/// Adds the log-probability of any of these tokens at each temperature.
fn add(
    sums: &mut [f64],
    logits: impl Iterator<Item = f32> + Clone,
    tokens: &[u32],
    temperatures: &[f64],
) {
    let largest = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    let less: Vec<f64> = logits.map(|logit| f64::from(logit - largest)).collect();
    for (sum, temperature) in sums.iter_mut().zip(temperatures) {
        let total: f64 = less.iter().map(|less| (less / temperature).exp()).sum();
        *sum += match tokens {
            [token] => less[*token as usize] / temperature - total.ln(),
            several => {
                let part = |token: &u32| (less[*token as usize] / temperature).exp();
                several.iter().map(part).sum::<f64>().ln() - total.ln()
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::model;
    use super::*;

    const TEMPERATURES: [f64; 3] = [1.0, 0.5, 1.7];
    const EOS: [u32; 2] = [1, 6];

    fn weigh(decoder: &Decoder, prompt: &[u32], response: &[u32], ended: bool) -> Vec<f64> {
        let request = Weighing { prompt: prompt.to_vec(), response: response.to_vec(), ended };
        decoder.tempered_logprobs(&[request], &EOS, &TEMPERATURES).unwrap().remove(0)
    }

    #[test]
    fn they_are_those_of_the_divided_logits() {
        let weights = model([19, 16, 2], [4, 2, 4], false);
        let decoder = Decoder::new(&weights);
        let one: Vec<Vec<f64>> =
            (0..19).map(|token| weigh(&decoder, &[3, 5, 2], &[token], false)).collect();
        let end = weigh(&decoder, &[3, 5, 2], &[], true);
        for (place, temperature) in TEMPERATURES.iter().enumerate() {
            let total: f64 = one.iter().map(|token| token[place].exp()).sum();
            assert!((total - 1.0).abs() < 1e-9, "{total} at {temperature}");
            for token in &one[1..] {
                let (odds, plain) = (token[place] - one[0][place], token[0] - one[0][0]);
                assert!((odds - plain / temperature).abs() < 1e-9, "{odds} at {temperature}");
            }
            // Whichever token ends it, a response is the same.
            let either: f64 = EOS.iter().map(|token| one[*token as usize][place].exp()).sum();
            assert!((end[place].exp() - either).abs() < 1e-9, "{end:?} at {temperature}");
        }
    }

    #[test]
    fn at_temperature_one_they_are_the_samplers_and_tokens_add_up() {
        let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
        let response = [4, 7, 11, 2, 1];
        let plain = decoder.logprobs(&[(vec![3, 5, 2], response.to_vec())]).unwrap().remove(0);
        let sum: f64 = plain.into_iter().map(f64::from).sum();
        let whole = weigh(&decoder, &[3, 5, 2], &response, true);
        let cut = weigh(&decoder, &[3, 5, 2], &response, false);
        assert!((cut[0] - sum).abs() < 1e-4, "{} {sum}", cut[0]);
        let head = weigh(&decoder, &[3, 5, 2], &response[..2], false);
        let tail = weigh(&decoder, &[3, 5, 2, 4, 7], &response[2..], true);
        for place in 0..TEMPERATURES.len() {
            assert!((head[place] + tail[place] - whole[place]).abs() < 1e-5);
            assert!(whole[place] < cut[place], "an end is not certain");
        }
    }

    #[test]
    fn they_do_not_depend_on_the_other_requests_or_on_threads() {
        let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
        let request = |length: u32| Weighing {
            prompt: vec![3, 5],
            response: (0..length).map(|i| (7 * i + length) % 19).collect(),
            ended: length.is_multiple_of(2),
        };
        let requests: Vec<Weighing> = (1..9).map(request).collect();
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let all = |requests: &[Weighing]| {
            decoder.tempered_logprobs(requests, &EOS, &TEMPERATURES).unwrap()
        };
        let one = pool(1).install(|| all(&requests));
        assert_eq!(pool(3).install(|| all(&requests)), one);
        for (request, alone) in requests.iter().zip(&one) {
            assert_eq!(all(std::slice::from_ref(request)), std::slice::from_ref(alone));
        }
    }
}
