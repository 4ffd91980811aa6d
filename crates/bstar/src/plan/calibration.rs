//! Measures how fast this machine does the work of a config, for a few seconds: with its own model,
//! task and batch sizes, by the code that a run uses.

use super::memory::{Growth, SmallSteps};
use super::rates::Rates;
use super::texts::Specimen;
use crate::output::Notes;
use bstar_core::batches::batches;
use bstar_core::draw::observations;
use bstar_core::event::TrainStep;
use bstar_core::improve::ImproveSettings;
use bstar_core::monitor::monitor;
use bstar_core::ports::{
    Decoding, Example, GradeRequest, Policy as _, RewardModel as _, ScoreRequest, StepRequest,
    Task as _, Update,
};
use bstar_core::rng::uniform;
use bstar_core::schedule::CosineSchedule;
use bstar_core::{Fault, FaultClass, FinishReason, Query, RngKey, Rollout, Stage, Verdict};
use bstar_model::footprint::activation_bytes;
use bstar_model::policy::EmbeddedPolicy;
use bstar_store::rollout_file_bytes;
use bstar_tasks::LoadedTask;
use std::time::{Duration, Instant};

/// What is measured, and with what.
pub(crate) struct Bench<'a> {
    /// The settings of the run.
    pub(crate) settings: &'a ImproveSettings,
    /// Its task.
    pub(crate) task: &'a LoadedTask,
    /// Its policy, before any training.
    pub(crate) policy: &'a mut EmbeddedPolicy,
    /// Responses that stand for those that will be drawn.
    pub(crate) specimens: &'a [Specimen<'a>],
    /// Mean tokens of such a response.
    pub(crate) response_tokens: f64,
    /// Whether responses are scored by a reward model.
    pub(crate) scores: bool,
    /// Whether the policy tells how likely responses are.
    pub(crate) weighs: bool,
    /// About how long it may take.
    pub(crate) time: Duration,
    /// Examples of a pass of training at most (`compute.micro_batch_size`).
    pub(crate) micro_batch_size: usize,
    /// Whether training computes activations again (`compute.checkpoint_activations`).
    pub(crate) checkpoints: bool,
    /// Where the user is told of progress.
    pub(crate) notes: Notes,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Seconds of each unit of work.
    pub(crate) rates: Rates,
    /// Bytes of a stored response.
    pub(crate) rollout_bytes: f64,
    /// Bytes of one that is stored with its scores, where responses are scored.
    pub(crate) scored_bytes: f64,
    /// Bytes that every rollout file has beside its responses.
    pub(crate) file_bytes: f64,
    /// The most memory that the process held, few responses among it, or would have held with a training
    /// step of full size; none where the system does not tell.
    pub(crate) memory: Option<f64>,
    /// Whether there was time for such a step.
    pub(crate) made_full_step: bool,
    /// Tokens of the longest responses by then.
    pub(crate) drawn_tokens: usize,
}

/// What training takes.
struct TrainingTime {
    /// Seconds a token, of supervised fine-tuning and on responses.
    per_token: [f64; 2],
    /// Seconds before the first step of an update.
    before: f64,
    /// Memory of a step of full size, where there was no time to make one.
    full_step: Option<f64>,
}

/// What sampling takes.
struct SamplingTime {
    /// Seconds to read a token of a prompt.
    read: f64,
    /// Seconds to draw a token.
    draw: f64,
    /// The most memory that was held by then.
    memory: Option<f64>,
    /// Tokens of the longest responses by then.
    drawn_tokens: usize,
}

