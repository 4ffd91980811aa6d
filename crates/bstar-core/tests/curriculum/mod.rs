//! The loop with AdaSTaR's order of queries: what is drawn, what is remembered, and that it resumes.

use super::{Memory, events, finished, killed_anywhere, settings};
use bstar_core::curriculum::{Curriculum, QueryOrder, Renewal, wins_by_query};
use bstar_core::event::Event;
use bstar_core::improve::ImproveSettings;
use bstar_core::method::Method;
use bstar_core::ports::{Ledger as _, Task as _};
use bstar_core::search::Search;
use bstar_core::testing::EchoTask;
use bstar_core::{QueryId, RngKey, Stage};
use std::collections::BTreeSet;

fn ada_star(method: Method) -> ImproveSettings {
    let settings = settings(method);
    ImproveSettings {
        query_order: QueryOrder::AdaStar,
        queries_per_iteration: 40,
        iterations: 4,
        ..settings
    }
}

fn drawn(ledger: &Memory, iteration: u32) -> BTreeSet<QueryId> {
    let rollouts = ledger.read_rollouts(iteration, Stage::Train).expect("published");
    rollouts.into_iter().map(|rollout| rollout.query_id).collect()
}

fn renewals(ledger: &Memory) -> Vec<Renewal> {
    let renewed = events(ledger).into_iter().filter_map(|event| match event {
        Event::QueriesRenewed { renewal, .. } => Some(renewal),
        _ => None,
    });
    renewed.collect()
}

#[test]
fn what_was_not_renewed_comes_again_before_anything_new() {
    for search in [Search::Exhaustive, Search::Racing] {
        let ledger =
            finished(&ImproveSettings { search, search_budget: 0.5, ..ada_star(Method::BStar) });
        let renewals = renewals(&ledger);
        assert_eq!(renewals.len(), 4);
        let first = renewals[0];
        assert!(first.renewed > 0 && first.renewed < 40, "{first:?}");
        let both = drawn(&ledger, 1).intersection(&drawn(&ledger, 2)).count();
        assert_eq!(both, 40 - first.renewed, "60 unseen ones are there for the renewed");
        assert!(renewals.windows(2).all(|two| two[0].taken == two[1].taken));
    }
}

#[test]
fn the_queries_of_an_iteration_follow_from_the_rollouts_before() {
    let settings = ada_star(Method::OnlineRft);
    let ledger = finished(&settings);
    let task = EchoTask::new(100);
    let mut records = Curriculum::new(100, RngKey::from_seed(settings.seed));
    let id = |place: usize| task.train()[place].id.clone();
    for (iteration, renewal) in (1..).zip(renewals(&ledger)) {
        let expected: BTreeSet<QueryId> = records.first(40).into_iter().map(id).collect();
        assert_eq!(drawn(&ledger, iteration), expected, "iteration {iteration}");
        let rollouts = ledger.read_rollouts(iteration, Stage::Train).expect("published");
        let right = rollouts.iter().filter(|rollout| rollout.verdict.is_correct()).count();
        assert_eq!(renewal.accuracy, right as f64 / rollouts.len() as f64);
        let wins = wins_by_query(&rollouts);
        assert_eq!(records.renew(iteration, 40, |place| wins[&id(place)]), renewal);
    }
}

#[test]
fn every_method_takes_this_order() {
    for method in Method::ALL {
        let ledger = finished(&ada_star(method));
        let expected = if method.spec().self_training { 4 } else { 0 };
        assert_eq!(renewals(&ledger).len(), expected, "{}", method.name());
    }
    let shuffled = finished(&settings(Method::BStar));
    assert!(renewals(&shuffled).is_empty());
}

#[test]
fn a_run_killed_at_every_operation_remembers_its_queries() {
    let mut settings = ada_star(Method::OnlineRft);
    settings.iterations = 3;
    settings.queries_per_iteration = 12;
    settings.supervised.stop_at_accuracy = None;
    settings.evaluation.k = vec![4];
    settings.evaluation.s = vec![];
    let whole = killed_anywhere(&settings, 0, 1);
    let renewals = renewals(&whole);
    assert!(renewals.iter().any(|renewal| renewal.renewed > 0), "there is something to forget");
}
