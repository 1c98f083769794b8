"""A server of its own for each test, and clients as processes whose reports can be waited for."""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parent.parent
BINARY = os.environ.get("EXEDRA_BINARY", str(TOP / "target/release/exedra"))
ARTIFACTS = TOP / "artifacts/clients"


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, name: str, *more: str) -> None:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        http, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
        self.url = f"http://127.0.0.1:{http}"
        self._log = open(ARTIFACTS / f"{name}.log", "w")
        # All addresses of this machine, as by default: webrtcbin does not take a loopback address from another one.
        command = [BINARY, "--drain", "1s", "--http", f"127.0.0.1:{http}", "--udp", f"0.0.0.0:{udp}", "--udp", f"[::]:{udp}", *more]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        until = time.monotonic() + 10
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=5)
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the server did not start: see {self._log.name}") from None
                time.sleep(0.02)

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(15)
        self._log.close()
        return code


class Client:
    """A process that reports as one JSON object a line."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE)
        self.last: dict = {}
        self._errors: list[str] = []
        self._reports: queue.Queue = queue.Queue()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._complain)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):
                self._reports.put(json.loads(line))
        self._reports.put(None)

    def _complain(self) -> None:
        self._errors.extend(self.process.stderr)

    def wait(self, wanted, within: float = 20) -> dict:
        """The first report for which `wanted` is true."""
        until = time.monotonic() + within
        while True:
            try:
                report = self._reports.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self}: not within {within} s; last: {self.last}\n{''.join(self._errors)[-3000:]}") from None
            if report is None:
                self.process.wait()
                raise AssertionError(f"{self} ended with {self.process.returncode}; last: {self.last}\n{''.join(self._errors)[-3000:]}")
            self.last = report
            if wanted(report):
                return report

    def end(self) -> dict:
        """Lets it say goodbye (DELETE), and gives its last report."""
        self.process.stdin.close()
        return self.wait(lambda report: "deleted" in report, 10)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(2)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except OSError:
                pass

    def __str__(self) -> str:
        return " ".join(Path(part).name if part.startswith("/") else part for part in self.command)


def client(script: str, role: str, url: str, who: int = 0, *more: str) -> Client:
    return Client([sys.executable, str(HERE / f"{script}.py"), role, url, str(who), *more])
