#!/usr/bin/env bash
# benchmark/inference/gpu.sh [DATA_FOLDER]: on a machine with an NVIDIA GPU, everything that needs one, in one command.
#
# Sets itself up, gets TensorRT where it can be had, runs the tests that need a GPU, then the ladder, and, with a folder
# that holds camvid/, camvid_static/, smiyc_anomaly_val/ and smiyc_obstacle_val/, parity, AP and FPR95 of the shipped
# bundle in every precision. Leaves out/gpu/{tests.txt,gpu.json,gpu.txt}. Takes an hour or two: `MODELS="resnet18"
# SIZES="1024x2048" BATCHES="1"` make it short.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../environment.sh"
data=${1:-${ROS_OOD_PERCEPTION_DATA:-}}
prepare_environment vehicle demo training development
cd "$root"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
[ -n "$data" ] && ROS_OOD_PERCEPTION_DATA=$(cd "$data" && pwd) && export ROS_OOD_PERCEPTION_DATA
python="$venv/bin/python"
"$python" -c 'from ros_ood_perception.inference.tensorrt.cuda_driver import find_gpu; print(find_gpu())' || exit 2
if ! "$python" -c 'import tensorrt' 2>/dev/null; then
  "$python" -m pip install --quiet tensorrt || printf 'TensorRT cannot be had here: all but TensorRT is measured\n' >&2
fi
out="$root/out/gpu"
mkdir -p "$out"
status=0
"$python" -m pytest -q -rs test/ros_ood_perception/inference/test_on_gpu.py test/training/test_gpu_benchmark.py 2>&1 |
  tee "$out/tests.txt" || status=1
# A copy of the bundle that has all precisions: calibration on CamVid's training frames.
bundle="$out/camvid_small"
rm -rf "$bundle"
cp -r models/camvid_small "$bundle"
sets=()
if [ -n "$data" ]; then
  "$python" -m training.precisions "$bundle" --config training/configs/camvid_small.yaml \
    --data "camvid:$ROS_OOD_PERCEPTION_DATA/camvid/val" --calibration "camvid:$ROS_OOD_PERCEPTION_DATA/camvid/train" \
    --with fp16 int8
  sets=(--data)
  for set in camvid/val camvid_static smiyc_anomaly_val smiyc_obstacle_val; do
    [ -d "$ROS_OOD_PERCEPTION_DATA/$set" ] && sets+=("${set%%/*}:$ROS_OOD_PERCEPTION_DATA/$set")
  done
fi
"$python" benchmark/inference/gpu.py --bundle "$bundle" --json "$out/gpu.json" --models ${MODELS:-small resnet18} \
  --sizes ${SIZES:-512x1024 720x1280 1080x1920 1024x2048} --batches ${BATCHES:-1 3} "${sets[@]}" | tee "$out/gpu.txt"
exit "$status"
