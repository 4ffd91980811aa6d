//! Labels for the steps of responses, made by the policy itself (Math-Shepherd, arXiv 2312.08935;
//! spec §5).
//!
//! A step is good if the response can still be brought to the right answer from there. Nobody says
//! so; it is measured: the policy goes on from the end of the step several times, and the answers are
//! checked. Responses that begin alike share these completions, and each response is itself one more
//! completion of each of its beginnings. The last step is the answer: its label is the verdict.
//!
//! An answer that cannot be decided says nothing: as a completion it is not counted, and a response
//! that ends in one is not learnt from.

use crate::draw::{DrawActivity, DrawRequest, draw};
use crate::event::{Activity, LabelSummary};
use crate::fault::Fault;
use crate::gradable::Undecided;
use crate::ports::{
    Decoding, GradeRequest, LabelledResponse, Policy, Progress, PromptRequest, SampleRequest, Task,
};
use crate::reward::StepReduction;
use crate::rng::RngKey;
use crate::rollout::{Query, Rollout, Stage, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the label of a step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepLabels {
    /// 1 if any completion from its end reaches the right answer (the paper).
    Hard,
    /// The share of completions from its end that reach the right answer.
    Soft,
    /// 1 if the response itself has the right answer, for every step: an outcome reward model,
    /// which needs no completions.
    Outcome,
}

/// How labels are made.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSettings {
    /// What they say.
    pub labels: StepLabels,
    /// Responses drawn of each query.
    pub responses: usize,
    /// Completions from the end of each distinct step.
    pub completions: usize,
    /// How responses and completions are drawn.
    pub decoding: Decoding,
    /// Stop when a larger share than this of the answers of either is ungradable.
    pub most_ungradable: f64,
}

/// A response with labels, and what is known of it beside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// The place of its query among those that were labelled.
    pub place: usize,
    /// What a reward model learns from.
    pub example: LabelledResponse,
    /// Whether its answer is right.
    pub correct: bool,
    /// For each step, whether the response is right up to its end, where the task can tell. For
    /// measurement only.
    pub truth: Option<Vec<bool>>,
}

/// Answers from the end of one beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    correct: u64,
    all: u64,
}

impl Tally {
    fn add(&mut self, verdict: Verdict) {
        if verdict != Verdict::Ungradable {
            self.correct += u64::from(verdict.is_correct());
            self.all += 1;
        }
    }

    fn label(self, labels: StepLabels) -> f64 {
        match labels {
            StepLabels::Soft => self.correct as f64 / self.all.max(1) as f64,
            StepLabels::Hard | StepLabels::Outcome => f64::from(u8::from(self.correct > 0)),
        }
    }
}

/// A beginning of a response: the place of its query, and its text.
type Beginning<'a> = (usize, &'a str);

/// Draws responses to `queries` and labels their steps. The labelled responses come query by query;
/// of equal ones the first stays, and one without any step, or whose answer cannot be decided, is
/// left out. A fault of class Training where more answers than the settings allow cannot be decided.
pub fn label_steps<P: Policy>(
    settings: &LabelSettings,
    queries: &[&Query],
    policy: &mut P,
    task: &dyn Task,
    key: RngKey,
    tick: &mut dyn FnMut(Activity, Progress) -> Result<(), Fault>,
) -> Result<(Vec<Labelled>, LabelSummary), Fault> {
    let mut maker = Labeller { settings, queries, policy, task, key, tick };
    let rollouts = maker.draw()?;
    let undecided = Undecided::among(&rollouts);
    undecided.check("answers to be labelled", settings.most_ungradable)?;
    let groups: Vec<&[Rollout]> = rollouts.chunks(settings.responses.max(1)).collect();
    let mut tallies: BTreeMap<Beginning<'_>, Tally> = BTreeMap::new();
    for (place, group) in groups.iter().enumerate() {
        for rollout in group.iter().filter(|rollout| is_decided(rollout)) {
            let steps = task.steps(&rollout.response);
            for step in steps.iter().rev().skip(1) {
                let beginning = (place, &rollout.response[..step.end]);
                tallies.entry(beginning).or_default().add(rollout.verdict);
            }
        }
    }
    let mut summary = LabelSummary {
        drawn: rollouts.len() as u64,
        tokens: rollouts.iter().filter_map(|r| r.token_count).map(u64::from).sum(),
        ungradable: undecided.count(),
        ..LabelSummary::default()
    };
    if settings.labels != StepLabels::Outcome {
        maker.complete(&mut tallies, &mut summary)?;
    }
    let labelled = with_labels(settings.labels, queries, &groups, task, &tallies);
    let labels: Vec<f64> =
        labelled.iter().flat_map(|one| one.example.labels.iter().copied()).collect();
    summary.responses = labelled.len() as u64;
    summary.steps = labels.len() as u64;
    summary.mean_label = labels.iter().sum::<f64>() / labels.len().max(1) as f64;
    Ok((labelled, summary))
}

