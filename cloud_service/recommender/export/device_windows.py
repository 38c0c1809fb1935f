"""The `prepare` graph of a sliding window whose segment has several inner steps.

When the window slides, its first click goes, and with it every update of the inner model changes:
the updates follow one another, so computing them again takes K / b times as long. Instead a device
keeps the inner state of each window that has begun: of that which began with the last click, of
that which began one click earlier, and so on. A click updates all of them at once, in as many
operators as one update; the ranking reads the oldest. It is exact, and costs 43 KB a user.

A window that began i clicks ago stands at position i mod b of its inner step. Windows of the same
position lie together: axis `b` below has the positions, axis `rounds` the windows i = round b +
position, and a window that comes to the end of an inner step goes to position 0 of the next round.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cloud_service.recommender.export.device_layers import (
    apply_readout,
    block_output,
    recent_clicks,
    take,
)
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.models.ttt_parts import EPS


class WindowsGraph(nn.Module):
    """A click's projections and the inner states of all windows to the user state of the oldest,
    and the next inner states."""

    turn: Tensor
    gamma: Tensor
    centred: Tensor
    scale: Tensor
    place: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn, block, s = scn, scn.block, scn.settings
        b, self.rounds = block.inner_step, s.window_rounds
        self.outputs = ["user", "next_states"] + ["next_taken"] * (b > 1)
        h, f = s.heads, s.head_dim
        beside = torch.ones(b, 1)
        cos = torch.cat((block.cos[:b], beside), 1)
        sin = torch.cat((block.sin[:b], 0 * beside), 1)
        self.register_buffer("turn", torch.stack((cos, sin))[:, None])  # (2, 1, b, f + 1)
        gamma = block.inner_norm.weight.detach()
        gammas = gamma[:, None].repeat(1, b * self.rounds, 1)
        self.register_buffer("gamma", gammas.view(h * b, self.rounds, f))
        # The largest rate is a factor here: a gradient step is linear in this product.
        centred = gamma.unsqueeze(-1) * (torch.eye(f) - 1 / f) * block.inner_lr.largest
        if b == 1:
            centred = centred * block.token_scale().detach()
        self.register_buffer("centred", centred.repeat_interleave(b, 0))
        scale = block.token_scale().detach().repeat(h)[:, None, None]
        self.register_buffer("scale", scale.expand(h * b, f + 1, self.rounds * f).clone())
        age = torch.arange(b * self.rounds)
        self.register_buffer("place", age % b * self.rounds + age // b)

    def forward(
        self,
        hidden: Float[Tensor, "k dim"],
        keys: Float[Tensor, "heads 1 f+1"],
        rotated_keys: Float[Tensor, "heads 1 f+1"],
        values: Float[Tensor, "heads 1 f+1"],
        query: Float[Tensor, "2 heads 1 f+1"],
        position: Int[Tensor, " 1"],
        states: Float[Tensor, "hb f+1 rf"],
        taken: Float[Tensor, "hb f+1 rf"] | None = None,
    ) -> tuple[Tensor, ...]:
        scn, s = self.scn, self.scn.settings
        h, b, f = s.heads, scn.block.inner_step, s.head_dim
        key, rope_query = keys, query[0]
        if b > 1:
            cos, sin = self.turn[0], self.turn[1]
            key = (keys * cos + rotated_keys * sin).view(h * b, 1, f + 1)
            rope_query = (query[0] * cos + query[1] * sin).view(h * b, 1, f + 1)
            values = values.expand(h, b, f + 1).reshape(h * b, 1, f + 1)
        before = (key @ states).view(h * b, self.rounds, f)
        normal, _, inverse = torch.native_layer_norm(before, (f,), None, None, EPS)
        inner = (normal * self.gamma + (key - values)[..., :-1]) @ self.centred
        direction = inner - normal * (inner * normal).mean(-1, keepdim=True)
        step = direction * (torch.sigmoid(values[..., -1:]) * inverse)
        change = key.view(h * b, f + 1, 1) @ step.view(h * b, 1, self.rounds * f)
        following: tuple[Tensor, ...]
        if taken is None:
            read = states - change
            following = (read,)
        else:
            total = taken + change
            read = states - total * self.scale
            following = (read, total)
        outputs = (rope_query @ read).view(h, b * self.rounds, f)
        at = take(self.place, position)
        inner_output = take(outputs, at, axis=1)
        if b > 1:
            rope_query = take(rope_query.view(h, b, f + 1), position % b, axis=1)
        output = block_output(scn.block, rope_query[..., :-1], inner_output)
        recent = [] if scn.readout is None else [recent_clicks(scn.readout, hidden, position)]
        return scn.user_state(apply_readout(scn.readout, output, recent)), *following
