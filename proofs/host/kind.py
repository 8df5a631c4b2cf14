"""What kind of host this is: a lab that may be edited or a NUC, and which systemd it runs."""

from proofs.host.shell import Host


def not_a_lab(host: Host, quiet: bool = True) -> str:
    """Why this host is none of roles/lab_nuc's; empty when it is one. quiet: do not record the look."""
    kind = host.look("systemd-detect-virt", "--container", quiet=quiet).stdout.strip()
    if kind != "systemd-nspawn":
        return f"it edits /etc and the release, and this is no lab ({kind or 'no container'})"
    marked = host.look("grep", "--null-data", "--quiet", "^HYBRID_ENGINE_LAB=", "/proc/1/environ", quiet=quiet)
    if marked.rc != 0:
        return "it edits /etc and the release, and this container was not started as a lab"
    return ""


def kind_of_host(host: Host, quiet: bool = True) -> str:
    """ "lab" or "nuc": what a kind cannot show at all is not in its required set. quiet: do not record the look."""
    return "nuc" if not_a_lab(host, quiet) else "lab"


def systemd_version(host: Host) -> str:
    return host.look("systemctl", "--version", quiet=True).stdout.partition("\n")[0]
