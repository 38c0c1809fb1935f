"""Named network profiles between a device and the cloud, and the delays they cause.

- Bandwidth: bytes leave and arrive one after another at the profile's rate. The HTTP headers
  count; those of TCP and IP do not.
- Round trip: `rtt_s` is the shortest one, half of it each way.
- Jitter: each message waits, in each direction, for a further random time, exponential with
  mean `jitter_s` / 2. So the mean round trip is `rtt_s + jitter_s`, with a long upper tail.
- Loss: each packet of 1,448 bytes is lost with probability `loss`, and so is each resend. A
  loss costs Linux's retransmission timeout, the round trip and at least 200 ms, doubled at each
  further loss. A correction is 2 to 4 packets, too few for the three duplicate ACKs of a fast
  retransmit. Tail loss probes, which Linux also has, would often recover sooner: the model is on
  the slow side. Lost ACKs, congestion control and slow start (the first ten packets go out at
  once, more than any correction needs) are not modelled, nor the radio waking up after a pause.
"""

import difflib
import math
from dataclasses import dataclass
from typing import Protocol

PACKET_BYTES = 1448
"""Payload of one TCP packet on a path of 1,500 bytes, with timestamps."""

MIN_RTO_S = 0.2
"""Linux's TCP_RTO_MIN: the minimum added to the round trip before a retransmission."""

MAX_RESENDS = 6
"""Largest number of losses of one packet. It bounds the wait; it models nothing."""


class Randomness(Protocol):
    """Source of randomness: a `random.Random` or a `numpy.random.Generator`."""

    def random(self) -> float:
        """The next number of [0, 1)."""
        ...


@dataclass(frozen=True)
class NetworkProfile:
    """A network between a device and the cloud. Bandwidth `None`: as fast as the real socket.

    `up_bytes_per_s`, `down_bytes_per_s`: bytes of TCP payload a second; `rtt_s`: shortest round
    trip; `jitter_s`: mean of what a round trip takes on top; `loss`: share of packets lost.
    Raises ValueError if a number is impossible.
    """

    name: str
    description: str
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    rtt_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        for rate in (self.up_bytes_per_s, self.down_bytes_per_s):
            if rate is not None and not 0 < rate < math.inf:
                raise ValueError(f"{self.name}: a bandwidth must be positive, or None")
        if not (0 <= self.rtt_s < math.inf and 0 <= self.jitter_s < math.inf):
            raise ValueError(f"{self.name}: round trip and jitter must be 0 s or more")
        if not 0 <= self.loss < 1:
            raise ValueError(f"{self.name}: loss must be at least 0 and below 1")

    @property
    def shaped(self) -> bool:
        """True if the profile changes any delay."""
        bandwidth = self.up_bytes_per_s is not None or self.down_bytes_per_s is not None
        return bandwidth or self.rtt_s > 0 or self.jitter_s > 0 or self.loss > 0

    def serialisation_s(self, count: int, *, up: bool) -> float:
        """Seconds that `count` bytes need at the profile's rate, upwards or downwards."""
        rate = self.up_bytes_per_s if up else self.down_bytes_per_s
        return 0.0 if rate is None else count / rate

    def latency_s(self, randomness: Randomness) -> float:
        """Draws the one-way delay of a message in seconds, without bandwidth and loss."""
        jitter = 0.0
        if self.jitter_s > 0:
            jitter = -math.log1p(-randomness.random()) * self.jitter_s / 2
        return self.rtt_s / 2 + jitter

    def recovery_s(self, packets: int, randomness: Randomness) -> float:
        """Draws the delay in seconds that losses cause: that of the slowest of `packets`."""
        if self.loss == 0:
            return 0.0
        resends = max((self._resends(randomness) for _ in range(packets)), default=0)
        timeout = self.rtt_s + max(MIN_RTO_S, 4 * self.jitter_s)
        return timeout * float(2**resends - 1)

    def _resends(self, randomness: Randomness) -> int:
        resends = 0
        while resends < MAX_RESENDS and randomness.random() < self.loss:
            resends += 1
        return resends


def _bandwidth_only(name: str, megabytes_per_s: int) -> NetworkProfile:
    generation = name[:2].upper()
    rate = megabytes_per_s * 1e6
    description = (
        f"The paper's {generation} at {megabytes_per_s} MB/s (CoCorrRec, Table 5): bandwidth "
        "alone, no round trip, no jitter, no loss."
    )
    return NetworkProfile(name, description, rate, rate)


def _assumed(
    name: str,
    description: str,
    down_mbit: float,
    up_mbit: float,
    rtt_ms: float,
    jitter_ms: float,
    loss: float,
) -> NetworkProfile:
    """Makes a profile of ours from the usual figures: Mbit/s and ms."""
    return NetworkProfile(
        name,
        description,
        up_mbit * 1e6 / 8,
        down_mbit * 1e6 / 8,
        rtt_ms / 1e3,
        jitter_ms / 1e3,
        loss,
    )


PROFILES: dict[str, NetworkProfile] = {
    entry.name: entry
    for entry in (
        NetworkProfile("loopback", "Device and cloud on one machine, nothing shaped."),
        _bandwidth_only("4g-5", 5),
        _bandwidth_only("4g-15", 15),
        _bandwidth_only("5g-50", 50),
        _bandwidth_only("5g-100", 100),
        _assumed("wifi-home", "Wi-Fi at home, a server in the region.", 100, 20, 15, 3, 0.0005),
        _assumed("5g-typical", "5G outdoors, a server in the region.", 100, 20, 25, 6, 0.0005),
        _assumed("lte-good", "LTE with a good signal.", 50, 15, 35, 6, 0.0005),
        _assumed("lte-typical", "LTE as on an ordinary day.", 20, 8, 55, 12, 0.002),
        _assumed("lte-poor", "LTE at the edge of a cell.", 3, 1, 110, 40, 0.01),
        _assumed("3g", "3G, the setting of web page tests.", 1.6, 0.75, 150, 30, 0.01),
    )
}
"""Every network by name. The paper's four are bandwidth alone, 1 MB = 10^6 bytes.

The rest are our assumptions, kept near public figures: Lighthouse's mobile throttling (1.6 Mbit/s
down, 750 kbit/s up, 150 ms: our `3g`, to which we add jitter and loss); "Third-Party Assessment
of Mobile Performance in the 5G Era" (arXiv 2507.18834: only the best 5% of users are regularly
below 20 ms, 6 out of 10 below 50 Mbit/s). Jitter and loss are guesses everywhere.
"""


def profile(name: str) -> NetworkProfile:
    """The profile `name`. Raises ValueError that suggests the most similar name."""
    if name in PROFILES:
        return PROFILES[name]
    near = difflib.get_close_matches(name, PROFILES, n=1, cutoff=0.0)[0]
    raise ValueError(f"no network profile {name!r}: did you mean {near!r}? ({', '.join(PROFILES)})")
