#!/usr/bin/env bash
# What is owed on a GPU: Table 1 at the paper's scale on the data that are at hand, the pool's age, and
# CIFAR-10 by all labelled methods at their published budgets.
# Usage: benchmarks/gpu_owed.sh DATA_ROOT OUT    (each part continues where it was stopped)
set -euo pipefail
data=$1 out=$2

datastill run paper.table1-cifar100 --to cifar100,cifar10,cub --precision bfloat16 --device cuda \
    --data-root "$data" --out "$out/table1" --resume
datastill distill --data cifar100 --target "$out/table1/target" --count 1000 \
    --method.stale_pool true --precision bfloat16 --device cuda --data-root "$data" \
    --out "$out/stale-pool" --resume
datastill transfer "$out/stale-pool" --to cifar100,cifar10,cub --protocol paper \
    --precision bfloat16 --device cuda --data-root "$data" --out "$out/stale-pool-transfer" --resume
datastill run cifar10-labelled --precision bfloat16 --device cuda \
    --data-root "$data" --out "$out/labelled" --resume
datastill report "$out" --out "$out/report"
