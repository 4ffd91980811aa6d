//! Properties of balance score, search and selection on random pools.

#![expect(clippy::pedantic, reason = "tests make small numbers and cast them")]

use bstar_core::balance::{BalanceRule, CapRule, EmptyQueries, RankedPool, balance_score};
use bstar_core::controller::{TieRule, choose, surface};
use bstar_core::pool::{Pool, ScoredResponse};
use bstar_core::preset::Preset;
use bstar_core::ranking::{Deduplication, RankingRule};
use bstar_core::reward::{RewardKind, RewardScale};
use bstar_core::selection::select;
use bstar_core::{QueryId, RngKey, Verdict};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn response() -> impl Strategy<Value = (u8, u8, i32)> {
    (0_u8..6, 0_u8..10, -60_i32..60)
}

fn group(rows: &[(u8, u8, i32)]) -> Vec<ScoredResponse> {
    let row = |(index, &(text, kind, raw)): (u32, &(u8, u8, i32))| {
        // The verdict is a function of the text, as it is in life.
        let verdict = if text % 2 == 0 { Verdict::Correct } else { Verdict::Incorrect };
        let verdict = if kind == 9 { Verdict::Ungradable } else { verdict };
        ScoredResponse::new(index, &format!("t{text}"), verdict, Some(f64::from(raw) / 10.0))
    };
    (0..).zip(rows).map(row).collect()
}

fn pools() -> impl Strategy<Value = Pool> {
    prop::collection::vec(prop::collection::vec(response(), 0..12), 1..6).prop_map(|groups| Pool {
        temperature: 1.0,
        top_p: None,
        groups: groups.iter().map(|rows| group(rows)).collect(),
    })
}

fn ranking(deduplication: Deduplication) -> RankingRule {
    let rule = Preset::Recommended.values().ranking(RewardKind::AnswerAndRewardModel);
    RankingRule { deduplication, ..rule }
}

fn rule(cap: CapRule) -> BalanceRule {
    BalanceRule { target_count: 3, cap, empty_queries: EmptyQueries::Zero }
}

/// The same selection, the slow and obvious way.
fn slow_select(pool: &Pool, threshold: f64, cap: usize) -> Vec<BTreeSet<u64>> {
    let rule = ranking(Deduplication::BeforeRanking);
    let of_group = |group: &Vec<ScoredResponse>| {
        let mut rows: Vec<(f64, u32, u64)> = group
            .iter()
            .filter(|r| r.verdict != Verdict::Ungradable)
            .map(|r| {
                let reward = rule.reward(r.verdict.is_correct(), r.reward_model_score);
                (reward, r.sample_index, r.normalized_hash)
            })
            .collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut kept = BTreeSet::new();
        for (reward, _, text) in rows {
            if reward > threshold + 1e-9 && kept.len() < cap {
                kept.insert(text);
            }
        }
        kept
    };
    pool.groups.iter().map(of_group).collect()
}

