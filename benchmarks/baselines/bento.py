"""BentoML, with its way for raw bytes: an ASGI application mounted on the service.

GCN_GRAPH=gcn.onnx bentoml serve bento:Corrections --port PORT

Its own endpoints batch, but take H as JSON or as a file on disk, which costs more than batching
brings.
"""

import bentoml
from fastapi import FastAPI, Request, Response
from onnx_gcn import GCN

app = FastAPI()
gcn = GCN()


@app.post("/correction")
async def correct(request: Request) -> Response:
    """The full correction of one H."""
    return Response(gcn.correct([await request.body()])[0])


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
@bentoml.asgi_app(app)
class Corrections:
    """The service."""
