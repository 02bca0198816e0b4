#!/bin/sh
# Train a character or byte model on tiny Shakespeare and evaluate it on the last tenth of the text.
#     sh examples/shakespeare/run.sh char|byte INPUT.txt[.gz]
set -eu
kind=$1
work=runs/shakespeare
mkdir -p $work
python3 - "$2" $work <<'EOF'
import gzip, pathlib, sys
data = pathlib.Path(sys.argv[1]).read_bytes()
text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
cut = text.index(b"\n", len(text) * 9 // 10) + 1  # the first line end after nine tenths
for name, part in (("train", text[:cut]), ("valid", text[cut:])):
    pathlib.Path(sys.argv[2], name + ".txt").write_bytes(part)
EOF
run=$work/$kind
keraslm train --preset small --tokenizer "$kind" --units 512 --embedding-dim 64 --output-dropout 0.4 --init-scale 0.05 \
  --batch-size 32 --num-steps 64 --learning-rate 1 --epochs 20 --lr-decay 0.7 --lr-decay-from 12 \
  --data $work --backend torch --dtype bfloat16 --run "$run" --progress line
keraslm evaluate "$run" $work/valid.txt --backend torch
keraslm export "$run".onnx --run "$run"
keraslm score "$run".onnx $work/valid.txt --level summary --context document
keraslm generate "$run".onnx "ROMEO:" --temperature 0.8 --seed 1 --max-tokens 300 --through-lines
