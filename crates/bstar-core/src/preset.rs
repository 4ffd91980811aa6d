//! Presets: the places where paper, code and good sense differ, as named sets of values (spec §1.7).
//!
//! A preset gives defaults; any single key can be set beside it.

use crate::balance::EmptyQueries;
use crate::controller::{ThresholdSource, TieRule};
use crate::grid::Grid;
use crate::ranking::{Deduplication, GoldSolutions, RankingRule};
use crate::reward::{RewardKind, RewardRule, RewardScale, StepReduction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A preset by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The paper's text, main experiments: k = 64, grids in steps of 0.1.
    PaperMain,
    /// The paper's study of dynamics: as `paper-main` with k = 32.
    PaperDynamics,
    /// What the authors' code does, bug for bug (spec §1.5), but for its file-name bug.
    OfficialCode,
    /// What we recommend (spec §1.7).
    Recommended,
}

/// The values of a preset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PresetValues {
    /// Responses per query (k).
    pub samples_per_query: usize,
    /// n*; 0 means ⌈N/M⌉.
    pub target_count: u32,
    /// Temperatures tried.
    pub temperatures: Grid,
    /// Thresholds tried.
    pub thresholds: Grid,
    /// What the threshold is chosen on.
    pub threshold_from: ThresholdSource,
    /// Ties.
    pub ties: TieRule,
    /// Queries without a selection.
    pub empty_queries: EmptyQueries,
    /// Queries in the probe set.
    pub probe_queries: usize,
    /// Duplicates.
    pub deduplication: Deduplication,
    /// Gold solutions.
    pub gold_solutions: GoldSolutions,
    /// Cap each query with the smallest cap that reaches N.
    pub cap_to_pool: bool,
    /// Leave out responses without an answer before anything is counted.
    pub drop_unanswered: bool,
    /// Reward-model scale.
    pub scale: RewardScale,
    /// Reward-model divisor.
    pub divisor: f64,
    /// Reward-model clip; 0 does not clip.
    pub clip: f64,
    /// Step reduction.
    pub reduction: StepReduction,
    /// Compare rewards and thresholds with slack.
    pub slack: bool,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 4] =
        [Self::PaperMain, Self::PaperDynamics, Self::OfficialCode, Self::Recommended];

    /// The name used in configs and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::PaperMain => "paper-main",
            Self::PaperDynamics => "paper-dynamics",
            Self::OfficialCode => "official-code",
            Self::Recommended => "recommended",
        }
    }

    /// The preset of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The values.
    pub fn values(self) -> PresetValues {
        let grid = |text: &str| text.parse().expect("the grids of presets are well formed");
        let paper = PresetValues {
            samples_per_query: 64,
            target_count: 0,
            temperatures: grid("0.5:1.2:0.1"),
            thresholds: grid("-1:1:0.1"),
            threshold_from: ThresholdSource::Probe,
            ties: TieRule::Documented,
            empty_queries: EmptyQueries::Zero,
            probe_queries: 600,
            deduplication: Deduplication::BeforeRanking,
            gold_solutions: GoldSolutions::Exclude,
            cap_to_pool: false,
            drop_unanswered: false,
            scale: RewardScale::Divide,
            divisor: 5.0,
            clip: 1.0,
            reduction: StepReduction::Min,
            slack: true,
        };
        match self {
            Self::PaperMain => paper,
            Self::PaperDynamics => PresetValues { samples_per_query: 32, ..paper },
            Self::Recommended => PresetValues { cap_to_pool: true, ..paper },
            Self::OfficialCode => PresetValues {
                target_count: 8,
                temperatures: grid("0.5:1.2:0.05"),
                thresholds: grid("-1:1:0.01:accumulate"),
                threshold_from: ThresholdSource::FullDraw,
                ties: TieRule::FirstFound,
                empty_queries: EmptyQueries::Skip,
                deduplication: Deduplication::AfterCap,
                gold_solutions: GoldSolutions::Compete,
                cap_to_pool: true,
                drop_unanswered: true,
                clip: 0.0,
                slack: false,
                ..paper
            },
        }
    }
}

impl PresetValues {
    /// The ranking rule for this kind of reward.
    pub fn ranking(&self, kind: RewardKind) -> RankingRule {
        RankingRule {
            reward: RewardRule {
                kind,
                scale: self.scale,
                divisor: self.divisor,
                clip: self.clip,
                reduction: self.reduction,
            },
            calibration: None,
            verified_above: None,
            deduplication: self.deduplication,
            gold_competes: self.gold_solutions == GoldSolutions::Compete,
            drop_unanswered: self.drop_unanswered,
            slack: self.slack,
        }
    }
}
