//! Why a run that is not complete ended, where its events tell: what stops a run is judged by what is on
//! record and by the limits in its config, so a log that ends there ends with a failure.

use crate::event_log::LoggedEvent;
use bstar_core::event::Event;
use serde_json::Value;

/// The failure that the log of a run ends with, in words; none where it was only interrupted. `config` is
/// the run's, resolved.
pub(crate) fn failure(events: &[LoggedEvent], config: &Value) -> Option<String> {
    let (last, before) = events.split_last()?;
    match (&last.event, before.last().map(|line| &line.event)) {
        (Event::NothingSelected { in_a_row, advice, .. }, _) => {
            let most = config["run"]["most_empty_iterations"].as_u64()?;
            let ended = u64::from(*in_a_row) >= most;
            ended.then(|| {
                format!("nothing was selected in {in_a_row} iterations in a row: {advice}")
            })
        }
        (Event::Published { .. }, Some(Event::Graded { stage, counts, .. })) => {
            let most = config["run"]["most_ungradable"].as_f64()?;
            let (undecided, all) = (counts.ungradable, counts.total());
            let ended = undecided as f64 > most * all as f64;
            let stage = stage.name();
            ended.then(|| format!("{undecided} of {all} {stage} answers cannot be graded"))
        }
        _ => None,
    }
}
