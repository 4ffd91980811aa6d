//! A run on a disk that fills up: a tmpfs of one mebibyte.
//!
//! The test runs itself again inside a mount namespace of its own (`unshare`), where it may mount;
//! where that is not allowed it says so and passes. `/dev/full` and failing writers cover the same
//! errors everywhere, beside the code.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "clippy does not see that helpers of tests are tests")]

use bstar_core::event::Piece;
use bstar_core::event::{Event, VerdictCounts};
use bstar_core::{Fault, FaultClass, Rollout, Stage, Verdict};
use bstar_store::{RunIdentity, RunStore};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const TINY_DISK: &str = "BSTAR_TEST_TINY_DISK";

/// What the shell says once there is a tiny disk, and the test when it has come to its end there.
const MOUNTED: &str = "the-tiny-disk-is-mounted";
const RECOVERED: &str = "the-run-on-the-tiny-disk-recovered";

#[test]
fn a_run_survives_a_full_disk() {
    if let Ok(disk) = std::env::var(TINY_DISK) {
        fill_and_recover(Path::new(&disk));
        println!("{RECOVERED}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script =
        format!("mount -t tmpfs -o size=1m tmpfs \"$0\" || exit 77; echo {MOUNTED}; exec \"$@\"");
    let child = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", &script])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_run_survives_a_full_disk", "--nocapture"])
        .env(TINY_DISK, folder.path())
        .output();
    let (status, text) = match child {
        Ok(child) => {
            let bytes = [child.stdout, child.stderr].concat();
            (child.status.to_string(), String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) => (error.to_string(), String::new()),
    };
    if text.contains(MOUNTED) {
        assert!(text.contains(RECOVERED), "on the tiny disk ({status}):\n{text}");
    } else {
        eprintln!("skipped: cannot mount a tmpfs here ({status}): {text}");
    }
}

fn fill_and_recover(disk: &Path) {
    let dir = disk.join("run");
    let identity = RunIdentity {
        config_toml: String::new(),
        resolved: serde_json::json!({}),
        defaults: serde_json::json!({}),
        bstar_version: "0.1.0".to_owned(),
    };
    let mut run = RunStore::create(&dir, &identity).unwrap();
    run.publish_rollouts(1, Stage::Probe, &rollouts(10)).unwrap();

    let too_many = rollouts(60_000);
    let fault = Fault::from(run.publish_rollouts(1, Stage::Train, &too_many).unwrap_err());
    assert_eq!(fault.class, FaultClass::Resource, "{fault}");
    assert!(fault.message.contains("no space left to write"), "{fault}");
    assert!(fault.hint.unwrap().contains("free space"));
    assert!(!run.is_published(1, Piece::Draw));

    // The space of the failed file came back: the same process goes on.
    run.publish_rollouts(1, Stage::Train, &rollouts(20)).unwrap();

    let ballast = disk.join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 2 << 20]);
    let counts = VerdictCounts::default();
    let reasons = BTreeMap::new();
    let event = Event::Graded {
        iteration: 1,
        stage: Stage::Eval,
        counts,
        tokens: 7,
        reasons,
        checker: None,
    };
    let error = (0..100_000).find_map(|_| run.append(&event).err()).expect("the disk fills up");
    assert_eq!(Fault::from(error).class, FaultClass::Resource);
    drop(run);

    // A full disk does not keep the run from being opened, and once there is space it continues.
    drop(RunStore::open(&dir).unwrap());
    std::fs::remove_file(&ballast).unwrap();
    let mut run = RunStore::open(&dir).unwrap();
    assert_eq!(run.read_rollouts(1, Stage::Train).unwrap(), rollouts(20));
    run.publish_rollouts(1, Stage::Eval, &rollouts(5)).unwrap();
    assert_eq!(run.events().unwrap().len(), 3);
}

/// Rollouts whose text does not compress.
fn rollouts(count: u32) -> Vec<Rollout> {
    let scrambled =
        |index: u32| u64::from(index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..count)
        .map(|index| Rollout {
            query_id: "q".into(),
            sample_index: index,
            temperature: 1.0,
            top_p: None,
            response: format!("{:x}{:x}", scrambled(index), scrambled(!index)).into(),
            answer: None,
            verdict: Verdict::NoAnswer,
            reason: None,
            reward_model_score: None,
            step_scores: None,
            iteration: None,
            stage: None,
            prompt: None,
            reward: None,
            selected: None,
            finish_reason: None,
            token_count: None,
            logprob: None,
            entropy: None,
            steps_correct: None,
            policy_version: None,
            candidate_logprobs: None,
        })
        .collect()
}
