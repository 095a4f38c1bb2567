#!/usr/bin/env bash
# Make the locked .txt files from the .in files, for Linux and Python 3.10 to 3.12. Needs uv (pip install uv).
# aarch64.py says whether the wheels exist for a Jetson too.
# Versions that are locked already stay; remove a .txt file to update its packages.
set -euo pipefail
cd "$(dirname "$0")"
compile() {
  uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate "$@"
}
# The options that leave out torch and the packages that only its CUDA build needs.
cuda_packages() {
  compile training.in | sed -nE 's/^(torch|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*|triton)(\[.*\])?==.*/--no-emit-package \1/p'
}
compile --generate-hashes vehicle.in -o vehicle.txt
compile --generate-hashes ros.in -o ros.txt
compile --generate-hashes ros-jazzy.in -o ros-jazzy.txt
compile --generate-hashes --no-deps reference.in -o reference.txt
compile --generate-hashes demo.in -o demo.txt
# torch is in torch.txt, without a hash: its CPU build and its CUDA build are different files of one version. The CUDA
# build installs its own CUDA packages.
compile --generate-hashes --no-emit-package setuptools $(cuda_packages) training.in -o training.txt
# After training.txt, which constrains it: both contain onnx.
compile --generate-hashes development.in -o development.txt
# Last: it is installed beside all others, so their locks constrain it.
compile --generate-hashes fleet.in -o fleet.txt
