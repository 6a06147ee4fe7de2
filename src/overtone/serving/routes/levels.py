"""`GET /v1/jobs/ID/levels`: the spectrogram of a job's file as bytes, for the page to draw."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from overtone.serving.engine import Engine, engine_of
from overtone.serving.errors import Refused, documented
from overtone.serving.jobfiles import ENHANCED
from overtone.serving.levels import BANDS, BRIGHTEST, COLUMNS, DARKEST, levels
from overtone.serving.routes.jobs import JobsDependency

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_ANSWER = {
    "description": f"{COLUMNS} equal stretches of time, {BANDS} equal bands up to 24 kHz of each, the lowest first: a "
    f"byte a level, from {DARKEST} to {BRIGHTEST} dB, where a sine of full scale has 0.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@router.get(
    "/{id}/levels",
    response_class=Response,
    responses={200: _ANSWER, **documented(400, 401, 404, 409, 422)},
)
async def job_levels(
    id: str,
    engine: Annotated[Engine, Depends(engine_of)],
    jobs: JobsDependency,
    of: Annotated[Literal["original", "result"], Query(description="What was enhanced, or what came of it.")],
) -> Response:
    """Levels over time and frequency of a job that is done."""
    job = await asyncio.to_thread(jobs.files.read, id)
    if job.state != "done":
        raise Refused(409, job.detail or f"the job is {job.state}; expected a job that is done")
    path = jobs.files.path(job, ENHANCED) if of == "result" else jobs.files.original(job)
    return Response(await engine.workers.compute(lambda: levels(path)), media_type="application/octet-stream")
