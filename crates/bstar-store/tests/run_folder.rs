//! A run folder from the outside: created, published to, broken in every way a crash can break it,
//! and continued.
//!
//! The crash tests cut the event log at every byte and leave every kind of temporary behind; what
//! is found after reopening must be the state at the last durable event, whatever was cut.

#![expect(clippy::unwrap_used, reason = "clippy does not see that helpers of tests are tests")]

use bstar_core::event::Piece;
use bstar_core::event::{Event, VerdictCounts};
use bstar_core::{Fault, FaultClass, Rollout, Stage, Verdict};
use bstar_store::{
    FindError, Fit, Opened, RunError, RunIdentity, RunState, RunStore, RunView, find_run, list_runs,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Stands in a folder while a run is created or removed in it.
const MARKER: &str = ".bstar-unfinished";

fn identity(k: u32) -> RunIdentity {
    RunIdentity {
        config_toml: format!("[balance]\nk = {k} # as written\n"),
        resolved: json!({"seed": 1, "balance": {"k": k}, "threads": k}),
        defaults: json!({"balance": {"k": 16, "later": [1]}}),
        bstar_version: "0.1.0".to_owned(),
    }
}

fn rollouts(count: u32) -> Vec<Rollout> {
    (0..count)
        .map(|index| Rollout {
            query_id: format!("q{}", index / 2).into(),
            sample_index: index % 2,
            temperature: 0.7,
            top_p: None,
            response: format!("response {index}").into(),
            answer: Some(index.to_string()),
            verdict: Verdict::Incorrect,
            reason: None,
            reward_model_score: None,
            step_scores: None,
            iteration: Some(1),
            stage: Some(Stage::Train),
            prompt: Some("prompt".into()),
            reward: Some(0.5),
            selected: Some(false),
            finish_reason: None,
            token_count: Some(3),
            logprob: Some(-1.5),
            entropy: None,
            steps_correct: None,
            policy_version: Some("v".into()),
            candidate_logprobs: Some(vec![-0.1, -1.0 / 3.0, -1e-7]),
        })
        .collect()
}

fn started() -> Event {
    Event::RunStarted {
        version: "0.1.0".to_owned(),
        method: "b-star".to_owned(),
        task: "arithmetic".to_owned(),
        seed: 1,
        iterations: 2,
        policy_version: "base".into(),
        reward_model: None,
    }
}

fn graded(iteration: u32, stage: Stage) -> Event {
    let counts = VerdictCounts { correct: 1, ..VerdictCounts::default() };
    Event::Graded { iteration, stage, counts, tokens: 0, reasons: BTreeMap::new(), checker: None }
}

fn publish_checkpoint(run: &mut RunStore, iteration: u32, weights: &str) {
    let folder = run.begin_checkpoint(iteration).unwrap();
    fs::create_dir(folder.join("deep")).unwrap();
    fs::write(folder.join("model.safetensors"), weights).unwrap();
    fs::write(folder.join("deep/state.json"), "{}").unwrap();
    run.finish_checkpoint(iteration).unwrap();
}

/// A finished run of one iteration, and the folder that holds it.
fn small_run() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("runs/first");
    let mut run = RunStore::create(&dir, &identity(16)).unwrap();
    run.append(&started()).unwrap();
    publish_checkpoint(&mut run, 0, "p0");
    run.commit(0, "v0").unwrap();
    run.append(&graded(1, Stage::Probe)).unwrap();
    run.publish_rollouts(1, Stage::Probe, &rollouts(4)).unwrap();
    run.append(&graded(1, Stage::Train)).unwrap();
    run.publish_rollouts(1, Stage::Train, &rollouts(6)).unwrap();
    publish_checkpoint(&mut run, 1, "p1");
    run.append(&graded(1, Stage::Eval)).unwrap();
    run.publish_rollouts(1, Stage::Eval, &[]).unwrap();
    run.commit(1, "v1").unwrap();
    run.append(&Event::RunFinished { iterations: 1 }).unwrap();
    (folder, dir)
}

