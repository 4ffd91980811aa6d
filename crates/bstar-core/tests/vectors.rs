//! The test vectors of the specification (§6.1–6.3), to 1e-6.

use bstar_core::balance::{
    BalanceRule, CapRule, Cell, EmptyQueries, RankedPool, balance_score, target_count,
};
use bstar_core::controller::{TieRule, choose, surface};
use bstar_core::pool::{Pool, ScoredResponse, exact_hash};
use bstar_core::preset::Preset;
use bstar_core::ranking::{Deduplication, RankingRule};
use bstar_core::reward::RewardKind;
use bstar_core::selection::select;
use bstar_core::{Verdict, ranking::Ranking};

const THRESHOLDS: [f64; 7] = [-1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 1.0];

fn group(rows: &[(&str, bool, f64)]) -> Vec<ScoredResponse> {
    let row = |(index, &(text, correct, raw)): (u32, &(&str, bool, f64))| {
        let verdict = if correct { Verdict::Correct } else { Verdict::Incorrect };
        ScoredResponse::new(index, text, verdict, Some(raw))
    };
    (0..).zip(rows).map(row).collect()
}

fn pool_a() -> Pool {
    let q1 = [("a1", true, 4.0), ("a2", true, 2.0), ("a2", true, 2.0), ("a3", false, -3.0)];
    let q2 = [("b1", false, 1.0), ("b2", false, -2.0), ("b3", true, -1.0), ("b4", false, -4.0)];
    Pool { temperature: 0.5, top_p: None, groups: vec![group(&q1), group(&q2)] }
}

fn pool_b() -> Pool {
    let q1 = [("c1", true, 3.0), ("c2", true, 1.0), ("c3", true, -2.0), ("c4", false, 0.5)];
    let q2 = [("d1", true, 0.5), ("d2", false, -0.4), ("d3", false, -3.0), ("d4", false, 2.0)];
    Pool { temperature: 1.0, top_p: None, groups: vec![group(&q1), group(&q2)] }
}

fn recommended() -> RankingRule {
    Preset::Recommended.values().ranking(RewardKind::AnswerAndRewardModel)
}

fn official() -> RankingRule {
    Preset::OfficialCode.values().ranking(RewardKind::AnswerAndRewardModel)
}

fn gold() -> Vec<Option<u64>> {
    vec![Some(exact_hash("g1")), Some(exact_hash("g2"))]
}

fn plain(target_count: u32) -> BalanceRule {
    BalanceRule { target_count, cap: CapRule::Uncapped, empty_queries: EmptyQueries::Zero }
}

fn close(actual: f64, expected: f64, what: &str) {
    assert!((actual - expected).abs() < 1e-6, "{what}: {actual} is not {expected}");
}

#[test]
fn balance_scores_of_single_queries() {
    for (n, correct, target, expected) in [
        (0, 0, 6, 0.0),
        (1, 1, 6, 0.166_667),
        (2, 2, 6, 0.333_333),
        (6, 6, 6, 1.0),
        (8, 6, 6, 0.75),
        (12, 9, 6, 0.75),
        (10, 5, 6, 0.416_667),
        (64, 16, 6, 0.25),
        (7, 0, 6, 0.0),
        (2, 2, 8, 0.25),
        (7, 7, 8, 0.875),
        (8, 8, 8, 1.0),
        (64, 16, 8, 0.25),
        (4, 1, 6, 0.041_667),
    ] {
        close(balance_score(n, correct, target), expected, &format!("bs({n},{correct},{target})"));
    }
}

#[test]
fn target_counts_of_the_paper() {
    assert_eq!(target_count(67_500, 11_500), 6);
    assert_eq!(target_count(13_500, 2_627), 6);
}

#[test]
fn duplicates_count_once_or_not_at_all_by_rule() {
    let four = group(&[
        ("same", true, 0.0),
        (" same", true, 0.0),
        ("same", true, 0.0),
        ("same ", true, 0.0),
    ]);
    for (rule, counts) in [(Deduplication::BeforeRanking, (1, 1)), (Deduplication::Never, (4, 1))] {
        let ranking = RankingRule { deduplication: rule, ..recommended() };
        let ranked = Ranking::new(&four, None, &ranking);
        assert_eq!(ranked.counts(ranked.above(0.0)), counts, "{rule:?}");
    }
}

#[test]
fn the_worked_pools_score_as_the_table_says() {
    let a2 = [0.395_833, 0.583_333, 0.625, 0.625, 0.625, 0.75, 0.5];
    let a3 = [0.263_889, 0.388_889, 0.416_667, 0.416_667, 0.416_667, 0.5, 0.333_333];
    let b2 = [0.4375, 0.458_333, 0.458_333, 0.5, 0.625, 0.75, 0.75];
    let b3 = [0.416_667, 0.430_556, 0.430_556, 0.458_333, 0.583_333, 0.666_667, 0.5];
    for (pool, target, expected) in
        [(pool_a(), 2, a2), (pool_a(), 3, a3), (pool_b(), 2, b2), (pool_b(), 3, b3)]
    {
        let ranked = RankedPool::new(&pool, &[], &recommended());
        for (threshold, expected) in THRESHOLDS.into_iter().zip(expected) {
            let cell = ranked.cell(threshold, &plain(target));
            close(cell.balance_score, expected, &format!("t {} τ {threshold}", pool.temperature));
        }
    }
}

