#!/usr/bin/env bash
# ./test.sh [pytest arguments]: sets itself up and runs every check; with arguments, only those tests.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment vehicle ros demo training development reference
cd "$root"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if [ "$#" -gt 0 ]; then exec "$venv/bin/python" -m pytest "$@"; fi
"$venv/bin/ruff" format --check .
"$venv/bin/ruff" check .
"$venv/bin/mypy"
"$venv/bin/python" -m pytest
