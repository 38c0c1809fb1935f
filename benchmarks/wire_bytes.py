"""What the forms of H and of the correction weigh, in bytes as sent and in time on a slow network.

The bytes of an exchange are counted by the kernel (`TCP_INFO`) on a connection whose packets are
those of an Ethernet: payload, HTTP heads, and the headers of TCP and IPv4 with its
acknowledgements. The times are those of simulated networks, from H in hand to a correction ready
to apply, the forms taking turns. The GCN is the paper's with random weights, which cost what
trained ones do.

With runs of `cloud-service evaluate` of a projected GCN, also what float16 costs in quality:
NDCG@10 over all items on the test click, H and correction rounded as they are on the wire.

    python -m benchmarks.wire_bytes                                       two minutes
    python -m benchmarks.wire_bytes --runs FOLDER --data LOG.csv.gz       the same, and the quality
    python -m benchmarks.wire_bytes --short                               a glance, keeps nothing
"""

import argparse
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import served
from benchmarks.device_cost.figure import STYLE
from benchmarks.machine import keep
from benchmarks.runs import corrected_runs, sent_rows
from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.recommender.ranking.evaluate import clicked_before, ranks_over_all, user_states
from cloud_service.recommender.ranking.significance import bootstrap, per_user
from device_client.bundle import Bundle
from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.correction.sockets import Connect, SocketLike, address_of, tcp_connect
from experiments.simulation.network import profile
from experiments.simulation.shaping import ShapedSocket
from shared.outcomes import Outcome
from shared.wire import FORMS, Form, Wire

NETWORKS: Final = ("loopback", "4g-5", "lte-typical")
FIGURE: Final = Path("docs/figures/wire_bytes.png")
MSS: Final = 1448
"""Bytes of a packet's payload on an Ethernet, time stamps on."""
PACKET_HEADERS: Final = 20 + 32
"""Of IPv4, and of TCP with time stamps."""
_INFO: Final = struct.Struct("<136x2I56xQ")
"""Of Linux' `tcp_info`: packets out and in, then bytes sent."""
_RECEIVED: Final = struct.Struct("<128xQ")

Hidden = NDArray[np.float32]


class Counted(NamedTuple):
    """What the kernel has counted on a connection so far."""

    packets_out: int
    packets_in: int
    sent: int
    received: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Counts and times all forms; prints tables, keeps results, ratios and a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="exchanges of each (200)")
    parser.add_argument("--runs", type=Path, help="the --out folder of an evaluation")
    parser.add_argument("--data", type=Path, action="append", default=[], help="a log of --runs")
    parser.add_argument("--short", action="store_true", help="a glance that keeps nothing")
    options = parser.parse_args(arguments)
    if (options.runs is None) != (not options.data):
        parser.error("--runs and --data go together")
    rounds = 20 if options.short else options.rounds
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        store, version = served.published(Path(folder))
        bundle = Bundle.open(store.version_folder(version))
        with served.cloud(store, served.free_port()) as url:
            results["bytes"] = {form: count(url, bundle, form, rounds) for form in FORMS}
            results["times"] = {name: times(url, bundle, name, rounds) for name in NETWORKS}
    results["quality"] = quality(options.runs, options.data) if options.runs else {}
    _print(results)
    if not options.short:
        _draw(results, FIGURE)
        keep("wire_bytes", results, _ratios(results))


