from __future__ import annotations

import numpy as np

from ros_ood_perception.messages.overlay import overlay_picture, score_picture, semantic_picture


def test_classes_have_their_colours_and_unknown_ids_are_black() -> None:
    picture = semantic_picture(np.array([[0, 1, 255]], np.uint8), [(1, 2, 3), (4, 5, 6)])
    assert picture.tolist() == [[[1, 2, 3], [4, 5, 6], [0, 0, 0]]]


def test_the_heat_map_is_brighter_where_the_score_is_higher() -> None:
    picture = score_picture(np.array([[0.0, 0.5, 1.0]], np.float32)).astype(int).sum(axis=2)[0]
    assert picture[0] < picture[1] < picture[2]


def test_the_overlay_marks_the_anomalous_pixels_and_no_others() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    ids = np.zeros((40, 40), np.uint8)
    mask = np.zeros((40, 40), bool)
    plain = overlay_picture(image, ids, mask, [(0, 0, 0)])
    mask[10:20, 10:20] = True
    marked = overlay_picture(image, ids, mask, [(0, 0, 0)])
    changed = np.any(plain != marked, axis=2)
    assert changed[10:20, 10:20].all()
    assert not changed[25:].any()
