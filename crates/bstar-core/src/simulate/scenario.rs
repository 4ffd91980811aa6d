//! The scenarios: one where the balance score does what it should, and one for each way in which it
//! misleads.

use serde::Serialize;

/// A scripted policy with the search that is applied to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// k.
    pub samples: u32,
    /// n*.
    pub target_count: u32,
    /// Log-odds of a right answer to a query of mean difficulty at temperature 0.
    pub skill: f64,
    /// Standard deviation of the queries' difficulties, in log-odds.
    pub spread: f64,
    /// Log-odds lost per unit of temperature.
    pub heat: f64,
    /// Distinct solutions of a query.
    pub solutions: usize,
    /// How many of them a policy uses at temperature 1, roughly.
    pub solution_spread: f64,
    /// Share of right answers that are reached by wrong steps, per unit of temperature.
    pub false_positives: f64,
    /// How well the reward model tells sound from unsound responses; none: the answer check alone.
    pub reward_model_auc: Option<f64>,
    /// Candidate temperatures.
    pub temperatures: Vec<f64>,
    /// Candidate thresholds.
    pub thresholds: Vec<f64>,
}

impl Scenario {
    /// Every scenario.
    pub fn all() -> Vec<Self> {
        let plain = Self {
            name: "plain",
            about: "k well above n*, many solutions, no false positives, a good reward model",
            samples: 32,
            target_count: 6,
            skill: 2.0,
            spread: 1.5,
            heat: 2.0,
            solutions: 40,
            solution_spread: 6.0,
            false_positives: 0.0,
            reward_model_auc: Some(0.9),
            temperatures: (4..=13).map(|tenth| f64::from(tenth) / 10.0).collect(),
            thresholds: (-10..=15).map(|tenth| f64::from(tenth) / 10.0).collect(),
        };
        let of = |name, about| Self { name, about, ..plain.clone() };
        vec![
            Self {
                reward_model_auc: None,
                ..of("binary", "the answer check alone: the threshold has nothing to choose")
            },
            Self { samples: 4, ..of("few-samples", "k below n*: no query can reach its quota") },
            Self {
                solutions: 3,
                solution_spread: 3.0,
                ..of("few-solutions", "three solutions a query: n' cannot reach n*")
            },
            Self {
                false_positives: 0.35,
                reward_model_auc: None,
                ..of("lucky", "right answers by wrong steps, and only the answer is checked")
            },
            Self {
                false_positives: 0.35,
                ..of("lucky-checked", "the same with a good reward model")
            },
            Self {
                false_positives: 0.35,
                reward_model_auc: Some(0.6),
                ..of("lucky-weak", "the same with a weak reward model")
            },
            Self { skill: 5.0, ..of("strong", "a policy that is right nearly always") },
            Self { skill: 0.0, ..of("weak", "a policy that is right in few cases") },
            plain,
        ]
    }

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|scenario| scenario.name == name)
    }
}
