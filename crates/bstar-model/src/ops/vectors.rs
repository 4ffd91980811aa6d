//! The way of an operation to the widest vectors of the running processor, and sums that suit them.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

/// Functions that are compiled for the widest vectors of the running processor, chosen at each call.
///
/// All that such a function calls in a loop must be `#[inline(always)]`, and a loop must not be in a closure:
/// a function or closure that is left as one of its own is compiled for the oldest processor, silently.
/// For the same reason this is a macro, and not a function that takes a closure.
macro_rules! vectorised {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident<$a:lifetime>($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {
        $($crate::ops::vectors::vectorised! {
            $(#[$meta])* $vis fn $name<$a>($($argument: $type),*) -> () $body
        })*
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$a:lifetime>($($argument:ident: $type:ty),* $(,)?) -> $output:ty $body:block) => {
        $(#[$meta])*
        $vis fn $name<$a>($($argument: $type),*) -> $output {
            struct Call<$a> {
                $($argument: $type),*
            }
            impl<$a> pulp::NullaryFnOnce for Call<$a> {
                type Output = $output;
                #[inline(always)]
                fn call(self) -> $output {
                    let Self { $($argument),* } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Call { $($argument),* })
        }
    };
}
pub(crate) use vectorised;

/// Sums are taken in so many lanes, whatever the vectors: the bits are the same on every processor.
pub(crate) const LANES: usize = 16;

/// What becomes of the numbers at the same place of several slices.
pub(crate) trait Elementwise<const INPUTS: usize, const OUTPUTS: usize> {
    /// The outputs of a place, from the inputs and from what the outputs held. `#[inline(always)]`.
    fn at(&self, inputs: [f32; INPUTS], outputs: [f32; OUTPUTS]) -> [f32; OUTPUTS];
}

/// Applies an operation at every place of slices of one length, in whole vectors as far as they reach: left
/// alone, a compiler works off the end of a row, often half of it, number by number.
///
/// # Panics
/// If an input is shorter than the first output, or another output is.
#[inline(always)]
pub(crate) fn elementwise<const INPUTS: usize, const OUTPUTS: usize>(
    operation: &impl Elementwise<INPUTS, OUTPUTS>,
    inputs: [&[f32]; INPUTS],
    mut outputs: [&mut [f32]; OUTPUTS],
) {
    let from = blocks::<LANES, INPUTS, OUTPUTS>(operation, inputs, &mut outputs, 0);
    let from = blocks::<{ LANES / 2 }, INPUTS, OUTPUTS>(operation, inputs, &mut outputs, from);
    blocks::<1, INPUTS, OUTPUTS>(operation, inputs, &mut outputs, from);
}

/// As many blocks of `N` places as there are from `from` on; returns where they end.
#[inline(always)]
fn blocks<const N: usize, const INPUTS: usize, const OUTPUTS: usize>(
    operation: &impl Elementwise<INPUTS, OUTPUTS>,
    inputs: [&[f32]; INPUTS],
    outputs: &mut [&mut [f32]; OUTPUTS],
    mut from: usize,
) -> usize {
    let end = outputs[0].len();
    while from + N <= end {
        let mut given = [[0.0_f32; N]; INPUTS];
        for (given, input) in given.iter_mut().zip(inputs) {
            given.copy_from_slice(&input[from..from + N]);
        }
        let mut made = [[0.0_f32; N]; OUTPUTS];
        for (made, output) in made.iter_mut().zip(outputs.iter()) {
            made.copy_from_slice(&output[from..from + N]);
        }
        for lane in 0..N {
            let (mut x, mut y) = ([0.0; INPUTS], [0.0; OUTPUTS]);
            for (x, given) in x.iter_mut().zip(&given) {
                *x = given[lane];
            }
            for (y, made) in y.iter_mut().zip(&made) {
                *y = made[lane];
            }
            let y = operation.at(x, y);
            for (made, y) in made.iter_mut().zip(y) {
                made[lane] = y;
            }
        }
        for (made, output) in made.iter().zip(outputs.iter_mut()) {
            output[from..from + N].copy_from_slice(made);
        }
        from += N;
    }
    from
}

/// The sum of the lanes, by halves.
#[inline(always)]
pub(crate) fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Σ x.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane += x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    fold(lanes)
}

/// Σ a · b.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "one number for each");
    let mut lanes = [0.0_f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    fold(lanes)
}

/// Σ a · b · c.
#[inline(always)]
pub(crate) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    assert!(a.len() == b.len() && a.len() == c.len(), "one number for each");
    let mut lanes = [0.0_f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (c, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for (((lane, a), b), c) in lanes.iter_mut().zip(a).zip(b).zip(c) {
            *lane += a * b * c;
        }
    }
    for (((lane, a), b), c) in lanes.iter_mut().zip(a_rest).zip(b_rest).zip(c_rest) {
        *lane += a * b * c;
    }
    fold(lanes)
}

/// The largest number; minus infinity of none. Not-a-numbers are passed over.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = larger(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, *x);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::draw;

    fn all(a: &[f32], b: &[f32], c: &[f32]) -> [f32; 4] {
        [sum(a), dot(a, b), dot3(a, b, c), largest(a)]
    }

    vectorised! {
        fn vectorised_all<'a>(a: &'a [f32], b: &'a [f32], c: &'a [f32]) -> [f32; 4] {
            [sum(a), dot(a, b), dot3(a, b, c), largest(a)]
        }
    }

    #[test]
    fn reductions_are_those_of_the_definition_with_the_same_bits_for_any_vectors() {
        for count in [0, 1, 15, 16, 17, 40, 333] {
            let (a, b, c) = (draw(1, count), draw(2, count), draw(3, count));
            let exact =
                |term: &dyn Fn(usize) -> f32| (0..count).map(|i| f64::from(term(i))).sum::<f64>();
            let expected = [
                exact(&|i| a[i]),
                exact(&|i| a[i] * b[i]),
                exact(&|i| a[i] * b[i] * c[i]),
                a.iter().map(|x| f64::from(*x)).fold(f64::NEG_INFINITY, f64::max),
            ];
            let found = vectorised_all(&a, &b, &c);
            assert_eq!(found, all(&a, &b, &c), "the same bits without a dispatch");
            for (found, expected) in found.into_iter().zip(expected) {
                let close = (f64::from(found) - expected).abs() < 1e-4;
                assert!(close || f64::from(found) == expected, "{count}: {found} {expected}");
            }
        }
    }
}
