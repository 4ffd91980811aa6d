//! What an iteration's events say, in words: what fell, what still separates, what to try.
//!
//! A pure function over events. Every sentence rests on numbers that it names; where nothing stands
//! out, nothing is said.

use bstar_core::Stage;
use bstar_core::confidence::Confidence;
use bstar_core::controller::Decision;
use bstar_core::event::{Event, SelectionSummary, VerdictCounts};
use bstar_core::monitor::Metric;
use bstar_core::search::SearchRecord;
use serde::Serialize;
use std::collections::BTreeMap;

/// A relative change that is worth a word.
const WORTH_A_WORD: f64 = 0.05;
/// Share of right answers by wrong steps that is worth a word.
const MANY_FALSE_POSITIVES: f64 = 0.2;
/// Share of responses without an answer that is worth a word.
const MANY_UNANSWERED: f64 = 0.2;
/// A reward model that wins less than this share of what choosing could win tells little.
const SEPARATES: f64 = 0.25;

/// The diagnosis of an iteration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The iteration.
    pub iteration: u32,
    /// The sentences; none where nothing stands out.
    pub findings: Vec<String>,
}

/// What is known of an iteration.
#[derive(Default)]
struct Facts<'a> {
    decision: Option<&'a Decision>,
    selection: Option<&'a SelectionSummary>,
    drawn: Option<VerdictCounts>,
    evaluated: BTreeMap<&'a str, &'a Metric>,
    trained_on: BTreeMap<&'a str, &'a Metric>,
    /// Whether hysteresis held back, here or earlier in the run: then it is set.
    hysteresis: bool,
}

/// Reads the events of a run: a diagnosis of each iteration.
pub fn diagnose<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Diagnosis> {
    let mut iterations: BTreeMap<u32, Facts<'a>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Decided { iteration, decision } => {
                iterations.entry(*iteration).or_default().decision = Some(decision);
            }
            Event::Selected { iteration, selection } => {
                iterations.entry(*iteration).or_default().selection = Some(selection);
            }
            Event::Graded { iteration, stage: Stage::Train, counts, .. } => {
                iterations.entry(*iteration).or_default().drawn = Some(*counts);
            }
            Event::Measured { iteration, stage, metrics } => {
                let facts = iterations.entry(*iteration).or_default();
                let named = metrics.iter().map(|metric| (metric.name.as_str(), metric));
                match stage {
                    Stage::Eval => facts.evaluated.extend(named),
                    Stage::Train => facts.trained_on.extend(named),
                    Stage::Probe => {}
                }
            }
            _ => {}
        }
    }
    let mut before: Option<&Facts<'_>> = None;
    let mut diagnoses = Vec::new();
    let mut hysteresis = false;
    for facts in iterations.values_mut() {
        hysteresis |= facts.decision.is_some_and(|decision| decision.held_back.is_some());
        facts.hysteresis = hysteresis;
    }
    for (&iteration, facts) in &iterations {
        let mut findings = Vec::new();
        if let Some(before) = before {
            findings.extend(facts.fallen(before));
        }
        findings.extend(facts.lucky());
        findings.extend(facts.separation());
        findings.extend(facts.quota());
        findings.extend(facts.edge());
        findings.extend(facts.doubt());
        findings.extend(facts.unanswered());
        diagnoses.push(Diagnosis { iteration, findings });
        before = Some(facts);
    }
    diagnoses
}

/// The lines under a table: what the last iteration shows, since it is what can be acted on.
pub fn foot(diagnoses: &[Diagnosis]) -> String {
    let last = diagnoses.last().filter(|last| !last.findings.is_empty());
    let Some(Diagnosis { iteration, findings }) = last else { return String::new() };
    let name = if *iteration == 0 { "P_0".into() } else { format!("iteration {iteration}") };
    findings.iter().fold(format!("{name}:\n"), |lines, finding| lines + "- " + finding + "\n")
}

