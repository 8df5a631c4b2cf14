"""How late a process is that does nothing but read: the floor under every latency, and the machine's own noise.

The same frames from the same sender; each carries the CLOCK_MONOTONIC time at which it was sent as the trade's id.
`python -m tests.benchmarks.floor PORT COUNT` reads so many and prints {n, p50, p99, max} in microseconds.
"""

import json
import re
import subprocess
import sys
import time
from typing import Any

from websocket import create_connection

from tests.benchmarks.frames import PATH
from tests.benchmarks.sample import Sample
from tests.benchmarks.sending import CHECKOUT, Sender

_ID = re.compile(rb'"a":(\d+),')
_BEHIND_ID = b'"p":'
LATE_S = 30.0


def floor(rate: float, seconds: float) -> dict[str, int]:
    """Frames at `rate` a second for so long: how long after its sending each was read."""
    count = int(rate * seconds)
    with Sender(count, 1, rate) as sender:
        words = [sys.executable, "-m", "tests.benchmarks.floor", str(sender.port), str(count)]
        with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as reader:
            try:
                sender.start()
                sender.sent()
                events, _ = reader.communicate(timeout=LATE_S)
            finally:
                reader.kill()
    result: dict[str, int] = json.loads(events)
    return result


def read(port: int, count: int) -> dict[str, Any]:
    sample, rest = Sample(), b""
    sock = create_connection(f"ws://127.0.0.1:{port}{PATH}").sock
    assert sock is not None
    while sample.count < count:
        data = rest + sock.recv(65536)
        now = time.monotonic_ns()
        cut = data.rfind(_BEHIND_ID)
        if cut < 0:
            rest = data
            continue
        for sent_ns in _ID.findall(data, 0, cut):
            sample.add((now - int(sent_ns)) // 1000)
        rest = data[cut + len(_BEHIND_ID) :]
    return sample.figures()


if __name__ == "__main__":
    print(json.dumps(read(int(sys.argv[1]), int(sys.argv[2]))))
