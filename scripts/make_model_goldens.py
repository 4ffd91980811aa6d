"""Writes the golden files that `cargo test -p bstar-model` compares the engine with.

    python scripts/make_model_goldens.py [--digits FOLDER]

Needs torch, transformers, peft and safetensors, in an environment of their own. For each family of models it makes
a tiny one of random numbers (fixed seeds) and writes to `crates/bstar-model/tests/goldens/FAMILY`:

- the model folder as `save_pretrained` writes it, in single precision;
- `expected.safetensors`: the logits of the examples and some gradients of their loss, in double precision;
- `adapter/`: a LoRA adapter as `peft` writes it;
- `golden.json`: the examples, a greedy response, the losses of 50 AdamW steps of all weights, and of the adapter.

With `--digits`, a model folder that is not ours, it also writes the greedy responses of that model to
`tests/goldens/digits.json`. The files are committed; they change only when this script does.
"""

import argparse
import json
import random
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

GOLDENS = Path(__file__).resolve().parent.parent / "crates/bstar-model/tests/goldens"
VOCABULARY, EOS, PENALTY = 32, 1, 1.4
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "eos_token_id": EOS, "bos_token_id": None, "pad_token_id": None, "attn_implementation": "eager",
}
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 24}
FAMILIES = {
    "llama2": ("Llama", {"num_key_value_heads": 4, "rope_parameters": {"rope_type": "linear", "factor": 2.0,
                                                                       "rope_theta": 10000.0}}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True, "head_dim": 16}),
    "mistral": ("Mistral", {"sliding_window": 6}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 5,
                        "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 1, "head_dim": 10}),
}
OPTIMIZER = {"learning_rate": 3e-3, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-8, "weight_decay": 0.1,
             "clip_norm": 1.0, "steps": 50}
LORA = {"r": 2, "lora_alpha": 6, "lora_dropout": 0.0, "bias": "none", "task_type": "CAUSAL_LM"}
TARGETS = {"mistral": ["q_proj", "v_proj"], "qwen2": ["k_proj", "o_proj", "down_proj"]}
ALL_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GRADIENTS = ["self_attn.k_proj.weight", "self_attn.k_proj.bias", "self_attn.q_norm.weight",
             "self_attn.k_norm.weight", "post_attention_layernorm.weight"]


def examples(seed):
    """Prompts and responses of tokens, some longer than every window."""
    draw = random.Random(seed)
    tokens = lambda count: [draw.randrange(2, VOCABULARY) for _ in range(count)]
    return [{"prompt": tokens(p), "response": tokens(r)} for p, r in [(7, 16), (1, 9), (12, 3)]]


def batch_loss(model, batch):
    """Mean cross-entropy over response tokens and the end-of-sequence token, and all logits."""
    total, count, logits = 0.0, 0, []
    for example in batch:
        tokens = torch.tensor([example["prompt"] + example["response"] + [EOS]])
        out = model(input_ids=tokens[:, :-1]).logits[0]
        start = len(example["prompt"])
        targets = tokens[0, start:]
        total = total + torch.nn.functional.cross_entropy(out[start - 1 :], targets, reduction="sum")
        count += len(targets)
        logits.append(out.detach())
    return total / count, torch.cat(logits)


def train(model, batch):
    """The losses before each of the steps."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": OPTIMIZER["weight_decay"]},
        {"params": [p for p in trained if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER["learning_rate"], eps=OPTIMIZER["epsilon"],
                                  betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]))
    losses = []
    for _ in range(OPTIMIZER["steps"]):
        optimizer.zero_grad()
        loss, _ = batch_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, OPTIMIZER["clip_norm"])
        optimizer.step()
        losses.append(loss.item())
    return losses


def greedy(model, prompt, count, penalty=1.0):
    """The likeliest tokens, without a cache; at most one end of sequence, at the end."""
    tokens = list(prompt)
    penalise = transformers.RepetitionPenaltyLogitsProcessor(penalty)
    with torch.no_grad():
        while len(tokens) < len(prompt) + count and tokens[-1] != EOS:
            before = torch.tensor([tokens])
            tokens.append(int(penalise(before, model(input_ids=before).logits[:, -1]).argmax()))
    return tokens[len(prompt) :]


def randomize(model, seed):
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter) * 0.25
        parameter.data = 1.0 + noise if "norm" in name else noise


def adapter(folder, seed, batch, family):
    """Writes an adapter and returns the losses of its training, and the loss that it starts from."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    model = get_peft_model(model, LoraConfig(target_modules=TARGETS.get(family, ALL_TARGETS), **LORA))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.2
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    described = folder / "adapter" / "adapter_config.json"
    # `peft` writes where the base lay on this machine, and targets in an order of its own.
    config = json.loads(described.read_text()) | {"base_model_name_or_path": None}
    config["target_modules"].sort()
    described.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return train(PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True).double(), batch)


def make(seed, family):
    kind, settings = FAMILIES[family]
    config = getattr(transformers, f"{kind}Config")(**(SHAPE | settings))
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    randomize(model, seed)
    folder = GOLDENS / family
    model.save_pretrained(folder)
    batch = examples(seed)
    golden = {"examples": batch, "eos": EOS, "optimizer": OPTIMIZER,
              "lora_losses": adapter(folder, seed, batch, family)}
    model = model.double()
    prompt = batch[0]["prompt"]
    golden["greedy"] = {"prompt": prompt, "response": greedy(model, prompt, 24),
                        "penalised": greedy(model, prompt, 24, PENALTY)}
    loss, logits = batch_loss(model, batch)
    loss.backward()
    tensors = {"logits": logits.float()}
    for name, parameter in model.named_parameters():
        if any(f"layers.1.{end}" in name for end in GRADIENTS) or name.endswith("model.norm.weight"):
            tensors[f"gradients.{name}"] = parameter.grad.float().contiguous()
    save_file(tensors, folder / "expected.safetensors")
    golden["losses"] = train(model, batch)
    (folder / "golden.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")


def digits(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    draw = random.Random(7)
    rows = []
    for _ in range(64):
        prompt = [draw.randrange(3, model.config.vocab_size) for _ in range(draw.randrange(2, 24))]
        rows.append({"prompt": prompt, "response": greedy(model, prompt, 16)})
    lines = ",\n".join(json.dumps(row) for row in rows)
    (GOLDENS / "digits.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, help="also write the greedy responses of this model")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    for seed, family in enumerate(FAMILIES):
        make(seed, family)
    if arguments.digits:
        digits(arguments.digits)


if __name__ == "__main__":
    main()
