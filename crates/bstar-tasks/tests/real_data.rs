//! The published files of GSM8K, MATH and ARC-Challenge, whole, where they are at hand.
//!
//! They lie in the folder that `BSTAR_SHARED` names, or in `shared` beside the checkout; without
//! them these tests only say so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bstar_core::ports::Task as _;
use bstar_core::{Query, RngKey};
use bstar_sandbox::Launcher;
use bstar_tasks::{FilesConfig, Host, LoadedTask, TaskConfig, TaskKind, load};
use std::path::{Path, PathBuf};

fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("BSTAR_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = named.unwrap_or(beside).join("data");
    if !folder.is_dir() {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: no shared data");
        }
        return None;
    }
    Some(folder)
}

fn load_files(kind: TaskKind, folder: &Path, files: FilesConfig) -> LoadedTask {
    let config = TaskConfig { kind, files: Some(files), ..Default::default() };
    let launcher = Launcher::new("no-sandbox".into(), Vec::new());
    load(&config, RngKey::from_seed(1), &Host { base_dir: folder, launcher }).unwrap()
}

/// Counts the queries whose gold solution is graded correct.
fn gold_correct(task: &LoadedTask, queries: &[Query]) -> usize {
    queries
        .iter()
        .filter(|query| {
            let solution = query.gold_solution.as_deref().unwrap();
            task.grade(query, solution).unwrap().verdict.is_correct()
        })
        .count()
}

#[test]
fn gsm8k_loads_whole_and_every_gold_solution_is_correct() {
    let Some(folder) = shared() else { return };
    let files = FilesConfig {
        train: Some("gsm8k/train.jsonl".into()),
        test: Some("gsm8k/test.jsonl".into()),
        ..Default::default()
    };
    let task = load_files(TaskKind::Gsm8k, &folder, files);
    assert_eq!((task.train().len(), task.validation().len()), (6973, 500));
    assert_eq!(task.test().len(), 1319);
    assert!(task.notices().is_empty(), "{:?}", task.notices());
    assert_eq!(gold_correct(&task, task.train()), 6973);
    assert_eq!(gold_correct(&task, task.validation()), 500);
    assert_eq!(gold_correct(&task, task.test()), 1319);
    let solutions = task.train().iter().filter_map(|query| query.gold_solution.as_deref());
    let with_equations = solutions.filter(|solution| !task.equations(solution).is_empty()).count();
    assert!(with_equations > 6800, "{with_equations} of 6973 solutions have equations");
    // The published form of a solution is graded like our target.
    let published = |query: &Query| format!("so\n#### {}", query.gold_answer);
    assert!(task.test().iter().all(|q| task.grade(q, &published(q)).unwrap().verdict.is_correct()));
}

#[test]
fn math_loads_whole_and_every_gold_answer_is_extracted() {
    let Some(folder) = shared() else { return };
    let files = FilesConfig {
        train: Some("math/train.jsonl.gz".into()),
        test: Some("math/test.jsonl.gz".into()),
        ..Default::default()
    };
    let task = load_files(TaskKind::Math, &folder, files);
    // Two published solutions have an empty box, and one training problem is a test problem too.
    let [first, second, third] = task.notices() else { panic!("{:?}", task.notices()) };
    assert!(first.contains("train.jsonl.gz:4362") && second.contains("train.jsonl.gz:4606"));
    assert_eq!(third, "left out 1 of 7498 train queries that are held-out queries too");
    assert_eq!(task.train().len() + task.validation().len(), 7497);
    assert_eq!(task.test().len(), 5000);
    for queries in [task.train(), task.validation(), task.test()] {
        assert_eq!(gold_correct(&task, queries), queries.len());
    }
    // The solution as published, without our marker, is graded by its last box.
    let boxed = |query: &Query| {
        let solution = query.gold_solution.as_deref().unwrap();
        solution.rsplit_once("# Answer").unwrap().0.to_owned()
    };
    let correct =
        task.test().iter().filter(|q| task.grade(q, &boxed(q)).unwrap().verdict.is_correct());
    assert_eq!(correct.count(), 5000);
}

#[test]
fn math_500_answers_agree_with_the_boxes_of_their_solutions() {
    let Some(folder) = shared() else { return };
    let files = FilesConfig { test: Some("math/math500_test.jsonl".into()), ..Default::default() };
    let task = load_files(TaskKind::Math, &folder, files);
    assert_eq!(task.test().len(), 500);
    assert!(task.test().iter().all(|query| query.id.as_str().starts_with("test/")));
    let agree = task.test().iter().filter(|query| {
        let solution = query.gold_solution.as_deref().unwrap();
        let (solution, _) = solution.rsplit_once("# Answer").unwrap();
        task.grade(query, solution).unwrap().verdict.is_correct()
    });
    let agree = agree.count();
    assert!(agree >= 490, "{agree} of 500 agree");
}

#[test]
fn arc_challenge_loads_whole_and_digit_keys_are_letters() {
    let Some(folder) = shared() else { return };
    let files = FilesConfig {
        train: Some("arc_challenge/train.jsonl".into()),
        validation: Some("arc_challenge/validation.jsonl".into()),
        test: Some("arc_challenge/test.jsonl".into()),
        ..Default::default()
    };
    let task = load_files(TaskKind::ArcChallenge, &folder, files);
    let counts = [task.train().len(), task.validation().len(), task.test().len()];
    assert_eq!(counts, [1119, 299, 1172], "{:?}", task.notices());
    for query in [task.train(), task.validation(), task.test()].into_iter().flatten() {
        let answer = format!("Because.\n\nFinal answer: ({})", query.gold_answer.to_lowercase());
        assert!(task.grade(query, &answer).unwrap().verdict.is_correct(), "{}", query.id);
        assert!(query.prompt.contains(&format!("\n({}) ", query.gold_answer)), "{}", query.id);
    }
}
