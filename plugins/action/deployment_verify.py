"""Read the state of a deployed host with one program there, and run the assertions of tests/verify over it here.

The connection is Ansible's own, so whatever deploys also verifies: sudo with a password, root without sudo, any
transport, and whatever a login shell prints around it.
program: collect.py, which prints the state; drift: the program that finds drift; python: the host's interpreter.
Returns rc, pytest's exit status, and lines, what it printed.
"""

import base64
import json
import shlex
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))

from plugins.module_utils.host_action import HostAction
from proofs.evidence import host_input

STATE_BYTES = 1 << 25  # of what collect.py prints; tests/verify refuses more as well
LOST_S = 30.0  # for how long a connection that broke is tried again: it only reads
ASSERTIONS = ("-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "--confcutdir=tests/verify")
# Both programs come as one argument: standard input is a terminal's where sudo demands one (requiretty).
START = """
import base64, json, sys, zlib
try:
    sys.argv[1:], program = json.loads(zlib.decompress(base64.b64decode(sys.argv[1])))
    exec(program)
except Exception as error:
    print(json.dumps({"error": repr(error)}))
"""


class ActionModule(HostAction):
    """What the host prints is not looked at here, but by the assertions, which also say what is wrong with it."""

    consequence = "nothing was verified"
    _VALID_ARGS = frozenset({"program", "drift", "python"})

    def act(self) -> dict[str, Any]:
        arguments = ["hybrid-engine.service", Path(self.args["drift"]).read_text()]
        text = json.dumps([arguments, Path(self.args["program"]).read_text()]).encode()
        packed = base64.b64encode(zlib.compress(text)).decode()
        words = shlex.join([self.args["python"], "-ISc", START, packed])
        failed = """printf '{"error": "python exits with %s"}' $?"""
        state = self.read(f"{words} || {failed}", STATE_BYTES, LOST_S)
        with tempfile.TemporaryFile() as file:  # has no name, so nothing can leave it behind
            file.write(state.encode())
            file.seek(0)
            command = [sys.executable, *ASSERTIONS, "tests/verify", f"--state=/dev/fd/{file.fileno()}"]
            command.append(f"--make-words={shlex.join(self.make_words())}")
            root = Path(__file__).parents[2]
            process = subprocess.run(command, cwd=root, capture_output=True, text=True, pass_fds=(file.fileno(),))
        lines = (process.stdout + process.stderr).splitlines()
        return {"rc": process.returncode, "lines": [host_input.printable(line, 4000) for line in lines]}
