#!/usr/bin/env bash
# ./demo.sh FRAMES_OR_BAG [options]: sets itself up, plays frames through the live node, writes a report.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment vehicle ros demo
# Imports find this checkout, and relative paths mean what they mean where the command was typed.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$venv/bin/python" -m demo.run_demo "$@"
