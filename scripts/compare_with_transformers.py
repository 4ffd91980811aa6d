"""Compares bstar's greedy responses with those of Hugging Face `transformers` on the same model folder.

    bstar eval MODEL --task CONFIG --rollouts rollouts.jsonl
    python scripts/compare_with_transformers.py MODEL rollouts.jsonl --prompts 50

Needs torch and transformers, in an environment of their own; bstar itself needs no Python. Exit code 1 if a
response differs.
"""

import argparse
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def greedy_rollouts(path: str, count: int) -> list[dict]:
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["temperature"] == 0.0][:count]


def respond(model, tokenizer, prompt: str, max_tokens: int) -> str:
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        output = model.generate(**inputs, do_sample=False, max_new_tokens=max_tokens)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder")
    parser.add_argument("rollouts", help="JSON Lines that `bstar eval --rollouts` wrote")
    parser.add_argument("--prompts", type=int, default=50, help="greedy rows to compare")
    parser.add_argument("--max-tokens", type=int, default=64, help="as `sample.max_tokens` of the evaluation")
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    rows = greedy_rollouts(args.rollouts, args.prompts)
    different = 0
    for row in rows:
        theirs = respond(model, tokenizer, row["prompt"], args.max_tokens)
        if theirs != row["response"]:
            different += 1
            print(f"{row['query_id']}: ours {row['response']!r}, theirs {theirs!r}")
    print(f"{len(rows) - different} of {len(rows)} greedy responses are equal")
    return 1 if different or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