/// What labels are made with.
struct Labeller<'a, P> {
    settings: &'a LabelSettings,
    queries: &'a [&'a Query],
    policy: &'a mut P,
    task: &'a dyn Task,
    key: RngKey,
    tick: &'a mut dyn FnMut(Activity, Progress) -> Result<(), Fault>,
}

impl<P: Policy> Labeller<'_, P> {
    fn draw(&mut self) -> Result<Vec<Rollout>, Fault> {
        let request = DrawRequest {
            queries: self.queries,
            samples: self.settings.responses,
            decoding: self.settings.decoding.clone(),
            key: self.key.child("responses"),
            iteration: 0,
            stage: Stage::Train,
            reduction: StepReduction::Last,
        };
        let tick = &mut *self.tick;
        draw(&request, self.policy, self.task, None, &mut |activity, progress| match activity {
            DrawActivity::Sample => tick(Activity::DrawLabels, progress),
            DrawActivity::Grade | DrawActivity::Score => Ok(()),
        })
    }

    /// Goes on from each beginning and adds the answers to its tally.
    fn complete(
        &mut self,
        tallies: &mut BTreeMap<Beginning<'_>, Tally>,
        summary: &mut LabelSummary,
    ) -> Result<(), Fault> {
        let (queries, tick) = (self.queries, &mut *self.tick);
        let key = self.key.child("completions");
        let prompts = tallies.keys().map(|&(place, begun)| PromptRequest {
            prompt: &queries[place].prompt,
            begun,
            key: key.child(queries[place].id.as_str()).child(begun),
        });
        let request = SampleRequest {
            prompts: prompts.collect(),
            samples: self.settings.completions,
            decoding: self.settings.decoding.clone(),
        };
        let groups =
            self.policy.sample(&request, &mut |progress| tick(Activity::Complete, progress))?;
        let mut whole = Vec::with_capacity(groups.len() * self.settings.completions);
        for (&(place, begun), group) in tallies.keys().zip(&groups) {
            for completion in group {
                summary.completions += 1;
                summary.tokens += u64::from(completion.token_count);
                whole.push((place, format!("{begun}{}", completion.text)));
            }
        }
        let requests: Vec<GradeRequest<'_>> = whole
            .iter()
            .map(|(place, response)| GradeRequest { query: queries[*place], response })
            .collect();
        let tick = &mut |progress| tick(Activity::Complete, progress);
        let grades = self.task.grade_all(&requests, tick)?;
        let mut undecided = Undecided::default();
        for (request, grade) in requests.iter().zip(&grades) {
            let (reason, answer) = (Some(grade.reason), grade.answer.as_deref());
            undecided.add(grade.verdict, reason, answer, &request.query.id);
        }
        summary.ungradable += undecided.count();
        undecided.check("answers of completions", self.settings.most_ungradable)?;
        let mut grades = grades.iter();
        for (tally, group) in tallies.values_mut().zip(&groups) {
            for grade in grades.by_ref().take(group.len()) {
                tally.add(grade.verdict);
            }
        }
        Ok(())
    }
}

fn is_decided(rollout: &Rollout) -> bool {
    rollout.verdict != Verdict::Ungradable
}

