"""A device written from shared/GRAPHS.md alone, with ONNX Runtime and NumPy: slow and short."""

import base64
import json

import numpy as np
import onnxruntime as ort


class BareDevice:
    """A device from shared/GRAPHS.md, with ONNX Runtime and NumPy only."""

    def __init__(self, folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        self.folder, self.learning, self.clicks = folder, manifest.get("learning"), []
        self.settings = s = manifest["model"]
        self.k, self.d, self.h = s["segment"], s["dim"], s["heads"]
        self.f = self.d // self.h
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        paths = folder.glob("*.onnx")
        self.graphs = {path.stem: ort.InferenceSession(path, options) for path in paths}
        self.table = np.load(folder / "items.npy")
        self.first_state = np.load(folder / "inner_state.npy")
        self.state, self.window = self.first_state, []
        self.no_click = self.project(np.zeros((1, self.d), np.float32))[:3]
        self.step = s.get("inner_step", self.k)
        self.keeps_windows = self.step < self.k and s["gcn"] == "projected"
        rounds = -(-s["length"] // self.step)
        beginning = np.tile(self.first_state[:, None], (1, self.step, 1, rounds))
        self.states = beginning.reshape(self.h * self.step, self.f + 1, rounds * self.f)
        self.first_states, self.taken = self.states, np.zeros_like(self.states)
        self.empty_segment()

    def run(self, name, **inputs):
        outputs = [output.name for output in self.graphs[name].get_outputs()]
        return dict(zip(outputs, self.graphs[name].run(None, inputs), strict=True))

    def project(self, row):
        projections = self.run("views", hidden=row)["views"]
        return projections.reshape(5, self.h, 1, self.f + 1)

    def empty_segment(self):
        self.count = 0
        self.hidden = np.zeros((self.k, self.d), np.float32)
        self.segment = np.repeat(self.no_click, self.k, axis=2)  # (3, h, K, f + 1)

    def named_segment(self):
        return dict(zip(("keys", "turned_keys", "values"), self.segment, strict=True))

    def click(self, item):
        self.clicks.append((self.read()["user"] if self.learning and self.count else None, item))
        row = self.run("hidden", item_table=self.table, clicks=np.array([item]))["hidden"]
        if self.settings["history"] == "carry":
            self.append_carrying(row)
        elif self.settings["length"] <= self.k:
            self.append_sliding(row)
        else:
            self.append_to_window(row)

    def append_sliding(self, row):
        if self.count == self.settings["length"]:
            self.count -= 1
            self.hidden[: self.count] = self.hidden[1 : self.count + 1].copy()
            self.segment[:, :, : self.count] = self.segment[:, :, 1 : self.count + 1].copy()
        self.append(row)

    def append_carrying(self, row):
        if self.count == self.k:
            self.state = self.run("carry", **self.named_segment(), state=self.state)["next_state"]
            self.empty_segment()
        self.append(row)

    def append_to_window(self, row):
        is_full = len(self.window) == self.settings["length"]
        self.window = [*self.window, row][-self.settings["length"] :]
        if not is_full:
            self.append_carrying(row)
            return
        self.state = self.first_state
        self.empty_segment()
        for earlier in self.window:
            self.append_carrying(earlier)

    def append(self, row):
        self.hidden[self.count] = row
        projections = self.project(row)
        self.segment[:, :, self.count], self.query = projections[:3, :, 0], projections[3:]
        self.count += 1
        if self.keeps_windows:
            self.read_windows(projections)

    def read_windows(self, projections):
        inputs = dict(zip(("keys", "turned_keys", "values"), projections, strict=False))
        inputs |= {"states": self.states} | ({"taken": self.taken} if self.step > 1 else {})
        self.prepared = self.run(
            "prepare",
            hidden=self.hidden,
            query=self.query,
            position=np.array([self.count - 1]),
            **inputs,
        )
        shape = self.h, self.step, self.f + 1, -1, self.f
        next_states = self.prepared.pop("next_states").reshape(shape)
        states, first = self.states.reshape(shape).copy(), self.first_states.reshape(shape)
        if self.step > 1:
            taken = np.zeros_like(states)
            taken[:, 1:] = self.prepared.pop("next_taken").reshape(shape)[:, :-1]
            states[:, 1:] = states[:, :-1].copy()
            self.taken = taken.reshape(self.taken.shape)
        states[:, 0, :, 1:] = next_states[:, -1, :, :-1]
        states[:, 0, :, 0] = first[:, 0, :, 0]
        self.states = states.reshape(self.states.shape)

    def scores(self, candidates, correction, patch=None):
        prepared = dict(self.read())
        if patch is not None:
            share = self.learning["corrected_share"] if correction is not None else 1
            added = self.patched(prepared["user"], patch) - prepared["user"]
            prepared["user"] = (prepared["user"] + share * added).astype(np.float32)
        inputs = self.correction_inputs(correction)
        inputs |= {"item_table": self.table, "candidates": np.array(candidates)}
        return self.run("rank", **prepared, **inputs)["scores"][0]

    def read(self):
        return self.prepared if self.keeps_windows else self.prepare()

    def prepare(self):
        return self.run(
            "prepare",
            hidden=self.hidden,
            **self.named_segment(),
            query=self.query,
            position=np.array([self.count - 1]),
            state=self.state,
        )

    def correction_inputs(self, correction):
        attn = np.zeros((self.h, self.k), np.float32)
        bias = np.zeros((self.h, self.f), np.float32)
        if correction is not None:
            attn, bias = self.last_row(**correction)
        if self.settings["gcn"] == "projected":
            high, low, residuals = attn.reshape(-1)[: attn.size // 3 * 3].reshape(3, -1)
            digits = {"higher": high[:, None], "lower": low[:, None]}
            return digits | {"shift": bias.reshape(1, -1), "residuals": residuals[None]}
        gate = np.array(correction is not None, np.float32)
        return {"correction": np.concatenate((attn, bias), axis=1)[:, None], "gate": gate}

    def last_row(self, form, body):
        numbers = np.frombuffer(base64.b64decode(body), "<f2" if form.endswith("-half") else "<f4")
        rows = 1 if form.startswith("row") else self.k
        attn, bias = np.split(numbers, [self.h * rows * self.k])
        position = 0 if rows == 1 else self.count - 1
        attn = attn.reshape(self.h, rows, self.k)[:, position]
        bias = bias.reshape(self.h, rows, self.f)[:, position]
        return attn.astype(np.float32), bias.astype(np.float32)

    def patched(self, states, patch):
        if self.learning["patch"]["form"] == "shift":
            return states + patch
        basis = np.load(self.folder / "basis.npy")[0]
        matrix = np.einsum("p,prd,pre->de", patch, basis[:, 2:4], basis[:, :2])
        return states + states @ matrix.T + patch @ basis[:, 4]

    def memory(self, candidates):
        numbers, items = self.learning["memory"], [item for _, item in self.clicks]
        offsets = np.zeros(len(candidates))
        for at, item in enumerate(candidates):
            if item in items:
                age = items[::-1].index(item)
                offsets[at] = numbers["base"] + numbers["count"] * np.log1p(items.count(item))
                offsets[at] -= numbers["age"] * np.log1p(age)
        return offsets

    def start(self, end):
        if self.learning["patch"]["start"] == "zero":
            return None
        vectors = self.table[[item for _, item in self.clicks[:end]]]
        weights = [0.5 ** (np.arange(end)[::-1] / life) for life in (10, 50, 300)]
        sums, count = (weights @ vectors).astype(np.float32), np.full((1, 1), end, np.float32)
        return self.run("amortised", sums=sums, count=count, state=self.clicks[end][0])["shift"][0]

    def learn(self, end, negatives):
        """The patch after a round on the clicks before `end`, and the losses of its steps."""
        settings = self.learning["patch"]
        n, m, shift = settings["window"], settings["negatives"], settings["form"] == "shift"
        size = self.d if shift else settings["size"]
        own = [click for click in self.clicks[max(0, end - n) : end] if click[0] is not None]
        positives, states = np.zeros((2, n, self.d), np.float32)
        for at, (state, item) in enumerate(own):
            states[at], positives[at] = state[0], self.table[item]
        clicked = {item for _, item in self.clicks[:end]}
        others = [item not in clicked for item in negatives]
        offsets = np.full(m, -1e9, np.float32)
        offsets[: len(others)] = np.where(others, np.log((len(self.table) - 1) / sum(others)), -1e9)
        vectors = np.zeros((m, self.d), np.float32)
        vectors[: len(others)] = self.table[negatives]
        inputs = {
            "weights": (np.arange(n) < len(own)).astype(np.float32),
            "positives": positives,
            "negatives": vectors,
            "decay": np.array(settings["decay"], np.float32),
        }
        if shift:
            inputs["positive_scores"] = (states * positives).sum(1)
            inputs["negative_scores"] = states @ vectors.T + offsets
        else:
            inputs["states"], inputs["positive_offsets"] = states, np.zeros(n, np.float32)
            inputs["negative_offsets"] = np.tile(offsets, (n, 1))
        names, start = ("patch", "first", "second"), self.start(end)
        state = {name: np.zeros(size, np.float32) for name in (*names, "start")}
        if start is not None:
            state["patch"] = state["start"] = start
        losses = []
        for step in range(1, settings["steps"] + 1):
            root = np.sqrt(1 - 0.999**step)
            rate = np.array(settings["learning_rate"] * root / (1 - 0.9**step), np.float32)
            epsilon = np.array(1e-8 * root, np.float32)
            outputs = self.run("learn", **inputs, **state, rate=rate, epsilon=epsilon)
            state |= {name: outputs[f"next_{name}"] for name in names}
            losses.append(outputs["loss"])
        return state["patch"], losses
