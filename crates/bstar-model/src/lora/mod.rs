//! LoRA (Hu et al., arXiv 2106.09685): training a low-rank change of some matrices instead of all
//! weights.
//!
//! A matrix W0 `[out, in]` becomes W = W0 + s · B · A with A `[rank, in]` and B `[out, rank]`; only
//! the factors A and B are trained. The engine runs on the merged matrices W and makes them again
//! after each step from W0, so that nothing drifts and sampling costs what it costs without an
//! adapter. The gradients of the factors follow from that of W: dA = s · Bᵀ · dW, dB = s · dW · Aᵀ.
//! That is exact, and what PEFT computes up to rounding. Departure from PEFT: there is no dropout.
//!
//! [`folder`] reads and writes adapters as PEFT does, [`merge`] makes model folders of them.

pub mod folder;
pub mod merge;

use crate::config::ModelConfig;
use crate::ops::matmul::{Matrix, MatrixMut, Write, matmul};
use crate::parameters::ParameterGroup;
use crate::weights::Weights;
use bstar_core::RngKey;
use bstar_core::rng::uniform;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A kind of matrix that a layer has; the names are those of Hugging Face.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LoraTarget {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// From the heads back to the residual stream.
    OProj,
    /// The gate of the feed-forward block.
    GateProj,
    /// What the gate lets through.
    UpProj,
    /// From the feed-forward block back to the residual stream.
    DownProj,
}

impl LoraTarget {
    /// Every kind, in the order in which a layer has them.
    pub const ALL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// The name of its module in a layer: `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }
}

/// The shape of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSettings {
    /// Rank of the trained change of a matrix. 0 trains all weights and no adapter.
    pub rank: usize,
    /// The change is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// The matrices that are changed, in every layer.
    pub targets: Vec<LoraTarget>,
    /// Multiply by `alpha / sqrt(rank)` instead (rsLoRA, Kalajdzievski, arXiv 2312.03732).
    pub rslora: bool,
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self { rank: 0, alpha: 16.0, targets: LoraTarget::ALL.into(), rslora: false }
    }
}

impl LoraSettings {
    /// What the product of the factors is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// The factors of the adapted matrices of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    settings: LoraSettings,
    pairs: Vec<Pair>,
    factors: Vec<f32>,
}

/// The two factors of a matrix. They are neighbours in the flat buffer: A, then B.
#[derive(Clone, Debug, PartialEq)]
struct Pair {
    /// The module of the matrix: the name of its tensor without `.weight`.
    module: String,
    /// `[out, in]` of the matrix.
    shape: [usize; 2],
    /// Where the matrix lies in the flat buffer of the model.
    matrix: Range<usize>,
    /// Where the factors lie in the flat buffer of the adapter.
    factors: Range<usize>,
}

/// Where an adapted matrix W0 + scale · B · A and its factors begin in their flat buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FactorPair {
    /// `[out, in]` of the matrix.
    pub(crate) shape: [usize; 2],
    /// Rows of A and columns of B.
    pub(crate) rank: usize,
    /// What the product is multiplied by.
    pub(crate) scale: f32,
    /// The matrix, in the model's buffer.
    pub(crate) matrix: usize,
    /// A, in the adapter's buffer.
    pub(crate) down: usize,
    /// B, in the adapter's buffer.
    pub(crate) up: usize,
}

impl Adapter {
    /// A fresh adapter as PEFT makes it: A uniform within `1/sqrt(in)` of 0, B zero, so that the
    /// model begins as its base. A matrix depends on `key` and its name only.
    ///
    /// # Panics
    /// If the rank is 0.
    pub fn fresh(config: &ModelConfig, settings: LoraSettings, key: RngKey) -> Self {
        let rank = settings.rank;
        let mut adapter = Self::empty(config, settings);
        for pair in &adapter.pairs {
            let [_, inner] = pair.shape;
            let bound = 1.0 / (inner as f64).sqrt();
            let mut rng = key.child(&pair.module).rng();
            for number in &mut adapter.factors[pair.factors.clone()][..rank * inner] {
                #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                let drawn = ((2.0 * uniform(&mut rng) - 1.0) * bound) as f32;
                *number = drawn;
            }
        }
        adapter
    }

    /// An adapter of zeros.
    fn empty(config: &ModelConfig, settings: LoraSettings) -> Self {
        assert!(settings.rank > 0, "an adapter has a rank");
        let (mut pairs, mut offset, mut end) = (Vec::new(), 0, 0);
        for (name, shape) in config.tensor_shapes() {
            let start = offset;
            offset += shape.iter().product::<usize>();
            let Some(module) = name.strip_suffix(".weight") else { continue };
            let target = module.rsplit('.').next().and_then(LoraTarget::from_name);
            let (Some(target), &[outer, inner]) = (target, &*shape) else { continue };
            if settings.targets.contains(&target) {
                let factors = end..end + settings.rank * (inner + outer);
                end = factors.end;
                let (module, shape) = (module.to_owned(), [outer, inner]);
                pairs.push(Pair { module, shape, matrix: start..offset, factors });
            }
        }
        Self { settings, pairs, factors: vec![0.0; end] }
    }

