//! Whole responses of models against the labels of their publishers. The data lies outside the
//! repository; where it is missing the tests say so and pass.
//!
//! Differences are printed, so that somebody can say whose mistake each is; `docs/log.md` has them.

#![expect(clippy::print_stdout, reason = "the counts are what the tests are read for")]

use bstar_verify::Sameness;
use bstar_verify::math::{Options, grade};
use serde_json::Value;
use shared::{field, rows};
use std::collections::BTreeMap;

mod shared;

/// Calls `with` on each sample of a file with its row.
fn each_sample(name: &str, mut with: impl FnMut(&Value, &Value)) -> Option<()> {
    for row in rows(&format!("rollouts/{name}.jsonl.gz"))? {
        for sample in row["samples"].as_array().expect("samples") {
            with(&row, sample);
        }
    }
    Some(())
}

fn tail(text: &str) -> &str {
    let start = text.char_indices().rev().nth(240).map_or(0, |(at, _)| at);
    &text[start..]
}

/// Agreement with labels in a thousand samples, which must not fall below `floor`.
fn labelled(name: &str, floor: f64) {
    let (mut agreed, mut total, mut accepted) = (0, 0, 0);
    let found = each_sample(name, |row, sample| {
        let label = sample["correct"].as_bool().expect("a label");
        let graded = grade(field(sample, "text"), field(row, "gold"), &Options::default());
        total += 1;
        if (graded.judgement.sameness == Sameness::Same) == label {
            agreed += 1;
            return;
        }
        accepted += i32::from(!label);
        println!(
            "{name} {} label {label}: gold {:?} found {:?} pred {} ({}): {:?}",
            field(row, "id"),
            field(row, "gold"),
            graded.extracted,
            sample["pred"],
            graded.reason(),
            tail(field(sample, "text")),
        );
    });
    if found.is_none() {
        return;
    }
    let share = 1000.0 * f64::from(agreed) / f64::from(total);
    println!("{name}: {agreed} of {total} agree, {share:.1} in a thousand, {accepted} accepted");
    assert!(share >= floor, "{share}");
}

#[test]
fn gsm8k_openai() {
    labelled("gsm8k_openai_4models", 999.0);
}

#[test]
fn gsm8k_rho() {
    labelled("gsm8k_rho_4models", 996.0);
}

#[test]
fn math500_rho() {
    labelled("math500_rho_4models", 982.0);
}

#[test]
fn gsm8k_mathcoder() {
    labelled("gsm8k_mathcoder_8runs", 998.0);
}

#[test]
fn math_qwen() {
    labelled("math_qwen_k8", 997.0);
}

/// Without labels: the answer in the text against the prediction of the publisher.
#[test]
fn gsm8k_tora() {
    let name = "gsm8k_tora_2models";
    let (mut agreed, mut total) = (0, 0);
    let found = each_sample(name, |row, sample| {
        let graded = grade(field(sample, "text"), field(row, "gold"), &Options::default());
        let pred = grade(field(sample, "pred"), field(row, "gold"), &Options::default());
        total += 1;
        if (graded.judgement.sameness == Sameness::Same)
            == (pred.judgement.sameness == Sameness::Same)
        {
            agreed += 1;
            return;
        }
        println!(
            "{name} {}: gold {:?} found {:?} pred {}: {:?}",
            field(row, "id"),
            field(row, "gold"),
            graded.extracted,
            sample["pred"],
            tail(field(sample, "text")),
        );
    });
    if found.is_some() {
        println!("{name}: {agreed} of {total} agree");
        assert!(agreed >= total - 1);
    }
}

/// Accuracy of each model on half of the problems against the published one on all. With `BSTAR_SHOW`
/// set, every response that is not graded as correct is printed.
fn published(name: &str, summary: &str, most_mean: f64) {
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let Ok(text) = std::fs::read_to_string(root.join("rollouts").join(summary)) else {
        println!("skipped: no {summary}");
        return;
    };
    let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let published: BTreeMap<&str, f64> = rows
        .iter()
        .map(|row| (field(row, "Model"), field(row, "Acc").parse().expect("a number")))
        .collect();
    let mut counts: BTreeMap<String, (u32, u32, u32)> = BTreeMap::new();
    each_sample(name, |row, sample| {
        let graded = grade(field(sample, "text"), field(row, "gold"), &Options::default());
        let count = counts.entry(field(sample, "model").to_owned()).or_default();
        count.0 += 1;
        count.1 += u32::from(graded.judgement.sameness == Sameness::Same);
        count.2 += u32::from(graded.extracted.is_none());
        if graded.judgement.sameness != Sameness::Same && std::env::var("BSTAR_SHOW").is_ok() {
            println!(
                "{name} {} {}: gold {:?} found {:?} ({}): {:?}",
                field(sample, "model"),
                field(row, "id"),
                field(row, "gold"),
                graded.extracted,
                graded.reason(),
                tail(field(sample, "text"))
            );
        }
    });
    let mut differences = Vec::new();
    for (model, (total, same, none)) in &counts {
        let share = 100.0 * f64::from(*same) / f64::from(*total);
        let Some(told) = published.get(model.as_str()) else {
            println!("{name} {model}: {share:.1} %, not published");
            continue;
        };
        println!("{name} {model}: {share:.1} % here, {told} % published, {none} without an answer");
        differences.push(share - told);
    }
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    let absolute = differences.iter().map(|d| d.abs()).sum::<f64>() / differences.len() as f64;
    println!("{name}: mean difference {mean:.2}, absolute {absolute:.2} points");
    assert!(mean.abs() <= most_mean, "{mean}");
}

#[test]
fn gsm8k_zeroeval() {
    published("gsm8k_zeroeval_43models", "zeroeval_gsm.summary.json", 0.6);
}

#[test]
fn math_zeroeval() {
    published("math-l5_zeroeval_41models", "zeroeval_math-l5.summary.json", 0.6);
}

#[test]
fn game24() {
    use bstar_verify::game24::check;
    for name in ["game24_gpt4_cot_k100", "game24_gpt4_standard_k100"] {
        let (mut agreed, mut total) = (0, 0);
        let found = each_sample(name, |row, sample| {
            let numbers: Vec<i64> = field(row, "question")
                .split_whitespace()
                .map(|number| number.parse().expect("a number"))
                .collect();
            let checked = check(field(sample, "text"), &numbers);
            let label = sample["correct"].as_bool().expect("a label");
            total += 1;
            if (checked.reason.sameness() == Sameness::Same) == label {
                agreed += 1;
                return;
            }
            println!(
                "{name} {} label {label}: {:?} ({}): {:?}",
                field(row, "question"),
                checked.extracted,
                checked.reason.name(),
                tail(field(sample, "text"))
            );
        });
        if found.is_some() {
            println!("{name}: {agreed} of {total} agree");
            assert_eq!(agreed, total);
        }
    }
}
