"""A call that is being sent while it is spoken."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from stream.audio import decode
from stream.calls import AudioEvent, CallEnded, CallPaused, CallResumed
from stream.framing import ChunkCounter, frame_bytes, silence
from stream.limits import MAX_CHUNK_MS, MIN_CHUNK_MS

__all__ = ["LiveCall"]


class LiveCall:
    """One call of a CallProducer; made by `CallProducer.call`, used by one thread.

    As a context manager it ends the call, with the reason "producer_error" if the block raised.
    """

    def __init__(self, send: Callable[[AudioEvent], None], counter: ChunkCounter, *, chunk_ms: int) -> None:
        if not MIN_CHUNK_MS <= chunk_ms <= MAX_CHUNK_MS:
            raise ValueError(f"chunk_ms is within {MIN_CHUNK_MS} and {MAX_CHUNK_MS}, not {chunk_ms}")
        self._send = send
        self._counter = counter
        self._frame = frame_bytes(counter.codec, counter.channels)
        self._chunk = (self._frame or 0) * (counter.rate * chunk_ms // 1000)
        self._buffer = bytearray()
        self._over = False

    @property
    def call_id(self) -> str:
        return self._counter.call_id

    @property
    def position_ms(self) -> int:
        """How far into the call the chunks sent so far reach."""
        return self._counter.position_ms

    def write(self, audio: bytes) -> None:
        """More audio of the call, in its codec.

        pcmu, pcma, l16: any number of whole frames (such as 20 ms), which are sent together as chunks of chunk_ms.
        wav, flac: one complete file of 20 ms to 5 s, which is one chunk. Raises ValueError for anything else,
        and DeliveryError for this or an earlier record; raw audio is then kept and goes with the next write.
        """
        self._check_open()
        if self._frame is None:
            self._write_file(audio)
            return
        if len(audio) % self._frame:
            raise ValueError(f"{len(audio)} bytes are no whole number of frames of {self._frame} bytes")
        self._buffer += audio
        while len(self._buffer) >= self._chunk:
            value = bytes(self._buffer[: self._chunk])
            self._hand_over(value, self._chunk // self._frame)
            del self._buffer[: self._chunk]

    def pause(self) -> None:
        """The recording pauses: what was written is sent, and the call may be silent for long."""
        self._check_open()
        self._flush()
        self._send(CallPaused(offset_ms=self.position_ms, **self._counter.identity()))

    def resume(self, offset_ms: int | None = None) -> None:
        """The recording goes on at `offset_ms` of the call; by default where it paused, as if no time had passed."""
        self._check_open()
        self._flush()
        if offset_ms is not None:
            self._counter.move_to(offset_ms)
        self._send(CallResumed(offset_ms=self.position_ms, **self._counter.identity()))

    def end(self, reason: str = "completed") -> None:
        """The call is over: what was written is sent, then the end with the last chunk's seq. Again does nothing."""
        if self._over:
            return
        self._flush()
        last = self._counter.next_seq - 1
        self._send(CallEnded(last_seq=last, reason=reason, offset_ms=self.position_ms, **self._counter.identity()))
        self._over = True  # only now: it is not sent where this or an earlier record was refused

    def __enter__(self) -> LiveCall:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end("completed" if kind is None else "producer_error")

    def _write_file(self, audio: bytes) -> None:
        counter = self._counter
        samples = decode(audio, codec=counter.codec, rate=counter.rate, channels=counter.channels)
        if len(samples) < counter.least_frames:
            raise ValueError(f"a chunk lasts at least {MIN_CHUNK_MS} ms")
        self._hand_over(audio, len(samples))

    def _flush(self) -> None:
        """Send what is held as one chunk; less than 20 ms is filled with silence."""
        if not self._buffer or self._frame is None:
            return
        counter = self._counter
        frames = len(self._buffer) // self._frame
        missing = max(0, counter.least_frames - frames)
        value = bytes(self._buffer) + silence(counter.codec, counter.channels, missing)
        self._hand_over(value, frames + missing)
        self._buffer.clear()

    def _hand_over(self, value: bytes, frames: int) -> None:
        """A chunk that could not be sent keeps its seq, and its audio stays in the buffer."""
        self._send(self._counter.chunk(value, frames))
        self._counter.sent(frames)

    def _check_open(self) -> None:
        if self._over:
            raise ValueError(f"the call {self.call_id} is over")
