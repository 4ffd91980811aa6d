//! The preset `official-code` against the reference search, bit for bit (spec §1.5).
//!
//! Random pools with duplicates, ties with the gold solution and thresholds that drift are searched
//! three ways: by this crate, by the slow and obvious loops below, and by `reference.py` of the shared
//! data where that and `python3` are there. The numbers of `official/goldens.json` are those of the
//! loops; `BSTAR_BLESS=1 cargo test -p bstar-core --test official` writes them anew.

#![expect(clippy::print_stderr, reason = "a test that was skipped says so")]

use bstar_core::balance::{BalanceRule, CapRule, Cell};
use bstar_core::controller::{choose, surface};
use bstar_core::grid::Grid;
use bstar_core::pool::{Pool, ScoredResponse, exact_hash};
use bstar_core::preset::Preset;
use bstar_core::reward::RewardKind;
use bstar_core::rng::{Rng, below, uniform};
use bstar_core::selection::select;
use bstar_core::{RngKey, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Pools that are searched.
const POOLS: u64 = 60;
/// The authors' largest cap.
const MOST: u32 = 64;

/// A response as the reference takes it: text, whether it is right, raw score.
type Sample = (String, bool, f64);

/// A query: its gold solution and its samples.
#[derive(Clone, Debug, Serialize)]
struct Query {
    gold: String,
    samples: Vec<Sample>,
}

/// A search to make.
#[derive(Clone, Debug, Serialize)]
struct Problem {
    target: u64,
    queries: Vec<Query>,
}

/// What a search finds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    balance_score: f64,
    threshold: f64,
    cap: u32,
    selected: u64,
}

impl Found {
    fn bits(self) -> (u64, u64, u32, u64) {
        (self.balance_score.to_bits(), self.threshold.to_bits(), self.cap, self.selected)
    }
}

fn sample(query: usize, rng: &mut Rng) -> Sample {
    let text = below(rng, 9);
    // Quarters of 5 make rewards that meet the gold solution's 1.0 and, but for drift, thresholds.
    let raw = match below(rng, 3) {
        0 => 0.0,
        1 => 1.25 * (below(rng, 9) as f64 - 4.0),
        _ => 16.0 * uniform(rng) - 8.0,
    };
    (format!("q{query} t{text}"), text.is_multiple_of(2), raw)
}

fn problem(key: RngKey) -> Problem {
    let rng = &mut key.rng();
    let queries: Vec<Query> = (0..=below(rng, 7))
        .map(|query| {
            let samples = (0..=below(rng, 16)).map(|_| sample(query, rng)).collect();
            // Now and then a policy writes the gold solution itself.
            let gold = if below(rng, 4) == 0 { "t0" } else { "gold" };
            Query { gold: format!("q{query} {gold}"), samples }
        })
        .collect();
    // From a target that one response reaches to one that no cap does.
    let all: usize = queries.iter().map(|query| query.samples.len()).sum();
    Problem { target: 1 + below(rng, all + 3) as u64, queries }
}

fn problems() -> Vec<Problem> {
    let key = RngKey::from_seed(8).child("official");
    (0..POOLS).map(|index| problem(key.index(index))).collect()
}

/// The selection of a query, and of these how many are right.
fn slow_select(query: &Query, threshold: f64, cap: u32) -> (u64, u64) {
    let reward = |correct: bool, raw: f64| (if correct { 1.0 } else { 0.0 }) + raw / 5.0;
    let mut rows: Vec<(f64, &str, bool)> = Vec::new();
    for (text, correct, raw) in &query.samples {
        rows.push((reward(*correct, *raw), text, *correct));
    }
    rows.push((1.0, &query.gold, true));
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut seen, mut selected, mut correct) = (BTreeSet::new(), 0, 0);
    for (_, text, right) in rows.iter().filter(|row| row.0 > threshold).take(cap as usize) {
        if seen.insert(*text) {
            selected += 1;
            correct += u64::from(*right);
        }
    }
    (selected, correct)
}