impl Bench<'_> {
    /// Measures everything, and tells how long that will take.
    pub(crate) fn measure(&mut self) -> Result<Measured, Fault> {
        let seconds = self.time.as_secs_f64();
        self.notes.tell(&format!("measuring this machine: about {seconds:.0} s"));
        let (mut rates, began) = (Rates::default(), Instant::now());
        let told = |what: &str| {
            let left = (seconds - began.elapsed().as_secs_f64()).max(0.0);
            format!("measured {what}; about {left:.0} s left")
        };
        let training = self.time_training()?;
        (rates.train, rates.update) = (training.per_token, training.before);
        self.notes.tell(&told("training"));
        let sampling = self.time_sampling()?;
        (rates.read, rates.draw) = (sampling.read, sampling.draw);
        self.notes.tell(&told("sampling"));
        rates.grade = self.time_grading()?;
        if self.scores {
            rates.score = self.time_scoring()?;
        }
        if self.weighs {
            rates.weigh = self.time_weighing()?;
        }
        let (keep, [rollout_bytes, scored_bytes, file_bytes]) = self.time_keeping()?;
        rates.keep = keep;
        self.notes.tell(&format!("measured in {:.1} s", began.elapsed().as_secs_f64()));
        let full_step = training.full_step;
        Ok(Measured {
            rates,
            rollout_bytes,
            scored_bytes,
            file_bytes,
            memory: sampling.memory.map(|held| held.max(full_step.unwrap_or(0.0))),
            made_full_step: full_step.is_none(),
            drawn_tokens: sampling.drawn_tokens,
        })
    }

    /// Trains as supervised fine-tuning does, and as on responses.
    fn time_training(&mut self) -> Result<TrainingTime, Fault> {
        let (supervised, responses) = (self.task.supervised(), self.examples());
        let window = self.time.mul_f64(0.2);
        let own = self.settings.batch_size;
        let start = self.settings.supervised.batch_size;
        let (mut update, mut memory) = (0.0, None);
        let mut seconds = [None, None];
        let kinds = [(supervised, start), (responses.as_slice(), own)];
        for (place, (examples, batch_size)) in kinds.into_iter().enumerate() {
            if examples.is_empty() {
                continue;
            }
            let timed = time_update(self.policy, examples, batch_size, (window, self.checkpoints))?;
            seconds[place] = Some(timed.per_token);
            update = f64::max(update, timed.before);
            let full = timed.growth.map(|growth| {
                let config = &self.policy.weights().config;
                growth.peak_of(config, batch_size, timed.tokens_per_example, self.micro_batch_size)
            });
            memory = [memory, full].into_iter().flatten().reduce(f64::max);
        }
        let [of_start, of_own] = seconds;
        let any = of_own.or(of_start).unwrap_or(0.0);
        let per_token = [of_start.unwrap_or(any), any];
        Ok(TrainingTime { per_token, before: update, full_step: memory })
    }

    fn examples(&self) -> Vec<Example> {
        let example = |one: &Specimen<'_>| Example {
            prompt: one.query.prompt.as_str().into(),
            response: one.response.as_str().into(),
        };
        let learnable = |example: &Example| self.policy.check_example(example).is_ok();
        self.specimens.iter().map(example).filter(learnable).collect()
    }

    /// Draws; the memory is that when every lane was in use, but not yet many responses were held.
    fn time_sampling(&mut self) -> Result<SamplingTime, Fault> {
        let queries = self.task.train();
        let prompts = |count: usize| -> Vec<&str> {
            let cycle = queries.iter().cycle().take(count);
            cycle.map(|query| query.prompt.as_str()).collect()
        };
        let decoding = Decoding { temperature: 1.0, ..self.settings.decoding.clone() };
        let longest = whole(self.response_tokens).max(1);
        let samples = self.settings.samples_per_query.min(64);
        let window = self.time.mul_f64(0.3);
        // Once to lay out the weights and to warm up.
        self.policy.time_draw(&prompts(1), 1, 1, &decoding)?;
        let lanes = 64 * rayon::current_num_threads();
        let mut count = lanes.div_ceil(samples).min(queries.len().max(1));
        let mut length = longest.min(4);
        let (began, mut memory) = (Instant::now(), None);
        let draw = loop {
            let draw = self.policy.time_draw(&prompts(count), samples, length, &decoding)?;
            if memory.is_none() && length == longest {
                memory = peak_memory();
            }
            let left = window.saturating_sub(began.elapsed());
            if draw.time * 4 > left || count > 1_000_000 {
                break draw;
            }
            if length < longest { length = longest.min(4 * length) } else { count *= 3 }
        };
        let lone = prompts(count.min(20_000).max(lanes.min(queries.len())));
        let read = self.policy.time_draw(&lone, 1, 1, &decoding)?;
        let drawn = |seconds: f64| seconds / draw.drawn_tokens.max(1) as f64;
        let rough = drawn(draw.time.as_secs_f64());
        // One token of each prompt is drawn.
        let reading = read.time.as_secs_f64() - rough * read.drawn_tokens as f64;
        let per_prompt_token = reading.max(0.0) / read.prompt_tokens.max(1) as f64;
        let own = draw.time.as_secs_f64() - per_prompt_token * draw.prompt_tokens as f64;
        let per_token = drawn(own.max(0.5 * draw.time.as_secs_f64()));
        let memory = memory.or_else(peak_memory);
        Ok(SamplingTime { read: per_prompt_token, draw: per_token, memory, drawn_tokens: length })
    }

    /// Seconds to grade a response and to check its steps, where the task can.
    fn time_grading(&self) -> Result<f64, Fault> {
        if self.specimens.is_empty() {
            return Ok(0.0);
        }
        let mut next = self.specimens.iter().cycle();
        steady(self.time.mul_f64(0.1), 4 * rayon::current_num_threads(), &mut |count| {
            let some = next.by_ref().take(count);
            let requests: Vec<GradeRequest<'_>> = some
                .map(|one| GradeRequest { query: one.query, response: &one.response })
                .collect();
            let began = Instant::now();
            self.task.grade_all(&requests, &mut |_| Ok(()))?;
            self.task.check_steps_all(&requests);
            Ok(began.elapsed())
        })
    }

    /// Seconds to score a token.
    fn time_scoring(&mut self) -> Result<f64, Fault> {
        let training = self.settings.reward_training.as_ref();
        let head = training.map(|training| training.head).unwrap_or_default();
        let mut model = self.policy.reward_model(head, RngKey::from_seed(1))?;
        let window = self.time.mul_f64(0.1);
        let (mut tokens, began) = (0, Instant::now());
        for some in self.specimens.chunks(64) {
            let requests: Vec<StepRequest<'_>> = some
                .iter()
                .map(|one| StepRequest {
                    prompt: &one.query.prompt,
                    response: &one.response,
                    steps: self.task.steps(&one.response),
                })
                .collect();
            model.step_scores(&requests, &mut |_| Ok(()))?;
            for one in some {
                tokens += self.policy.prompt_tokens(&one.query.prompt)?;
                tokens += self.policy.response_tokens(&one.response)?;
            }
            if began.elapsed() > window {
                break;
            }
        }
        Ok(began.elapsed().as_secs_f64() / f64::max(1.0, tokens as f64))
    }

    /// Seconds to read a token of a response, or of its prompt, for its log-probabilities at every
    /// candidate's temperature. A run asks for all of them at once: so many as there is time for.
    fn time_weighing(&mut self) -> Result<f64, Fault> {
        let candidates = self.settings.controller.candidates();
        let temperatures: Vec<f64> = candidates.iter().map(|way| way.temperature).collect();
        let (window, began) = (self.time.mul_f64(0.1), Instant::now());
        let mut count = self.specimens.len().min(64);
        loop {
            let some = &self.specimens[..count];
            let requests: Vec<ScoreRequest<'_>> = some.iter().map(weighable).collect();
            let asked = Instant::now();
            self.policy.log_probabilities(&requests, &temperatures, &mut |_| Ok(()))?;
            let seconds = asked.elapsed().as_secs_f64();
            let left = window.saturating_sub(began.elapsed()).as_secs_f64();
            if count == self.specimens.len() || 2.0 * seconds > left {
                let mut tokens = 0;
                for one in some {
                    tokens += self.policy.prompt_tokens(&one.query.prompt)?;
                    tokens += self.policy.response_tokens(&one.response)?;
                }
                return Ok(seconds / f64::max(1.0, tokens as f64));
            }
            count = self.specimens.len().min(2 * count);
        }
    }

    /// Seconds of each response that is kept (rollout files, monitors), its bytes without and with
    /// scores, and those of a file beside.
    fn time_keeping(&self) -> Result<(f64, [f64; 3]), Fault> {
        let began = Instant::now();
        let rollouts = self.rollouts(whole(self.response_tokens));
        let groups = observations(&rollouts, &|response| self.task.equations(response));
        let metrics = monitor(&groups, &self.settings.evaluation.monitors(&groups));
        assert!(!metrics.is_empty(), "monitors say something of any rollouts");
        let size = |rows: &[Rollout]| {
            rollout_file_bytes(rows).map(|bytes| bytes as f64).map_err(|error| {
                Fault::new(FaultClass::Bug, "rollouts cannot be encoded").because(error)
            })
        };
        let each = |rollouts: &[Rollout]| -> Result<f64, Fault> {
            let half = rollouts.len() / 2;
            let more = size(rollouts)? - size(&rollouts[..half])?;
            Ok(more / (rollouts.len() - half).max(1) as f64)
        };
        let bytes = each(&rollouts)?;
        let seconds = began.elapsed().as_secs_f64() / rollouts.len().max(1) as f64;
        let file = size(&rollouts[..rollouts.len().min(1)])? - bytes;
        let scored = if self.scores { each(&self.scored(rollouts))? } else { bytes };
        Ok((seconds, [bytes, scored, file.max(0.0)]))
    }

    /// The same rollouts with scores of nobody; a response that repeats has the same.
    fn scored(&self, mut rollouts: Vec<Rollout>) -> Vec<Rollout> {
        for rollout in &mut rollouts {
            let key = RngKey::from_seed(2).child(rollout.query_id.as_str());
            let mut rng = key.child(&rollout.response).rng();
            let steps = self.task.steps(&rollout.response).len();
            // A reward model computes in single precision.
            #[expect(clippy::cast_possible_truncation, reason = "a score of few digits")]
            let mut score = || f64::from((10.0 * uniform(&mut rng) - 5.0) as f32);
            let scores: Vec<f64> = (0..steps).map(|_| score()).collect();
            rollout.reward_model_score = scores.iter().copied().reduce(f64::min);
            rollout.step_scores = Some(scores);
        }
        rollouts
    }

    /// Rollouts as a run stores them: every third response to a query repeats another, and no text
    /// stands under two queries while there are texts enough.
    fn rollouts(&self, token_count: usize) -> Vec<Rollout> {
        let (k, specimens) = (self.settings.samples_per_query, self.specimens);
        let texts = k - k / REPEATS;
        let groups = specimens.len() / texts;
        let mut rollouts = Vec::new();
        for (group, specimen) in specimens.iter().take(groups.max(1)).enumerate() {
            for sample in 0..k {
                let text = if sample % REPEATS == REPEATS - 1 { sample - 1 } else { sample };
                let place = group * texts + text - text / REPEATS;
                let response = &specimens[place % specimens.len()];
                rollouts.push(rollout(specimen.query, response, (sample, text), token_count));
            }
        }
        rollouts
    }
}

