"""`/v1/jobs`: files that are sent once, enhanced in the background, and given in any format."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse

from overtone.audio import sending
from overtone.serving import conditions, uploads
from overtone.serving.engine import Engine, client_of, engine_of
from overtone.serving.enhancement import Order
from overtone.serving.errors import Refused, documented
from overtone.serving.jobfiles import Job
from overtone.serving.jobs import Jobs
from overtone.serving.routes.enhance import AUDIO, Format, ModelName, order_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_FILE: dict[str, Any] = {
    "response_class": FileResponse,
    "responses": {
        200: {"description": "The whole file; ranges of it can be asked for.", "content": AUDIO},
        **documented(400, 401, 404, 409, 422, 429, 503),
    },
}


def jobs_of(request: Request) -> Jobs:
    """The server's jobs; FastAPI's dependency of the routes."""
    return cast("Jobs", request.app.state.jobs)


JobsDependency = Annotated[Jobs, Depends(jobs_of)]


@router.post(
    "",
    status_code=202,
    responses=documented(400, 401, 404, 408, 413, 422, 429, 503),
    openapi_extra={"requestBody": {**uploads.BODY, "required": False}},
)
async def submit(
    request: Request,
    engine: Annotated[Engine, Depends(engine_of)],
    jobs: JobsDependency,
    order: Annotated[Order, Depends(order_of)],
    model: ModelName = None,
    condition: Annotated[
        str, Query(description="A name of /v1/conditions: what the file is made worse by first.")
    ] = conditions.NONE,
    source: Annotated[str | None, Query(description="Another job, whose file is taken in place of a body.")] = None,
) -> Job:
    """Take a file to be enhanced: the request's body, the field `file` of a form, or the file of another job."""
    await asyncio.to_thread(conditions.found, condition)
    options, client = engine.options, client_of(request)
    asked = {**asdict(order), "model": model, "condition": condition}
    with engine.limits.request(client):
        if source is not None:
            return await jobs.submit(client, None, source, asked)
        async with uploads.received(request, options, options.job_bytes) as given:
            return await jobs.submit(client, given, None, asked)


@router.get("/{id}", responses=documented(400, 401, 404, 422))
async def job(id: str, jobs: JobsDependency) -> Job:
    """How far a job is, and what is done to its file."""
    return await asyncio.to_thread(jobs.files.read, id)


@router.delete("/{id}", status_code=204, responses=documented(400, 401, 404, 422))
async def cancel(id: str, jobs: JobsDependency) -> Response:
    """Stop a job if it runs, and remove its files."""
    await asyncio.to_thread(jobs.files.delete, id)
    return Response(status_code=204)


@router.get("/{id}/report", responses=documented(400, 401, 404, 409, 422))
async def report(id: str, jobs: JobsDependency) -> dict[str, Any]:
    """What was found in the file, in words: `findings`, `notes` of its reader, and `done`, what is done to it."""
    found = await asyncio.to_thread(jobs.files.read, id)
    if not found.report:
        raise Refused(409, found.detail or "the file was not looked at yet; try again in a moment")
    return found.report


@router.get("/{id}/result", **_FILE)
async def result(
    id: str,
    request: Request,
    engine: Annotated[Engine, Depends(engine_of)],
    jobs: JobsDependency,
    format: Annotated[Format | None, Query(description="Else the one that the job was given, or its file's.")] = None,
) -> Response:
    """The enhanced file of a job that is done."""
    found = await asyncio.to_thread(jobs.files.read, id)
    chosen, client = format or found.format or "wav", client_of(request)
    with engine.limits.request(client):
        path = await jobs.result(found, chosen, client)
    return FileResponse(path, media_type=sending.MEDIA_TYPES[chosen])


@router.get("/{id}/original", **_FILE)
async def original(
    id: str,
    request: Request,
    engine: Annotated[Engine, Depends(engine_of)],
    jobs: JobsDependency,
    format: Annotated[Format, Query(description="Of the answer.")] = "flac",
) -> Response:
    """What was enhanced, at 48 kHz: the file that was sent, or what the condition left of it."""
    found, client = await asyncio.to_thread(jobs.files.read, id), client_of(request)
    with engine.limits.request(client):
        path = await jobs.original(found, format, client)
    return FileResponse(path, media_type=sending.MEDIA_TYPES[format])
