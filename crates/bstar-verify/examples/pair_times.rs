//! How long each pair of a file takes: `pair_times FILE`, where a line is a JSON object with `family`,
//! `pred` and `gold`. Prints the verdict and the nanoseconds of each pair as JSON Lines; the fastest
//! of several rounds counts, because others run on the machine too.

#![expect(clippy::print_stdout, reason = "printing is what it does")]

use bstar_verify::math::{Options, judge};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;

/// Rounds over all pairs, and repetitions of each pair in one round.
const ROUNDS: u32 = 5;
const REPETITIONS: u32 = 4;

fn main() {
    let path = std::env::args().nth(1).expect("the name of a file");
    let text = std::fs::read_to_string(&path).expect("a readable file");
    let rows: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let field = |row: &Value, name: &str| row[name].as_str().expect("text").to_owned();
    let pairs: Vec<(String, String)> =
        rows.iter().map(|row| (field(row, "pred"), field(row, "gold"))).collect();
    let options = Options::default();
    let mut fastest = vec![u128::MAX; pairs.len()];
    for _ in 0..ROUNDS {
        for (at, (answer, gold)) in pairs.iter().enumerate() {
            let start = Instant::now();
            for _ in 0..REPETITIONS {
                black_box(judge(black_box(answer), black_box(gold), &options));
            }
            let nanoseconds = start.elapsed().as_nanos() / u128::from(REPETITIONS);
            fastest[at] = fastest[at].min(nanoseconds);
        }
    }
    for (row, ((answer, gold), nanoseconds)) in rows.iter().zip(pairs.iter().zip(fastest)) {
        let verdict = format!("{:?}", judge(answer, gold, &options).sameness);
        let nanoseconds = u64::try_from(nanoseconds).expect("less than centuries");
        println!(
            "{}",
            json!({"family": row["family"], "verdict": verdict, "nanoseconds": nanoseconds})
        );
    }
}
