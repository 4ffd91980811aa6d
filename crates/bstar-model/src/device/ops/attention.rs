//! Rotation, attention over packed sequences, and attention over the cache of sampling.

use super::{int, threads_of_row};
use crate::device::Device;
use crate::device::accelerator::{Argument, Launch};
use crate::device::memory::{Place, Real};
use bstar_core::{Fault, FaultClass};

/// Heads of a layer and what of each other they see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadShape {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key-value heads.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// Tokens that a token sees, itself included.
    pub(crate) window: usize,
}

impl HeadShape {
    /// Width of a row of queries, keys and values.
    pub(crate) fn packed_width(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    fn window(self) -> u32 {
        u32::try_from(self.window).unwrap_or(u32::MAX)
    }

    fn shape(self) -> [i32; 3] {
        [self.heads, self.kv_heads, self.head_dim].map(int)
    }

    /// Whether a device can compute heads like these.
    pub(crate) fn check(device: &Device, head_dim: usize) -> Result<(), Fault> {
        let fits = shared(KEY_PASS, head_dim) <= device.accelerator.shared_memory();
        if head_dim <= WIDEST_HEAD && fits {
            return Ok(());
        }
        let message = format!("{} cannot compute heads of {head_dim} numbers", device.name());
        Err(Fault::new(FaultClass::Usage, message).hint("set `run.device = \"cpu\"`"))
    }
}

/// Turns queries and keys of packed rows by their positions, forwards (1) or back (-1).
pub(crate) fn rotate(
    device: &Device,
    heads: HeadShape,
    rows: usize,
    qkv: Place<Real>,
    positions: Place<u32>,
    [cosines, sines]: [Place<f32>; 2],
    direction: f32,
) -> Result<(), Fault> {
    let turned = heads.heads + heads.kv_heads;
    let threads = threads_of_row(turned * heads.head_dim / 2);
    let [turned, head_dim, stride] = [turned, heads.head_dim, heads.packed_width()].map(int);
    let arguments = arguments![qkv, positions, cosines, sines, turned, head_dim, stride, direction];
    device.launch(&Launch { kernel: "rotate", grid: [rows, 1], threads, shared: 0, arguments })
}

/// Attention over packed sequences, whose tiles were listed by [`Attention::tiles`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    /// The heads.
    pub(crate) heads: HeadShape,
    /// Three numbers for each tile.
    pub(crate) tiles: Place<u32>,
    /// How many.
    pub(crate) count: usize,
}

impl Attention {
    /// First and last + 1 token of a sequence and first token of a tile, for every tile.
    pub(crate) fn tiles(sequences: &[std::ops::Range<usize>]) -> Vec<u32> {
        let number = |x| u32::try_from(x).expect("a batch of less than 2^32 tokens");
        let of_sequence = |sequence: &std::ops::Range<usize>| {
            let (start, end) = (sequence.start, sequence.end);
            let starts = (start..end).step_by(BLOCK_ROWS);
            starts.flat_map(move |first| [start, end, first]).collect::<Vec<_>>()
        };
        sequences.iter().flat_map(of_sequence).map(number).collect()
    }

    /// Fills `output (tokens, heads · d)` and the logarithm of each row's sum of exponentials.
    pub(crate) fn forward(
        self,
        device: &Device,
        qkv: Place<Real>,
        output: Place<Real>,
        log_totals: Place<f32>,
    ) -> Result<(), Fault> {
        let arguments = [output.into(), log_totals.into(), qkv.into(), self.tiles.into()];
        self.launch(device, "attention_forward", self.heads.heads, FORWARD_PASS, &arguments)
    }

    /// Fills `grad_qkv`, the gradient of the turned queries and keys and of the values. `deltas` is
    /// room for a number for each token and head.
    pub(crate) fn backward(
        self,
        device: &Device,
        tokens: usize,
        saved: &Saved,
        grad_output: Place<Real>,
        deltas: Place<f32>,
        grad_qkv: Place<Real>,
    ) -> Result<(), Fault> {
        let Saved { qkv, output, log_totals } = *saved;
        device.launch(&Launch {
            kernel: "attention_deltas",
            grid: [tokens * self.heads.heads, 1],
            threads: 32,
            shared: 0,
            arguments: arguments![deltas, output, grad_output, int(self.heads.head_dim)],
        })?;
        let arguments = arguments![grad_qkv, qkv, grad_output, log_totals, deltas, self.tiles];
        let HeadShape { heads, kv_heads, .. } = self.heads;
        self.launch(device, "attention_backward_queries", heads, QUERY_PASS, arguments)?;
        self.launch(device, "attention_backward_keys", kv_heads, KEY_PASS, arguments)
    }

