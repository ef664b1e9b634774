#!/usr/bin/env bash
# Build the wheel and the sdist, install them as people do (pipx, uv) into an empty home, run
# `sdwatch demo` from there, and uninstall: packaging/check_install.sh [PYTHON]. Takes about a minute.
set -euo pipefail
python=$(command -v "${1:-python3}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
unset PYTHONPATH

"$python" -m venv "$work/build"
"$work/build/bin/pip" install hatchling pipx uv
"$work/build/bin/python" -m hatchling build -d "$work/dist" >/dev/null
wheel=$(echo "$work"/dist/*.whl) sdist=$(echo "$work"/dist/*.tar.gz)

# Where pipx and uv put things in a home, without its own: their caches stay those of this machine.
home=$work/home
export PIPX_HOME="$home/.local/share/pipx" PIPX_BIN_DIR="$home/.local/bin"
export PIPX_DEFAULT_PYTHON="$python" UV_PYTHON="$python"
export UV_TOOL_DIR="$home/.local/share/uv/tools" UV_TOOL_BIN_DIR="$home/.local/bin"
sdwatch() { HOME="$home" "$home/.local/bin/sdwatch" "$@"; }
is_uninstalled() { [ ! -e "$home/.local/bin/sdwatch" ]; }

"$work/build/bin/pipx" install --quiet "$wheel"
cd "$work" # nothing of it comes from the repository
sdwatch --version
sdwatch init spool >/dev/null
sdwatch check --config spool/sdwatch.yaml >/dev/null
sdwatch check spool/examples/castle.yaml >/dev/null
sdwatch schema >schema.json
mkdir demo && cd demo
HOME="$home" timeout 120 "$home/.local/bin/sdwatch" demo
cd ..
"$work/build/bin/pipx" uninstall sdwatch >/dev/null
is_uninstalled

"$work/build/bin/uv" tool install --quiet "$sdist"
sdwatch --version
sdwatch check --config spool/sdwatch.yaml >/dev/null
"$work/build/bin/uv" tool uninstall --quiet sdwatch
is_uninstalled

# The sdist makes the same package: each file that the wheel installed is in it.
"$work/build/bin/pip" wheel --no-deps --no-build-isolation --wheel-dir "$work/again" "$sdist"
listed() { "$work/build/bin/python" -m zipfile -l "$1" | awk 'NR > 1 { print $1 }' | sort; }
diff <(listed "$wheel") <(listed "$work"/again/*.whl)

echo "$(basename "$wheel") by pipx, $(basename "$sdist") by uv: installed, run and uninstalled"
