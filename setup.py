"""Installs what a vehicle runs. A checkout also has `training/`, `demo/`, `sample_drive/`, `fleet/` and `benchmark/`.

No bundle of `models/` is installed. Most of their weights are not for a product (REUSE.toml), and none fits a vehicle.
"""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "ros_ood_perception"


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """Every file below a folder, to the same place below share/."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [(f"share/{PACKAGE}/{path.parent}", [str(path)]) for path in files]


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Semantic segmentation with dense anomaly detection as a ROS 2 lifecycle node",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    # Style and script of the replay's report.
    package_data={f"{PACKAGE}.replay.report": ["*.css", "*.js"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        # package.xml names the texts of the licences by these paths.
        (f"share/{PACKAGE}", ["package.xml", "LICENSE"]),
        *shared("LICENSES"),
        *shared("launch"),
        *shared("config"),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"perception_node = {PACKAGE}.node.perception_node:main",
            f"build_engine = {PACKAGE}.build_engine:main",
            f"replay = {PACKAGE}.replay.command_line.main:main",
        ],
    },
)
