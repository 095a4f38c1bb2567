#!/usr/bin/env bash
# From the frames of CamVid to a bundle, with a control bundle that is trained without negatives:
#
#   training/recipes/camvid_small.sh FOLDER RUNS MODELS [CONFIGS]
#
# FOLDER holds train/ and val/ of CamVid. Checkpoints and logs are written to RUNS, the bundles to MODELS/camvid_small
# and MODELS/camvid_small_cross_entropy. CONFIGS holds segmenter.yaml, flow.yaml and joint.yaml (default:
# training/configs/camvid). After an interruption, the same command continues after the last finished epoch. PYTHON
# names another interpreter than that of the environment. SEED (default 0) seeds every stage; with another one,
# give other folders too.
set -euo pipefail

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
python=${PYTHON:-python} seed=${SEED:-0}
data=$(realpath "$1") runs=$(realpath -m "$2") models=$(realpath -m "$3")
configs=${4:-training/configs/camvid}
[ $# -lt 4 ] || configs=$(realpath "$4")
cd "$(dirname "$0")/../.."
# Spinning threads would waste several times the processor time on a busy machine.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}

# stage PROGRAM CONFIG NAME ARGUMENTS...: train, or continue. A continued run takes no checkpoints to start from.
stage() {
  local program=$1 config=$2 out=$runs/$3
  shift 3
  if [ -f "$out/last.pt" ]; then set -- "${changes[@]}" --resume; else set -- "${changes[@]}" "$@"; fi
  "$python" -m "training.$program" --config "$configs/$config.yaml" --data "$data" --out "$out" "$@"
}

changes=(${SEED:+--set "seed=$seed"})
stage train_segmenter segmenter segmenter
stage train_flow flow flow
changes+=(--set 'negatives={source: none}' --set name=camvid_cross_entropy)
stage train_joint joint cross_entropy --segmenter "$runs/segmenter/best.pt"
# From the control, twice: two seeds draw other patches and crops.
for draw in 0 1; do
  changes=(--set "seed=$((2 * seed + draw))")
  stage train_joint joint "joint_$draw" --segmenter "$runs/cross_entropy/last.pt" --flow "$runs/flow/best.pt"
done

# The mean of the two and of where they began: better in classes and on other streets than each of them.
"$python" -m training.export "$runs/joint_0/last.pt" "$runs/joint_1/last.pt" "$runs/cross_entropy/last.pt" \
  "$models/camvid_small" --data "$data"
"$python" -m training.export "$runs/cross_entropy/last.pt" "$models/camvid_small_cross_entropy" --data "$data" \
  --score maximum_softmax
# For other data, --fit negatives fits the temperature.
"$python" -m training.calibrate "$models/camvid_small" --data "camvid:$data/val" --temperature 3
"$python" -m training.calibrate "$models/camvid_small_cross_entropy" --data "camvid:$data/val"
# Further input sizes of the same weights, for cameras of 16:9: below 576 rows, of 720 and of 1080.
for bundle in camvid_small camvid_small_cross_entropy; do
  "$python" -m training.add_size "$models/$bundle" --size 384x672 --size 576x1024 --size 768x1344 --data "camvid:$data/val"
done