    /// Its shape.
    pub fn settings(&self) -> &LoraSettings {
        &self.settings
    }

    /// Name and shape of every tensor in the order of the flat buffer; the names are those of PEFT:
    /// for each matrix `….lora_A.weight`, `[rank, in]`, then `….lora_B.weight`, `[out, rank]`.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let rank = self.settings.rank;
        let tensors =
            self.pairs.iter().flat_map(|Pair { module, shape: [outer, inner], .. }| {
                let name = |factor| format!("base_model.model.{module}.lora_{factor}.weight");
                [(name("A"), vec![rank, *inner]), (name("B"), vec![*outer, rank])]
            });
        tensors.collect()
    }

    /// The factors, one buffer in the order of [`Adapter::tensor_shapes`].
    pub fn factors(&self) -> &[f32] {
        &self.factors
    }

    /// The same, to be changed.
    pub fn factors_mut(&mut self) -> &mut [f32] {
        &mut self.factors
    }

    /// Where each adapted matrix and its factors lie.
    pub(crate) fn factor_pairs(&self) -> impl Iterator<Item = FactorPair> + '_ {
        let Self { settings, pairs, .. } = self;
        #[expect(clippy::cast_possible_truncation, reason = "arithmetic is f32")]
        let scale = settings.scale() as f32;
        let rank = settings.rank;
        pairs.iter().map(move |Pair { shape, matrix, factors, .. }| FactorPair {
            shape: *shape,
            rank,
            scale,
            matrix: matrix.start,
            down: factors.start,
            up: factors.start + rank * shape[1],
        })
    }

    /// How the optimizer sees the factors: each a matrix, which decays.
    pub fn parameter_groups(&self) -> Vec<ParameterGroup> {
        let mut end = 0;
        let group = |(_, shape): (String, Vec<usize>)| {
            let start = end;
            end += shape.iter().product::<usize>();
            ParameterGroup { shape, range: start..end }
        };
        self.tensor_shapes().into_iter().map(group).collect()
    }

    /// Writes W0 + s · B · A of every adapted matrix into its place of `parameters`, the flat buffer
    /// of the model; the rest is left alone.
    ///
    /// # Panics
    /// If `base` is not of the config that the adapter was made for.
    pub fn merge(&self, base: &Weights, parameters: &mut [f32]) {
        let ranges = self.pairs.iter().map(|pair| pair.matrix.clone());
        let merge = |(pair, merged): (&Pair, &mut [f32])| {
            let (down, up, [outer, inner]) = self.scaled(pair);
            let matrix = base.get(&format!("{}.weight", pair.module));
            merged.copy_from_slice(matrix);
            let product = MatrixMut::new(merged, outer, inner);
            let rank = self.settings.rank;
            matmul(
                product,
                Write::Add,
                Matrix::new(&up, outer, rank),
                Matrix::new(down, rank, inner),
            );
        };
        self.pairs.par_iter().zip(pieces(parameters, ranges)).for_each(merge);
    }

    /// The weights of `base` with the adapter merged into them.
    ///
    /// # Panics
    /// If `base` is not of the config that the adapter was made for.
    pub fn merged(&self, base: &Weights) -> Weights {
        let mut parameters = base.to_flat();
        self.merge(base, &mut parameters);
        Weights::from_flat(&base.config, &parameters)
    }

    /// The gradient of the factors, in their order, from that of the merged weights in the order of
    /// the model's flat buffer.
    pub fn gradient(&self, of_weights: &[f32], gradient: &mut Vec<f32>) {
        gradient.resize(self.factors.len(), 0.0);
        let ranges = self.pairs.iter().map(|pair| pair.factors.clone());
        let rank = self.settings.rank;
        let fill = |(pair, gradient): (&Pair, &mut [f32])| {
            let (down, up, [outer, inner]) = self.scaled(pair);
            let (grad_down, grad_up) = gradient.split_at_mut(rank * inner);
            let of_matrix = Matrix::new(&of_weights[pair.matrix.clone()], outer, inner);
            let up = Matrix::new(&up, outer, rank).transposed();
            matmul(MatrixMut::new(grad_down, rank, inner), Write::Replace, up, of_matrix);
            let down = Matrix::new(down, rank, inner).transposed();
            matmul(MatrixMut::new(grad_up, outer, rank), Write::Replace, of_matrix, down);
            self.multiply_by_scale(grad_up);
        };
        self.pairs.par_iter().zip(pieces(gradient, ranges)).for_each(fill);
    }

    /// A and s · B of a matrix, and its shape.
    fn scaled(&self, pair: &Pair) -> (&[f32], Vec<f32>, [usize; 2]) {
        let factors = &self.factors[pair.factors.clone()];
        let (down, up) = factors.split_at(self.settings.rank * pair.shape[1]);
        let mut up = up.to_vec();
        self.multiply_by_scale(&mut up);
        (down, up, pair.shape)
    }

    fn multiply_by_scale(&self, numbers: &mut [f32]) {
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let scale = self.settings.scale() as f32;
        for number in numbers {
            *number *= scale;
        }
    }
}

