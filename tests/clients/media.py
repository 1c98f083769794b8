"""The test picture and tone, as in ../browser/pages/code.js: what a client sends can be told apart at the other end."""

import math
from array import array

COLUMNS, ROWS = 10, 4
RATE = 48_000
WRAP_MS = 64_000
IDS = 16
FPS = 20


def tone_hz(who: int) -> int:
    return 400 + 100 * who


def encode(who: int, frame: int, ms: int) -> list[int]:
    """The 40 cells, 1 for white."""
    nibbles = [who & 15, *_split(frame & 0xFFFF), *_split(ms % WRAP_MS)]
    return [(n >> bit) & 1 for n in [*nibbles, _check(nibbles)] for bit in (3, 2, 1, 0)]


def decode(bits: list[int]) -> tuple[int, int, int] | None:
    """The inverse of `encode`; None when the check digit is wrong."""
    nibbles = [bits[n] * 8 + bits[n + 1] * 4 + bits[n + 2] * 2 + bits[n + 3] for n in range(0, len(bits), 4)]
    if nibbles.pop() != _check(nibbles):
        return None
    return nibbles[0], _join(nibbles[1:5]), _join(nibbles[5:9])


def _split(n: int) -> list[int]:
    return [(n >> shift) & 15 for shift in (12, 8, 4, 0)]


def _join(nibbles: list[int]) -> int:
    return sum(n << shift for n, shift in zip(nibbles, (12, 8, 4, 0)))


def _check(nibbles: list[int]) -> int:
    total = 10
    for n in nibbles:
        total ^= n
    return total


def picture(who: int, frame: int, width: int, height: int) -> bytes:
    """An I420 picture: the code over a moving bar, in a colour of `who`."""
    cell = width // 20
    bar = (frame * 4) % width
    plain = bytearray(b"\x60" * width)
    for x in range(bar, min(bar + width // 8, width)):
        plain[x] = 0xB0
    luma = bytearray(plain * height)
    for n, bit in enumerate(encode(who, frame, frame * 1000 // FPS)):
        left, top = (n % COLUMNS) * cell, (n // COLUMNS) * cell
        row = (b"\xeb" if bit else b"\x10") * cell
        for y in range(top, top + cell):
            luma[y * width + left : y * width + left + cell] = row
    chroma = (width // 2) * (height // 2)
    return bytes(luma) + bytes([64 + 8 * who]) * chroma + bytes([192 - 8 * who]) * chroma


def read_picture(luma, stride: int, width: int) -> tuple[int, int, int] | None:
    """Reads the code from a luma plane."""
    cell = width / 20
    bits = []
    for n in range(COLUMNS * ROWS):
        x, y = int((n % COLUMNS + 0.5) * cell), int((n // COLUMNS + 0.5) * cell)
        bits.append(1 if luma[y * stride + x] > 127 else 0)
    return decode(bits)


def sound(who: int, start: int, samples: int) -> bytes:
    """16-bit mono samples of the tone, from the sample number `start` on."""
    step = 2 * math.pi * tone_hz(who) / RATE
    return array("h", (int(6000 * math.sin(step * n)) for n in range(start, start + samples))).tobytes()


def amplitude(samples, hz: float, rate: int) -> float:
    """The amplitude (0 to 1) of the part of 16-bit `samples` at `hz` (Goertzel's algorithm)."""
    factor = 2 * math.cos(2 * math.pi * hz / rate)
    before = last = 0.0
    for sample in samples:
        before, last = last, sample + factor * last - before
    power = before * before + last * last - factor * before * last
    return 2 * math.sqrt(max(0.0, power)) / len(samples) / 32768


class Watcher:
    """Adds up what a player has decoded."""

    def __init__(self) -> None:
        self.frames = self.coded = self.fresh = self.who = self.last_frame = self.width = self.height = 0
        self.tone = -1
        self.heard_ms = 0
        self._pcm = array("h")

    def saw(self, luma, stride: int, width: int, height: int) -> None:
        self.frames += 1
        self.width, self.height = width, height
        code = read_picture(luma, stride, width)
        if code is None:
            return
        self.coded += 1
        who, frame, _ = code
        if (who, frame) != (self.who, self.last_frame):
            self.fresh += 1
        self.who, self.last_frame = who, frame

    def heard(self, pcm: bytes) -> None:
        """48 kHz, 16 bit, mono."""
        self._pcm.frombytes(pcm)
        window = RATE // 50
        while len(self._pcm) >= window:
            # Every sixth sample will do: the tones end at 1,900 Hz.
            samples = self._pcm[:window:6]
            del self._pcm[:window]
            levels = [amplitude(samples, tone_hz(who), RATE // 6) for who in range(IDS)]
            loudest = max(levels)
            self.tone = levels.index(loudest) if loudest > 0.05 else -1
            self.heard_ms += 20 if self.tone >= 0 else 0

    def report(self) -> dict:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}
