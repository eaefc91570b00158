#!/usr/bin/env bash
# What to run where a GPU is at hand. Needs no network there, and nothing installed but PyTorch, torchvision, NumPy,
# Pillow, safetensors and scikit-learn; verydeep is used from the tree.
#
#   benchmarks/gpu.sh pack         HERE, with a network: fills .gpu/ (git-ignored) with the wheels that may be missing there
#   benchmarks/gpu.sh tests        the tests marked gpu                                     about 2 minutes
#   benchmarks/gpu.sh throughput   A and D at 224 beside torchvision and timm               at most 9 minutes
#   benchmarks/gpu.sh all          tests, throughput
#   benchmarks/gpu.sh tiny         all of it on the processor and very small, to see that it runs   about 3 minutes
#
# Options after the part go to its script (python -m benchmarks.gpu_PART --help). Results are JSON lines, written as they come,
# in $OUT, or in results/gpu/ where OUT is not set. PYTHON names the interpreter: .venv/bin/python, else python3.
#
# On a machine that is lent by the command, which gets a copy of the working tree and takes at most 10 minutes a command,
# run pack here first and carry .gpu along: bash benchmarks/gpu.sh tests; bash benchmarks/gpu.sh throughput --budget 330
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-help}
shift || true
carried=.gpu
scratch=${TMPDIR:-/tmp}/verydeep-gpu
export OUT=${OUT:-$PWD/results/gpu}
export PYTHONUNBUFFERED=1
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=$PWD/.venv/bin/python; fi
fi

pack() {
  mkdir -p "$carried/wheels"
  rm -f "$carried"/wheels/*
  local for_there=(--quiet --python-version 3.12 --implementation cp --only-binary=:all: --dest "$carried/wheels")
  for platform in manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64; do
    for_there+=(--platform "$platform")
  done
  # the package needs pydantic, its tests the others; timm is compared with, and finds what it needs there or is left out
  "$PYTHON" -m pip download "${for_there[@]}" pydantic pytest hypothesis beartype jaxtyping
  "$PYTHON" -m pip download "${for_there[@]}" --no-deps timm
  du -sh "$carried"/*
}

# Makes the packages ready, once for all parts.
ready() {
  mkdir -p "$OUT" "$scratch"
  export PYTHONPATH=$PWD/src
  if [ -d "$carried/wheels" ]; then
    "$PYTHON" benchmarks/gpu_site.py "$carried/wheels" "$scratch/site"
    PYTHONPATH=$PYTHONPATH:$scratch/site
  fi
  "$PYTHON" -c 'import torch, pydantic, verydeep
where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
print("verydeep", verydeep.__version__, "torch", torch.__version__, "pydantic", pydantic.VERSION, "on", where)'
}

# Runs the parts named, all of them even if one fails, and then fails if one did.
each() {
  local failed=0
  for name in "$@"; do
    bash benchmarks/gpu.sh "$name" || failed=1
  done
  return $failed
}

tiny() {
  export VERYDEEP_GPU_TESTS_ON=cpu
  "$PYTHON" -m benchmarks.gpu_tests -k "not compiled"
  "$PYTHON" -m benchmarks.gpu_throughput --device cpu --tiny --nets A --rounds 2 --cells bf16/channels_last
}

case $part in
  pack) pack ;;
  tests) ready && "$PYTHON" -m benchmarks.gpu_tests "$@" ;;
  throughput) ready && "$PYTHON" -m benchmarks.gpu_throughput "$@" ;;
  all) each tests throughput ;;
  tiny) ready && tiny ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' benchmarks/gpu.sh ;;
esac
