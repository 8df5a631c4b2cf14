#!/usr/bin/env python3
"""Disposable NUCs: Debian hosts with a real systemd, booted in a second by systemd-nspawn.

    lab.py up NAME              a clean host, running (builds its root file system the first time)
    lab.py shell NAME           log in as its operator, who may sudo
    lab.py reboot | kill | boot NAME    restart it, cut its power, power it on; its disk stays
    lab.py down NAME            remove it with its processes, mounts and files

HYBRID_LAB_CACHE (/var/cache/hybrid-engine-lab) is where root file systems are kept, HYBRID_LAB_STATE
(/var/lib/hybrid-engine-lab) where the labs are, and HYBRID_LAB_DEADLINE_S (90) how long a boot may take.
"""

import argparse
import os
import sys
from pathlib import Path

from lab_common import Interrupted, LabError, interruptible, missing_packages, require_linux_root, require_machine, say
from lab_host import Lab
from lab_machine import be_machine
from lab_rootfs import SUITES, USER, ensure_rootfs

DEFAULT_NAME = os.environ.get("LAB") or "nuc-lab"
DEFAULT_SUITE = os.environ.get("LAB_SUITE") or "bookworm"
INVENTORY = """\
nuc:
  hosts:
    {name}:
      ansible_user: {user}
      ansible_ssh_private_key_file: {state}/key
      ansible_python_interpreter: /usr/bin/python3
      ansible_control_path_dir: {state}/cm
      ansible_ssh_common_args: >-
        {options}
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 an error, printed as one line, 2 usage, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["_machine"]:
        return be_machine(Path(arguments[1]))
    options = _parser().parse_args(arguments)
    interruptible()
    try:
        if options.command == "missing":
            require_linux_root()
            print("".join(f"{package}\n" for package in missing_packages()), end="")
            return 0
        require_machine()
        return _run_command(options)
    except (LabError, OSError) as error:
        text = f"{error.filename or options.command}: {error.strerror}" if isinstance(error, OSError) else error
        say(f"error: {text}")
        return 1
    except (KeyboardInterrupt, Interrupted):
        say("interrupted")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(word: str, about: str, name: bool = True) -> argparse.ArgumentParser:
        subparser = commands.add_parser(word, help=about, description=about)
        if name:
            about_name = f"the lab (LAB, now {DEFAULT_NAME})"
            subparser.add_argument("name", nargs="?", default=DEFAULT_NAME, help=about_name)
        return subparser

    up = command("up", "boot it on a clean disk, unless it runs already")
    up.add_argument("--fresh", action="store_true", help="a clean disk even if it runs")
    up.add_argument("--copy", metavar="NAME", help="a copy of the disk of another lab, which is off, not a clean one")
    build = command("build", "build the root file system only, unless it exists", name=False)
    for each in (up, build):
        each.add_argument("--suite", default=DEFAULT_SUITE, help=f"{' or '.join(SUITES)} (LAB_SUITE)")
    command("down", "remove it with its processes, mounts and files, if it exists")
    command("pid", "print the PID of its init process, as seen from here")
    command("reboot", "restart it from inside; its disk stays")
    command("poweroff", "shut it down cleanly; its disk stays")
    command("kill", "cut its power (SIGKILL to all its processes); its disk stays")
    command("boot", "power it on again with the disk it had")
    command("inventory", "print an Ansible inventory with it as the only host of group nuc")
    command("connect", "run sshd on stdin and stdout (for ssh's ProxyCommand)")
    command("shell", f"log in as {USER}")
    for word, about in (("ssh", f"run a command as {USER}"), ("exec", "run one as root, without ssh")):
        subparser = command(word, about, name=False)
        subparser.add_argument("name", help="the lab")
        subparser.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD", help="command and arguments")
    command("missing", "print the Debian packages a lab still needs on this machine", name=False)
    return parser


def _run_command(options: argparse.Namespace) -> int:
    if options.command == "build":
        print(ensure_rootfs(options.suite))
        return 0
    lab = Lab(options.name)
    match options.command:
        case "up":
            booted = lab.up(options.suite, options.fresh, Lab(options.copy) if options.copy else None)
            print(f"{lab.name}: {'booted' if booted else 'was running'} ({lab.suite()})")
        case "down":
            print(f"{lab.name}: {'removed' if lab.down() else 'was not there'}")
        case "pid":
            print(lab.require_leader())
        case "inventory":
            print(inventory(lab), end="")
        case "shell":
            os.execvp("ssh", lab.ssh_argv())
        case "ssh":
            os.execvp("ssh", [*lab.ssh_argv(), *_without_dashes(options.argv)])
        case "exec":
            lab.exec_inside(_without_dashes(options.argv) or ["bash", "-l"])
        case "connect" | "reboot" | "poweroff" | "kill" | "boot":
            getattr(lab, options.command)()
    return 0


def _without_dashes(argv: list[str]) -> list[str]:
    return argv[1:] if argv[:1] == ["--"] else argv


def inventory(lab: Lab) -> str:
    """The YAML inventory with this lab as the only host of group `nuc`."""
    options = " ".join(f"-o '{option}'" for option in lab.ssh_options())
    return INVENTORY.format(name=lab.name, user=USER, state=lab.state, options=options)


if __name__ == "__main__":
    sys.exit(main())
