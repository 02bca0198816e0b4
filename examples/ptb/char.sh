#!/bin/sh
# Characters of PTB after one hour on two cores: train preset `char`, evaluate, export, score.
# The blanks around each line are left out, which gives the 5,017,482 and 393,042 characters of the literature.
#   ./char.sh PTB_FOLDER [WORK_FOLDER] [float32|bfloat16]
set -eu
data=$1
work=${2:-ptb-work}
run=$work/char
mkdir -p "$work/characters"
for part in train valid; do
  text=$(ls "$data"/*$part*)
  case $text in *.gz) gzip -dc "$text" ;; *) cat "$text" ;; esac | sed 's/^ *//; s/ *$//' > "$work/characters/$part.txt"
done
keraslm train --data "$work/characters" --preset char --backend torch --dtype "${3:-float32}" --run "$run"
echo "== evaluate, every character"
keraslm evaluate "$run" "$work/characters/valid.txt" --backend torch
echo "== export"
keraslm export "$run.onnx" --run "$run"
echo "== score, context document"
keraslm score "$run.onnx" "$work/characters/valid.txt" --context document --level summary