def count(url: str, bundle: Bundle, form: Form, rounds: int) -> dict[str, float]:
    """Mean bytes of an exchange, each way, on a connection that is kept."""
    connections: list[socket.socket] = []

    def connect(timeout: float) -> SocketLike:
        address = address_of(url)
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout)
        sock.connect((address.host, address.port))
        connections.append(sock)
        return sock

    link = CorrectionLink.to(url, bundle, form=form, connect=connect)
    try:
        _ask(link, _hidden(bundle, 0))
        before = _counted(connections[0])
        for index in range(rounds):
            _ask(link, _hidden(bundle, index))
        after = _counted(connections[0])
    finally:
        link.close()
    if len(connections) > 1:
        raise RuntimeError("the connection was lost: the counts are of no use")
    counted = Counted(*((b - a) / rounds for a, b in zip(before, after, strict=True)))  # type: ignore[arg-type]
    wire = Wire(bundle.manifest.model, half=FORMS[form].half)
    down = wire.answer_bytes(form)
    return {
        "payload_up": wire.hidden_bytes,
        "head_up": counted.sent - wire.hidden_bytes,
        "packets_up": counted.packets_out * PACKET_HEADERS,
        "payload_down": down,
        "head_down": counted.received - down,
        "packets_down": counted.packets_in * PACKET_HEADERS,
    }


def times(url: str, bundle: Bundle, network: str, rounds: int) -> dict[str, list[float]]:
    """Quartiles of the milliseconds from H to its correction over a network, by form."""
    samples: dict[str, list[float]] = {form: [] for form in FORMS}
    with ExitStack() as stack:
        links: dict[Form, CorrectionLink] = {}
        for form in FORMS:
            connect = _shaped(url, network, len(links))
            budget = Budget(tolerance_ms=1000.0)
            link = CorrectionLink.to(url, bundle, form=form, budget=budget, connect=connect)
            stack.callback(link.close)
            _ask(link, _hidden(bundle, 0))
            links[form] = link
        for index in range(rounds):
            for form, link in links.items():
                samples[form].append(_ask(link, _hidden(bundle, index)) * 1e3)
    return {form: statistics.quantiles(counted, n=4) for form, counted in samples.items()}


def _shaped(url: str, network: str, seed: int) -> Connect:
    plain, shape = tcp_connect(url), profile(network)

    def connect(timeout: float) -> SocketLike:
        sock = plain(timeout)
        assert isinstance(sock, socket.socket)
        return ShapedSocket(sock, shape, np.random.default_rng(seed)) if shape.shaped else sock

    return connect


def _ask(link: CorrectionLink, hidden: Hidden) -> float:
    """Seconds until the correction of H was there. Raises RuntimeError where none came."""
    begun = time.perf_counter_ns()
    ticket = link.ask(hidden, len(hidden) - 1)
    received = link.wait(ticket, begun + 5_000_000_000)
    if received.outcome is not Outcome.APPLIED:
        raise RuntimeError(f"no correction came: {received.outcome}")
    return (time.perf_counter_ns() - begun) / 1e9


def _hidden(bundle: Bundle, seed: int) -> Hidden:
    s = bundle.manifest.model
    return np.random.default_rng(seed).normal(size=(s.segment, s.dim)).astype(np.float32)


def _counted(sock: socket.socket) -> Counted:
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    packets_out, packets_in, sent = _INFO.unpack_from(raw)
    return Counted(packets_out, packets_in, sent, *_RECEIVED.unpack_from(raw))


def quality(folder: Path, logs: Sequence[Path]) -> dict[str, Any]:
    """NDCG@10 of the projected runs on `logs`, float32 and float16, by log and recipe."""
    return {run.name: _rounded(run.model, run.parts) for run in corrected_runs(folder, logs)}


@torch.no_grad()
def _rounded(model: ProjectedCoCorrRec, dataset: Split) -> dict[str, Any]:
    """Figures of one run: the same requests with float32 and with float16 on the wire."""
    at, items = dataset.test_positions, dataset.log.items
    states = user_states(model.scn, items, dataset.starts, at, np.zeros_like(at))
    full_rows, half = (
        sent_rows(model, dataset, at),
        sent_rows(model, dataset, at, sent=_halved),
    )
    targets, left_out = items[at].astype(np.int64), clicked_before(dataset, at)
    gains = [
        per_user(
            ranks_over_all(model, torch.cat((states, rows), dim=1), targets, left_out), "ndcg@10"
        )
        for rows in (full_rows, half)
    ]
    lows, highs = bootstrap((gains[1] - gains[0])[:, None])
    table, dim = model.scn.catalogue(), model.settings.dim
    shifted = states + full_rows[:, -dim:]
    off = ((half - full_rows)[:, -dim:] @ table.T).abs().max() / (shifted @ table.T).std()
    return {
        "users": len(at),
        "float32": float(gains[0].mean()),
        "float16": float(gains[1].mean()),
        "difference": [float(lows[0]), float(highs[0])],
        "largest_score_error_in_deviations": float(off),
    }


