"""Clients that we did not write publish by WHIP and are recorded; what counts is what FFmpeg decodes of the files."""

import json
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.request
from array import array
from pathlib import Path

from media import FPS, RATE, Watcher, decode
from stage import Client, Server, client

ADMIN = "an operator of the tests"
ROOM = "hall"
WIDTH, HEIGHT = 160, 90


class Record(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="exedra-recordings-"))
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.server = Server(self.id().rsplit(".", 1)[-1], "--recordings", str(self.root), "--admin-token", ADMIN)
        self.addCleanup(self.server.stop)

    def ask(self, method: str) -> dict:
        url = f"{self.server.url}/v1/admin/rooms/{ROOM}/recording"
        request = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {ADMIN}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or "{}")

    def closed(self, recording: str) -> dict:
        until = time.monotonic() + 10
        while True:
            manifest = json.loads((self.root / recording / "session.json").read_text())
            if manifest["state"] == "complete":
                return manifest
            self.assertLess(time.monotonic(), until, manifest)
            time.sleep(0.05)

    def recorded(self, script: str, who: int, codec: str, *more: str) -> None:
        publisher: Client = client(script, "publish", f"{self.server.url}/v1/whip/{ROOM}/{script}", who, *more)
        self.addCleanup(publisher.kill)
        publisher.wait(lambda report: report["state"] == "connected")
        recording = self.ask("POST")["recording"]
        time.sleep(6)
        self.ask("DELETE")
        manifest = self.closed(recording)
        self.assertIn(publisher.end()["deleted"], (200, 204))
        self.assertEqual(manifest["ended"], "stopped")
        (file,) = manifest["files"]
        path = self.root / recording / file["name"]
        self.assert_film(path, file, who, codec)

    def assert_film(self, path: Path, file: dict, who: int, codec: str) -> None:
        probed, complaints = run("ffprobe", "-v", "warning", "-show_streams", "-show_format", "-of", "json", str(path))
        self.assertEqual(complaints, "")
        told = json.loads(probed)
        self.assertEqual({s["codec_type"]: s["codec_name"] for s in told["streams"]}, {"video": codec, "audio": "opus"})
        self.assertAlmostEqual(float(told["format"]["duration"]) * 1000, file["durationMs"], delta=60)

        scale = ["-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-vf", f"scale={WIDTH}:{HEIGHT}:flags=area,format=gray"]
        decode_all = ["-fps_mode", "passthrough", "-enc_time_base:v", "1:1000", "-f", "null", "-"]
        _, complaints = run("ffmpeg", "-nostdin", "-v", "warning", "-i", str(path), *decode_all)
        self.assertEqual(complaints, "")
        raw, complaints = run("ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v", *scale, "-f", "rawvideo", "-")
        self.assertEqual(complaints, "")
        codes = [code_of(raw[n : n + WIDTH * HEIGHT]) for n in range(0, len(raw), WIDTH * HEIGHT)]
        self.assertNotIn(None, codes)
        self.assertEqual({code[0] for code in codes}, {who})
        frames = [code[1] for code in codes]
        self.assertEqual(frames, sorted(set(frames)), "pictures in order, each once")
        self.assertGreaterEqual(len(frames), 4 * FPS)
        self.assertLessEqual(frames[-1] - frames[0] + 1 - len(frames), 0.1 * len(frames), "pictures are missing")

        pcm, complaints = run("ffmpeg", "-nostdin", "-v", "warning", "-i", str(path), "-map", "0:a", "-ac", "1", "-ar", str(RATE), "-f", "s16le", "-")
        self.assertEqual(complaints, "")
        heard = Watcher()
        heard.heard(pcm)
        self.assertEqual(heard.tone, who)
        self.assertGreaterEqual(heard.heard_ms, 0.95 * len(array("h", pcm)) / RATE * 1000 - 500)

    def test_gstreamer_is_recorded(self) -> None:
        self.recorded("with_gstreamer", 5, "vp8")

    def test_aiortc_is_recorded(self) -> None:
        self.recorded("with_aiortc", 3, "vp8")

    def test_aiortc_is_recorded_in_h264(self) -> None:
        self.recorded("with_aiortc", 4, "h264", "H264")


def run(*command: str) -> tuple[bytes, str]:
    """What a program prints, and what it complains of."""
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout, done.stderr.decode().strip()


def code_of(luma: bytes) -> tuple[int, int, int] | None:
    """Reads the code of a small grey picture."""
    cell = WIDTH // 20
    bits = [1 if luma[int((n // 10 + 0.5) * cell) * WIDTH + int((n % 10 + 0.5) * cell)] > 127 else 0 for n in range(40)]
    return decode(bits)


if __name__ == "__main__":
    unittest.main()
