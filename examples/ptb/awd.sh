#!/bin/sh
# AWD-LSTM of Merity et al. 2018 on PTB, for a GPU; the same command resumes a stopped run:
#   ./awd.sh PTB_FOLDER [WORK_FOLDER] [EPOCHS] [float32|bfloat16]
# All results are those of the best epoch by validation perplexity, as in the original program.
set -eu
data=$1
run=${2:-ptb-work}/awd
epochs=${3:-500}
mkdir -p "$(dirname "$run")"
keraslm train --data "$data" --preset awd --epochs "$epochs" --backend torch --dtype "${4:-float32}" --run "$run"
for text in "$data"/*valid* "$data"/*test*; do
  [ -e "$text" ] || continue
  echo "== $text: plain, neural cache, dynamic evaluation; tuned on the validation text"
  keraslm evaluate "$run" "$text" --weights best --backend torch --neural-cache
  keraslm evaluate "$run" "$text" --weights best --backend torch --dynamic --neural-cache
done
echo "== export"
keraslm export "$run.onnx" --run "$run" --weights best
