"""Lists what TensorRT's Python bindings and the CUDA driver offer, version by version, for the tests of what we call.

    python test/ros_ood_perception/interface_lists.py [--python310 PATH]

Installs the bindings' wheels and the CUDA headers of several versions into throw-away folders and writes
`tensorrt_interfaces.json` and `cuda_prototypes.json` beside this file. The bindings hold every class and attribute; the
libraries underneath, which come from the vendor's own index, are stood in for by empty ones (needs `cc`). The wheel of
TensorRT 8.6 is for Python 3.10 alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TENSORRT_LIST = HERE / "tensorrt_interfaces.json"
CUDA_LIST = HERE / "cuda_prototypes.json"
INFERENCE = HERE.parents[1] / "ros_ood_perception" / "inference" / "tensorrt"

BINDINGS = {
    "8.6.1": "tensorrt-bindings==8.6.1",
    "10.0.1": "tensorrt-cu12-bindings==10.0.1",
    "10.16.1": "tensorrt-cu12-bindings==10.16.1.11",
    "11.4.0": "tensorrt-cu12-bindings==11.4.0.106",
}
CUDA_HEADERS = {"12.0": "nvidia-cuda-runtime-cu12==12.0.146", "13.5": "nvidia-cuda-runtime==13.5.37"}

VARIABLES = {
    "trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "tensor": "ITensor",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
}
"""The class of each variable (or attribute `_variable`) by its name in the code of the TensorRT engine."""

RESULTS = {"get_error": "ParserError", "get_timing_cache": "ITimingCache", "get_input": "ITensor"}
"""The class of what a method gives, where the code asks it for more at once."""


def attributes_in_use(files: list[Path]) -> set[tuple[str, str]]:
    """(class, attribute) of all that the code asks TensorRT's objects for; enumerators as ("BuilderFlag", "TF32")."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute):
                owner = _class_of(node.value)
                if owner is not None:
                    found.add((owner, node.attr))
            elif isinstance(node, ast.ClassDef):
                # A class that TensorRT calls: its methods must be the base's.
                for base in node.bases:
                    owner = _class_of(base)
                    if owner is not None:
                        methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
                        found.update((owner, method) for method in methods if not method.startswith("__"))
    return found


def _class_of(value: ast.expr) -> str | None:
    if isinstance(value, ast.Name):
        return VARIABLES.get(value.id)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        return RESULTS.get(value.func.attr)
    if isinstance(value, ast.Attribute):
        if isinstance(value.value, ast.Name) and value.value.id == "self":
            return VARIABLES.get(value.attr.lstrip("_"))
        if _class_of(value.value) == "":
            return value.attr
    return None


LISTING = """
import json, sys, tensorrt_bindings as trt
names = set(json.loads(sys.argv[1]))
def members(name):
    return sorted(n for n in dir(getattr(trt, name)) if not n.startswith("__"))
print(json.dumps({"": sorted(n for n in dir(trt) if n == "__version__" or not n.startswith("_")),
                  **{n: members(n) for n in sorted(names) if n and hasattr(trt, n)}}))
"""


def tensorrt_interface(requirement: str, python: str, classes: set[str]) -> dict[str, list[str]]:
    """Class -> attributes; "" -> the module's."""
    with tempfile.TemporaryDirectory() as folder:
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, requirement]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
        [library] = Path(folder).glob("tensorrt_bindings/tensorrt*.so")
        dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
        wanted = subprocess.run(
            ["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True
        ).stdout
        symbols = re.findall(r"^\s+U ((?:create|get|init|_ZN\d+nv)\w*)$", wanted, re.MULTILINE)
        source = "".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols)
        for name in re.findall(r"NEEDED.*\[(libnv[^\]]+)\]", dynamic):
            command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(Path(folder) / name), f"-Wl,-soname,{name}"]
            subprocess.run(command, input=source.encode(), check=True)
        listed = subprocess.run(
            [python, "-c", LISTING, json.dumps(sorted(classes))],
            check=True,
            capture_output=True,
            text=True,
            env={"LD_LIBRARY_PATH": folder, "PYTHONPATH": folder, "PATH": "/usr/bin:/bin"},
        )
        return dict(json.loads(listed.stdout))


def cuda_prototypes(requirement: str, functions: set[str]) -> dict[str, list[str]]:
    """Symbol of the driver's library -> types of its arguments, from cuda.h."""
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, requirement]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
        [header] = Path(folder).rglob("cuda.h")
        text = re.sub(r"/\*.*?\*/", "", header.read_text(errors="replace"), flags=re.DOTALL)
    # Before the last part a name stands for its newest version; there the old ones are declared as they are.
    current, _, old = text.rpartition("#if defined(__CUDA_API_VERSION_INTERNAL)")
    newest = dict(re.findall(r"#define\s+(cu\w+)\s+(?:__CUDA_API_\w+\()?(cu\w+)", current))
    found: dict[str, list[str]] = {}
    for part, names in ((current, newest), (old, {})):
        for name, arguments in re.findall(r"CUresult\s+CUDAAPI\s+(cu\w+)\(([^)]*)\)", part):
            symbol = names.get(name, name)
            if symbol in functions:
                found[symbol] = [_type_of(argument) for argument in arguments.split(",")]
    return found


def _type_of(argument: str) -> str:
    words = " ".join(argument.replace("*", " * ").split())
    return re.sub(r"\s*\b\w+$", "", words).replace(" *", "*") if " " in words else words


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python310", metavar="PATH", help="a Python 3.10, for TensorRT 8.6")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE.parents[1]))
    from ros_ood_perception.inference.tensorrt.cuda_driver import PROTOTYPES

    classes = {owner for owner, _ in attributes_in_use(sorted(INFERENCE.glob("*.py")))}
    classes.add("NetworkDefinitionCreationFlag")  # the code asks it by name
    versions = json.loads(TENSORRT_LIST.read_text()) if TENSORRT_LIST.exists() else {}
    for version, requirement in BINDINGS.items():
        python = options.python310 if version.startswith("8.") else sys.executable
        if python is None:
            print(f"TensorRT {version}: not listed anew, it needs --python310", file=sys.stderr)
            continue
        versions[version] = tensorrt_interface(requirement, python, classes)
        print(f"TensorRT {version}: {len(versions[version])} classes")
    TENSORRT_LIST.write_text(json.dumps(versions, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    prototypes = {
        version: cuda_prototypes(requirement, set(PROTOTYPES)) for version, requirement in CUDA_HEADERS.items()
    }
    CUDA_LIST.write_text(json.dumps(prototypes, indent=1) + "\n")
    for version, functions in prototypes.items():
        print(f"CUDA {version}: {len(functions)} of {len(PROTOTYPES)} functions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
