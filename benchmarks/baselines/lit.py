"""LitServe: batches of up to 32 without waiting; H in base64, since its bodies are JSON.

GCN_GRAPH=gcn.onnx python lit.py PORT
"""

import base64
import sys

import litserve
from fastapi import Response
from onnx_gcn import GCN


class Corrections(litserve.LitAPI):
    """The full correction of H."""

    def setup(self, device: str) -> None:
        self._gcn = GCN()

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["hidden"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return list(inputs)

    def predict(self, bodies: list[bytes]) -> list[bytes]:
        return self._gcn.correct(bodies)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output)


if __name__ == "__main__":
    api = Corrections(max_batch_size=32, batch_timeout=0.0, api_path="/correction")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        port=int(sys.argv[1]), host="127.0.0.1", num_api_servers=1, log_level="error",
        generate_client_file=False, access_log=False,
    )  # fmt: skip
