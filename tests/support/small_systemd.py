"""As much of systemd and its journal as a soak looks at, around a real engine: started, restarted, told about.

It answers the commands that `proofs.host.shell` runs. The engine is the checkout's, with its own exit codes; a drop-in
of the soak is read as systemd would read it, and the directory that is bound over the state is put into the database's
path.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

from proofs.host.deployed import AS_ENGINE
from proofs.host.shell import Output
from proofs.host.unit import UNIT_STARTING
from proofs.soak.exit_table import UNIT_STARTED, UNIT_STOPPING
from tests.support import programs
from tests.support.process import COMMAND, ROOT, Launcher, clean_environment

RESTART_S = 0.5
_READY = '"message":"ready"'


class SmallSystemd:
    """One unit. launcher: where its configuration and database are."""

    def __init__(self, launcher: Launcher, config: Path) -> None:
        self.launcher, self.config = launcher, config
        self.conf = launcher.folder / "systemd" / "hybrid-engine.service.d" / "zz-soak.conf"
        self.active, self.sub, self.invocation, self.restarts, self.pid = "inactive", "dead", "", 0, 0
        self.commands: list[tuple[str, ...]] = []
        self._journal: list[dict[str, str]] = [{"MESSAGE": "boot", "__CURSOR": "c0"}]
        self._lock = threading.RLock()
        self._process: subprocess.Popen[str] | None = None
        self._enabled = False
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._closed = False
        self._keeper.start()

    # What the engine's operator would type --------------------------------------------------------------------------

    def run(self, argv: tuple[str, ...]) -> Output:
        """Answer a command, as proofs.host.shell._run does."""
        with self._lock:
            self.commands.append(argv)
        if "setpriv" in argv:  # there is one user here
            at = argv.index("setpriv")
            argv = argv[:at] + argv[at + len(AS_ENGINE) :]
        if argv[0] == "env":
            words = [word for word in argv[1:] if "=" in word]
            return self._engine(argv[len(words) + 1 :], dict(word.split("=", 1) for word in words))
        if argv[0].endswith("/hybrid-engine"):
            return self._engine(argv, {})
        if argv[0] == "journalctl":
            return Output(0, self._told(argv), "")
        if argv[:2] == ("systemctl", "show"):
            return Output(0, self._shown() if "hybrid-engine.service" in argv[2] else "", "")
        if argv[0] == "systemctl" and argv[-1] == "hybrid-engine.service":
            {"restart": self.restart, "stop": self.stop, "kill": self.kill}.get(argv[1], lambda: None)()
        if argv[:2] == ("systemctl", "cat"):
            return Output(0, "# /etc/systemd/system/hybrid-engine.service\n[Service]\n", "")
        return Output(0, "", "")

    def start(self) -> None:
        with self._lock:
            self._enabled, self.restarts = True, 0

    def stop(self) -> None:
        with self._lock:
            self._enabled = False
            self._say("Stopping", message_id=UNIT_STOPPING)
            process = self._process
            if process is None:  # between two tries
                self.active, self.sub = "inactive", "dead"
        if process:
            process.terminate()
            process.send_signal(signal.SIGCONT)
        self._until("inactive", "failed")

    def restart(self) -> None:
        self.stop()
        self.start()
        self._until("active", "failed")

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    def close(self) -> None:
        self._closed, self._enabled = True, False
        self.kill()
        self._keeper.join(10)

    # What it does by itself ------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._closed:
            if not self._enabled:
                time.sleep(0.02)
                continue
            status = self._one_run()
            with self._lock:
                stopped, failed = not self._enabled, status != 0
                self.pid, self._process = 0, None
                if failed and not (stopped and status == -signal.SIGTERM):
                    kind = "exited" if status > 0 else "killed"
                    self._say(f"Main process exited, code={kind}, status={abs(status)}/n/a")
                    self._say("Failed with result", result="exit-code" if status > 0 else "signal")
                if stopped or not failed or status == 12:
                    self._enabled = False
                    self.active, self.sub = ("failed" if failed and not stopped else "inactive"), "dead"
                    continue
                self.active, self.sub = "activating", "auto-restart"
            time.sleep(RESTART_S)
            with self._lock:
                if self._enabled and self.active == "activating":  # nobody stopped it meanwhile
                    self.restarts += 1
                    self._say("Scheduled restart job, restart counter is at 1.")

    def _one_run(self) -> int:
        with self._lock:
            if not self._enabled:
                return 0
            self.invocation = uuid.uuid4().hex
            self.active, self.sub = "activating", "start"
            self._say("Starting", message_id=UNIT_STARTING)
            self._process = process = programs.start(
                [*COMMAND, "run", "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment(self._dropped_in()),
                cwd=self.launcher.folder,
            )
            self.pid = process.pid
        assert process.stdout
        for line in process.stdout:
            self._say(line.rstrip("\n"))
            if _READY in line.replace(" ", ""):
                with self._lock:
                    self.active, self.sub = "active", "running"
                    self._say("Started", message_id=UNIT_STARTED)
        return process.wait()

    def _dropped_in(self) -> dict[str, str]:
        text = self.conf.read_text() if self.conf.exists() else ""
        variables = dict(re.findall(r'^Environment="(\w+)=(.*)"$', text, re.M))
        if bound := re.search(r"^BindPaths=(\S+):(\S+)$", text, re.M):
            variables = {name: value.replace(bound[2], bound[1]) for name, value in variables.items()}
        return variables

    def _environment(self, extra: dict[str, str]) -> dict[str, str]:
        return clean_environment({"PYTHONPATH": f"{ROOT}:{self.launcher.folder}", **extra})

    def _engine(self, argv: tuple[str, ...], given: dict[str, str]) -> Output:
        outcome = subprocess.run(
            [*COMMAND, *argv[1:], *(["--config", str(self.config)] if argv[1] != "version" else [])],
            capture_output=True,
            text=True,
            check=False,
            env=self._environment(given),
            cwd=self.launcher.folder,
        )
        return Output(outcome.returncode, outcome.stdout, outcome.stderr)

    def _until(self, *states: str) -> None:
        deadline = time.monotonic() + 15
        while self.active not in states:
            assert time.monotonic() < deadline, f"still {self.active} ({self.sub})"
            time.sleep(0.01)

    def _say(self, message: str, message_id: str = "", result: str = "") -> None:
        with self._lock:
            self._journal.append(
                {
                    "MESSAGE": message,
                    "MESSAGE_ID": message_id,
                    "UNIT_RESULT": result,
                    "INVOCATION_ID": self.invocation,
                    "__CURSOR": f"c{len(self._journal)}",
                    "__MONOTONIC_TIMESTAMP": str(time.monotonic_ns() // 1000),
                    "__REALTIME_TIMESTAMP": str(time.time_ns() // 1000),
                }
            )

    def forget(self, words: str) -> None:
        """Lose the lines with these words, as a journal that was cut does."""
        with self._lock:
            for line in self._journal:
                if words in line["MESSAGE"]:
                    line["MESSAGE"] = ""

    def _told(self, argv: tuple[str, ...]) -> str:
        with self._lock:
            if "--show-cursor" in argv:
                return f"-- cursor: {self._journal[-1]['__CURSOR']}\n"
            if "-u" not in argv:
                return ""
            first = int(argv[-1].removeprefix("--cursor=c"))
            lines = self._journal[max(1, first) :]
            return "".join(json.dumps(line) + "\n" for line in lines)

    def _shown(self) -> str:
        with self._lock:
            pid = self.pid if self.active in ("active", "activating") else 0
            return (
                f"ActiveState={self.active}\nSubState={self.sub}\nResult=success\nMainPID={pid}\nNRestarts={self.restarts}\n"
                f"InvocationID={self.invocation}\nWatchdogUSec=10s\nRestartUSec=500ms\nControlGroup=\nLoadState=loaded\n"
            )
