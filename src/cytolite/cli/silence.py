"""What other packages say to programmers (adverts, deprecations, hints) is not for the user of the command."""

from __future__ import annotations

import logging
import sys
import warnings

# They set a level of their own when they are imported, so each is named as deep as it speaks.
_TALKATIVE = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "torch",
)
# What they warn of is for the user: a GPU that cannot be used.
_HEARD = r"torch\.cuda(\.|$)"


def silence_others() -> None:
    """Hide other packages' warnings and notes; their errors, and all that cytolite says, stay.

    The command itself never speaks by Python's warnings: none of them is its own, wherever it is said to be from.

    Who asks for warnings, by ``python -W`` or ``PYTHONWARNINGS``, gets them.
    """
    if not sys.warnoptions:
        warnings.filterwarnings("ignore")
        warnings.filterwarnings("default", module=_HEARD)
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("cytolite").setLevel(logging.WARNING)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
