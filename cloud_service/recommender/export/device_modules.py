"""The modules of which the device's ONNX graphs are made, one class for each graph.

They re-implement `TTTBlock` for one row, with as few ONNX operators as possible: the dispatch of
operators dominates, not the arithmetic. shared/GRAPHS.md explains inputs and outputs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.export.device_layers import (
    InnerModel,
    MomentMatching,
    apply_readout,
    block_output,
    is_additive,
    onnx_operator,
    recent_clicks,
    score_items,
    take,
    uses_moment_matching,
)
from cloud_service.recommender.models.scn import SCN
from shared.projected import join_item


class HiddenGraph(nn.Module):
    """Clicks to their rows of H."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.input_norm = scn.input_norm

    def forward(self, item_table: Tensor, clicks: Tensor) -> Tensor:
        out: Tensor = self.input_norm(functional.embedding(clicks, item_table))
        return out


class ProjectionGraph(nn.Module):
    """Rows of H to their query, key and value projections, as one matrix product.

    The rotated pairs of RoPE are rows of the matrix too, so that no feature is moved afterwards.
    """

    maps: Tensor
    constants: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        block, s = scn.block, scn.settings
        rate, query = block.inner_lr, block.query.detach()
        key, value = block.key.detach(), block.value.detach()
        rows = torch.stack((key, _rotated_rows(key), value, query, _rotated_rows(query)))
        maps = functional.pad(rows.unflatten(1, (s.heads, -1)), (0, 0, 0, 1))  # (5, h, f + 1, D)
        constants = torch.zeros(maps.shape[:-1])
        constants[0, :, -1] = 1.0
        # The inner norm's bias is subtracted from the value here: the inner gradient needs that.
        constants[2, :, :-1] = -block.inner_norm.bias.detach()
        maps[2, :, -1] = rate.weight.detach().squeeze(1)
        constants[2, :, -1] = rate.bias.detach()[:, 0]
        constants[3, :, -1] = float(is_additive(scn))
        self.register_buffer("maps", maps.flatten(0, 2))
        self.register_buffer("constants", constants.flatten())

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.maps, self.constants)


class PrepareGraph(InnerModel):
    """Projections and the inner state to everything in a ranking that needs neither the
    correction nor the candidates.

    Only the last click's row of `attn` and `b` reaches a score, so only that row is computed.
    """

    reach: Tensor
    scale: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__(scn)
        block = scn.block
        self.outputs = ["user"] if is_additive(scn) else ["turned_query", "step", "own"]
        self.outputs += ["own_mean", "own_deviation"] if uses_moment_matching(scn) else []
        if scn.readout is not None and not is_additive(scn):
            self.outputs.append("near")
        # How far each click's step moves the row of the last one.
        if scn.settings.inner_step is None:
            scale = block.token_scale().detach()[:, None, None] * block.inner_lr.largest
            self.register_buffer("scale", scale)  # (K, 1, 1)
            self.register_buffer("reach", scale * block.tril.unsqueeze(-1))  # (K, K, 1)
        else:
            reach = block.reach().detach() * block.inner_lr.largest
            self.register_buffer("reach", reach.unsqueeze(-1))
        self.moments = MomentMatching(scn)

    def forward(
        self,
        hidden: Tensor,
        keys: Tensor,
        rotated_keys: Tensor,
        values: Tensor,
        query: Tensor,
        position: Tensor,
        state: Tensor,
    ) -> tuple[Tensor, ...]:
        block, readout = self.scn.block, self.scn.readout
        key, direction, pace = self.steps(keys, rotated_keys, values, state)
        past = direction * (pace * take(self.reach, position))  # (h, K, f)
        rope_query = (query * take(self.turn, position, axis=2)).sum(0)  # (h, 1, f + 1)
        rotated_query = rope_query[..., :-1]
        recent = [] if readout is None else [recent_clicks(readout, hidden, position)]
        if is_additive(self.scn):
            inner = rope_query @ (state - key.transpose(1, 2) @ past)
            output = block_output(block, rotated_query, inner)
            return (self.scn.user_state(apply_readout(readout, output, recent)),)
        attn = (rope_query @ key.transpose(1, 2)) * take(block.tril, position)
        bias = state[:, -1:] - past.sum(1, keepdim=True)
        step = past
        if not block.mask_correction:
            step = direction * (pace * take(self.scale, position))
        start = rope_query @ state + bias
        attn_and_start = torch.cat((attn, start), -1)
        moments: tuple[Tensor, ...] = ()
        if uses_moment_matching(self.scn):
            moments = self.moments.of(torch.cat((attn, bias), -1))
        return rotated_query, step, attn_and_start, *moments, *recent


class RankGraph(nn.Module):
    """The outputs of `prepare`, a correction and candidates to scores."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn, self.moments = scn, MomentMatching(scn)

    def forward(
        self,
        item_table: Tensor,
        prepared: dict[str, Tensor],
        correction: Tensor,
        gate: Tensor,
        candidates: Tensor,
    ) -> tuple[Tensor, ...]:
        scn, s = self.scn, self.scn.settings
        items = functional.embedding(candidates, item_table)
        items = items if scn.target is None else scn.target(items)
        corrected, shift = scn.block.corrected, s.fusion == "shift"
        attn_and_start = prepared["own"]
        if "own_mean" in prepared:
            matched = self.moments.match(
                correction, prepared["own_mean"], prepared["own_deviation"]
            )
            attn_and_start = attn_and_start + gate * matched
        attn, start = attn_and_start.split([s.segment, s.head_dim], dim=-1)
        if shift:
            of_attn, of_user = correction.split([s.segment, s.head_dim], dim=-1)
            attn = attn + gate * of_attn if "attn" in corrected else attn
        inner = start - attn @ prepared["step"]
        output = block_output(scn.block, prepared["turned_query"], inner)
        if "near" in prepared:
            output = apply_readout(scn.readout, output, [prepared["near"]])
        user = scn.user_state(output)
        if shift and "bias" in corrected:
            user = user + gate * of_user.reshape(1, -1)
        return score_items(user, items), output


class AdditiveRankGraph(nn.Module):
    """As `RankGraph`, for a correction that only adds to the user state and to scores."""

    def forward(
        self,
        item_table: Tensor,
        user: Tensor,
        shift: Tensor,
        item_high: Tensor,
        item_low: Tensor,
        residuals: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        items = functional.embedding(candidates, item_table)
        # A row for each boosted item: the transposed comparison takes three times as long.
        is_item = (candidates == join_item(item_high, item_low).long()).float()  # (n, N)
        scores = score_items(user + shift, items)
        return onnx_operator("Gemm", (residuals, is_item, scores), {}, scores.shape)


class CarryGraph(InnerModel):
    """A full segment to the inner state of the next one."""

    def forward(self, keys: Tensor, rotated_keys: Tensor, values: Tensor, state: Tensor) -> Tensor:
        key, direction, pace = self.steps(keys, rotated_keys, values, state)
        block = self.scn.block
        scale = block.token_scale()[-1] * block.inner_lr.largest
        return state - key.transpose(1, 2) @ (direction * (pace * scale))


def _rotated_rows(weight: Tensor) -> Tensor:
    """The rows whose product is `rotate_pairs` of the product with `weight`."""
    return torch.stack((-weight[1::2], weight[0::2]), dim=1).flatten(0, 1)
