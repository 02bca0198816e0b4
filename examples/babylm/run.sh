#!/bin/sh
# From the training text of BabyLM to a folder for its evaluation pipeline.
#     sh examples/babylm/run.sh WORK TRAIN VALID [more flags of keraslm train]
# TRAIN and VALID are texts, folders or patterns, one sentence per line. AT_WORDS overrides the numbers of words.
set -eu
work=$1 train=$2 valid=$3
shift 3
small=1M,2M,3M,4M,5M,6M,7M,8M,9M,10M
large=20M,30M,40M,50M,60M,70M,80M,90M,100M
mkdir -p "$work"
keraslm train --preset cpu-hour --train "$train" --valid "$valid" --run "$work"/run \
  --tokenizer bpe --vocab-size 8000 --context sentence --shuffle --epochs 10 \
  --save-at-words "${AT_WORDS:-$small,$large}" --progress line "$@"
keraslm show "$work"/run
python3 - "$work" <<'PYTHON'
import sys
from pathlib import Path

import keraslm
from keraslm_export.targets import hf

work = Path(sys.argv[1])
run = keraslm.load_run(work / "run")
reports = {"main": hf.write(run, work / "submission" / "main"), **hf.write_checkpoints(run, work / "submission")}
for name, report in reports.items():
    print(f"{name:<10} {report.bytes / 1e6:.1f} MB; largest difference of a logit {report.largest_difference:.1e}")
PYTHON