/// The search of the authors' code: every threshold, every cap, every query.
fn slow_search(problem: &Problem) -> Found {
    let mut best: Option<Found> = None;
    let mut threshold = -1.0;
    while threshold <= 1.0 {
        let mut cap = 1;
        let counts = loop {
            let counts: Vec<(u64, u64)> =
                problem.queries.iter().map(|query| slow_select(query, threshold, cap)).collect();
            let total: u64 = counts.iter().map(|count| count.0).sum();
            if total >= problem.target || cap == MOST {
                break counts;
            }
            cap += 1;
        };
        let (mut sum, mut queries) = (0.0, 0_u32);
        for &(n, correct) in counts.iter().filter(|count| count.0 > 0) {
            let correct = correct as f64;
            sum += (correct / 8.0).min(1.0) * correct / n as f64;
            queries += 1;
        }
        // Where nothing at all is selected the authors' code divides by zero; here gold is there.
        let balance_score = if queries == 0 { 0.0 } else { sum / f64::from(queries) };
        if best.is_none_or(|best| balance_score > best.balance_score) {
            let selected = counts.iter().map(|count| count.0).sum();
            best = Some(Found { balance_score, threshold, cap, selected });
        }
        threshold += 0.01;
    }
    best.expect("200 thresholds")
}

fn pool(problem: &Problem, temperature: f64) -> (Pool, Vec<Option<u64>>) {
    let response = |(index, (text, correct, raw)): (u32, &Sample)| {
        let verdict = if *correct { Verdict::Correct } else { Verdict::Incorrect };
        ScoredResponse::new(index, text, verdict, Some(*raw))
    };
    let group = |query: &Query| (0..).zip(&query.samples).map(response).collect();
    let gold = |query: &Query| Some(exact_hash(&query.gold));
    let groups = problem.queries.iter().map(group).collect();
    let pool = Pool { temperature, top_p: None, groups };
    (pool, problem.queries.iter().map(gold).collect())
}

fn rule(target: u64) -> BalanceRule {
    let values = Preset::OfficialCode.values();
    BalanceRule {
        target_count: values.target_count,
        cap: CapRule::ToPool { target, limit: MOST },
        empty_queries: values.empty_queries,
    }
}

fn our_search(problem: &Problem) -> Found {
    let values = Preset::OfficialCode.values();
    let ranking = values.ranking(RewardKind::AnswerAndRewardModel);
    let (pool, gold) = pool(problem, 1.0);
    let rule = rule(problem.target);
    let thresholds = values.thresholds.values();
    let grid = surface(std::slice::from_ref(&pool), &gold, &ranking, &rule, thresholds);
    let Cell { balance_score, threshold, cap, selected, .. } =
        choose(&grid, values.ties, None).expect("a grid");
    // What is selected for training is what the cell says.
    let selection = select(&pool, &gold, &ranking, &rule, threshold);
    let responses: usize = selection.chosen.iter().map(Vec::len).sum();
    let golds = selection.gold.iter().filter(|won| **won).count();
    assert_eq!((responses + golds) as u64, selected);
    assert_eq!(selection.cell.balance_score.to_bits(), balance_score.to_bits());
    Found { balance_score, threshold, cap: cap.expect("capped"), selected }
}

#[test]
fn the_search_is_that_of_the_loops_and_of_the_goldens_bit_for_bit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official/goldens.json");
    let loops: Vec<Found> = problems().iter().map(slow_search).collect();
    if std::env::var_os("BSTAR_BLESS").is_some() {
        let lines: Vec<String> =
            loops.iter().map(|found| serde_json::to_string(found).expect("numbers")).collect();
        std::fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n"))).expect("written");
    }
    let goldens = std::fs::read_to_string(&path).expect("goldens");
    let goldens: Vec<Found> = serde_json::from_str(&goldens).expect("goldens");
    assert_eq!(goldens.len() as u64, POOLS);
    for ((problem, slow), golden) in problems().iter().zip(&loops).zip(&goldens) {
        let ours = our_search(problem);
        assert_eq!(ours.bits(), slow.bits(), "{ours:?} {slow:?} {problem:?}");
        assert_eq!(ours.bits(), golden.bits(), "{ours:?} {golden:?} {problem:?}");
    }
    let some = |property: fn(&Found) -> bool| loops.iter().filter(|found| property(found)).count();
    assert!(some(|found| found.cap == MOST) >= 3, "caps that are never enough");
    assert!(some(|found| found.cap > 1 && found.cap < MOST) >= 10, "caps between");
    assert!(some(|found| found.threshold > -1.0) >= 10, "thresholds that drifted");
}