#[test]
fn a_run_reopens_with_all_that_was_published() {
    let (_folder, dir) = small_run();
    let run = RunStore::open(&dir).unwrap();
    for piece in [Piece::Probe, Piece::Draw, Piece::Train, Piece::Evaluate] {
        assert!(run.is_published(1, piece), "{piece:?}");
        assert!(!run.is_published(2, piece), "{piece:?}");
    }
    assert_eq!((run.last_committed(), run.is_finished()), (Some(1), true));
    assert_eq!(run.read_rollouts(1, Stage::Train).unwrap(), rollouts(6));
    assert_eq!(run.read_rollouts(1, Stage::Eval).unwrap(), []);
    let weights = run.checkpoint_dir(1).unwrap().unwrap().join("model.safetensors");
    assert_eq!(fs::read_to_string(weights).unwrap(), "p1");
    assert_eq!(run.events().unwrap().len(), 12);
    assert_eq!(fs::read_to_string(dir.join("config.toml")).unwrap(), identity(16).config_toml);
    assert_eq!(RunView::open(&dir).unwrap().resolved_config().unwrap(), identity(16).resolved);
}

/// What a log holds once it is cut after its last durable event; worked out from the text alone.
fn durable_prefix(log: &str) -> &str {
    let durable = ["run_started", "published", "iteration_committed", "run_finished"];
    let mut end = 0;
    let mut kept = 0;
    for line in log.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        end += line.len();
        if durable.iter().any(|name| line.contains(&format!("\"event\":\"{name}\""))) {
            kept = end;
        }
    }
    &log[..kept]
}

#[test]
fn a_log_cut_at_any_byte_reopens_at_its_last_durable_event() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_owned();
    let mut run = RunStore::create(&dir, &identity(16)).unwrap();
    run.publish_rollouts(1, Stage::Probe, &[]).unwrap();
    run.append(&graded(1, Stage::Train)).unwrap();
    run.publish_rollouts(1, Stage::Train, &[]).unwrap();
    run.commit(1, "v1").unwrap();
    run.append(&graded(2, Stage::Probe)).unwrap();
    run.append(&Event::RunFinished { iterations: 1 }).unwrap();
    drop(run);
    let path = dir.join("events.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let expected = durable_prefix(&whole[..length]);
        let run = RunStore::open(&dir).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected, "cut at {length}");
        let says = |text: &str| expected.contains(text);
        assert_eq!(run.is_published(1, Piece::Probe), says("\"piece\":\"probe\""), "{length}");
        assert_eq!(run.is_published(1, Piece::Draw), says("\"piece\":\"draw\""), "{length}");
        assert_eq!(run.last_committed().is_some(), says("iteration_committed"), "{length}");
        assert_eq!(run.is_finished(), says("run_finished"), "{length}");
        assert_eq!(run.events().unwrap().len(), expected.lines().count(), "{length}");
    }
}

#[test]
fn an_interrupted_run_continues_to_the_same_events() {
    let (_folder, dir) = small_run();
    let path = dir.join("events.jsonl");
    let whole = RunView::open(&dir).unwrap().events().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let cut = text.find("\"piece\":\"draw\"").unwrap();
    fs::write(&path, &text[..cut]).unwrap();
    let mut run = RunStore::open(&dir).unwrap();
    run.append(&graded(1, Stage::Train)).unwrap();
    run.publish_rollouts(1, Stage::Train, &rollouts(6)).unwrap();
    // The folder of the checkpoint is there already, as after a crash between rename and event.
    publish_checkpoint(&mut run, 1, "p1 again");
    run.append(&graded(1, Stage::Eval)).unwrap();
    run.publish_rollouts(1, Stage::Eval, &[]).unwrap();
    run.commit(1, "v1").unwrap();
    run.append(&Event::RunFinished { iterations: 1 }).unwrap();
    let continued = run.events().unwrap();
    assert_eq!(continued.len(), whole.len());
    for (ours, theirs) in continued.iter().zip(&whole) {
        assert_eq!((ours.seq, &ours.event), (theirs.seq, &theirs.event));
    }
    let weights = dir.join("checkpoints/iter-0001/model.safetensors");
    assert_eq!(fs::read_to_string(weights).unwrap(), "p1 again");
}

