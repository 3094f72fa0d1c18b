#!/bin/sh
# Collects what docs/verify-on-mac.md asks for into kina-verify.tar.gz, made anonymous. Needs Apple's `container`, no root.
set -eu

name=kina-verify
command=${CONTAINER:-container}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT INT TERM

user=$(id -un)
host=$(hostname)
short=${host%%.*}

# User, host, home, addresses, values of environment variables, and the names of all containers but ours.
others() {
    "$command" list --all --quiet 2>/dev/null | grep -vx "$name" || true
}

escape() {
    printf '%s' "$1" | sed 's/[][\\/.*^$]/\\&/g'
}

{
    printf 's/%s/HOME/g\n' "$(escape "$HOME")"
    printf 's/%s/HOME/g\n' "$(escape "$HOME" | sed 's/\\\//\\\\\\\//g')"
    others | while read -r other; do
        printf 's/%s/CONTAINER/g\n' "$(escape "$other")"
    done
    printf 's/%s/HOST/g\n' "$(escape "$host")"
    [ "${#short}" -lt 3 ] || printf 's/%s/HOST/g\n' "$(escape "$short")"
    [ "${#user}" -lt 3 ] || printf 's/%s/USER/g\n' "$(escape "$user")"
    # "NAME=value" as the command writes the environment.
    printf '%s\n' 's/"\([A-Za-z_][A-Za-z0-9_]*\)=[^"]*"/"\1=VALUE"/g'
    printf '%s\n' 's/[0-9]\{1,3\}\.[0-9]\{1,3\}\.[0-9]\{1,3\}\.[0-9]\{1,3\}/ADDRESS/g'
    printf '%s\n' 's/[0-9a-fA-F]\{2\}\(:[0-9a-fA-F]\{2\}\)\{5\}/MAC/g'
} >"$out.sed"
trap 'rm -rf "$out" "$out.sed"' EXIT INT TERM

# Runs a command and keeps what it says, made anonymous, with its exit status.
keep() {
    file=$1
    shift
    status=0
    "$@" >"$out.raw" 2>"$out.err" || status=$?
    sed -f "$out.sed" "$out.raw" >"$out/$file"
    sed -f "$out.sed" "$out.err" >"$out/$file.stderr"
    [ -s "$out/$file.stderr" ] || rm "$out/$file.stderr"
    echo "$status $file" >>"$out/exit-status.txt"
    rm -f "$out.raw" "$out.err"
}

folder() {
    root=$("$command" system status --format json 2>/dev/null | sed -n 's/.*"appRoot" *: *"\([^"]*\)".*/\1/p' | sed 's/\\//g')
    echo "${root:-$HOME/Library/Application Support/com.apple.container}"
}

cores() {
    sysctl hw.nperflevels hw.physicalcpu hw.activecpu hw.memsize hw.model vm.swapusage
    for n in 0 1 2; do
        sysctl "hw.perflevel$n.name" "hw.perflevel$n.physicalcpu" 2>/dev/null || true
    done
}

echo "Starting a container named $name …"
"$command" rm --force "$name" >/dev/null 2>&1 || true
"$command" run --detach --name "$name" docker.io/library/alpine:latest sleep 600 >/dev/null
bundle="$(folder)/containers/$name"
keep times-first-start.txt stat -f '%Fm %z %N' "$bundle"/*

keep version.txt "$command" --version
keep system-version.json "$command" system version --format json
keep system-status.json "$command" system status --format json
keep inspect.json "$command" inspect "$name"
keep stats.json "$command" stats --no-stream --format json "$name"
# The whole list, for its shape: other containers' labels may say more than their names, so ours alone is kept.
keep list.json "$command" inspect "$name"
keep unknown-id.json "$command" inspect no-such-container
keep usage-error.txt "$command" stats --no-such-option
keep guest.txt "$command" exec "$name" sh -c 'uname -a; ls -d /proc/pressure /sys/kernel/btf/vmlinux /proc/config.gz; ls /sys/fs/cgroup'
keep ps.txt sh -c 'ps -axo pid,ppid,user,rss,comm | grep -E "container|com.apple.Virtualization" | grep -v grep'
keep lsof.txt sh -c "lsof -F pcn 2>/dev/null | grep -E '^p|^c|/$name/' | grep -B2 '/$name/'"
keep sysctl.txt cores
keep clusters.txt sh -c "ioreg -p IODeviceTree -l -w 0 | grep -E '\\+-o cpu[0-9]|\"cluster-type\"'"
keep thermal.txt notifyutil -g com.apple.system.thermalpressurelevel
keep macos.txt sw_vers

echo "Stopping and starting it again …"
"$command" stop "$name" >/dev/null
keep times-stopped.txt stat -f '%Fm %z %N' "$bundle"/*
sleep 3
"$command" start "$name" >/dev/null
keep times-second-start.txt stat -f '%Fm %z %N' "$bundle"/*
keep boot-log.txt cat "$bundle/vminitd.log"
{
    echo "CRLF lines: $(tr '\r' '~' <"$bundle/vminitd.log" | grep -c '~$' || true)"
    echo "all lines: $(wc -l <"$bundle/vminitd.log")"
    echo "FOREGROUND lines: $(grep -c FOREGROUND "$bundle/vminitd.log" || true)"
} >"$out/checks.txt"
"$command" stop "$name" >/dev/null
"$command" rm "$name" >/dev/null

tar -czf "$name.tar.gz" -C "$out" .
echo "Done: $name.tar.gz. Look through it before you send it."
