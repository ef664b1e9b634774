# Needs `just` (https://just.systems) and the virtual environment: python3 -m venv .venv, then
# .venv/bin/python -m pip install -e ".[dev]"

python := if os_family() == "windows" { ".venv\\Scripts\\python.exe" } else { ".venv/bin/python" }

set windows-shell := ["powershell.exe", "-NoLogo", "-Command"]

# List the recipes
default:
    @just --list

# All tests, about eight minutes on two cores
test *args:
    {{python}} -m pytest {{args}}

# The decisions: no process, no socket
fast *args:
    {{python}} -m pytest -m "not slow" tests/policy {{args}}

# Twenty times as many generated cases
thorough $SDWATCH_EXAMPLES="20":
    {{python}} -m pytest --timeout 1200 tests/policy tests/lane tests/test_histories.py tests/webui/test_tail_capture.py

# ruff, and mypy for Linux and for Windows
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .
    {{python}} -m mypy
    {{python}} -m mypy --platform win32 --cache-dir .mypy_cache/win32

# Which lines of sdwatch/policy the fast tests run
coverage:
    {{python}} -m coverage run -m pytest -n 0 -m "not slow" tests/policy
    {{python}} -m coverage report

# Pin the packages of a cluster by hash, for every system (needs `uv`, https://docs.astral.sh/uv)
pins:
    printf 'nats-py\nnats-server-bin\n' | uv pip compile --universal --generate-hashes --python-version 3.11 --custom-compile-command "just pins" --no-annotate --output-file packaging/cluster.txt -

# Print the pages that are made from the code
docs:
    {{python}} -m docs.make_cli_page
    {{python}} -m docs.make_reference_pages
    {{python}} -m tests.failures_page

# Record the demo and a WHY.txt for the README, a minute
picture:
    {{python}} -m docs.make_picture
