//! Rollout files as other trainers and our own runs write them: round trips between the formats,
//! the leniency towards foreign files, and the errors for files that cannot be used.
//!
//! Every fixture is made here; no data file is needed.

#![expect(clippy::unwrap_used, reason = "clippy does not see that helpers of tests are tests")]

use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    LargeStringArray, ListArray, NullArray, RecordBatch, StringArray, StringViewArray,
};
use arrow_schema::Schema;
use bstar_core::pool::{Pool, exact_hash};
use bstar_core::reward::StepReduction;
use bstar_core::{Fault, FaultClass, FinishReason, QueryId, Rollout, Stage, Verdict};
use bstar_store::rollout_file::{ReadNotes, Wanted, read_rollouts, read_scored, write_rollouts};
use parquet::arrow::ArrowWriter;
use proptest::option;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

const NAMES: [&str; 4] = ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst"];

fn text_file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn parquet_file(columns: Vec<(&str, ArrayRef)>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_parquet(
        &path,
        &RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap(),
    );
    (folder, path)
}

fn write_parquet(path: &PathBuf, batch: &RecordBatch) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// The message with the folder of the file left out.
fn shown(error: &impl std::fmt::Display, file: &TempDir) -> String {
    error.to_string().replace(&format!("{}/", file.path().display()), "")
}

fn rollout_strategy() -> impl Strategy<Value = Rollout> {
    let float = || prop_oneof![-1e3..1e3, Just(0.1 + 0.2), Just(f64::MIN_POSITIVE), Just(-0.0)];
    let text = || "[ -~é…\n\"\\\\]{0,12}";
    let verdict = prop_oneof![
        Just(Verdict::Correct),
        Just(Verdict::Incorrect),
        Just(Verdict::NoAnswer),
        Just(Verdict::Ungradable)
    ];
    let stage = prop_oneof![Just(Stage::Probe), Just(Stage::Train), Just(Stage::Eval)];
    let reason = prop_oneof![Just(FinishReason::Stop), Just(FinishReason::Length)];
    let first = (
        "[ab]",
        prop_oneof![Just(0.7), Just(0.0), Just(1.05)],
        text(),
        option::of(text()),
        verdict,
        option::of(float()),
        option::of(prop::collection::vec(float(), 0..4)),
        option::of(any::<u32>()),
        option::of(stage),
        option::of(prop::collection::vec(float(), 0..3)),
    );
    let second = (
        option::of("[xy]"),
        option::of(float()),
        option::of(any::<bool>()),
        option::of(reason),
        option::of(any::<u32>()),
        option::of(float()),
        option::of(float()),
        option::of(any::<bool>()),
        option::of("[vw]"),
        option::of("[rs]"),
    );
    (first, second).prop_map(|(first, second)| Rollout {
        query_id: first.0.into(),
        sample_index: 0,
        temperature: first.1,
        top_p: second.7.map(|flag| if flag { 0.9 } else { 0.5 }),
        response: first.2.into(),
        answer: first.3,
        verdict: first.4,
        reason: second.9.map(Into::into),
        reward_model_score: first.5,
        step_scores: first.6,
        iteration: first.7,
        stage: first.8,
        prompt: second.0.map(Into::into),
        reward: second.1,
        selected: second.2,
        finish_reason: second.3,
        token_count: second.4,
        logprob: second.5,
        entropy: second.6,
        steps_correct: second.7,
        policy_version: second.8.map(Into::into),
        candidate_logprobs: first.9,
    })
}

fn rollouts_strategy() -> impl Strategy<Value = Vec<Rollout>> {
    prop::collection::vec(rollout_strategy(), 1..40).prop_map(|mut rollouts| {
        for (index, rollout) in (0..).zip(&mut rollouts) {
            rollout.sample_index = index;
        }
        rollouts
    })
}

