//! How long the texts of a task are, in tokens of a policy: what a plan can know of responses that
//! nobody has drawn yet.
//!
//! A policy that learns from solutions answers about as long as they are. A query's response is
//! therefore taken to be as long as its own gold solution; without one, as the solutions to prompts
//! of the same length. Where nothing is learnt from solutions, some responses are sampled.

use bstar_core::Fault;
use bstar_core::plan::{Lengths, TextLengths};
use bstar_core::ports::{Decoding, Example, Policy as _, PromptRequest, SampleRequest, Task as _};
use bstar_core::{Query, RngKey};
use bstar_model::policy::EmbeddedPolicy;
use bstar_tasks::LoadedTask;
use std::collections::BTreeMap;

/// Texts of a kind that are looked at, spread evenly over all of them.
const LOOKED_AT: usize = 2000;

/// A response that stands for those that a run will draw.
#[derive(Clone, Debug)]
pub(crate) struct Specimen<'a> {
    /// The query.
    pub(crate) query: &'a Query,
    /// What might be answered.
    pub(crate) response: String,
}

/// What was found about texts.
#[derive(Debug)]
pub(crate) struct Texts<'a> {
    /// Mean tokens.
    pub(crate) lengths: TextLengths,
    /// Mean steps of a response.
    pub(crate) steps_per_response: f64,
    /// Responses to training queries.
    pub(crate) specimens: Vec<Specimen<'a>>,
    /// Where lengths of responses come from.
    pub(crate) how: &'static str,
}

/// Some of many, spread evenly.
pub(crate) fn spread<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    let count = all.len().min(most);
    (0..count).map(move |place| &all[place * all.len() / count])
}

/// The mean, 0 of nothing.
fn mean(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) =
        numbers.into_iter().fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// Counts the texts of a task. With `sampled`, what the policy answers now is what it will answer,
/// and `sampled` of its responses are drawn; else solutions stand for them.
pub(crate) fn look_at<'a>(
    task: &'a LoadedTask,
    policy: &mut EmbeddedPolicy,
    decoding: &Decoding,
    sampled: Option<usize>,
) -> Result<Texts<'a>, Fault> {
    let known = Solutions::of(task.supervised(), policy)?;
    let supervised = known.lengths();
    let specimens = match sampled {
        Some(count) => draw(task, policy, decoding, count)?,
        None => solved(task),
    };
    let drawn = match sampled {
        Some(_) => {
            let tokens = specimens.iter().map(|one| policy.response_tokens(&one.response));
            Some(1.0 + mean(tokens.collect::<Result<Vec<_>, _>>()?.into_iter().map(|n| n as f64)))
        }
        None => None,
    };
    let most = decoding.max_tokens as f64;
    let of = |queries: &[Query], policy: &EmbeddedPolicy| -> Result<Lengths, Fault> {
        let mut pairs = Vec::new();
        for query in spread(queries, LOOKED_AT) {
            let prompt = policy.prompt_tokens(&query.prompt)?;
            let response = match (drawn, &query.gold_solution) {
                (Some(drawn), _) => drawn,
                (None, Some(solution)) => 1.0 + policy.response_tokens(solution)? as f64,
                (None, None) => known.near(prompt).unwrap_or(most),
            };
            pairs.push((prompt as f64, response.min(most)));
        }
        Ok(Lengths {
            prompt: mean(pairs.iter().map(|pair| pair.0)),
            response: mean(pairs.iter().map(|pair| pair.1)),
        })
    };
    let (train, validation, test) =
        (of(task.train(), policy)?, of(task.validation(), policy)?, of(task.test(), policy)?);
    let (completion, steps_per_response) = completions(task, policy, &specimens)?;
    let has_gold = task.train().iter().any(|query| query.gold_solution.is_some());
    let how = match (sampled, has_gold, known.by_prompt.is_empty()) {
        (Some(_), ..) => "sampled from the model",
        (None, true, _) => "gold solutions of the queries",
        (None, false, false) => "solutions to prompts of the same length",
        (None, false, true) => "no solution is known: `sample.max_tokens`",
    };
    let lengths = TextLengths { supervised, validation, train, test, completion };
    Ok(Texts { lengths, steps_per_response, specimens, how })
}

