#!/usr/bin/env bash
# Show what works on a GPU, and how fast, in stages: tests, memcheck, op, step, decode, run, cache, peers,
# evidence, profile.
#
#     benchmarks/gpu.sh [STAGE ...]
#
# Without names, all stages except evidence run, in about ten minutes. Each stage writes OUT/STAGE.json when
# it ends; `benchmarks/gpu.sh --help` lists their time limits. Without a GPU all run at a tiny size.
#
#     GPU_PHOTOS   folder of photos (default: generated scenes)
#     GPU_EVIDENCE folder made by evidence.py --prepare (default: evidence-data)
#     GPU_OUT      folder for the results, new or from an earlier call (default: gpu-results)
#     GPU_WHEELS   folder with wheels and site*.tar.xz archives (whole, or split into NAME.00, NAME.01, ...)
#                  of packages that are missing here; they are unpacked beside the results, not installed
set -euo pipefail
for name in GPU_PHOTOS GPU_EVIDENCE GPU_OUT GPU_WHEELS; do
    if [ -n "${!name:-}" ]; then export "$name=$(realpath -m -- "${!name}")"; fi
done
cd "$(dirname "$0")/.."
python="${PYTHON:-$(command -v python || command -v python3)}"
export GPU_OUT="${GPU_OUT:-gpu-results}"
if [ -n "${GPU_WHEELS:-}" ]; then
    "$python" benchmarks/unpack.py "$GPU_WHEELS" "$GPU_OUT/site"
    export PYTHONPATH="$GPU_OUT/site${PYTHONPATH:+:$PYTHONPATH}"
    # DALI finds nvJPEG only on the library path.
    for folder in "$GPU_OUT"/site/nvidia/*/lib; do
        export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    done
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" benchmarks/gpu.py "$@"
