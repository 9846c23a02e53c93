"""How a model behind Triton is asked: a plain call, or a stream of one request where the model is decoupled.

Which of the two is the model's own choice (`model_transaction_policy`), so nobody who asks needs to know. A stream ends
with its request: giving up (a deadline, a cancelled task) closes it, and the server tells the model.

Seen with Triton 2.51: a stream that is cancelled while its last response arrives may leave a request that the server waits
for when it shall end, so whatever was answered is read to its end. And a client that wants an error as the stream's status
(the header triton_grpc_error) crashes the server: errors come as texts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import tritonclient.grpc.aio as triton
from grpc import RpcError
from tritonclient.utils import InferenceServerException

__all__ = ["Asking"]


class Asking:
    """Asks over one client; each model's configuration is read once."""

    def __init__(self, client: triton.InferenceServerClient) -> None:
        self._client = client
        self._ways: dict[str, tuple[bool, int]] = {}  # model -> whether it is decoupled, and its highest priority

    async def infer(self, model: str, inputs: Sequence[Any], *, seconds: float, canary: bool = False) -> Any:
        """The model's answer (an InferResult), a decoupled one's last; raises InferenceServerException.

        A `canary` goes before what waits in the server, if the model's queue has priorities; a decoupled model is told that it is
        one.
        """
        if model not in self._ways:
            config = (await self._client.get_model_config(model, client_timeout=seconds)).config
            # 1 is the highest priority; 0 means that the model's queue has none.
            highest = 1 if config.dynamic_batching.priority_levels else 0
            self._ways[model] = bool(config.model_transaction_policy.decoupled), highest
        decoupled, highest = self._ways[model]
        if decoupled:
            return await self._stream(model, inputs, seconds, {"canary": True} if canary else {})
        return await self._client.infer(
            model,
            inputs,
            priority=highest if canary else 0,
            timeout=int(seconds * 1_000_000),  # the server's queue, microseconds
            client_timeout=seconds,  # the call, seconds
        )

    async def _stream(self, model: str, inputs: Sequence[Any], seconds: float, parameters: dict[str, bool]) -> Any:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": model, "inputs": inputs, "parameters": parameters}

        last, refused = None, None
        answers = self._client.stream_infer(requests(), stream_timeout=seconds)
        try:
            async for result, error in answers:
                last, refused = result, error
        except RpcError as err:
            raise InferenceServerException(msg=err.details(), status=str(err.code())) from err
        finally:
            answers.cancel()  # nothing, once it has ended
        if refused is not None:
            raise refused
        if last is None:
            raise InferenceServerException(msg=f"{model} ended its stream without an answer")
        return last
