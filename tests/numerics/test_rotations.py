"""Rotations: by hand, against SciPy, and what makes the representation fit for a network."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from steelyard.numerics.rotations import matrix_from_6d, quaternion_to_6d

HALF = np.sqrt(0.5)


def drawn(count=200):
    """Random rotations, quaternions with the scalar last, their matrices."""
    rotations = Rotation.random(count, rng=np.random.default_rng(0))
    return rotations.as_quat(), rotations.as_matrix()


@pytest.mark.parametrize(
    ("quaternion", "expected"),
    [
        ((0.0, 0.0, 0.0, 1.0), (1, 0, 0, 0, 1, 0)),
        ((0.0, 0.0, HALF, HALF), (0, 1, 0, -1, 0, 0)),  # a quarter turn to the left about z
        ((HALF, 0.0, 0.0, HALF), (1, 0, 0, 0, 0, 1)),  # about x
        ((0.0, HALF, 0.0, HALF), (0, 0, -1, 0, 1, 0)),  # about y
        ((1.0, 0.0, 0.0, 0.0), (1, 0, 0, 0, -1, 0)),  # half a turn about x
    ],
)
def test_turns_by_hand_in_both_orders(quaternion, expected):
    last = np.array(quaternion)
    np.testing.assert_allclose(quaternion_to_6d(last, "last"), expected, atol=1e-15)
    first = np.roll(last, 1)
    np.testing.assert_allclose(quaternion_to_6d(first, "first"), expected, atol=1e-15)


def test_the_two_columns_are_those_of_the_matrix():
    quaternions, matrices = drawn()
    columns = quaternion_to_6d(quaternions, "last")
    np.testing.assert_allclose(columns[:, :3], matrices[:, :, 0], atol=1e-14)
    np.testing.assert_allclose(columns[:, 3:], matrices[:, :, 1], atol=1e-14)
    np.testing.assert_allclose(matrix_from_6d(columns), matrices, atol=1e-14)


def test_sign_and_length_of_a_quaternion_do_not_count():
    quaternions, _ = drawn()
    columns = quaternion_to_6d(quaternions, "last")
    np.testing.assert_allclose(quaternion_to_6d(-3.0 * quaternions, "last"), columns, atol=1e-14)


def test_batch_axes_and_precision_are_kept():
    quaternions = drawn(6)[0].reshape(2, 3, 4)
    assert quaternion_to_6d(quaternions, "last").shape == (2, 3, 6)
    single = quaternions.astype(np.float32)
    assert quaternion_to_6d(single, "last").dtype == np.float32
    np.testing.assert_allclose(
        quaternion_to_6d(single, "last"), quaternion_to_6d(quaternions, "last"), atol=1e-6
    )


@pytest.mark.parametrize("bad", [(0.0, 0.0, 0.0, 0.0), (np.nan, 0.0, 0.0, 1.0)])
def test_what_is_no_rotation_is_refused_with_its_place(bad):
    quaternions = drawn(6)[0].reshape(2, 3, 4)
    quaternions[1, 2] = bad
    with pytest.raises(ValueError, match=r"length above 0, got .* at \[1, 2\]"):
        quaternion_to_6d(quaternions, "last")


def test_an_order_must_be_said_and_known():
    with pytest.raises(ValueError, match="scalar is one of 'first', 'last', got 'middle'"):
        quaternion_to_6d(np.ones(4), "middle")