fn weighable<'a>(one: &'a Specimen<'_>) -> ScoreRequest<'a> {
    ScoreRequest { prompt: &one.query.prompt, response: &one.response, ended: true }
}

/// See [`super::rates::DISTINCT`].
const REPEATS: usize = 3;

/// The most memory that this process has held, where the system tells.
pub(super) fn peak_memory() -> Option<f64> {
    crate::commands::bench::peak_memory_mib().map(|mib| mib * f64::from(1 << 20))
}

/// A rollout whose numbers are those of nobody.
fn rollout(
    query: &Query,
    specimen: &Specimen<'_>,
    (sample, text): (usize, usize),
    token_count: usize,
) -> Rollout {
    let key = RngKey::from_seed(1).child(query.id.as_str()).index(text as u64);
    let mut rng = key.rng();
    let (entropy, logprob) = (uniform(&mut rng), -10.0 * uniform(&mut rng));
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let is_right = text.is_multiple_of(4);
    Rollout {
        query_id: query.id.clone(),
        sample_index: count(sample),
        temperature: 1.0,
        top_p: None,
        response: specimen.response.as_str().into(),
        answer: Some(specimen.query.gold_answer.clone()),
        verdict: if is_right { Verdict::Correct } else { Verdict::Incorrect },
        reason: Some("equal".into()),
        reward_model_score: None,
        step_scores: None,
        iteration: Some(1),
        stage: Some(Stage::Train),
        prompt: Some(query.prompt.as_str().into()),
        reward: Some(f64::from(u8::from(is_right))),
        selected: Some(is_right),
        finish_reason: Some(FinishReason::Stop),
        token_count: Some(count(token_count)),
        logprob: Some(logprob),
        entropy: Some(entropy),
        steps_correct: Some(is_right),
        policy_version: Some("0123456789abcdef".into()),
        candidate_logprobs: None,
    }
}

