#!/usr/bin/env bash
# What is owed on a GPU: the paper's CIFAR-100 scale, with the age of inner models reset and not.
# Usage: benchmarks/gpu_owed.sh DATA_ROOT OUT    (each part continues where it was stopped)
set -euo pipefail
data=$1 out=$2
run() { datastill "$@" --data-root "$data" --device cuda --precision bfloat16 --resume; }

run target --data cifar100 --epochs 200 --batch 512 --out "$out/target"
for stale in false true; do
    run distill --data cifar100 --target "$out/target" --count 1000 --method.stale_pool $stale \
        --out "$out/krr-st-stale-$stale"
    run transfer "$out/krr-st-stale-$stale" --to cifar100,cifar10,cub --task linear-probe,finetune \
        --linear-probe.labels 1%,10%,all --seeds 3 --out "$out/transfer-stale-$stale"
done
run distill --data cifar100 --target "$out/target" --count 1000 --method random-subset \
    --out "$out/random-subset"
run transfer "$out/random-subset" scratch "$out/target" --to cifar100,cifar10,cub \
    --task linear-probe,finetune --linear-probe.labels 1%,10%,all --seeds 3 --out "$out/transfer-controls"
datastill report "$out" --out "$out/report"
