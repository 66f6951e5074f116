"""Rotations of space, as simulators report them and as networks should see them.

A unit quaternion ``q`` and ``-q`` are one rotation, so a network that sees quaternions sees a jump
where nothing moved, and simulators do not agree on the order of the components. The first two
columns of the rotation matrix have neither flaw: they are continuous in the rotation (Zhou, Barnes,
Lu, Yang, Li, 2019, "On the Continuity of Rotation Representations in Neural Networks",
arXiv:1812.07035, section 4).
"""

import numpy as np
from jaxtyping import Float

ORDERS = ("first", "last")
"""Where the scalar component of a quaternion stands: ``(w, x, y, z)`` or ``(x, y, z, w)``."""


def quaternion_to_6d(
    quaternion: Float[np.ndarray, "*batch 4"], scalar: str
) -> Float[np.ndarray, "*batch 6"]:
    r"""Write rotations as the first two columns of their matrices, one after the other.

    For ``q = (w, x, y, z)`` of length 1 these are the images of the x and the y axis,

        ``(1 - 2(y² + z²), 2(xy + wz), 2(xz - wy))`` and
        ``(2(xy - wz), 1 - 2(x² + z²), 2(yz + wx))``.

    Args:
        quaternion: Of any length but 0; only its direction counts, and its sign does not.
        scalar: Whether the scalar component is the ``"first"`` or the ``"last"``.

    Returns:
        Six numbers in ``[-1, 1]`` a rotation, of the precision of ``quaternion``.

    Raises:
        ValueError: If ``scalar`` is another word, or a quaternion has length 0 or is not finite.
    """
    if scalar not in ORDERS:
        raise ValueError(
            f"quaternion_to_6d: scalar is one of {', '.join(map(repr, ORDERS))}, got {scalar!r}"
        )
    length = np.linalg.norm(quaternion, axis=-1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        place = np.argwhere(~(np.isfinite(length) & (length > 0)))[0, :-1].tolist()
        raise ValueError(
            "quaternion_to_6d: a rotation is a finite quaternion of length above 0, got "
            f"{quaternion[tuple(place)].tolist()} at {place}"
        )
    unit = np.moveaxis(quaternion / length, -1, 0)
    w, x, y, z = unit if scalar == "first" else unit[[3, 0, 1, 2]]
    first = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    second = [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)]
    return np.stack(first + second, axis=-1)


def matrix_from_6d(columns: Float[np.ndarray, "*batch 6"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Complete the two columns of a rotation matrix by their cross product.

    Args:
        columns: Two columns of length 1 at right angles, as :func:`quaternion_to_6d` returns them;
            they are taken as they are.

    Returns:
        Rotation matrices: column ``k`` is the image of axis ``k``.
    """
    first, second = columns[..., :3], columns[..., 3:]
    return np.stack([first, second, np.cross(first, second)], axis=-1)