/// How long training took.
struct TimedUpdate {
    /// Seconds a token of prompts and responses.
    per_token: f64,
    /// Seconds before the first step.
    before: f64,
    /// Mean tokens of an example.
    tokens_per_example: f64,
    /// How memory grows up to a step of full size, where none was made.
    growth: Option<Growth>,
}

/// Trains, with a learning rate that changes nothing, until the time is over.
fn time_update(
    policy: &mut EmbeddedPolicy,
    examples: &[Example],
    batch_size: usize,
    (window, checkpoints): (Duration, bool),
) -> Result<TimedUpdate, Fault> {
    // A large step could take longer than the whole calibration: small ones come first.
    let key = RngKey::from_seed(1);
    let steps = SmallSteps::before(batch_size, window);
    let order = batches(examples.len(), steps.few, SmallSteps::COUNT, key);
    let small = timed_steps(policy, examples, &order, &|_| true)?;
    if steps.find_dear(&small.times) {
        let timed = small.timed(steps.few);
        let (config, tokens) = (&policy.weights().config, timed.tokens_per_example);
        let per_example = activation_bytes(config, tokens, checkpoints);
        let growth = peak_memory().map(|peak| Growth { peak, examples: steps.few, per_example });
        return Ok(TimedUpdate { growth, ..timed });
    }
    let order = batches(examples.len(), batch_size, 2000, key);
    let timed = timed_steps(policy, examples, &order, &|times| match times {
        [first, .., last] => last.saturating_sub(*first) <= window,
        _ => true,
    })?;
    Ok(timed.timed(batch_size))
}

