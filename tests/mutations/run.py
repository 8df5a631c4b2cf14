"""Run faults against the detectors, several workers at a time, each with a copy and a lab of its own."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from proofs.catalog import PROOFS
from tests.mutations.detectors import ON_HOST, LabHost, Outcome, mirror_of, promise_proofs, run_tests
from tests.mutations.fault import Fault
from tests.mutations.results import Line, Results
from tests.mutations.scratch import Copy

# Faults of files that are deployed as they are; one of any other may leave a host that the next deploy does not heal.
_HEALED = ("hybrid_engine/", "templates/")


class Worker(threading.Thread):
    """Takes faults from a queue until it is empty, or `stop` is set."""

    def __init__(
        self,
        number: int,
        faults: queue.SimpleQueue[Fault],
        detectors: Sequence[str],
        results: Results,
        *,
        stop: threading.Event,
        first_only: bool,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"mutation-{number}")
        self._faults, self._detectors, self._results = faults, detectors, results
        self._stop_event, self._first_only, self._say = stop, first_only, say
        self._folder = tempfile.TemporaryDirectory(prefix="mutation-", ignore_cleanup_errors=True)
        self._lab = LabHost(self.name)
        self._lab_up = False
        self._copy: Copy | None = None
        self._mirror_s: dict[tuple[str, ...], float] = {}  # what each takes without a fault
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            copy = self._copy = Copy(Path(self._folder.name, "copy"))
            try:
                while not self._stop_event.is_set():
                    self._try(self._faults.get_nowait(), copy)
            except queue.Empty:
                pass
            finally:
                if self._lab_up:
                    self._lab.down()
        except BaseException as error:  # noqa: BLE001 - told by the main thread, which ends the others
            self.failure = error
            self._stop_event.set()
        finally:
            if self._copy is not None:
                self._copy.remove()  # twice: what was killed may have written at the last moment
            self._folder.cleanup()

    def cancel(self) -> None:
        """End what runs now; `stop` is set, so labs and copies go next."""
        if self._copy is not None:
            self._copy.cancel()

    def _try(self, fault: Fault, copy: Copy) -> None:
        due = [each for each in self._detectors if self._results.get(fault.name, each) is None]
        if not due:
            return
        if any(each in ON_HOST for each in due) and not self._lab_up:
            self._lab_up = True  # also where it comes up in part
            self._lab.up(copy)
        if "mirror" in due:
            self._check_control(fault, copy)
        copy.apply(fault)
        try:
            for detector in due:
                if self._stop_event.is_set() or (self._first_only and self._results.is_caught(fault.name)):
                    return
                self._look(fault, detector, copy)
        finally:
            copy.revert(fault)
            if self._lab_up and not fault.file.startswith(_HEALED) and not self._stop_event.is_set():
                self._heal(copy)

    def _look(self, fault: Fault, detector: str, copy: Copy) -> None:
        began = time.monotonic()
        outcome = self._outcome(fault, detector, copy)
        if self._stop_event.is_set():
            return  # it may have been cut off
        seconds = round(time.monotonic() - began, 1)
        self._results.add(
            Line(fault.name, self._results.trees[fault.name], detector, outcome.caught, outcome.by, seconds)
        )
        verdict = {True: "caught", False: "not caught", None: "could not look"}[outcome.caught]
        self._say(f"{fault.name}: {detector}: {verdict} ({seconds:.0f} s) {outcome.by}")

    def _outcome(self, fault: Fault, detector: str, copy: Copy) -> Outcome:
        if detector == "mirror":
            return run_tests(copy, detector, fault, 30 + 5 * self._mirror_s[tuple(mirror_of(fault.file))])
        if detector not in ON_HOST:
            return run_tests(copy, detector, fault)
        if detector == "gate":
            return self._lab.gate(copy)
        gate = self._results.get(fault.name, "gate")
        if gate is not None and gate.caught:
            return Outcome(None, "the gate refused it, so it is not on the host")
        if gate is None and (refused := self._lab.gate(copy)).caught:
            return Outcome(None, f"the gate refused it: {refused.by}")
        if detector == "verify":
            return self._lab.verify(copy)
        own = promise_proofs(fault.promise)
        outcome = self._lab.prove(copy, own) if own else Outcome(False, "")
        if outcome.caught or (own and set(own) >= PROOFS.keys()):
            return outcome
        others = self._lab.prove(copy, [name for name in PROOFS if name not in own])
        return Outcome(others.caught, "; ".join(filter(None, (outcome.by, others.by))))

    def _check_control(self, fault: Fault, copy: Copy) -> None:
        """Without the fault its mirror has to pass, or it would catch everything. Raises RuntimeError."""
        key = tuple(mirror_of(fault.file))
        if key not in self._mirror_s:
            began = time.monotonic()
            outcome = run_tests(copy, "mirror", fault)
            if outcome.caught is not False:
                raise RuntimeError(f"{' '.join(key)} fails without a fault: {outcome.by}")
            self._mirror_s[key] = time.monotonic() - began

    def _heal(self, copy: Copy) -> None:
        """Deploy the tree without the fault; a host that does not take it is replaced."""
        if self._lab.gate(copy).caught:
            self._lab.down()
            self._lab.up(copy)


def run(
    faults: Sequence[Fault],
    detectors: Sequence[str],
    results: Results,
    workers: int,
    *,
    first_only: bool,
    say: Callable[[str], None],
) -> None:
    """Try every fault that has no result yet. Raises RuntimeError where a worker could not go on, KeyboardInterrupt."""
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in faults:
        waiting.put(fault)
    stop = threading.Event()
    threads = [
        Worker(number, waiting, detectors, results, stop=stop, first_only=first_only, say=say)
        for number in range(1, workers + 1)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
    except KeyboardInterrupt:
        stop.set()
        say("stopping: labs and copies are removed")
        for thread in threads:
            thread.cancel()
            thread.join()
        raise
    for thread in threads:
        if thread.failure is not None:
            raise RuntimeError(f"{thread.name}: {thread.failure}") from thread.failure
