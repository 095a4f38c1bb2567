"""The parameter file, its schema and the documentation say what the declarations say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ros_ood_perception.parameters import generate
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.generate import PAGE, PARAMETER_FILE, SCHEMA, outdated_files
from ros_ood_perception.parameters.tables import BEGIN, END

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "config"


@pytest.fixture
def copied_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in (PARAMETER_FILE, SCHEMA, PAGE):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    monkeypatch.setattr(generate, "CHECKOUT", tmp_path)
    return tmp_path


def flat(parameters: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested groups as dotted names."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return found


def test_every_generated_file_is_what_the_declarations_say() -> None:
    assert outdated_files(ROOT) == [], f"run: {generate.COMMAND}"


def test_the_command_names_what_is_out_of_date_and_writes_it(
    copied_checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied_checkout / PARAMETER_FILE
    right = file.read_text()
    file.write_text(right.replace("engine: auto", "engine: torch"))
    assert generate.main(["--check"]) == 1
    assert f"{PARAMETER_FILE}: not what parameters/declarations.py says; run: python -m" in capsys.readouterr().err
    assert "engine: torch" in file.read_text()
    assert generate.main([]) == 0
    assert file.read_text() == right
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("text", ["no tables", f"{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"])
def test_a_page_without_a_place_for_the_tables_is_an_error(
    text: str, copied_checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied_checkout / PAGE).write_text(text)
    assert generate.main(["--check"]) == 2
    assert "docs/node.md: it must hold the lines '<!-- parameters: generated" in capsys.readouterr().err


def test_the_parameter_file_holds_the_nodes_parameters_and_defaults() -> None:
    written = flat(yaml.safe_load((ROOT / PARAMETER_FILE).read_text())["/**"]["ros__parameters"])
    defaults = {
        d.name: list(d.default_value) if isinstance(d.default_value, tuple) else d.default_value for d in DECLARATIONS
    }
    assert written == defaults
    assert {name: type(value) for name, value in written.items()} == {n: type(v) for n, v in defaults.items()}


def test_the_parameter_files_keep_to_the_schema() -> None:
    schema = json.loads((ROOT / SCHEMA).read_text())
    files = sorted(CONFIG.rglob("*.param.yaml"))
    assert files
    for file in files:
        jsonschema.validate(yaml.safe_load(file.read_text()), schema)


@pytest.mark.parametrize(
    ("name", "value"),
    [("anomaly_threshold", 7.0), ("num_threads", "many"), ("engine", "abacus"), ("anomaly_treshold", 0.5)],
)
def test_the_schema_refuses_what_the_node_would(name: str, value: object) -> None:
    schema = json.loads((ROOT / SCHEMA).read_text())
    parameters = {"bundle": "somewhere", name: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"/**": {"ros__parameters": parameters}}, schema)


def test_the_nodes_page_has_a_row_for_every_parameter() -> None:
    page = (ROOT / PAGE).read_text()
    for declaration in DECLARATIONS:
        default = declaration.default_value
        shown = "all" if default == declaration.one_of else f"`{as_yaml(default)}`"
        assert f"| `{declaration.name}` | {shown} | " in page, declaration.name
        assert f"| {'yes' if declaration.live else ''} | {declaration.description} |" in page, declaration.name


def as_yaml(value: object) -> str:
    """As a user writes it into a parameter file."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(value) if value == "" or not isinstance(value, str) else value
