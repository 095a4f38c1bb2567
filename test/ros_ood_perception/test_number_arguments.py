"""Sizes of images on a command line."""

from __future__ import annotations

import argparse

import pytest

from ros_ood_perception.number_arguments import image_size, width_by_height


@pytest.mark.parametrize("text", ["", "640", "x480", "640x", "0x480", "640x-1", "640x480x3", "640 x 480", "٣x٤"])
def test_what_is_no_size_is_refused_with_the_form_that_is_wanted(text: str) -> None:
    for parse, form in ((image_size, "HEIGHTxWIDTH"), (width_by_height, "WIDTHxHEIGHT")):
        with pytest.raises(argparse.ArgumentTypeError, match=f"it must be {form}, such as"):
            parse(text)


def test_sides_come_in_the_order_in_which_they_are_written() -> None:
    assert image_size("384x512") == (384, 512)
    assert width_by_height("640x480") == (640, 480)
