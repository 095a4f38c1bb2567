"""The fuzzer of parameter files, for some seconds; `python -m benchmark.fuzzing.parameters` goes on for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.fuzzing.parameters import run
from ros_ood_perception.parameters.parameter_file import parameter_values
from ros_ood_perception.parameters.settings import ParameterError, camera_names, fixed_settings


def test_of_any_parameter_file_comes_a_documented_error_or_settings() -> None:
    found = run(250, 7)
    assert found.faults == []
    assert found.slowest_s < 5
    assert found.counts["ParameterError"] > 50


@pytest.mark.parametrize("value", ["!!timestamp x", "!!int ''", "!!bool maybe", "!!float x", "9999" * 2000])
def test_a_tag_whose_value_does_not_fit_is_bad_input(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"/**: {{ros__parameters: {{num_threads: {value}}}}}")
    with pytest.raises(ValueError, match=r"a\.yaml"):
        parameter_values(tmp_path / "a.yaml", (), "/perception_node")


def test_many_cameras_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="holds 30000 names"):
        camera_names({"cameras": [f"c{number}" for number in range(30000)]})


@pytest.mark.parametrize("name", ["bundle", "engine_cache", "region.ego_mask"])
@pytest.mark.parametrize("path", ['"\\ud800"', '"/tmp/\\udcff.png"'])
def test_a_path_that_no_file_can_have_is_bad_input(name: str, path: str, tmp_path: Path) -> None:
    values = parameter_values(None, ["bundle=b", f"{name}={path}"], "/perception_node")
    with pytest.raises(ParameterError, match=f"parameter '{name}' is .* not a path"):
        fixed_settings(values)


def test_a_zero_byte_is_refused_where_it_is_read() -> None:
    with pytest.raises(ValueError, match=r"--set bundle: .* holds a zero byte; remove it"):
        parameter_values(None, ['bundle="a\\0b"'], "/perception_node")
