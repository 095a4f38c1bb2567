"""A network of `transformers`, from a local folder or a name on its hub. No code of the folder runs."""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ros_ood_perception.bundle.model_bundle import LARGEST_MODEL_BYTES
from ros_ood_perception.shown_text import error_line, printable
from training.segmenter.input_normalisation import InputNormalisation
from training.segmenter.networks.mask_networks import MASK_FAMILIES, check_mask_attention, task_tokens
from training.segmenter.networks.per_pixel_networks import FAMILIES as PER_PIXEL_FAMILIES
from training.segmenter.networks.per_pixel_networks import Family
from training.segmenter.networks.refusal import NetworkRefusedError

FAMILIES = {**PER_PIXEL_FAMILIES, **MASK_FAMILIES}

LONGEST_LICENCE = 200
NOT_SAID = {"other", "unknown", ""}
"""What a model card gives as licence where it gives none."""

MADE_ANEW = ("num_batches_tracked", "relative_position_index", "position_ids", "criterion.empty_weight")
"""Ends of the names of buffers that the code makes itself."""

LARGEST_NUMBER = 1_000_000
MOST_LAYERS = 1_000
"""Above these a config.json is no network's, and the memory or the time to build it could exceed any machine's."""

PREPROCESSING = "preprocessor_config.json"

