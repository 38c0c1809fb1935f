"""The ONNX graph of a training step, and those of what a patch begins from.

learn    patch, first, second, start (P,), rate, epsilon, decay (), weights (n,), then the inputs of
         the patch's form -> next_patch, next_first, next_second (P,), loss ()

PyTorch cannot export `backward`: `make_fx` traces the gradient into plain operators first. There is
no batch axis, no control flow, and nothing random: the device draws the negatives.

amortised  sums (3, D), count (1, 1), state (1, D) -> shift (1, D)
"""

import io
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from cloud_service.recommender.export.device_layers import is_additive
from cloud_service.recommender.export.graphs import export_module
from cloud_service.recommender.learning.amortised import AmortisedPatch
from cloud_service.recommender.learning.patch import MetapatchBasis
from cloud_service.recommender.learning.step import (
    MetapatchScores,
    PatchScores,
    ShiftScores,
    StateMapScores,
    TrainingStep,
)
from cloud_service.recommender.models.scn import SCN
from shared import bundle as names
from shared.errors import UnsupportedLearning
from shared.learning import EPSILON, HALF_LIVES, LearningSettings, PatchSettings

STEP_OUTPUTS: Final = ("next_patch", "next_first", "next_second", "loss")


def learning_files(
    scn: SCN,
    settings: LearningSettings,
    amortised: AmortisedPatch | None = None,
    basis: MetapatchBasis | None = None,
) -> dict[str, bytes]:
    """The files of a device's bundle that learning needs, by name; none without a patch.

    `amortised` is the network that a patch begins from, `basis` that of a metapatch. Raises
    UnsupportedLearning where the device cannot learn or apply such a patch.
    """
    patch = settings.patch
    if patch is None:
        return {}
    _check_supported(scn, patch, amortised, basis)
    files = {names.LEARN_GRAPH: export_training_step(scn, patch, basis)}
    if patch.start == "amortised":
        assert amortised is not None
        files[names.AMORTISED_GRAPH] = export_amortised(amortised)
    if basis is not None:
        files[names.BASIS] = _basis_bytes(basis)
    return files


def _check_supported(
    scn: SCN, patch: PatchSettings, amortised: AmortisedPatch | None, basis: MetapatchBasis | None
) -> None:
    if not is_additive(scn):
        raise UnsupportedLearning(
            f"a device patches the user state before the correction, and with gcn "
            f"{scn.settings.gcn} it needs the correction: use gcn projected, or no patch"
        )
    if patch.junctions != ("state",):
        raise UnsupportedLearning(
            f"devices apply patches at the user state, not at {', '.join(patch.junctions)}: use "
            "junctions state"
        )
    if (patch.form == "metapatch") != (basis is not None):
        raise UnsupportedLearning(
            f"a {patch.form} comes with{'' if basis is None else 'out'} a basis"
        )
    if patch.start == "amortised" and (amortised is None or patch.form != "shift"):
        raise UnsupportedLearning("an amortised start is a shift, and needs its network")


def export_amortised(network: AmortisedPatch) -> bytes:
    """The amortised patch of one user as ONNX bytes."""
    network = network.eval().cpu()
    dim = network.second.out_features
    inputs = {
        "sums": torch.zeros(len(HALF_LIVES), dim),
        "count": torch.ones(1, 1),
        "state": torch.zeros(1, dim),
    }
    return export_module(_OneUser(network), inputs, ["shift"], {})


def _basis_bytes(basis: MetapatchBasis) -> bytes:
    """(junctions, size, 2 RANK + 1, D): the rows of `down`, the columns of `up`, the bias."""
    parts = (basis.down, basis.up.transpose(2, 3), basis.bias.unsqueeze(2))
    buffer = io.BytesIO()
    array = torch.cat(parts, 2).detach().cpu().numpy().astype(np.float32)
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def export_training_step(
    scn: SCN, settings: PatchSettings, basis: MetapatchBasis | None = None
) -> bytes:
    """The training step of a patch, for batches of `settings.window` clicks, as ONNX bytes.

    `basis` is that of a metapatch. Raises ValueError where a form and a basis do not fit.
    """
    scn = scn.eval().cpu()
    n, m, d = settings.window, settings.negatives, scn.settings.dim
    batch = {"positives": torch.randn(n, d), "negatives": torch.randn(m, d)}
    offsets = {"positive_offsets": torch.zeros(n), "negative_offsets": torch.zeros(n, m)}
    scores: PatchScores
    if settings.form == "shift":
        scores = ShiftScores()
        batch |= {"positive_scores": torch.zeros(n), "negative_scores": torch.zeros(n, m)}
    elif basis is None or basis.size != settings.size or basis.junctions != settings.junctions:
        raise ValueError("a metapatch needs a basis of its size and junctions")
    elif settings.junctions == ("state",):
        scores = StateMapScores(basis)
        batch |= {"states": torch.randn(n, d), **offsets}
    else:
        scores = MetapatchScores(scn, basis)
        k = scn.settings.segment
        is_last = functional.one_hot(torch.zeros(n, dtype=torch.int64), k).float()
        batch |= {"hidden": torch.randn(n, k, d), "is_last": is_last, **offsets}
    size = d if settings.form == "shift" else settings.size
    state = {name: torch.zeros(size) for name in ("patch", "first", "second", "start")}
    factors = {
        "rate": torch.tensor(settings.learning_rate),
        "epsilon": torch.tensor(EPSILON),
        "decay": torch.tensor(settings.decay),
    }
    inputs = {**state, **factors, "weights": torch.ones(n), **batch}
    traced = make_fx(TrainingStep(scores))(*inputs.values())
    # The exporter's optimiser may drop an accumulation into a gradient (onnxscript 0.7.2 turns
    # ScatterND with constant indices into Identity): training graphs are exported without it.
    return export_module(
        _Named(traced),
        {"inputs": inputs},
        STEP_OUTPUTS,
        {"inputs": dict.fromkeys(inputs)},
        optimise=False,
    )


class _Named(nn.Module):
    """A traced function that takes its arguments by name."""

    def __init__(self, traced: torch.fx.GraphModule) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.traced(*inputs.values())
        return outputs


class _OneUser(nn.Module):
    """An amortised patch without a batch axis of its sums."""

    def __init__(self, network: AmortisedPatch) -> None:
        super().__init__()
        self.network = network

    def forward(self, sums: Tensor, count: Tensor, state: Tensor) -> Tensor:
        shift: Tensor = self.network(sums.unsqueeze(0), count, state)
        return shift
