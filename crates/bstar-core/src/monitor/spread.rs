//! How evenly a pool is spread over its queries, as the authors' code prints it (spec §2).

/// "Query balance": 1 - σ/μ of the counts of the queries in the pool; `None` for an empty pool.
pub fn uniformity(counts: &[u64]) -> Option<f64> {
    let present: Vec<f64> = counts.iter().filter(|count| **count > 0).map(|&c| c as f64).collect();
    if present.is_empty() {
        return None;
    }
    let size = present.len() as f64;
    let mean = present.iter().sum::<f64>() / size;
    let variance = present.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / size;
    Some(1.0 - variance.sqrt() / mean)
}

/// Weighted entropy: -Σ (c_q / max c) p_q ln p_q, where p_q is the share of the pool that query q has
/// and c_q its number of correct responses; `None` if nothing is correct.
pub fn weighted_entropy(counts: &[u64], correct: &[u64]) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let most = correct.iter().copied().max().filter(|most| *most > 0)?;
    let terms =
        counts.iter().zip(correct).filter(|(count, _)| **count > 0).map(|(&count, &right)| {
            let share = count as f64 / total as f64;
            right as f64 / most as f64 * share * share.ln()
        });
    Some(-terms.sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_specification_hold() {
        assert!((uniformity(&[3, 1, 0]).expect("a pool") - 0.5).abs() < 1e-12);
        let entropy = weighted_entropy(&[3, 1], &[3, 1]).expect("a pool");
        assert!((entropy - 0.331_286).abs() < 1e-6, "{entropy}");
    }

    #[test]
    fn an_empty_pool_has_no_spread() {
        assert_eq!(uniformity(&[0, 0]), None);
        assert_eq!(weighted_entropy(&[0, 1], &[0, 0]), None);
    }
}
