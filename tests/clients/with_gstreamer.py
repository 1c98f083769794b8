"""GStreamer's webrtcbin as a WHIP publisher and a WHEP player: with_gstreamer.py publish|play URL WHO

Says what it does as one JSON object a line on standard output, and ends (DELETE) when standard input is closed.
"""

import json
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC  # noqa: E402

from http_sdp import post_offer  # noqa: E402
from media import FPS, Watcher, picture, tone_hz  # noqa: E402

WIDTH, HEIGHT = 640, 360
Direction = GstWebRTC.WebRTCRTPTransceiverDirection


def publisher(who: int):
    pipeline = Gst.parse_launch(
        "webrtcbin name=pc bundle-policy=max-bundle "
        f"audiotestsrc is-live=true freq={tone_hz(who)} volume=0.2 ! audio/x-raw,rate=48000,channels=1 ! opusenc ! rtpopuspay "
        "! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! pc. "
        f"appsrc name=camera is-live=true do-timestamp=true format=time "
        f"caps=video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={FPS}/1 "
        "! vp8enc deadline=1 target-bitrate=800000 keyframe-max-dist=200 ! rtpvp8pay picture-id-mode=15-bit "
        "! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! pc."
    )
    pc = pipeline.get_by_name("pc")
    needed = threading.Event()
    pc.connect("on-negotiation-needed", lambda _: needed.set())
    ended = threading.Event()

    def draw() -> None:
        camera, n = pipeline.get_by_name("camera"), 0
        while not ended.wait(1 / FPS):
            camera.emit("push-buffer", Gst.Buffer.new_wrapped(picture(who, n, WIDTH, HEIGHT)))
            n += 1

    pipeline.set_state(Gst.State.PLAYING)
    threading.Thread(target=draw, daemon=True).start()
    assert needed.wait(10), "webrtcbin did not want to negotiate"
    for n in (0, 1):
        pc.emit("get-transceiver", n).set_property("direction", Direction.SENDONLY)
    return pipeline, pc


def player(watcher: Watcher):
    pipeline = Gst.Pipeline.new()
    pc = Gst.ElementFactory.make("webrtcbin")
    pc.set_property("bundle-policy", "max-bundle")
    pc.set_property("latency", 100)
    pipeline.add(pc)

    def saw(sink):
        sample = sink.emit("pull-sample")
        caps = sample.get_caps().get_structure(0)
        width, height = caps.get_value("width"), caps.get_value("height")
        found, data = sample.get_buffer().map(Gst.MapFlags.READ)
        if found:
            watcher.saw(data.data, (width + 3) & ~3, width, height)
            sample.get_buffer().unmap(data)
        return Gst.FlowReturn.OK

    def heard(sink):
        buffer = sink.emit("pull-sample").get_buffer()
        watcher.heard(buffer.extract_dup(0, buffer.get_size()))
        return Gst.FlowReturn.OK

    def on_pad(_, pad) -> None:
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        decode, take = {
            "video": ("rtpvp8depay ! vp8dec ! videoconvert ! video/x-raw,format=I420", saw),
            "audio": ("rtpopusdepay ! opusdec ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=48000,channels=1", heard),
        }[kind]
        part = Gst.parse_bin_from_description(f"queue ! {decode} ! appsink name=sink emit-signals=true sync=false", True)
        part.get_by_name("sink").connect("new-sample", take)
        pipeline.add(part)
        part.sync_state_with_parent()
        pad.link(part.get_static_pad("sink"))

    pc.connect("pad-added", on_pad)
    pipeline.set_state(Gst.State.PLAYING)
    for caps in (
        "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2",
        "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000",
    ):
        pc.emit("add-transceiver", Direction.RECVONLY, Gst.Caps.from_string(caps))
    return pipeline, pc


def complete_offer(pc) -> str:
    promise = Gst.Promise.new()
    pc.emit("create-offer", None, promise)
    promise.wait()
    reply = promise.get_reply()  # owns the offer: must outlive it
    gathered = threading.Event()
    pc.connect("notify::ice-gathering-state", lambda *_: pc.props.ice_gathering_state.value_nick == "complete" and gathered.set())
    pc.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())
    assert gathered.wait(10), "no candidates"
    return pc.props.local_description.sdp.as_text()


def main(role: str, url: str, who: str) -> None:
    Gst.init(None)
    watcher = Watcher()
    pipeline, pc = publisher(int(who)) if role == "publish" else player(watcher)
    resource = post_offer(url, complete_offer(pc))
    _, answer = GstSdp.SDPMessage.new_from_text(resource.answer)
    done = Gst.Promise.new()
    description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, answer)
    pc.emit("set-remote-description", description, done)
    done.wait()
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    while True:
        print(json.dumps({"state": pc.props.connection_state.value_nick, **watcher.report()}), flush=True)
        if closed.wait(0.25):
            break
    print(json.dumps({"deleted": resource.delete()}), flush=True)
    pipeline.set_state(Gst.State.NULL)


main(*sys.argv[1:])
