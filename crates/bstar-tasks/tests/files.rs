//! File tasks from small files written here: what loads, and every way in which it must not; and a loaded task.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bstar_core::ports::{GradeRequest, Task as _};
use bstar_core::{Fault, FaultClass, Query, RngKey, Verdict};
use bstar_sandbox::Launcher;
use bstar_tasks::{
    ArithmeticConfig, ColumnsConfig, FilesConfig, Host, LoadedTask, TaskConfig, TaskKind, load,
};
use bstar_tasks::{Rule, Verifier};
use std::fmt::Write as _;
use std::path::Path;

const GSM8K: &str = concat!(
    r#"{"question": "Two hens lay 3 eggs each. How many?","#,
    r#" "answer": "They lay 2*3=<<2*3=6>>6 eggs.\n#### 6"}"#,
    "\n",
    r#"{"question": "A cow costs $1,000 and a hen $50. Both?","#,
    r#" "answer": "That is $<<1000+50=1050>>1,050.\nSo 1,050.\n#### 1,050"}"#,
    "\n",
);

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn config(kind: TaskKind, files: FilesConfig) -> TaskConfig {
    TaskConfig { kind, files: Some(files), ..Default::default() }
}

fn train(path: &str) -> FilesConfig {
    FilesConfig { train: Some(path.into()), validation_size: Some(0), ..Default::default() }
}

#[test]
fn steps_are_checked_side_by_side_as_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let task = load_in(folder.path(), &TaskConfig::default()).unwrap();
    let solutions = task.train().iter().take(50).map(|query| query.gold_solution.clone().unwrap());
    let broken = |(place, text): (usize, String)| {
        if place % 3 == 1 { text.replacen('=', "", 1) } else { text }
    };
    let responses: Vec<String> = solutions.enumerate().map(broken).collect();
    let pairs = task.train().iter().zip(&responses);
    let requests: Vec<_> =
        pairs.map(|(query, response)| GradeRequest { query, response }).collect();
    let alone: Vec<_> =
        requests.iter().map(|one| task.check_steps(one.query, one.response)).collect();
    assert!(alone.contains(&Some(true)) && alone.contains(&Some(false)), "{alone:?}");
    assert_eq!(task.check_steps_all(&requests), alone);
}

fn load_in(folder: &Path, config: &TaskConfig) -> Result<LoadedTask, Fault> {
    let host = Host { base_dir: folder, launcher: Launcher::new("no-sandbox".into(), Vec::new()) };
    load(config, RngKey::from_seed(1), &host).map_err(Fault::from)
}

