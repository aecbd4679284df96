"""Find, outline and name every nucleus in an H&E whole slide image.

Importing this loads nothing heavy: each name is imported when it is first used. Which there are, and where they live,
is written in ``__init__.pyi`` alone.
"""

from typing import Any

import lazy_loader

from cytolite.runtime import keep_quiet

_named, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
keep_quiet()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cytolite")
    return _named(name)


def __dir__() -> list[str]:
    return sorted(__all__)