/// What the compact reader must give, by the plain way.
fn check_scored(paths: &[PathBuf], rollouts: &[Rollout]) {
    let scored = read_scored(paths, StepReduction::Min, Wanted::default()).unwrap();
    let sampled = rollouts.iter().filter(|rollout| rollout.temperature > 0.0);
    let sampled: Vec<Rollout> = sampled.cloned().collect();
    assert_eq!(scored.greedy, (rollouts.len() - sampled.len()) as u64);
    let rollouts = &sampled;
    let mut ways: Vec<_> = rollouts.iter().map(Rollout::sampling).collect();
    ways.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    ways.dedup();
    assert_eq!(scored.pools.iter().map(Pool::sampling).collect::<Vec<_>>(), ways);
    let mut queries: Vec<QueryId> = Vec::new();
    for rollout in rollouts {
        if !queries.contains(&rollout.query_id) {
            queries.push(rollout.query_id.clone());
        }
    }
    assert_eq!(scored.queries, queries);
    for pool in &scored.pools {
        assert_eq!(pool.groups.len(), queries.len());
        for (group, query) in pool.groups.iter().zip(&queries) {
            let expected: Vec<_> = rollouts
                .iter()
                .filter(|row| row.sampling() == pool.sampling() && row.query_id == *query)
                .map(|row| {
                    let mut scored = row.scored();
                    let steps = row.step_scores.as_deref();
                    let reduced = steps.and_then(|steps| StepReduction::Min.reduce(steps));
                    scored.reward_model_score = row.reward_model_score.or(reduced);
                    scored
                })
                .collect();
            assert_eq!(*group, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rollouts_survive_every_format(rollouts in rollouts_strategy()) {
        let folder = tempfile::tempdir().unwrap();
        for name in NAMES {
            let path = folder.path().join(name);
            write_rollouts(&path, &rollouts).unwrap();
            let read = read_rollouts(std::slice::from_ref(&path)).unwrap();
            prop_assert_eq!(&read.rollouts, &rollouts, "{}", name);
            prop_assert_eq!(read.notes.rows, rollouts.len() as u64);
            check_scored(&[path], &rollouts);
        }
    }

    #[test]
    fn rows_spread_over_files_are_the_same_rows(rollouts in rollouts_strategy(), cut in 0_usize..40) {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = rollouts.split_at(cut.min(rollouts.len() - 1));
        let paths = [folder.path().join("a.jsonl"), folder.path().join("b.parquet")];
        if first.is_empty() {
            return Ok(());
        }
        write_rollouts(&paths[0], first).unwrap();
        write_rollouts(&paths[1], second).unwrap();
        prop_assert_eq!(read_rollouts(&paths).unwrap().rollouts, rollouts.clone());
        check_scored(&paths, &rollouts);
    }
}

const FOREIGN: &str = r#"{"query_id": 7, "response": "a", "correct": true, "answer": "1", "model": "x"}
{"query_id": 7, "response": "b", "correct": false, "answer": null, "temperature": 1}
{"query_id": 7, "response": "c", "correct": 0, "answer": "2", "step_scores": [1, -0.5], "sample_index": 5.0}

{"query_id": 8, "answer": "3", "verdict": "ungradable", "gold_solution": "g"}
"#;

#[test]
fn a_foreign_text_file_is_read_and_what_was_assumed_is_counted() {
    let (_folder, path) = text_file(FOREIGN);
    let read = read_rollouts(std::slice::from_ref(&path)).unwrap();
    let notes = ReadNotes {
        rows: 4,
        assumed_temperature: 3,
        numbered_samples: 3,
        answers_for_responses: 1,
    };
    assert_eq!(read.notes, notes);
    let shown: Vec<_> = read
        .rollouts
        .iter()
        .map(|row| (row.query_id.as_str(), row.sample_index, &*row.response, row.verdict))
        .collect();
    assert_eq!(
        shown,
        [
            ("7", 0, "a", Verdict::Correct),
            ("7", 1, "b", Verdict::NoAnswer),
            ("7", 5, "c", Verdict::Incorrect),
            ("8", 0, "3", Verdict::Ungradable),
        ]
    );
    assert_eq!(&*read.gold_solutions[&QueryId::from("8")], "g");
    let scored = read_scored(&[path], StepReduction::Min, Wanted::default()).unwrap();
    assert_eq!((scored.notes, &scored.gold), (notes, &vec![None, Some(exact_hash("g"))]));
    assert_eq!(scored.pools[0].groups[0][2].reward_model_score, Some(-0.5));
}

#[test]
fn a_foreign_parquet_file_of_many_types_is_read_alike_by_both_readers() {
    let verdicts: DictionaryArray<Int32Type> =
        [Some("correct"), Some("incorrect"), None].into_iter().collect();
    let scores = ListArray::from_iter_primitive::<Float32Type, _, _>([
        Some(vec![Some(0.1), Some(2.0)]),
        None,
        Some(vec![]),
    ]);
    let (_folder, path) = parquet_file(vec![
        ("query_id", Arc::new(Int64Array::from(vec![7, 7, 8]))),
        ("sample_index", Arc::new(Float32Array::from(vec![3.0, 4.0, 0.0]))),
        ("temperature", Arc::new(Float32Array::from(vec![0.7, 0.7, 0.9]))),
        ("response", Arc::new(StringViewArray::from(vec!["a long response of text", "b", "c"]))),
        ("answer", Arc::new(LargeStringArray::from(vec![Some("1"), None, Some("2")]))),
        ("verdict", Arc::new(verdicts)),
        ("correct", Arc::new(BooleanArray::from(vec![None, None, Some(false)]))),
        ("reward_model_score", Arc::new(Float32Array::from(vec![None, Some(f32::NAN), None]))),
        ("step_scores", Arc::new(scores)),
        ("iteration", Arc::new(Int32Array::from(vec![Some(1), None, None]))),
        ("stage", Arc::new(NullArray::new(3))),
        ("extra", Arc::new(StringArray::from(vec!["x", "y", "z"]))),
    ]);
    let read = read_rollouts(std::slice::from_ref(&path)).unwrap();
    let shown: Vec<_> = read
        .rollouts
        .iter()
        .map(|row| (row.query_id.as_str(), row.sample_index, row.temperature, row.verdict))
        .collect();
    assert_eq!(
        shown,
        [
            ("7", 3, 0.7, Verdict::Correct),
            ("7", 4, 0.7, Verdict::Incorrect),
            ("8", 0, 0.9, Verdict::Incorrect),
        ]
    );
    assert_eq!(read.rollouts[0].step_scores, Some(vec![0.1, 2.0]));
    assert_eq!(read.rollouts[1].reward_model_score, None);
    check_scored(&[path], &read.rollouts);
}

#[test]
fn nan_and_infinity_are_nulls_to_both_readers() {
    let (_folder, path) = parquet_file(vec![
        ("query_id", texts(&["a", "a", "a"])),
        ("response", texts(&["x", "y", "z"])),
        ("answer", texts(&["1", "2", "3"])),
        ("verdict", Arc::new(StringArray::from(vec![None, Some("correct"), Some("correct")]))),
        ("correct", Arc::new(Float64Array::from(vec![1.0, f64::NAN, f64::INFINITY]))),
        ("sample_index", Arc::new(Float64Array::from(vec![5.0, f64::NAN, f64::NEG_INFINITY]))),
        ("iteration", Arc::new(Float32Array::from(vec![f32::NAN, 2.0, f32::NAN]))),
    ]);
    let read = read_rollouts(std::slice::from_ref(&path)).unwrap();
    let shown: Vec<_> = read.rollouts.iter().map(|row| (row.sample_index, row.iteration)).collect();
    assert_eq!(shown, [(5, None), (0, Some(2)), (1, None)]);
    assert_eq!(read.notes.numbered_samples, 2);
    check_scored(&[path], &read.rollouts);
}

fn check_text_error(text: &str, expected: &str) {
    let (folder, path) = text_file(text);
    let paths = [path];
    let error = read_rollouts(&paths).unwrap_err();
    assert_eq!(shown(&error, &folder), expected);
    let error = read_scored(&paths, StepReduction::Min, Wanted::default()).unwrap_err();
    assert_eq!(shown(&error, &folder), expected);
    let fault = Fault::from(error);
    assert_eq!(fault.class, FaultClass::Data);
    assert!(fault.hint.is_some(), "{expected}");
}

#[test]
fn text_that_cannot_be_used_is_named_with_its_line() {
    check_text_error(
        "{\"response\": \"a\", \"correct\": true}\n",
        "no column `query_id` in a.jsonl:1 (columns present: response, correct)",
    );
    check_text_error(
        "{\"query_id\": \"a\", \"correct\": true}\n",
        "no column `response` in a.jsonl:1 (columns present: query_id, correct)",
    );
    check_text_error(
        "\n{\"query_id\": \"a\", \"response\": \"r\"}\n",
        "no column `verdict` in a.jsonl:2 (columns present: query_id, response)",
    );
    check_text_error(
        "{\"query_id\": \"a\", \"response\": \"r\", \"verdict\": \"right\"}\n",
        "expected a verdict in column `verdict` at a.jsonl:1, found \"right\"",
    );
    check_text_error(
        "{\"query_id\": \"a\", \"response\": \"r\", \"correct\": true, \"temperature\": \"hot\"}\n",
        "expected a number in column `temperature` at a.jsonl:1, found \"hot\"",
    );
    check_text_error(
        "{\"query_id\": \"a\", \"response\": \"r\", \"correct\": true, \"temperature\": -1}\n",
        "expected a number from 0 in column `temperature` at a.jsonl:1, found -1.0",
    );
    check_text_error(
        "{\"query_id\": \"a\", \"response\": \"r\", \"correct\": true, \"sample_index\": 0.5}\n",
        "expected a whole number from 0 in column `sample_index` at a.jsonl:1, found 0.5",
    );
    let row =
        "{\"query_id\": \"a\", \"sample_index\": 2, \"response\": \"r\", \"correct\": true}\n";
    check_text_error(
        &format!("{row}\n{row}"),
        "sample 2 of query `a` at temperature 1 stands twice: a.jsonl:1 and a.jsonl:3",
    );
    check_text_error(
        "{\"query_id\": \"a\"\n",
        "broken JSON at a.jsonl:1:16: EOF while parsing an object",
    );
    check_text_error("", "no rows in a.jsonl");
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn check_parquet_error(columns: Vec<(&str, ArrayRef)>, expected: &[&str]) {
    let (folder, path) = parquet_file(columns);
    let paths = [path];
    let plain = shown(&read_rollouts(&paths).unwrap_err(), &folder);
    let compact =
        shown(&read_scored(&paths, StepReduction::Min, Wanted::default()).unwrap_err(), &folder);
    assert_eq!(
        [plain, compact].into_iter().collect::<BTreeSet<_>>(),
        expected.iter().map(|&text| text.to_owned()).collect()
    );
}

#[test]
fn parquet_that_cannot_be_used_is_named_with_column_and_row() {
    let (id, response) = (|| texts(&["a", "b"]), || texts(&["r", "s"]));
    check_parquet_error(
        vec![("id", id()), ("response", response()), ("verdict", texts(&["correct", "correct"]))],
        &["no column `query_id` in a.parquet (columns present: id, response, verdict)"],
    );
    check_parquet_error(
        vec![("query_id", id()), ("response", response())],
        &["no column `verdict` in a.parquet (columns present: query_id, response)"],
    );
    check_parquet_error(
        vec![("query_id", id()), ("response", response()), ("verdict", texts(&["correct", "?"]))],
        &["expected a verdict in column `verdict` at a.parquet:2, found \"?\""],
    );
    check_parquet_error(
        vec![
            ("query_id", id()),
            ("response", response()),
            ("correct", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ],
        &["expected true or false in column `correct` at a.parquet:2, found null"],
    );
    check_parquet_error(
        vec![
            ("query_id", id()),
            ("response", response()),
            ("correct", Arc::new(BooleanArray::from(vec![true, true]))),
            ("temperature", texts(&["hot", "cold"])),
        ],
        &[
            "expected a number in column `temperature` at a.parquet:1, found \"hot\"",
            "expected numbers in column `temperature` of a.parquet, found type Utf8",
        ],
    );
    check_parquet_error(
        vec![
            ("query_id", texts(&["a", "a"])),
            ("sample_index", Arc::new(Int32Array::from(vec![1, 1]))),
            ("response", response()),
            ("correct", Arc::new(BooleanArray::from(vec![true, true]))),
        ],
        &["sample 1 of query `a` at temperature 1 stands twice: a.parquet:1 and a.parquet:2"],
    );
}

#[test]
fn the_same_file_named_twice_is_refused_with_both_names() {
    let (folder, path) = text_file(
        "{\"query_id\": \"a\", \"sample_index\": 0, \"response\": \"r\", \"correct\": true}\n",
    );
    let error =
        read_scored(&[path.clone(), path], StepReduction::Min, Wanted::default()).unwrap_err();
    assert_eq!(
        shown(&error, &folder),
        "sample 0 of query `a` at temperature 1 stands twice: a.jsonl:1 and a.jsonl:1"
    );
}

#[test]
fn a_parquet_file_of_a_newer_format_is_refused() {
    let batch = RecordBatch::try_from_iter([
        ("query_id", texts(&["a"])),
        ("response", texts(&["r"])),
        ("verdict", texts(&["correct"])),
    ])
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for (format, readable) in [("1.9", true), ("2.0", false)] {
        let metadata = HashMap::from([("bstar.rollouts".to_owned(), format.to_owned())]);
        let schema = Schema::new_with_metadata(batch.schema().fields().clone(), metadata);
        write_parquet(&path, &batch.clone().with_schema(Arc::new(schema)).unwrap());
        let read = read_scored(std::slice::from_ref(&path), StepReduction::Min, Wanted::default());
        assert_eq!(read.is_ok(), readable, "{format}");
        if let Err(error) = read {
            assert_eq!(shown(&error, &folder), "rollout format 2.0 of a.parquet is newer than 1.3");
        }
    }
}
