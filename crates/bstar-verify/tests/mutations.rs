//! A short fuzz in every test run: the seeds of `fuzz/seeds`, changed in a fixed way.

use bstar_verify::math::{Options, answer, grade, judge};
use bstar_verify::{Sameness, game24};
use std::path::PathBuf;

/// Changed inputs; a debug build takes about a second for them.
const CASES: u64 = 4000;

/// Pieces that are put into a text.
const PIECES: [&str; 16] = [
    "{", "}", "\\frac", "^", "_", "(", ")", ",", "|", "\\pm ", "9", "!", "%", "\\text{", " ",
    "\u{e9}",
];

/// A generator of its own, so that every run does the same: SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 32).expect("32 bits") % bound.max(1)
    }
}

fn seeds() -> Vec<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let mut paths = Vec::new();
    for target in ["parse", "equivalence", "extraction"] {
        let folder = std::fs::read_dir(root.join(target)).expect("the seeds are in the repository");
        paths.extend(folder.map(|entry| entry.expect("a file").path()));
    }
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect()
}

/// Drops, doubles and inserts a few characters.
fn changed(text: &str, chance: &mut Chance) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=chance.below(4) {
        let at = chance.below(chars.len() + 1);
        match chance.below(4) {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 => {
                let piece = PIECES[chance.below(PIECES.len())];
                chars.splice(at..at, piece.chars());
            }
            2 => {
                let end = (at + chance.below(12)).min(chars.len());
                let part = chars[at..end].to_vec();
                chars.splice(at..at, part);
            }
            _ => chars.truncate(at.max(chars.len() / 2)),
        }
    }
    chars.into_iter().collect()
}

#[test]
fn changed_seeds_break_nothing() {
    let seeds = seeds();
    let mut chance = Chance(24);
    for _ in 0..CASES {
        let left = changed(&seeds[chance.below(seeds.len())], &mut chance);
        let right = changed(&seeds[chance.below(seeds.len())], &mut chance);
        for options in [Options::default(), Options::STRICT] {
            let there = judge(&left, &right, &options);
            let back = judge(&right, &left, &options);
            assert_eq!(there.sameness, back.sameness, "{left:?} {right:?}");
            let itself = judge(&left, &left, &options).sameness;
            assert_ne!(itself, Sameness::Different, "{left:?}");
        }
        assert!(answer::find(&left).is_none_or(|found| !found.is_empty()), "{left:?}");
        let _ = grade(&left, &right, &Options::default());
        let _ = game24::check(&left, &[1, 2, 3, 4]);
    }
}

#[test]
fn a_verdict_is_the_same_both_ways_where_the_budget_ends() {
    let (left, right) = ("002!,4", "1A/1/200002!,\n1/0~203!");
    for options in [Options::default(), Options::STRICT] {
        let there = judge(left, right, &options);
        assert_eq!(there.sameness, judge(right, left, &options).sameness);
    }
}
