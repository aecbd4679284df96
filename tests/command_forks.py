"""Run `cytolite` commands, one after the other, each in a process forked from this one: see `command.py`.

An order is a line of JSON on stdin; the exit code of the command is the line that answers it on stdout.
"""

import contextlib
import importlib
import json
import os
import signal
import sys

import cytolite.__main__ as command
import cytolite.segmentation.slide
import cytolite.slides.dicom_reader  # noqa: F401
from cytolite.runtime import onnx_runtime

TIMEOUT_S = 300
# What some verbs import besides; imported when the first of them comes, for all that follow.
MORE = {"relabel": ("torch", "cytolite.relabel.run"), "evaluate": ("matplotlib.figure", "cytolite.evaluation.run")}
onnx_runtime()  # loaded, but not used: it has no thread yet, which a fork would lose


def become(order: dict) -> None:
    """Take the place, the environment and the files that a shell would give the command."""
    sys.argv[:] = [command.__file__, *order["arguments"]]
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for number, path in enumerate((os.devnull, order["out"], order["err"])):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    for name in order["without"]:
        for loaded in [name, *(module for module in sys.modules if module.startswith(f"{name}."))]:
            sys.modules[loaded] = None
    signal.alarm(TIMEOUT_S)


def main() -> None:
    while line := sys.stdin.readline():
        order = json.loads(line)
        for name in MORE.get(order["arguments"][0], ()):
            if name.partition(".")[0] not in order["without"]:
                with contextlib.suppress(ImportError):  # which the command will tell
                    importlib.import_module(name)
        process = os.fork()
        if not process:
            become(order)
            command.main()
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


main()
