"""Compares bstar's tokens with those of Hugging Face `transformers` for the same tokenizer folder and texts.

    python scripts/compare_tokenizers.py FOLDER TEXTS... --texts 3000 [--without-json]

TEXTS are JSON Lines (plain or .gz); every string in a row is a text. FOLDER may hold `.gz` files, which are
unpacked into a temporary one. `--without-json` takes `vocab.json` and `merges.txt` out of the folder's
`tokenizer.json` and lets bstar make its own from them; `transformers` then still reads the original.

Needs transformers in an environment of its own; bstar itself needs no Python. Exit code 1 if a text differs.
"""

import argparse
import gzip
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from transformers import AutoTokenizer


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def read_texts(files: list[str], count: int) -> list[str]:
    found = set()
    for file in files:
        opened = gzip.open if file.endswith(".gz") else open
        with opened(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                found.update(text for text in strings(json.loads(line)) if len(text) < 20_000)
    texts = sorted(found)
    random.Random(1).shuffle(texts)
    return texts[:count]


def unpack(folder: pathlib.Path, to: pathlib.Path) -> None:
    for file in folder.iterdir():
        if file.suffix == ".gz":
            (to / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        elif file.is_file():
            shutil.copy(file, to / file.name)


def take_apart(folder: pathlib.Path, to: pathlib.Path) -> None:
    """A folder with the same tokenizer in the older files."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (to / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (to / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", encoding="utf-8")
    shutil.copy(folder / "tokenizer_config.json", to / "tokenizer_config.json")


def ours(folder: pathlib.Path, texts: list[str]) -> list[list]:
    command = ["cargo", "run", "--quiet", "-p", "bstar-model", "--example", "encode", "--", str(folder)]
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    result = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, encoding="utf-8")
    return [json.loads(line) for line in result.stdout.splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of a tokenizer")
    parser.add_argument("files", nargs="+", help="JSON Lines")
    parser.add_argument("--texts", type=int, default=3000, help="texts to compare")
    parser.add_argument("--without-json", action="store_true", help="let bstar make the tokenizer.json")
    args = parser.parse_args()
    texts = read_texts(args.files, args.texts)
    different = 0
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as parts:
        whole, parts = pathlib.Path(whole), pathlib.Path(parts)
        unpack(pathlib.Path(args.folder), whole)
        if args.without_json:
            take_apart(whole, parts)
        tokenizer = AutoTokenizer.from_pretrained(whole)
        rows = ours(parts if args.without_json else whole, texts)
        for text, (tokens, decoded) in zip(texts, rows, strict=True):
            # Text never spells a special token in bstar.
            theirs = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            back = tokenizer.decode(theirs, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if tokens != theirs or decoded != back:
                different += 1
                if different <= 5:
                    print(f"{text[:200]!r}:\n  ours   {tokens[:40]}\n  theirs {theirs[:40]}")
    total = sum(len(tokens) for tokens, _ in rows)
    print(f"{len(texts) - different} of {len(texts)} texts have the same tokens ({total} in all)")
    return 1 if different or not texts else 0


if __name__ == "__main__":
    sys.exit(main())
