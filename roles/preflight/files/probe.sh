# Prints the host's properties, one KEY=value a line. Plain sh and the tools of a minimal Debian, because it must also
# run on a host without Python. It only reads.
say() { printf '%s=%s\n' "$1" "$2"; }

say uid "$(id -u)"
say init "$(cat /proc/1/comm 2>/dev/null)"
say systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
say state "$(systemctl is-system-running 2>/dev/null)"
say os "$(. /etc/os-release 2>/dev/null; echo "${PRETTY_NAME:-unknown}")"
say kernel "$(uname -s)"
say machine "$(uname -m)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null | sed -n 's/^glibc //p')"
say clock "$(date +%s)"
say python "$("$PYTHON" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)"
say sqlite "$("$PYTHON" -c 'import ssl, sqlite3; print(sqlite3.sqlite_version)' 2>/dev/null)"
for tool in systemd-analyze systemd-run journalctl setpriv; do
    command -v "$tool" >/dev/null || say missing_tool "$tool"
done
for folder in /opt /var /etc /usr; do
    say "free$(echo "$folder" | tr / _)" "$(df -Pm "$folder" 2>/dev/null | sed -n '2p' | awk '{print $4}')"
    [ -w "$folder" ] || say read_only "$folder"
    mount=$(df -P "$folder" 2>/dev/null | awk 'NR == 2 { print $6 }')
    awk -v at="$mount" '$2 == at { o = $4 } END { print o }' /proc/mounts | grep -qw noexec && say noexec "$folder"
done
# What the release that is live was built for, where there is one.
live=/opt/hybrid-engine/current/release.json
for need in name python machine; do
    say "live_$need" "$(sed -n "s/^ \"$need\": \"\([^\"]*\)\",*\$/\1/p" "$live" 2>/dev/null)"
done
user=$(getent passwd hybrid-engine) && say user_comment "$(echo "$user" | cut -d: -f5)"
# What is in the way of a first deployment, or would be taken over by it.
if ! [ -e /var/lib/hybrid-deploy/deployed/hybrid-engine.service.json ]; then
    for path in /etc/systemd/system/hybrid-engine.service.d /etc/hybrid-engine /opt/hybrid-engine /var/lib/hybrid-engine; do
        [ -e "$path" ] && say there "$path"
    done
    [ "$(systemctl show --property=LoadState --value hybrid-engine.service 2>/dev/null)" = not-found ] || say there unit
fi
say bus "$(test -S /run/dbus/system_bus_socket && echo yes || echo no)"
say cgroup2 "$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)"
say controllers "$(cat "$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)/cgroup.controllers" 2>/dev/null)"
say machine_id "$(cat /etc/machine-id 2>/dev/null)"
awk '$1 == "memory" && $4 == 0 { exit 1 }' /proc/cgroups 2>/dev/null || say memory_cgroup off
systemd-analyze cat-config systemd/journald.conf 2>/dev/null | grep -i '^Storage=' | tail -n 1 | grep -qi '=none' &&
    say journal none
say psi "$(test -r /proc/pressure/cpu && echo yes || echo no)"
# The holder of the proofs' lock, if any; the file itself stays. Trying the lock would take it for a moment.
lock=/run/hybrid-proofs/lock
if [ -e "$lock" ] && grep -q "FLOCK.* $(printf '%02x:%02x:%s' $(stat -c '%Hd %Ld %i' "$lock")) " /proc/locks; then
    say proof "$(head -n 1 "$lock")"
    say proof_age_s "$(($(date +%s) - $(stat -c %Y "$lock")))"
fi
say container "$(systemd-detect-virt --container 2>/dev/null)"
