"""Processes: a step on several devices is a child group that ends with the step.

The process that orchestrates joins no group and touches no GPU, so nothing that it waits for, least of all the
Teacher, can time a collective out. Children learn their place as torchrun's do, from the environment.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ares.config.schema import Config
from ares.ranks import EXCHANGE
from ares.steps.common.contract import StepContext, StepResult
from ares.storage.files import read_json, write_json
from ares.types import AresError

DEVICE_STEPS = ("prepare", "rationale", "rollout", "ppo", "assess", "generate", "sft", "lora")
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 3.0
_TAIL_LINES = 30


class StepFailed(RuntimeError):
    """A process of a step's group died; the message holds what it said."""


@dataclass(frozen=True)
class Place:
    """The ranks that this process starts: `first` to `first + count - 1` of `world`, on node `node`.

    `local` is the first one's number on its node; `others` are the first ranks of the processes, on this node or
    another, that start the rest: started by torchrun or srun, or once a node by hand with NODE_RANK.
    """

    first: int = 0
    count: int = 1
    world: int = 1
    node: int = 0
    local: int = 0
    per_node: int = 1
    others: tuple[int, ...] = ()
    address: str = "127.0.0.1"

    @property
    def leads(self) -> bool:
        """Whether this process orchestrates: it alone runs host steps and writes the manifest."""
        return self.first == 0


def place_of(config: Config, environment: Mapping[str, str] = os.environ) -> Place:
    """This process's place by what torchrun, srun or nobody (NODE_RANK apart) said in the environment.

    Raises AresError where they started another number of processes than the configuration has devices.
    """
    devices, nodes = config.trainer.devices, config.trainer.num_nodes
    world = devices * nodes
    started = _started(environment, devices)
    if started is not None and started.world > 1:
        if started.world == nodes and devices > 1 and started.local == 0:
            # One process a node, which starts its node's ranks.
            return _of_node(started.first, devices, nodes, started.address)
        if started.world != world:
            raise AresError(
                f"{started.world} processes were started and trainer.devices={devices} x trainer.num_nodes={nodes} "
                f"makes {world}; start {world}, or a single one on each node, which starts the others itself."
            )
        return started
    if nodes == 1:
        return Place(count=devices, world=world, per_node=devices)
    if "NODE_RANK" not in environment or "MASTER_ADDR" not in environment:
        raise AresError(
            f"trainer.num_nodes={nodes}: start the same command on every node with torchrun or srun, or with NODE_RANK "
            "and MASTER_ADDR set."
        )
    return _of_node(int(environment["NODE_RANK"]), devices, nodes, environment["MASTER_ADDR"])


def _of_node(node: int, devices: int, nodes: int, address: str) -> Place:
    firsts = tuple(range(devices, devices * nodes, devices))
    return Place(node * devices, devices, devices * nodes, node, 0, devices, firsts, address)


def _started(environment: Mapping[str, str], devices: int) -> Place | None:
    if "RANK" in environment and "LOCAL_RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        address = environment.get("MASTER_ADDR", "127.0.0.1")
    elif "SLURM_STEP_NUM_TASKS" in environment:  # set by srun alone, not in a batch script
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NODEID", "SLURM_LOCALID", "")
        address = socket.gethostname()
    else:
        return None
    rank, world, node, local = (int(environment.get(name, 0)) for name in names[:4])
    per_node = int(environment.get(names[4], devices))
    return Place(rank, 1, world, node, local, per_node, tuple(range(1, world)), address)


# --------------------------------------------------------------------------------------------------
# A child group
# --------------------------------------------------------------------------------------------------


