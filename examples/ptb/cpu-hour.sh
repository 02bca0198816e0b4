#!/bin/sh
# The best PTB model after one hour on two cores: train, evaluate, export, score, and apply test-time techniques.
# Run no other programs meanwhile. bfloat16 is faster if the processor supports it; float32 runs everywhere.
#   ./cpu-hour.sh PTB_FOLDER [WORK_FOLDER] [float32|bfloat16]
set -eu
data=$1
work=${2:-ptb-work}
run=$work/cpu-hour
mkdir -p "$work"
valid=$(ls "$data"/*valid*)
keraslm train --data "$data" --preset cpu-hour --backend torch --dtype "${3:-float32}" --run "$run"
echo "== evaluate, every token"
keraslm evaluate "$run" "$valid" --backend torch
echo "== export"
keraslm export "$run.onnx" --run "$run"
echo "== score, context document"
keraslm score "$run.onnx" "$valid" --context document --level summary
case $valid in *.gz) gzip -dc "$valid" ;; *) cat "$valid" ;; esac > "$work/valid.txt"
half=$(($(wc -l < "$work/valid.txt") / 2))
head -n "$half" "$work/valid.txt" > "$work/first-half.txt"
tail -n +"$((half + 1))" "$work/valid.txt" > "$work/second-half.txt"
echo "== second half of the validation text: neural cache, tuned on the first half"
keraslm evaluate "$run" "$work/second-half.txt" --backend torch --neural-cache --tune-on "$work/first-half.txt"
echo "== the same from the ONNX file"
keraslm score "$run.onnx" "$work/second-half.txt" --context document --level summary \
  --neural-cache --cache-tune "$work/first-half.txt"
echo "== the same: dynamic evaluation and neural cache"
keraslm evaluate "$run" "$work/second-half.txt" --backend torch --dynamic --neural-cache --tune-on "$work/first-half.txt"
