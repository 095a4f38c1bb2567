"""`region.drivable_classes`: the given classes, those of the bundle, or every region."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.settings import ParameterError, live_settings

ROAD, PAVEMENT = 3, 4


@pytest.mark.parametrize(
    ("given", "marked", "ids"),
    [
        ([""], (), None),
        ([""], ("road",), {ROAD}),
        ([], ("road", "pavement"), {ROAD, PAVEMENT}),
        (["pavement"], ("road",), {PAVEMENT}),
        (["pavement"], (), {PAVEMENT}),
        (["*"], ("road",), None),
        (["*"], (), None),
    ],
)
def test_an_empty_parameter_means_the_classes_that_the_bundle_marks(
    given: list[str], marked: tuple[str, ...], ids: set[int] | None, shipped_bundle: Path
) -> None:
    description = read_bundle(shipped_bundle).description
    classes = tuple(replace(c, drivable=c.name in marked) for c in description.classes)
    values = {declared.name: declared.default_value for declared in DECLARATIONS} | {"region.drivable_classes": given}
    found = live_settings(values).pipeline_settings(replace(description, classes=classes)).region.drivable_ids
    assert found == (None if ids is None else frozenset(ids))


@pytest.mark.parametrize("given", [["lawn"], ["*", "road"]])
def test_a_class_that_the_bundle_lacks_is_named_with_those_it_has(given: list[str], shipped_bundle: Path) -> None:
    values = {declared.name: declared.default_value for declared in DECLARATIONS} | {"region.drivable_classes": given}
    with pytest.raises(ParameterError, match=r"the bundle has sky, building, .*\['\*'\] counts every region"):
        live_settings(values).pipeline_settings(read_bundle(shipped_bundle).description)
