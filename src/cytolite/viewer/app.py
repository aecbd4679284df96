"""The viewer's HTTP interface. Errors are ``{"error": "a sentence"}``; results are asked for by their number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

import cytolite
from cytolite.errors import CytoliteError, UsageError
from cytolite.files import NOTICE
from cytolite.interop.json_text import parse
from cytolite.interop.result_folder import CELLS_FILE
from cytolite.interop.roi import Region, assign, regions_of
from cytolite.loopback.allowed import NotAllowedError
from cytolite.names import as_text
from cytolite.viewer.catalogue import Catalogue, Entry
from cytolite.viewer.cell_index import measures_of
from cytolite.viewer.compare import changes, same_slide
from cytolite.viewer.corrections import DELETED, MOST_CHANGES, Corrections, labels_file
from cytolite.viewer.layers import density_png, layers_of, outlines_of
from cytolite.viewer.layout import OUTLINE_TILE_PX, STEPS
from cytolite.viewer.measure import histograms, measure
from cytolite.viewer.slide_tiles import TILE_PX
from cytolite.viewer.teaching import MISSING, Teaching, can_teach, suggestions

STATIC = Path(__file__).parent / "static"
_BYTES = "application/octet-stream"
MOST_SUGGESTED = 500


class Problem(BaseModel):
    """What every refusal says."""

    error: str


class Labels(BaseModel):
    """Row of a nucleus in the table, and its type: null takes its label away."""

    changes: list[tuple[int, str | None]] = Field(max_length=MOST_CHANGES)


class Teach(BaseModel):
    """Whether types without labels are kept."""

    keep: bool = True


class Name(BaseModel):
    """Number of a model that was taught since the start."""

    model: int


_GEOJSON = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


def _kind(name: str) -> dict[str, Any]:
    """What the description of the interface says of an answer that is no JSON."""
    return {"response_class": Response, "responses": {200: {"content": {name: {}}}}}


_JPEG, _PNG, _DATA = _kind("image/jpeg"), _kind("image/png"), _kind(_BYTES)
_REFUSALS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 403, 404, 409, 422)}


def make_app(catalogue: Catalogue) -> FastAPI:
    """Return the application that shows `catalogue`; who may ask is for `Door`."""
    app = FastAPI(
        title="cytolite view", version=cytolite.__version__, docs_url=None, redoc_url=None, openapi_url=None,
        responses=_REFUSALS,
    )  # fmt: skip
    app.add_exception_handler(StarletteHTTPException, _say)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_exception_handler(CytoliteError, _say_ours)

    def entry(number: int) -> Entry:
        if not 0 <= number < len(catalogue.entries):
            raise HTTPException(404, f"There is no result {number}; there are {len(catalogue.entries)}.")
        return catalogue.entries[number]

    @app.get("/api/results")
    def gallery() -> JSONResponse:
        cards = [each.card() for each in catalogue.entries]
        return JSONResponse({"notice": NOTICE, "version": cytolite.__version__, "results": cards})

    @app.get("/api/results/{number}")
    def page(number: int) -> JSONResponse:
        content = entry(number).page()
        try:
            levels, problem = catalogue.slide(number).levels, None
        except CytoliteError as error:
            levels, problem = 0, str(error)
        return JSONResponse(
            {"notice": NOTICE, **content, "levels": levels, "slide_problem": problem}
            | {"tile_px": TILE_PX, "outline_tile_px": OUTLINE_TILE_PX, "steps": STEPS}
            | {"measures": measures_of(entry(number).result.folder / CELLS_FILE), **_layers(entry(number))}
        )

    @app.get("/api/results/{number}/thumbnail.jpg", **_JPEG)
    def thumbnail(number: int) -> Response:
        return Response(entry(number).thumbnail, media_type="image/jpeg")

    @app.get("/api/results/{number}/tiles/{level}/{column}/{row}.jpg", **_JPEG)
    def tile(number: int, level: int, column: int, row: int) -> Response:
        entry(number)
        return Response(catalogue.slide(number).jpeg(level, column, row), media_type="image/jpeg")

    @app.get("/api/results/{number}/points", **_DATA)
    def points(number: int) -> Response:
        entry(number)
        return Response(catalogue.cells(number).points(), media_type=_BYTES)

    @app.get("/api/results/{number}/outlines/{column}/{row}", **_DATA)
    def outlines(number: int, column: int, row: int) -> Response:
        entry(number)
        return Response(catalogue.cells(number).outlines(column, row), media_type=_BYTES)

    @app.get("/api/results/{number}/cells/{row}")
    def cell(number: int, row: int) -> JSONResponse:
        entry(number)
        return JSONResponse(catalogue.cells(number).numbers(row))

    @app.get("/api/results/{number}/measures/{name}", **_DATA)
    def steps(number: int, name: str) -> Response:
        entry(number)
        return Response(catalogue.cells(number).steps(name), media_type=_BYTES)

    @app.get("/api/results/{number}/layers/{name}")
    def layer(number: int, name: str) -> JSONResponse:
        return JSONResponse({"outlines": outlines_of(entry(number).result.folder, name)})

    @app.get("/api/results/{number}/density/{name}.png", **_PNG)
    def density(number: int, name: str) -> Response:
        picture, most = density_png(entry(number).result.folder, name)
        return Response(picture, media_type="image/png", headers={"x-most": f"{most:.6g}"})

    @app.post("/api/results/{number}/measure", openapi_extra=_GEOJSON)
    async def measured(number: int, request: Request, by: str = "area_um2") -> JSONResponse:
        """Count in regions, as ``segment --roi`` does: a body of GeoJSON."""
        one, body = entry(number), await request.body()

        def work() -> list[dict[str, Any]]:
            regions, page, cells = _regions(body), one.page(), catalogue.cells(number)
            size_px = page["width_px"], page["height_px"]
            owners = assign(regions, cells.centroids)
            rows = measure(cells, one.tissue, regions, size_px, page["mpp"], owners=owners)
            drawn = histograms(owners, len(regions), cells.measure(by))
            return [row | {"histogram": h} for row, h in zip(rows, [*drawn, None], strict=True)]

        return JSONResponse({"notice": NOTICE, "by": by, "rows": await run_in_threadpool(work)})

    _add_corrections(app, catalogue, entry)
    _add_teaching(app, catalogue, entry)

    @app.get("/api/compare/{one}/{other}")
    def compared(one: int, other: int) -> JSONResponse:
        first, second = entry(one), entry(other)
        same_slide(first.result, second.result)
        return JSONResponse(changes(catalogue.cells(one), catalogue.cells(other), first.result.mpp))

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def _add_corrections(app: FastAPI, catalogue: Catalogue, entry: Callable[[int], Entry]) -> None:
    def told(corrections: Corrections) -> dict[str, Any]:
        names = corrections.names()
        return {
            "path": as_text(str(corrections.path)),
            "labels": sorted(names.items()),
            "new_types": corrections.new_types(names.values()),
            "others": corrections.others(),
            "deleted": DELETED,
        }

    @app.get("/api/results/{number}/labels")
    def labels(number: int) -> JSONResponse:
        entry(number)
        return JSONResponse(told(catalogue.corrections(number)))

    @app.post("/api/results/{number}/labels")
    def label(number: int, given: Labels) -> JSONResponse:
        """Label nuclei; the answer has all labels, and what takes this back."""
        entry(number)
        corrections = catalogue.corrections(number)
        before = corrections.change(given.changes)
        return JSONResponse({"before": before, **told(corrections)})

    @app.post("/api/results/{number}/select", openapi_extra=_GEOJSON)
    async def selected(
        number: int,
        request: Request,
        hidden: Annotated[list[int], Query(default_factory=list)],
        least: float = 0,
    ) -> JSONResponse:
        """Which nuclei lie in regions: a body of GeoJSON."""
        entry(number)
        body = await request.body()
        rows = await run_in_threadpool(lambda: catalogue.cells(number).inside(_regions(body), hidden, least))
        return JSONResponse({"rows": rows.tolist()})


def _add_teaching(app: FastAPI, catalogue: Catalogue, entry: Callable[[int], Entry]) -> None:
    teaching, taught = Teaching(), list[Path]()

    @app.get("/api/results/{number}/suggestions")
    def suggested(number: int, n: Annotated[int, Query(ge=1, le=MOST_SUGGESTED)] = 50) -> JSONResponse:
        entry(number)
        cells = catalogue.cells(number)
        rows = suggestions(cells.path, n, set(catalogue.corrections(number).names()))
        places = [(row, *cells.centroids[row].round(1).tolist()) for row in rows.tolist()]
        return JSONResponse({"cells": places})

    @app.post("/api/results/{number}/teach")
    def teach(number: int, given: Teach) -> JSONResponse:
        """Teach by the labels of all results that are of this one's network and have some, this one first."""
        mine = entry(number).result
        network = entry(number).network()
        others = [other for i, other in enumerate(catalogue.entries) if i != number and other.network() == network]
        labelled = [(r, f) for r in (mine, *(o.result for o in others)) if (f := labels_file(r.folder)).is_file()]
        if network is None or labels_file(mine.folder) not in [file for _, file in labelled]:
            raise UsageError("No nucleus of this result has a label yet; give some their types first.")
        found = teaching.teach([r for r, _ in labelled], [f for _, f in labelled], given.keep)
        taught.append(Path(found["model"]))
        return JSONResponse(found | {"model": as_text(found["model"]), "number": len(taught) - 1, "notice": NOTICE})

    @app.post("/api/results/{number}/name")
    def name(number: int, given: Name) -> JSONResponse:
        """Name the nuclei again with a model that was taught here; the answer is the number of the new result."""
        if not 0 <= given.model < len(taught):
            raise HTTPException(404, f"There is no model {given.model}; {len(taught)} were taught since the start.")
        folder = teaching.name(entry(number).result, taught[given.model])
        return JSONResponse({"result": catalogue.add(folder), "path": as_text(str(folder))})


def _layers(one: Entry) -> dict[str, Any]:
    always = {"teach_problem": None if can_teach() else MISSING, "layer_problem": None}
    try:
        return always | layers_of(one.result.folder, one.result.mpp)
    except CytoliteError as error:
        nothing: dict[str, Any] = {"outlines": [], "densities": [], "density_px": 0, "density_size": [0, 0]}
        return always | nothing | {"layer_problem": as_text(str(error))}


def _regions(body: bytes) -> list[Region]:
    return regions_of(parse(body, Path("the drawing"), "GeoJSON"), Path("the drawing"))


async def _say_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
    return JSONResponse({"error": as_text(f"The request is not understood ({told[:300]}).")}, status_code=422)


async def _say(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code)


async def _say_ours(request: Request, error: Exception) -> JSONResponse:
    status = 403 if isinstance(error, NotAllowedError) else 409
    return JSONResponse({"error": as_text(str(error))}, status_code=status)
