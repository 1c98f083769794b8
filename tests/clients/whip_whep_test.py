"""Clients that we did not write publish by WHIP and play by WHEP; what counts is what the player decoded."""

import shutil
import subprocess
import unittest

import imageio_ffmpeg

from media import FPS, tone_hz
from stage import Client, Server, client

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


class WhipWhep(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server(self.id().rsplit(".", 1)[-1])
        self.addCleanup(self.server.stop)

    def start(self, *args) -> Client:
        started = client(*args)
        self.addCleanup(started.kill)
        return started

    def publish(self, script: str, who: int, *more: str) -> Client:
        publisher = self.start(script, "publish", f"{self.server.url}/v1/whip/hall/{script}", who, *more)
        publisher.wait(lambda report: report["state"] == "connected")
        return publisher

    def play(self, script: str, of: str) -> Client:
        return self.start(script, "play", f"{self.server.url}/v1/whep/hall/{of}", 0)

    def assert_plays(self, player: Client, who: int) -> None:
        """Sees and hears `who` for two seconds and more, without a break."""
        begun = player.wait(lambda report: report.get("fresh", 0) >= 1)
        report = player.wait(lambda report: report["fresh"] >= 3 * FPS and report["heard_ms"] >= 2000)
        self.assertEqual((report["who"], report["tone"]), (who, who))
        self.assertGreater(report["coded"], 0.9 * report["frames"])
        self.assertEqual((report["width"], report["height"]), (640, 360))
        lost = report["last_frame"] - begun["last_frame"] + 1 - (report["fresh"] - begun["fresh"] + 1)
        self.assertLessEqual(lost, 0.1 * report["fresh"], f"pictures lost: {lost} of {report['fresh']}")

    def test_aiortc_to_aiortc(self) -> None:
        publisher = self.publish("with_aiortc", 3)
        player = self.play("with_aiortc", "with_aiortc")
        self.assert_plays(player, 3)
        # It knows no transport-wide feedback: it tells what its path carries by REMB, measured by the send times that we write.
        self.assertGreater(self.server.metric("exedra_feedbacks_in_total"), 0)
        self.assertIn(player.end()["deleted"], (200, 204))
        self.assertIn(publisher.end()["deleted"], (200, 204))

    def test_aiortc_publishes_h264(self) -> None:
        self.publish("with_aiortc", 4, "H264")
        self.assert_plays(self.play("with_aiortc", "with_aiortc"), 4)

    def test_gstreamer_to_gstreamer(self) -> None:
        publisher = self.publish("with_gstreamer", 5)
        player = self.play("with_gstreamer", "with_gstreamer")
        self.assert_plays(player, 5)
        self.assertIn(player.end()["deleted"], (200, 204))
        self.assertIn(publisher.end()["deleted"], (200, 204))

    def test_gstreamer_to_aiortc(self) -> None:
        self.publish("with_gstreamer", 6)
        self.assert_plays(self.play("with_aiortc", "with_gstreamer"), 6)

    def test_aiortc_to_gstreamer(self) -> None:
        self.publish("with_aiortc", 7)
        self.assert_plays(self.play("with_gstreamer", "with_aiortc"), 7)

    def test_ffmpeg_publishes(self) -> None:
        self.assertIsNotNone(shutil.which(FFMPEG))
        command = [FFMPEG, "-hide_banner", "-loglevel", "warning", "-re"]
        command += ["-f", "lavfi", "-i", "testsrc=size=640x360:rate=20"]
        command += ["-f", "lavfi", "-i", f"sine=frequency={tone_hz(2)}:sample_rate=48000,volume=4"]
        command += ["-c:v", "libx264", "-profile:v", "baseline", "-preset", "ultrafast", "-tune", "zerolatency"]
        command += ["-pix_fmt", "yuv420p", "-bf", "0", "-g", "20", "-b:v", "800k", "-c:a", "libopus", "-ac", "2", "-t", "60"]
        command += ["-f", "whip", f"{self.server.url}/v1/whip/hall/ffmpeg"]
        log = open(f"{self.server._log.name}.ffmpeg", "w")
        ffmpeg = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(log.close)
        self.addCleanup(ffmpeg.wait)
        self.addCleanup(ffmpeg.kill)
        player = self.play_when_there("ffmpeg")
        # Its test picture carries no code: pictures must come, and the tone must be right.
        report = player.wait(lambda report: report.get("frames", 0) >= 3 * FPS and report["heard_ms"] >= 2000, 30)
        self.assertEqual(report["tone"], 2)
        self.assertEqual((report["width"], report["height"]), (640, 360))

    def play_when_there(self, of: str) -> Client:
        """Plays somebody who may not have arrived yet: FFmpeg does not say when it has."""
        for _ in range(40):
            player = self.play("with_aiortc", of)
            try:
                player.wait(lambda report: "state" in report, 10)
                return player
            except AssertionError as error:
                if "HTTP Error 404" not in str(error):
                    raise
        raise AssertionError(f"{of} never came")


if __name__ == "__main__":
    unittest.main()
