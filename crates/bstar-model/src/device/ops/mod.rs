//! The operations of [`crate::ops`] on a device: each function queues the kernels of one.
//!
//! What they compute is told there and in `kernels/`; here are sizes of grids and orders of arguments.
//! All sums are taken in an order that depends on sizes only.

/// A list of arguments.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        &[$($crate::device::accelerator::Argument::from($argument)),*]
    };
}

mod attention;
mod draw;
mod norm;
mod products;

pub(super) use attention::{Attention, CacheShape, HeadShape, Saved, rotate};
pub(super) use draw::{Draw, Drawn, draw};
pub(super) use norm::{HeadRows, Norm, bias_backward};
pub(super) use products::{Linear, Side, multiply};

use super::Device;
use super::accelerator::{Argument, Launch};
use super::memory::{Buffer, Place, Real};
use bstar_core::Fault;

impl From<usize> for Argument {
    fn from(x: usize) -> Self {
        Self::Size(x as u64)
    }
}

impl From<i32> for Argument {
    fn from(x: i32) -> Self {
        Self::Int(x)
    }
}

impl From<u32> for Argument {
    fn from(x: u32) -> Self {
        Self::Unsigned(x)
    }
}

impl From<f32> for Argument {
    fn from(x: f32) -> Self {
        Self::Float(x)
    }
}

impl From<f64> for Argument {
    fn from(x: f64) -> Self {
        Self::Double(x)
    }
}

/// A size as the kernels take it.
pub(super) fn int(size: usize) -> i32 {
    i32::try_from(size).expect("sizes are below 2^31")
}

