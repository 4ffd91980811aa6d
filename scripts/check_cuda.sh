#!/usr/bin/env bash
# Builds for NVIDIA cards, checks the first card against the CPU, and times both; about eight minutes on
# 16 cores. Needs a driver, Rust and a C compiler. cuBLAS and NVRTC may be the system's; where they are
# not found, they are taken from PyPI into target/cuda-libraries. The last lines say how it went; the
# whole is in target/check-cuda.log and the timings in target/bench-*.json.
#
# usage: scripts/check_cuda.sh [--no-bench]
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target
exec > >(tee target/check-cuda.log) 2>&1

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

step "card"
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader || {
    echo "no driver: nothing can be checked here"
    exit 1
}

step "libraries"
if ldconfig -p | grep -q libcublas.so && ldconfig -p | grep -q libnvrtc.so; then
    echo "cuBLAS and NVRTC of the system"
else
    folder=target/cuda-libraries
    [ -d "$folder" ] || python3 -m pip install --quiet --target "$folder" \
        nvidia-cublas-cu12 nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12
    for part in "$PWD/$folder"/nvidia/*/lib; do
        LD_LIBRARY_PATH="$part${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    done
    export LD_LIBRARY_PATH
    echo "cuBLAS and NVRTC of PyPI in $folder"
fi

step "build"
cargo build --release --locked --features cuda -p bstar
cargo test --release --locked --features cuda -p bstar-model --lib --no-run
./target/release/bstar doctor

step "every kernel, model and trainer against the CPU"
# One after the other: they share the card.
failed=0
cargo test --release --locked --features cuda -p bstar-model --lib device:: -- --ignored --test-threads=1 || failed=1

if [ "${1:-}" != "--no-bench" ]; then
    step "timing"
    for size in small large; do
        for device in cuda cpu; do
            ./target/release/bstar bench --size "$size" --device "$device" --quick --json \
                > "target/bench-$size-$device.json" || failed=1
            ./target/release/bstar bench --size "$size" --device "$device" --quick || failed=1
        done
    done
fi

step "$([ "$failed" = 0 ] && echo 'green' || echo 'FAILED')"
exit "$failed"
