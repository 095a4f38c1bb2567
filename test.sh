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
  prepare_environment vehicle ros demo training development reference fleet
fi
cd "$root"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if [ "$#" -gt 0 ]; then exec "$venv/bin/python" -m pytest "$@"; fi
"$venv/bin/ruff" format --check .
"$venv/bin/ruff" check .
"$venv/bin/lint-imports" --no-cache
"$venv/bin/mypy"
# Tests of real ROS processes mostly wait: two run beside each other, except those that measure times. A failure in one
# part does not keep the others from running.
status=0
"$venv/bin/python" -m pytest --numprocesses auto --dist loadfile --ignore test/ros || status=$?
"$venv/bin/python" -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not alone" test/ros || status=$?
"$venv/bin/python" -m pytest -m alone test/ros || status=$?
exit "$status"
