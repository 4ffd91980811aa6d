//! Rows products in the convention of [`crate::ops::linear`]: rows follow one another.
//!
//! BLAS has columns that follow one another, so a matrix of ours is the transpose of one of its own:
//! instead of C = A · B it is asked for Cᵀ = Bᵀ · Aᵀ.

use crate::device::Device;
use crate::device::accelerator::{Operand, Product};
use crate::device::memory::{Number, Place, Real};
use crate::ops::matmul::Write;
use bstar_core::Fault;

/// A factor, or its transpose.
#[derive(Debug)]
pub(crate) struct Side<T> {
    place: Place<T>,
    transposed: bool,
}

impl<T> Side<T> {
    /// The matrix as it lies.
    pub(crate) fn plain(place: Place<T>) -> Self {
        Self { place, transposed: false }
    }

    /// The transpose of the matrix that lies there.
    pub(crate) fn transposed(place: Place<T>) -> Self {
        Self { place, transposed: true }
    }
}

/// `c (m, n) = alpha · a (m, k) · b (k, n)`, replacing or adding. `size` is `[m, n, k]`.
pub(crate) fn multiply<C: Number, AB: Number>(
    device: &Device,
    [rows, columns, inner]: [usize; 3],
    c: Place<C>,
    write: Write,
    alpha: f32,
    a: &Side<AB>,
    b: &Side<AB>,
) -> Result<(), Fault> {
    if rows * columns * inner == 0 {
        return Ok(());
    }
    let operand = |side: &Side<AB>, rows: usize, columns: usize| -> Operand {
        // A transposed (rows, columns) lies as (columns, rows).
        let stride = if side.transposed { rows } else { columns };
        side.place.operand(device, stride, side.transposed)
    };
    device.accelerator.multiply(&Product {
        size: [columns, rows, inner],
        alpha,
        a: operand(b, inner, columns),
        b: operand(a, rows, inner),
        add: write == Write::Add,
        c: c.operand(device, columns, false),
    })
}

/// The shape of `y = x · Wᵀ`, as [`crate::ops::linear::Linear`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    /// Rows of x and y.
    pub(crate) rows: usize,
    /// Width of x.
    pub(crate) inner: usize,
    /// Width of y.
    pub(crate) outer: usize,
}

impl Linear {
    /// Writes or adds `x · Wᵀ`.
    pub(crate) fn forward<Y: Number>(
        self,
        device: &Device,
        x: Place<Real>,
        weight: Place<Real>,
        write: Write,
        y: Place<Y>,
    ) -> Result<(), Fault> {
        let Self { rows, inner, outer } = self;
        let (x, weight) = (Side::plain(x), Side::transposed(weight));
        multiply(device, [rows, outer, inner], y, write, 1.0, &x, &weight)
    }

    /// Writes dx.
    pub(crate) fn backward_input(
        self,
        device: &Device,
        grad_y: Place<Real>,
        weight: Place<Real>,
        grad_x: Place<Real>,
    ) -> Result<(), Fault> {
        let Self { rows, inner, outer } = self;
        let (grad_y, weight) = (Side::plain(grad_y), Side::plain(weight));
        multiply(device, [rows, inner, outer], grad_x, Write::Replace, 1.0, &grad_y, &weight)
    }

    /// Adds dW to the gradient.
    pub(crate) fn backward_weight(
        self,
        device: &Device,
        grad_y: Place<Real>,
        x: Place<Real>,
        gradient: Place<f32>,
    ) -> Result<(), Fault> {
        let Self { rows, inner, outer } = self;
        let (grad_y, x) = (Side::transposed(grad_y), Side::plain(x));
        multiply(device, [outer, inner, rows], gradient, Write::Add, 1.0, &grad_y, &x)
    }
}
