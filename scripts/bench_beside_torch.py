"""Runs the workloads of `bstar bench` beside PyTorch on this machine's processor, by turns, and prints medians.

Wants PyTorch, which bstar itself never needs, in an environment outside the repository:

    python3 -m venv ~/venv-torch && ~/venv-torch/bin/pip install torch
    cargo build --release -p bstar
    ~/venv-torch/bin/python scripts/bench_beside_torch.py --bstar target/release/bstar

Each workload is run `--runs` times by bstar and as often by PyTorch, one after the other, every time in a process
of its own; each run warms up and gives the median of five tries (`--quick`: one). Printed are the medians of the
runs, their ratio, and the peak memory of the processes. Only on a machine with nothing else to do are the figures
worth keeping; the ratios stand a little more.

The model of PyTorch has the shapes of `bstar bench`: RMS norms, rotary embedding, grouped queries, SwiGLU, no
biases. Queries, keys and values are one product, gate and up another; attention is PyTorch's own, the optimizer
its fused AdamW, and its allocator is told to keep freed blocks, which makes training faster. In `bf16` it trains
under autocast and samples with weights and cache in `bf16`, as its users would.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

SHAPES = {
    # vocabulary, width, layers, heads, key-value heads, inner width, head width
    "pico": dict(vocab=32, width=64, layers=3, heads=4, kv_heads=4, inner=168, head=16),
    "small": dict(vocab=64, width=256, layers=6, heads=4, kv_heads=2, inner=688, head=64),
    "large": dict(vocab=8192, width=768, layers=12, heads=12, kv_heads=12, inner=2048, head=64),
}
# sequences and tokens of a training step; batches that are sampled, from prompts of 32 tokens 64 new ones
TRAINING = {"pico": (64, 96), "small": (64, 96), "large": (8, 128)}
BATCHES = {"pico": [512, 32], "small": [512, 32], "large": [128, 32]}
PROMPT, NEW = 32, 64
KEEP_FREED_BLOCKS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


def workloads(sizes):
    for size in sizes:
        yield f"{size}-train"
        for batch in BATCHES[size]:
            yield f"{size}-sample-{batch}"


# --- PyTorch's side: runs in a process of its own ---


class Peer:
    """A Llama-style model as a list of tensors and functions over them."""

    def __init__(self, torch, shape, dtype):
        self.torch, self.shape = torch, shape
        generator = torch.Generator().manual_seed(1)
        width, inner, head = shape["width"], shape["inner"], shape["head"]
        self.queries, self.keys = shape["heads"] * head, shape["kv_heads"] * head

        def matrix(rows, columns):
            drawn = torch.randn(rows, columns, generator=generator) / columns**0.5
            return drawn.to(dtype).requires_grad_()

        def ones():
            return torch.ones(width, dtype=dtype).requires_grad_()

        self.embedding = matrix(shape["vocab"], width)
        self.blocks = [
            dict(
                norm=ones(),
                qkv=matrix(self.queries + 2 * self.keys, width),
                out=matrix(width, self.queries),
                norm2=ones(),
                gate_up=matrix(2 * inner, width),
                down=matrix(width, inner),
            )
            for _ in range(shape["layers"])
        ]
        self.last_norm, self.lm_head = ones(), matrix(shape["vocab"], width)
        angles = torch.outer(torch.arange(256.0), 10000.0 ** (-torch.arange(0, head, 2).float() / head))
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)

    def parameters(self):
        inside = [tensor for block in self.blocks for tensor in block.values()]
        return [self.embedding, *inside, self.last_norm, self.lm_head]

    def turn(self, x, start):
        count, half = x.shape[2], x.shape[3] // 2
        cos, sin = self.cos[start : start + count], self.sin[start : start + count]
        low, high = x[..., :half], x[..., half:]
        return self.torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)

    def attend(self, qkv, cache, start):
        torch, shape = self.torch, self.shape
        batch, count, _ = qkv.shape

        def heads(x, number):
            return x.view(batch, count, number, shape["head"]).transpose(1, 2)

        q, k, v = qkv.split((self.queries, self.keys, self.keys), dim=-1)
        q, k, v = heads(q, shape["heads"]), heads(k, shape["kv_heads"]), heads(v, shape["kv_heads"])
        q, k = self.turn(q, start), self.turn(k, start)
        if cache is not None:
            cache[0][:, :, start : start + count] = k
            cache[1][:, :, start : start + count] = v
            k, v = cache[0][:, :, : start + count], cache[1][:, :, : start + count]
        attention = torch.nn.functional.scaled_dot_product_attention
        group = shape["heads"] // shape["kv_heads"]
        if count == 1 and group > 1:
            # One query a head: the heads of a group are rows of one product.
            rows = q.reshape(batch, shape["kv_heads"], group, shape["head"])
            mixed = attention(rows, k, v).reshape(batch, shape["heads"], 1, shape["head"])
        else:
            mixed = attention(q, k, v, is_causal=count > 1, enable_gqa=group > 1)
        return mixed.transpose(1, 2).reshape(batch, count, self.queries)

    def logits(self, tokens, caches=None, start=0, last_only=False):
        functional = self.torch.nn.functional
        linear, width = functional.linear, (self.shape["width"],)
        x = functional.embedding(tokens, self.embedding)
        for index, block in enumerate(self.blocks):
            normed = functional.rms_norm(x, width, block["norm"], 1e-5)
            mixed = self.attend(linear(normed, block["qkv"]), caches and caches[index], start)
            x = x + linear(mixed, block["out"])
            normed = functional.rms_norm(x, width, block["norm2"], 1e-5)
            gate, up = linear(normed, block["gate_up"]).chunk(2, dim=-1)
            x = x + linear(functional.silu(gate) * up, block["down"])
        if last_only:
            x = x[:, -1:]
        return linear(functional.rms_norm(x, width, self.last_norm, 1e-5), self.lm_head)


def measure_torch(workload, precision, threads, tries):
    import torch

    torch.set_num_threads(threads)
    size, kind, *rest = workload.split("-")
    shape, half = SHAPES[size], precision == "bf16"
    if kind == "train":
        tokens, work = training(torch, shape, *TRAINING[size], half)
    else:
        tokens, work = sampling(torch, shape, int(rest[0]), half)
    work()
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(dict(tokens_per_second=tokens / statistics.median(times), peak_memory_mib=memory)))


def training(torch, shape, sequences, length, half):
    peer = Peer(torch, shape, torch.float32)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4, fused=True)
    drawn = torch.randint(shape["vocab"], (sequences, length + 1), generator=torch.Generator().manual_seed(2))

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = peer.logits(drawn[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), drawn[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()

    return sequences * length, step


def sampling(torch, shape, batch, half):
    dtype = torch.bfloat16 if half else torch.float32
    peer = Peer(torch, shape, dtype)
    prompts = torch.randint(shape["vocab"], (batch, PROMPT), generator=torch.Generator().manual_seed(2))
    cache_shape = (batch, shape["kv_heads"], PROMPT + NEW, shape["head"])

    @torch.inference_mode()
    def draw():
        generator = torch.Generator().manual_seed(5)
        caches = [[torch.empty(cache_shape, dtype=dtype) for _ in range(2)] for _ in range(shape["layers"])]
        tokens, start, records = prompts, 0, []
        for _ in range(NEW):
            logits = peer.logits(tokens, caches, start, last_only=True)[:, -1].float()
            start += tokens.shape[1]
            logprobs = torch.log_softmax(logits, dim=-1)
            tokens = torch.multinomial(logprobs.exp(), 1, generator=generator)
            # bstar records the log-probability of each token too.
            records.append(logprobs.gather(1, tokens))

    return batch * NEW, draw


# --- the comparison ---


def run(command, environment=None):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def compare(arguments, workload, precision):
    ours, theirs = [], []
    common = ["--threads", str(arguments.threads), *(["--quick"] if arguments.quick else [])]
    for number in range(arguments.runs):
        print(f"{workload} in {precision}: run {number + 1} of {arguments.runs}", file=sys.stderr)
        ours.append(run([arguments.bstar, "bench", "--workload", workload, "--precision", precision, *common]))
        peer = [sys.executable, __file__, "--peer", workload, "--precision", precision, *common]
        theirs.append(run(peer, KEEP_FREED_BLOCKS))
    median = lambda rows, key: statistics.median(row[key] for row in rows)
    row = dict(workload=workload, precision=precision, runs=arguments.runs)
    for name, rows in (("bstar", ours), ("torch", theirs)):
        row[f"{name}_tokens_per_second"] = median(rows, "tokens_per_second")
        row[f"{name}_mib"] = median(rows, "peak_memory_mib")
    ratios = [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(ours, theirs)]
    row.update(ratio=statistics.median(ratios), least_ratio=min(ratios), most_ratio=max(ratios))
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bstar", default="target/release/bstar", help="the program")
    parser.add_argument("--size", choices=SHAPES, action="append", help="sizes; small and large if not given")
    parser.add_argument("--workload", action="append", help="only these, such as large-sample-32")
    parser.add_argument("--precision", choices=["f32", "bf16", "both"], default="both")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="one try a run instead of five")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return measure_torch(arguments.peer, arguments.precision, arguments.threads, 1 if arguments.quick else 5)
    names = arguments.workload or workloads(arguments.size or ["small", "large"])
    precisions = ["f32", "bf16"] if arguments.precision == "both" else [arguments.precision]
    rows = [compare(arguments, name, precision) for name in names for precision in precisions]
    if arguments.json:
        return print(json.dumps(rows, indent=2))
    print("| workload | numbers | bstar tok/s | PyTorch tok/s | ratio (least to most) | bstar MiB | PyTorch MiB |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| `{row['workload']}` | {row['precision']} | {row['bstar_tokens_per_second']:.0f} "
            f"| {row['torch_tokens_per_second']:.0f} | {row['ratio']:.2f} ({row['least_ratio']:.2f} to "
            f"{row['most_ratio']:.2f}) | {row['bstar_mib']:.0f} | {row['torch_mib']:.0f} |"
        )


if __name__ == "__main__":
    main()
