//! The families of models that the engine runs, and what sets them apart.
//!
//! All of them are the Llama layer: RMS norms, rotary embedding, grouped-query attention, `SwiGLU`.
//! A family adds biases, norms of queries and keys, or a sliding window, and has its own names and
//! defaults in `config.json`.

/// A family of models with the Llama layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 2, 3, 3.1, 3.2 and what is shaped like them.
    Llama,
    /// Mistral: a sliding window in every layer.
    Mistral,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: RMS norms of each query and key head.
    Qwen3,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The `model_type` of its configs.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The name in `architectures`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// Whether queries, keys and values have a bias.
    pub fn has_attention_bias(self) -> bool {
        self == Self::Qwen2
    }

    /// Whether each query and key head is normalised before it is turned.
    pub fn has_head_norms(self) -> bool {
        self == Self::Qwen3
    }

    /// `max_position_embeddings` where a config has none.
    pub(super) fn default_context(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Mistral => 131_072,
            Self::Qwen2 | Self::Qwen3 => 32_768,
        }
    }
}

/// A bound on how far back a token sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Tokens that a token sees, itself included; positive.
    pub tokens: usize,
    /// Layers before this one see everything.
    pub first_layer: usize,
}
