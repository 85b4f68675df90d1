#!/usr/bin/env bash
# What a GPU must prove, stage by stage: tests, memcheck, op, step, decode, run, cache, peers, evidence,
# profile.
#
#     benchmarks/gpu.sh [STAGE ...]
#
# Without names all stages run but evidence, in about ten minutes. Each stage writes OUT/STAGE.json as it
# ends; `benchmarks/gpu.sh --help` gives each one's seconds. Without a GPU all run at a tiny size.
#
#     GPU_PHOTOS   folder of photos (default: generated scenes)
#     GPU_EVIDENCE folder that evidence.py --prepare has made (default: evidence-data)
#     GPU_OUT      new folder, or one of an earlier call, for the results (default: gpu-results)
#     GPU_WHEELS   folder of wheels and site*.tar.xz archives (whole, or split into NAME.00, NAME.01, ...)
#                  of packages that are missing here; unpacked beside the results, nothing is installed
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-$(command -v python || command -v python3)}"
export GPU_OUT="${GPU_OUT:-gpu-results}"
if [ -n "${GPU_WHEELS:-}" ]; then
    "$python" benchmarks/unpack.py "$GPU_WHEELS" "$GPU_OUT/site"
    export PYTHONPATH="$GPU_OUT/site${PYTHONPATH:+:$PYTHONPATH}"
    # DALI looks for nvJPEG by its name alone.
    for folder in "$GPU_OUT"/site/nvidia/*/lib; do
        export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    done
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" benchmarks/gpu.py "$@"
