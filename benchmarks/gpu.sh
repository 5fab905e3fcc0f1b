#!/usr/bin/env bash
# All rows of docs/performance.md that need a GPU, on one card, within 8 minutes.
#
#   benchmarks/gpu.sh [python]
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${1:-.venv/bin/python}
export PYTHONPATH=src HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
date --utc +%F
for name in writing rollout update sft prefer; do
    for size in small base; do
        for policy in t5 vlm; do
            echo "== $name, $policy, $size"
            timeout 24 "$PYTHON" -m benchmarks $name --size $size --policy $policy --device cuda || echo "not measured"
        done
    done
done
