//! One text as an answer: it is read without panic, and equals itself wherever it is understood.
#![no_main]

use bstar_verify::math::{Options, Reason, judge, parses};
use bstar_verify::{Sameness, Verifier, choice, exact, game24, number};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let is_understood = parses(text);
    for options in [Options::default(), Options::STRICT] {
        let judged = judge(text, text, &options);
        assert_ne!(judged.sameness, Sameness::Different, "{text:?} differs from itself");
        let is_same = judged.sameness == Sameness::Same || judged.reason == Reason::Empty;
        assert!(
            !is_understood || is_same,
            "{text:?} is understood and does not equal itself: {judged:?}"
        );
    }
    for verifier in [Verifier::Exact, Verifier::Number, Verifier::Choice, Verifier::Math] {
        assert_ne!(verifier.compare(text, text), Sameness::Different, "{verifier:?} {text:?}");
    }
    let _ = exact::normalize_math(text);
    let _ = (number::last_in(text), choice::parse(text));
    let _ = game24::check(text, &[1, 2, 3, 4]);
});