proptest! {
    #[test]
    fn the_balance_score_stays_in_its_range(n in 0_u32..50, share in 0.0..=1.0_f64, target in 1_u32..10) {
        let correct = (f64::from(n) * share) as u32;
        let score = balance_score(n, correct, target);
        prop_assert!((0.0..=1.0).contains(&score));
        prop_assert_eq!(score == 0.0, correct == 0);
        // One more distinct correct response never hurts, one more wrong one never helps.
        prop_assert!(balance_score(n + 1, correct + 1, target) >= score - 1e-12);
        prop_assert!(balance_score(n + 1, correct, target) <= score + 1e-12);
    }

    #[test]
    fn selection_equals_the_slow_way(pool in pools(), step in -20_i32..=20, target in 1_u64..30) {
        let threshold = f64::from(step) / 10.0;
        let rule = rule(CapRule::ToPool { target, limit: 12 });
        let selection = select(&pool, &[], &ranking(Deduplication::BeforeRanking), &rule, threshold);
        let size = |cap| slow_select(&pool, threshold, cap).iter().map(BTreeSet::len).sum::<usize>();
        let cap = (1..12).find(|cap| size(*cap) as u64 >= target).unwrap_or(12);
        prop_assert_eq!(selection.cell.cap, Some(cap as u32));
        let texts = |(group, chosen): (&Vec<ScoredResponse>, &Vec<usize>)| -> BTreeSet<u64> {
            chosen.iter().map(|i| group[*i].normalized_hash).collect()
        };
        let chosen: Vec<_> = pool.groups.iter().zip(&selection.chosen).map(texts).collect();
        prop_assert_eq!(chosen, slow_select(&pool, threshold, cap));
        prop_assert_eq!(selection.cell.selected as usize, size(cap));
    }

    #[test]
    fn nothing_at_or_below_the_threshold_is_selected(pool in pools(), step in -20_i32..=20) {
        let threshold = f64::from(step) / 10.0;
        for deduplication in [Deduplication::BeforeRanking, Deduplication::AfterCap, Deduplication::Never] {
            let ranking = ranking(deduplication);
            let selection = select(&pool, &[], &ranking, &rule(CapRule::Uncapped), threshold);
            for (group, chosen) in pool.groups.iter().zip(&selection.chosen) {
                for response in chosen.iter().map(|i| group[*i]) {
                    let correct = response.verdict.is_correct();
                    prop_assert!(ranking.reward(correct, response.reward_model_score) > threshold);
                    prop_assert_ne!(response.verdict, Verdict::Ungradable);
                }
            }
        }
    }

    #[test]
    fn the_order_of_responses_does_not_matter(pool in pools(), seed in 0_u64..1000, step in -20_i32..=20) {
        let mut shuffled = pool.clone();
        for group in &mut shuffled.groups {
            bstar_core::rng::shuffle(group, &mut RngKey::from_seed(seed).rng());
        }
        let at = |pool: &Pool| {
            let rule = rule(CapRule::ToPool { target: 8, limit: 12 });
            let rankings = ranking(Deduplication::BeforeRanking);
            let selection = select(pool, &[], &rankings, &rule, f64::from(step) / 10.0);
            let samples = pool.groups.iter().zip(&selection.chosen);
            let indices = |(group, chosen): (&Vec<ScoredResponse>, &Vec<usize>)| {
                chosen.iter().map(|i| group[*i].sample_index).collect::<Vec<_>>()
            };
            (selection.cell, samples.map(indices).collect::<Vec<_>>())
        };
        prop_assert_eq!(at(&pool), at(&shuffled));
    }

    #[test]
    fn the_choice_is_the_best_cell_of_the_grid(pool in pools()) {
        let thresholds: Vec<f64> = (-10..=10).map(|i| f64::from(i) / 10.0).collect();
        let rules = ranking(Deduplication::BeforeRanking);
        let groups = pool.groups.iter().rev().cloned().collect();
        let cold = Pool { temperature: 0.5, top_p: None, groups };
        let grid = surface(&[pool.clone(), cold], &[], &rules, &rule(CapRule::Uncapped), &thresholds);
        prop_assert_eq!(grid.len(), 42);
        for ties in [TieRule::Documented, TieRule::FirstFound] {
            let chosen = choose(&grid, ties, None).expect("cells");
            prop_assert!(grid.iter().all(|cell| cell.balance_score <= chosen.balance_score + 1e-12));
            prop_assert!(grid.contains(&chosen));
        }
        let ranked = RankedPool::new(&pool, &[], &rules);
        for cell in grid.iter().filter(|cell| cell.temperature == 1.0) {
            let above: u64 = ranked.rankings.iter().map(|r| r.above(cell.threshold) as u64).sum();
            prop_assert_eq!(above, cell.selected);
        }
    }

    #[test]
    fn a_verified_count_is_that_of_the_slow_way(pool in pools(), step in -20_i32..=20, bar in -12_i32..=12) {
        let (threshold, bar) = (f64::from(step) / 10.0, f64::from(bar) / 10.0);
        let plain = ranking(Deduplication::BeforeRanking);
        let verifying = RankingRule { verified_above: Some(bar), ..plain.clone() };
        let rule = rule(CapRule::ToPool { target: 8, limit: 12 });
        let all = select(&pool, &[], &plain, &rule, threshold);
        let verified = select(&pool, &[], &verifying, &rule, threshold);
        // What is selected is the same; what counts of it is what the model puts above the bar.
        prop_assert_eq!(&verified.chosen, &all.chosen);
        let mut counted = 0;
        for (group, chosen) in pool.groups.iter().zip(&verified.chosen) {
            let texts: BTreeSet<u64> = chosen
                .iter()
                .map(|i| group[*i])
                .filter(|r| r.verdict.is_correct())
                .filter(|r| (r.reward_model_score.expect("scored") / 5.0).clamp(-1.0, 1.0) > bar + 1e-9)
                .map(|r| r.normalized_hash)
                .collect();
            counted += texts.len() as u64;
        }
        prop_assert_eq!(verified.cell.correct, counted);
        prop_assert_eq!(verified.counts(&pool, &verifying).verified, Some(counted));
        prop_assert_eq!(verified.counts(&pool, &plain).correct, all.cell.correct);
        prop_assert!(verified.cell.balance_score <= all.cell.balance_score);
        let ranked = RankedPool::new(&pool, &[], &verifying);
        prop_assert_eq!(ranked.cell(threshold, &rule), verified.cell, "search and selection agree");
    }

    #[test]
    fn calibrated_scores_see_nothing_but_order(pool in pools(), others in pools(), which in 0_usize..4) {
        let stretch = |raw: f64| match which {
            0 => raw * 3.0 - 40.0,
            1 => raw.powi(3),
            2 => raw.exp(),
            _ => raw.atan(),
        };
        let stretched = |pool: &Pool| {
            let mut pool = pool.clone();
            for response in pool.groups.iter_mut().flatten() {
                response.reward_model_score = response.reward_model_score.map(stretch);
            }
            pool
        };
        let mut plain = ranking(Deduplication::BeforeRanking);
        plain.reward.scale = RewardScale::Rank;
        plain.verified_above = Some(0.2);
        let probes = [Pool { temperature: 0.5, top_p: None, groups: others.groups }, pool];
        let changed = probes.each_ref().map(stretched);
        let thresholds: Vec<f64> = (-20..=20).map(|i| f64::from(i) / 10.0).collect();
        let rule = rule(CapRule::ToPool { target: 8, limit: 12 });
        let (one, other) = (plain.calibrated_on(&probes), plain.calibrated_on(&changed));
        let grid = surface(&probes, &[], &one, &rule, &thresholds);
        prop_assert_eq!(&grid, &surface(&changed, &[], &other, &rule, &thresholds));
        for &threshold in &thresholds {
            let selected = select(&probes[1], &[], &one, &rule, threshold);
            prop_assert_eq!(selected, select(&changed[1], &[], &other, &rule, threshold));
        }
    }

    #[test]
    fn query_ids_survive_json(text in ".{0,40}") {
        let id = QueryId::from(text);
        let json = serde_json::to_string(&id).expect("text");
        prop_assert_eq!(serde_json::from_str::<QueryId>(&json).expect("text"), id);
    }
}
