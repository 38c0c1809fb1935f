"""A training step's states as CUDA graphs: one launch each for the way there and the way back.

A network as small as the SCN is hundreds of kernels a step, each done in less time than it takes
to ask for it. Recorded once and replayed, the numbers are the same.
"""

import torch
from torch import Tensor, nn

from cloud_service.recommender.models.recommender import Recommender


class _States(nn.Module):
    """`training_states` as a module's forward, which is what PyTorch records."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, clicks: Tensor, users: Tensor) -> Tensor:
        return self.model.training_states(clicks, users)


class Replayed:
    """`model.training_states` on a GPU, recorded for the first shape of batch that it is given.

    Batches of another shape, as the last of an epoch, take the usual way, and so does a model
    that cannot be recorded.
    """

    def __init__(self, model: Recommender) -> None:
        """`model` is in training mode whenever this is called."""
        self._model = model
        self._shape: torch.Size | None = None
        self._recorded: nn.Module | None = None

    def __call__(self, clicks: Tensor, users: Tensor) -> Tensor:
        """As `training_states`; the next call overwrites what this one gave."""
        if self._shape is None:
            self._shape, self._recorded = clicks.shape, self._record(clicks, users)
        if self._recorded is None or clicks.shape != self._shape:
            return self._model.training_states(clicks, users)
        out: Tensor = self._recorded(clicks, users)
        return out

    def _record(self, clicks: Tensor, users: Tensor) -> nn.Module | None:
        # The gradients of a replay arrive on the stream of the recording; PyTorch waits for them.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        # Recording runs the model a few times: its dropout must not come out of the epoch's.
        with torch.random.fork_rng(devices=[clicks.device]):
            try:
                recorded = torch.cuda.make_graphed_callables(
                    _States(self._model), (clicks.clone(), users.clone()), allow_unused_input=True
                )
            except RuntimeError:  # it waits for the GPU somewhere
                return None
        assert isinstance(recorded, nn.Module)
        return recorded
