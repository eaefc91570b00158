#!/usr/bin/env bash
# The tests of the compiled sources, built so that they watch their own memory: address and undefined-behaviour sanitizers.
#
# Usage: benchmarks/kernel_sanitised.sh [PYTHON]     (default .venv/bin/python; needs g++ with its sanitizers)
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${1:-.venv/bin/python}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -r setup.py pyproject.toml README.md LICENSE src "$folder"
rm -f "$folder"/src/verydeep/*/*.so
sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
(cd "$folder" && CFLAGS="$sanitizers -g -fno-omit-frame-pointer" LDFLAGS="$sanitizers" \
  "$python" setup.py --quiet build_ext --inplace)
# torch and Python never free everything, and the sanitizer has to be there before either
export ASAN_OPTIONS=detect_leaks=0 PYTHONPATH="$folder/src" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
LD_PRELOAD="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so)" \
  "$python" -m pytest -q --capture=no -p no:cacheprovider tests/speed/test_library.py tests/speed/test_accelerate.py \
  tests/speed/test_autograd.py tests/images/test_resample.py \
  -k "not memory_goes and not no_memory and not full_width and not finds_nothing_wrong"
