"""What a run may be taken up again with, and what makes it another."""

import pytest

from cytolite.config import TrainSettings
from cytolite.errors import InputError

record = pytest.importorskip("cytolite.training.record", reason="needs the extra `train`")


def test_a_run_goes_on_with_other_threads_but_not_with_other_crops(tmp_path):
    record.write_record(tmp_path, record.make_record(tmp_path, [], TrainSettings(threads=2)))
    again = record.make_record(tmp_path, [], TrainSettings(threads=1))
    assert again["settings"]["threads"] == 1
    with pytest.raises(InputError, match="other settings"):
        record.make_record(tmp_path, [], TrainSettings(threads=2, crop_px=128))
