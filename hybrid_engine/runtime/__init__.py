"""Services for every other package: errors and exit codes, the log, systemd, the release, the clock, CPU affinity."""
