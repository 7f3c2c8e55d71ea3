#!/usr/bin/env bash
# Before a call, on the own machine: pack what the GPU machine lacks into .gpu/, which git ignores.
# Usage: benchmarks/gpu/prepare.sh [SOURCE]      SOURCE: cifar100 (default) or cifar10
# PACKS: folder with the image packs (default ../shared/data); RELEASED: a checkout of
# github.com/db-Lee/selfsup_dd, whose step is then timed by the plan `check`.
# CUB is packed too while the tree and .gpu/ stay below 63.8 MiB together (64 can be sent).
set -euo pipefail
cd "$(dirname "$0")/../.."
packs=${PACKS:-../shared/data} source=${1:-cifar100} python=${VENV:-.venv}/bin/python limit=$((638 * 1048576 / 10))

rm -rf .gpu && mkdir -p .gpu/wheels .gpu/data
# Pure Python wheels that the machine's image does not have; run.sh unzips them.
missing=$(grep -E '^(jsonargparse|docstring_parser|typeshed_client|pooch|platformdirs)==' constraints.txt)
# shellcheck disable=SC2086  # one word per requirement
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: -d .gpu/wheels $missing
if ls .gpu/wheels | grep -qv -- '-none-any.whl'; then echo "a wheel is for one platform only" >&2; exit 1; fi
if [ -n "${RELEASED:-}" ]; then
    mkdir .gpu/released
    (cd "$RELEASED" && find . -name '*.py' -exec cp --parents {} "$OLDPWD/.gpu/released" \;)
fi

cp "$packs/unpack.py" "$packs/${source}_q95.zip" .gpu/data/
tree_bytes() {
    git ls-files -z --cached --others --exclude-standard | xargs -0 stat -c %s | awk '{sum += $1} END {print sum}'
}
packed_bytes() { find .gpu -type f -printf '%s\n' | awk '{sum += $1} END {print sum}'; }
cub=$packs/cub100_32_lossless.zip
if [ $(($(tree_bytes) + $(packed_bytes) + $(stat -c %s "$cub"))) -lt "$limit" ]; then
    cp "$cub" .gpu/data/
else
    echo "CUB is left out: with it, more than 63.8 MiB would be sent"
fi
total=$(($(tree_bytes) + $(packed_bytes)))
echo "$(ls .gpu/data | tr '\n' ' ')packed; tree and .gpu: $((total / 1048576)) MiB"
[ "$total" -lt "$limit" ] || { echo "too much to send: the limit is 63.8 MiB" >&2; exit 1; }
