PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt --editable

.PHONY: demo test test-all test-pythons lint audit faults rehearse described fuzz docs pictures bench dev clean

demo: $(VENV)/.installed
	$(BIN)/tamis demo

# Two at once, for two cores, each file whole and in the order of pyproject.toml; but what times a command has the
# machine to itself.
AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/alone

test: lint $(VENV)/.browser
	$(BIN)/pytest tests/alone
	$(BIN)/pytest $(AT_ONCE)

test-all: lint $(VENV)/.browser
	$(BIN)/pytest tests/alone
	$(BIN)/pytest $(AT_ONCE) -m "slow or not slow"

# PYTHONS="3.11 3.13" chooses; see tests/pythons.sh.
test-pythons:
	./tests/pythons.sh

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known faults of the dependencies; it needs the network, and says so where there is none.
audit:
	./tests/audit.sh

# Real processes that are killed, frozen, and left without disk or database; docs/reliability.md lists them.
faults: $(VENV)/.installed-dev
	$(BIN)/pytest tests/faults -m "slow or not slow"

# The containers, started, killed, taken down and restored; docs/deployment.md has what it says. COMPOSE_FILE as usual.
rehearse: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" ./tests/rehearse/run.sh

# DESCRIBED_EXAMPLES says how many requests an operation, 200 unless it is set.
described: $(VENV)/.installed-dev
	$(BIN)/pytest -s --timeout=0 tests/fuzz/described.py

# FUZZ_SECONDS says how long, 600 unless it is set.
fuzz: $(VENV)/.installed-dev
	$(BIN)/pytest -s -W ignore --timeout=0 tests/fuzz/fuzzing.py

# The site of docs/, in site/: it asks nothing of any network, nor does making it.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Pictures of every page, from a server of their own: pictures/, and the one in the README.
pictures: $(VENV)/.browser
	$(BIN)/pytest -q -s --timeout=0 tests/browser/pictures.py

bench: $(VENV)/.installed-dev
	$(BIN)/tamis bench scan

dev: $(VENV)/.installed-dev
	$(BIN)/tamis serve --reload

clean:
	rm -rf $(VENV) .audit .pythons .rehearse demo-out dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) '.[cpu]'
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) '.[dev]'
	touch $(VENV)/.installed $@

# The browser tests drive a real Chromium, and some tests read Debian's Fashion-MNIST.
$(VENV)/.browser: $(VENV)/.installed-dev
	./tests/system-packages.sh
	touch $@
