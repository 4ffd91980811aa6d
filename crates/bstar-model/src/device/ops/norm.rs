//! Norms of the residual stream and of query and key heads, and sums over rows.

use super::{Matrix, by_rows, int};
use crate::device::Device;
use crate::device::accelerator::{Argument, Launch};
use crate::device::memory::{Buffer, Place, Real};
use bstar_core::Fault;

/// A norm: its weight, and what the forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    /// `(width)`.
    pub(crate) weight: Place<f32>,
    /// Added to the mean square before its root.
    pub(crate) epsilon: f32,
    /// 1 / rms of each row.
    pub(crate) inverse: Place<f32>,
}

impl Norm {
    /// Normalises rows of the residual stream.
    pub(crate) fn forward(
        self,
        device: &Device,
        x: Matrix<f32>,
        y: Place<Real>,
    ) -> Result<(), Fault> {
        let Self { weight, epsilon, inverse } = self;
        let arguments = arguments![y, inverse, x.place, weight, epsilon, int(x.width)];
        by_rows(device, "norm_stream", x.rows, x.width, arguments)
    }

    /// Adds to the gradients of the stream and of the weight.
    pub(crate) fn backward(
        self,
        device: &Device,
        x: Matrix<f32>,
        grad_y: Place<Real>,
        grad_x: Place<f32>,
        grad_weight: Place<f32>,
        partial: &mut Buffer<f32>,
    ) -> Result<(), Fault> {
        let Self { weight, inverse, .. } = self;
        let width = int(x.width);
        let sums = ColumnSums { rows: x.rows, width: x.width };
        sums.add(device, "norm_stream_weight", grad_weight, partial, |partial| {
            arguments![partial, grad_y, x.place, inverse, int(x.rows), int(CHUNK), width].to_vec()
        })?;
        let arguments = arguments![grad_x, grad_y, x.place, inverse, weight, width];
        by_rows(device, "norm_stream_backward", x.rows, x.width, arguments)
    }

    /// Normalises heads, from x to y.
    pub(crate) fn forward_heads(
        self,
        device: &Device,
        heads: HeadRows,
        x: Place<Real>,
        y: Place<Real>,
    ) -> Result<(), Fault> {
        let Self { weight, epsilon, inverse } = self;
        let [count, width, stride, offset] = heads.arguments();
        let arguments = arguments![y, inverse, x, weight, epsilon, count, width, stride, offset];
        by_rows(device, "norm_heads", heads.rows(), heads.head_dim, arguments)
    }

    /// Turns `grad` from the gradient of y into that of x, and adds to that of the weight.
    pub(crate) fn backward_heads(
        self,
        device: &Device,
        heads: HeadRows,
        x: Place<Real>,
        grad: Place<Real>,
        grad_weight: Place<f32>,
        partial: &mut Buffer<f32>,
    ) -> Result<(), Fault> {
        let Self { weight, inverse, .. } = self;
        let [count, width, stride, offset] = heads.arguments();
        let sums = ColumnSums { rows: heads.rows(), width: heads.head_dim };
        sums.add(device, "norm_heads_weight", grad_weight, partial, |partial| {
            let (rows, chunk) = (int(heads.rows()), int(CHUNK));
            arguments![partial, grad, x, inverse, rows, chunk, count, width, stride, offset]
                .to_vec()
        })?;
        let arguments = arguments![grad, x, inverse, weight, count, width, stride, offset];
        by_rows(device, "norm_heads_backward", heads.rows(), heads.head_dim, arguments)
    }
}

/// Heads side by side in wider rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadRows {
    /// Rows of the buffer.
    pub(crate) tokens: usize,
    /// Heads in a row.
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// Width of a row.
    pub(crate) stride: usize,
    /// Where the first head begins.
    pub(crate) offset: usize,
}

impl HeadRows {
    fn rows(self) -> usize {
        self.tokens * self.heads
    }

    fn arguments(self) -> [i32; 4] {
        [self.heads, self.head_dim, self.stride, self.offset].map(int)
    }
}

/// Adds the sum of the rows to the gradient of a bias.
pub(crate) fn bias_backward(
    device: &Device,
    grad_y: Matrix<Real>,
    grad_bias: Place<f32>,
    partial: &mut Buffer<f32>,
) -> Result<(), Fault> {
    let Matrix { place, rows, width } = grad_y;
    let sums = ColumnSums { rows, width };
    sums.add(device, "bias_partial", grad_bias, partial, |partial| {
        arguments![partial, place, int(rows), int(CHUNK), int(width)].to_vec()
    })
}

/// Rows that are summed by one thread. A constant: sums must not depend on the device.
const CHUNK: usize = 64;

/// A sum over rows, one number for each column.
struct ColumnSums {
    rows: usize,
    width: usize,
}

impl ColumnSums {
    fn add(
        &self,
        device: &Device,
        kernel: &'static str,
        gradient: Place<f32>,
        partial: &mut Buffer<f32>,
        arguments: impl FnOnce(Place<f32>) -> Vec<Argument>,
    ) -> Result<(), Fault> {
        let Self { rows, width } = *self;
        let chunks = rows.div_ceil(CHUNK);
        partial.grow(device, chunks * width)?;
        let threads = width.next_multiple_of(32).min(128);
        let columns = width.div_ceil(threads);
        let launch = |kernel, grid, arguments: &[Argument]| {
            device.launch(&Launch { kernel, grid, threads, shared: 0, arguments })
        };
        launch(kernel, [chunks, columns], &arguments(partial.place()))?;
        let arguments = arguments![gradient, partial.place(), int(chunks), int(width)];
        launch("columns_total", [1, columns], arguments)
    }
}
