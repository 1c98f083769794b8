"""Recordings go to an S3-compatible store: moto's, which is another program and other people's reading of the protocol."""

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path
from unittest import mock

import boto3
from botocore.config import Config

from stage import ARTIFACTS, Server, free_port

BUCKET = "meetings"
PREFIX = "from/exedra"
KEY, SECRET = "AKIDEXEDRATEST", "not-so-secret-0123456789abcdef"
MIB = 1 << 20


class Store:
    """A store of its own, on loopback."""

    def __init__(self, name: str) -> None:
        self.port = free_port(socket.SOCK_STREAM)
        self.url = f"http://127.0.0.1:{self.port}"
        self._name = name
        self.process = None

    def start(self) -> None:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with open(ARTIFACTS / f"{self._name}-moto.log", "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/moto-api/", timeout=5)
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("moto's server did not start: see its log in artifacts/clients") from None
                time.sleep(0.1)
        self.client.create_bucket(Bucket=BUCKET)

    @property
    def client(self):
        config = Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=60)
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET, config=config
        )

    def objects(self) -> dict:
        listed = self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {entry["Key"]: entry for entry in listed}

    def sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        for piece in self.client.get_object(Bucket=BUCKET, Key=key)["Body"].iter_chunks(MIB):
            digest.update(piece)
        return digest.hexdigest()

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


def make_recording(root: Path, name: str, sizes: list[int]) -> dict[str, str]:
    """A finished recording of random bytes; gives the SHA-256 of each of its files."""
    folder = root / name
    folder.mkdir(mode=0o700)
    chance, hashes, files = random.Random(name), {}, []
    for number, size in enumerate(sizes, 1):
        data = chance.randbytes(size)
        file = f"p{number}-camera-1.webm"
        (folder / file).write_bytes(data)
        hashes[file] = hashlib.sha256(data).hexdigest()
        files.append({
            "name": file, "participant": f"p{number}", "content": "camera", "part": 1, "startMs": 0, "durationMs": 1000,
            "tracks": [], "gaps": [], "size": size, "sha256": hashes[file],
        })
    manifest = {
        "version": 1, "id": name, "room": "a room", "startedAtMs": 1795428900000, "endedAtMs": 1795428960400, "state": "complete",
        "ended": "stopped", "participants": [], "files": files,
    }
    for file, text in (("events.jsonl", '{"tMs":1,"type":"message","data":{}}\n'), ("session.json", json.dumps(manifest))):
        (folder / file).write_text(text)
        hashes[file] = hashlib.sha256(text.encode()).hexdigest()
    return hashes


