#!/bin/sh
# What only a machine with a GPU can show, in ten minutes: cuDNN's LSTM, a resume that is bit for bit the same, and the
# training speed beside PyTorch's own LSTM. Standard output holds the results.
#   benchmarks/gpu.sh [PYTHON] [WORK_FOLDER]
set -eu
python=${1:-.venv/bin/python}
work=${2:-gpu-work}
keraslm="$python -m keraslm"
flags="--backend torch --devices 1 --preset medium --epochs 2 --checkpoint-windows 20 --progress none"
mkdir -p "$work"
echo "== the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
$python -c 'import keras, torch; print("torch", torch.__version__, "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version(), "keras", keras.__version__)'
echo "== two epochs on the language reference of Python: the line 'lstm' names the kernel"
$keraslm train $flags --run "$work/whole" --overwrite
echo "== the same, stopped by SIGTERM and resumed"
rm -rf "$work/stopped"
for seconds in 25 15; do
  timeout --signal=TERM "$seconds" $keraslm train $flags --run "$work/stopped" || test $? = 124
done
$keraslm train $flags --run "$work/stopped"
if cmp "$work/whole/weights.safetensors" "$work/stopped/weights.safetensors"; then
  echo "resumed bit for bit"
else
  echo "resumed, but not bit for bit"
fi
echo "== epochs per backend, tokens per second"
for backend in jax torch; do
  $keraslm train --backend $backend --preset medium --epochs 1 --run "$work/$backend" --overwrite --progress line | grep tokens_per_second || true
done
echo "== training speed beside PyTorch"
$python benchmarks/train_speed.py --sizes medium large --rounds 3 --contestants keraslm-torch keraslm-torch-bfloat16 keraslm-jax pytorch pytorch-bfloat16
