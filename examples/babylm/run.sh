#!/bin/sh
# From the training text of BabyLM to a folder for its evaluation pipeline.
#     sh examples/babylm/run.sh WORK TRAIN VALID [more flags of keraslm train]
# TRAIN and VALID are texts, folders or patterns, one sentence per line. AT_WORDS overrides the numbers of words.
set -eu
work=$1 train=$2 valid=$3
shift 3
small=1M,2M,3M,4M,5M,6M,7M,8M,9M,10M
large=20M,30M,40M,50M,60M,70M,80M,90M,100M
mkdir -p "$work"/submission
keraslm train --preset cpu-hour --train "$train" --valid "$valid" --run "$work"/run \
  --tokenizer bpe --vocab-size 8000 --context sentence --shuffle --epochs 10 \
  --save-at-words "${AT_WORDS:-$small,$large}" --progress line "$@"
keraslm show "$work"/run
keraslm export "$work"/submission/main --target hf --run "$work"/run
keraslm export "$work"/submission --target hf --all-checkpoints --run "$work"/run
