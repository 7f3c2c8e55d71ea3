#!/usr/bin/env bash
# On the GPU machine, in the root of the working tree: run everything that PLAN contains, within SECONDS.
# Usage: bash benchmarks/gpu/run.sh PLAN SECONDS [--toy]        --toy: tiny sizes, on the CPU
# Results appear in $OUT: at most 8 files of 16 MiB. $WORK is made anew in every call. PACKED: what prepare.sh made.
set -uo pipefail
export OUT=${OUT:-/tmp/gpu-out} WORK=${WORK:-/tmp/gpu-work} PACKED=${PACKED:-$PWD/.gpu}
rm -rf "$WORK" && mkdir -p "$OUT" "$WORK/site"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD:$WORK/site
export DATASTILL_CACHE=$WORK/cache OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
for wheel in "$PACKED"/wheels/*.whl; do [ ! -e "$wheel" ] || python3 -m zipfile -e "$wheel" "$WORK/site"; done
exec python3 benchmarks/gpu/run.py "$@"
