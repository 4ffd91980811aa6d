//! What the engine asks of a device: memory, kernels by name, matrix products. The seam between the
//! host code of this module and whatever computes.
//!
//! Work is queued in order; only [`Accelerator::download`] waits for it.
//! Addresses are numbers: who launches a kernel answers for what its arguments point to. Only the
//! buffers of [`super::memory`] make addresses.

use super::Precision;
use bstar_core::Fault;
use std::fmt::Debug;

/// A device that runs the kernels of `kernels/`.
pub(crate) trait Accelerator: Debug + Send + Sync {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// How the kernels store activations and matrices.
    fn precision(&self) -> Precision;

    /// Bytes that can still be allocated.
    fn free_memory(&self) -> Result<usize, Fault>;

    /// Bytes of shared memory that a block can have.
    fn shared_memory(&self) -> usize;

    /// Takes memory, whose contents are arbitrary.
    fn allocate(&self, bytes: usize) -> Result<u64, Fault>;

    /// Gives memory back, after the work that is queued.
    fn release(&self, address: u64);

    /// Fills memory with zeros.
    fn clear(&self, address: u64, bytes: usize) -> Result<(), Fault>;

    /// Copies from the host; `from` may change when this returns.
    fn upload(&self, from: &[u8], to: u64) -> Result<(), Fault>;

    /// Copies to the host after all work that was queued before.
    fn download(&self, from: u64, to: &mut [u8]) -> Result<(), Fault>;

    /// Copies within the device.
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), Fault>;

    /// Queues a kernel.
    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault>;

    /// Queues a matrix product.
    fn multiply(&self, product: &Product) -> Result<(), Fault>;
}

/// A kernel with its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch<'a> {
    /// Its name in `kernels/`.
    pub(crate) kernel: &'static str,
    /// Blocks: x, y.
    pub(crate) grid: [usize; 2],
    /// Threads of a block, a multiple of 32.
    pub(crate) threads: usize,
    /// Bytes of shared memory whose size the host gives.
    pub(crate) shared: usize,
    /// In the order of the kernel's parameters.
    pub(crate) arguments: &'a [Argument],
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Argument {
    /// A pointer.
    Address(u64),
    /// `int`.
    Int(i32),
    /// `unsigned`.
    Unsigned(u32),
    /// `size_t`.
    Size(u64),
    /// `float`.
    Float(f32),
    /// `double`.
    Double(f64),
}

impl Argument {
    /// Its bytes, in front; no type is longer than eight.
    pub(crate) fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        match self {
            Self::Address(x) | Self::Size(x) => bytes = x.to_ne_bytes(),
            Self::Double(x) => bytes = x.to_ne_bytes(),
            Self::Int(x) => bytes[..4].copy_from_slice(&x.to_ne_bytes()),
            Self::Unsigned(x) => bytes[..4].copy_from_slice(&x.to_ne_bytes()),
            Self::Float(x) => bytes[..4].copy_from_slice(&x.to_ne_bytes()),
        }
        bytes
    }
}

/// How the numbers of a matrix are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberType {
    /// `f32`.
    Float,
    /// bfloat16: the upper half of an `f32`.
    Bfloat,
}

/// A matrix of a product, column after column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    /// Where it lies.
    pub(crate) address: u64,
    /// How its numbers are stored.
    pub(crate) numbers: NumberType,
    /// Numbers from one column to the next.
    pub(crate) stride: usize,
    /// Whether its transpose is meant.
    pub(crate) transposed: bool,
}

/// `c (m, n) = alpha · a (m, k) · b (k, n)`, or added to what is there; the convention of BLAS: columns
/// follow one another. Sums are `f32`, without reduced precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// Rows of c, columns of c, and what is summed over.
    pub(crate) size: [usize; 3],
    /// The factor.
    pub(crate) alpha: f32,
    /// Left.
    pub(crate) a: Operand,
    /// Right.
    pub(crate) b: Operand,
    /// Whether c is added to.
    pub(crate) add: bool,
    /// The result, not transposed.
    pub(crate) c: Operand,
}
