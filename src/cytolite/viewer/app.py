"""The viewer's HTTP interface. Errors are ``{"error": "a sentence"}``; results are asked for by their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

import cytolite
from cytolite.errors import CytoliteError
from cytolite.files import NOTICE
from cytolite.interop.json_text import parse
from cytolite.interop.roi import regions_of
from cytolite.loopback.allowed import NotAllowedError
from cytolite.names import as_text
from cytolite.viewer.catalogue import Catalogue, Entry
from cytolite.viewer.layout import OUTLINE_TILE_PX
from cytolite.viewer.measure import measure
from cytolite.viewer.slide_tiles import TILE_PX

STATIC = Path(__file__).parent / "static"
_BYTES = "application/octet-stream"


def make_app(catalogue: Catalogue) -> FastAPI:
    """Return the application that shows `catalogue`; who may ask is for `Door`."""
    app = FastAPI(title="cytolite view", version=cytolite.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(StarletteHTTPException, _say)
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
            | {"tile_px": TILE_PX, "outline_tile_px": OUTLINE_TILE_PX}
        )

    @app.get("/api/results/{number}/thumbnail.jpg")
    def thumbnail(number: int) -> Response:
        return Response(entry(number).thumbnail, media_type="image/jpeg")

    @app.get("/api/results/{number}/tiles/{level}/{column}/{row}.jpg")
    def tile(number: int, level: int, column: int, row: int) -> Response:
        entry(number)
        return Response(catalogue.slide(number).jpeg(level, column, row), media_type="image/jpeg")

    @app.get("/api/results/{number}/points")
    def points(number: int) -> Response:
        entry(number)
        return Response(catalogue.cells(number).points(), media_type=_BYTES)

    @app.get("/api/results/{number}/outlines/{column}/{row}")
    def outlines(number: int, column: int, row: int) -> Response:
        entry(number)
        return Response(catalogue.cells(number).outlines(column, row), media_type=_BYTES)

    @app.get("/api/results/{number}/cells/{row}")
    def cell(number: int, row: int) -> JSONResponse:
        entry(number)
        return JSONResponse(catalogue.cells(number).numbers(row))

    @app.get("/api/results/{number}/tissue")
    def tissue(number: int) -> JSONResponse:
        return JSONResponse({"features": [region.polygon.__geo_interface__ for region in entry(number).tissue]})

    @app.post("/api/results/{number}/measure")
    async def measured(number: int, request: Request) -> JSONResponse:
        """Count in regions, as ``segment --roi`` does: a body of GeoJSON."""
        one, body = entry(number), await request.body()

        def work() -> list[dict[str, Any]]:
            regions = regions_of(_parsed(body), Path("the drawing"))
            page = one.page()
            size_px = page["width_px"], page["height_px"]
            return measure(catalogue.cells(number), one.tissue, regions, size_px, page["mpp"])

        return JSONResponse({"notice": NOTICE, "rows": await run_in_threadpool(work)})

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def _parsed(body: bytes) -> Any:

    return parse(body, Path("the drawing"), "GeoJSON")


async def _say(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code)


async def _say_ours(request: Request, error: Exception) -> JSONResponse:
    status = 403 if isinstance(error, NotAllowedError) else 409
    return JSONResponse({"error": as_text(str(error))}, status_code=status)
