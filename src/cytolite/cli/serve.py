"""`cytolite serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytolite.cli.app import app, with_extra
from cytolite.config import MODELS, Precision, SegmentSettings, make_settings


@app.command
def serve(
    *,
    model: Annotated[str | None, Parameter(help=f"Model bundle: {MODELS}, or the folder of another.")] = None,
    allow: Annotated[
        tuple[Path, ...], Parameter(help="Folder that slides and results may lie in; default: your home folder.")
    ] = (),
    host: Annotated[str, Parameter(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen at; 0 takes one that is free.")] = 0,
    other_machines: Annotated[bool, Parameter(help="Allow a --host that other machines can reach.")] = False,
    max_request_mib: Annotated[int, Parameter(help="Largest request, MiB.")] = 32,
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Where the network runs.")] = "cpu",
    precision: Annotated[
        Precision, Parameter(help="Arithmetic of the network; auto: the model's, or bf16 where it can be had.")
    ] = "auto",
    tta: Annotated[int, Parameter(help="Test-time augmentation: 1, 4 or 8, as of `segment`.")] = 1,
    batch: Annotated[int, Parameter(help="Tiles per call of the network.")] = 1,
    workers: Annotated[int | None, Parameter(help="Threads that work on tiles; default: one per core.")] = None,
) -> int:
    """Keep the model loaded and segment slides for other programs of this machine, such as QuPath.

    It listens on this machine only. Other programs find its address and its token in ~/.cytolite/server.json
    (or the folder that CYTOLITE_HOME names). Stop it with Ctrl-C. Needs the extra `serve`.
    """
    given = {
        "model": model, "device": device, "precision": precision, "tta": tta, "batch": batch, "workers": workers,
    }  # fmt: skip
    settings = make_settings(SegmentSettings, given)

    def work() -> None:
        from cytolite.serving.server import serve as run

        run(
            settings, host=host, port=port, allow=allow, other_machines=other_machines,
            max_body_bytes=max_request_mib * 2**20, say=lambda line: print(line, flush=True),
        )  # fmt: skip

    with_extra(work, "serve")
    return 0
