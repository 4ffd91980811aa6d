//! The methods of the paper as data (spec §3).
//!
//! A baseline is a row of this table, never an `if` in the loop: methods differ only in what their
//! controller adapts, where training starts in each iteration, and what is carried over.

use crate::controller::Adaptation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A method by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Supervised fine-tuning only; no iterations.
    Sft,
    /// Each iteration trains anew from the reset point.
    RestEm,
    /// Each iteration continues the weights with a new optimizer and schedule.
    IterativeRft,
    /// One continuous training at a fixed configuration.
    OnlineRft,
    /// Online RFT with temperature and threshold chosen in each iteration.
    BStar,
    /// B-STaR that adapts the temperature only (paper §4.3).
    BStarTemperature,
    /// B-STaR that adapts the threshold only (paper §4.3).
    BStarThreshold,
}

/// The weights that an iteration's training starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPoint {
    /// The run's reset point: the base model or P_0, by setting.
    Reset,
    /// The policy of the previous iteration.
    Previous,
}

/// Whether training goes on from one iteration to the next, or begins anew in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Continuity {
    /// As the method has it (paper).
    #[default]
    Method,
    /// Carried over from the iteration before.
    Carried,
    /// Begun anew in each iteration.
    Renewed,
}

impl Continuity {
    /// Whether something is carried over, for a method that would carry it over or would not.
    pub fn carries(self, method: bool) -> bool {
        match self {
            Self::Method => method,
            Self::Carried => true,
            Self::Renewed => false,
        }
    }
}

/// What makes a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodSpec {
    /// Whether it draws and trains on its own responses at all.
    pub self_training: bool,
    /// What its controller turns.
    pub adaptation: Adaptation,
    /// Where training starts in each iteration.
    pub start: StartPoint,
    /// Whether optimizer moments are carried from one iteration to the next.
    pub carries_optimizer: bool,
    /// Whether one learning-rate schedule spans all iterations.
    pub carries_schedule: bool,
}

impl Method {
    /// Every method, in the order of the paper's tables.
    pub const ALL: [Self; 7] = [
        Self::Sft,
        Self::RestEm,
        Self::IterativeRft,
        Self::OnlineRft,
        Self::BStar,
        Self::BStarTemperature,
        Self::BStarThreshold,
    ];

    /// The name used in configs and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::RestEm => "rest-em",
            Self::IterativeRft => "iterative-rft",
            Self::OnlineRft => "online-rft",
            Self::BStar => "b-star",
            Self::BStarTemperature => "b-star-temperature",
            Self::BStarThreshold => "b-star-threshold",
        }
    }

    /// The method as data.
    pub fn spec(self) -> MethodSpec {
        let online = MethodSpec {
            self_training: true,
            adaptation: Adaptation::Fixed,
            start: StartPoint::Previous,
            carries_optimizer: true,
            carries_schedule: true,
        };
        let renewed = MethodSpec { carries_optimizer: false, carries_schedule: false, ..online };
        match self {
            Self::Sft => MethodSpec { self_training: false, ..renewed },
            Self::RestEm => MethodSpec { start: StartPoint::Reset, ..renewed },
            Self::IterativeRft => renewed,
            Self::OnlineRft => online,
            Self::BStar => MethodSpec { adaptation: Adaptation::Both, ..online },
            Self::BStarTemperature => MethodSpec { adaptation: Adaptation::Temperature, ..online },
            Self::BStarThreshold => MethodSpec { adaptation: Adaptation::Threshold, ..online },
        }
    }
}
