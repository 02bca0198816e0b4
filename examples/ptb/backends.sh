#!/bin/sh
# The first epochs of PTB small on each backend, from the same initial weights: ./backends.sh PTB_FOLDER [WORK_FOLDER]
set -eu
data=$1
work=${2:-ptb-work}
mkdir -p "$work"
for backend in jax tensorflow torch; do
  keraslm train --data "$data" --preset small --epochs 2 --log-every 1 --backend "$backend" --run "$work/two-$backend"
done
python "$(dirname "$0")/compare.py" "$work/two-jax" "$work/two-tensorflow" "$work/two-torch"
