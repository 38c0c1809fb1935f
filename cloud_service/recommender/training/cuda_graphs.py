"""CUDA graphs of a training step's states: one launch for the forward and one for the backward.

A network as small as the SCN runs hundreds of kernels per step, and launching a kernel takes
longer than the kernel. A recorded graph that is replayed gives the same values.
"""

import torch
from torch import Tensor, nn

from cloud_service.recommender.models.recommender import Recommender


class _States(nn.Module):
    """`training_states` as the forward of a module: PyTorch records modules."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, clicks: Tensor, users: Tensor) -> Tensor:
        return self.model.training_states(clicks, users)


class GraphedTrainingStates:
    """`model.training_states` on a GPU, recorded for the shape of the first batch.

    Batches of another shape, as the last of an epoch, run without a graph, and so does a model
    that cannot be recorded.
    """

    def __init__(self, model: Recommender) -> None:
        """`model` must be in training mode at every call."""
        self._model = model
        self._shape: torch.Size | None = None
        self._recorded: nn.Module | None = None

    def __call__(self, clicks: Tensor, users: Tensor) -> Tensor:
        """As `training_states`; the next call overwrites this result."""
        if self._shape is None:
            self._shape, self._recorded = clicks.shape, self._record(clicks, users)
        if self._recorded is None or clicks.shape != self._shape:
            return self._model.training_states(clicks, users)
        out: Tensor = self._recorded(clicks, users)
        return out

    def _record(self, clicks: Tensor, users: Tensor) -> nn.Module | None:
        # A replay writes gradients on the stream of the recording; PyTorch synchronises the two.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        # Recording runs the model a few times; that must not draw from the epoch's random numbers.
        with torch.random.fork_rng(devices=[clicks.device]):
            try:
                recorded = torch.cuda.make_graphed_callables(
                    _States(self._model), (clicks.clone(), users.clone()), allow_unused_input=True
                )
            except RuntimeError:  # the model synchronises with the GPU
                return None
        assert isinstance(recorded, nn.Module)
        return recorded
