#!/usr/bin/env bash
# Everything that a GPU must prove, in at most ten minutes: tests, benchmarks, a profile, a real run.
#
#     benchmarks/gpu.sh [PHOTOS] [OUT]
#
# PHOTOS is a folder of images (default: generated scenes), OUT a new folder for the results (default
# gpu-results). Needs no network. Without a GPU it runs to the end too, and says what it left out.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" benchmarks/gpu.py "${1:-}" "${2:-gpu-results}"
