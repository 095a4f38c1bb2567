"""The command line of the three trainers: configuration, devices and hosts, resuming."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.files.strict_yaml import from_mapping, load_yaml
from ros_ood_perception.number_arguments import whole
from ros_ood_perception.shown_text import error_line
from training.runs.allocator import keep_freed_memory
from training.runs.autocast_precision import precision_plugins
from training.runs.checkpoint import CheckpointError
from training.runs.config_changes import changed
from training.runs.training_run import TrainingRun

MOST_HOSTS = 10_000


def command_line(run_class: type[TrainingRun[Any]], description: str | None, arguments: list[str] | None) -> int:
    """The command line of a trainer; returns the exit code.

    Args:
        run_class: called with (config, config path, folders of the data, out folder, fabric).
        description: text for `--help`.
    """
    keep_freed_memory()
    program = run_class.program.rpartition(".")[2]
    options = _parser(run_class.program, description, run_class.initial).parse_args(arguments)
    changes = [*options.set, *([] if options.precision is None else [f"precision={options.precision}"])]
    try:
        config = from_mapping(changed(load_yaml(options.config), changes), run_class.config_class, str(options.config))
        folders = config.data.folders(options.data)
        out = options.out or Path("runs") / config.name
        if not options.resume and (out / "last.pt").exists():
            raise CheckpointError(f"{out / 'last.pt'} exists; give --resume to continue, or another --out")
        if not options.resume and (out / "best.pt").exists():
            raise CheckpointError(f"{out / 'best.pt'} exists and would be replaced; give another --out")
        given = {name: getattr(options, name.replace("-", "_")) for name in run_class.initial}
        read = {f"--data {name}": folder for name, folder in folders.items()}
        check_apart("--out", out, read if options.resume else {**read, **{f"--{n}": p for n, p in given.items()}})
        devices, nodes = _layout(options.devices, options.nodes)
        fabric = Fabric(
            accelerator=options.accelerator,
            strategy="ddp" if _under_torchrun() else "auto",
            devices=devices,
            num_nodes=nodes,
            **_precision(config.precision, options.accelerator),
        )
        fabric.launch()
        if config.precision.startswith("bf16") and fabric.device.type == "cpu" and not _computes_bf16():
            print(
                f"{program}: this processor has no bf16 instructions, so precision {config.precision} takes several "
                "times as long as --precision 32-true",
                file=sys.stderr,
            )
        constructor: Any = run_class
        run = constructor(config, options.config, folders, out, fabric)
        run.changes = tuple(changes)
        if options.resume:
            run.resume()
        else:
            run.start_from({name: path for name, path in given.items() if path is not None})
        run.run()
    except (PerceptionError, OSError, FloatingPointError, ValueError) as error:
        print(f"{program}: {error_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; --resume continues after the last finished epoch", file=sys.stderr)
        return 130
    return 0


def _parser(program: str, description: str | None, initial: dict[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML, see training/configs/")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="replace a field of the config, such as --set optimiser.learning_rate=1e-4; may be repeated",
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[SET:]FOLDER",
        help="folder of the data set, in place of the config's; with several sets in the config: SET:FOLDER",
    )
    parser.add_argument("--out", type=Path, help="folder for checkpoints and logs (default: runs/NAME)")
    for name, text in initial.items():
        parser.add_argument(f"--{name}", type=Path, metavar="CHECKPOINT", help=text)
    parser.add_argument("--resume", action="store_true", help="continue from OUT/last.pt")
    parser.add_argument("--accelerator", default="auto", help="a Fabric accelerator: auto, cpu, cuda")
    parser.add_argument(
        "--devices",
        help="devices of this host (on a CPU: processes) that share each batch (default: 1; under torchrun: its)",
    )
    parser.add_argument("--precision", help="32-true or bf16-mixed (flow: 32-true only), in place of the config's")
    parser.add_argument("--nodes", type=whole(1, MOST_HOSTS), help="number of hosts (default: 1; under torchrun: its)")
    return parser


def _precision(precision: str, accelerator: str) -> dict[str, Any]:
    plugins = precision_plugins(precision, accelerator)
    return {"plugins": plugins} if plugins else {"precision": precision}


def _under_torchrun() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def _layout(devices: str | None, nodes: int | None) -> tuple[str, int]:
    """Devices of each host, and number of hosts.

    Under torchrun both are those of torchrun. Otherwise its processes would train separately and overwrite each other's
    checkpoint.

    Raises:
        ValueError: the options contradict torchrun.
    """
    if not _under_torchrun():
        return devices or "1", nodes or 1
    there, hosts = os.environ["LOCAL_WORLD_SIZE"], int(os.environ["GROUP_WORLD_SIZE"])
    if devices not in (None, there) or nodes not in (None, hosts):
        raise ValueError(
            f"--devices {devices} --nodes {nodes}, but torchrun started {there} process(es) on each of {hosts} "
            "host(s); leave both out under torchrun"
        )
    return there, hosts


def _computes_bf16() -> bool:
    """Whether this CPU has bf16 instructions. Others emulate them."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))
