//! Two answers, a line each: the verdict is symmetric, and only what is understood is the same.
#![no_main]

use bstar_verify::math::{Options, Reason, judge, parses};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some((answer, gold)) = text.split_once('\n') else { return };
    for options in [Options::default(), Options::STRICT] {
        let there = judge(answer, gold, &options);
        let back = judge(gold, answer, &options);
        assert_eq!(there.sameness, back.sameness, "{answer:?} {gold:?}: {there:?} {back:?}");
        if there.reason == Reason::EqualExpressions {
            assert!(is_readable(answer) && is_readable(gold), "{answer:?} {gold:?}");
        }
    }
});

/// Whether a text is understood, or what stands behind the mark of an option letter. A second look takes
/// text commands and approximations away first.
fn is_readable(text: &str) -> bool {
    let is_seen_twice = ["\\text", "\\mbox", "\\approx", "≈"].iter().any(|mark| text.contains(mark));
    parses(text)
        || is_seen_twice
        || text.char_indices().any(|(at, c)| {
            matches!(c, ')' | '.' | ':')
                && parses(text[at + 1..].trim_start_matches(['\\', ' ', '}', '~', '$']))
        })
}
