"""Uploads to a hub on loopback, and what is said where they cannot work."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from ares.steps.common.hub import check_push, push
from ares.types import AresError
from tests.support.hub_server import TOKEN, HubServer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/weights").write_bytes(b"\x00\xff")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Card\n")
    return tmp_path


@pytest.mark.parametrize("private", [True, False])
def test_folder_arrives_as_it_is(hub: HubServer, folder: Path, private: bool) -> None:
    check_push("me/demo")
    assert push(folder, "me/demo", private=private) == f"{hub.url}/me/demo"
    assert hub.private == {"me/demo": private}
    expected = {
        str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }
    assert {
        path: content for path, content in hub.files["me/demo"].items() if path != ".gitattributes"
    } == expected


def test_token_that_may_not_write_is_refused(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(AresError, match=r"export\.push=me/demo: the hub refused \(401.*token that may write"):
        push(folder, "me/demo", private=True)


def test_unreachable_hub_is_reported(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(AresError, match=r"export\.push=me/demo failed .*the model is in") as error:
        push(folder, "me/demo", private=True)
    assert "\n" not in str(error.value)


def test_impossible_uploads_are_refused_beforehand(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for repo in ("a/b/c", "bad name", "--x"):
        with pytest.raises(AresError, match="is no id of the hub"):
            check_push(repo)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AresError, match="HF_HUB_OFFLINE is set"):
        check_push("me/demo")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    with pytest.raises(AresError, match="needs a token that may write; set HF_TOKEN"):
        check_push("me/demo")