/// Pieces of a buffer that follow one another, possibly with gaps.
fn pieces(buffer: &mut [f32], ranges: impl Iterator<Item = Range<usize>>) -> Vec<&mut [f32]> {
    let (mut rest, mut start) = (buffer, 0);
    let piece = |range: Range<usize>| {
        let (_, from_piece) = std::mem::take(&mut rest).split_at_mut(range.start - start);
        let (piece, after) = from_piece.split_at_mut(range.len());
        (rest, start) = (after, range.end);
        piece
    };
    ranges.map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::draw;
    use crate::size::ModelSize;

    fn settings() -> LoraSettings {
        let targets = vec![LoraTarget::QProj, LoraTarget::VProj, LoraTarget::DownProj];
        LoraSettings { rank: 3, alpha: 6.0, targets, rslora: false }
    }

    fn base() -> Weights {
        let config = ModelSize::from_width(16).unwrap().config(11, 32, 1);
        Weights::random(&config, RngKey::from_seed(1))
    }

    fn adapter() -> Adapter {
        let mut adapter = Adapter::fresh(&base().config, settings(), RngKey::from_seed(2));
        let numbers = draw(3, adapter.factors.len());
        adapter.factors_mut().copy_from_slice(&numbers);
        adapter
    }

    #[test]
    fn a_fresh_adapter_changes_nothing() {
        let base = base();
        let adapter = Adapter::fresh(&base.config, settings(), RngKey::from_seed(2));
        assert_eq!(adapter.merged(&base), base);
        let (name, shape) = &adapter.tensor_shapes()[0];
        assert_eq!(name, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
        assert_eq!(shape, &[3, 16]);
        let first = &adapter.factors()[..3 * 16];
        assert!(first.iter().all(|x| x.abs() <= 0.25) && first.iter().any(|x| x.abs() > 0.2));
        assert_eq!(adapter.parameter_groups().last().unwrap().range.end, adapter.factors().len());
    }

    #[test]
    fn merged_matrices_are_the_definition_and_the_rest_is_the_base() {
        for rslora in [false, true] {
            let (base, mut adapter) = (base(), adapter());
            adapter.settings.rslora = rslora;
            let merged = adapter.merged(&base);
            let scale: f32 = if rslora { 6.0 / 3_f32.sqrt() } else { 2.0 };
            for (name, tensor) in merged.tensors() {
                let before = base.get(name);
                let module = name.trim_end_matches(".weight");
                let Some(pair) = adapter.pairs.iter().find(|pair| pair.module == module) else {
                    assert_eq!(tensor.data, before, "{name}");
                    continue;
                };
                let [_, inner] = pair.shape;
                let (down, up) = adapter.factors[pair.factors.clone()].split_at(3 * inner);
                for (index, found) in tensor.data.iter().enumerate() {
                    let (row, column) = (index / inner, index % inner);
                    let change: f32 =
                        (0..3).map(|k| up[row * 3 + k] * down[k * inner + column]).sum();
                    let expected = before[index] + scale * change;
                    assert!((found - expected).abs() < 1e-4, "{name}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn gradients_of_the_factors_are_slopes_of_the_merged_weights() {
        const STEP: f32 = 1.0 / 128.0;
        let (base, adapter) = (base(), adapter());
        let form = draw(4, base.config.parameter_count());
        let mut gradient = Vec::new();
        adapter.gradient(&form, &mut gradient);
        for index in (0..gradient.len()).step_by(7) {
            let value = |by: f32| -> f64 {
                let mut moved = adapter.clone();
                moved.factors_mut()[index] += by;
                let merged = moved.merged(&base).to_flat();
                merged.iter().zip(&form).map(|(w, f)| f64::from(*w) * f64::from(*f)).sum()
            };
            let slope = (value(STEP) - value(-STEP)) / f64::from(2.0 * STEP);
            let found = f64::from(gradient[index]);
            assert!((found - slope).abs() < 5e-3 * (1.0 + slope.abs()), "{index}: {found} {slope}");
        }
    }
}
