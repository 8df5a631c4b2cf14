"""The latency of a process that only reads: the lower bound of every latency, and the machine's own noise.

It reads the same frames from the same sender; the id of each trade is the CLOCK_MONOTONIC time when it was sent.
`python -m tests.benchmarks.floor PORT COUNT` reads COUNT frames and prints {n, p50, p99, max} in microseconds.
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
_AFTER_ID = b'"p":'
LATE_S = 30.0


def floor(rate: float, seconds: float) -> dict[str, int]:
    """Send frames at `rate` a second; returns {n, p50, p99, max} of the microseconds from sending to reading one."""
    count = int(rate * seconds)
    with Sender(count, 1, rate) as sender:
        words = [sys.executable, "-m", "tests.benchmarks.floor", str(sender.port), str(count)]
        with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as reader:
            try:
                sender.start()
                sender.wait_until_sent()
                output, _ = reader.communicate(timeout=LATE_S)
            finally:
                reader.kill()
    result: dict[str, int] = json.loads(output)
    return result


def read(port: int, count: int) -> dict[str, Any]:
    sample, rest = Sample(), b""
    sock = create_connection(f"ws://127.0.0.1:{port}{PATH}").sock
    assert sock is not None
    while sample.count < count:
        data = rest + sock.recv(65536)
        now = time.monotonic_ns()
        cut = data.rfind(_AFTER_ID)
        if cut < 0:
            rest = data
            continue
        for sent_ns in _ID.findall(data, 0, cut):
            sample.add((now - int(sent_ns)) // 1000)
        rest = data[cut + len(_AFTER_ID) :]
    return sample.figures()


if __name__ == "__main__":
    print(json.dumps(read(int(sys.argv[1]), int(sys.argv[2]))))
