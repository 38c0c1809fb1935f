"""Does this code compute what the published model computes? In PyTorch and in ONNX Runtime.

A parity file (npz) holds the weights of a released CoCorrRec model under `weight/NAME` and, for
each case, `CASE/clicks`, `CASE/candidates` and what the model computes from them. Cases that hold
`CASE/gcn_attn` run with the correction on. The ONNX figures come from the very graphs a bundle
holds: one click at a time, with the state carried from segment to segment, as a device runs them.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from cloud_service.recommender.export.cloud_graphs import export_cloud_graphs
from cloud_service.recommender.export.device_graphs import export_device_graphs
from cloud_service.recommender.models.gcn import GCN
from cloud_service.recommender.models.scn import SCN
from cloud_service.runtime import open_session
from shared.errors import DataError
from shared.model import ModelSettings
from shared.projections import SEGMENT_PROJECTIONS, split_projections

TOLERANCE = 1e-4
ARRAYS = ("hidden", "gcn_attn", "gcn_bias", "block_output", "scores")
_RENAMED = {
    "input_norm": "input_norm.weight",
    "output_norm": "output_norm.weight",
    "item_embedding": "item_embedding",
    "target.0.weight": "target.first.weight",
    "target.0.bias": "target.first.bias",
    "target.1.weight": "target.second.weight",
    "target.1.bias": "target.second.bias",
}

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference of one array of one case, on one engine."""

    engine: str
    case: str
    array: str
    largest: float

    @property
    def within(self) -> bool:
        """Whether it is at most 1e-4. NaN is not."""
        return self.largest <= TOLERANCE


def check_parity(path: Path) -> Iterator[Difference]:
    """Runs every case of a parity file; yields differences as they come.

    Raises DataError for a file that is not one, saying what is missing.
    """
    arrays = read_arrays(path)
    scn, gcn = load_published(arrays)
    cases = case_names(arrays)
    for case in cases:
        yield from _compare("torch", case, arrays, _run_torch(scn, gcn, arrays, case))
    engine = OnnxEngine(scn, gcn)
    for case in cases:
        yield from _compare("onnx", case, arrays, engine.run(arrays, case))


