"""Time and verdicts of the answer checker beside Math-Verify, on the same pairs in one run.

    python scripts/compare_with_math_verify.py ../shared/data [--pairs 1000]

Pairs of MATH golds (each with itself, with itself in another form, with another gold) and pairs of
model outputs with their golds. Needs `pip install math-verify` (0.9.0 was used). Both sides run on
one core, one pair after the other; Math-Verify parses and verifies with its time-outs off, and pairs
that would hang it are no part of this set. Its time-outs are alarms, which cost it extra.
"""

import argparse
import gzip
import json
import random
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from math_verify import parse, verify


def lines(path):
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def last_box(solution):
    """What the last box of a solution holds, or None."""
    at = solution.rfind("\\boxed{")
    if at < 0:
        return None
    depth, start = 0, at + len("\\boxed{")
    for end in range(start - 1, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if depth == 0:
            return solution[start:end] or None
    return None


def other_form(gold):
    """The same answer as others would write it."""
    text = re.sub(r"\\frac(?![a-z])", r"\\dfrac", gold)
    text = text.replace("(", r"\left(").replace(")", r"\right)").replace(",", ", ")
    return f"$ {text} $"


def pairs_of(data, count):
    generator = random.Random(1)
    golds = [last_box(row["solution"]) for row in lines(data / "math/test.jsonl.gz")]
    golds = [gold for gold in golds if gold]
    generator.shuffle(golds)
    outputs = lines(data / "grader_pairs/model_output_pairs.jsonl.gz")
    generator.shuffle(outputs)
    families = {
        "itself": [(gold, gold) for gold in golds[:count]],
        "another form": [(other_form(gold), gold) for gold in golds[:count]],
        "another gold": list(zip(golds[:count], golds[count : 2 * count])),
        "model outputs": [(row["pred"], row["gold"]) for row in outputs[:count]],
    }
    return [
        {"family": family, "pred": pred, "gold": gold}
        for family, pairs in families.items()
        for pred, gold in pairs
    ]


def ours(pairs):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in pairs)
        file.flush()
        command = "cargo run --release --quiet -p bstar-verify --example pair_times --".split()
        out = subprocess.run([*command, file.name], check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    return [(row["verdict"] == "Same", row["nanoseconds"]) for row in rows]


def dressed(text):
    """Math-Verify reads LaTeX only between dollar signs."""
    return text if "$" in text else f"${text}$"


def theirs(pairs):
    found = []
    for pair in pairs:
        start = time.perf_counter_ns()
        gold = parse(dressed(pair["gold"]), parsing_timeout=None)
        pred = parse(dressed(pair["pred"]), parsing_timeout=None)
        is_same = verify(gold, pred, timeout_seconds=None)
        found.append((is_same, time.perf_counter_ns() - start))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=1000, help="pairs of each family")
    arguments = parser.parse_args()
    pairs = pairs_of(arguments.data, arguments.pairs)
    here, there = ours(pairs), theirs(pairs)
    print("family          pairs   ours: median  mean  max (us)   Math-Verify: median  mean (us)   ratio of medians, of means   same verdict")
    for family in [*dict.fromkeys(pair["family"] for pair in pairs), "all"]:
        at = [i for i, pair in enumerate(pairs) if family in ("all", pair["family"])]
        us = [here[i][1] / 1000 for i in at]
        them = [there[i][1] / 1000 for i in at]
        agreed = sum(here[i][0] == there[i][0] for i in at)
        print(
            f"{family:15} {len(at):5} {statistics.median(us):12.2f} {statistics.mean(us):8.2f} {max(us):8.1f}"
            f" {statistics.median(them):20.0f} {statistics.mean(them):8.0f}"
            f" {statistics.median(them) / statistics.median(us):14.0f} {statistics.mean(them) / statistics.mean(us):6.0f}"
            f" {agreed:14}"
        )


if __name__ == "__main__":
    main()