/// When each step was done.
struct TimedSteps {
    times: Vec<Duration>,
    /// Tokens of each.
    tokens: Vec<usize>,
}

impl TimedSteps {
    /// The first step makes room for the others; a single one has to do for all.
    fn per_step(&self) -> f64 {
        match self.times.as_slice() {
            [] => 0.0,
            [only] => only.as_secs_f64(),
            [first, .., last] => {
                last.saturating_sub(*first).as_secs_f64() / (self.times.len() - 1) as f64
            }
        }
    }

    /// Of steps of so many examples.
    fn timed(&self, examples: usize) -> TimedUpdate {
        let first = self.times.first().copied().unwrap_or_default().as_secs_f64();
        let per_step = self.per_step();
        let tokens = self.tokens.iter().sum::<usize>() as f64 / self.tokens.len().max(1) as f64;
        TimedUpdate {
            per_token: per_step / tokens.max(1.0),
            before: (first - per_step).max(0.0),
            tokens_per_example: tokens / examples.max(1) as f64,
            growth: None,
        }
    }
}

/// Makes steps of these batches, and after each asks whether to go on: `go_on` is told when each of them
/// was done, since the first began.
fn timed_steps(
    policy: &mut EmbeddedPolicy,
    examples: &[Example],
    order: &[Vec<usize>],
    go_on: &dyn Fn(&[Duration]) -> bool,
) -> Result<TimedSteps, Fault> {
    let schedule =
        CosineSchedule { peak: 1e-12, floor: 1e-12, warmup_steps: 0.0, horizon_steps: 1.0 };
    let update =
        Update { examples, batches: order, schedule, first_step: 0, fresh_optimizer: true };
    let (mut times, began) = (Vec::new(), Instant::now());
    let result = policy.update(&update, &mut |_: TrainStep| {
        times.push(began.elapsed());
        if go_on(&times) { Ok(()) } else { Err(Fault::new(FaultClass::Interrupted, "enough")) }
    });
    if let Err(fault) = result
        && fault.class != FaultClass::Interrupted
    {
        return Err(fault);
    }
    let mut tokens = Vec::new();
    for batch in &order[..times.len()] {
        let mut sum = 0;
        for example in batch.iter().map(|&index| &examples[index]) {
            sum += policy.prompt_tokens(&example.prompt)?;
            sum += 1 + policy.response_tokens(&example.response)?;
        }
        tokens.push(sum);
    }
    Ok(TimedSteps { times, tokens })
}