impl Facts<'_> {
    fn evaluated(&self, prefix: &str, suffix: &str) -> Option<f64> {
        let found = self
            .evaluated
            .iter()
            .find(|(name, _)| name.starts_with(prefix) && name.ends_with(suffix));
        found.and_then(|(_, metric)| metric.value)
    }

    /// What fell since the iteration before, by more than noise where intervals are known: the fall
    /// is held against the interval of the difference, as of two independent measurements.
    fn fallen(&self, before: &Self) -> Vec<String> {
        let mut fallen = Vec::new();
        for (&name, metric) in &self.evaluated {
            let watched = name.ends_with("/pass@1") && name.starts_with("eval/")
                || name == "explore/diversity"
                || name.starts_with("explore/pass@") && name.contains('-');
            let Some(old) = before.evaluated.get(name).filter(|_| watched) else { continue };
            let (Some(then), Some(now)) = (old.value, metric.value) else { continue };
            let half = |end: Option<f64>, value: f64| end.map_or(0.0, |end| (end - value).abs());
            let noise = half(metric.high, now).hypot(half(old.low, then));
            if now < then * (1.0 - WORTH_A_WORD) && then - now > noise {
                let advice = if name.starts_with("eval/") {
                    "lower `train.learning_rate` or `train.steps`"
                } else {
                    "fewer passes (`train.most_passes`), more queries, or a hotter grid keep variety"
                };
                fallen.push(format!("{name} fell from {then:.3} to {now:.3}: {advice}"));
            }
        }
        fallen
    }

    /// Right answers by wrong steps, which the balance score cannot see.
    fn lucky(&self) -> Option<String> {
        let rate = self.evaluated("eval/", "/false_positive_rate")?;
        (rate > MANY_FALSE_POSITIVES).then(|| {
            format!(
                "{:.0} % of the right answers have a wrong step, and the balance score counts them as \
                 right: a reward model that looks at steps (`balance.counts = \"verified\"`) would not, and \
                 colder sampling makes fewer",
                100.0 * rate
            )
        })
    }

    /// Whether the reward model still tells right from wrong: of what choosing among K responses could
    /// win over taking one, the share that its choice does win. Nothing where there is little to win,
    /// or where the interval of what it chooses reaches a share that would do.
    fn separation(&self) -> Option<String> {
        let metric = |name: &str| self.trained_on.get(name);
        let value = |name: &str| metric(name).and_then(|metric| metric.value);
        let counts =
            self.trained_on.keys().filter_map(|name| name.strip_prefix("exploit/best_of_"));
        let k = counts.filter_map(|count| count.parse::<u32>().ok()).max()?;
        let chosen = value(&format!("exploit/best_of_{k}"))?;
        let (one, any) = (value("explore/pass@1")?, value(&format!("explore/pass@{k}"))?);
        let most = metric(&format!("exploit/best_of_{k}")).and_then(|metric| metric.high)?;
        let enough = one + SEPARATES * (any - one);
        let much_to_win = any - one > WORTH_A_WORD * any;
        (much_to_win && most < enough).then(|| {
            format!(
                "the reward model separates little: its best of {k} is right in {:.0} % of the \
                 queries, one response in {:.0} %, some response in {:.0} %; train it again, or use \
                 `reward.kind = \"answer\"`",
                100.0 * chosen,
                100.0 * one,
                100.0 * any
            )
        })
    }

    /// Queries far from their quota of n* distinct right answers, where a score asks for it.
    fn quota(&self) -> Option<String> {
        let (decision, selection) = (self.decision?, self.selection?);
        decision.balance_score?;
        let wanted = decision.target_count;
        let per_query = selection.correct as f64 / selection.queries.max(1) as f64;
        let short = per_query < f64::from(wanted) / 2.0 && selection.queries > 0;
        short.then(|| {
            format!(
                "a query that gives anything gives {per_query:.1} distinct right answers of n* = \
                 {wanted}, so the balance score mostly rewards variety; \
                 raise `sample.k` or lower `balance.target_count`"
            )
        })
    }

    /// A choice at the edge of its grid may lie beyond it.
    fn edge(&self) -> Option<String> {
        let decision = self.decision?;
        let grid = decision.grid.iter().map(|cell| cell.temperature);
        let searches = || decision.race.iter();
        let drawn = searches().flat_map(|search| &search.contenders).map(|c| c.temperature);
        let estimated = searches().flat_map(|search| &search.estimates).map(|e| e.temperature);
        let all: Vec<f64> = grid.chain(drawn).chain(estimated).collect();
        let (low, high) = all.iter().fold((f64::MAX, f64::MIN), |(a, b), t| (a.min(*t), b.max(*t)));
        let at = match decision.temperature {
            _ if low >= high => return None,
            t if t >= high => "highest",
            t if t <= low => "lowest",
            _ => return None,
        };
        let t = decision.temperature;
        Some(format!(
            "the {at} temperature of the grid was chosen ({t}): widen `balance.temperatures`"
        ))
    }

    /// A temperature that the probe could not tell from another.
    fn doubt(&self) -> Option<String> {
        let decision = self.decision?;
        let rival = decision.open_rival()?;
        let more = rival.more_queries?;
        let t = rival.configuration.sampling();
        let sure = decision.confidence.as_ref().and_then(Confidence::best_chance);
        let sure = sure.map_or_else(String::new, |sure| format!("{:.1} % sure, ", 100.0 * sure));
        let doubt = format!(
            "the probe does not tell its best temperature from {t} ({sure}gain {:.4} ± {:.4})",
            rival.gain, rival.standard_error
        );
        // Of a search the rival's queries count: the winner went on alone.
        let contender = |search: &SearchRecord| {
            search.contenders.iter().find(|of| of.sampling() == t).map(|of| of.queries)
        };
        let of_probe = || decision.confidence.as_ref().map(|confidence| confidence.queries);
        let compared = decision.race.as_ref().map_or_else(of_probe, contender);
        let needed = more.saturating_add(compared.unwrap_or(0) as u64);
        // A monitor of the draw counts its queries.
        let most = self.trained_on.values().map(|metric| metric.queries as u64).max();
        let remedy = match most.filter(|most| needed > *most) {
            Some(most) => format!("even all {most} queries of the draw would hardly"),
            None => format!("{more} more probe queries would"),
        };
        Some(if decision.race.is_some() {
            format!("{doubt}: {remedy}; a larger `balance.search_budget` buys some")
        } else if self.hysteresis || rival.gain >= rival.standard_error {
            // A margin of one standard error would let this gain pass.
            format!("{doubt}: {remedy}")
        } else {
            format!("{doubt}: {remedy}; `balance.hysteresis = 1` keeps such steps from being taken")
        })
    }

    fn unanswered(&self) -> Option<String> {
        let counts = self.drawn?;
        let share = counts.no_answer as f64 / counts.total().max(1) as f64;
        (share > MANY_UNANSWERED).then(|| {
            format!(
                "{:.0} % of the responses have no answer: raise `sample.max_tokens`, or sample colder",
                100.0 * share
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metric(name: &str, value: f64) -> Metric {
        let (low, high) = (Some(value - 0.01), Some(value + 0.01));
        Metric {
            name: name.into(),
            estimator: String::new(),
            value: Some(value),
            low,
            high,
            queries: 9,
        }
    }

    fn evaluated(iteration: u32, values: &[(&str, f64)]) -> Event {
        let metrics = values.iter().map(|(name, value)| metric(name, *value)).collect();
        Event::Measured { iteration, stage: Stage::Eval, metrics }
    }

    fn findings(events: &[Event]) -> String {
        foot(&diagnose(events))
    }

    #[test]
    fn what_fell_is_named_with_its_numbers_and_noise_is_not() {
        let before = evaluated(1, &[("eval/t/pass@1", 0.5), ("explore/diversity", 0.50)]);
        let after = evaluated(2, &[("eval/t/pass@1", 0.495), ("explore/diversity", 0.30)]);
        let told = findings(&[before.clone(), after]);
        assert!(
            told.starts_with("iteration 2:\n- explore/diversity fell from 0.500 to 0.300"),
            "{told}"
        );
        assert!(!told.contains("pass@1"), "{told}");
        assert_eq!(findings(std::slice::from_ref(&before)), "");
        // A fall that the old value may have been too high by is none.
        let noisy = |iteration, value, half| Event::Measured {
            iteration,
            stage: Stage::Eval,
            metrics: vec![Metric {
                low: Some(value - half),
                high: Some(value + half),
                ..metric("eval/t/pass@1", value)
            }],
        };
        assert_eq!(findings(&[noisy(1, 0.5, 0.09), noisy(2, 0.42, 0.03)]), "");
        assert!(findings(&[noisy(1, 0.5, 0.03), noisy(2, 0.42, 0.03)]).contains("0.420"));
    }

    #[test]
    fn the_foot_is_of_the_last_iteration_or_empty() {
        let lucky = evaluated(0, &[("eval/t/false_positive_rate", 0.3)]);
        let quiet = evaluated(1, &[("eval/t/false_positive_rate", 0.1)]);
        assert!(findings(std::slice::from_ref(&lucky)).starts_with("P_0:\n"));
        assert_eq!(findings(&[lucky, quiet]), "");
    }

    #[test]
    fn a_reward_model_with_nothing_to_win_is_not_blamed() {
        let told = |chosen: f64, half: f64, one: f64, any: f64| {
            let mut metrics = vec![metric("explore/pass@1", one), metric("explore/pass@8", any)];
            let (low, high) = (Some(chosen - half), Some(chosen + half));
            metrics.push(Metric { low, high, ..metric("exploit/best_of_8", chosen) });
            findings(&[Event::Measured { iteration: 1, stage: Stage::Train, metrics }])
        };
        assert!(told(0.42, 0.02, 0.4, 0.8).contains("separates little"));
        assert_eq!(told(0.42, 0.09, 0.4, 0.8), "", "it may win a quarter");
        assert_eq!(told(0.9, 0.0, 0.9, 0.9), "", "all answers are right or none is");
        assert_eq!(told(0.9, 0.001, 0.9, 0.93), "", "little to win");
        assert_eq!(told(0.0, 0.0, 0.0, 0.0), "");
    }

    #[test]
    fn lucky_answers_and_a_blind_reward_model_are_told() {
        let lucky = evaluated(0, &[("eval/t/false_positive_rate", 0.3)]);
        assert!(findings(&[lucky]).starts_with("P_0:\n- 30 % of the right answers"));
        let names = [("exploit/best_of_8", 0.42), ("explore/pass@1", 0.4), ("explore/pass@8", 0.8)];
        let metrics = names.iter().map(|(name, value)| metric(name, *value)).collect();
        let told = findings(&[Event::Measured { iteration: 1, stage: Stage::Train, metrics }]);
        assert!(told.contains("best of 8 is right in 42 %"), "{told}");
    }

    /// A choice of 1.2 over 0.8, with the fields of `more` in it.
    fn decided(more: &serde_json::Value) -> Event {
        let cell = |t: f64| {
            json!({"temperature": t, "threshold": 0.0, "cap": null, "balance_score": t,
                   "selected": 1, "correct": 1})
        };
        let mut event = json!({
            "event": "decided", "iteration": 3, "temperature": 1.2, "threshold": 0.0,
            "balance_score": 0.4, "target_count": 7, "threshold_from": "probe",
            "grid": [cell(0.8), cell(1.2)], "full_grid": [],
            "confidence": {"queries": 100, "cells": [], "temperatures": [], "rival": {
                "configuration": {"temperature": 0.8, "threshold": 0.0}, "gain": 0.01,
                "standard_error": 0.02, "more_queries": 1437}},
        });
        for (key, value) in more.as_object().expect("fields") {
            event[key] = value.clone();
        }
        serde_json::from_value(event).expect("an event")
    }

    #[test]
    fn a_choice_at_the_edge_and_in_doubt_is_told() {
        let told = findings(&[decided(&json!({}))]);
        assert!(told.contains("highest temperature of the grid was chosen (1.2)"), "{told}");
        assert!(told.contains("1437 more probe queries would; `balance.hysteresis = 1`"), "{told}");
    }

    #[test]
    fn what_the_resamples_are_sure_of_is_not_in_doubt() {
        let told = |chance: f64| {
            let ways = [(0.8, 1.0 - chance), (1.2, chance)];
            let ways = ways.map(|(t, chance)| json!({"temperature": t, "chance": chance}));
            let rival = json!({"configuration": {"temperature": 0.8, "threshold": 0.0},
                "gain": 0.019, "standard_error": 0.01, "more_queries": 7});
            let confidence =
                json!({"queries": 100, "cells": [], "temperatures": ways, "rival": rival});
            let events = [decided(&json!({ "confidence": confidence }))];
            findings(&events) + &crate::RunReport::from_events(&events).table()
        };
        let sure = told(0.963);
        assert!(sure.contains("96.3") && !sure.contains("does not tell"), "{sure}");
        assert!(!sure.contains("more probe queries"), "{sure}");
        let open = told(0.81);
        assert!(
            open.contains("does not tell its best temperature from 0.8 (81.0 % sure, "),
            "{open}"
        );
        assert!(open.contains("would decide the temperature: iteration 3: 7"), "{open}");
    }

    #[test]
    fn no_more_queries_are_asked_for_than_there_are_and_no_hysteresis_where_it_is_set() {
        let drawn = |queries| {
            let metrics = vec![Metric { queries, ..metric("explore/pass@1", 0.5) }];
            Event::Measured { iteration: 3, stage: Stage::Train, metrics }
        };
        let told = |queries| findings(&[decided(&json!({})), drawn(queries)]);
        assert!(told(1537).contains("1437 more probe queries would;"), "{}", told(1537));
        assert!(told(1536).contains("even all 1536 queries of the draw would hardly;"));
        let held = json!({"held_back": {"configuration": {"temperature": 0.8, "threshold": 0.0},
            "gain": 0.01, "standard_error": 0.02, "more_queries": 7}, "iteration": 2});
        let told = findings(&[decided(&held), decided(&json!({}))]);
        assert!(told.contains("1437 more") && !told.contains("hysteresis"), "{told}");
    }

    #[test]
    fn a_search_is_in_doubt_on_the_queries_of_its_rival_and_its_edge_is_that_of_all_candidates() {
        let contender = |t: f64, queries: usize| json!({"temperature": t, "queries": queries, "balance_score": t / 3.0});
        let search = |most: f64| {
            let estimates = [0.8, 1.2, most].map(|t| json!({"temperature": t, "balance_score": t}));
            json!({"confidence": {"queries": 100, "cells": [], "temperatures": [], "rival": null},
                "race": {"contenders": [contender(0.8, 30), contender(1.2, 100)], "net_cost": 0.1,
                    "estimates": estimates, "rival": {
                    "configuration": {"temperature": 0.8, "threshold": 0.0}, "gain": 0.01,
                    "standard_error": 0.02, "more_queries": 1437}}})
        };
        let drawn = |queries| {
            let metrics = vec![Metric { queries, ..metric("explore/pass@1", 0.5) }];
            Event::Measured { iteration: 3, stage: Stage::Train, metrics }
        };
        let told = |most, queries| findings(&[decided(&search(most)), drawn(queries)]);
        let enough = told(1.2, 1467);
        assert!(enough.contains("1437 more probe queries would; a larger `balance.search_budget`"));
        assert!(!enough.contains("hysteresis"), "it holds no temperature: {enough}");
        assert!(told(1.2, 1466).contains("even all 1466 queries"), "{}", told(1.2, 1466));
        assert!(enough.contains("highest temperature of the grid"), "{enough}");
        assert!(!told(1.3, 1467).contains("of the grid"), "1.3 was estimated");
    }

    #[test]
    fn a_quota_is_told_where_a_score_asks_for_it() {
        let selected: Event = serde_json::from_value(json!({
            "event": "selected", "iteration": 3, "drawn": 80, "selected": 20, "correct": 20,
            "queries": 10, "duplicates": 0, "gold": 0, "threshold": 0.0, "cap": null,
            "balance_score": 0.1,
        }))
        .expect("an event");
        let told = |more| findings(&[decided(&more), selected.clone()]);
        assert!(told(json!({})).contains("2.0 distinct right answers of n* = 7"));
        assert!(!told(json!({"balance_score": null})).contains("n*"), "Online RFT scores nothing");
    }
}