def run_in_group(
    config: Config,
    context: StepContext,
    step: str,
    place: Place,
    announce: Callable[[Mapping[str, Any]], None] = lambda task: None,
    failure: Callable[[Path], str | None] = lambda exchange: None,
) -> StepResult:
    """Runs a step in `place.world` processes, of which `place.count` are started here; returns when all have ended.

    `announce` tells whoever starts the other ranks; `failure` says whether one of theirs died. Raises AresError
    with a process's own words where it raised one, else StepFailed; either way no process is left.
    """
    exchange = context.root / ".launch" / uuid.uuid4().hex[:12]
    exchange.mkdir(parents=True)
    task = {"exchange": str(exchange), "address": place.address, "port": free_port()}
    write_json(exchange / "task.json", {"step": step, "config": asdict(config), "run": _run_as_json(context)})
    processes: list[subprocess.Popen[bytes]] = []
    try:
        announce(task)
        processes = start_ranks(place, task)
        watch(processes, place.first, exchange, stop=lambda: failure(exchange))
        made = read_json(exchange / "outputs.json")
    except BaseException:
        write_json(exchange / "stopped.json", {})
        raise
    finally:
        end_ranks(processes)
    files = {name: Path(path) for name, path in made["files"].items()}
    return StepResult(files, made["metrics"], made["usd"], made["requests"])


def _run_as_json(context: StepContext) -> dict[str, Any]:
    inputs = {name: str(path) for name, path in context.inputs.items()}
    return {
        "root": str(context.root),
        "key": context.key,
        "folder": str(context.folder),
        "round": context.round,
    } | {
        "hash": context.hash,
        "inputs": inputs,
    }


def free_port() -> int:
    """A TCP port that nothing on this host listens on."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]


def start_ranks(place: Place, task: Mapping[str, Any]) -> list[subprocess.Popen[bytes]]:
    """Starts this place's ranks of a group; rank 0 keeps the terminal, the others write to a log beside the task."""
    # Ranks of one host share its processors; a user's own OMP_NUM_THREADS stands.
    threads = max(1, (os.cpu_count() or 1) // place.per_node)
    processes = []
    for offset in range(place.count):
        rank, local = place.first + offset, place.local + offset
        environment = {
            "OMP_NUM_THREADS": str(threads),
            **os.environ,
            EXCHANGE: task["exchange"],
            "RANK": str(rank),
            "WORLD_SIZE": str(place.world),
            "LOCAL_RANK": str(local),
            "LOCAL_WORLD_SIZE": str(place.per_node),
            "GROUP_RANK": str(place.node),
            "MASTER_ADDR": task["address"],
            "MASTER_PORT": str(task["port"]),
            # Lightning then takes the group from these, under SLURM too; no store of a torchrun above is ours.
            "TORCHELASTIC_RUN_ID": Path(task["exchange"]).name,
            "TORCHELASTIC_USE_AGENT_STORE": "False",
        }
        command = [sys.executable, "-m", "ares.launch.worker", str(os.getpid())]
        if rank == 0:
            processes.append(subprocess.Popen(command, env=environment))
        else:
            with (Path(task["exchange"]) / f"rank-{rank}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    return processes


def watch(
    processes: Sequence[subprocess.Popen[bytes]],
    first: int,
    exchange: Path,
    stop: Callable[[], str | None],
) -> None:
    """Returns when all processes (ranks from `first`) have ended well; raises as soon as one did not or `stop` says so."""
    while True:
        codes = [process.poll() for process in processes]
        elsewhere = stop()
        if elsewhere is not None or any(codes):
            # The others' complaints about a lost peer come later than what lost it.
            time.sleep(2 * _POLL_SECONDS)
            raise _failure(exchange, {first + i: code for i, code in enumerate(codes) if code}, elsewhere)
        if all(code == 0 for code in codes):
            return
        time.sleep(_POLL_SECONDS)


def _failure(exchange: Path, codes: Mapping[int, int], elsewhere: str | None) -> Exception:
    errors = sorted((read_json(path) for path in exchange.glob("error-*.json")), key=lambda e: e["time"])
    if errors:
        first = errors[0]
        if first["mistake"]:
            return AresError(first["message"])
        return StepFailed(f"rank {first['rank']} died:\n{first['message']}")
    if not codes:
        return StepFailed(elsewhere or "a process of another node died")
    rank, code = next(iter(codes.items()))
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    log = exchange / f"rank-{rank}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]) if log.exists() else ""
    return StepFailed(f"rank {rank} {how}" + (f"; it had said:\n{tail}" if tail else ""))


def end_ranks(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends whatever still runs, first by asking."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
