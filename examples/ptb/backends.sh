#!/bin/sh
# Compare the first windows of PTB small on each backend: same initial weights, no dropout:
#   ./backends.sh PTB_FOLDER [WORK_FOLDER] [LEARNING_RATE]
set -eu
data=$1
work=${2:-ptb-work}
rate=${3:-0.1}
mkdir -p "$work"
gzip -dcf "$data"/*train* | head -n 6000 > "$work/first-6000-lines.txt"
for backend in jax tensorflow torch; do
  keraslm train --train "$work/first-6000-lines.txt" --preset small --epochs 2 --log-every 1 --learning-rate "$rate" \
    --backend "$backend" --run "$work/first-$backend-$rate"
done
python "$(dirname "$0")/compare.py" "$work/first-jax-$rate" "$work/first-tensorflow-$rate" "$work/first-torch-$rate"
