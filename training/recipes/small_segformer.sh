#!/usr/bin/env bash
# A network of others, from its folder to a bundle, and fine-tuned with the flow to a second one:
#
#   training/recipes/small_segformer.sh FOLDER RUNS MODELS
#
# FOLDER holds train/ and val/ of CamVid. A small SegFormer with random weights stands for the network that a team has:
# it is trained for minutes, saved as a folder of transformers (RUNS/trained), and imported as MODELS/before. Joint
# training starts from that folder; MODELS/after is exported from its checkpoint. Both bundles have the same score. After an
# interruption, the same command continues after the last finished epoch.
set -euo pipefail

if [ $# -ne 3 ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
python=${PYTHON:-python}
data=$(realpath "$1") runs=$(realpath -m "$2") models=$(realpath -m "$3")
cd "$(dirname "$0")/../.."
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0} HF_HUB_OFFLINE=1

# stage PROGRAM CONFIG NAME ARGUMENTS...: train, or continue.
stage() {
  local program=$1 config=$2 out=$runs/$3
  shift 3
  if [ -f "$out/last.pt" ]; then set -- "${changes[@]}" --resume; else set -- "${changes[@]}" "$@"; fi
  "$python" -m "training.$program" --config "training/configs/$config.yaml" --data "$data" --out "$out" "$@"
}

# SegFormer-B0 has twice these widths.
[ -d "$runs/network" ] || "$python" - "$runs/network" <<'EOF'
import sys

import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

torch.manual_seed(0)
config = SegformerConfig(hidden_sizes=[16, 32, 80, 128], decoder_hidden_size=128, num_labels=11)
SegformerForSemanticSegmentation(config).save_pretrained(sys.argv[1])
EOF

changes=(--set "segmenter.network=$runs/network")
stage train_segmenter small_segformer/segmenter segmenter
[ -d "$runs/trained" ] || "$python" -m training.save_network "$runs/segmenter/last.pt" "$runs/trained"
changes=(--set epochs=1 --set name=small_segformer_flow)
stage train_flow camvid/flow flow
changes=(--set "segmenter.network=$runs/trained")
stage train_joint small_segformer/joint joint --flow "$runs/flow/last.pt"

"$python" -m training.import_network "$runs/trained" "$models/before" --size 288x384 --data "camvid:$data@val" \
  --score kullback_leibler_to_uniform_opened --with fp16
"$python" -m training.export "$runs/joint/last.pt" "$models/after" --data "$data"
