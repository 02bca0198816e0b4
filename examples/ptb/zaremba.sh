#!/bin/sh
# One of the three models of Zaremba et al. 2014: train, evaluate, export and score it. The same command resumes it.
#   ./zaremba.sh small|medium|large PTB_FOLDER [WORK_FOLDER] [BACKEND] [float32|bfloat16] [FLAGS OF keraslm train ...]
set -eu
preset=$1 data=$2 work=${3:-ptb-work} backend=${4:-jax} dtype=${5:-float32}
[ $# -lt 5 ] && shift $# || shift 5
run=$work/$preset-$backend
mkdir -p "$work"
valid=$(ls "$data"/*valid*)
keraslm train --data "$data" --preset "$preset" --backend "$backend" --dtype "$dtype" --run "$run" "$@"
echo "== evaluate, every token"
keraslm evaluate "$run" "$valid" --backend "$backend"
echo "== evaluate, the tutorial's way"
keraslm evaluate "$run" "$valid" --backend "$backend" --tutorial
echo "== export"
keraslm export "$run.onnx" --run "$run"
echo "== score, context document"
keraslm score "$run.onnx" "$valid" --context document --level summary
