"""Work shared out among processes."""

import os
import signal

import pytest

from aimmat.data.processes import mapped
from aimmat.schema import AimmatError


def test_results_come_in_order_from_any_number_of_processes():
    items = list(range(-10, 10))
    assert list(mapped(abs, items)) == list(mapped(abs, items, jobs=2)) == [abs(item) for item in items]


def test_a_process_that_dies_gets_a_sentence():
    with pytest.raises(AimmatError, match="ended from outside, most often for want of memory"):
        list(mapped(os._exit, [3] * 4, jobs=2))
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