/// Runs in the reference's names. Python from 3.12 on adds floats with compensation; the reference is
/// older, so its `sum` adds from left to right here.
const DRIVER: &str = r#"
import contextlib, io, json, sys
def plain_sum(values, start=0):
    for value in values:
        start = start + value
    return start
names = {"sum": plain_sum}
with contextlib.redirect_stdout(io.StringIO()):
    exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), names)
for problem in json.load(sys.stdin):
    pool = [dict(gold=q["gold"], samples=[tuple(s) for s in q["samples"]]) for q in problem["queries"]]
    score, threshold, cap, selected = names["official"](pool, problem["target"])
    print(json.dumps(dict(balance_score=score, threshold=threshold, cap=cap, selected=selected)))
"#;

fn reference() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("BSTAR_SHARED").map_or(beside, PathBuf::from);
    let path = shared.join("spec/reference.py");
    if !path.exists() {
        eprintln!("skipped: no {} in the shared data", path.display());
        return None;
    }
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: no python3 on the path");
        return None;
    }
    Some(path)
}

#[test]
fn the_search_is_that_of_the_reference_bit_for_bit() {
    let Some(reference) = reference() else { return };
    let mut python = Command::new("python3")
        .arg("-c")
        .arg(DRIVER)
        .arg(reference)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let problems = problems();
    let input = serde_json::to_string(&problems).expect("JSON");
    python.stdin.take().expect("piped").write_all(input.as_bytes()).expect("read");
    let output = python.wait_with_output().expect("python3 ends");
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).expect("text");
    let found: Vec<Found> =
        output.lines().map(|line| serde_json::from_str(line).expect("numbers")).collect();
    assert_eq!(found.len(), problems.len());
    for (problem, theirs) in problems.iter().zip(&found) {
        let ours = our_search(problem);
        assert_eq!(ours.bits(), theirs.bits(), "{ours:?} {theirs:?} {problem:?}");
    }
}

#[test]
fn the_grid_that_the_published_script_can_reach_is_known() {
    let values = Preset::OfficialCode.values();
    // Files are named with two decimals and looked up as the shortest text of the number.
    let reachable: Vec<f64> = values
        .temperatures
        .values()
        .iter()
        .copied()
        .filter(|temperature| format!("{temperature:.2}") == temperature.to_string())
        .collect();
    assert_eq!(reachable, [0.55, 0.65, 0.75, 0.85, 0.95, 1.05, 1.15]);
    let documented: Grid = "0.55:1.15:0.1".parse().expect("the grid of the docs");
    assert_eq!(documented.values(), reachable);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/concepts/presets.md");
    let docs = std::fs::read_to_string(docs).expect("docs");
    assert!(docs.contains("balance.temperatures=0.55:1.15:0.1"), "the docs name it");
    // Among the pools of a grid the first best one wins, whole or reachable.
    let ranking = values.ranking(RewardKind::AnswerAndRewardModel);
    let key = RngKey::from_seed(8).child("temperatures");
    let mut differ = 0;
    for round in 0..10 {
        let problem_at =
            |index: usize| Problem { target: 12, ..problem(key.index(round).index(index as u64)) };
        let winner = |temperatures: &[f64]| {
            let all = values.temperatures.values();
            let place = |t: &f64| all.iter().position(|other| other == t).expect("on the grid");
            let mut best = None;
            let mut grid = Vec::new();
            for t in temperatures {
                let problem = problem_at(place(t));
                let found = slow_search(&problem).balance_score;
                if best.is_none_or(|(score, _)| found > score) {
                    best = Some((found, *t));
                }
                let (pool, gold) = pool(&problem, *t);
                let pools = std::slice::from_ref(&pool);
                let thresholds = values.thresholds.values();
                grid.extend(surface(pools, &gold, &ranking, &rule(12), thresholds));
            }
            let chosen = choose(&grid, values.ties, None).expect("a grid").temperature;
            assert_eq!(Some(chosen), best.map(|(_, t)| t));
            chosen
        };
        differ += u32::from(winner(values.temperatures.values()) != winner(&reachable));
    }
    assert!(differ > 0, "the bug matters");
}
