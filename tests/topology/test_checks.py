from __future__ import annotations

import numpy as np
import pytest
import torch

from topo_utils.topology.checks import (
    check_cloud,
    check_count,
    check_dtype,
    check_finite,
    check_floating,
    check_number,
    check_option,
    check_positive,
    check_weights,
    checked,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("check", [check_cloud, check_floating, check_weights, checked])
def test_what_is_no_tensor_of_floats_is_named(check):
    for other, kind in (([[0.0], [1.0]], "list"), (np.zeros((2, 1)), "ndarray"), (None, "NoneType"), (1.0, "float")):
        with pytest.raises(TypeError, match=f"features: wanted a torch tensor, got {kind}"):
            check("features", other)
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=f"features: wanted float32 or float64, got {dtype}"):
            check("features", torch.zeros(2, 2, dtype=dtype))


def test_any_dtype_can_be_wanted():
    check_dtype("n", torch.zeros(2, dtype=torch.int64), torch.int64)
    with pytest.raises(TypeError, match=r"n: wanted int64 or bool, got torch\.int32"):
        check_dtype("n", torch.zeros(2, dtype=torch.int32), torch.int64, torch.bool)
    with pytest.raises(TypeError, match="n: wanted a torch tensor, got ndarray"):
        check_dtype("n", np.zeros(2, dtype=np.int64), torch.int64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sound_clouds_and_weights_pass(dtype):
    for shape in ((2, 1), (5, 3), (0, 5, 3), (2, 3, 4, 1)):
        check_cloud("x", torch.zeros(shape, dtype=dtype))
    check_cloud("x", torch.full((3, 1), torch.finfo(dtype).max, dtype=dtype))  # their sum overflows
    check_weights("w", torch.tensor([[0.0, INF], [INF, 0.0]], dtype=dtype))
    check_weights("w", torch.zeros(0, 4, 4, dtype=dtype))


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 0), (4, 1, 3), ()])
def test_clouds_of_a_wrong_shape_are_named(shape):
    with pytest.raises(ValueError, match=r"x: wanted the shape \(\*batch, n, d\) with at least 2 points, got \("):
        check_cloud("x", torch.zeros(shape))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("check", [check_cloud, check_finite])
def test_what_is_not_finite_is_found(check, value):
    x = torch.zeros(3, 4)
    x[1, 2] = x[2, 0] = value
    with pytest.raises(ValueError, match=rf"x: wanted finite values, got {value} at \(1, 2\) \(2 such values\)"):
        check("x", x)
    with pytest.raises(ValueError, match="x: wanted finite values"):
        check("x", torch.tensor([[INF], [-INF]]))  # whose sum is no number


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[0.0, NAN], [NAN, 0.0]], r"w: wanted numbers, got NaN at \(0, 1\)"),
        ([[0.0, -1.0], [-1.0, 0.0]], "w: wanted no negative edge weight, got -1"),
        ([[0.0, -INF], [-INF, 0.0]], "w: wanted no negative edge weight, got -inf"),
        ([[0.0, 1.0], [1.0, 0.5]], "w: wanted a zero diagonal, got 0.5"),
        ([[0.0, 1.0], [2.0, 0.0]], "w: wanted a symmetric matrix"),
        ([[0.0, 1.0]], r"w: wanted the shape \(\*batch, n, n\) with n >= 2, got \(1, 2\)"),
        ([[0.0]], r"w: wanted the shape \(\*batch, n, n\) with n >= 2, got \(1, 1\)"),
        ([0.0, 1.0], r"w: wanted the shape \(\*batch, n, n\) with n >= 2, got \(2,\)"),
    ],
)
def test_unsound_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights("w", torch.tensor(weights))


def test_checked_takes_half_precision_as_float32_and_refuses_the_empty():
    for dtype in (torch.float16, torch.bfloat16):
        cloud = checked("x", torch.ones(2, 3, dtype=dtype))
        assert cloud.dtype == torch.float32
        assert (cloud == 1).all()
    cloud = torch.zeros(2, 3, dtype=torch.float64)
    assert checked("x", cloud) is cloud
    with pytest.raises(ValueError, match=r"x: wanted at least one cloud, got the shape \(0, 4, 2\)"):
        checked("x", torch.zeros(0, 4, 2))


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_count(value):
    check_count("k", value)
    check_count("k", value, 3, below=4)
    with pytest.raises(ValueError, match="k: wanted at least 4, got 3"):
        check_count("k", value, 4)
    with pytest.raises(ValueError, match="k: wanted 1 <= k < 3, got 3"):
        check_count("k", value, below=3)
    with pytest.raises(ValueError, match="k: wanted 4 <= k < 9, got 3"):
        check_count("k", value, 4, below=9)


@pytest.mark.parametrize("value", [True, False, np.True_, 3.0, np.float64(3), "3", None, [3], np.array([3]), NAN])
def test_what_is_no_whole_number_does_not(value):
    with pytest.raises(TypeError, match="k: wanted a whole number, got "):
        check_count("k", value)


@pytest.mark.parametrize("value", [1e-300, 2, 2.5, np.float32(2.5), np.float64(2.5), np.int64(2)])
def test_positive_numbers(value):
    check_positive("s", value)
    check_number("s", value)
    check_number("s", -value)
    check_number("s", value, least=0)
    with pytest.raises(ValueError, match="s: wanted a finite number >= 0, got -"):
        check_number("s", -value, least=0)
    with pytest.raises(ValueError, match="s: wanted a positive number, got -"):
        check_positive("s", -value)


def test_zero_is_a_number_but_not_positive():
    check_number("s", 0, least=0)
    with pytest.raises(ValueError, match="s: wanted a positive number, got 0"):
        check_positive("s", 0)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_numbers_are_finite(value):
    with pytest.raises(ValueError, match=f"s: wanted a positive number, got {value}"):
        check_positive("s", value)
    with pytest.raises(ValueError, match=f"s: wanted a finite number, got {value}"):
        check_number("s", value)


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1.0], np.array([1.0]), torch.tensor(1.0)])
@pytest.mark.parametrize("check", [check_positive, check_number])
def test_what_is_no_number_is_named(check, value):
    with pytest.raises(TypeError, match="s: wanted a number, got "):
        check("s", value)


def test_options_are_themselves_only():
    for value in ("a", np.str_("a"), 1, np.int64(1), False, None):
        check_option("o", value, ("a", 1, False, None))
    for value, allowed in ((True, (0, 1)), (1.0, (0, 1)), (1, (True, False)), (np.array([1, 0]), (0, 1)), (["a"], ("a",))):
        with pytest.raises(ValueError, match="o: wanted one of "):
            check_option("o", value, allowed)
    with pytest.raises(ValueError, match="o: wanted one of 'a', 1, None, got 'b'"):
        check_option("o", "b", ("a", 1, None))
    with pytest.raises(ValueError, match=r"o: wanted one of 0, 1, got tensor\(1\)"):
        check_option("o", torch.tensor(1), (0, 1))
