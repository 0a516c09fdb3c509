"""Arrays that do not start at a float's address are copied before C reads them."""

from __future__ import annotations

import numpy as np
import pytest

from kgsm_infer import kernels
from kgsm_infer.kernels import _dense, _line
from kgsm_infer.kernels.wcm import Wcm


def unaligned(values, dtype=np.float32):
    values = np.asarray(values, dtype)
    raw = np.zeros(values.nbytes + 1, np.uint8)
    view = raw[1:].view(dtype).reshape(values.shape)
    view[...] = values
    assert not view.flags.aligned
    return view


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_what_goes_to_c_is_aligned_and_dense(dtype):
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    for made in (
        _dense(unaligned(values, dtype), dtype),
        _dense(unaligned(values, dtype).T, dtype),
    ):
        assert made.flags.aligned and made.flags.c_contiguous
    assert _line(unaligned(values, dtype)).flags.aligned
    assert _dense(values, dtype) is values  # no copy of what is fine already


def test_an_unaligned_input_gives_the_same_bits():
    wcm = Wcm(a=0.02, angle_rule="column")
    given = [np.linspace(low, high, 33, dtype=np.float32)
             for low, high in ((-25, -8), (0.1, 0.8), (30, 45))]  # fmt: skip
    expected = kernels.isolate(wcm, *given)
    got = kernels.isolate(wcm, *map(unaligned, given))
    np.testing.assert_array_equal(got.soil_db, expected.soil_db)
    np.testing.assert_array_equal(got.flags, expected.flags)
