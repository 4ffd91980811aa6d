//! The memory of a run: a run folder together with the policy that is trained in it.

use crate::config::Retention;
use crate::progress::Watch;
use bstar_core::event::{Activity, Event, Piece};
use bstar_core::ports::{Checkpoint, Ledger, Progress};
use bstar_core::{Fault, FaultClass, Rollout, Stage};
use bstar_model::policy::EmbeddedPolicy;
use bstar_model::reward_model::EmbeddedRewardModel;
use bstar_store::RunStore;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every interruption advises.
pub(crate) const GO_ON: &str = "give the same command again to go on";

/// The end by an interrupt, in the midst of a piece of work that is not kept.
pub(crate) fn interruption(begun: &str) -> Fault {
    let mut fault =
        Fault::new(FaultClass::Interrupted, "interrupted; everything published is safe")
            .hint(format!("{GO_ON}: {begun} begins again from its start"));
    fault.begun = Some(begun.to_owned());
    fault
}

/// Makes the base policy again.
pub(crate) type MakeBase<'a> = Box<dyn Fn() -> Result<EmbeddedPolicy, Fault> + 'a>;

/// A [`Ledger`] over a run folder.
pub(crate) struct RunLedger<'a> {
    /// The folder.
    pub(crate) store: RunStore,
    /// Shows what happens.
    pub(crate) view: Box<dyn Watch>,
    /// Makes the base policy, for methods that go back to it.
    pub(crate) make_base: MakeBase<'a>,
    /// Which checkpoints and reward models stay.
    pub(crate) retention: Retention,
    /// Set by Ctrl-C.
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl RunLedger<'_> {
    /// The piece that a piece of work is part of: it is published as a whole or made again.
    fn begun(&self, activity: Activity) -> String {
        let of = |what: &str, iteration: u32| match iteration {
            0 => format!("the {what} of P_0"),
            iteration => format!("the {what} of iteration {iteration}"),
        };
        match activity {
            Activity::Validate if self.is_published(0, Piece::Train) => "the fine-tuning".into(),
            Activity::Supervise | Activity::Validate => "the supervised fine-tuning of P_0".into(),
            Activity::DrawLabels
            | Activity::Complete
            | Activity::TrainRewardModel
            | Activity::MeasureRewardModel => "the reward model".into(),
            Activity::Sample { iteration, stage }
            | Activity::Score { iteration, stage }
            | Activity::Grade { iteration, stage } => match stage {
                Stage::Probe => of("probe", iteration),
                Stage::Train => of("draw", iteration),
                Stage::Eval => of("evaluation", iteration),
            },
            Activity::Weigh { iteration } => of("probe", iteration),
            Activity::Train { iteration } => of("fine-tuning", iteration),
        }
    }
}

impl Ledger<EmbeddedPolicy> for RunLedger<'_> {
    fn record(&mut self, event: Event) -> Result<(), Fault> {
        self.store.append(&event)?;
        self.view.event(&event);
        Ok(())
    }

    fn tick(&mut self, activity: Activity, progress: Progress) -> Result<(), Fault> {
        self.view.tick(activity, progress);
        if self.interrupted.load(Ordering::Relaxed) {
            self.view.break_off();
            return Err(interruption(&self.begun(activity)));
        }
        Ok(())
    }

    fn is_published(&self, iteration: u32, piece: Piece) -> bool {
        self.store.is_published(iteration, piece)
    }

    fn read_rollouts(&self, iteration: u32, stage: Stage) -> Result<Vec<Rollout>, Fault> {
        Ok(self.store.read_rollouts(iteration, stage)?)
    }

    fn publish_rollouts(
        &mut self,
        iteration: u32,
        stage: Stage,
        rollouts: &[Rollout],
    ) -> Result<(), Fault> {
        self.view.finish();
        Ok(self.store.publish_rollouts(iteration, stage, rollouts)?)
    }

    fn publish_checkpoint(
        &mut self,
        iteration: u32,
        policy: &mut EmbeddedPolicy,
    ) -> Result<(), Fault> {
        self.view.finish();
        let folder = self.store.begin_checkpoint(iteration)?;
        policy.save(&folder)?;
        policy.save_trainer_state(&folder)?;
        Ok(self.store.finish_checkpoint(iteration)?)
    }

    fn publish_reward_model(
        &mut self,
        iteration: u32,
        model: &mut EmbeddedRewardModel,
    ) -> Result<(), Fault> {
        self.view.finish();
        let folder = self.store.begin_reward_model(iteration)?;
        model.save(&folder)?;
        Ok(self.store.finish_reward_model(iteration)?)
    }

    fn restore_reward_model(
        &self,
        iteration: u32,
        policy: &EmbeddedPolicy,
    ) -> Result<EmbeddedRewardModel, Fault> {
        EmbeddedRewardModel::load(&self.store.reward_model_dir(iteration)?, policy)
    }

    fn restore(&self, checkpoint: Checkpoint, policy: &mut EmbeddedPolicy) -> Result<(), Fault> {
        match checkpoint {
            Checkpoint::Base => *policy = (self.make_base)()?,
            Checkpoint::Iteration(iteration) => {
                let folder = self.store.checkpoint_dir(iteration)?.ok_or_else(|| {
                    let dir = self.store.dir().display();
                    let message =
                        format!("the checkpoint of iteration {iteration} is gone from {dir}");
                    Fault::new(FaultClass::Run, message).hint("start over with --fresh")
                })?;
                policy.load(&folder)?;
                if !policy.load_trainer_state(&folder)? {
                    let message = format!("no trainer_state.json in {}", folder.display());
                    return Err(Fault::new(FaultClass::Run, message)
                        .hint("restore the file, or start over with `--fresh`"));
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, iteration: u32, policy_version: &str) -> Result<(), Fault> {
        self.view.finish();
        self.store.commit(iteration, policy_version)?;
        let policy_version = policy_version.into();
        self.view.event(&Event::IterationCommitted { iteration, policy_version });
        if self.retention == Retention::KeepLast {
            let keep = BTreeSet::from([0, iteration.saturating_sub(1), iteration]);
            self.store.prune_checkpoints(&keep)?;
            self.store.prune_reward_models()?;
        }
        Ok(())
    }

    fn last_committed(&self) -> Option<u32> {
        self.store.last_committed()
    }

    fn events(&self) -> Result<Vec<Event>, Fault> {
        Ok(self.store.events()?.into_iter().map(|logged| logged.event).collect())
    }
}
