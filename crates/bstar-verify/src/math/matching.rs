//! Which items of two lists of the same length go together, whatever their order.

/// Whether all items find a partner: yes, no, or not to be told where some pairs cannot be told.
///
/// One item may have several partners (`25%` is 0.25 and 25), so a first match may have to give way
/// to another. `pair` is asked at most once for each pair.
pub(super) fn perfect(
    count: usize,
    pair: impl FnMut(usize, usize) -> Option<bool>,
) -> Option<bool> {
    let mut pairs = Pairs { told: vec![Told::NotYet; count * count], count, pair };
    if pairs.match_all(false) {
        return Some(true);
    }
    let is_unclear = pairs.told.contains(&Told::Unclear);
    if is_unclear && pairs.match_all(true) { None } else { Some(false) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Same,
    Different,
    Unclear,
}

struct Pairs<F> {
    /// What was told of each pair that was asked for.
    told: Vec<Told>,
    count: usize,
    pair: F,
}

impl<F: FnMut(usize, usize) -> Option<bool>> Pairs<F> {
    fn match_all(&mut self, may_be_unclear: bool) -> bool {
        let mut partners = vec![None; self.count];
        (0..self.count).all(|left| {
            let mut seen = vec![false; self.count];
            self.place(left, may_be_unclear, &mut partners, &mut seen)
        })
    }

    /// Finds a partner for `left`, moving others where that helps; recursion is at most as deep as
    /// there are items.
    fn place(
        &mut self,
        left: usize,
        may_be_unclear: bool,
        partners: &mut [Option<usize>],
        seen: &mut [bool],
    ) -> bool {
        // Lists mostly come in the same order.
        let count = self.count;
        for right in (0..count).map(|step| (left + step) % count) {
            if seen[right] || !self.goes(left, right, may_be_unclear) {
                continue;
            }
            seen[right] = true;
            let is_free = match partners[right] {
                None => true,
                Some(other) => self.place(other, may_be_unclear, partners, seen),
            };
            if is_free {
                partners[right] = Some(left);
                return true;
            }
        }
        false
    }

    fn goes(&mut self, left: usize, right: usize, may_be_unclear: bool) -> bool {
        let at = left * self.count + right;
        if self.told[at] == Told::NotYet {
            self.told[at] = match (self.pair)(left, right) {
                Some(true) => Told::Same,
                Some(false) => Told::Different,
                None => Told::Unclear,
            };
        }
        match self.told[at] {
            Told::Same => true,
            Told::Unclear => may_be_unclear,
            Told::Different | Told::NotYet => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_gives_way_to_another() {
        let table = [[Some(true), Some(true)], [Some(true), Some(false)]];
        assert_eq!(perfect(2, |left, right| table[left][right]), Some(true));
        let table = [[Some(true), Some(false)], [Some(true), Some(false)]];
        assert_eq!(perfect(2, |left, right| table[left][right]), Some(false));
        let table = [[Some(true), Some(false)], [Some(false), None]];
        assert_eq!(perfect(2, |left, right| table[left][right]), None);
        let table = [[None, Some(false)], [Some(false), Some(false)]];
        assert_eq!(perfect(2, |left, right| table[left][right]), Some(false));
    }
}
