//! No pair of hostile answers takes long. The bar is 50 ms in a release build, which the bench
//! measures; here a busy machine running a debug build gets more.

use bstar_verify::math::{Options, answer, grade, judge};
use bstar_verify::{Sameness, game24};
use std::time::{Duration, Instant};

#[path = "hostile/mod.rs"]
mod hostile;

/// Far above what is measured, and far below what a hang takes.
const MOST: Duration = Duration::from_secs(2);

#[test]
fn every_pair_is_judged_in_bounded_time() {
    let answers = hostile::answers();
    let options = Options::default();
    let mut slowest = (Duration::ZERO, String::new());
    for (at, left) in answers.iter().enumerate() {
        assert_ne!(judge(left, left, &options).sameness, Sameness::Different, "{left:.60}");
        let near = [left.clone() + "+x", left.clone() + ",x", left.replace('1', "2")];
        // The bench takes every pair.
        for right in near.iter().chain(answers.iter().skip(at % 7).step_by(7)) {
            let start = Instant::now();
            let _ = judge(left, right, &options);
            let took = start.elapsed();
            assert!(took < MOST, "{left:.60} against {right:.60}: {took:?}");
            if took > slowest.0 {
                slowest = (took, format!("{left:.40} against {right:.40}"));
            }
        }
    }
    println!("{} answers, slowest: {slowest:?}", answers.len());
}

#[test]
fn every_response_is_searched_in_bounded_time() {
    for piece in hostile::answers() {
        let response = piece.repeat(1 + 60_000 / piece.len());
        let start = Instant::now();
        let _ = answer::find(&response);
        let _ = grade(&response, "5", &Options::default());
        let _ = game24::check(&response, &[1, 2, 3, 4]);
        assert!(start.elapsed() < MOST, "{piece:.60}: {:?}", start.elapsed());
    }
}
