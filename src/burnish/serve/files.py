"""`/v1/files`: rows for fine-tuning handed in, listed, given back and deleted; the results of jobs are files too.

Enters: uploads (multipart/form-data). Leaves: JSON, and contents. A content lies under an id that was made here; what the client called its
file is kept as words to show, and is never part of a path. Size is counted by the guard while the body comes in.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from starlette.datastructures import UploadFile

from burnish import atomic
from burnish.disk import explained
from burnish.serve.jobs_desk import PURPOSE, Desk
from burnish.serve.jobs_store import File, Store, as_file, new_id
from burnish.serve.problems import ApiError, wrong

NAME_LENGTH = 255
KNOWN = {"file", "purpose"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [PURPOSE]},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


def routes(desk: Desk) -> APIRouter:
    """Return the routes about files."""
    router = APIRouter(tags=["files"])

    @router.post("/v1/files", openapi_extra=BODY)
    async def upload(request: Request) -> dict[str, Any]:
        """Take a file of rows for fine-tuning (JSON lines)."""
        if not (request.headers.get("content-type") or "").lower().startswith("multipart/form-data"):
            raise wrong("Expected an upload: multipart/form-data with the parts file and purpose.", param="file")
        async with request.form(max_files=1, max_fields=8) as form:
            given, purpose = form.get("file"), form.get("purpose")
            if unknown := sorted(set(form) - KNOWN):
                raise wrong(f"{unknown[0]}: is not offered here; expected the parts file and purpose.", param=unknown[0])
            if purpose != PURPOSE:
                raise wrong(f"purpose: only {PURPOSE!r} is offered here.", param="purpose")
            if not isinstance(given, UploadFile):
                raise wrong("file: expected a file, with a name, as a part of the form.", param="file")
            file = await run_in_threadpool(_keep, desk.store(), given.file, given.filename or "file.jsonl")
        return described(file)

    @router.get("/v1/files")
    def listed(
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
        purpose: Annotated[str | None, Query(max_length=64)] = None,
    ) -> dict[str, Any]:
        """List the files, the newest first unless asked otherwise."""
        store = desk.known()
        where = {} if purpose is None else {"purpose": purpose}
        page = (
            store.page("files", where, after=after, limit=limit, newest_first=order == "desc") if store is not None else ([], False)
        )
        return paged(page, [described(as_file(row)) for row in page[0]] if page is not None else [])

    @router.get("/v1/files/{file_id}")
    def one(file_id: str) -> dict[str, Any]:
        """Describe a file."""
        return described(_find(desk, file_id)[1])

    @router.get("/v1/files/{file_id}/content", response_class=FileResponse)
    def content(file_id: str) -> FileResponse:
        """Give the content of a file back, byte for byte."""
        store, file = _find(desk, file_id)
        # As bytes and as a download: what somebody uploaded is nothing that a browser may show as a page of this server.
        headers = {"content-disposition": f'attachment; filename="{file.id}"'}
        return FileResponse(store.content(file), media_type="application/octet-stream", headers=headers)

    @router.delete("/v1/files/{file_id}")
    def delete(file_id: str) -> dict[str, Any]:
        """Delete a file; jobs that were made of it keep their own copy."""
        store, file = _find(desk, file_id)
        store.remove_file(file.id)
        return {"id": file.id, "object": "file", "deleted": True}

    return router


def _keep(store: Store, stream: BinaryIO, name: str) -> File:
    """Write an upload under a new id, complete and on the disk before it is entered; ApiError for an empty one."""
    id = new_id("file-")
    place = store.files / id
    with explained(place):
        try:
            with place.open("xb") as target:
                shutil.copyfileobj(stream, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
            atomic.sync(store.files)
            if size == 0:
                raise wrong("file: is empty; expected JSON lines.", param="file")
            file = File(id=id, created_at=int(time.time()), filename=shown(name), bytes=size, purpose=PURPOSE)
            store.add_file(file)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
    return file


def shown(name: str) -> str:
    """Return what a client called its file as words to show: nothing that moves a cursor, no half characters, not without end."""
    words = "".join(letter for letter in name if letter.isprintable()).encode("utf-8", "replace").decode()
    return words[:NAME_LENGTH] or "file.jsonl"


def _find(desk: Desk, id: str) -> tuple[Store, File]:
    """Return a file and the store that has it; the ApiError (404) of an unknown one."""
    store = desk.known()
    file = store.file(id) if store is not None else None
    if store is None or file is None:
        raise ApiError(404, "There is no file of that id here.", param="file_id", code="file_not_found")
    return store, file


def described(file: File) -> dict[str, Any]:
    """Return a file as clients know it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": None,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def paged(page: tuple[list[Any], bool] | None, data: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a page of a list as clients know it; the ApiError where `after` named nothing that is there."""
    if page is None:
        raise wrong("after: is not the id of anything in this list.", param="after")
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": page[1], **ends}
