"""The model behind LitServe: `python -m benchmarks.peers.litserve_app PORT WORKERS`."""

import sys
from typing import Any

import litserve
from fastapi import Request

from benchmarks.peers.packaged import Packaged


class Api(litserve.LitAPI):  # type: ignore[misc]  # LitServe is in its own environment, without types here
    """One model per worker; a request is a question."""

    def setup(self, device: str) -> None:
        self._model = Packaged()

    def decode_request(self, request: Request) -> str:
        body: Any = request  # LitServe reads the annotation, which must not be a text, and passes the parsed JSON
        return str(body["question"])

    def predict(self, x: str) -> dict[str, Any]:
        return self._model.records([x])[0]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:])
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=port, num_api_servers=workers, log_level="warning", generate_client_file=False)
