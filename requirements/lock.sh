#!/usr/bin/env bash
# Make the locked .txt files anew from the .in files, for Linux x86-64 and Python 3.10 to 3.12. Needs uv (pip install uv).
set -euo pipefail
cd "$(dirname "$0")"
compile() {
  uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate "$@"
}
compile --generate-hashes vehicle.in -o vehicle.txt
compile --generate-hashes ros.in -o ros.txt
compile --generate-hashes ros-jazzy.in -o ros-jazzy.txt
compile --generate-hashes --no-deps cv_bridge.in -o cv_bridge.txt
compile --no-deps reference.in -o reference.txt
compile demo.in -o demo.txt
# torch brings its own CUDA packages, or none in its CPU build: both must install from the same file.
compile training.in -o training.all
grep -vE '^(nvidia-|cuda-|triton|setuptools)' training.all > training.txt
rm training.all
# After training.txt, which constrains it: both hold onnx.
compile development.in -o development.txt
