"""The verdicts once more, from the raw events, by the catalogue's own rules. What was recorded as judged is compared.

Of each case what was witnessed and measured is judged again, of each proof its restoring is looked up again, and its
entry of the statement is made again by the code that made it on the host. A recording may say of itself that it could
not tell; it can never say PASS where its own measurements do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from proofs import verdict
from proofs.evidence import statement
from proofs.evidence.json_diff import differences
from proofs.evidence.redaction import Redactor
from proofs.experiment import summary
from proofs.experiment.case import Case, Deployed, Mutant, Proof, judge
from proofs.experiment.measurements import Figures
from proofs.experiment.trace import Trace
from proofs.experiment.trace import differences as differences_of
from proofs.host.unit import seconds
from proofs.verdict import Json, Result, Verdict

Event = dict[str, Json]
Whole = Callable[[Event], str]
_STEPS = ("case", "witness", "measured", "judged")
_COULD_NOT_TELL = (Verdict.INCONCLUSIVE, Verdict.ERROR)
_HEALTHY = "the operator's engine healthy again"
_AS_WRITTEN = Redactor({})  # what is compared with the recording has to be without what that leaves out
_AS_BEFORE = ("active", "cat_sha256", "etc_sha256")


def rebuild(
    events: Sequence[Event], catalogue: Mapping[str, Proof], whole: Whole | None = None
) -> tuple[dict[str, Json], list[str]]:
    """The statement that these events amount to, and where what they say of themselves is not borne out by them.

    whole: an event's stdout, also where that is a blob; without it the raw outputs are not read again.
    """
    complaints: list[str] = []
    entries = []
    unit = next((str(event["data"]["unit"]) for event in events if event["kind"] == "run"), "")
    for name, times in attempts(events).items():
        rebuilt = [_one(catalogue.get(name), name, unit, one, complaints, whole) for one in times]
        if any(made["verdict"] != Verdict.PASS for made in rebuilt[:-1]):
            complaints.append(f"{name}: begun {len(rebuilt)} times, and not every time it said PASS")
        entries.append(_AS_WRITTEN.data(rebuilt[-1]))
    return statement.build(events, entries), complaints


def attempts(events: Sequence[Event]) -> dict[str, list[list[Event]]]:
    """The events of each time a proof was begun, by its name: those of its own scope and of the scopes below it."""
    found: dict[str, list[list[Event]]] = {}
    for event in events:
        name = str(event["data"]["name"]) if event["kind"] == "proof" else event["scope"].partition("/")[0]
        if event["kind"] == "proof":
            found.setdefault(name, []).append([])
        if name in found:
            found[name][-1].append(event)
    return found


def _one(
    proof: Proof | None, name: str, unit: str, events: Sequence[Event], complaints: list[str], whole: Whole | None
) -> dict[str, Json]:
    if proof is None:
        complaints.append(f"line {_line(events[0])}: the catalogue has no proof {name}")
        return statement.unfinished(events, name)
    try:
        return _Attempt(proof, unit, events, complaints, whole).rebuild()
    except Exception as error:  # noqa: BLE001 - whatever a forged event does to the rules, it is no PASS
        complaints.append(f"{name}: its events cannot be judged: {type(error).__name__}: {error}")
        return statement.unfinished(events, name)


def _line(event: Event) -> int:
    return int(event["seq"]) + 1


class _Attempt:
    """One time that a proof was begun."""

    def __init__(
        self, proof: Proof, unit: str, events: Sequence[Event], complaints: list[str], whole: Whole | None = None
    ) -> None:
        self.proof, self.unit, self.events, self.complaints, self.whole = proof, unit, events, complaints, whole

    def rebuild(self) -> dict[str, Json]:
        said = self._of("verdict")
        if not said:
            return statement.unfinished(self.events, self.proof.name)
        recorded = said[-1]["data"]
        deployed = self._deployed()
        if deployed is None:  # nothing was disturbed, so there is nothing but the reason
            verdict_ = Verdict(recorded["verdict"])
            if verdict_ not in (Verdict.NOT_APPLICABLE, Verdict.INCONCLUSIVE):
                self._complain(said[-1], f"{verdict_} although nothing was done")
                verdict_ = Verdict.ERROR
            made = summary.of_proof(self.proof, verdict_, str(recorded["reason"]), [], {}, None)
        else:
            results, frame = self._results(self.proof.name, self.unit, self.proof.cases(deployed)), ""
            broken = [case for case in recorded["cases"] if case["case"] == "frame" and case["verdict"] == "ERROR"]
            if broken:  # the frame itself gave up: it can have judged one case more than it returned
                frame = str(broken[0]["reason"])
                results = [*results[: len(recorded["cases"]) - 1], Result("frame", Verdict.ERROR, frame)]
            elif len(results) < len(self.proof.cases(deployed)):
                self._complain(said[-1], f"only {len(results)} of its cases were run")
                results.append(Result("frame", Verdict.ERROR, "cases are missing"))
            merged = verdict.merge(result.verdict for result in results)
            mutants = {m.name: said_of for m in self.proof.mutants if (said_of := self._mutant(m, deployed))}
            made = summary.of_proof(self.proof, merged, frame, results, mutants, self._report())
        self._compare(said[-1], f"the verdict of {self.proof.name}", recorded, made)
        return made

    def _of(self, kind: str, scope: str | None = None) -> list[Event]:
        scope = self.proof.name if scope is None else scope
        return [event for event in self.events if event["kind"] == kind and event["scope"] == scope]

    def _complain(self, event: Event, text: str) -> None:
        self.complaints.append(f"line {_line(event)}: {event['scope']}: {text}")

    def _compare(self, event: Event, what: str, recorded: Json, made: Json) -> None:
        for difference in differences(recorded, _AS_WRITTEN.data(made))[:5]:
            self._complain(event, f"{what} is not what the events come to: {difference}")

    def _deployed(self) -> Deployed | None:
        """What the unit promised, as noted and as systemctl had shown it just before."""
        noted = self._of("deployed")
        if not noted:
            return None
        data = noted[0]["data"]
        shown = [
            e for e in self._of("command") if e["argv"][:2] == ["systemctl", "show"] and e["seq"] < noted[0]["seq"]
        ]
        got = dict(line.split("=", 1) for line in shown[-1]["stdout"].splitlines() if "=" in line) if shown else {}
        for key, name in (("watchdog_s", "WatchdogUSec"), ("restart_s", "RestartUSec")):
            span = seconds(got.get(name, "infinity"))
            if data[key] != (span if span != float("inf") else 0.0):
                self._complain(noted[0], f"{key} {data[key]} is not what systemctl showed: {got.get(name, 'nothing')}")
        return Deployed(float(data["watchdog_s"]), float(data["restart_s"]), (0, 0))

    def _results(self, scope: str, unit: str, cases: Sequence[Case]) -> list[Result]:
        groups: list[list[Event]] = []
        for event in self.events:
            if event["scope"] == scope and event["kind"] == "case":
                groups.append([])
            if event["scope"] == scope and groups:
                groups[-1].append(event)
        if len(groups) > len(cases):
            self._complain(groups[len(cases)][0], f"{len(groups)} cases where the catalogue has {len(cases)}")
        return [self._case(case, unit, group) for case, group in zip(cases, groups, strict=False)]

    def _case(self, case: Case, unit: str, events: Sequence[Event]) -> Result:
        steps = {event["kind"]: event for event in events if event["kind"] in _STEPS}
        order = tuple(event["kind"] for event in events if event["kind"] in _STEPS)
        asked = {"case": case.name, "fault": case.fault, "n_min": case.n_min, "unit": unit}
        self._compare(events[0], "this case", events[0]["data"], asked)
        if order not in (("case", "judged"), ("case", "witness", "judged"), _STEPS):
            self._complain(events[0], f"{case.name}: its steps are {', '.join(order)}")
            return Result(case.name, Verdict.ERROR, "its steps are not those of a case")
        judged = steps["judged"]["data"]
        witness = steps["witness"]["data"] if "witness" in steps else None
        if "measured" in steps:
            found = judge(case, witness, steps["measured"]["data"])
            if found.verdict is not Verdict.ERROR:
                self._trace(case, steps["measured"], events)
            intents = [e for e in events if e["kind"] == "intent" and e["stdout"] == f"fault: {case.fault}"]
            if not intents or intents[0]["seq"] > steps["witness"]["seq"]:
                self._complain(steps["witness"], f"{case.name}: witnessed before the fault was announced")
        elif "witness" in steps and not witness:
            found = verdict.of_checks(case.name, (), witness, 0, case.n_min)
        elif Verdict(judged["verdict"]) in _COULD_NOT_TELL:  # it never came to a measurement; why, only it knows
            found = Result(case.name, Verdict(judged["verdict"]), str(judged["reason"]), (), witness)
        else:
            found = Result(case.name, Verdict.ERROR, "nothing was measured", (), witness)
        self._compare(steps["judged"], f"what was judged of {case.name}", judged, found.as_json())
        return found

    def _trace(self, case: Case, measured: Event, events: Sequence[Event]) -> None:
        """The figures once more, out of the raw outputs that they were read from."""
        if self.whole is None:
            return
        try:
            again = case.traced(Figures(measured["data"]), Trace(events, self.whole))
            found = differences_of(measured["data"], again)
        except Exception as error:  # noqa: BLE001 - outputs that cannot be read bear nothing out
            found = [f"{type(error).__name__}: {error}"]
        for text in found:
            self._complain(measured, f"{case.name}: {text}")

    def _mutant(self, mutant: Mutant, deployed: Deployed) -> dict[str, Json] | None:
        scope = f"{self.proof.name}/mutant {mutant.name}"
        said = self._of("mutant judged", scope)
        if not said:
            return None
        recorded, cases = said[-1]["data"], mutant.cases(deployed)
        copy = f"hybrid-proof-mutant-{self.proof.name}-{mutant.name}.service"
        results = self._results(scope, self.unit if self.proof.in_place else copy, cases)
        if recorded["verdict"] == Verdict.ERROR and not recorded["cases"]:  # it could not be made, or not be run
            made = summary.of_mutant(mutant.name, mutant.what, Verdict.ERROR, str(recorded["reason"]), [])
        elif len(results) < len(cases):
            made = summary.of_mutant(mutant.name, mutant.what, Verdict.ERROR, "cases are missing", results)
        else:
            made = summary.of_mutant(mutant.name, mutant.what, *verdict.of_mutant(results), results)
        self._compare(said[-1], f"the verdict of mutant {mutant.name}", recorded, made)
        return made

    def _report(self) -> dict[str, Json]:
        """The undo's report, its claim looked up: in how the host was before and after, and in the engine's health."""
        every = self._of("undone", f"{self.proof.name}/undo")
        undone = [e for e in every if e["data"]["by"] == "the proof itself"]
        leases = [
            e["data"]["before"] for e in self._of("intent") if isinstance(e["data"], dict) and "before" in e["data"]
        ]
        if not undone or not leases:
            return summary.taken()
        for other in every:  # whoever undid: one that could not is what this proof left behind
            if other is not undone[-1]:
                self._complain(other, f"undone by {other['data']['by']} beside the proof itself")
                return summary.taken()
        report = {**undone[-1]["data"], "problems": list(undone[-1]["data"]["problems"])}
        changed = [key for key in _AS_BEFORE if report["after"][key] != leases[-1][key]]
        if report["restored"] is not True or report["problems"] or changed:
            if report["restored"]:
                self._complain(undone[-1], f"restored, it says; but {', '.join(changed) or report['problems']}")
            return {**report, "restored": False}
        before = [e["data"]["health_rc"] for e in self._of("observed") if e["data"]["when"] == "before"]
        waits = [e for e in self._of("waited") if e["data"]["for"] == _HEALTHY and e["seq"] > undone[-1]["seq"]]
        again = bool(waits) and waits[-1]["data"]["came"] is True and waits[-1]["rc"] == 0
        if before[:1] == [0] and leases[-1]["active"] == "active" and not again:
            return {**report, "restored": False, "problems": [f"{_HEALTHY} did not happen in 20 s"]}
        return report
