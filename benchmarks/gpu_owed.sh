#!/usr/bin/env bash
# What is owed on a GPU: Table 1 at the paper's scale on the data that are at hand, the pool's age, and
# CIFAR-10 by all labelled methods at their published budgets, bfloat16 against float32.
# Usage: benchmarks/gpu_owed.sh DATA_ROOT OUT [CHECKOUT of github.com/db-Lee/selfsup_dd, to race it]
# Each part continues where it was stopped, but for the first ones: whether a GPU computes what a CPU
# does, and the speed of steps.
set -euo pipefail
data=$1 out=$2 released=${3:-}

mkdir -p "$out"
CUBLAS_WORKSPACE_CONFIG=:4096:8 python -m pytest tests/test_cuda.py | tee "$out/test_cuda.txt" ||
    echo "the GPU differs; see $out/test_cuda.txt"
python benchmarks/speed/outer_step.py --device cuda --count 1000 --batch 1024 --rounds 20 \
    ${released:+--released "$released"} --out "$out/speed-outer-step.csv" | tee "$out/speed.txt"
python benchmarks/speed/loops.py --device cuda --steps 100 --out "$out/speed-loops.csv" |
    tee -a "$out/speed.txt"
python benchmarks/speed/together.py --device cuda --steps 200 --number 3 \
    --out "$out/speed-together.csv" | tee -a "$out/speed.txt"

datastill run paper.table1-cifar100 --to cifar100,cifar10,cub --precision bfloat16 --device cuda \
    --data-root "$data" --out "$out/table1" --resume
datastill distill --data cifar100 --target "$out/table1/target" --count 1000 \
    --method.stale_pool true --precision bfloat16 --device cuda --data-root "$data" \
    --profile true --out "$out/stale-pool" --resume
datastill transfer "$out/stale-pool" --to cifar100,cifar10,cub --protocol paper \
    --precision bfloat16 --device cuda --data-root "$data" \
    --out "$out/stale-pool-transfer" --resume
datastill run cifar10-labelled --precision bfloat16 --device cuda \
    --data-root "$data" --out "$out/labelled" --resume
datastill report "$out" --out "$out/report"
python benchmarks/choices/precision.py --out "$out/precision" --seeds 5 --data-root "$data"
