"""Uploads a folder to the hub."""

import os
from pathlib import Path

from ares.types import AresError


def check_push(repo: str) -> None:
    """Raises AresError where an upload to a repository cannot work: its name, no connection, no token."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise AresError(
            f"export.push={repo} is no id of the hub ({str(error).split(':')[0]}); give <user>/<name>."
        ) from None
    if constants.HF_HUB_OFFLINE:
        raise AresError(f"export.push={repo} needs the hub, and HF_HUB_OFFLINE is set; unset it.")
    if not get_token():
        raise AresError(
            f"export.push={repo} needs a token that may write; set HF_TOKEN, or run `hf auth login` once."
        )


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Uploads a folder as a repository, which is created if needed, `private` or not; returns its address.

    Raises AresError where the hub refuses, or cannot be reached.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Upload with ares")
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = (
            "use a token that may write to it (HF_TOKEN)" if status in (401, 403, 404) else "try again later"
        )
        raise AresError(
            f"export.push={repo}: the hub refused ({status}, {_reason(error)}); {remedy}."
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        raise AresError(f"export.push={repo} failed ({_reason(error)}); the model is in {folder}.") from None
    return str(address)


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