/// Gold solutions of the queries; where they have none, solutions to other prompts stand for them.
fn solved(task: &LoadedTask) -> Vec<Specimen<'_>> {
    let own = spread(task.train(), LOOKED_AT)
        .filter_map(|query| Some(Specimen { query, response: query.gold_solution.clone()? }));
    let own: Vec<Specimen<'_>> = own.collect();
    if !own.is_empty() {
        return own;
    }
    let others = spread(task.supervised(), LOOKED_AT).map(|example| example.response.to_string());
    let queries = task.train().iter().cycle();
    queries.zip(others).map(|(query, response)| Specimen { query, response }).collect()
}

/// Lengths of the solutions that supervised fine-tuning learns from.
struct Solutions {
    /// By tokens of the prompt: sum of the tokens of responses, and their number.
    by_prompt: BTreeMap<usize, (f64, f64)>,
}

impl Solutions {
    fn of(examples: &[Example], policy: &EmbeddedPolicy) -> Result<Self, Fault> {
        let mut by_prompt: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for example in spread(examples, LOOKED_AT) {
            let prompt = policy.prompt_tokens(&example.prompt)?;
            let response = 1.0 + policy.response_tokens(&example.response)? as f64;
            let (sum, count) = by_prompt.entry(prompt).or_default();
            *sum += response;
            *count += 1.0;
        }
        Ok(Self { by_prompt })
    }

    /// Mean tokens of a prompt and of a response.
    fn lengths(&self) -> Lengths {
        let all: f64 = self.by_prompt.values().map(|(_, count)| count).sum();
        let prompts: f64 =
            self.by_prompt.iter().map(|(prompt, (_, count))| *prompt as f64 * count).sum();
        let responses: f64 = self.by_prompt.values().map(|(sum, _)| sum).sum();
        let all = all.max(1.0);
        Lengths { prompt: prompts / all, response: responses / all }
    }

    /// Mean tokens of the responses to prompts of this length, or of the nearest.
    fn near(&self, prompt: usize) -> Option<f64> {
        let nearest = self.by_prompt.iter().min_by_key(|(length, _)| length.abs_diff(prompt));
        nearest.map(|(_, (sum, count))| sum / count)
    }
}

/// Responses of the policy as it is to some training queries.
fn draw<'a>(
    task: &'a LoadedTask,
    policy: &mut EmbeddedPolicy,
    decoding: &Decoding,
    count: usize,
) -> Result<Vec<Specimen<'a>>, Fault> {
    let queries: Vec<&Query> = spread(task.train(), count).collect();
    let key = RngKey::from_seed(1).child("specimens");
    let prompts = queries.iter().map(|query| PromptRequest {
        prompt: &query.prompt,
        begun: "",
        key: key.child(query.id.as_str()),
    });
    let request =
        SampleRequest { prompts: prompts.collect(), samples: 1, decoding: decoding.clone() };
    let drawn = policy.sample(&request, &mut |_| Ok(()))?;
    let responses = drawn.into_iter().flatten().map(|one| one.text);
    Ok(queries
        .into_iter()
        .zip(responses)
        .map(|(query, response)| Specimen { query, response })
        .collect())
}

/// What completes a specimen from the end of each of its steps but the last, and the mean number of
/// steps.
fn completions(
    task: &LoadedTask,
    policy: &EmbeddedPolicy,
    specimens: &[Specimen<'_>],
) -> Result<(Lengths, f64), Fault> {
    const FEW: usize = 200;
    let (mut begun, mut rest, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for specimen in spread(specimens, FEW) {
        let ranges = task.steps(&specimen.response);
        steps.push(ranges.len() as f64);
        let all = policy.response_tokens(&specimen.response)?;
        let prompt = policy.prompt_tokens(&specimen.query.prompt)?;
        for step in ranges.iter().rev().skip(1) {
            let done = policy.response_tokens(&specimen.response[..step.end])?;
            begun.push((prompt + done) as f64);
            rest.push(1.0 + all.saturating_sub(done) as f64);
        }
    }
    Ok((Lengths { prompt: mean(begun), response: mean(rest) }, mean(steps)))
}
