#!/bin/sh
# The recorded runs on Multi30k: ./multi30k.sh DATA_FOLDER WORK_FOLDER [NAME ...]
# A run that was stopped resumes. Each takes about 20 minutes on two quiet cores.
set -eu
data=$1 work=$2
shift 2
program="${PYTHON:-python} -m examples.translation"
tokenised="--train $data/train.lc.norm.tok --valid $data/val.lc.norm.tok --bleu none"
shared="--batch-size 64 --learning-rate 0.002 --lr-schedule cosine --warmup-epochs 0.5"
shared="$shared --embedding-dropout 0.2 --encoder-dropout 0.3 --decoder-dropout 0.4"

for name in ${*:-attention none none-reversed raw german-english}; do
  test=$data/test_2016_flickr.lc.norm.tok epochs=8
  case $name in
    attention) flags=$tokenised epochs=16 ;;
    none) flags="$tokenised --attention none --no-bidirectional" ;;
    none-reversed) flags="$tokenised --attention none --no-bidirectional --reverse-source" ;;
    raw) flags="--train $data/train --valid $data/val" test=$data/test_2016_flickr ;;
    german-english) flags="$tokenised --source de --target en" ;;
    *) echo "unknown run: $name"; exit 2 ;;
  esac
  run=$work/$name
  $program train --run "$run" $flags $shared --epochs $epochs 2>&1 | tee -a "$work/$name.log"
  for beam in 1 5 12; do
    $program evaluate "$run" "$test" --beam $beam | tee -a "$work/$name.numbers.log"
  done
  $program export "$run" "$run-onnx" | tee -a "$work/$name.numbers.log"
done
