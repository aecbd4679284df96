"""A training that is stopped ends as every run does, whatever Lightning makes of the signal."""

import signal

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from cytolite.errors import Terminated
from cytolite.training.run import _stopped_plainly


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Terminated(signal.SIGTERM)])
def test_the_interrupt_is_raised_again_with_what_to_do(stop):
    with pytest.raises(type(stop), match="run the same command again") as raised, _stopped_plainly():  # noqa: PT012
        try:
            raise stop
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904 - as Lightning does it
    assert raised.value is stop


def test_another_exit_stays_one():
    with pytest.raises(SystemExit), _stopped_plainly():
        raise SystemExit(3)
