"""Recompute the verdicts from the raw events by the catalogue's rules, and compare them with the recorded ones.

What each case witnessed and measured is judged again, whether each proof restored the host is looked up again, and the
proof's entry of the statement is made again by the code that made it on the host. A recording may say of itself that it
could not tell; it can never say PASS where its own measurements do not.
"""

from collections.abc import Callable, Mapping, Sequence

from proofs import verdict
from proofs.evidence import statement
from proofs.evidence.json_diff import differences
from proofs.evidence.recorder import Event, line_number
from proofs.evidence.redaction import Redactor
from proofs.experiment import summary
from proofs.experiment.case import Case, Deployed, Mutant, Proof, judge
from proofs.experiment.subject import copy_name
from proofs.experiment.trace import Trace
from proofs.host.unit import seconds
from proofs.verdict import Json, Result, Verdict

Whole = Callable[[Event], str]
_STEPS = ("case", "witness", "measured", "judged")
_COULD_NOT_TELL = (Verdict.INCONCLUSIVE, Verdict.ERROR)
_HEALTHY = "the operator's engine healthy again"
_REDACTOR = Redactor({})  # what is compared with the recording has to be redacted as that is
_UNCHANGED = ("active", "cat_sha256", "etc_sha256")


def rebuild(
    events: Sequence[Event], catalogue: Mapping[str, Proof], whole: Whole | None = None
) -> tuple[dict[str, Json], list[str]]:
    """The statement that these events come to, and the problems: where the recording says something else.

    whole: an event's stdout, also where that is a blob; without it the raw outputs are not read again.
    """
    problems: list[str] = []
    entries = []
    unit = next((str(event["data"]["unit"]) for event in events if event["kind"] == "run"), "")
    for name, each in attempts(events).items():
        rebuilt = [_rebuild_entry(catalogue.get(name), name, unit, attempt, problems, whole) for attempt in each]
        if any(entry["verdict"] != Verdict.PASS for entry in rebuilt[:-1]):
            problems.append(f"{name}: started {len(rebuilt)} times, and not every time it said PASS")
        entries.append(_REDACTOR.data(rebuilt[-1]))
    return statement.build(events, entries), problems


def attempts(events: Sequence[Event]) -> dict[str, list[list[Event]]]:
    """By a proof's name, the events of each time it was started: those of its scope and of the scopes below it."""
    result: dict[str, list[list[Event]]] = {}
    for event in events:
        name = str(event["data"]["name"]) if event["kind"] == "proof" else event["scope"].partition("/")[0]
        if event["kind"] == "proof":
            result.setdefault(name, []).append([])
        if name in result:
            result[name][-1].append(event)
    return result


def _rebuild_entry(
    proof: Proof | None, name: str, unit: str, events: Sequence[Event], problems: list[str], whole: Whole | None
) -> dict[str, Json]:
    if proof is None:
        problems.append(f"line {line_number(events[0])}: the catalogue has no proof {name}")
        return statement.unfinished(events, name)
    try:
        return _Attempt(proof, unit, events, problems, whole).rebuild()
    except MemoryError:
        raise  # is told where memory is bounded
    except Exception as error:  # noqa: BLE001 - whatever a forged event does to the rules, it is no PASS
        problems.append(f"{name}: its events cannot be judged: {type(error).__name__}: {error}")
        return statement.unfinished(events, name)


