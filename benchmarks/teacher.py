"""Throughput and safety of `score` against the loopback server, with faults and kills.

    python benchmarks/teacher.py                       # 2,000 questions x 4 rationales, 1 s latency, 5 % faults
    python benchmarks/teacher.py --questions 100 --kills 2

Ratios are relative to the ideal rate at this latency without any faults or overhead: concurrency / latency
attempts per second.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from ares.config.compose import folder, register_schema, to_config
from ares.steps.common.contract import StepContext
from ares.steps.score import score
from ares.storage.files import sha256_file, write_json
from ares.storage.tables import read_feedback, write_rollouts
from ares.types import Rollout, Span

REPOSITORY = Path(__file__).resolve().parents[1]
SERVER = REPOSITORY / "tests" / "support" / "loopback" / "server.py"
GENERATED = ("ok", "wrong_count", "refusal", "max_tokens")  # a complete reply was sent and would be billed


def main() -> None:
    """Measures group=1, group=k, and group=1 with kills."""
    arguments = parsed()
    if arguments.child:
        score_in(Path(arguments.child), arguments.url, arguments.group, arguments.concurrency)
        return
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "inputs"
        make_inputs(inputs, arguments.questions, arguments.k)
        print(f"{arguments.questions} questions x {arguments.k} rationales, latency {arguments.latency} s, "
              f"{arguments.faults:.0%} faults, concurrency {arguments.concurrency}")  # fmt: skip
        plain = measure(arguments, inputs, Path(name) / "one", "1", kills=0)
        measure(arguments, inputs, Path(name) / "grouped", "k", kills=0)
        killed = measure(arguments, inputs, Path(name) / "killed", "1", kills=arguments.kills)
        print(f"feedback.parquet with and without kills: {'identical' if plain == killed else 'DIFFERENT'}")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--faults", type=float, default=0.05)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("child", "url", "group"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_inputs(root: Path, questions: int, k: int) -> None:
    """Problems in the published layout, and rollouts of 2 to 5 sentences."""
    draw = random.Random(0)
    fields = dict.fromkeys(("hint", "lecture", "subject", "topic", "category", "skill", "grade", "task"), "")
    problems, rollouts = {}, []
    for number in range(questions):
        pid = str(number + 1)
        question = {"question": f"Which is number {pid}?", "choices": ["one", "two"], "answer": 0}
        problems[pid] = {**fields, **question, "image": None, "solution": "One is one.", "split": "train"}
        for sample in range(k):
            parts = [f"Thought {draw.randrange(10**6)} is about {pid}." for _ in range(draw.randint(2, 5))]
            starts = [sum(len(part) + 1 for part in parts[:i]) for i in range(len(parts))]
            spans = tuple(Span(at, at + len(part)) for at, part in zip(starts, parts, strict=True))
            ids, ends = tuple(range(len(parts))), tuple(range(len(parts)))
            zeros = (0.0,) * len(parts)
            rollouts.append(
                Rollout(
                    f"{pid}/{sample}", pid, sample, " ".join(parts), ids, False, spans, ends, zeros, zeros
                )
            )
    write_json(root / "data" / "problems.json", problems)
    write_json(root / "data" / "pid_splits.json", {"train": list(problems), "val": [], "test": []})
    write_rollouts(root / "rollouts" / "part-0.parquet", rollouts)


def score_in(run_folder: Path, url: str, group: str, concurrency: int) -> None:
    """The score step, as a run would do it."""
    inputs = run_folder.parent / "inputs"
    register_schema()
    overrides = (
        *("teacher=anthropic", f"teacher.base_url={url}", f"teacher.group={group}", "teacher.timeout=5"),
        *(f"teacher.concurrency={concurrency}", f"paths.ledger={run_folder}/ledger.sqlite"),
        *("data=scienceqa", f"data.root={inputs}/data"),
    )
    with initialize_config_dir(str(folder()), version_base="1.3"):
        config = to_config(compose("config", overrides=list(overrides)))
    paths = {"data": inputs / "data", "rollouts": inputs / "rollouts"}
    score(config, StepContext(run_folder, "round-1/score", run_folder, 1, config, "0" * 64, paths))


def measure(arguments: argparse.Namespace, inputs: Path, run_folder: Path, group: str, kills: int) -> str:
    """Runs score to its end despite `kills`, prints the measurements, and returns the sha256 of feedback.parquet."""
    run_folder.mkdir()
    options = {"latency": arguments.latency, "faults": arguments.faults, "retry_after": 0.5}
    server = subprocess.Popen(
        [sys.executable, SERVER, json.dumps(options)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    try:
        run_child(arguments, run_folder, url, group, kills)
        with urllib.request.urlopen(f"{url}/_log") as reply:
            log = json.load(reply)["log"]
    finally:
        server.kill()
    report(arguments, log, run_folder, group, kills)
    return sha256_file(run_folder / "feedback.parquet")


def run_child(arguments: argparse.Namespace, run_folder: Path, url: str, group: str, kills: int) -> None:
    """Starts the step and kills it at random moments, then lets it finish."""
    draw = random.Random(arguments.seed)
    requests = arguments.questions * (arguments.k if group == "1" else 1)
    expected = requests * arguments.latency / arguments.concurrency
    command = [sys.executable, __file__, f"--child={run_folder}", f"--url={url}", f"--group={group}"]
    command.append(f"--concurrency={arguments.concurrency}")
    environment = {**os.environ, "ANTHROPIC_API_KEY": "loopback"}
    errors = run_folder / "stderr.txt"
    for _ in range(kills):
        with errors.open("w") as file:
            child = subprocess.Popen(command, env=environment, stderr=file)
            wait_for_first_request(run_folder)
            time.sleep(draw.uniform(0.05, 0.9) * expected / (kills + 1))
            child.send_signal(signal.SIGKILL)
            child.wait()
    with errors.open("w") as file:
        if subprocess.run(command, env=environment, stderr=file, check=False).returncode:
            raise SystemExit(errors.read_text()[-2000:])


def wait_for_first_request(run_folder: Path) -> None:
    """Waits until the step has an open request."""
    ledger = run_folder / "ledger.sqlite"
    started = time.time()
    while time.time() < started + 60:
        if ledger.exists():
            try:
                with sqlite3.connect(ledger) as db:
                    query = "SELECT count(*) FROM requests WHERE lease_until > ?"
                    if db.execute(query, (started + 60,)).fetchone()[0]:
                        return
            except sqlite3.OperationalError:
                pass  # not created yet
        time.sleep(0.05)


def report(arguments: argparse.Namespace, log: list[Any], run_folder: Path, group: str, kills: int) -> None:
    """Prints the measurements."""
    times = sorted(at for at, _, _ in log)
    low, high = times[len(times) // 10], times[len(times) * 9 // 10]
    rate = 0.8 * len(times) / (high - low)
    best = arguments.concurrency / arguments.latency
    rows = read_feedback(run_folder / "feedback.parquet")
    names = Counter(row.row_id for row in rows)
    expected = arguments.questions * arguments.k
    unique = {name for _, name, _ in log}
    failed = sum(outcome not in GENERATED for _, _, outcome in log)
    generated = Counter(name for _, name, outcome in log if outcome in GENERATED)
    twice = sum(count > 1 for count in generated.values())
    statuses = Counter(row.status for row in rows)
    print(f"group={group}, {kills} kills")
    print(f"  attempts/s, 10th to 90th percentile: {rate:.1f} = {rate / best:.1%} of {best:.0f}"
          + (" (not comparable: kills)" if kills else ""))  # fmt: skip
    print(f"  entire step: {times[-1] - times[0]:.1f} s; rows: {len(rows)} of {expected}, "
          f"{expected - len(names)} lost, {len(rows) - len(names)} duplicated; {dict(statuses)}")  # fmt: skip
    again = sum(generated.values()) - len(generated)
    print(f"  attempts {len(log)} = {len(unique)} unique + {failed} failed ones + {again} sent again after a kill"
          f"{'' if len(log) == len(generated) + failed + again else ' DOES NOT ADD UP'}")  # fmt: skip
    print(
        f"  requests paid more than once: {twice} (at most {kills} kills x {arguments.concurrency} under way)"
    )


if __name__ == "__main__":
    main()
