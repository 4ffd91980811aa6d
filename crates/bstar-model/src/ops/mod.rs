//! The operations of the transformer, each with its own backward pass.
//!
//! Plain functions over slices, row after row. A forward function fills its output; a backward
//! function takes the gradient of the output and gives the gradients of the inputs, either written
//! or added, as its name or documentation says. All of them run on the calling thread: parallelism
//! lies above, over parts of a batch, so that no result depends on the number of threads. Every
//! gradient is checked by finite differences in the file, and against PyTorch in `tests/`.
//!
//! There is no tape. `docs/design/engine.md` has the measurements that led here.

pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod cross_entropy;
pub(crate) mod exponential;
pub(crate) mod gather;
pub(crate) mod head_norms;
pub(crate) mod linear;
pub(crate) mod matmul;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod swiglu;
pub(crate) mod tile_product;
pub(crate) mod vectors;

#[cfg(test)]
pub(crate) mod gradient_check;
