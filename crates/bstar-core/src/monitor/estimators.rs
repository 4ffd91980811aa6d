//! Unbiased estimators from n ≥ K samples of a query (spec §2).
//!
//! Each is the expectation, over a uniform random K-subset of the n samples, of the 0/1 statement in
//! the metric's definition; for n = K it is that statement.

/// Pass@K-S: the chance that K of the samples hold at least S distinct correct ones.
///
/// `multiplicities` has, for each distinct correct response, how often it was drawn; `others` is the
/// number of samples that are not correct. `None` if fewer than K samples were drawn. With every
/// multiplicity 1 this is Pass@K-S without uniqueness; with S = 1 it is Pass@K.
///
/// The subset is built by taking every sample with probability K/n and conditioning on K taken in
/// all, so that every term is a probability and nothing overflows.
pub fn pass_at_k_s(multiplicities: &[usize], others: usize, k: usize, s: usize) -> Option<f64> {
    let n = multiplicities.iter().sum::<usize>() + others;
    if n < k || k == 0 {
        return None;
    }
    if multiplicities.len() < s {
        return Some(0.0);
    }
    let rate = k as f64 / n as f64;
    // table[distinct][taken], where `distinct` counts up to s and stays there.
    let mut table = vec![vec![0.0; k + 1]; s + 1];
    for (taken, chance) in binomial(others, rate).into_iter().enumerate().take(k + 1) {
        table[0][taken] = chance;
    }
    for &copies in multiplicities {
        let chances = binomial(copies, rate);
        let mut next = vec![vec![0.0; k + 1]; s + 1];
        for (distinct, row) in table.iter().enumerate() {
            for (taken, &before) in row.iter().enumerate().filter(|(_, before)| **before > 0.0) {
                for (more, chance) in chances.iter().enumerate().take(k - taken + 1) {
                    next[(distinct + usize::from(more > 0)).min(s)][taken + more] +=
                        before * chance;
                }
            }
        }
        table = next;
    }
    let all: f64 = table.iter().map(|row| row[k]).sum();
    Some(table[s][k] / all)
}

/// Reward@K-S: the chance that, of K of the samples, the S with the highest reward are all correct.
/// S = 1 is Best-of-K.
///
/// `correct` has one entry per sample, by reward from high to low. `None` if fewer than K samples
/// were drawn.
pub fn reward_at_k_s(correct: &[bool], k: usize, s: usize) -> Option<f64> {
    let n = correct.len();
    if n < k || k == 0 {
        return None;
    }
    if s > k || s == 0 {
        return Some(0.0);
    }
    let (mut sum, mut correct_above) = (0.0, 0);
    for (above, _) in correct.iter().enumerate().filter(|(_, correct)| **correct) {
        // The sample at this rank is the S-th best of the subset, S - 1 correct ones above it are in
        // it, nothing else above it is, and K - S from below it are.
        let below = n - above - 1;
        if correct_above >= s - 1 && below >= k - s {
            let ways = ln_choose(correct_above, s - 1) + ln_choose(below, k - s);
            sum += (ways - ln_choose(n, k)).exp();
        }
        correct_above += 1;
    }
    Some(sum.min(1.0))
}

/// The probabilities of 0..=n successes in n trials.
fn binomial(n: usize, rate: f64) -> Vec<f64> {
    let chance = |successes: usize| {
        let failures = n - successes;
        let power =
            |base: f64, times: usize| if times == 0 { 0.0 } else { base.ln() * times as f64 };
        (ln_choose(n, successes) + power(rate, successes) + power(1.0 - rate, failures)).exp()
    };
    (0..=n).map(chance).collect()
}

