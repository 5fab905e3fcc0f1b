#!/usr/bin/env bash
# Rows of docs/performance.md that need a GPU, on one card, within 8 minutes: the most telling ones first, because those for
# which no time is left are left out. A row that takes too long is stopped; what it has printed until then stays.
#
#   benchmarks/gpu.sh [python]
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${1:-.venv/bin/python}
export PYTHONPATH=src:. PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
END=$((SECONDS + 460))

# run <most seconds> <arguments of python>
run() {
    local left=$((END - SECONDS))
    if ((left < 15)); then
        echo "not measured: no time is left"
    else
        timeout -k 5 $((left < $1 ? left : $1)) "$PYTHON" "${@:2}" || echo "stopped, with exit code $?"
    fi
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
date --utc +%F
echo "== graphs write what launched steps write"
run 75 -m pytest -q -n 0 -rs tests/models/test_slots.py tests/models/test_families.py -k test_graphs
for row in \
    "writing t5 base" "writing vlm base" "rollout t5 base" "rollout vlm base" \
    "update t5 base" "sft t5 base" "prefer t5 base" \
    "update vlm small" "sft vlm small" "prefer vlm small" \
    "writing t5 large"; do
    read -r name policy size <<<"$row"
    echo "== $name, $policy, $size"
    run 75 -m benchmarks "$name" --size "$size" --policy "$policy" --device cuda --seconds 10
done