MOST_CONFIG_BYTES = 4_000_000


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with what its folder says about it.

    Attributes:
        model: in evaluation mode, float32.
        family: of `model.config.model_type`.
        normalisation, bgr: of its input.
        names: of the classes; empty where the folder has LABEL_0, LABEL_1, ...
        new: names of the weights that the folder lacks, or has for another number of classes. They are random.
        task: tokens of OneFormer's task, (1, length) int64; None for others.
        notes: what the user should know, a sentence each.
    """

    model: Any
    family: Family
    normalisation: InputNormalisation
    bgr: bool
    names: tuple[str, ...]
    new: tuple[str, ...] = ()
    task: torch.Tensor | None = None
    notes: tuple[str, ...] = ()


def load_network(source: str, classes: int | None = None) -> LoadedNetwork:
    """Load a network.

    Args:
        classes: number of classes to train for. What the folder lacks of the head, or has for another number of
            classes, is then made anew. None takes the network as it is.

    Raises:
        NetworkRefusedError: it cannot be had, is of no known family, or lacks weights.
    """
    with quiet():
        config = network_config(source)
        kind = config.model_type
        model, new = _model(source, config, classes)
        processing = _processing(source)
        task = task_tokens(source, int(config.task_seq_len)) if kind == "oneformer" else None
    normalisation, bgr, notes = _normalisation(source, FAMILIES[kind], processing)
    return LoadedNetwork(model, FAMILIES[kind], normalisation, bgr, class_names(config), new, task, notes)


def network_config(source: str) -> Any:
    """The configuration of a network of a known family.

    Raises:
        NetworkRefusedError: there is none, or it is no network's.
    """
    from transformers import AutoConfig

    _check_numbers(source)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # of transformers and of its validation; no common base class
        raise _unreadable(source, "config.json", error) from error
    kind = str(config.model_type)
    if kind not in FAMILIES:
        raise NetworkRefusedError(
            f"{source} is a '{printable(kind, 60)}'; {', '.join(FAMILIES)} can be taken, and any other network is "
            "imported as an ONNX file that gives class logits"
        )
    return config


def class_names(config: Any) -> tuple[str, ...]:
    """Names of the classes in their order; empty where they are only numbered.

    Raises:
        NetworkRefusedError: their numbers are not those of the output's channels.
    """
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    if sorted(config.id2label) != list(range(len(names))):
        raise NetworkRefusedError(
            f"config.json numbers its classes {', '.join(map(str, sorted(config.id2label)[:5]))}, ... in id2label; the "
            f"channels of the output are 0 to {len(names) - 1}. Number the classes so"
        )
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else tuple(names)


def image_size(config: Any) -> int:
    """The side of the squares that some families take, pixels."""
    return int(config.image_size if isinstance(config.image_size, int) else config.image_size[0])


def _check_numbers(source: str) -> None:
    """Refuse a config.json whose network no machine could build.

    Raises:
        NetworkRefusedError: it is no JSON object, or has such numbers.
    """
    path = Path(source) / "config.json"
    if not path.is_file():
        return
    if path.stat().st_size > MOST_CONFIG_BYTES:
        raise NetworkRefusedError(f"{path} has {path.stat().st_size} bytes; a configuration has some thousands")
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise _unreadable(source, "config.json", error) from error
    stack: list[tuple[str, Any]] = [("", content)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, dict):
            stack += [(str(key), part) for key, part in value.items()]
        elif isinstance(value, list):
            stack += [(name, part) for part in value]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            most = MOST_LAYERS if re.search("layers|depth|blocks", name) else LARGEST_NUMBER
            # Written so that NaN is refused too.
            if not abs(value) <= most:
                raise NetworkRefusedError(
                    f"{path}: {printable(name, 60)} is {printable(str(value), 40)}, more than {most:,}; no network has "
                    "that. Give the configuration that belongs to the weights"
                )


def _unreadable(source: str, what: str, error: Exception) -> NetworkRefusedError:
    if not Path(source).is_dir():
        return _not_there(source, error)
    return NetworkRefusedError(
        f"{source}: {what} cannot be read by transformers ({type(error).__name__}: {error_line(error)[:200]}); "
        "download the folder again, or save it with save_pretrained"
    )


def _not_there(source: str, error: Exception) -> NetworkRefusedError:
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return NetworkRefusedError(
        f"{source} is neither a folder that transformers reads nor a name on a hub that can be reached{offline}: "
        f"{error_line(error)[:200]}; download it where there is a network (hf download NAME --local-dir FOLDER) "
        "and give FOLDER"
    )


def _model(source: str, config: Any, classes: int | None) -> tuple[Any, tuple[str, ...]]:
    """The model, and the names of the weights that are new.

    Raises:
        NetworkRefusedError: it cannot be read, or lacks weights.
    """
    kind = config.model_type
    loader = loader_of(kind)
    if classes is not None and classes != int(config.num_labels):
        config.num_labels = classes
    try:
        check_weights(source, weights_of(config))
        # Version 5 keeps the checkpoint's type otherwise.
        model, report = loader.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are told below
            output_loading_info=True,
        )
    except NetworkRefusedError:
        raise
    except Exception as error:  # of transformers, of safetensors and of the network's own code; no common base class
        raise _unreadable(source, "its network", error) from error
    check_mask_attention(source, model)
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise NetworkRefusedError(f"{source} has weights that are infinite or no numbers; take an earlier checkpoint")
    # Some networks make single weights in double precision.
    return model.float().eval(), _new_weights(source, kind, report, classes is not None)


def _new_weights(source: str, kind: str, report: Mapping[str, Any], new_head: bool) -> tuple[str, ...]:
    """Names of the weights that the source does not have as the network needs them.

    Raises:
        NetworkRefusedError: they are more than those of a head that may be new.
    """
    missing = {str(key) for key in report["missing_keys"]}
    others = {str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]}
    new = sorted(key for key in missing | others if not key.endswith(MADE_ANEW))
    of_encoder = [key for key in new if key.startswith(FAMILIES[kind].encoder)]
    unused = sorted(str(key) for key in report["unexpected_keys"])
    if of_encoder or (others and not new_head):
        shown = (of_encoder or new)[-1]
        placeless = f"; {len(unused)} of its weights have no place, such as {unused[0]}" if unused else ""
        raise NetworkRefusedError(
            f"{source} does not have {len(of_encoder or new)} weights as the {kind} of its config.json needs them, "
            f"such as {printable(shown, 100)}{printable(placeless, 200)}; save network and configuration together with "
            "save_pretrained"
        )
    if new and not new_head:
        raise NetworkRefusedError(
            f"{source} holds a {kind} without a segmentation head ({len(new)} weights are missing, "
            f"such as {new[-1]}); give weights that were trained for semantic segmentation"
        )
    return tuple(new)


def loader_of(kind: str) -> Any:
    """The class of `transformers` that makes networks of a family with their heads."""
    from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

    return AutoModelForUniversalSegmentation if kind in MASK_FAMILIES else AutoModelForSemanticSegmentation


def weights_of(config: Any) -> int:
    """Number of the weights of a configuration. No memory is taken for them: it may ask for any number."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in loader_of(config.model_type).from_config(config).parameters())