/// A matrix on the device, one after another.
#[derive(Debug)]
pub(super) struct Matrix<T> {
    pub(super) place: Place<T>,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl<T> Clone for Matrix<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Matrix<T> {}

/// Threads of a block that takes a row of this width.
fn threads_of_row(width: usize) -> usize {
    width.next_multiple_of(32).clamp(32, 256)
}

/// Queues a kernel whose blocks each take a row.
fn by_rows(
    device: &Device,
    kernel: &'static str,
    rows: usize,
    width: usize,
    arguments: &[Argument],
) -> Result<(), Fault> {
    let threads = threads_of_row(width);
    device.launch(&Launch { kernel, grid: [rows, 1], threads, shared: 0, arguments })
}

/// Queues a kernel whose threads each take a number.
fn by_numbers(
    device: &Device,
    kernel: &'static str,
    count: usize,
    arguments: &[Argument],
) -> Result<(), Fault> {
    let grid = [count.div_ceil(THREADS), 1];
    device.launch(&Launch { kernel, grid, threads: THREADS, shared: 0, arguments })
}

const THREADS: usize = 256;

/// Queues a kernel of one block.
fn by_one_block(
    device: &Device,
    kernel: &'static str,
    arguments: &[Argument],
) -> Result<(), Fault> {
    device.launch(&Launch { kernel, grid: [1, 1], threads: THREADS, shared: 0, arguments })
}

/// Fills the residual stream with the rows of the table.
pub(super) fn embed(
    device: &Device,
    table: Place<Real>,
    tokens: Place<u32>,
    x: Matrix<f32>,
) -> Result<(), Fault> {
    let arguments = arguments![x.place, table, tokens, int(x.width)];
    by_rows(device, "embed", x.rows, x.width, arguments)
}

/// Where each token of a batch stands.
#[derive(Debug)]
pub(super) struct TokenPlaces {
    distinct: Buffer<u32>,
    begins: Buffer<u32>,
    rows: Buffer<u32>,
    count: usize,
}

impl TokenPlaces {
    /// The places of each token.
    pub(super) fn new(device: &Device, tokens: &[u32]) -> Result<Self, Fault> {
        let mut rows: Vec<u32> = (0..).take(tokens.len()).collect();
        // The order of equals is kept, so that gradients are added in the order of the rows.
        rows.sort_by_key(|&row| tokens[row as usize]);
        let (mut distinct, mut begins) = (Vec::new(), Vec::new());
        for (at, &row) in (0..).zip(&rows) {
            let token = tokens[row as usize];
            if distinct.last() != Some(&token) {
                distinct.push(token);
                begins.push(at);
            }
        }
        begins.push(u32::try_from(tokens.len()).expect("a batch of less than 2^32 tokens"));
        let count = distinct.len();
        let [distinct, begins, rows] =
            [distinct, begins, rows].map(|numbers| Buffer::of(device, &numbers));
        Ok(Self { distinct: distinct?, begins: begins?, rows: rows?, count })
    }
}

/// Adds the gradients of the rows to those of the table.
pub(super) fn embed_backward(
    device: &Device,
    places: &TokenPlaces,
    grad_x: Matrix<f32>,
    gradient: Place<f32>,
) -> Result<(), Fault> {
    let TokenPlaces { distinct, begins, rows, count } = places;
    let arguments = arguments![
        gradient,
        grad_x.place,
        distinct.place(),
        begins.place(),
        rows.place(),
        int(grad_x.width)
    ];
    by_rows(device, "embed_backward", *count, grad_x.width, arguments)
}

/// `y[i] = x[rows[i]]`.
pub(super) fn gather_rows(
    device: &Device,
    x: Place<Real>,
    rows: Place<u32>,
    y: Matrix<Real>,
) -> Result<(), Fault> {
    let arguments = arguments![y.place, x, rows, int(y.width)];
    by_rows(device, "gather_rows", y.rows, y.width, arguments)
}

/// `y[rows[i]] = x[i]`; no row may occur twice.
pub(super) fn scatter_rows(
    device: &Device,
    x: Matrix<Real>,
    rows: Place<u32>,
    y: Place<Real>,
) -> Result<(), Fault> {
    let arguments = arguments![y, x.place, rows, int(x.width)];
    by_rows(device, "scatter_rows", x.rows, x.width, arguments)
}

/// Fills each row with the bias.
pub(super) fn fill_rows(device: &Device, bias: Place<f32>, y: Matrix<Real>) -> Result<(), Fault> {
    by_rows(device, "fill_rows", y.rows, y.width, arguments![y.place, bias, int(y.width)])
}

/// Rounds numbers as the device stores them.
pub(super) fn convert(
    device: &Device,
    x: Place<f32>,
    y: Place<Real>,
    count: usize,
) -> Result<(), Fault> {
    by_numbers(device, "convert", count, arguments![y, x, count])
}

/// `(rows, 2 inner)` to `y (rows, inner)`.
pub(super) fn swiglu(device: &Device, gate_up: Place<Real>, y: Matrix<Real>) -> Result<(), Fault> {
    let count = y.rows * y.width;
    by_numbers(device, "swiglu", count, arguments![y.place, gate_up, int(y.width), count])
}

/// Writes the gradient of `gate_up`.
pub(super) fn swiglu_backward(
    device: &Device,
    gate_up: Place<Real>,
    grad_y: Matrix<Real>,
    grad: Place<Real>,
) -> Result<(), Fault> {
    let count = grad_y.rows * grad_y.width;
    let arguments = arguments![grad, grad_y.place, gate_up, int(grad_y.width), count];
    by_numbers(device, "swiglu_backward", count, arguments)
}

/// Writes the loss (nats) of each row, and scale · its gradient where it is wanted; the gradient may
/// take the place of the logits.
pub(super) fn cross_entropy(
    device: &Device,
    logits: Matrix<f32>,
    targets: Place<u32>,
    scale: f32,
    losses: Place<f32>,
    gradient: Option<Place<Real>>,
) -> Result<(), Fault> {
    let gradient = gradient.unwrap_or(Place::NONE);
    let arguments = arguments![gradient, losses, logits.place, targets, scale, int(logits.width)];
    by_rows(device, "cross_entropy", logits.rows, logits.width, arguments)
}

/// Adds scale · the sum of the losses to `sum`.
pub(super) fn add_losses(
    device: &Device,
    losses: Place<f32>,
    count: usize,
    scale: f32,
    sum: Place<f64>,
) -> Result<(), Fault> {
    by_one_block(device, "add_losses", arguments![sum, losses, scale, count])
}

/// Blocks that take squares side by side. A constant: sums must not depend on the device.
pub(super) const SQUARE_BLOCKS: usize = 1024;

/// Writes the sum of squares; `partial` has room for [`SQUARE_BLOCKS`].
pub(super) fn sum_of_squares(
    device: &Device,
    x: Place<f32>,
    count: usize,
    partial: Place<f64>,
    sum: Place<f64>,
) -> Result<(), Fault> {
    let blocks = SQUARE_BLOCKS.min(count.div_ceil(THREADS));
    device.launch(&Launch {
        kernel: "squares",
        grid: [blocks, 1],
        threads: THREADS,
        shared: 0,
        arguments: arguments![partial, x, count],
    })?;
    by_one_block(device, "add_partial", arguments![sum, partial, int(blocks)])
}

/// Sets `flag` if a number is infinite or not a number.
pub(super) fn find_not_finite(
    device: &Device,
    x: Place<f32>,
    count: usize,
    flag: Place<u32>,
) -> Result<(), Fault> {
    by_numbers(device, "find_not_finite", count, arguments![flag, x, count])
}

/// The buffers of AdamW at a group of parameters.
pub(super) struct Moved {
    pub(super) parameters: Place<f32>,
    /// The copy that products read.
    pub(super) working: Option<Place<Real>>,
    pub(super) gradient: Place<f32>,
    pub(super) first_moment: Place<f32>,
    pub(super) second_moment: Place<f32>,
    pub(super) count: usize,
}

/// Takes a step of AdamW.
pub(super) fn adamw(
    device: &Device,
    moved: &Moved,
    factors: &crate::optimizer::Factors,
) -> Result<(), Fault> {
    let Moved { parameters, working, gradient, first_moment, second_moment, count } = *moved;
    let arguments = arguments![
        parameters,
        working.unwrap_or(Place::NONE),
        gradient,
        first_moment,
        second_moment,
        count,
        factors.gradient_scale,
        factors.keep,
        factors.beta1,
        factors.beta2,
        factors.rest1,
        factors.rest2,
        factors.step_size,
        factors.root_scale,
        factors.epsilon,
    ];
    by_numbers(device, "adamw", count, arguments)
}
