//! What goes on from iteration to iteration: optimizer and schedule, by the method or as they are set.

use super::{Memory, base, events, killed_anywhere, run, settings};
use bstar_core::event::Event;
use bstar_core::improve::ImproveSettings;
use bstar_core::method::{Continuity, Method};

#[test]
fn what_a_method_carries_is_what_its_row_says() {
    let learning_rates = |method| {
        let mut ledger = Memory::new(base());
        let policy = run(&settings(method), &mut ledger).expect("a run");
        let rates: Vec<f64> = events(&ledger)
            .iter()
            .filter_map(|event| match event {
                Event::Step { iteration: 1.., step } => Some(step.learning_rate),
                _ => None,
            })
            .collect();
        (rates, policy)
    };
    let (online, online_policy) = learning_rates(Method::OnlineRft);
    let (iterative, iterative_policy) = learning_rates(Method::IterativeRft);
    let (_, rest_policy) = learning_rates(Method::RestEm);
    assert_eq!(online.iter().filter(|rate| **rate == 0.0).count(), 1, "one warm-up");
    assert_eq!(iterative.iter().filter(|rate| **rate == 0.0).count(), 3, "one per iteration");
    assert_eq!(iterative[..6], iterative[6..12]);
    assert_eq!(online_policy.optimizer_steps, 18);
    assert_eq!(iterative_policy.optimizer_steps, 6);
    // Resetting loses what the earlier iterations added.
    assert!(rest_policy.skill < iterative_policy.skill - 0.1);
}

#[test]
fn optimizer_and_schedule_are_carried_or_renewed_whatever_the_method() {
    use Continuity::{Carried, Renewed};
    for method in [Method::OnlineRft, Method::IterativeRft, Method::BStar] {
        for optimizer_state in [Carried, Renewed] {
            for schedule in [Carried, Renewed] {
                let settings = ImproveSettings { optimizer_state, schedule, ..settings(method) };
                let mut ledger = Memory::new(base());
                let policy = run(&settings, &mut ledger).expect("a run");
                let warm_ups = events(&ledger)
                    .iter()
                    .filter(|event| {
                        matches!(event, Event::Step { iteration: 1.., step } if step.learning_rate == 0.0)
                    })
                    .count();
                let what = format!("{method:?} {optimizer_state:?} {schedule:?}");
                assert_eq!(warm_ups, if schedule == Carried { 1 } else { 3 }, "{what}");
                let steps = if optimizer_state == Carried { 18 } else { 6 };
                assert_eq!(policy.optimizer_steps, steps, "{what}");
            }
        }
    }
}

#[test]
fn the_first_iteration_that_trains_starts_optimizer_and_schedule() {
    let steps_of = |ledger: &Memory| -> Vec<(u32, u64)> {
        let step = |event: &Event| match event {
            Event::Step { iteration: iteration @ 1.., step } => Some((*iteration, step.step)),
            _ => None,
        };
        events(ledger).iter().filter_map(step).collect()
    };
    let late_starts = (0..50).filter(|&seed| {
        let mut settings = settings(Method::OnlineRft);
        (settings.seed, settings.queries_per_iteration, settings.samples_per_query) = (seed, 1, 1);
        settings.most_empty_iterations = 9;
        let mut ledger = Memory::new(base());
        let policy = run(&settings, &mut ledger).expect("a run");
        let steps = steps_of(&ledger);
        let places: Vec<u64> = steps.iter().map(|(_, step)| *step).collect();
        assert_eq!(places, (0..places.len() as u64).collect::<Vec<_>>());
        if !steps.is_empty() {
            assert_eq!(policy.optimizer_steps, steps.len() as u64, "the start's moments are gone");
        }
        steps.first().is_some_and(|(iteration, _)| *iteration > 1)
    });
    assert!(late_starts.count() > 3, "no run began with an empty iteration");
}

#[test]
fn what_is_carried_against_the_method_survives_a_kill_at_every_operation() {
    use Continuity::{Carried, Renewed};
    for (method, how) in [(Method::IterativeRft, Carried), (Method::OnlineRft, Renewed)] {
        let mut settings = settings(method);
        (settings.optimizer_state, settings.schedule) = (how, how);
        settings.queries_per_iteration = 12;
        settings.evaluation.k = vec![4];
        settings.evaluation.s = vec![];
        killed_anywhere(&settings, 0, 1);
    }
}