/// Natural logarithm of the binomial coefficient.
fn ln_choose(n: usize, k: usize) -> f64 {
    let k = k.min(n - k);
    (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum()
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests make small numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(actual: Option<f64>, expected: f64) {
        let actual = actual.expect("enough samples");
        assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
    }

    #[test]
    fn the_vectors_of_the_specification_hold() {
        check(pass_at_k_s(&[2, 1, 1], 4, 4, 2), 47.0 / 70.0);
        check(pass_at_k_s(&[1, 1, 1, 1], 4, 4, 2), 53.0 / 70.0);
        check(pass_at_k_s(&[2, 1, 1], 4, 4, 1), 69.0 / 70.0);
        check(pass_at_k_s(&[2, 1, 1], 4, 8, 3), 1.0);
        check(pass_at_k_s(&[2, 1, 1], 4, 8, 4), 0.0);
        let labels = [true, true, false, true, false, false, true, false];
        check(reward_at_k_s(&labels, 8, 1), 1.0);
        check(reward_at_k_s(&labels, 8, 2), 1.0);
        check(reward_at_k_s(&labels, 8, 3), 0.0);
        check(reward_at_k_s(&labels, 4, 1), 59.0 / 70.0);
        check(reward_at_k_s(&labels, 4, 2), 27.0 / 70.0);
    }

    #[test]
    fn too_few_samples_give_no_estimate() {
        assert_eq!(pass_at_k_s(&[1], 2, 4, 1), None);
        assert_eq!(reward_at_k_s(&[true; 3], 4, 1), None);
    }

    #[test]
    fn large_groups_do_not_overflow() {
        let many = pass_at_k_s(&[1; 400], 1600, 1000, 4).expect("enough samples");
        assert!((many - 1.0).abs() < 1e-9, "{many}");
        let rare = pass_at_k_s(&[1], 1999, 1000, 1).expect("enough samples");
        assert!((rare - 0.5).abs() < 1e-9, "{rare}");
    }

    /// Every K-subset of `0..n`, as bit masks.
    fn subsets(n: usize, k: usize) -> impl Iterator<Item = u32> {
        (0..1_u32 << n).filter(move |mask| mask.count_ones() as usize == k)
    }

    /// All labelings of up to 8 samples: label 0 is wrong, 1..=3 name distinct correct texts.
    fn labelings(n: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..4_usize.pow(n as u32))
            .map(move |code| (0..n).map(|i| code / 4_usize.pow(i as u32) % 4).collect())
    }

    #[test]
    fn pass_at_k_s_equals_brute_force_for_every_group_of_up_to_eight() {
        for n in 1..=8 {
            // The estimate depends on multiplicities only: sorted labelings reach them all.
            for labels in labelings(n).filter(|labels| labels.is_sorted()) {
                let count = |label| labels.iter().filter(|l| **l == label).count();
                let copies: Vec<usize> = (1..4).map(count).filter(|c| *c > 0).collect();
                for k in 1..=n {
                    for s in 1..=4 {
                        let hits = subsets(n, k).filter(|mask| {
                            let taken = (0..n).filter(|i| mask >> i & 1 == 1).map(|i| labels[i]);
                            let kinds = taken.filter(|l| *l > 0).fold(0_u32, |set, l| set | 1 << l);
                            kinds.count_ones() as usize >= s
                        });
                        let expected = hits.count() as f64 / subsets(n, k).count() as f64;
                        check(pass_at_k_s(&copies, count(0), k, s), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn reward_at_k_s_equals_brute_force_for_every_ranking_of_up_to_eight() {
        for n in 1..=8 {
            for code in 0..1_u32 << n {
                let labels: Vec<bool> = (0..n).map(|i| code >> i & 1 == 1).collect();
                for k in 1..=n {
                    for s in 1..=k {
                        let hits = subsets(n, k).filter(|mask| {
                            (0..n).filter(|i| mask >> i & 1 == 1).take(s).all(|i| labels[i])
                        });
                        let expected = hits.count() as f64 / subsets(n, k).count() as f64;
                        check(reward_at_k_s(&labels, k, s), expected);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn pass_at_k_rises_with_k_and_falls_with_s(
            copies in prop::collection::vec(1_usize..5, 0..8), others in 0_usize..20,
        ) {
            let n = copies.iter().sum::<usize>() + others;
            for k in 1..n {
                for s in 1..4 {
                    let here = pass_at_k_s(&copies, others, k, s).expect("k ≤ n");
                    prop_assert!((-1e-12..=1.0 + 1e-9).contains(&here));
                    prop_assert!(pass_at_k_s(&copies, others, k + 1, s).expect("k < n") >= here - 1e-9);
                    prop_assert!(pass_at_k_s(&copies, others, k, s + 1).expect("k ≤ n") <= here + 1e-9);
                }
            }
        }
    }
}
