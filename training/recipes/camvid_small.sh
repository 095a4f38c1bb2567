#!/usr/bin/env bash
# CamVid's frames to a bundle, from start to end, with its control that has seen no negatives:
#
#   training/recipes/camvid_small.sh FOLDER RUNS MODELS [CONFIGS]
#
# FOLDER holds CamVid's train/ and val/. Checkpoints and logs go to RUNS, the bundles to MODELS/camvid_small and
# MODELS/camvid_small_cross_entropy. CONFIGS holds segmenter.yaml, flow.yaml and joint.yaml (training/configs/camvid).
# Stopped or killed, the same command goes on after the last finished epoch. Python is that of the environment; PYTHON
# names another.
set -euo pipefail

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
python=${PYTHON:-python}
data=$(realpath "$1") runs=$(realpath -m "$2") models=$(realpath -m "$3")
configs=${4:-training/configs/camvid}
[ $# -lt 4 ] || configs=$(realpath "$4")
cd "$(dirname "$0")/../.."
# Threads that wait for each other by spinning cost a busy machine several times the processor time.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}

# stage PROGRAM CONFIG NAME ARGUMENTS...: train it, or go on. What a run starts from is asked for once.
stage() {
  local program=$1 config=$2 out=$runs/$3
  shift 3
  if [ -f "$out/last.pt" ]; then set -- "${changes[@]}" --resume; else set -- "${changes[@]}" "$@"; fi
  "$python" -m "training.$program" --config "$configs/$config.yaml" --data "$data" --out "$out" "$@"
}

changes=()
stage train_segmenter segmenter segmenter
stage train_flow flow flow
stage train_joint joint joint --segmenter "$runs/segmenter/best.pt" --flow "$runs/flow/best.pt"
changes=(--set 'negatives={source: none}' --set name=camvid_cross_entropy)
stage train_joint joint cross_entropy --segmenter "$runs/segmenter/best.pt"

"$python" -m training.export "$runs/joint/last.pt" "$models/camvid_small" --data "$data"
"$python" -m training.export "$runs/cross_entropy/last.pt" "$models/camvid_small_cross_entropy" --data "$data" \
  --score maximum_softmax
for bundle in camvid_small camvid_small_cross_entropy; do
  "$python" -m training.calibrate "$models/$bundle" --data "camvid:$data/val"
done
