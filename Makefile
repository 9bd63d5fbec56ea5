# The one front door. Everything sets itself up; nothing is installed outside .venv,
# except that `make test` installs system packages when it runs as root on Debian.
PYTHON ?= python3
BIN := .venv/bin
# uv is faster; pip does the same.
INSTALL := $(shell command -v uv >/dev/null 2>&1 && echo "uv pip install --quiet --python $(BIN)/python" || echo "$(BIN)/python -m pip install --quiet --disable-pip-version-check")

.PHONY: setup run test check storm bench bench-read bench-send bench-outbox bench-pages lock format docs pictures
.DEFAULT_GOAL := run

setup: .venv/ready

run: .venv/ready
	@KEYRELAY_DATA_DIR=$${KEYRELAY_DATA_DIR:-.keyrelay} $(BIN)/keyrelay serve

test: .venv/ready-dev
	@scripts/system-packages test
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

# The outbox storm of `make test`, five times as long.
storm: .venv/ready-dev
	@scripts/system-packages test
	STORM_MESSAGES=$${STORM_MESSAGES:-10000} STORM_KILLS=$${STORM_KILLS:-30} $(BIN)/python -m pytest -n 0 -s tests/faults/test_outbox_storm.py $(ARGS)

check: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: bench-read bench-send bench-outbox bench-pages

bench-read: .venv/ready-dev
	@scripts/system-packages bench
	$(BIN)/python bench/read.py $(ARGS)

bench-send: .venv/ready-dev
	@scripts/system-packages bench
	$(BIN)/python bench/send.py $(ARGS)

bench-outbox: .venv/ready-dev
	@scripts/system-packages bench
	$(BIN)/python bench/outbox.py $(ARGS)

bench-pages: .venv/ready-dev
	@scripts/system-packages bench
	$(BIN)/python bench/portal.py $(ARGS)

# --- For developers ------------------------------------------------------------------------------------------

format: .venv/ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/ready-dev
	$(BIN)/python scripts/write-reference

# The README's pictures, by the test that walks through the demo in a browser.
pictures: .venv/ready-dev
	@scripts/system-packages test
	MAKE_PICTURES=1 $(BIN)/python -m pytest -q -n 0 tests/portal/test_demo_walk.py

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade
lock:
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) requirements/build.in -o requirements/build.txt
	$(COMPILE) requirements/dev.in -c requirements/run.txt -o requirements/dev.txt

# --- Set-up --------------------------------------------------------------------------------------------------

.venv/ready: requirements/run.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("keyrelay needs Python 3.11 or newer; name one with PYTHON=...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || { echo "Setting up .venv (once)..."; $(PYTHON) -m venv .venv; }
	@$(INSTALL) --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/ready-dev: .venv/ready requirements/dev.txt
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@