class Upload(unittest.TestCase):
    def setUp(self) -> None:
        self.store = Store(self._testMethodName)
        self.addCleanup(self.store.stop)
        root = tempfile.TemporaryDirectory()
        self.addCleanup(root.cleanup)
        self.root = Path(root.name)

    def server(self, name: str, *more: str) -> Server:
        settings = {
            "AWS_ENDPOINT_URL": self.store.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        self.name = f"{self._testMethodName}-{name}"
        more = ("--recordings", str(self.root), "--recordings-upload", f"s3://{BUCKET}/{PREFIX}", "--recordings-min-free", "0", *more)
        with mock.patch.dict(os.environ, settings):
            server = Server(self.name, *more)
        self.addCleanup(server.stop)
        return server

    def until(self, what, within: float = 60) -> None:
        end = time.monotonic() + within
        while not what():
            self.assertLess(time.monotonic(), end, "it takes too long")
            time.sleep(0.05)

    def assert_there(self, recording: str, hashes: dict[str, str]) -> None:
        there = {file: self.store.sha256(f"{PREFIX}/{recording}/{file}") for file in hashes}
        self.assertEqual(there, hashes)

    def test_a_server_that_is_killed_goes_on_where_the_store_had_confirmed_it(self) -> None:
        self.store.start()
        sizes = [3 * MIB, 250 * MIB + 17, 0]
        hashes = make_recording(self.root, "20261123-101500-7f3a", sizes)
        server = self.server("killed")
        self.until(lambda: server.metric("exedra_uploaded_bytes_total") > 40 * MIB)
        server.process.kill()
        server.stop()
        state = json.loads((self.root / "20261123-101500-7f3a/upload.json").read_text())
        confirmed = len(state["open"]["parts"])
        self.assertGreaterEqual(confirmed, 4)
        self.assertLess(confirmed, 32, "it was killed in the midst of it")
        self.assertEqual(list(state["done"]), ["p1-camera-1.webm"])
        first = self.store.objects()[f"{PREFIX}/20261123-101500-7f3a/p1-camera-1.webm"]["LastModified"]
        self.assertNotIn(f"{PREFIX}/20261123-101500-7f3a/session.json", self.store.objects())

        server = self.server("again")
        self.until(lambda: server.metric("exedra_uploaded_recordings_total") == 1, 120)
        again = server.metric("exedra_uploaded_bytes_total")
        self.assertLess(again, sum(sizes) - 3 * MIB - (confirmed - 1) * 8 * MIB, "what was confirmed did not go up again")
        self.assert_there("20261123-101500-7f3a", hashes)
        self.assertEqual(self.store.objects()[f"{PREFIX}/20261123-101500-7f3a/p1-camera-1.webm"]["LastModified"], first)
        pending = self.store.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        self.assertEqual(pending, [])
        self.assertTrue((self.root / "20261123-101500-7f3a/session.json").exists())
        self.assertEqual(server.stop(), 0)

        server = self.server("third")
        time.sleep(2)
        self.assertEqual(server.metric("exedra_uploaded_files_total"), 0, "nothing goes up twice")
        self.assertEqual(server.stop(), 0)
        for log in ARTIFACTS.glob(f"{self._testMethodName}*.log"):
            self.assertNotIn(SECRET, log.read_text())

    def test_a_store_that_is_away_is_waited_for_and_then_the_folder_is_deleted(self) -> None:
        recordings = {f"20261123-10150{n}-7f3a": None for n in range(3)}
        for name in recordings:
            recordings[name] = make_recording(self.root, name, [1000, 20 * MIB])
        server = self.server("waits", "--recordings-upload-delete", "--recordings-keep-bytes", "1")
        self.until(lambda: server.metric("exedra_upload_failures_total") >= 2)
        self.assertEqual(server.metric("exedra_uploads_waiting"), 3)
        self.assertEqual(len(list(self.root.glob("2*"))), 3, "what is not there yet is not taken away here")
        self.store.start()
        self.until(lambda: server.metric("exedra_uploaded_recordings_total") == 3, 120)
        self.until(lambda: not list(self.root.glob("2*")))
        for name, hashes in recordings.items():
            self.assert_there(name, hashes)
        self.assertEqual(server.metric("exedra_uploads_waiting"), 0)
        self.assertEqual(server.stop(), 0)

    def test_what_is_not_as_it_was_sent_goes_up_again(self) -> None:
        self.store.start()
        hashes = make_recording(self.root, "20261123-101500-7f3a", [1000, 9 * MIB])
        server = self.server("first")
        self.until(lambda: server.metric("exedra_uploaded_recordings_total") == 1)
        self.assertEqual(server.stop(), 0)
        # Somebody meddled with it, and it is not confirmed.
        self.store.client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/20261123-101500-7f3a/p1-camera-1.webm", Body=b"x")
        state = self.root / "20261123-101500-7f3a/upload.json"
        known = json.loads(state.read_text())
        del known["confirmedAtMs"]
        state.write_text(json.dumps(known))
        server = self.server("second")
        self.until(lambda: server.metric("exedra_uploaded_recordings_total") == 1)
        self.assert_there("20261123-101500-7f3a", hashes)
        self.assertEqual(server.metric("exedra_uploaded_files_total"), 1)
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