def check_weights(source: str, weights: int) -> None:
    """Refuse a network whose weights do not fit into a bundle's graph.

    Raises:
        NetworkRefusedError: its float32 weights take more than a bundle's graph may.
    """
    if 4 * weights > LARGEST_MODEL_BYTES:
        raise NetworkRefusedError(
            f"{source} has {weights / 1e6:.0f} million weights, which takes more than the "
            f"{LARGEST_MODEL_BYTES >> 20} MB of a bundle's graph; take a smaller network of the family"
        )


def _processing(source: str) -> Mapping[str, Any]:
    """The source's preprocessor_config.json; empty without one.

    Raises:
        NetworkRefusedError: it is no JSON object.
    """
    from transformers import ImageProcessingMixin

    path = Path(source) / PREPROCESSING
    try:
        if path.exists() and not isinstance(json.loads(path.read_text()), dict):
            raise ValueError("it is no JSON object")
        found, _ = ImageProcessingMixin.get_image_processor_dict(source)
        return dict(found)
    except (OSError, ValueError, RecursionError) as error:
        if path.exists():
            raise _unreadable(source, PREPROCESSING, error) from error
        return {}


def _normalisation(
    source: str, family: Family, processing: Mapping[str, Any]
) -> tuple[InputNormalisation, bool, tuple[str, ...]]:
    """Mean and deviation in grey levels, whether the order is blue, green, red, and what the user should know."""
    if not processing:
        return (
            family.normalisation,
            family.bgr,
            ("no preprocessor_config.json: the input is normalised as the published weights of its family",),
        )
    bgr = bool(processing.get("do_flip_channel_order", family.bgr))
    try:
        # Processors scale by 1/255 first, unless they say otherwise.
        levels = 1 / float(processing.get("rescale_factor", 1 / 255)) if processing.get("do_rescale", True) else 1.0
        if not processing.get("do_normalize", "image_mean" in processing):
            return InputNormalisation((0.0, 0.0, 0.0), (levels, levels, levels)), bgr, ()
        if "image_mean" not in processing or "image_std" not in processing:
            note = "preprocessor_config.json gives no mean: the input is normalised as its family's published weights"
            return family.normalisation, bgr, (note,)
        mean, std = ([float(value) * levels for value in processing[key]] for key in ("image_mean", "image_std"))
        if bgr:
            # They are given in the network's order.
            mean, std = mean[::-1], std[::-1]
        return InputNormalisation(tuple(mean), tuple(std)), bgr, ()  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise NetworkRefusedError(
            f"{source}: preprocessor_config.json has no usable mean, deviation or rescale_factor "
            f"({error_line(error)[:200]}); give three numbers each"
        ) from error


def licence_of(source: str) -> str | None:
    """The licence in the head of the source's README.md, the model card; None where it gives none.

    What is no printable text of some length is none.
    """
    card = Path(source) / "README.md"
    text = card.read_text(errors="replace")[:20_000] if card.is_file() else ""
    head = text.split("\n---", 1)[0] if text.startswith("---") else ""
    for key in ("license", "license_name"):
        found = re.search(rf"^{key}:[ \t]*['\"]?([^'\"#\n]*?)['\"]?[ \t]*$", head, re.MULTILINE)
        text_of_licence = found[1].strip() if found else ""
        readable = text_of_licence.isprintable() and "\ufffd" not in text_of_licence
        if text_of_licence.lower() not in NOT_SAID and readable and len(text_of_licence) <= LONGEST_LICENCE:
            return text_of_licence
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the hundred lines that transformers and the exporter write about things that do not concern the user."""
    from transformers.utils.logging import disable_progress_bar

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