class _Attempt:
    """The events of one start of a proof."""

    def __init__(
        self, proof: Proof, unit: str, events: Sequence[Event], problems: list[str], whole: Whole | None = None
    ) -> None:
        self.proof, self.unit, self.events, self.problems, self.whole = proof, unit, events, problems, whole

    def rebuild(self) -> dict[str, Json]:
        verdicts = self._of("verdict")
        if not verdicts:
            return statement.unfinished(self.events, self.proof.name)
        recorded = verdicts[-1]["data"]
        deployed = self._deployed()
        if deployed is None:  # nothing was disturbed, so there is nothing but the reason
            verdict_ = Verdict(recorded["verdict"])
            if verdict_ not in (Verdict.NOT_APPLICABLE, Verdict.INCONCLUSIVE):
                self._report_problem(verdicts[-1], f"{verdict_} although nothing was done")
                verdict_ = Verdict.ERROR
            entry = summary.of_proof(self.proof, verdict_, str(recorded["reason"]), [], {}, None)
        else:
            results, frame = self._own_results(deployed), ""
            broken = [case for case in recorded["cases"] if case["case"] == "frame" and case["verdict"] == "ERROR"]
            if broken:  # the frame itself gave up: it can have judged one case more than it returned
                frame = str(broken[0]["reason"])
                results = [*results[: len(recorded["cases"]) - 1], Result("frame", Verdict.ERROR, frame)]
            elif len(results) < len(self.proof.cases(deployed)):
                self._report_problem(verdicts[-1], f"only {len(results)} of its cases were run")
                results.append(Result("frame", Verdict.ERROR, "cases are missing"))
            merged = verdict.merge(result.verdict for result in results)
            mutants = {each.name: one for each in self.proof.mutants if (one := self._mutant(each, deployed))}
            entry = summary.of_proof(self.proof, merged, frame, results, mutants, self._undo_report())
        self._compare(verdicts[-1], f"the verdict of {self.proof.name}", recorded, entry)
        return entry

    def _of(self, kind: str, scope: str | None = None) -> list[Event]:
        scope = self.proof.name if scope is None else scope
        return [event for event in self.events if event["kind"] == kind and event["scope"] == scope]

    def _report_problem(self, event: Event, text: str) -> None:
        self.problems.append(f"line {line_number(event)}: {event['scope']}: {text}")

    def _compare(self, event: Event, what: str, recorded: Json, rebuilt: Json) -> None:
        for difference in differences(recorded, _REDACTOR.data(rebuilt))[:5]:
            self._report_problem(event, f"{what} is not what the events come to: {difference}")

    def _deployed(self) -> Deployed | None:
        """The deployed unit's settings as recorded, compared with what systemctl had shown just before."""
        recorded = self._of("deployed")
        if not recorded:
            return None
        data = recorded[0]["data"]
        before = [event for event in self._of("command") if event["seq"] < recorded[0]["seq"]]
        outputs = [event["stdout"] for event in before if event["argv"][:2] == ["systemctl", "show"]]
        properties = dict(line.split("=", 1) for line in "".join(outputs[-1:]).splitlines() if "=" in line)
        for key, name in (("watchdog_s", "WatchdogUSec"), ("restart_s", "RestartUSec")):
            span = seconds(properties.get(name, "infinity"))
            if data[key] != (span if span != float("inf") else 0.0):
                value = properties.get(name, "nothing")
                self._report_problem(recorded[0], f"{key} {data[key]} is not what systemctl showed: {value}")
        return Deployed(float(data["watchdog_s"]), float(data["restart_s"]), (0, 0))

    def _own_results(self, deployed: Deployed) -> list[Result]:
        """Those of the proof's cases: on the unit itself, and each of the others on its copy."""
        proof, cases = self.proof, self.proof.cases(deployed)
        results = self._results(proof.name, self.unit, [case for case in cases if case.name not in proof.on_copies])
        for case in cases:
            if case.name in proof.on_copies:
                copy = f"hybrid-proof-{copy_name(proof.copy_name(case.name), mutant=False)}.service"
                results += self._results(proof.scope(case.name), copy, [case])
        order = [case.name for case in cases]
        return sorted(results, key=lambda result: order.index(result.case))

    def _results(self, scope: str, unit: str, cases: Sequence[Case]) -> list[Result]:
        groups: list[list[Event]] = []
        for event in self.events:
            if event["scope"] == scope and event["kind"] == "case":
                groups.append([])
            if event["scope"] == scope and groups:
                groups[-1].append(event)
        if len(groups) > len(cases):
            self._report_problem(groups[len(cases)][0], f"{len(groups)} cases where the catalogue has {len(cases)}")
        return [self._case(case, unit, group) for case, group in zip(cases, groups, strict=False)]

    def _case(self, case: Case, unit: str, events: Sequence[Event]) -> Result:
        steps = {event["kind"]: event for event in events if event["kind"] in _STEPS}
        order = tuple(event["kind"] for event in events if event["kind"] in _STEPS)
        announced = {"case": case.name, "fault": case.fault, "n_min": case.n_min, "unit": unit}
        self._compare(events[0], "this case", events[0]["data"], announced)
        if order not in (("case", "judged"), ("case", "witness", "judged"), _STEPS):
            self._report_problem(events[0], f"{case.name}: its steps are {', '.join(order)}")
            return Result(case.name, Verdict.ERROR, "its steps are not those of a case")
        judged = steps["judged"]["data"]
        witness = steps["witness"]["data"] if "witness" in steps else None
        if "measured" in steps:
            result = judge(case, witness, steps["measured"]["data"])
            if result.verdict is not Verdict.ERROR:
                self._trace(case, steps["measured"], events)
            intents = [e for e in events if e["kind"] == "intent" and e["stdout"] == f"fault: {case.fault}"]
            if not intents or intents[0]["seq"] > steps["witness"]["seq"]:
                self._report_problem(steps["witness"], f"{case.name}: witnessed before the fault was announced")
        elif "witness" in steps and not witness:
            result = verdict.of_checks(case.name, (), witness, 0, case.n_min)
        elif Verdict(judged["verdict"]) in _COULD_NOT_TELL:  # nothing was measured; the reason is only recorded
            result = Result(case.name, Verdict(judged["verdict"]), str(judged["reason"]), (), witness)
        else:
            result = Result(case.name, Verdict.ERROR, "nothing was measured", (), witness)
        self._compare(steps["judged"], f"what was judged of {case.name}", judged, result.as_json())
        return result

    def _trace(self, case: Case, measured: Event, events: Sequence[Event]) -> None:
        """Read the figures again from the raw outputs, and compare them with the recorded ones."""
        if self.whole is None:
            return
        try:
            problems = case.untraced(measured["data"], Trace(events, self.whole), self.proof.host_word)
        except MemoryError:
            raise  # is told where memory is bounded
        except Exception as error:  # noqa: BLE001 - figures that cannot be read again are not confirmed
            problems = [f"{type(error).__name__}: {error}"]
        for text in problems:
            self._report_problem(measured, f"{case.name}: {text}")

    def _mutant(self, mutant: Mutant, deployed: Deployed) -> dict[str, Json] | None:
        scope = f"{self.proof.name}/mutant {mutant.name}"
        verdicts = self._of("mutant judged", scope)
        if not verdicts:
            return None
        recorded, cases = verdicts[-1]["data"], mutant.cases(deployed)
        copy = f"hybrid-proof-{copy_name(f'{self.proof.name}-{mutant.name}', mutant=True)}.service"
        results = self._results(scope, self.unit if self.proof.in_place else copy, cases)
        if recorded["verdict"] == Verdict.ERROR and not recorded["cases"]:  # it could not be made, or not be run
            outcome, results = (Verdict.ERROR, str(recorded["reason"])), []
        elif len(results) < len(cases):
            outcome = Verdict.ERROR, "cases are missing"
        else:
            outcome = verdict.of_mutant(results)
        entry = summary.of_mutant(mutant.name, mutant.what, *outcome, results)
        self._compare(verdicts[-1], f"the verdict of mutant {mutant.name}", recorded, entry)
        return entry

    def _undo_report(self) -> dict[str, Json]:
        """The undo's report. "restored" is checked: by the host before and after, and by the engine's health."""
        every = self._of("undone", f"{self.proof.name}/undo")
        undone = [e for e in every if e["data"]["by"] == "the proof itself"]
        intents = [event["data"] for event in self._of("intent")]
        leases = [data["before"] for data in intents if isinstance(data, dict) and "before" in data]
        if not undone or not leases:
            return summary.taken()
        if others := [event for event in every if event is not undone[-1]]:  # the first left something behind
            self._report_problem(others[0], f"undone by {others[0]['data']['by']} beside the proof itself")
            return summary.taken()
        report = {**undone[-1]["data"], "problems": list(undone[-1]["data"]["problems"])}
        changed = [key for key in _UNCHANGED if report["after"][key] != leases[-1][key]]
        if report["restored"] is not True or report["problems"] or changed:
            if report["restored"]:
                self._report_problem(undone[-1], f"it says restored, but: {', '.join(changed) or report['problems']}")
            return {**report, "restored": False}
        before = [e["data"]["health_rc"] for e in self._of("observed") if e["data"]["when"] == "before"]
        waits = [e for e in self._of("waited") if e["data"]["for"] == _HEALTHY and e["seq"] > undone[-1]["seq"]]
        again = bool(waits) and waits[-1]["data"]["came"] is True and waits[-1]["rc"] == 0
        if before[:1] == [0] and leases[-1]["active"] == "active" and not again:
            return {**report, "restored": False, "problems": [f"{_HEALTHY} did not happen in 20 s"]}
        return report
