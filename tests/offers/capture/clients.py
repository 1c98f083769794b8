"""Writes the offers of aiortc, GStreamer's webrtcbin and FFmpeg to ../*.sdp.

Run: tests/.venv/bin/python tests/offers/capture/clients.py
"""

import asyncio
import http.server
import re
import subprocess
import threading
from pathlib import Path

import gi
import imageio_ffmpeg
from aiortc import RTCPeerConnection
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC  # noqa: E402, F401 (GstSdp: else offer.sdp cannot be read)

OUT = Path(__file__).parent.parent
SEND = (
    "webrtcbin name=pc bundle-policy=max-bundle "
    "audiotestsrc is-live=true ! opusenc ! rtpopuspay ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! pc. "
    "videotestsrc is-live=true ! vp8enc deadline=1 ! rtpvp8pay ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! pc."
)


def write(name: str, sdp: str) -> None:
    # Only loopback and documentation addresses (RFC 5737, RFC 3849) belong in a file.
    sdp = re.sub(r"\b(?!127\.|0\.0\.0\.0)\d{1,3}(\.\d{1,3}){3}\b(?= \d+ typ)", "192.0.2.7", sdp)
    sdp = re.sub(r"\b(IP4) (?!127\.|0\.0\.0\.0)[\d.]+", r"\1 192.0.2.7", sdp)
    sdp = re.sub(r"\b(fd|fe)[0-9a-f]{2}:[0-9a-f:]+(?= \d+ typ)", "2001:db8::7", sdp)
    sdp = re.sub(r"@host-\w+", "@host", sdp)
    (OUT / f"{name}.sdp").write_bytes(sdp.replace("\r\n", "\n").replace("\n", "\r\n").encode())
    print(f"{name}: {len(sdp)} bytes")


async def aiortc_offers() -> None:
    sender = RTCPeerConnection()
    for track in (AudioStreamTrack(), VideoStreamTrack()):
        sender.addTransceiver(track, direction="sendonly")
    await sender.setLocalDescription(await sender.createOffer())
    write("aiortc-pub", sender.localDescription.sdp)
    await sender.close()

    receiver = RTCPeerConnection()
    for kind in ("audio", "video"):
        receiver.addTransceiver(kind, direction="recvonly")
    await receiver.setLocalDescription(await receiver.createOffer())
    write("aiortc-sub", receiver.localDescription.sdp)
    await receiver.close()


def gstreamer_offer(pipeline, pc) -> str:
    pipeline.set_state(Gst.State.PLAYING)
    pipeline.get_state(5 * Gst.SECOND)
    promise = Gst.Promise.new()
    pc.emit("create-offer", None, promise)
    promise.wait()
    reply = promise.get_reply()  # owns the offer: must outlive it
    offer = reply.get_value("offer")
    gathered = threading.Event()
    pc.connect("notify::ice-gathering-state", lambda *_: pc.props.ice_gathering_state.value_nick == "complete" and gathered.set())
    pc.emit("set-local-description", offer, Gst.Promise.new())
    assert gathered.wait(10)
    text = pc.props.local_description.sdp.as_text()
    pipeline.set_state(Gst.State.NULL)
    return text


def gstreamer_offers() -> None:
    Gst.init(None)
    pipeline = Gst.parse_launch(SEND)
    # The sending pads have caps only after the first buffer has come through.
    negotiated = threading.Event()
    pc = pipeline.get_by_name("pc")
    pc.connect("on-negotiation-needed", lambda *_: negotiated.set())
    pipeline.set_state(Gst.State.PLAYING)
    assert negotiated.wait(10)
    for transceiver in (pc.emit("get-transceiver", 0), pc.emit("get-transceiver", 1)):
        transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
    write("gstreamer-pub", gstreamer_offer(pipeline, pc))

    pipeline = Gst.Pipeline.new()
    pc = Gst.ElementFactory.make("webrtcbin")
    pc.set_property("bundle-policy", "max-bundle")
    pipeline.add(pc)
    pipeline.set_state(Gst.State.PLAYING)
    for caps in (
        "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2",
        "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000",
    ):
        pc.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, Gst.Caps.from_string(caps))
    write("gstreamer-sub", gstreamer_offer(pipeline, pc))


def ffmpeg_offer() -> None:
    offers = []

    class Whip(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers["Content-Length"]))
            offers.append(body.decode())
            self.send_error(503)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Whip)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-re"]
        + ["-f", "lavfi", "-i", "testsrc=size=640x360:rate=20", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
        + ["-c:v", "libx264", "-profile:v", "baseline", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "40"]
        + ["-c:a", "libopus", "-ac", "2", "-t", "5", "-f", "whip", f"http://127.0.0.1:{server.server_port}/whip"],
        timeout=30,
        stderr=subprocess.DEVNULL,  # it is told 503: all that is wanted is what it posted
    )
    server.shutdown()
    write("ffmpeg-pub", offers[0])


asyncio.run(aiortc_offers())
gstreamer_offers()
ffmpeg_offer()
