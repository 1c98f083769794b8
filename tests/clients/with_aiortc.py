"""aiortc as a WHIP publisher and a WHEP player: with_aiortc.py publish|play URL WHO [CODEC]

Says what it does as one JSON object a line on standard output, and ends (DELETE) when standard input is closed.
"""

import asyncio
import fractions
import json
import sys

from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, AudioResampler, VideoFrame

from http_sdp import post_offer
from media import FPS, RATE, Watcher, picture, sound

WIDTH, HEIGHT = 640, 360


class Paced(MediaStreamTrack):
    """A track whose n-th frame comes n periods after its first."""

    def __init__(self, who: int, period: float) -> None:
        super().__init__()
        self._who, self._period, self._n, self._start = who, period, -1, None

    async def _next(self) -> int:
        loop = asyncio.get_running_loop()
        self._start = self._start or loop.time()
        self._n += 1
        await asyncio.sleep(max(0, self._start + self._n * self._period - loop.time()))
        return self._n


class Camera(Paced):
    kind = "video"

    async def recv(self) -> VideoFrame:
        n = await self._next()
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        data, at = picture(self._who, n, WIDTH, HEIGHT), 0
        for plane in frame.planes:
            rows = plane.height
            width = plane.width
            lines = [data[at + y * width : at + (y + 1) * width].ljust(plane.line_size, b"\0") for y in range(rows)]
            plane.update(b"".join(lines))
            at += rows * width
        frame.pts, frame.time_base = n * 90_000 // FPS, fractions.Fraction(1, 90_000)
        return frame


class Microphone(Paced):
    kind = "audio"

    async def recv(self) -> AudioFrame:
        n = await self._next()
        samples = RATE // 50
        frame = AudioFrame(format="s16", layout="mono", samples=samples)
        frame.planes[0].update(sound(self._who, n * samples, samples))
        frame.pts, frame.sample_rate, frame.time_base = n * samples, RATE, fractions.Fraction(1, RATE)
        return frame


async def publish(pc: RTCPeerConnection, who: int, codec: str) -> None:
    pc.addTransceiver(Microphone(who, 0.02), direction="sendonly")
    video = pc.addTransceiver(Camera(who, 1 / FPS), direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([c for c in codecs if c.mimeType in (f"video/{codec}", "video/rtx")])


async def play(pc: RTCPeerConnection, watcher: Watcher) -> None:
    async def watch(track) -> None:
        resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
        try:
            while True:
                frame = await track.recv()
                if track.kind == "video":
                    luma = frame.reformat(format="yuv420p").planes[0]
                    watcher.saw(memoryview(luma), luma.line_size, frame.width, frame.height)
                else:
                    for part in resampler.resample(frame):
                        watcher.heard(bytes(part.planes[0])[: part.samples * 2])
        except MediaStreamError:
            pass

    tasks = []
    pc.add_listener("track", lambda track: tasks.append(asyncio.ensure_future(watch(track))))
    for kind in ("audio", "video"):
        pc.addTransceiver(kind, direction="recvonly")


async def main(role: str, url: str, who: str, codec: str = "VP8") -> None:
    pc, watcher = RTCPeerConnection(), Watcher()
    await (publish(pc, int(who), codec) if role == "publish" else play(pc, watcher))
    await pc.setLocalDescription(await pc.createOffer())
    resource = await asyncio.to_thread(post_offer, url, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(resource.answer, "answer"))
    closed = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    while not closed.done():
        print(json.dumps({"state": pc.connectionState, **watcher.report()}), flush=True)
        await asyncio.wait([closed], timeout=0.25)
    status = await asyncio.to_thread(resource.delete)
    print(json.dumps({"deleted": status}), flush=True)
    await pc.close()


asyncio.run(main(*sys.argv[1:]))
