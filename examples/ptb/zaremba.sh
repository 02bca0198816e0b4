#!/bin/sh
# Train, evaluate, export and score PTB small: ./small.sh PTB_FOLDER [WORK_FOLDER]
set -eu
data=$1
run=${2:-ptb-work}/small-jax
mkdir -p "$(dirname "$run")"
valid=$(ls "$data"/*valid*)
keraslm train --data "$data" --preset small --backend jax --run "$run"
echo "== evaluate, every token"
keraslm evaluate "$run" "$valid" --backend jax
echo "== evaluate, the tutorial's way"
keraslm evaluate "$run" "$valid" --backend jax --tutorial
echo "== export"
keraslm export "$run.onnx" --run "$run"
echo "== score, context document"
keraslm score "$run.onnx" "$valid" --context document --level summary
