"""The server's HTTP interface: what it understands and what it answers. Errors are ``{"error": "a sentence"}``."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

import cytolite
from cytolite.config import MPP_MAX, MPP_MIN
from cytolite.errors import CytoliteError
from cytolite.interop.result_folder import GEOJSON_FILE
from cytolite.loopback.allowed import AllowedFolders, NotAllowedError
from cytolite.loopback.gate import Gate
from cytolite.serving.jobs import Job, JobQueue, QueueFullError, State, Work

MAX_BODY_BYTES = 32 * 2**20
MAX_REGIONS = 100_000
MAX_PATH = 4096


class FeatureCollection(BaseModel):
    """GeoJSON, as QuPath exports annotations."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["FeatureCollection"]
    features: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_REGIONS)


class JobRequest(BaseModel):
    """A slide to segment."""

    model_config = ConfigDict(extra="forbid", strict=True)

    slide: str = Field(min_length=1, max_length=MAX_PATH, description="Absolute path of the slide.")
    mpp: float | None = Field(
        None, ge=MPP_MIN, le=MPP_MAX, description="Level-0 resolution, µm per pixel, where the slide says none."
    )
    roi: FeatureCollection | None = Field(None, description="Regions to work on; the whole slide without them.")
    output: str | None = Field(
        None, min_length=1, max_length=MAX_PATH, description="Absolute path of a folder for the results."
    )
    tissue: Literal["auto", "all"] = Field("auto", description="The tissue found, or the whole slide or region.")


class JobId(BaseModel):
    """Name of a job."""

    id: str


class JobReport(BaseModel):
    """How far a job is."""

    id: str
    state: State
    done_mm2: float
    total_mm2: float
    error: str | None
    result: str | None = Field(description="Folder with all files of the result.")
    cells: int | None = None
    seconds: float | None = Field(None, description="That the work took; 0 if the result was there already.")
    warnings: list[str] = []


class Health(BaseModel):
    """Says that a server is there."""

    status: Literal["ok"] = "ok"
    version: str
    model: str


class Refusal(BaseModel):
    """What was wrong, in a sentence."""

    error: str


def _found(job_id: str, request: Request) -> Job:
    job: Job | None = request.app.state.jobs.find(job_id)
    if job is None:
        raise HTTPException(404, f"There is no job {job_id[:40]!r}; after a restart ask for it again.")
    return job


Found = Annotated[Job, Depends(_found)]


def make_app(jobs: JobQueue, token: str, allowed: AllowedFolders, max_body_bytes: int = MAX_BODY_BYTES) -> FastAPI:
    """Return the application that answers for `jobs`.

    Parameters
    ----------
    jobs : JobQueue
        Started.
    token : str
        What a client has to know.
    allowed : AllowedFolders
        Where slides and results may lie.
    max_body_bytes : int
        Largest request.
    """
    app = FastAPI(
        title="cytolite serve",
        version=cytolite.__version__,
        description="Segments slides with a model that stays loaded. For research use only; not for diagnosis.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Gate, token=token, max_body_bytes=max_body_bytes)
    app.add_exception_handler(StarletteHTTPException, _say_http)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.state.jobs = jobs
    locked = [Depends(HTTPBearer(auto_error=False))]  # says in the description what `Gate` asks for

    @app.get("/health")
    def health() -> Health:
        spec = jobs.model.bundle.spec
        return Health(version=cytolite.__version__, model=f"{spec.name} {spec.version}")

    @app.post("/jobs", status_code=201, dependencies=locked, responses=_refusals(400, 401, 403, 404, 413, 422, 429))
    def submit(request: JobRequest) -> JobId:
        """Queue a slide; the same request while it waits or runs gets the same id."""
        return JobId(id=_submit(jobs, allowed, request).id)

    @app.get("/jobs/{job_id}", dependencies=locked, responses=_refusals(401, 404, 413, 422))
    def report(job: Found) -> JobReport:
        """Say how far a job is."""
        return _report(job)

    @app.delete("/jobs/{job_id}", dependencies=locked, responses=_refusals(401, 404, 413, 422))
    def cancel(job: Found) -> JobReport:
        """Stop a job once its tiles in work are done; the same job asked for again goes on from there."""
        jobs.cancel(job)
        return _report(job)

    @app.get(
        "/jobs/{job_id}/cells.geojson.gz",
        dependencies=locked,
        response_class=FileResponse,
        responses=_refusals(401, 404, 409, 413, 422) | {200: {"content": {"application/gzip": {}}}},
    )
    def cells(job: Found) -> FileResponse:
        """Send the cells of a job that is done."""
        if job.state != "done" or job.outcome is None:
            raise HTTPException(409, f"The job is {job.state}; there are cells when it is done.")
        path = job.outcome.folder / GEOJSON_FILE
        if not path.is_file():
            raise HTTPException(404, f"The result {path} is not there any more; ask for the job again.")
        return FileResponse(path, media_type="application/gzip", filename=path.name)

    return app


def _submit(jobs: JobQueue, allowed: AllowedFolders, request: JobRequest) -> Job:
    try:
        slide = allowed.resolve(request.slide)
        output = None if request.output is None else allowed.resolve(request.output)
        if not slide.exists():
            raise HTTPException(404, f"There is no slide {slide}.")
        roi = None if request.roi is None else json.dumps(request.roi.model_dump())
        return jobs.submit(Work(slide, request.mpp, roi, request.tissue, output))
    except NotAllowedError as error:
        raise HTTPException(403, str(error)) from None
    except QueueFullError as error:
        raise HTTPException(429, str(error)) from None
    except CytoliteError as error:
        raise HTTPException(400, str(error)) from None
    except OSError as error:
        raise HTTPException(400, f"{request.slide[:80]!r} cannot be used ({error.strerror}).") from None


def _report(job: Job) -> JobReport:
    report = JobReport(
        id=job.id, state=job.state, done_mm2=job.done_mm2, total_mm2=job.total_mm2, error=job.error, result=None
    )
    if job.outcome is not None:
        report.result, report.cells = str(job.outcome.folder), job.outcome.cells
        report.seconds, report.warnings = job.outcome.seconds, list(job.outcome.warnings)
    return report


def _refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Refusal} for code in codes}


async def _say_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return _refusal(error.status_code, str(error.detail), error.headers)


async def _say_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return _refusal(422, f"{place} is not as it should be: {first['msg']}.")


def _refusal(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    # What a client sent may hold half characters, which no answer can.
    plain = sentence.encode("utf-8", "replace").decode()
    return JSONResponse({"error": plain}, status_code=status, headers=headers)
