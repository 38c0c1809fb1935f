"""The usual stack: FastAPI, a JSON body checked by pydantic, the GCN in torch, uvicorn.

python -m benchmarks.one_device.usual_server WEIGHTS.safetensors PORT
"""

import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from safetensors.torch import load_file

from cloud_service.recommender.models.cocorrrec import CoCorrRec
from shared.model import PAPER


class HiddenState(BaseModel):
    hidden: list[list[float]]


class CorrectionOut(BaseModel):
    attn: list[list[list[float]]]
    bias: list[list[list[float]]]


def main() -> None:
    """Serves."""
    torch.set_num_threads(1)
    weights = load_file(sys.argv[1])
    items = weights["scn.item_embedding"].shape[0] - 1
    model = CoCorrRec(items, PAPER)
    model.load_state_dict(weights)
    gcn = model.gcn.eval()
    app = FastAPI()

    @app.post("/correction")
    async def correct(body: HiddenState) -> CorrectionOut:
        with torch.no_grad():
            attn, bias = gcn(torch.tensor(body.hidden)[None])
        return CorrectionOut(attn=attn[0].tolist(), bias=bias[0].tolist())

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")


if __name__ == "__main__":
    main()