/// A try that takes less says more of the clock than of the work.
const LASTING_TRY: Duration = Duration::from_millis(10);
/// Tries that there should be, those that are enough, and pieces in one of them at most.
const FEWEST_TRIES: usize = 5;
const MOST_TRIES: usize = 25;
const MOST_PIECES: usize = 1 << 20;

/// Seconds of a piece of work, of which `time` makes so many at once: those of the best of several tries in
/// about the window, for what else the machine does can only add to a try. Tries grow until they would last
/// if nothing disturbed them.
fn steady(
    window: Duration,
    least: usize,
    time: &mut dyn FnMut(usize) -> Result<Duration, Fault>,
) -> Result<f64, Fault> {
    let lasts = LASTING_TRY.min(window / 8).as_secs_f64();
    let (mut count, mut spent, mut best) = (least, Duration::ZERO, f64::INFINITY);
    for tries in 1.. {
        let took = time(count)?;
        spent += took;
        best = best.min(took.as_secs_f64() / count as f64);
        let is_enough = spent >= window && tries >= FEWEST_TRIES;
        if is_enough || spent >= 2 * window || tries >= MOST_TRIES {
            break;
        }
        if best * (count as f64) < lasts && count < MOST_PIECES {
            count *= 4;
        }
    }
    Ok(best)
}

/// A mean as a whole number.
fn whole(number: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean length")]
    let whole = number.round() as usize;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of a piece that takes 2 µs, on a machine that is away for 50 ms in some tries.
    fn measured(is_away: impl Fn(usize) -> bool, window: Duration) -> (f64, usize, usize) {
        let (mut tries, mut most) = (0, 0);
        let seconds = steady(window, 8, &mut |count| {
            tries += 1;
            most = most.max(count);
            let away = if is_away(tries) { 50_000 } else { 0 };
            Ok(Duration::from_micros(2 * count as u64 + away))
        });
        (seconds.expect("no fault"), tries, most)
    }

    #[test]
    fn a_rate_does_not_swing_with_what_else_the_machine_does() {
        let window = Duration::from_millis(800);
        let (alone, ..) = measured(|_| false, window);
        assert!((alone / 2e-6 - 1.0).abs() < 1e-9, "{alone}");
        for way in 0..3 {
            let (busy, ..) = measured(|place| place % 3 == way, window);
            assert!((busy / 2e-6 - 1.0).abs() < 1e-9, "{busy}");
        }
        // A single try that outlasts the window decides nothing.
        for first in 1..9 {
            let (busy, ..) = measured(|place| place == first, Duration::from_millis(50));
            assert!((busy / 2e-6 - 1.0).abs() < 1e-9, "{first}: {busy}");
        }
        let (busy, ..) = measured(|place| place % 3 == 0 && place > 8, window);
        assert!((busy / 2e-6 - 1.0).abs() < 1e-9, "{busy}");
    }

    #[test]
    fn a_window_is_kept_and_dear_pieces_are_tried_once() {
        let (_, tries, most) = measured(|_| false, Duration::from_millis(100));
        assert!(most >= 5000 && tries < 30, "{tries} {most}");
        let (dear, tries, most) = measured(|_| true, Duration::from_millis(20));
        assert_eq!((tries, most), (1, 8), "one try outlasts twice the window");
        assert!(dear > 6e-3);
    }
}
