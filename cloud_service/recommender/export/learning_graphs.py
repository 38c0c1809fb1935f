"""The ONNX graph of a training step, and those of what a patch begins from.

learn    patch, first, second, start (P,), rate, epsilon, decay (), weights (n,), then the inputs of
         the patch's form -> next_patch, next_first, next_second (P,), loss ()

PyTorch cannot export `backward`: `make_fx` traces the gradient into plain operators first. There is
no batch axis, no control flow, and nothing random: the device draws the negatives.
"""

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from cloud_service.recommender.export.graphs import export_module
from cloud_service.recommender.learning.patch import MetapatchBasis
from cloud_service.recommender.learning.step import (
    MetapatchScores,
    PatchScores,
    ShiftScores,
    StateMapScores,
    TrainingStep,
)
from cloud_service.recommender.models.scn import SCN
from shared.learning import EPSILON, PatchSettings

STEP_OUTPUTS = ("next_patch", "next_first", "next_second", "loss")


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
