"""Two ranks that ask servers: shared work, one adapter, and a server of their node that waits for the last of them."""

import json
import sys
from pathlib import Path

import pytest

from tests.distributed.on_a_rank import on_ranks
from tests.support.token_server import TokenServer, adapter_folder, ask_as_rank, number_chat, numbered

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]
SERVE = "import sys; sys.path[:0] = {}; from tests.support.token_server import serve; serve(int(sys.argv[1]))"


def responses(folder: Path) -> list[list[list[int]]]:
    """The ids of greedy responses that each of two ranks has returned."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def expected() -> list[list[int]]:
    policy = number_chat()
    return policy.greedy(policy.encode(list(numbered(5).values())), max_new_tokens=4)


def test_ranks_share_the_requests_and_the_adapter(tmp_path: Path) -> None:
    adapter_folder(tmp_path / "policy")
    with TokenServer(number_chat()) as server:
        on_ranks(ask_as_rank, 2, tmp_path, [server.url], None)
        assert len(server.adapters) == 1
        assert len(server.requests) == 5 + 1
    assert responses(tmp_path) == [expected()] * 2


def test_first_rank_of_a_node_runs_the_server_until_the_last_has_asked(tmp_path: Path) -> None:
    adapter_folder(tmp_path / "policy")
    (tmp_path / "serve.py").write_text(SERVE.format([str(REPOSITORY / "src"), str(REPOSITORY)]))
    on_ranks(ask_as_rank, 2, tmp_path, [], f"{sys.executable} {tmp_path}/serve.py {{port}}")
    assert responses(tmp_path) == [expected()] * 2
    assert (tmp_path / "server-0.log").exists()