fn with_labels(
    labels: StepLabels,
    queries: &[&Query],
    groups: &[&[Rollout]],
    task: &dyn Task,
    tallies: &BTreeMap<Beginning<'_>, Tally>,
) -> Vec<Labelled> {
    let mut labelled = Vec::new();
    for (place, (query, group)) in queries.iter().zip(groups).enumerate() {
        let mut seen = BTreeSet::new();
        for rollout in group.iter().filter(|rollout| is_decided(rollout)) {
            let steps = task.steps(&rollout.response);
            if steps.is_empty() || !seen.insert(&rollout.response) {
                continue;
            }
            let correct = rollout.verdict.is_correct();
            let outcome = f64::from(u8::from(correct));
            let last = steps.len() - 1;
            let label = |index: usize, end: usize| match labels {
                StepLabels::Hard | StepLabels::Soft if index < last => {
                    tallies[&(place, &rollout.response[..end])].label(labels)
                }
                _ => outcome,
            };
            let values = steps.iter().enumerate().map(|(index, step)| label(index, step.end));
            let values: Vec<f64> = values.collect();
            let truth = task.check_each_step(query, &rollout.response);
            labelled.push(Labelled {
                place,
                example: LabelledResponse {
                    prompt: query.prompt.as_str().into(),
                    response: rollout.response.clone(),
                    steps,
                    labels: values,
                },
                correct,
                truth,
            });
        }
    }
    labelled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EchoTask, ScriptedPolicy};

    fn settings(labels: StepLabels) -> LabelSettings {
        LabelSettings {
            labels,
            responses: 6,
            completions: 5,
            decoding: Decoding { temperature: 1.0, ..Decoding::greedy(8) },
            most_ungradable: 0.9,
        }
    }

    fn labelled(labels: StepLabels, skill: f64) -> (Vec<Labelled>, LabelSummary) {
        labelled_by(&EchoTask::new(20), &settings(labels), skill, 5).unwrap()
    }

    fn labelled_by(
        task: &EchoTask,
        settings: &LabelSettings,
        skill: f64,
        seed: u64,
    ) -> Result<(Vec<Labelled>, LabelSummary), Fault> {
        let mut policy = ScriptedPolicy { skill, gain: 0.0, wordings: 3, optimizer_steps: 0 };
        let queries: Vec<&Query> = task.train().iter().collect();
        let key = RngKey::from_seed(seed);
        let mut told = BTreeSet::new();
        let tick = &mut |activity, progress: Progress| {
            assert!(progress.done <= progress.total);
            told.insert(format!("{activity:?}"));
            Ok(())
        };
        let found = label_steps(settings, &queries, &mut policy, task, key, tick)?;
        assert_eq!(told.contains("Complete"), settings.labels != StepLabels::Outcome);
        Ok(found)
    }

    #[test]
    fn the_last_step_has_the_verdict_and_others_what_completions_reach() {
        for labels in [StepLabels::Hard, StepLabels::Soft] {
            let (found, summary) = labelled(labels, 0.9);
            assert_eq!(summary.drawn, 120);
            assert!(summary.completions > 0 && summary.completions % 5 == 0, "{summary:?}");
            for one in &found {
                let [first, last] = one.example.labels[..] else { panic!("{one:?}") };
                assert_eq!(last, f64::from(u8::from(one.correct)));
                assert!((0.0..=1.0).contains(&first));
                assert!(first > 0.0 || !one.correct, "its own answer counts: {one:?}");
            }
            let firsts: Vec<f64> = found.iter().map(|one| one.example.labels[0]).collect();
            let fractions = firsts.iter().filter(|x| x.fract() != 0.0).count();
            assert_eq!(fractions > 0, labels == StepLabels::Soft);
        }
    }

    #[test]
    fn an_outcome_label_is_the_verdict_on_every_step() {
        let (found, summary) = labelled(StepLabels::Outcome, 0.9);
        assert_eq!(summary.completions, 0);
        for one in &found {
            assert!(one.example.labels.iter().all(|x| *x == f64::from(u8::from(one.correct))));
        }
    }

    #[test]
    fn equal_responses_are_labelled_once() {
        let (found, summary) = labelled(StepLabels::Hard, 1.0);
        assert!(found.len() < 120, "{} responses", found.len());
        assert_eq!(summary.responses, found.len() as u64);
        let texts: BTreeSet<_> =
            found.iter().map(|one| (&one.example.prompt, &one.example.response)).collect();
        assert_eq!(texts.len(), found.len());
    }

    #[test]
    fn a_policy_that_never_succeeds_has_no_good_step() {
        let (found, summary) = labelled(StepLabels::Hard, 0.0);
        assert_eq!(summary.mean_label, 0.0);
        assert!(found.iter().all(|one| one.example.labels.iter().all(|x| *x == 0.0)));
    }

    /// Of the answers all but the right ones cannot be decided here, so a label below 1 would be one
    /// that such an answer made.
    #[test]
    fn an_answer_that_cannot_be_decided_makes_no_label() {
        let task = EchoTask::new(20).that_cannot_tell();
        for labels in [StepLabels::Hard, StepLabels::Soft, StepLabels::Outcome] {
            let (found, summary) = labelled_by(&task, &settings(labels), 0.9, 5).unwrap();
            assert!(!found.is_empty() && found.iter().all(|one| one.correct));
            assert_eq!(summary.mean_label, 1.0, "{labels:?}: {summary:?}");
            let (_, told) = labelled(labels, 0.9);
            assert_eq!((summary.drawn, told.ungradable), (told.drawn, 0));
            assert!(summary.ungradable > 0 && summary.responses < told.responses, "{summary:?}");
        }
    }

    /// About 40 % of the answers cannot be decided, a little more or less with each seed.
    #[test]
    fn a_checker_that_cannot_tell_stops_the_labelling() {
        let task = EchoTask::new(20).that_cannot_tell();
        let settings = LabelSettings { most_ungradable: 0.4, ..settings(StepLabels::Hard) };
        let stopped = (0..30).filter_map(|seed| labelled_by(&task, &settings, 1.0, seed).err());
        let stopped: Vec<Fault> = stopped.collect();
        assert!(!stopped.is_empty() && stopped.len() < 30);
        for fault in &stopped {
            assert_eq!(fault.class, crate::FaultClass::Training);
            assert!(fault.message.contains("cannot be graded: cannot parse"), "{fault}");
        }
        for what in ["answers to be labelled", "answers of completions"] {
            assert!(stopped.iter().any(|fault| fault.message.contains(what)), "{what}");
        }
    }
}
