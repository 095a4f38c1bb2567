#!/usr/bin/env bash
# ./test.sh: set up the environment and run every check.
# ./test.sh PYTEST_ARGUMENTS: run only these tests.
# ROS_FROM_PYPI=jazzy ./test.sh [PYTEST_ARGUMENTS]: run the tests of node and demo on ROS 2 Jazzy from PyPI.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ "$ros_requirements" = ros-jazzy ]; then
  prepare_environment vehicle ros demo development
  [ "$#" -gt 0 ] || set -- test/ros
else
  prepare_environment vehicle ros demo training development reference
fi
cd "$root"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if [ "$#" -gt 0 ]; then exec "$venv/bin/python" -m pytest "$@"; fi
"$venv/bin/ruff" format --check .
"$venv/bin/ruff" check .
"$venv/bin/lint-imports" --no-cache
"$venv/bin/mypy"
# Tests that only compute run in parallel. Tests of real ROS processes depend on time, so they run alone afterwards, also
# where one of the others failed.
status=0
"$venv/bin/python" -m pytest --numprocesses auto --dist loadfile --ignore test/ros || status=$?
"$venv/bin/python" -m pytest test/ros || status=$?
exit "$status"
