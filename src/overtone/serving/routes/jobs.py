"""`/v1/jobs`: files that are sent once, enhanced in the background, and given in any format."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse

from overtone.audio import sending
from overtone.serving import conditions, uploads
from overtone.serving.engine import Client, ServersEngine
from overtone.serving.enhancement import Format
from overtone.serving.errors import Refused
from overtone.serving.jobfiles import ENHANCED, Job, JobOrder, Record
from overtone.serving.jobs import ROUTE, Jobs
from overtone.serving.levels import BANDS, BRIGHTEST, COLUMNS, DARKEST, levels
from overtone.serving.routes.enhance import AUDIO

router = APIRouter(prefix=ROUTE, tags=["jobs"])
_FILE: dict[str, Any] = {
    "response_class": FileResponse,
    "responses": {200: {"description": "The whole file; ranges of it can be asked for.", "content": AUDIO}},
}
_LEVELS = {
    "description": f"{COLUMNS} equal stretches of time, {BANDS} equal bands up to 24 kHz of each, the lowest first: a "
    f"byte a level, from {DARKEST} to {BRIGHTEST} dB, where a sine of full scale has 0.",
    "content": {"application/octet-stream": {"schema": uploads.BYTES}},
}


def jobs_of(request: Request) -> Jobs:
    """The server's jobs; FastAPI's dependency of the routes."""
    return cast("Jobs", request.app.state.jobs)


async def job_of(id: str, jobs: Annotated[Jobs, Depends(jobs_of)]) -> Record:
    """The job of a path; FastAPI's dependency of the routes."""
    return await asyncio.to_thread(jobs.files.read, id)


AllJobs = Annotated[Jobs, Depends(jobs_of)]
OneJob = Annotated[Record, Depends(job_of)]


@router.post("", status_code=202, openapi_extra={"requestBody": {**uploads.BODY, "required": False}})
async def submit(
    request: Request, client: Client, engine: ServersEngine, jobs: AllJobs, order: Annotated[JobOrder, Query()]
) -> Job:
    """Take a file to be enhanced: the request's body, the field `file` of a form, or the file of another job."""
    await asyncio.to_thread(conditions.found, order.condition)
    with engine.limits.request(client):
        if order.source is not None:
            return await jobs.submit(client, None, order)
        async with uploads.received(request, engine.options, engine.options.job_megabytes) as given:
            return await jobs.submit(client, given, order)


@router.get("/{id}")
async def job(job: OneJob) -> Job:
    """How far a job is, and what is done to its file."""
    return job


@router.delete("/{id}", status_code=204)
async def cancel(job: OneJob, jobs: AllJobs) -> Response:
    """Stop a job if it runs, and remove its files."""
    await asyncio.to_thread(jobs.files.delete, job)
    return Response(status_code=204)


@router.get("/{id}/report")
async def report(job: OneJob) -> dict[str, Any]:
    """What was found in the file, in words: `findings`, `notes` of its reader, and `done`, what is done to it."""
    if not job.report:
        raise Refused(409, job.detail or "the file was not looked at yet; try again in a moment")
    return job.report


@router.get("/{id}/result", **_FILE)
async def result(
    client: Client,
    engine: ServersEngine,
    jobs: AllJobs,
    job: OneJob,
    format: Annotated[Format | None, Query(description="Else the one that the job was given, or its file's.")] = None,
) -> Response:
    """The enhanced file of a job that is done."""
    chosen = format or job.format or "wav"
    with engine.limits.request(client):
        path = await jobs.result(job, chosen, client)
    return FileResponse(path, media_type=sending.MEDIA_TYPES[chosen])


@router.get("/{id}/original", **_FILE)
async def original(
    client: Client,
    engine: ServersEngine,
    jobs: AllJobs,
    job: OneJob,
    format: Annotated[Format, Query(description="Of the answer.")] = "flac",
) -> Response:
    """What was enhanced, at 48 kHz: the file that was sent, or what the condition left of it."""
    with engine.limits.request(client):
        path = await jobs.original(job, format, client)
    return FileResponse(path, media_type=sending.MEDIA_TYPES[format])


@router.get("/{id}/levels", response_class=Response, responses={200: _LEVELS})
async def job_levels(
    client: Client,
    engine: ServersEngine,
    jobs: AllJobs,
    job: OneJob,
    of: Annotated[Literal["original", "result"], Query(description="What was enhanced, or what came of it.")],
) -> Response:
    """The spectrogram of a job that is done, for the page to draw."""
    if job.state != "done":
        raise Refused(409, job.detail or f"the job is {job.state}; expected a job that is done")
    path = jobs.files.path(job, ENHANCED) if of == "result" else jobs.files.original(job)
    shown = await engine.compute(lambda: levels(path), client)
    return Response(shown, media_type="application/octet-stream")
