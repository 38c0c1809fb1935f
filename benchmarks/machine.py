"""What a benchmark leaves: results and ratios, with the machine and versions they are of."""

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

RESULTS = Path(__file__).parent / "results"


def keep(name: str, results: Any, ratios: Any) -> Path:
    """Writes benchmarks/results/NAME.json. A ratio is `{"value": ...}`, with a "goal" if any."""
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }
    path = RESULTS / f"{name}.json"
    document = {"name": name, "machine": machine, "results": results, "ratios": ratios}
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return path