#[test]
fn the_threshold_is_strict() {
    let ranked = RankedPool::new(&pool_b(), &[], &recommended());
    assert_eq!(ranked.rankings[0].above(0.1), 3, "c4 scores 0.1 and is not above 0.1");
    assert_eq!(ranked.rankings[1].above(-0.1), 3, "d2 scores -0.08 and is above -0.1");
}

#[test]
fn the_choice_and_its_ties_follow_the_rules() {
    let pools = [pool_a(), pool_b()];
    let grid = |target| surface(&pools, &[], &recommended(), &plain(target), &THRESHOLDS);
    let chosen = |target, ties| -> Cell { choose(&grid(target), ties, None).expect("a grid") };
    let at = |cell: Cell| (cell.temperature, cell.threshold);
    let three = chosen(3, TieRule::Documented);
    assert_eq!(at(three), (1.0, 0.5));
    close(three.balance_score, 0.666_667, "best of n* = 3");
    let two = chosen(2, TieRule::Documented);
    assert_eq!((at(two), two.correct), ((1.0, 0.5), 4), "the tie goes to more unique correct");
    assert_eq!(at(chosen(2, TieRule::FirstFound)), (0.5, 0.5));
}

#[test]
fn skipping_empty_queries_and_counting_gold_flatter() {
    let skip = BalanceRule { empty_queries: EmptyQueries::Skip, ..plain(3) };
    let ranked = RankedPool::new(&pool_a(), &[], &recommended());
    close(ranked.cell(1.0, &skip).balance_score, 0.666_667, "A at τ = 1, empty skipped");
    let competing = RankingRule { gold_competes: true, ..recommended() };
    for pool in [pool_a(), pool_b()] {
        let ranked = RankedPool::new(&pool, &gold(), &competing);
        close(ranked.cell(0.5, &plain(3)).balance_score, 0.833_333, "with gold at τ = 0.5");
    }
    let ranked = RankedPool::new(&pool_a(), &gold(), &competing);
    close(ranked.cell(1.0, &plain(3)).balance_score, 0.333_333, "gold scores 1, not above 1");
}

#[test]
fn the_official_cap_lets_duplicates_burn_places() {
    let rule = |cap| BalanceRule {
        target_count: 8,
        cap: CapRule::ToPool { target: u64::MAX, limit: cap },
        empty_queries: EmptyQueries::Skip,
    };
    for (cap, total, expected) in
        [(1, 2, 0.125), (2, 4, 0.25), (3, 5, 0.208_333), (4, 7, 0.25), (5, 9, 0.190_625)]
    {
        let selection = select(&pool_a(), &gold(), &official(), &rule(cap), -1.0);
        assert_eq!((selection.cell.cap, selection.cell.selected), (Some(cap), total));
        close(selection.cell.balance_score, expected, &format!("cap {cap}"));
    }
    let third = select(&pool_a(), &gold(), &official(), &rule(3), -1.0);
    assert_eq!(third.chosen, [vec![0, 1], vec![2, 0]], "a1, a2 | b3, b1");
    assert_eq!(third.gold, [false, true]);
}

#[test]
fn the_official_search_finds_what_the_reference_finds() {
    let values = Preset::OfficialCode.values();
    let search = |target| {
        let rule = BalanceRule {
            target_count: values.target_count,
            cap: CapRule::ToPool { target, limit: 64 },
            empty_queries: values.empty_queries,
        };
        let pools = [pool_a(), pool_b()];
        let thresholds = values.thresholds.values().to_vec();
        let grid = surface(&pools, &gold(), &official(), &rule, &thresholds);
        let per_pool = |pool: usize| {
            choose(&grid[pool * 200..(pool + 1) * 200], values.ties, None).expect("a grid")
        };
        (per_pool(0), per_pool(1), choose(&grid, values.ties, None).expect("a grid"))
    };
    let (a, b, best) = search(6);
    close(a.balance_score, 0.3125, "A");
    assert_eq!((a.threshold, a.cap, a.selected), (0.200_000_000_000_000_8, Some(64), 5));
    close(b.balance_score, 0.375, "B");
    assert_eq!((b.threshold, b.cap, b.selected), (0.400_000_000_000_000_97, Some(4), 6));
    assert_eq!(best.temperature, 1.0);
    let (a, b, best) = search(4);
    assert_eq!((a.balance_score, a.threshold, a.cap), (0.25, -1.0, Some(2)));
    assert_eq!((b.balance_score, b.threshold, b.cap), (0.25, -1.0, Some(2)));
    assert_eq!(best.temperature, 0.5, "a tie goes to the first");
}

#[test]
fn a_query_without_any_answer_is_unknown_to_the_official_search() {
    let mut unanswered = group(&[("u1", false, 1.0), ("u2", false, 2.0)]);
    for response in &mut unanswered {
        response.verdict = Verdict::NoAnswer;
    }
    let mut pool = pool_a();
    let rule = BalanceRule { empty_queries: EmptyQueries::Skip, ..plain(8) };
    let score = |pool: &Pool, gold: &[Option<u64>]| {
        RankedPool::new(pool, gold, &official()).cell(0.0, &rule).balance_score
    };
    let without = score(&pool, &gold());
    pool.groups.push(unanswered);
    let gold = [gold(), vec![Some(exact_hash("g3"))]].concat();
    assert_eq!(score(&pool, &gold), without, "neither its gold solution nor its place counts");
}
