"""Under pressure there is a right result or a clear error, never a wrong number."""

import os

import pressure
import pytest

pytestmark = pytest.mark.stress


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("name", pressure.CASES)
def test_a_right_result_or_a_clear_error(tmp_path, name):
    pressure.CASES[name](tmp_path)
