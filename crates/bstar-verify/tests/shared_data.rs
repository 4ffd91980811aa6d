//! The checker against real answers. The data lies outside the repository; where it is missing the
//! tests say so and pass.

#![expect(clippy::print_stdout, reason = "the counts are what the tests are read for")]

use bstar_verify::Sameness;
use bstar_verify::math::{Options, grade, judge};
use shared::{field, rows};

mod shared;

#[test]
fn hand_labelled_pairs() {
    let Some(rows) = rows("grader_pairs/pairs.jsonl") else { return };
    let (mut right, mut total, mut accepts) = (0, 0, 0);
    for (line, row) in rows.iter().enumerate() {
        let is_disputed = row["disputed"].as_bool().unwrap_or(false);
        if is_disputed || field(row, "kind") == "choice_text" {
            continue;
        }
        total += 1;
        let (gold, pred) = (field(row, "gold"), field(row, "pred"));
        let found = match field(row, "kind") {
            "answer" => judge(pred, gold, &Options::default()).sameness,
            _ => grade(pred, gold, &Options::default()).judgement.sameness,
        };
        let expected = row["equal"].as_bool().expect("a label");
        if (found == Sameness::Same) == expected {
            right += 1;
            continue;
        }
        accepts += usize::from(!expected);
        let graded = grade(pred, gold, &Options::default());
        println!("line {} label {expected}: {gold:?} <> {:?}", line + 1, graded.extracted);
    }
    println!("pairs: {right} of {total} right, {accepts} accepted against the label");
    assert!(right >= 203, "{right} of {total}");
}

#[test]
fn pairs_of_model_outputs() {
    let Some(rows) = rows("grader_pairs/model_output_pairs.jsonl.gz") else { return };
    let mut right = 0;
    for (line, row) in rows.iter().enumerate() {
        let (gold, pred) = (field(row, "gold"), field(row, "pred"));
        let judged = judge(pred, gold, &Options::default());
        let expected = row["equal"].as_bool().expect("a label");
        let graded = grade(pred, gold, &Options::default()).judgement;
        assert_eq!(graded.sameness, judged.sameness, "a bare answer, as it is: {pred:?} {gold:?}");
        if (judged.sameness == Sameness::Same) == expected {
            right += 1;
        } else {
            println!(
                "line {} label {expected}: {gold:?} <> {pred:?}: {}",
                line + 1,
                judged.reason.name()
            );
        }
    }
    let share = f64::from(right) / rows.len() as f64;
    println!("model outputs: {right} of {} agree, {:.2} %", rows.len(), 100.0 * share);
    assert!(share >= 0.995);
}

/// Every gold answer of MATH and GSM8K.
fn golds() -> Option<Vec<String>> {
    let mut golds = Vec::new();
    for name in ["math/train.jsonl.gz", "math/test.jsonl.gz"] {
        for row in rows(name)? {
            let boxed = bstar_verify::extraction::last_boxed(field(&row, "solution"));
            match boxed.filter(|boxed| !boxed.trim().is_empty()) {
                Some(boxed) => golds.push(boxed.to_owned()),
                // Two problems of MATH have a last box that holds nothing.
                None => println!("no gold answer: {}", field(&row, "problem")),
            }
        }
    }
    for name in ["gsm8k/train.jsonl", "gsm8k/test.jsonl"] {
        for row in rows(name)? {
            let answer = field(&row, "answer").rsplit("####").next().unwrap_or_default();
            golds.push(answer.trim().to_owned());
        }
    }
    Some(golds)
}

#[test]
fn gold_answers_are_understood_and_equal_themselves() {
    let Some(golds) = golds() else { return };
    let mut unparsed = 0;
    for gold in &golds {
        let spaced = format!("$ {gold} $");
        let judged = judge(&spaced, gold, &Options::default());
        assert_eq!(judged.sameness, Sameness::Same, "{gold:?}: {}", judged.reason.name());
        if !bstar_verify::math::parses(gold) {
            unparsed += 1;
            println!("not parsed: {gold:?}");
        }
    }
    println!("golds: {} equal themselves, {unparsed} only as text", golds.len());
}

#[test]
fn different_golds_are_told_apart() {
    let Some(golds) = golds() else { return };
    let mut state = 1_u64;
    let mut pick = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        &golds[(state >> 33) as usize % golds.len()]
    };
    let (mut tried, mut same, mut unclear) = (0, 0, 0);
    while tried < 10_000 {
        let (left, right) = (pick(), pick());
        let plain = bstar_verify::exact::normalize_math;
        if plain(left) == plain(right) {
            continue;
        }
        tried += 1;
        let judged = judge(left, right, &Options::default());
        match judged.sameness {
            Sameness::Same => {
                same += 1;
                println!("same: {left:?} <> {right:?}");
            }
            Sameness::CannotTell => {
                unclear += 1;
                println!("unclear: {left:?} <> {right:?} {}", judged.reason.name());
            }
            Sameness::Different => {}
        }
    }
    println!("random pairs: {tried} tried, {same} the same, {unclear} unclear");
    // A few golds differ only by a unit or the name of the unknown.
    assert!(same <= 10 && unclear <= 10, "{same} the same, {unclear} unclear");
}

#[test]
fn a_changed_digit_is_noticed() {
    let Some(golds) = golds() else { return };
    let (mut tried, mut unclear, mut same) = (0, 0, 0);
    for gold in golds {
        for (at, digit) in gold.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
            let other = if digit == '9' { '7' } else { char::from(digit as u8 + 1) };
            let changed = format!("{}{other}{}", &gold[..at], &gold[at + 1..]);
            tried += 1;
            match judge(&changed, &gold, &Options::default()).sameness {
                Sameness::Same => {
                    same += 1;
                    println!("the same: {changed:?} <> {gold:?}");
                }
                Sameness::CannotTell => unclear += 1,
                Sameness::Different => {}
            }
        }
    }
    println!("changed digits: {tried} tried, {same} the same, {unclear} unclear");
    // The digit 1 is the same in every base: `1_7` and `1_8`.
    assert!(same <= 2 && unclear <= 100, "{same} the same, {unclear} unclear");
}
