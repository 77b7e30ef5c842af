# SPDX-License-Identifier: Apache-2.0
# What the three stories share; each `run` sources it. A story is told in a folder of its own, which is gone afterwards
# (STORY_FOLDER names one that stays). BIN names the aether to use: else that of this tree, else that of $PATH.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
ROOT=$(cd "$HERE/../../.." && pwd)
BIN=${BIN:-$ROOT/bin/aether}
[ -x "$BIN" ] || BIN=$(command -v aether) || { echo "There is no aether: run \`make build\`, or name it with BIN=" >&2; exit 2; }
BIN=$(realpath "$BIN")
export BIN PATH="$(dirname "$BIN"):$PATH"

FOLDER=${STORY_FOLDER:-$(mktemp -d /tmp/story.XXXXXX)}
mkdir -p "$FOLDER"
unset AETHER_URL AETHER_TOKEN AETHER_CLOCK
export AETHER_RUNTIME_DIR="$FOLDER/run" PYTHONPATH="$ROOT/sdk/python" PYTHONDONTWRITEBYTECODE=1
STARTED=()  # what the story started beside Aether, to be ended with it

leave() {
    local code=$?
    trap - EXIT
    (cd "$FOLDER" && aether down) >/dev/null 2>&1 || true
    for pid in "${STARTED[@]}"; do kill "$pid" 2>/dev/null || true; done
    [ $code = 0 ] || [ $code = 77 ] || { echo "✗ the story ends early (exit code $code). Aether's log:"; tail -n 40 "$FOLDER"/run/*/aether.log; } >&2
    [ -n "${STORY_FOLDER:-}" ] || rm -rf "$FOLDER"
    exit $code
}
trap leave EXIT

tell() { printf '\n%s\n' "$*"; }

# Shows a command as a person would type it, and runs it.
types() {
    echo "\$ $*"
    eval "$*"
}

# The same for what goes on beside the story.
types_beside() {
    echo "\$ $* &"
    eval "$* &"
    STARTED+=($!)
}

# holds "What is so" COMMAND: the story goes on only if it is.
holds() {
    local what=$1
    shift
    if eval "$*" >"$FOLDER/held" 2>&1; then echo "✓ $what"; return; fi
    echo "✗ $what: $*" >&2
    cat "$FOLDER/held" >&2
    return 1
}

# Until COMMAND succeeds, for a minute.
until_so() {
    for _ in $(seq 1200); do
        if eval "$*" >/dev/null 2>&1; then return; fi
        sleep 0.05
    done
    echo "✗ not within a minute: $*" >&2
    return 1
}

# `$OFFLINE COMMAND` runs it where there is no network at all.
if [ "$(id -u)" = 0 ]; then OFFLINE="unshare -n"; else OFFLINE="unshare -r -n"; fi
needs_a_network_of_its_own() {
    $OFFLINE true 2>/dev/null || { echo "This story needs a network namespace: root, or user namespaces." >&2; exit 77; }
}

# Whether the process is there: one that nobody has waited for yet is not.
runs() { [ -e "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# None that the kernel gives to clients: one of these could be taken before it is used.
free_port() {
    python3 - <<'PY'
import random, socket

while True:
    port = random.randrange(20000, 32768)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
PY
}

status_of() { aether -o json jobs show "$1" | sed 's/.*"status":"\([a-z]*\)".*/\1/'; }
becomes() { until_so "[ \"\$(status_of $1)\" = $2 ]"; }
# The id in what `jobs submit` says.
id_in() { cut -d' ' -f1; }
lines() { wc -l < "$1"; }

cp "$HERE"/*.py "$HERE"/*.yaml "$FOLDER"
cd "$FOLDER"
