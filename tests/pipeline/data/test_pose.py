"""The solid: its rotation in numbers, and the picture against one whose rays are cast one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.sources import open_source, pose


def made(target: str = "columns", images: int = 3000, side: int = 16) -> Any:
    return open_source("pose", None, Path(), {"target": target, "images": images, "side": side, "seed": 0})


def targets(target: str) -> NDArray[np.float64]:
    scan = made(target).scan()
    assert scan.classes == ()
    assert {item.label for item in scan.found} == {None}
    values = np.array([item.target for item in scan.found])
    assert values.shape == (3000, len(scan.targets))
    return values


def test_quaternions_are_unit_canonical_and_uniform() -> None:
    values = targets("quaternion")
    np.testing.assert_allclose((values**2).sum(1), 1, atol=1e-12)
    assert values[:, 0].min() >= 0
    np.testing.assert_allclose(values.T @ values / 3000, np.eye(4) / 4, atol=0.02)
    half_angle = np.arccos(values[:, 0])  # of uniform rotations: density 4/pi sin^2, mean pi/4 + 1/pi
    assert half_angle.mean() == pytest.approx(np.pi / 4 + 1 / np.pi, abs=0.02)


def test_columns_are_those_of_the_same_rotation() -> None:
    columns = targets("columns").reshape(-1, 2, 3)
    np.testing.assert_allclose(columns @ columns.swapaxes(1, 2), np.tile(np.eye(2), (3000, 1, 1)), atol=1e-12)
    matrices = np.stack([columns[:, 0], columns[:, 1], np.cross(columns[:, 0], columns[:, 1])], axis=2)
    for quaternion, matrix in zip(targets("quaternion")[:50], matrices, strict=False):
        w, v = quaternion[0], quaternion[1:]
        for p in np.eye(3):  # Rodrigues
            turned = p + 2 * w * np.cross(v, p) + 2 * np.cross(v, np.cross(v, p))
            np.testing.assert_allclose(matrix @ p, turned, atol=1e-12)


def test_a_picture_is_what_single_rays_see() -> None:
    """Walk along each ray in small steps until a point lies inside the solid; which plane is nearest names the face."""
    side = 12
    rotations = pose.matrices(targets("quaternion")[:3])
    pictures = pose.rendered(rotations, side)
    steps = np.linspace(2.0, 4.0, 1500)
    for rotation, picture in zip(rotations, pictures, strict=True):
        agreed = 0
        for row in range(side):
            for column in range(side):
                samples = [
                    _seen(rotation, (3 * column + i + 0.5) / (3 * side), (3 * row + j + 0.5) / (3 * side), steps)
                    for j in range(3) for i in range(3)
                ]  # fmt: skip
                agreed += bool((abs(picture[row, column] - np.mean(samples, axis=0)) <= 2).all())
        assert agreed >= 0.98 * side**2  # steps may miss a face that a ray only grazes


def _seen(rotation: NDArray[np.float64], across: float, down: float, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    ray = np.array([(2 * across - 1) * pose.VIEW, (1 - 2 * down) * pose.VIEW, -1.0])
    points = (np.array([0, 0, pose.CAMERA]) + steps[:, None] * ray) @ rotation  # in the solid's coordinates
    beyond = points @ pose.NORMALS.T - pose.OFFSETS
    inside = (beyond <= 0).all(axis=1)
    if not inside.any():
        return pose.BACKGROUND.astype(float)
    face = beyond[inside.argmax()].argmax()
    light = np.array([-0.4, 0.6, 0.7]) / np.linalg.norm([-0.4, 0.6, 0.7])
    return pose.COLOURS[face] * (0.45 + 0.55 * max(0.0, (rotation @ pose.NORMALS[face]) @ light))


def test_seen_from_the_front_the_near_face_shows_and_its_cut_corner_tells_up() -> None:
    picture = pose.rendered(np.eye(3)[None], 32)[0]
    assert picture[16, 16].argmax() == 2  # blue
    white = (picture.min(axis=2) > 150).nonzero()
    assert white[0].mean() < 16 < white[1].mean()  # above and right


def test_no_picture_is_cut_off() -> None:
    corners = np.array([[x, y, z] for x in (-0.64, 0.64) for y in (-0.48, 0.48) for z in (-0.34, 0.34)])  # uncut
    places = corners @ pose.matrices(targets("quaternion")).swapaxes(1, 2)  # N, 8, 3
    assert (abs(places[:, :, :2]) / (pose.CAMERA - places[:, :, 2:]) < pose.VIEW).all()


def test_no_two_rotations_look_alike() -> None:
    pictures = pose.rendered(pose.matrices(targets("quaternion")[:300]), 16)
    assert len(np.unique(pictures.reshape(300, -1), axis=0)) == 300
    turns = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # those that map a box to itself
    seen = pose.rendered(pose.matrices(turns), 32).astype(int)
    assert min(abs(seen[a] - seen[b]).mean() for a in range(4) for b in range(a)) > 2