def _halved(tensor: Tensor) -> Tensor:
    """As it is on the wire in float16."""
    return tensor.half().float()


def _ratios(results: dict[str, Any]) -> dict[str, Any]:
    full_rows = _sums(results["bytes"]["full"])
    samples = {}
    for form in FORMS:
        for direction, value, full in zip(
            ("up", "down"), _sums(results["bytes"][form]), full_rows, strict=True
        ):
            samples[f"{form}: bytes {direction} / full"] = {"value": value / full}
        for network in NETWORKS:
            of = results["times"][network]
            samples[f"{form}: time over {network} / full"] = {"value": of[form][1] / of["full"][1]}
    for name, row in results["quality"].items():
        samples[f"{name}: NDCG@10 float16 / float32"] = {"value": row["float16"] / row["float32"]}
    return samples


def _sums(row: dict[str, float]) -> tuple[float, float]:
    up, down = (
        sum(row[f"{segment_name}_{direction}"] for segment_name in _PARTS)
        for direction in ("up", "down")
    )
    return up, down


_PARTS: Final = ("payload", "head", "packets")


def _print(results: dict[str, Any]) -> None:
    print("bytes of an exchange: payload + HTTP head + headers of packets")
    for form, row in results["bytes"].items():
        sides = []
        for direction in ("up", "down"):
            segment_sizes = [row[f"{segment_name}_{direction}"] for segment_name in _PARTS]
            terms = " + ".join(f"{size:,.0f}" for size in segment_sizes)
            sides.append(f"{direction} {terms} = {sum(segment_sizes):,.0f}")
        print(f"  {form:10} {'   '.join(sides)}")
    for network, samples in results["times"].items():
        print(f"ms from H to its correction over {network}: median (quartiles)")
        for form, (low, median, high) in samples.items():
            print(f"  {form:10} {median:8.3f} ({low:.3f} to {high:.3f})")
    for name, row in results["quality"].items():
        low, high = row["difference"]
        print(
            f"{name}: NDCG@10 float32 {row['float32']:.5f}, float16 {row['float16']:.5f} "
            f"({low:+.5f} to {high:+.5f}), largest error of a score "
            f"{row['largest_score_error_in_deviations']:.1e} of their deviation"
        )


def _draw(results: dict[str, Any], path: Path) -> None:
    """Bytes each way, stacked, and the time over the slow networks."""
    forms = list(FORMS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.6), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True, width_ratios=(1.2, 1.2, 1))
        for side, direction in zip(axes, ("up", "down"), strict=False):
            lefts = np.zeros(len(forms))
            for segment_name, colour in zip(_PARTS, ("#1769b0", "#e08a1e", "#6b747d"), strict=True):
                widths = np.array(
                    [results["bytes"][form][f"{segment_name}_{direction}"] for form in forms]
                )
                label = {"head": "HTTP head", "packets": "TCP and IP"}.get(
                    segment_name, segment_name
                )
                side.barh(forms, widths, 0.6, left=lefts, color=colour, label=label)
                lefts += widths
            side.set_xlabel(f"bytes {direction}")
        axes[0].invert_yaxis()
        samples = results["times"]["4g-5"]
        low, middle, high = (np.array([samples[form][n] for form in forms]) for n in range(3))
        axes[2].errorbar(
            middle, forms, xerr=(middle - low, high - middle), fmt="o", color="#1769b0"
        )
        axes[2].set(xlim=(0, None), xlabel="ms over 4G at 5 MB/s")
        for counted in axes:
            counted.grid(visible=True, axis="x")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