fn rows(count: usize, from: usize) -> String {
    (from..from + count).fold(String::new(), |mut text, i| {
        writeln!(text, r#"{{"question": "q{i}", "answer": "a{i}"}}"#).unwrap();
        text
    })
}

/// Loads a task that must fail, and compares class, message and hint (by parts).
fn check_fault(
    files: &[(&str, &str)],
    config: &TaskConfig,
    class: FaultClass,
    message: &str,
    hint: &str,
) {
    let folder = folder(files);
    let fault = load_in(folder.path(), config).expect_err(message);
    let text = fault.message.replace(&format!("{}/", folder.path().display()), "");
    assert_eq!(fault.class, class, "{text}");
    assert_eq!(text, message);
    let found = fault.hint.unwrap_or_default();
    assert!(found.contains(hint), "{found:?} lacks {hint:?}");
}

fn ids(queries: &[Query]) -> Vec<&str> {
    queries.iter().map(|query| query.id.as_str()).collect()
}

#[test]
fn gsm8k_rows_take_the_form_of_the_paper() {
    let folder = folder(&[("train.jsonl", GSM8K)]);
    let task = load_in(folder.path(), &config(TaskKind::Gsm8k, train("train.jsonl"))).unwrap();
    assert_eq!(ids(task.train()), ["gsm8k/train/1", "gsm8k/train/2"]);
    let query = &task.train()[1];
    assert_eq!(
        query.prompt,
        "# Question\n\nA cow costs $1,000 and a hen $50. Both?\n\n# Solution\n\n"
    );
    assert_eq!(query.gold_answer, "1,050");
    let solution = "That is $<<1000+50=1050>>1,050.\n\nSo 1,050.\n\n# Answer\n\n1,050";
    assert_eq!(query.gold_solution.as_deref(), Some(solution));
    assert_eq!(task.equations(solution), ["1000+50=1050"]);
    assert_eq!(task.steps(solution).len(), 3);
    assert_eq!(task.check_steps(query, solution), None);
    assert_eq!(&*task.supervised()[1].response, solution);
    for (response, verdict) in [
        ("so\n\n# Answer\n\n1050", Verdict::Correct),
        ("so\n#### $1,050.00", Verdict::Correct),
        ("# Answer\n\n1050.5", Verdict::Incorrect),
        ("# Answer\n\nmany", Verdict::NoAnswer),
        ("it is 1050", Verdict::NoAnswer),
    ] {
        assert_eq!(task.grade(query, response).unwrap().verdict, verdict, "{response:?}");
    }
}

#[test]
fn calculator_annotations_can_be_dropped() {
    let folder = folder(&[("train.jsonl", GSM8K)]);
    let files = FilesConfig { drop_calculator_annotations: true, ..train("train.jsonl") };
    let task = load_in(folder.path(), &config(TaskKind::Gsm8k, files)).unwrap();
    let solution = task.train()[0].gold_solution.as_deref();
    assert_eq!(solution, Some("They lay 2*3=6 eggs.\n\n# Answer\n\n6"));
}

#[test]
fn math_answers_come_from_the_last_box_or_a_column() {
    let text = concat!(
        r#"{"problem": "p", "level": "Level 1", "type": "Algebra","#,
        r#" "solution": "First $\\boxed{1}$.\n \nThen $\\boxed{\\frac{1}{2}}$."}"#,
        "\n",
        r#"{"problem": "r", "unique_id": "test/7","#,
        r#" "solution": "So $\\boxed{9}$.", "answer": "(3,4)"}"#,
        "\n",
        r#"{"problem": "s", "answer": "5"}"#,
        "\n",
    );
    let folder = folder(&[("math.jsonl", text)]);
    let task = load_in(folder.path(), &config(TaskKind::Math, train("math.jsonl"))).unwrap();
    let [first, second, third] = task.train() else { panic!("three rows") };
    assert_eq!(first.gold_answer, "\\frac{1}{2}");
    assert_eq!(
        first.gold_solution.as_deref(),
        Some("First $\\boxed{1}$.\n\nThen $\\boxed{\\frac{1}{2}}$.\n\n# Answer\n\n\\frac{1}{2}")
    );
    assert_eq!((second.gold_answer.as_str(), second.id.as_str()), ("(3,4)", "test/7"));
    assert_eq!((third.gold_answer.as_str(), &third.gold_solution), ("5", &None));
    assert_eq!(task.supervised().len(), 2);
    for (response, verdict) in [
        ("# Answer\n\n$\\dfrac{1}{2}$", Verdict::Correct),
        ("thus \\boxed{0.5}", Verdict::Correct),
        ("# Answer\n\n2", Verdict::Incorrect),
        ("1/2", Verdict::NoAnswer),
    ] {
        assert_eq!(task.grade(first, response).unwrap().verdict, verdict, "{response:?}");
    }
}

#[test]
fn arc_keys_are_letters_by_position_whatever_the_labels() {
    let text = concat!(
        r#"{"id": "X_1", "question": "Which?", "answerKey": "3","#,
        r#" "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}}"#,
        "\n",
        r#"{"id": "X_2", "question": "Which?", "answerKey": "E", "choices":"#,
        r#" {"text": ["a", "b", "c", "d", "e"], "label": ["A", "B", "C", "D", "E"]}}"#,
        "\n",
    );
    let folder = folder(&[("arc.jsonl", text)]);
    let task = load_in(folder.path(), &config(TaskKind::ArcChallenge, train("arc.jsonl"))).unwrap();
    let [digits, five] = task.train() else { panic!("two rows") };
    assert_eq!((digits.id.as_str(), digits.gold_answer.as_str()), ("X_1", "C"));
    assert!(digits.prompt.ends_with("Question: Which?\n(A) a\n(B) b\n(C) c\nSolution:\n"));
    assert_eq!(five.gold_answer, "E");
    assert!(task.supervised().is_empty());
    for (response, verdict) in [
        ("Final answer: (c)", Verdict::Correct),
        ("Final answer: B", Verdict::Incorrect),
        ("C", Verdict::NoAnswer),
    ] {
        assert_eq!(task.grade(digits, response).unwrap().verdict, verdict, "{response:?}");
    }
}

#[test]
fn records_follow_the_column_mapping_and_templates() {
    let text = r#"{"q": "2+2?", "a": 4, "n": 17, "why": "Count {x}.", "opts": ["3", "4"]}"#;
    let folder = folder(&[("data.jsonl", text)]);
    let files = FilesConfig {
        columns: ColumnsConfig {
            id: Some("n".into()),
            question: Some("q".into()),
            answer: Some("a".into()),
            solution: Some("why".into()),
            ..ColumnsConfig::default()
        },
        prompt: Some("Q: {question}\n".into()),
        target: Some("{solution} A: {answer}".into()),
        extract: Some(vec![Rule::AfterLast("A:".into())]),
        verifier: Some(Verifier::Number),
        ..train("data.jsonl")
    };
    let task = load_in(folder.path(), &config(TaskKind::Records, files.clone())).unwrap();
    let query = &task.train()[0];
    assert_eq!((query.id.as_str(), query.prompt.as_str()), ("17", "Q: 2+2?\n"));
    assert_eq!(query.gold_solution.as_deref(), Some("Count {x}. A: 4"));
    assert!(task.grade(query, "A: 4.0").unwrap().verdict.is_correct());

    let columns = ColumnsConfig {
        choices: Some("opts".into()),
        answer: Some("n".into()),
        solution: None,
        id: None,
        ..files.columns.clone()
    };
    let files = FilesConfig { columns, verifier: Some(Verifier::Choice), ..files };
    let text = r#"{"q": "2+2?", "n": "2", "opts": ["3", "4"]}"#;
    std::fs::write(folder.path().join("data.jsonl"), text).unwrap();
    let task = load_in(folder.path(), &config(TaskKind::Records, files)).unwrap();
    assert_eq!(task.train()[0].gold_answer, "B");
}

#[test]
fn validation_is_taken_from_train_by_seed_and_is_disjoint() {
    let folder = folder(&[("train.jsonl", &rows(50, 0)), ("test.jsonl", &rows(5, 100))]);
    let files = FilesConfig {
        train: Some("train.jsonl".into()),
        test: Some("test.jsonl".into()),
        validation_size: Some(20),
        ..Default::default()
    };
    let settings = config(TaskKind::Records, files.clone());
    let task = load_in(folder.path(), &settings).unwrap();
    assert_eq!((task.train().len(), task.validation().len(), task.test().len()), (30, 20, 5));
    let mut all = [ids(task.train()), ids(task.validation())].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 50);

    let again = load_in(folder.path(), &settings).unwrap();
    assert_eq!(ids(task.validation()), ids(again.validation()));
    let seeded = |seed| TaskConfig { seed: Some(seed), ..settings.clone() };
    let [two, three] = [2, 3].map(|seed| load_in(folder.path(), &seeded(seed)).unwrap());
    assert_ne!(ids(two.validation()), ids(three.validation()));

    let files = FilesConfig { validation_size: None, train_limit: Some(9), ..files };
    let task = load_in(folder.path(), &config(TaskKind::Records, files)).unwrap();
    assert_eq!((task.train().len(), task.validation().len()), (9, 5));
}