    fn launch(
        self,
        device: &Device,
        kernel: &'static str,
        heads: usize,
        pass: Pass,
        arguments: &[Argument],
    ) -> Result<(), Fault> {
        let mut arguments = arguments.to_vec();
        arguments.extend(self.heads.shape().map(Argument::from));
        arguments.push(self.heads.window().into());
        device.launch(&Launch {
            kernel,
            grid: [self.count, heads],
            threads: 32 * WARPS,
            shared: shared(pass, self.heads.head_dim),
            arguments: &arguments,
        })
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved {
    /// Turned queries and keys, and values.
    pub(crate) qkv: Place<Real>,
    /// The output.
    pub(crate) output: Place<Real>,
    /// The logarithm of each row's sum of exponentials.
    pub(crate) log_totals: Place<f32>,
}

/// Warps of a block, the rows that it owns, and rows of a tile of the other side; as in
/// `kernels/attention.cu`.
const WARPS: usize = 4;
const BLOCK_ROWS: usize = 16;
const TILE: usize = 32;
const WIDEST_HEAD: usize = 256;

/// What a kernel keeps in shared memory: buffers of the block's rows, of tiles, and of weights.
#[derive(Clone, Copy)]
struct Pass {
    own: usize,
    tiles: usize,
    weights: usize,
}

const FORWARD_PASS: Pass = Pass { own: 1, tiles: 2, weights: 1 };
const QUERY_PASS: Pass = Pass { own: 2, tiles: 2, weights: 1 };
const KEY_PASS: Pass = Pass { own: 2, tiles: 2, weights: 2 };

/// Bytes of shared memory.
fn shared(pass: Pass, head_dim: usize) -> usize {
    let own = pass.own * BLOCK_ROWS * head_dim;
    // A number more in each row, so that lanes that read a column do not meet in a bank.
    let tiles = pass.tiles * TILE * (head_dim + 1);
    let weights = pass.weights * BLOCK_ROWS * TILE;
    size_of::<f32>() * (own + tiles + weights)
}

/// Keys and values of one layer, of every lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheShape {
    /// The heads.
    pub(crate) heads: HeadShape,
    /// Slots of a lane.
    pub(crate) capacity: usize,
    /// `(lanes, capacity, kv_heads · d)`.
    pub(crate) keys: Place<Real>,
    /// The same.
    pub(crate) values: Place<Real>,
}

impl CacheShape {
    /// Puts the token of each lane into its slot and attends to what it sees.
    pub(crate) fn step(
        self,
        device: &Device,
        lanes: usize,
        qkv: Place<Real>,
        positions: Place<u32>,
        output: Place<Real>,
    ) -> Result<(), Fault> {
        let Self { heads, keys, values, .. } = self;
        let [query_width, kv_width, capacity] = self.widths();
        device.launch(&Launch {
            kernel: "store_token",
            grid: [lanes, 1],
            threads: threads_of_row(heads.kv_heads * heads.head_dim),
            shared: 0,
            arguments: arguments![keys, values, qkv, positions, query_width, kv_width, capacity],
        })?;
        let [query_heads, kv_heads, head_dim] = heads.shape();
        let arguments = arguments![
            output,
            qkv,
            keys,
            values,
            positions,
            query_heads,
            kv_heads,
            head_dim,
            capacity,
            heads.window()
        ];
        device.launch(&Launch {
            kernel: "attend_cache",
            grid: [heads.heads, lanes],
            threads: 32 * WARPS,
            shared: WARPS * heads.head_dim * size_of::<f32>(),
            arguments,
        })
    }

    /// Puts prompts into lanes: three numbers for each, the lane, the first row of the prompt in
    /// `qkv`, and its length.
    pub(crate) fn store_prompts(
        self,
        device: &Device,
        qkv: Place<Real>,
        (entries, count): (Place<u32>, usize),
        longest: usize,
    ) -> Result<(), Fault> {
        let [query_width, kv_width, capacity] = self.widths();
        device.launch(&Launch {
            kernel: "store_prompts",
            grid: [longest, count],
            threads: threads_of_row(self.heads.kv_heads * self.heads.head_dim),
            shared: 0,
            arguments: arguments![
                self.keys,
                self.values,
                qkv,
                entries,
                query_width,
                kv_width,
                capacity
            ],
        })
    }

    fn widths(self) -> [Argument; 3] {
        let HeadShape { heads, kv_heads, head_dim, .. } = self.heads;
        let capacity = u32::try_from(self.capacity).expect("a context of less than 2^32 tokens");
        [int(heads * head_dim).into(), int(kv_heads * head_dim).into(), capacity.into()]
    }
}
