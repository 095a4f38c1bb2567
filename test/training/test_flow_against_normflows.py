"""The flow's blocks agree with those of `normflows` on the same weights: values, log-determinants and inverses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_flow import stirred
from torch import Tensor

from training.flow.activation_norm import ActivationNorm
from training.flow.affine_coupling import AffineCoupling
from training.flow.invertible_convolution import InvertibleConvolution
from training.flow.squeeze import Squeeze
from training.flow.transform import Transform

normflows = pytest.importorskip("normflows")


def inputs(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, channels, 4, 6, dtype=torch.float64, generator=generator)


def assert_agree(ours: Transform, x: Tensor, theirs: Any) -> None:
    """`theirs` maps x to (z, log-determinant); ours must too, and lead back."""
    z, log_determinant = ours(x)
    expected, expected_log_determinant = theirs(x)
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(log_determinant, torch.as_tensor(expected_log_determinant).to(z).expand(len(x)))
    torch.testing.assert_close(ours.inverse(z), x)


def test_the_activation_norm_agrees() -> None:
    torch.manual_seed(0)
    ours: Any = stirred(ActivationNorm(5)).double()
    theirs = normflows.flows.ActNorm((5, 1, 1)).double()
    # Ours is (x - shift) exp(log_scale), theirs x exp(s) + t.
    theirs.s.data = ours.log_scale.data[None, :, None, None]
    theirs.t.data = (-ours.shift * ours.log_scale.exp()).data[None, :, None, None]
    theirs.data_dep_init_done = torch.tensor(1.0)
    assert_agree(ours, inputs(5), theirs)


def test_the_activation_norms_first_batch_sets_the_same_scale() -> None:
    x = inputs(5) * 3 + 1
    ours = ActivationNorm(5).double()
    theirs = normflows.flows.ActNorm((5, 1, 1)).double()
    # Theirs divides the variance by n - 1 and adds to the deviation what ours adds to the variance.
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-2, atol=1e-2)


def test_the_invertible_convolution_agrees() -> None:
    torch.manual_seed(0)
    ours: Any = stirred(InvertibleConvolution(6)).double()
    theirs = normflows.flows.Invertible1x1Conv(6, use_lu=True).double()
    theirs.P, theirs.sign_S = ours.permutation, ours.sign
    theirs.L.data, theirs.U.data, theirs.log_S.data = ours.lower.data, ours.upper.data, ours.log_diagonal.data
    # What is forward here, from the image to the latent, is `inverse` there.
    assert_agree(ours, inputs(6), theirs.inverse)


@pytest.mark.parametrize("channels", [4, 6])
def test_the_affine_coupling_agrees(channels: int) -> None:
    torch.manual_seed(0)
    ours: Any = stirred(AffineCoupling(channels, width=5, depth=2)).double()

    class SharedNetwork(torch.nn.Module):
        """Our network's log-scale and shift, interleaved as `normflows` takes them."""

        def forward(self, kept: Tensor) -> Tensor:
            log_scale, shift = ours._scale_and_shift(kept)
            return torch.stack([shift, log_scale], dim=2).flatten(1, 2)

    theirs = normflows.flows.AffineCouplingBlock(SharedNetwork(), scale_map="exp", split_mode="channel")
    assert_agree(ours, inputs(channels), theirs)


def test_the_squeeze_agrees() -> None:
    """Both put the four neighbours of a channel beside each other, row by row."""
    theirs = normflows.flows.Squeeze()
    assert_agree(Squeeze(), inputs(3), theirs.inverse)
