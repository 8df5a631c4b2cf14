"""What hardening measures of a unit that is confined as promised."""

from typing import Any

from proofs.catalog import _sandbox

# As systemd 252 shows them; a proof's own binds and probe are among them.
PROPERTIES = {
    "User": "hybrid-engine",
    "Group": "hybrid-engine",
    "UMask": "0077",
    "KeyringMode": "private",
    "RemoveIPC": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    **dict.fromkeys((name for name in _sandbox.SET["privileges"] if "Cap" not in name), "yes"),
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "InaccessiblePaths": "/dev/mqueue /dev/shm /run/lock",
    "PrivateMounts": "yes",
    "StateDirectory": "hybrid-engine",
    "StateDirectoryMode": "0750",
    "WorkingDirectory": "/var/lib/hybrid-engine",
    **dict.fromkeys(_sandbox.SET["kernel and devices"], "yes"),
    "DevicePolicy": "closed",
    "ProtectProc": "invisible",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "1",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "Nice": "10",
    "LimitNOFILE": "4096",
    "MemoryMax": "268435456",
    "TasksMax": "64",
    **{name: "" for group in _sandbox.LEFT.values() for name in group},
    **dict.fromkeys(("DynamicUser", "Delegate", "RootDirectoryStartOnly"), "no"),
    **dict.fromkeys(
        ("LimitNICE", "LimitRTPRIO", "OOMScoreAdjust", "CPUSchedulingPolicy", "MemoryMin", "MemoryLow"), "0"
    ),
    **dict.fromkeys(("SecureBits", "CPUSchedulingPriority", "FileDescriptorStoreMax"), "0"),
    "BindPaths": "/run/hybrid-proofs/r/hardening/unit/state:/var/lib/hybrid-engine:rbind",
    "BindReadOnlyPaths": "/run/hybrid-proofs/r/hardening/unit/etc:/etc/hybrid-engine:rbind",
    "DeviceAllow": "char-rtc r",
    "ExecStartEx": "{ path=/opt/hybrid-engine/current/bin/hybrid-engine ; flags= ; }",
    "ExecStartPreEx": "{ path=/usr/bin/python3 ; flags=ignore-failure ; }",
    "ExecReloadEx": "{ path=/bin/kill ; flags= ; }",
    "NotifyAccess": "main",
    "LimitNOFILESoft": "4096",
    "LimitMEMLOCK": "8388608",
    "CPUWeight": "[not set]",
    "IOWeight": "[not set]",
    "IPAddressDeny": "::/0 0.0.0.0/0",
    "IPAddressAllow": "127.0.0.0/8 ::1/128",
}
STATUS = {
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "NoNewPrivs": "1",
    "Seccomp": "2",
    "Umask": "0077",
    "Uid": "999 999 999 999",
    "Gid": "997 997 997 997",
    "Groups": "997",
}
LIMITS = {
    "Max open files": "4096",
    "Max locked memory": "8388608",
    "Max nice priority": "0",
    "Max realtime priority": "0",
}
PROMISED: dict[str, Any] = {
    "properties": PROPERTIES,
    "calls_beyond": [],
    "unprinted": [],
    "loopback": True,
    "status": STATUS,
    "limits": LIMITS,
    "mounts": ["/tmp", "/var/lib/hybrid-engine", "/var/tmp"],
    "writable": ["/tmp", "/var/lib/hybrid-engine", "/var/tmp"],
    "cgroup": {"memory.max": "268435456", "pids.max": "64"},
}