def read_arrays(path: Path) -> Arrays:
    """Every array of an npz file, read without pickle. Raises DataError."""
    try:
        with path.open("rb") as file:  # numpy leaves it open where it is damaged
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array: a parity file is an .npz of many")
            with archive:
                return {name: archive[name] for name in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as an .npz without pickle: {error}") from error


def case_names(arrays: Arrays) -> list[str]:
    """The cases in a parity file. Raises DataError where there is none or one is incomplete."""
    cases = list(dict.fromkeys(n.split("/")[0] for n in arrays if not n.startswith("weight/")))
    if not cases:
        raise DataError("the file holds weights but no case to check: CASE/clicks and so on")
    for case in cases:
        missing = [n for n in ("clicks", "candidates", "scores") if f"{case}/{n}" not in arrays]
        if missing:
            raise DataError(f"case {case} lacks {', '.join(f'{case}/{n}' for n in missing)}")
        _check_case(arrays, case)
    return cases


def _check_case(arrays: Arrays, case: str) -> None:
    """Raises DataError where a case's items cannot be looked up."""
    clicks, candidates = arrays[f"{case}/clicks"], arrays[f"{case}/candidates"]
    if clicks.ndim != 2 or candidates.ndim != 2 or len(clicks) != len(candidates):
        raise DataError(f"{case}: clicks and candidates are (batch, n), of one batch")
    if not clicks.size or not candidates.size:
        raise DataError(f"{case} is empty")
    items = len(arrays.get("weight/item_embedding", ()))
    for name, found in (("clicks", clicks), ("candidates", candidates)):
        numbers = found.astype(np.float64)
        if not ((numbers >= 0) & (numbers < items) & (numbers == np.floor(numbers))).all():
            raise DataError(f"{case}/{name} are item numbers from 0 to {items - 1}")
    filled = clicks != 0
    if not filled[:, 0].all() or (np.diff(filled.astype(np.int8), axis=1) > 0).any():
        raise DataError(f"{case}/clicks are padded with 0 on the right, after at least one click")


def load_published(arrays: Arrays) -> tuple[SCN, GCN]:
    """SCN and GCN with the weights of a parity file, shapes read off the weights.

    Raises DataError where a weight is missing, unknown or misshapen.
    """
    weights = {n.removeprefix("weight/"): a for n, a in arrays.items() if n.startswith("weight/")}
    try:
        heads = weights["inner_weight"].shape[0]
        segment = weights["token_scale_offset"].shape[0]
        rows, dim = weights["item_embedding"].shape
        settings = ModelSettings(
            length=segment,
            dim=dim,
            heads=heads,
            segment=segment,
            gcn="released",
            scoring="tower" if "target.0.weight" in weights else "tied",
        )
        scn, gcn = SCN(rows - 1, settings), GCN(settings)
        tensors = {n: torch.from_numpy(a.astype(np.float32)) for n, a in weights.items()}
        scn.load_state_dict(
            {
                _RENAMED.get(n, f"block.{n}"): t
                for n, t in tensors.items()
                if not n.startswith("gcn_")
            }
        )
        gcn.load_state_dict({_gcn_name(n): t for n, t in tensors.items() if n.startswith("gcn_")})
    except KeyError as error:
        raise DataError(f"the file has no weight/{error.args[0]}") from error
    except (RuntimeError, ValueError) as error:
        raise DataError(f"the weights are not those of a published model: {error}") from error
    return scn.eval(), gcn.eval()


def _gcn_name(name: str) -> str:
    network, part = name.removeprefix("gcn_").split(".", 1)
    return f"{network}.{part}_l0" if part.startswith("gru.") else f"{network}.{part}.weight"


def _run_torch(scn: SCN, gcn: GCN, arrays: Arrays, case: str) -> Arrays:
    clicks = torch.from_numpy(arrays[f"{case}/clicks"].astype(np.int64))
    candidates = torch.from_numpy(arrays[f"{case}/candidates"].astype(np.int64))
    with torch.no_grad():
        hidden = scn.hidden(clicks)
        corrected = f"{case}/gcn_attn" in arrays
        correction = gcn(scn.segments(hidden).flatten(0, 1)) if corrected else None
        output = scn(hidden, correction)
        last = (clicks > 0).sum(1) - 1
        user = scn.user_state(output[torch.arange(len(last)), last])
        results = {
            "hidden": hidden.numpy(),
            "block_output": output.numpy(),
            "scores": scn.score(user, candidates).numpy(),
        }
        if correction is not None:
            results["gcn_attn"] = correction.attn.numpy()
            results["gcn_bias"] = correction.bias.numpy()
    return results


class OnnxEngine:
    """The exported graphs, run as the device and the cloud run them."""

    def __init__(self, scn: SCN, gcn: GCN) -> None:
        graphs = export_device_graphs(scn) | export_cloud_graphs(gcn)
        self._graphs = {name: open_session(graph) for name, graph in graphs.items()}
        self._settings = scn.settings
        self._table = scn.item_embedding.detach().numpy()
        block = scn.block
        self._state = torch.cat((block.inner_weight, block.inner_bias), 1).detach().numpy()

    def run(self, arrays: Arrays, case: str) -> Arrays:
        """The arrays of one case, user by user."""
        clicks = arrays[f"{case}/clicks"].astype(np.int64)
        candidates = arrays[f"{case}/candidates"].astype(np.int64)
        corrected = f"{case}/gcn_attn" in arrays
        users = [self._user(c, n, corrected) for c, n in zip(clicks, candidates, strict=True)]
        return {name: np.stack([user[name] for user in users]) for name in users[0]}

    def _user(
        self, clicks: NDArray[np.int64], candidates: NDArray[np.int64], corrected: bool
    ) -> Arrays:
        s = self._settings
        k = s.segment
        padded = np.pad(clicks, (0, -len(clicks) % k)).reshape(-1, k)
        state, outputs, hiddens = self._state, [], []
        scores = np.empty(0, np.float32)
        last = int((clicks > 0).sum()) - 1
        result: Arrays = {}
        for index, segment in enumerate(padded):
            (hidden,) = self._call("hidden", item_table=self._table, clicks=segment)
            (found,) = self._call("views", hidden=hidden)
            kept, queries = map(np.ascontiguousarray, split_projections(found, s.heads))
            views = dict(zip(SEGMENT_PROJECTIONS, kept, strict=True))
            attn, bias = self._correction(hidden, result if corrected else None)
            for place in range(k):
                prepared = self._call(
                    "prepare",
                    hidden=hidden,
                    **views,
                    query=np.ascontiguousarray(queries[:, :, place : place + 1]),
                    position=np.array([place]),
                    state=state,
                )
                names = [output.name for output in self._graphs["prepare"].get_outputs()]
                ranked, output = self._call(
                    "rank",
                    item_table=self._table,
                    correction=np.concatenate((attn[:, place], bias[:, place]), 1)[:, None],
                    gate=np.array(corrected, np.float32),
                    candidates=candidates,
                    **dict(zip(names, prepared, strict=True)),
                )
                outputs.append(output)
                if index * k + place == last:
                    scores = ranked[0]
            hiddens.append(hidden)
            (state,) = self._call("carry", **views, state=state)
        result["hidden"] = np.concatenate(hiddens)[: len(clicks)]
        result["block_output"] = np.concatenate(outputs)[: len(clicks)]
        result["scores"] = scores
        return result

    def _correction(
        self, hidden: NDArray[np.float32], result: Arrays | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        s = self._settings
        if result is None:
            return (
                np.zeros((s.heads, s.segment, s.segment), np.float32),
                np.zeros((s.heads, s.segment, s.head_dim), np.float32),
            )
        attn, bias = self._call("gcn", hidden=hidden[None])
        result["gcn_attn"], result["gcn_bias"] = attn[0], bias[0]
        return attn[0], bias[0]

    def _call(self, graph: str, **inputs: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        session: ort.InferenceSession = self._graphs[graph]
        found: list[NDArray[np.float32]] = session.run(None, inputs)
        return found


def _compare(engine: str, case: str, arrays: Arrays, found: Arrays) -> Iterator[Difference]:
    for name in ARRAYS:
        want = arrays.get(f"{case}/{name}")
        if want is None:
            continue
        got = found.get(name)
        if got is None or got.shape != want.shape:
            raise DataError(f"{case}/{name} is {want.shape}, this model computes another shape")
        yield Difference(engine, case, name, float(np.abs(np.subtract(got, want)).max()))
