#!/usr/bin/env bash
# What is owed on a GPU: Table 1 at the paper's scale on the data that are at hand, the pool's age, and
# CIFAR-10 by all labelled methods at their published budgets, bfloat16 against float32.
# Usage: benchmarks/gpu_owed.sh DATA_ROOT OUT [CHECKOUT of github.com/db-Lee/selfsup_dd, to race it]
# Each part continues where it was stopped, but for the speed of a step, which comes first.
set -euo pipefail
data=$1 out=$2 released=${3:-}

mkdir -p "$out"
python benchmarks/speed/outer_step.py --device cuda --count 1000 --batch 1024 --rounds 20 \
    ${released:+--released "$released"} --out "$out/speed-outer-step.csv" | tee "$out/speed.txt"

datastill run paper.table1-cifar100 --to cifar100,cifar10,cub --precision bfloat16 --device cuda \
    --data-root "$data" --out "$out/table1" --resume
datastill distill --data cifar100 --target "$out/table1/target" --count 1000 \
    --method.stale_pool true --precision bfloat16 --device cuda --data-root "$data" \
    --profile true --out "$out/stale-pool" --resume
datastill transfer "$out/stale-pool" --to cifar100,cifar10,cub --protocol paper \
    --precision bfloat16 --device cuda --data-root "$data" --out "$out/stale-pool-transfer" --resume
datastill run cifar10-labelled --precision bfloat16 --device cuda \
    --data-root "$data" --out "$out/labelled" --resume
datastill report "$out" --out "$out/report"
python benchmarks/choices/precision.py --out "$out/precision" --seeds 5 --data-root "$data"
