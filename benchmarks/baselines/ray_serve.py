"""Ray Serve: one replica, batches of up to 32 without waiting.

GCN_GRAPH=gcn.onnx python ray_serve.py PORT
"""

import signal
import sys

import ray
from onnx_gcn import GCN
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class Corrections:
    """The full correction of H."""

    def __init__(self) -> None:
        self._gcn = GCN()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0)
    async def _correct(self, bodies: list[bytes]) -> list[bytes]:
        return self._gcn.correct(bodies)

    async def __call__(self, request: Request) -> Response:
        return Response(await self._correct(await request.body()))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Corrections.bind(), route_prefix="/correction")
    signal.pause()
