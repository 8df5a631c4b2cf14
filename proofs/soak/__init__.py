"""The soak: hours of ordinary work under watch. systemd restarts, the engine throttles, the soak decides the rest."""
