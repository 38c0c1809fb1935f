"""Item embeddings to begin with: items that are clicked near each other lie near each other.

A network that begins from noise has to learn from a few clicks of each item what counting them
shows at once. Here it begins from the leading eigenvectors of the normalised co-click matrix
(spectral embedding: Ng, Jordan and Weiss, NIPS 2001), scaled by the roots of their eigenvalues.
"""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.training.neighbours import count_pairs

REACH: Final = 10
"""Clicks between two items of one user at most."""
FADE: Final = 0.5
"""A pair counts 1 / distance ** FADE."""
_SPARE: Final = 32
_ROUNDS: Final = 20


def spectral_embedding(split: Split, dim: int) -> Float[Tensor, "rows dim"]:
    """A row for every item after one for padding; the root mean square of their lengths is 1.

    Only training clicks are counted. An item without a neighbour has a row of zeros.
    """
    matrix = _similarity(split)
    rows = matrix.shape[0]
    width = min(dim, rows - 1)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        vectors, values, _ = torch.svd_lowrank(matrix, min(width + _SPARE, rows), niter=_ROUNDS)
    embedding = vectors[:, :width] * (values[:width] - 1).clamp_min(0).sqrt()
    embedding[torch.from_numpy(split.train_counts() == 0)] = 0.0
    size = embedding.square().sum(1)
    scale = size[size > 0].mean().rsqrt() if bool((size > 0).any()) else 1.0
    return functional.pad(embedding * scale, (0, dim - width))


def _similarity(split: Split) -> Tensor:
    """1 + D^-1/2 (C + C^T) D^-1/2, sparse: positive, so that the largest values come first."""
    rows = split.log.item_count + 1
    pairs = count_pairs(split, REACH)
    left, right = pairs.keys // rows, pairs.keys % rows
    weights = np.where(left != right, pairs.counts / pairs.distances**FADE, 0.0)
    degree = np.bincount(left, weights, rows) + np.bincount(right, weights, rows)
    weights /= np.sqrt(np.maximum(degree[left] * degree[right], 1e-30))
    every = np.arange(rows)
    index = np.stack([np.concatenate([left, right, every]), np.concatenate([right, left, every])])
    values = np.concatenate([weights, weights, np.ones(rows)]).astype(np.float32)
    return torch.sparse_coo_tensor(
        torch.from_numpy(index), torch.from_numpy(values), (rows, rows), check_invariants=True
    ).coalesce()
