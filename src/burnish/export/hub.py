"""Export to a model hub: a repository with the adapter, or the whole model, private unless it is said otherwise.

Enters: a `Subject` and the name of a repository. Leaves: that repository with one commit, and the same files in a folder here. They are
compared with the tuned model before they are sent; what arrived is fetched again and compared byte for byte. The access token is taken from
the environment or the hub's own login, sent to the hub alone, and never written.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError, RunError, UsageError
from burnish.export import adapter, merged
from burnish.export.bundle import Made, step_failed
from burnish.export.parity import Check, hold
from burnish.export.subject import Choices, Subject
from burnish.runs import redact

REPO = re.compile(r"[\w.-]+/[\w.-]+")


def refuse(subject: Subject, choices: Choices) -> None:
    """Raise UsageError without a repository's name or a token; ModelError for what cannot be exported whole."""
    if not choices.repo or not REPO.fullmatch(choices.repo):
        raise UsageError(f"--to hub needs the repository's name with its owner: --repo OWNER/NAME{_given(choices.repo)}")
    if _token() is None:
        raise UsageError("--to hub needs an access token with the right to write: set HF_TOKEN, or log in with `hf auth login`.")
    if not _as_adapter(subject):
        merged.refuse(subject, choices)


def _given(repo: str | None) -> str:
    return f" (given: {repo!r})" if repo else ""


def _token() -> str | None:
    from huggingface_hub import get_token

    return os.environ.get("HF_TOKEN") or get_token()


def _as_adapter(subject: Subject) -> bool:
    """Return whether others can find the base of an adapter, so that it is worth sending alone."""
    return subject.is_adapter and not subject.model.found.local


def fill(subject: Subject, folder: Path, choices: Choices) -> Made:
    """Write what will be sent into `folder`, compared with the tuned model."""
    alone = _as_adapter(subject)
    made = adapter.fill(subject, folder, choices) if alone else merged.fill(subject, folder, choices)
    note = "Sent as an adapter: its base is on the hub." if alone else "Sent whole: its base is not on the hub, or it has none."
    facts = {**made.facts, "repository": choices.repo, "private": not choices.public}
    return Made(made.checks, made.stored, f"burnish generate {choices.repo} --prompt TEXT", facts, [*made.notes, note])


def upload(subject: Subject, folder: Path, choices: Choices) -> Mapping[str, Any]:
    """Send a complete folder as one commit of a new repository, and fetch it again; raises RunError, and takes back a repository made in vain."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    token, repo = _token(), str(choices.repo)
    _refuse_token_in(folder, token)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        url = api.create_repo(repo, private=not choices.public, exist_ok=False)
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 409:
            raise UsageError(
                f"The repository {repo} exists already, and nothing in it was changed. Choose another name: --repo OWNER/NAME"
            ) from None
        raise _told("making the repository", error, token) from None
    except Exception as error:
        raise _told("making the repository", error, token) from None
    try:
        commit = api.create_commit(repo, _operations(folder), commit_message="Model exported by burnish")
        hold([_fetched(api, repo, folder)], to="hub")
    except BaseException as error:
        with suppress(Exception):
            api.delete_repo(repo)  # made a moment ago by this very call, and not complete
        if isinstance(error, BurnishError) or not isinstance(error, Exception):
            raise
        raise _told("sending the files", error, token) from None
    return {"url": str(url), "commit": getattr(commit, "oid", None)}


def _operations(folder: Path) -> list[Any]:
    """Return every file of a folder as a part of one commit, which is there as a whole or not at all."""
    from huggingface_hub import CommitOperationAdd

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [CommitOperationAdd(path_in_repo=path.relative_to(folder).as_posix(), path_or_fileobj=str(path)) for path in files]


def _fetched(api: Any, repo: str, folder: Path) -> Check:
    """Return the check that what arrived has the bytes of what was sent."""
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    with tempfile.TemporaryDirectory(prefix="burnish-hub-") as place:
        wrong = [
            name for name in files if _digest(Path(api.hf_hub_download(repo, name, local_dir=place))) != _digest(folder / name)
        ]
    return Check("fetching it again", "files whose bytes differ:", float(len(wrong)), 0.0, len(files), "files")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse_token_in(folder: Path, token: str | None) -> None:
    """Raise RunError where a file holds the access token, as a run's note of its environment might."""
    for path in folder.rglob("*"):
        if token and path.is_file() and path.suffix != ".safetensors" and token.encode() in path.read_bytes():
            raise RunError(
                f"The export to hub failed (step: looking for secrets): {path.name} holds the access token. Nothing was sent."
            )


def _told(step: str, error: Exception, token: str | None) -> RunError:
    """Return the error of a step with the hub, the token blanked out whatever the library put into its message."""
    cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
    text = redact(f"{error}{cause}").replace(token or "\0", "***")
    return step_failed(step, RuntimeError(text), to="hub")
