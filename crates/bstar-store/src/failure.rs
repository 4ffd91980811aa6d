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

#[cfg(test)]
mod tests {
    use super::*;
    use bstar_core::Stage;
    use bstar_core::event::{Piece, VerdictCounts};
    use serde_json::json;

    fn told(events: Vec<Event>) -> Option<String> {
        let line = |event| LoggedEvent { seq: 0, at: String::new(), elapsed_s: 0.0, event };
        let events: Vec<LoggedEvent> = events.into_iter().map(line).collect();
        failure(&events, &json!({"run": {"most_empty_iterations": 2, "most_ungradable": 0.5}}))
    }

    #[test]
    fn a_log_that_ends_beyond_a_limit_is_that_of_a_failure() {
        let empty = |in_a_row: u32| {
            let advice = "try more".into();
            told(vec![Event::NothingSelected { iteration: 3, in_a_row, advice }])
        };
        assert_eq!(empty(1), None);
        let why = "nothing was selected in 2 iterations in a row: try more";
        assert_eq!(empty(2).as_deref(), Some(why));
        let published = Event::Published { iteration: 1, piece: Piece::Probe };
        let graded = |ungradable: u64| Event::Graded {
            iteration: 1,
            stage: Stage::Probe,
            counts: VerdictCounts { correct: 2, ungradable, ..VerdictCounts::default() },
            tokens: 0,
            reasons: std::collections::BTreeMap::new(),
            checker: None,
        };
        assert_eq!(told(vec![graded(2), published.clone()]), None);
        let why = "3 of 5 probe answers cannot be graded";
        assert_eq!(told(vec![graded(3), published.clone()]).as_deref(), Some(why));
        // What goes on after it was allowed to.
        assert_eq!(told(vec![graded(3), published.clone(), published]), None);
        assert_eq!(told(Vec::new()), None);
    }
}
