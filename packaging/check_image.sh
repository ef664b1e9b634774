#!/usr/bin/env bash
# Run the image on a simulator of this machine as compose.yaml does, and stop it by the file `stop` and
# by SIGTERM in the middle of a call. No job is lost. By hand, as root, where there is an image:
#   packaging/check_image.sh IMAGE [ENGINE [OPTION...]]     the engine: docker (as usual) or podman
# PYTHON names a Python with this sdwatch, for the simulator; usually that of .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
shift
engine=("${@:-docker}")
python=${PYTHON:-$PWD/.venv/bin/python}
port=${PORT:-17861}
work=$(mktemp -d)
simulator=""
end() {
    "${engine[@]}" rm --force sdwatch-check >/dev/null 2>&1 || true
    [ -z "$simulator" ] || kill "$simulator"
    rm -rf "$work"
}
trap end EXIT

mkdir "$work/spool" "$work/state"
sed "s|url: .*|url: http://127.0.0.1:$port|" packaging/docker/sdwatch.yaml >"$work/sdwatch.yaml"
chown -R 1000:1000 "$work"
chmod 755 "$work"
"$python" -m sdwatch.simulator --port "$port" --step-time 0.2 --boot-time 0 --load-time 0 \
    --switch-time 0 --state "$work/simulator.json" >"$work/simulator.log" 2>&1 &
simulator=$!

waits() { # until a command succeeds: a description, and the command
    for _ in $(seq 300); do
        "${@:2}" && return
        sleep 1
    done
    echo "not within 300 s: $1" >&2
    "${engine[@]}" logs sdwatch-check >&2 || true
    return 1
}
start() {
    "${engine[@]}" rm --force sdwatch-check >/dev/null 2>&1 || true
    "${engine[@]}" run --detach --name sdwatch-check --network host --user 1000:1000 --init \
        --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
        --volume "$work/sdwatch.yaml:/config/sdwatch.yaml:ro" \
        --volume "$work/spool:/spool" --volume "$work/state:/state" \
        "${run_options[@]}" "$image" >/dev/null
    waits "a monitor runs" is_healthy
}
run_options=()
[ -z "${RUN_OPTIONS:-}" ] || read -ra run_options <<<"$RUN_OPTIONS"
is_healthy() {
    "${engine[@]}" exec sdwatch-check sh -c \
        "sdwatch status --json --config /config/sdwatch.yaml | grep -q '\"running\": true'"
}
drop() { # a job: its name, and how many steps a call has
    printf 'prompt: a castle\nwidth: 64\nheight: 64\nsteps: %s\nn_iter: 2\n' "$2" >"$work/$1"
    chown 1000:1000 "$work/$1"
    mv "$work/$1" "$work/spool/inbox/$1"
}
has() { compgen -G "$work/spool/$1" >/dev/null; }
is_calling() { grep -qs call_started "$work"/spool/working/*/*/journal.jsonl; }
ended_with() { [ "$("${engine[@]}" wait sdwatch-check)" = "$1" ]; }

start
drop castle.yaml 5
waits "a job is done" has 'done/*castle*'
[ "$(stat -c %u "$work"/spool/done/*castle*)" = 1000 ]
touch "$work/spool/stop"
ended_with 0
echo "a job was done, and the file stop ended the container with 0"

rm "$work/spool/stop"
start
drop tower.yaml 50 # a call of ten seconds
waits "a call is under way" is_calling
"${engine[@]}" stop --time 130 sdwatch-check >/dev/null
ended_with 0
has 'working/*/*tower*'
grep -qs call_finished "$work"/spool/working/*/*/journal.jsonl
echo "SIGTERM in the middle of a call: it was finished, and the container ended with 0"

start
waits "its job is done" has 'done/*tower*'
[ "$(grep -c call_finished "$work"/spool/done/*tower*/journal.jsonl)" = 2 ]
[ -z "$(ls "$work/spool/failed")" ]
echo "the next container did the rest of that job: no call was sent twice"