#[test]
fn a_prompt_taken_for_validation_is_not_trained_on() {
    // Each question stands there twice, under two answers and with other white space.
    let twice = rows(20, 0) + &rows(20, 0).replace(": \"q", ": \"  q").replace(": \"a", ": \"b");
    let folder = folder(&[("train.jsonl", &twice)]);
    let files = |size| FilesConfig { validation_size: Some(size), ..train("train.jsonl") };
    let task = load_in(folder.path(), &config(TaskKind::Records, files(10))).unwrap();
    let prompts = |queries: &[Query]| -> std::collections::BTreeSet<String> {
        queries.iter().map(|query| query.prompt.split_whitespace().collect()).collect()
    };
    assert!(prompts(task.train()).is_disjoint(&prompts(task.validation())));
    let dropped = 30 - task.train().len();
    assert!(dropped > 0);
    let notice = format!("left out {dropped} of 30 train queries that are validation queries too");
    assert_eq!(task.notices(), [notice]);
    let fault = load_in(folder.path(), &config(TaskKind::Records, files(39))).unwrap_err();
    assert_eq!(fault.message, "cannot take 39 validation queries from 40 training queries");
}

#[test]
fn more_options_than_letters_are_refused_in_either_form() {
    let texts = |count| vec!["\"x\""; count].join(", ");
    let listed = |count| format!("[{}]", texts(count));
    let labelled = |count| format!("{{\"text\": [{0}], \"label\": [{0}]}}", texts(count));
    let row = |choices: &str| {
        format!(r#"{{"question": "Which?", "answerKey": "1", "choices": {choices}}}"#)
    };
    for choices in [listed(27), labelled(27)] {
        check_fault(
            &[("a.jsonl", &row(&choices))],
            &config(TaskKind::ArcChallenge, train("a.jsonl")),
            FaultClass::Data,
            "27 options in a.jsonl:1, more than letters",
            "",
        );
    }
    let folder = folder(&[("a.jsonl", &row(&listed(26)))]);
    load_in(folder.path(), &config(TaskKind::ArcChallenge, train("a.jsonl"))).unwrap();
}

#[test]
fn limits_keep_records_spread_over_the_file() {
    let folder = folder(&[("test.jsonl", &rows(10, 0))]);
    let test = |limit| FilesConfig {
        test: Some("test.jsonl".into()),
        test_limit: Some(limit),
        ..Default::default()
    };
    for (limit, expected) in [(1, vec![9]), (2, vec![4, 9]), (5, vec![1, 3, 5, 7, 9])] {
        let task = load_in(folder.path(), &config(TaskKind::Records, test(limit))).unwrap();
        let gold: Vec<&str> = task.test().iter().map(|q| q.gold_answer.as_str()).collect();
        let expected: Vec<String> = expected.iter().map(|i| format!("a{i}")).collect();
        assert_eq!(gold, expected, "{limit}");
    }
    let task = load_in(folder.path(), &config(TaskKind::Records, test(99))).unwrap();
    assert_eq!(task.test().len(), 10);
}

#[test]
fn training_rows_that_are_test_rows_are_left_out_and_counted() {
    let met = rows(20, 0) + "{\"question\": \" q100 \", \"answer\": \"a\"}\n";
    let folder = folder(&[("train.jsonl", &met), ("test.jsonl", &rows(5, 100))]);
    let files = FilesConfig { test: Some("test.jsonl".into()), ..train("train.jsonl") };
    let task = load_in(folder.path(), &config(TaskKind::Records, files)).unwrap();
    assert_eq!(task.train().len(), 20);
    assert_eq!(task.notices(), ["left out 1 of 21 train queries that are held-out queries too"]);
}

#[test]
fn one_file_for_train_and_test_is_refused() {
    let files = FilesConfig { test: Some("b.jsonl".into()), ..train("a.jsonl") };
    check_fault(
        &[("a.jsonl", &rows(6, 0)), ("b.jsonl", &rows(4, 2))],
        &config(TaskKind::Records, files),
        FaultClass::Data,
        "4 of 4 queries of b.jsonl stand in a.jsonl too",
        "task.files.train",
    );
}

#[test]
fn files_that_are_missing_empty_or_broken_are_named() {
    let settings = config(TaskKind::Gsm8k, train("a.jsonl"));
    let data = FaultClass::Data;
    check_fault(&[], &settings, data, "no such file: a.jsonl", "set task.files.train");
    check_fault(&[("a.jsonl", "")], &settings, data, "no rows in a.jsonl", "no rows");
    check_fault(
        &[("a.jsonl", &format!("{GSM8K}{{\"question\": \"x\", \n"))],
        &settings,
        data,
        "broken JSON at a.jsonl:3:18: EOF while parsing a value",
        "line",
    );
    check_fault(
        &[("a.jsonl", "[1]\n")],
        &settings,
        data,
        "expected a JSON object at a.jsonl:1, found an array",
        "object",
    );
}

#[test]
fn a_missing_column_is_named_with_those_present_and_the_setting() {
    check_fault(
        &[("a.jsonl", &format!("{GSM8K}{{\"q\": \"x\", \"answer\": \"#### 1\"}}\n"))],
        &config(TaskKind::Gsm8k, train("a.jsonl")),
        FaultClass::Data,
        "no column `question` in a.jsonl:3 (columns present: q, answer)",
        "set task.files.columns.question",
    );
    check_fault(
        &[("a.jsonl", r#"{"problem": "x"}"#)],
        &config(TaskKind::Math, train("a.jsonl")),
        FaultClass::Data,
        "no column `solution` in a.jsonl:1 (columns present: problem)",
        "set task.files.columns.solution",
    );
    check_fault(
        &[("a.jsonl", r#"{"question": "x", "answerKey": "A"}"#)],
        &config(TaskKind::ArcChallenge, train("a.jsonl")),
        FaultClass::Data,
        "no column `choices` in a.jsonl:1 (columns present: question, answerKey)",
        "set task.files.columns.choices",
    );
    check_fault(
        &[("a.jsonl", r#"{"question": ["x"], "answer": "So #### 1"}"#)],
        &config(TaskKind::Gsm8k, train("a.jsonl")),
        FaultClass::Data,
        "column `question` in a.jsonl:1 holds a list, expected text",
        "task.files.columns.question",
    );
}

#[test]
fn gold_answers_that_cannot_be_read_name_the_line() {
    let row = |answer| format!("{GSM8K}{{\"question\": \"x\", \"answer\": \"{answer}\"}}\n");
    let gsm8k = config(TaskKind::Gsm8k, train("a.jsonl"));
    check_fault(
        &[("a.jsonl", &row("so it is 5"))],
        &gsm8k,
        FaultClass::Data,
        "unreadable gold answer in a.jsonl:3: no `####` before the answer",
        "task.files.columns.answer",
    );
    check_fault(
        &[("a.jsonl", &row("#### many"))],
        &gsm8k,
        FaultClass::Data,
        "unreadable gold answer in a.jsonl:3: \"many\" is no number",
        "correct the line",
    );
    check_fault(
        &[("a.jsonl", r#"{"problem": "x", "solution": "$\\boxed{1$"}"#)],
        &config(TaskKind::Math, FilesConfig { unreadable_rows: Some(0), ..train("a.jsonl") }),
        FaultClass::Data,
        "unreadable gold answer in a.jsonl:1: no \\boxed{…} with balanced braces",
        "task.files.columns.solution",
    );
    let arc = concat!(
        r#"{"question": "x", "answerKey": "3","#,
        r#" "choices": {"text": ["a", "b"], "label": ["1", "2"]}}"#,
    );
    check_fault(
        &[("a.jsonl", arc)],
        &config(TaskKind::ArcChallenge, train("a.jsonl")),
        FaultClass::Data,
        "unreadable gold answer in a.jsonl:1: key \"3\" is none of the labels 1, 2",
        "task.files.columns.answer",
    );
}

#[test]
fn unreadable_gold_answers_can_be_left_out_up_to_a_number() {
    let bad = r#"{"question": "x", "answer": "five"}"#;
    let text = format!("{bad}\n{GSM8K}{bad}\n");
    let folder = folder(&[("a.jsonl", &text)]);
    let files = |rows| FilesConfig { unreadable_rows: Some(rows), ..train("a.jsonl") };
    let task = load_in(folder.path(), &config(TaskKind::Gsm8k, files(2))).unwrap();
    assert_eq!((task.train().len(), task.notices().len()), (2, 2));
    assert!(task.notices()[1].contains("a.jsonl:4: no `####`"), "{:?}", task.notices());
    let fault = load_in(folder.path(), &config(TaskKind::Gsm8k, files(1))).unwrap_err();
    assert!(fault.message.contains("a.jsonl:4"), "{fault}");
}

#[test]
fn duplicate_ids_are_named_with_both_places() {
    let row = |id| format!("{{\"id\": \"{id}\", \"question\": \"q{id}\", \"answer\": \"a\"}}\n");
    let one = row("x") + &row("y") + &row("x");
    check_fault(
        &[("a.jsonl", &one)],
        &config(TaskKind::Records, train("a.jsonl")),
        FaultClass::Data,
        "id `x` in a.jsonl:3 stands in a.jsonl:1 too",
        "task.files.columns.id",
    );
}

#[test]
fn files_that_use_the_same_ids_are_told_apart_by_their_splits() {
    let row = |id: u8, question: &str| {
        format!("{{\"id\": {id}, \"question\": \"{question}\", \"answer\": \"a\"}}\n")
    };
    let (train_rows, test_rows) = (row(0, "p") + &row(1, "q"), row(0, "r") + &row(1, "s"));
    let folder = folder(&[("a.jsonl", &train_rows), ("b.jsonl", &test_rows)]);
    let files = FilesConfig { test: Some("b.jsonl".into()), ..train("a.jsonl") };
    let files = FilesConfig { validation_size: Some(0), ..files };
    let task = load_in(folder.path(), &config(TaskKind::Records, files)).unwrap();
    let ids = |queries: &[Query]| queries.iter().map(|q| q.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(task.train()), ["train/0", "train/1"]);
    assert_eq!(ids(task.test()), ["test/0", "test/1"]);
    assert!(task.notices().iter().any(|notice| notice.contains("same ids")));
}

#[test]
fn a_null_where_a_value_is_needed_is_called_null() {
    check_fault(
        &[("a.jsonl", "{\"question\": \"q\", \"answer\": null}\n")],
        &config(TaskKind::Records, train("a.jsonl")),
        FaultClass::Data,
        "column `answer` in a.jsonl:1 holds null, expected a value",
        "task.files.columns.answer",
    );
}

#[test]
fn settings_that_contradict_each_other_are_usage_faults() {
    let usage = FaultClass::Usage;
    let data: &[(&str, &str)] = &[("a.jsonl", GSM8K)];
    let check = |settings: &TaskConfig, message: &str, hint: &str| {
        check_fault(data, settings, usage, message, hint);
    };
    let gsm8k = |files| config(TaskKind::Gsm8k, files);
    check(&gsm8k(FilesConfig::default()), "no data files for task gsm8k", "task.files.train");
    check(
        &config(TaskKind::Arithmetic, train("a.jsonl")),
        "task.files is set, but an arithmetic task is generated",
        "task.kind",
    );
    check(
        &TaskConfig { arithmetic: Some(ArithmeticConfig::default()), ..gsm8k(train("a.jsonl")) },
        "task.arithmetic is set, but task.kind is gsm8k",
        "task.kind",
    );
    check(
        &TaskConfig { name: Some("a/b".into()), ..gsm8k(train("a.jsonl")) },
        "invalid task.name \"a/b\"",
        "task.name",
    );
    check(
        &gsm8k(FilesConfig { prompt: Some("{q}".into()), ..train("a.jsonl") }),
        "unknown field `{q}` in task.files.prompt",
        "{question}",
    );
    check(
        &gsm8k(FilesConfig { validation_size: Some(2), ..train("a.jsonl") }),
        "cannot take 2 validation queries from 2 training queries",
        "task.files.validation_size",
    );
    check(
        &gsm8k(FilesConfig { train_limit: Some(0), ..train("a.jsonl") }),
        "task.files.train_limit is 0",
        "raise it",
    );
    check(
        &gsm8k(FilesConfig {
            validation: Some("a.jsonl".into()),
            validation_size: Some(2),
            ..train("a.jsonl")
        }),
        "both task.files.validation and task.files.validation_size are set",
        "validation_limit",
    );
    check(
        &gsm8k(FilesConfig { extract: Some(vec![Rule::Boxed]), ..train("a.jsonl") }),
        "gold solution in a.jsonl:1 is not graded correct: found no answer",
        "task.files.extract",
    );
}
