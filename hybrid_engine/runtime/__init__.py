"""What any program on this host needs: errors and exit codes, the log, systemd, the release, the clock."""