#[test]
fn temporary_leftovers_are_removed_and_nothing_else() {
    let (_folder, dir) = small_run();
    let leftovers = [
        ".manifest.json.tmp",
        "rollouts/iter-0001/.train.parquet.tmp",
        "checkpoints/.iter-0002.tmp/model.safetensors",
    ];
    for name in leftovers {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), "half").unwrap();
    }
    let run = RunStore::open(&dir).unwrap();
    for name in leftovers {
        assert!(!dir.join(name).exists(), "{name}");
    }
    assert!(!dir.join("checkpoints/.iter-0002.tmp").exists());
    assert_eq!(run.read_rollouts(1, Stage::Probe).unwrap(), rollouts(4));
}

fn check_fault(error: RunError, class: FaultClass, message: &str, hint: &str) {
    let fault = Fault::from(error);
    assert_eq!(fault.class, class, "{}", fault.message);
    assert!(fault.message.contains(message), "{}", fault.message);
    assert!(fault.hint.as_deref().unwrap_or_default().contains(hint), "{:?}", fault.hint);
}

#[test]
fn a_run_of_a_newer_format_is_refused_and_left_alone() {
    let (_folder, dir) = small_run();
    let manifest = r#"{"format": "2.1", "bstar_version": "9.8.7", "made": {"of": "other things"}}"#;
    fs::write(dir.join("manifest.json"), manifest).unwrap();
    let before = fs::read(dir.join("events.jsonl")).unwrap();
    let (found, hint) = ("written by bstar 9.8.7", "use bstar 9.8.7 or later");
    check_fault(RunStore::open(&dir).unwrap_err(), FaultClass::Run, found, hint);
    check_fault(RunView::open(&dir).unwrap_err(), FaultClass::Run, found, hint);
    let error = RunStore::open_or_create(&dir, &identity(16), &[]).unwrap_err();
    check_fault(error, FaultClass::Run, "run format 2.1", hint);
    assert_eq!(fs::read(dir.join("events.jsonl")).unwrap(), before);
}

#[test]
fn a_run_in_use_is_refused_with_the_pid_and_can_still_be_read() {
    let (_folder, dir) = small_run();
    let run = RunStore::open(&dir).unwrap();
    let process = format!("process {}", std::process::id());
    check_fault(RunStore::open(&dir).unwrap_err(), FaultClass::Run, &process, "wait until");
    check_fault(RunStore::discard(&dir).unwrap_err(), FaultClass::Run, &process, "wait until");
    let view = RunView::open(&dir).unwrap();
    assert!(view.is_running());
    assert_eq!(view.events().unwrap().len(), 12);
    drop(run);
    assert!(!view.is_running());
    RunStore::open(&dir).unwrap();
}

#[test]
fn another_configuration_is_refused_key_by_key() {
    let (_folder, dir) = small_run();
    let error = RunStore::open_or_create(&dir, &identity(32), &["threads"]).unwrap_err();
    let RunError::ConfigDiffers { changes, .. } = &error else { panic!("{error}") };
    assert_eq!(changes.len(), 1);
    check_fault(error, FaultClass::Run, "\n  balance.k: 16 → 32", "`--fresh`");
    let mut same = identity(16);
    same.resolved["threads"] = json!(1);
    // The key came after the run: it did what is now the default.
    same.resolved["balance"]["later"] = json!([1]);
    let (run, opened) = RunStore::open_or_create(&dir, &same, &["threads"]).unwrap();
    assert_eq!((opened, run.last_committed()), (Opened::Continued, Some(1)));
    drop(run);
    same.resolved["balance"]["later"] = json!([2]);
    let error = RunStore::open_or_create(&dir, &same, &["threads"]).unwrap_err();
    check_fault(error, FaultClass::Run, "\n  balance.later: [1] → [2]", "`--fresh`");
}

