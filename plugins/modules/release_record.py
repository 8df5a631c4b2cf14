"""Record which releases a host has run, and switch between them: see DOCUMENTATION."""

import contextlib
import glob
import os
import shutil
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import compare_release, read_link, read_text, unmet_needs
from ansible.module_utils.release_layout import NAME, canonical, current_name, read_releases
from ansible.module_utils.service_unit import link, options_of, write

DOCUMENTATION = r"""
{"module": "release_record",
 "short_description": "Point current to a release, remember it, and prune old ones; or mark one void; or find one",
 "description": "The history is a list of names in the order in which they became live, the newest last, so that a
  release's predecessor is known without dates.",
 "options": {
  "root": {"type": "path", "required": true, "description": "Holds releases/ and current."},
  "history": {"type": "path", "required": true, "description": "JSON file {history: [names], void: [names]}."},
  "name": {"required": true, "description": "A release, or C(previous) with O(state=found)."},
  "state": {"choices": ["current", "void", "found"], "default": "current",
   "description": "C(current) makes it the live one (atomically) and prunes; C(void) marks it as failed and removes it;
    C(found) only looks whether it is on the host, unaltered; if not, it fails and lists the releases that are."},
  "adopted": {"type": "path", "default": "",
   "description": "The record of a service that was taken over; with O(state=found) it is C(adopted), older than any."},
  "keep": {"type": "int", "default": 3, "description": "How many releases stay."},
  "replaces": {"default": "", "description": "What was live before; empty when going back to one."}
 }}
"""

RETURN = r"""
name: {type: str, returned: always, description: The release, resolved}
before: {type: str, returned: always, description: What current pointed to; null where it did not}
pruned: {type: list, elements: str, returned: always, description: Releases removed}
"""

ADOPTED = "adopted"  # instead of a release's name
MAX_VOID = 50  # names kept as failed; a name is its content, so an old one hardly returns


def on_disk(root: str) -> list[str]:
    return sorted(name for name in glob.glob("*", root_dir=os.path.join(root, "releases")) if NAME.fullmatch(name))


def is_unaltered(root: str, name: str) -> bool:
    """Whether a release's files are those that it was built and compiled with, whoever owns them."""
    differences = compare_release(os.path.realpath(os.path.join(root, "releases", name)))
    return differences is not None and all(how.startswith(("owner", "mode")) for how in differences.values())


def unmet_of(root: str, name: str) -> str:
    """What a release needs and this host does not have."""
    return str(unmet_needs(os.path.realpath(os.path.join(root, "releases", name))))


def is_in_use(root: str, name: str) -> bool:
    """Whether any process runs from this release, by its command line, directory or mapped files."""
    home = os.path.realpath(os.path.join(root, "releases", name))
    for process in glob.glob("/proc/[0-9]*"):
        for source in ("cmdline", "maps"):
            with contextlib.suppress(OSError), open(f"{process}/{source}", "rb") as stream:
                if f"{home}/".encode() in stream.read() and int(process[6:]) != os.getpid():
                    return True
        if read_link(f"{process}/cwd").startswith(home):
            return True
    return False


def resolve(
    options: dict[str, Any], record: dict[str, list[str]], live: str | None, warn: Callable[[str], None]
) -> str:
    """The release's name; ValueError says what there is instead. warn: is told of releases that are skipped."""
    name: str = options["name"]
    present = on_disk(options["root"])
    known = [entry for entry in record["history"] if entry in present and entry not in record["void"]]
    choice = f"on this host: {', '.join(known) or 'none'}; live: {live or 'none'}"
    if name == "previous":
        before = known[: known.index(live)] if live in known else known
        if not before and os.path.exists(options["adopted"]):
            return ADOPTED
        if not before:
            raise ValueError(f"no release was live before {live or 'this'} ({choice})")
        unfit = {entry: unmet for entry in before if (unmet := unmet_of(options["root"], entry))}
        fit = [entry for entry in before if entry not in unfit]
        if not fit:
            reasons = "; ".join(f"{entry}: {unmet}" for entry, unmet in unfit.items())
            raise ValueError(
                f"no release that was live before {live or 'this'} can run on this host: {reasons} ({choice})"
            )
        name = fit[-1]
        for entry in before[before.index(name) + 1 :]:
            warn(f"Release {entry} is skipped: {unfit[entry]}.")
    if name == ADOPTED and os.path.exists(options["adopted"]):
        return name
    if name not in present:
        raise ValueError(f"there is no release {name!r} ({choice})")
    if name in record["void"]:
        raise ValueError(f"release {name} is void: it failed its gate ({choice})")
    if unmet := unmet_of(options["root"], name):
        raise ValueError(f"release {name} cannot run on this host: {unmet} ({choice})")
    if not is_unaltered(options["root"], name):
        raise ValueError(f"release {name} is not what it was built as: its files were altered on this host")
    return name


def reorder(history: list[str], name: str, replaces: str) -> list[str]:
    """The history with `name` after the release that it replaces; a release that is gone back to keeps its place."""
    if replaces and replaces != name:
        return [entry for entry in history if entry not in (name, replaces)] + [replaces, name]
    return history if name in history else [*history, name]


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    root, name, state = options["root"], options["name"], options["state"]
    live = current_name(root)
    try:
        record = read_releases(options["history"])
        if state == "found":
            module.exit_json(changed=False, name=resolve(options, record, live, module.warn), before=live, pruned=[])
        after = {key: [entry for entry in names if entry != name] for key, names in record.items()}
        pruned: list[str] = []
        if state == "void":
            after["void"] = [*after["void"], name][-MAX_VOID:]
            pruned = [entry for entry in on_disk(root) if entry == name != live and not is_in_use(root, entry)]
        else:
            present = on_disk(root)
            # Drop names of releases that were removed; those that the history lacks count as the oldest.
            known = [entry for entry in present if entry not in (*record["history"], *after["void"], name)]
            known += [entry for entry in record["history"] if entry in present]
            after["history"] = reorder(known, name, options["replaces"])
            to_keep = {name, *after["history"][-options["keep"] :]}
            pruned = [entry for entry in on_disk(root) if entry not in to_keep and not is_in_use(root, entry)]
            after["history"] = [entry for entry in after["history"] if entry in to_keep]
        moved = state == "current" and live != name
        rewrite = read_text(options["history"]) != canonical(after)
        if not module.check_mode:
            if moved:
                link(os.path.join(root, "current"), os.path.join("releases", name))
            if rewrite:
                write(options["history"], canonical(after).encode(), 0o644)
            for entry in pruned:
                shutil.rmtree(os.path.join(root, "releases", entry))
        for entry in after["history"] if state == "current" else []:
            if entry != name and not is_unaltered(root, entry):
                module.warn(
                    f"Release {entry}, kept to go back to, was altered on this host and cannot be gone back to."
                )
    except (OSError, ValueError, KeyError) as problem:
        module.fail_json(msg=f"Releases of {root}: {problem}")
    module.exit_json(
        changed=moved or bool(pruned) or rewrite,
        name=name,
        before=live,
        pruned=pruned,
        diff={
            **dict.fromkeys(("before_header", "after_header"), options["history"]),
            "before": canonical({**record, "current": live}),
            "after": canonical({**after, "current": name if moved else live}),
        },
    )


if __name__ == "__main__":
    main()
