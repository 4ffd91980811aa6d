"""Writes the golden files that tests/golden.rs compares the transformer with.

Run in a virtual environment with `torch`, `transformers` and `safetensors`, from this folder:

    python make_goldens.py

For each case: weights drawn from a seed, and, from PyTorch in double precision, the logits and the
loss of a small batch, all gradients, and the weights after 20 AdamW steps on it. The files are
tiny, of random numbers, and are committed; they change only when this script does.
"""

import json

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

EXAMPLES = [
    {"prompt": [3, 4, 5], "response": [6, 7, 8, 9]},
    {"prompt": [2], "response": [10, 3]},
    {"prompt": [5, 5, 9, 2, 4, 6, 7], "response": [8]},
]
EOS = 1
CASES = {
    "plain": {"num_attention_heads": 2, "num_key_value_heads": 2},
    "grouped": {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 50.0},
    "tied": {"num_attention_heads": 4, "num_key_value_heads": 1, "tie_word_embeddings": True},
}
OPTIMIZER = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-8,
             "weight_decay": 0.1, "clip_norm": 1.0, "steps": 20}


def batch_loss(model):
    """Mean cross-entropy over response tokens and the end-of-sequence token, and all logits."""
    total, count, logits = 0.0, 0, []
    for example in EXAMPLES:
        tokens = torch.tensor([example["prompt"] + example["response"] + [EOS]])
        out = model(input_ids=tokens[:, :-1]).logits[0]
        start = len(example["prompt"])
        log_probabilities = torch.log_softmax(out[start - 1:], dim=-1)
        targets = tokens[0, start:]
        total = total - log_probabilities.gather(1, targets[:, None]).sum()
        count += len(targets)
        logits.append(out.detach())
    return total / count, torch.cat(logits)


def named(tensors, prefix):
    return {f"{prefix}.{name}": tensor.detach().float().contiguous()
            for name, tensor in tensors.items()}


def case(seed, settings):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
                         max_position_embeddings=16, rms_norm_eps=1e-5, eos_token_id=EOS,
                         bos_token_id=None, attn_implementation="eager", **settings)
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        noise = torch.randn_like(parameter) * 0.3
        parameter.data = (noise if parameter.dim() > 1 else 1.0 + noise)
    model = model.double()
    tensors = named(dict(model.named_parameters()), "weights")
    loss, logits = batch_loss(model)
    loss.backward()
    tensors |= named({name: p.grad for name, p in model.named_parameters()}, "gradients")
    tensors["logits"] = logits.float()
    losses = train(model)
    tensors |= named(dict(model.named_parameters()), "after")
    return {"config": json.loads(config.to_json_string()), "losses": losses}, tensors


def train(model):
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1],
         "weight_decay": OPTIMIZER["weight_decay"]},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER["learning_rate"], eps=OPTIMIZER["epsilon"],
                                  betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]))
    losses = []
    for _ in range(OPTIMIZER["steps"]):
        optimizer.zero_grad()
        loss, _ = batch_loss(model)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER["clip_norm"])
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    described = {}
    for seed, (name, settings) in enumerate(CASES.items()):
        described[name], tensors = case(seed, settings)
        save_file(tensors, f"{name}.safetensors")
    golden = {"examples": EXAMPLES, "eos": EOS, "optimizer": OPTIMIZER, "cases": described}
    with open("goldens.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