#[test]
fn a_discarded_run_gives_way_to_another() {
    let (_folder, dir) = small_run();
    let error = RunStore::create(&dir, &identity(32)).unwrap_err();
    check_fault(error, FaultClass::Run, "holds a run already", "`--fresh`");
    RunStore::discard(&dir).unwrap();
    assert!(matches!(RunStore::open(&dir), Err(RunError::NotARun { .. })));
    let (run, opened) = RunStore::open_or_create(&dir, &identity(32), &[]).unwrap();
    assert_eq!((opened, run.last_committed()), (Opened::Created, None));
    assert!(!dir.join("rollouts").exists() && !dir.join("checkpoints").exists());
}

#[test]
fn a_creation_that_a_crash_interrupted_is_begun_again() {
    // What creation writes, in its order; a crash can come before each, or in the midst of it.
    let names = ["lock", MARKER, "config.toml", "config.resolved.json", "events.jsonl"];
    for count in 0..=names.len() {
        let folder = tempfile::tempdir().unwrap();
        for name in &names[..count] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        if let Some(next) = names.get(count).filter(|_| count > 1) {
            fs::write(folder.path().join(format!(".{next}.tmp")), "half").unwrap();
        }
        let run = RunStore::create(folder.path(), &identity(16)).unwrap();
        assert_eq!((run.last_committed(), run.events().unwrap().len()), (None, 0), "{count}");
        assert!(!folder.path().join(MARKER).exists(), "{count}");
    }
}

#[test]
fn a_crash_just_after_creation_leaves_a_run() {
    let (_folder, dir) = small_run();
    fs::write(dir.join(MARKER), "").unwrap();
    assert_eq!(RunStore::open(&dir).unwrap().last_committed(), Some(1));
    assert!(!dir.join(MARKER).exists());
}

