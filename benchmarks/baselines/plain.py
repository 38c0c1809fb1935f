"""Plain FastAPI with torch: raw bytes in and out, one correction at a time.

python plain.py WEIGHTS.safetensors PORT
"""

import sys

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from safetensors.torch import load_file

from cloud_service.recommender.models.cocorrrec import CoCorrRec
from shared.model import PAPER

torch.set_num_threads(1)
weights = load_file(sys.argv[1])
model = CoCorrRec(weights["scn.item_embedding"].shape[0] - 1, PAPER)
model.load_state_dict(weights)
gcn = model.gcn.eval()
app = FastAPI()


@app.get("/health")
def health() -> str:
    """For whoever waits for the server."""
    return "ok"


@app.post("/correction")
async def correct(request: Request) -> Response:
    """The full correction of one H."""
    hidden = torch.from_numpy(np.frombuffer(await request.body(), np.float32).copy())
    with torch.inference_mode():
        attn, bias = gcn(hidden.view(1, 10, 64))
    return Response(attn.numpy().tobytes() + bias.numpy().tobytes())


uvicorn.run(
    app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", loop="uvloop",
    http="httptools", access_log=False,
)  # fmt: skip
