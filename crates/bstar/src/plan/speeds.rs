//! The speeds that a plan reckons with: measured here, given in `[plan]`, or assumed.

use super::facts::{Gatherer, Source};
use super::rates::{DISTINCT, Rates};

/// What is done to responses that are read: done, and to do.
const SCORED: [&str; 2] = ["scored", "score"];
const WEIGHED: [&str; 2] = ["weighed", "weigh"];

/// Seconds of one as how many in a second, and the other way round; 0 stays 0.
fn inverse(rate: f64) -> f64 {
    if rate > 0.0 { 1.0 / rate } else { 0.0 }
}

impl Gatherer<'_> {
    /// Given speeds stand for measured ones.
    pub(super) fn rates(&mut self, measured: Rates) -> Rates {
        let plan = self.plan().clone();
        let mut rates = measured;
        let source = Source::Measured;
        let what = "tokens sampled in a second";
        let given = plan.sampling_tokens_per_second;
        self.value(what, given, inverse(measured.draw), source, "tokens drawn, prompts apart");
        if given > 0.0 {
            (rates.draw, rates.read) = (1.0 / given, 0.0);
        }
        let what = "tokens trained on in a second";
        let given = plan.training_tokens_per_second;
        let how = "on responses; own batch size";
        self.value(what, given, inverse(measured.train[1]), source, how);
        if given > 0.0 {
            (rates.train, rates.update) = ([1.0 / given; 2], 0.0);
        } else if self.config.supervised.steps > 0 {
            let what = "tokens of supervised fine-tuning in a second";
            self.tell(what, inverse(measured.train[0]), source, "own batch size");
        }
        if self.scores() {
            let (given, found) = (plan.scoring_tokens_per_second, inverse(measured.score));
            rates.score = self.reading(SCORED, given, found, (source, "the policy's shape"));
        }
        if self.weighs() {
            let (given, found) = (plan.weighing_tokens_per_second, inverse(measured.weigh));
            let how = "probabilities at each temperature";
            rates.weigh = self.reading(WEIGHED, given, found, (source, how));
        }
        let given = plan.gradings_per_second;
        let what = "responses graded in a second";
        self.value(what, given, inverse(measured.grade), source, "specimens");
        if given > 0.0 {
            rates.grade = 1.0 / given;
        }
        rates
    }

    /// Speeds of machines that are elsewhere.
    pub(super) fn given_rates(&mut self) -> Rates {
        let plan = self.plan().clone();
        let sampling = self.needed(
            "tokens sampled in a second",
            plan.sampling_tokens_per_second,
            "plan.sampling_tokens_per_second",
        );
        let training = self.needed(
            "tokens trained on in a second",
            plan.training_tokens_per_second,
            "plan.training_tokens_per_second",
        );
        let mut rates =
            Rates { draw: 1.0 / sampling, train: [1.0 / training; 2], ..Rates::default() };
        let reads = (Source::Assumed, "three times as many as are trained on");
        if self.scores() {
            let given = plan.scoring_tokens_per_second;
            rates.score = self.reading(SCORED, given, 3.0 * training, reads);
        }
        if self.weighs() {
            let given = plan.weighing_tokens_per_second;
            rates.weigh = self.reading(WEIGHED, given, 3.0 * training, reads);
        }
        if self.config.task.kind.is_programs() {
            let (what, key) = ("responses graded in a second", "plan.gradings_per_second");
            rates.grade = 1.0 / self.needed(what, plan.gradings_per_second, key);
        } else if plan.gradings_per_second > 0.0 {
            self.tell(
                "responses graded in a second",
                plan.gradings_per_second,
                Source::Given,
                "`[plan]`",
            );
            rates.grade = 1.0 / plan.gradings_per_second;
        }
        rates
    }

    /// Seconds to read a token of responses that are `done` to them (scored, weighed); those that repeat
    /// are read once.
    fn reading(
        &mut self,
        [done, verb]: [&str; 2],
        given: f64,
        found: f64,
        (source, how): (Source, &str),
    ) -> f64 {
        let rate = self.value(&format!("tokens {done} in a second"), given, found, source, how);
        let what = format!("share of responses to {verb}");
        self.tell(&what, DISTINCT, Source::Assumed, "others repeat");
        inverse(rate)
    }

    /// Whether responses are weighed: the policy tells how likely they are.
    pub(super) fn weighs(&self) -> bool {
        self.config.improve_settings(0).weighs()
    }
}