#[test]
fn a_removal_that_a_crash_interrupted_is_ended_by_the_next_one() {
    for removed in [vec![], vec!["config.toml"], vec!["events.jsonl", "rollouts", "checkpoints"]] {
        let (_folder, dir) = small_run();
        fs::rename(dir.join("manifest.json"), dir.join(MARKER)).unwrap();
        for name in removed {
            let path = dir.join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        assert!(matches!(RunStore::open(&dir), Err(RunError::NotARun { .. })));
        RunStore::discard(&dir).unwrap();
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
        RunStore::create(&dir, &identity(1)).unwrap();
    }
}

#[test]
fn files_named_like_ours_are_foreign_without_a_manifest_of_ours() {
    let other = "{\"name\": \"my web app\"}";
    for (name, content) in [
        ("checkpoints/mine.pt", "weights"),
        ("rollouts/mine.jsonl", "{}"),
        ("config.toml", "mine = 1"),
        (".config.toml.tmp", "mine = 1"),
        ("events.jsonl", "{}"),
        ("lock", "my own notes"),
        ("manifest.json", other),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let first = name.split('/').next().unwrap();
        let error = RunStore::create(folder.path(), &identity(1)).unwrap_err();
        check_fault(error, FaultClass::Run, &format!("found {first}"), "another `--dir`");
        let error = RunStore::discard(folder.path()).unwrap_err();
        check_fault(error, FaultClass::Run, &format!("found {first}"), "another `--dir`");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{name}");
    }
    // A run whose manifest was lost is not removed either.
    let (_folder, dir) = small_run();
    fs::remove_file(dir.join("manifest.json")).unwrap();
    assert!(matches!(RunStore::discard(&dir), Err(RunError::ForeignFolder { .. })));
    assert!(matches!(RunStore::create(&dir, &identity(1)), Err(RunError::ForeignFolder { .. })));
    assert!(dir.join("checkpoints/iter-0001/model.safetensors").exists());
}

#[test]
fn published_rollouts_that_were_lost_are_named() {
    let (_folder, dir) = small_run();
    fs::remove_file(dir.join("rollouts/iter-0001/train.parquet")).unwrap();
    let view = RunView::open(&dir).unwrap();
    let run = RunStore::open(&dir).unwrap();
    for error in [
        view.read_rollouts(1, Stage::Train).unwrap_err(),
        run.read_rollouts(1, Stage::Train).unwrap_err(),
    ] {
        check_fault(error, FaultClass::Run, "no such file: ", "the run folder lost a file");
    }
    let error = view.read_rollouts(2, Stage::Train).unwrap_err();
    check_fault(error, FaultClass::Run, "nothing published for train", "continue");
}

#[test]
fn a_lost_event_log_is_an_error_and_not_a_new_beginning() {
    let (_folder, dir) = small_run();
    fs::remove_file(dir.join("events.jsonl")).unwrap();
    let error = RunStore::open(&dir).unwrap_err();
    check_fault(error, FaultClass::Run, "no such file: ", "restore it, or start over");
}

#[test]
fn a_folder_with_foreign_files_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    let error = RunStore::create(folder.path(), &identity(1)).unwrap_err();
    check_fault(error, FaultClass::Run, "found thesis.tex", "choose another `--dir`");
    assert!(matches!(RunStore::discard(folder.path()), Err(RunError::ForeignFolder { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn pruning_keeps_what_is_asked_for() {
    let (_folder, dir) = small_run();
    let mut run = RunStore::open(&dir).unwrap();
    run.prune_checkpoints(&BTreeSet::from([1])).unwrap();
    assert_eq!(run.checkpoint_dir(0).unwrap(), None);
    assert!(run.checkpoint_dir(1).unwrap().is_some());
    assert!(run.is_published(0, Piece::Train));
    assert_eq!(RunView::open(&dir).unwrap().checkpoints().unwrap(), [1]);
}

#[test]
fn of_the_reward_models_the_newest_stays() {
    let (_folder, dir) = small_run();
    let mut run = RunStore::open(&dir).unwrap();
    run.prune_reward_models().unwrap();
    for iteration in [0, 2] {
        let folder = run.begin_reward_model(iteration).unwrap();
        fs::write(folder.join("model.safetensors"), "weights").unwrap();
        run.finish_reward_model(iteration).unwrap();
    }
    run.prune_reward_models().unwrap();
    assert!(!run.reward_model_dir(0).unwrap().exists());
    assert!(run.reward_model_dir(2).unwrap().join("model.safetensors").exists());
    assert_eq!(fs::read_dir(dir.join("reward_models")).unwrap().count(), 1);
    assert!(run.checkpoint_dir(0).unwrap().is_some(), "checkpoints are another matter");
}

#[test]
fn what_is_not_published_cannot_be_read_and_nothing_is_published_twice() {
    let (_folder, dir) = small_run();
    let mut run = RunStore::open(&dir).unwrap();
    let error = run.read_rollouts(2, Stage::Probe).unwrap_err();
    check_fault(error, FaultClass::Run, "nothing published for probe of iteration 2", "continue");
    assert!(matches!(run.checkpoint_dir(2), Err(RunError::NotPublished { .. })));
    let error = run.publish_rollouts(1, Stage::Train, &[]).unwrap_err();
    check_fault(error, FaultClass::Bug, "Draw of iteration 1 is published already", "");
    assert!(matches!(run.begin_checkpoint(1), Err(RunError::AlreadyPublished { .. })));
}

#[test]
fn a_broken_line_within_the_log_is_named() {
    let (_folder, dir) = small_run();
    let path = dir.join("events.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"seq\":3", "\"seq\":x", 1)).unwrap();
    let error = RunStore::open(&dir).unwrap_err();
    check_fault(error, FaultClass::Run, "events.jsonl:4: ", "remove line 4 and all after it");
}

fn check_found(root: &Path, name: &str, expected: &str) {
    assert_eq!(find_run(&[root], name).unwrap().dir, root.join(expected), "{name}");
}

#[test]
fn runs_are_listed_by_name_and_found_by_prefix() {
    let (folder, first) = small_run();
    let root = folder.path().join("runs");
    drop(RunStore::create(&root.join("fir"), &identity(1)).unwrap());
    let second = RunStore::create(&root.join("second"), &identity(1)).unwrap();
    fs::create_dir_all(root.join("third")).unwrap();
    fs::write(root.join("third/manifest.json"), "{\"format\": \"7.0\"}").unwrap();
    fs::create_dir_all(root.join("not-a-run")).unwrap();

    let runs = list_runs(&root).unwrap();
    let shown: Vec<_> = runs.iter().map(|run| (run.id.as_str(), run.last_committed)).collect();
    assert_eq!(shown, [("fir", None), ("first", Some(1)), ("second", None), ("third", None)]);
    assert_eq!(runs[0].state, RunState::Unfinished);
    assert_eq!(runs[1].state, RunState::Finished);
    assert_eq!((runs[1].method.as_deref(), runs[1].iterations), (Some("b-star"), Some(2)));
    assert_eq!(runs[2].state, RunState::Running);
    assert!(matches!(&runs[3].state, RunState::Unreadable(why) if why.contains("7.0")));

    check_found(&root, "s", "second");
    check_found(&root, "firs", "first");
    check_found(&root, "fir", "fir");
    check_found(&root, first.to_str().unwrap(), "first");
    let error = find_run(&[&root], "f").unwrap_err();
    assert!(matches!(&error, FindError::Several { matches, .. } if matches == &["fir", "first"]));
    let fault = Fault::from(find_run(&[&root], "x").unwrap_err());
    let hint = "the runs there are fir, first, second, third; `bstar runs list` lists all";
    assert_eq!(fault.hint.unwrap(), hint);
    for name in ["one", "two"] {
        fs::create_dir_all(root.join(name)).unwrap();
        fs::write(root.join(name).join("manifest.json"), "{\"format\": \"7.0\"}").unwrap();
    }
    let fault = Fault::from(find_run(&[&root.join("nowhere"), &root], "sekond").unwrap_err());
    assert!(fault.to_string().contains("nowhere or "), "{fault}");
    assert!(fault.hint.unwrap().starts_with("the nearest names are second, "));
    assert_eq!(list_runs(&root.join("nowhere")).unwrap(), []);
    assert!(matches!(find_run(&[&root], ""), Err(FindError::Empty)), "an empty name is none");
    drop(second);
}

#[test]
fn whole_names_of_folders_come_before_beginnings_and_equal_names_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("comparisons");
    let make = |comparison: &str, run: &str| {
        let dir = root.join(comparison);
        fs::create_dir_all(dir.join("runs").join(run)).unwrap();
        fs::write(dir.join("comparison.json"), "{\"format\": \"1.0\"}").unwrap();
        let manifest = dir.join("runs").join(run).join("manifest.json");
        fs::write(manifest, "{\"format\": \"7.0\"}").unwrap();
    };
    make("table", "b-star/seed-0001");
    make("table", "b-star-temperature/seed-0001");
    make("other", "sft/seed-0002");
    for (name, run, fit) in [
        ("b-star", "b-star/seed-0001", Fit::Folders),
        ("table/b-star/", "b-star/seed-0001", Fit::Folders),
        ("b-star/seed-0001", "b-star/seed-0001", Fit::Folders),
        ("table/b-star/seed-0001", "b-star/seed-0001", Fit::Exact),
        ("b-star-t", "b-star-temperature/seed-0001", Fit::Beginning),
        ("table/b-star-t", "b-star-temperature/seed-0001", Fit::Beginning),
    ] {
        let found = find_run(&[&root], name).unwrap();
        assert_eq!((found.dir, found.fit), (root.join("table/runs").join(run), fit), "{name}");
    }
    let elsewhere = folder.path().join("runs/a");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::write(elsewhere.join("manifest.json"), "{\"format\": \"7.0\"}").unwrap();
    let again = root.join("a");
    fs::create_dir_all(&again).unwrap();
    fs::write(again.join("manifest.json"), "{\"format\": \"7.0\"}").unwrap();
    let roots = [folder.path().join("runs"), root.clone()];
    let fault = Fault::from(find_run(&[&roots[0], &roots[1]], "a").unwrap_err());
    let [first, second] = [elsewhere, again].map(|dir| dir.display().to_string());
    assert!(fault.to_string().ends_with(&format!(": {first}, {second}")), "{fault}");
    assert!(fault.hint.unwrap().starts_with("name more of it"));
}
