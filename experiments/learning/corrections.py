"""The cloud's corrections before the clicks of an experiment."""

from typing import Final

import numpy as np
import torch

from cloud_service.recommender.data.clicks import recent
from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from experiments.learning.measure import Corrections

_TOGETHER: Final = 64


@torch.no_grad()
def corrections_at(model: ProjectedCoCorrRec, events: Events, moments: Int64) -> Corrections:
    """The correction for the H of each moment, as the cloud computes it."""
    moments = np.unique(moments)
    clicks = recent(events.items, events.starts[moments], moments, model.length)
    shifts, items, residuals = [], [], []
    for at in range(0, len(moments), _TOGETHER):
        part = torch.from_numpy(clicks[at : at + _TOGETHER].astype(np.int64))
        hidden = model.scn.segments(model.scn.hidden(part)).flatten(0, 1)
        shift, boosted = model.gcn.fitted(hidden)
        shifts.append(shift)
        items.append(boosted.items)
        residuals.append(boosted.residuals)
    return Corrections(moments, torch.cat(shifts), torch.cat(items), torch.cat(residuals))
