"""`/v1/files`: rows for fine-tuning handed in, listed, given back and deleted; the results of jobs are files too.

Enters: uploads (multipart/form-data). Leaves: JSON, and contents. A content lies under an id that was made here; what the client called its
file is kept as words to show, and is never part of a path. Size is counted by the guard while the body comes in.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from burnish import atomic
from burnish.serve.files_upload import Upload, receive
from burnish.serve.jobs_desk import PURPOSE, Desk
from burnish.serve.jobs_rows import File, as_file, new_id
from burnish.serve.jobs_store import Store
from burnish.serve.problems import ApiError, wrong

NAME_LENGTH = 255
KNOWN = {"purpose"}
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
        store, id = desk.store(), new_id("file-")
        given = await receive(request.headers.get("content-type") or "", request.stream(), store.files / id)
        return described(await run_in_threadpool(_entered, store, id, given))

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


def _entered(store: Store, id: str, given: Upload) -> File:
    """Enter an upload whose content is on the disk; the ApiError of one that is not what is offered, whose content is gone then."""
    try:
        if unknown := sorted(set(given.fields) - KNOWN):
            raise wrong(f"{unknown[0][:64]}: is not offered here; expected the parts file and purpose.", param=unknown[0][:64])
        if given.fields.get("purpose") != PURPOSE:
            raise wrong(f"purpose: only {PURPOSE!r} is offered here.", param="purpose")
        if given.filename is None:
            raise wrong("file: expected a file, with a name, as a part of the form.", param="file")
        if given.size == 0:
            raise wrong("file: is empty; expected JSON lines.", param="file")
        atomic.sync(store.files)
        file = File(id=id, created_at=int(time.time()), filename=shown(given.filename), bytes=given.size, purpose=PURPOSE)
        store.add_file(file)
    except BaseException:
        (store.files / id).unlink(missing_ok=True)
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
