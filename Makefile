# Everything a fresh machine needs: `make demo`, `make test`. Without make, see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo test test-all browser lint format results usecases bench bench-sft clean

demo: $(INSTALLED)
	$(BIN)/burnish demo

test: $(INSTALLED) lint
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: $(INSTALLED) lint
	HYPOTHESIS_PROFILE=new $(BIN)/python -m pytest -n auto

# A Chromium for the tests of the report and of the page, by apt where there is one; without it they are skipped, and say so.
browser: SUDO = $(if $(filter 0,$(shell id -u)),,sudo -n)
browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  { command -v apt-get >/dev/null && $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends chromium; } || \
	  echo "No Chromium could be installed here; put one on the PATH, or let its tests be skipped."

lint: $(INSTALLED)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/pyright

format: $(INSTALLED)
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

# Makes every figure of docs/results.md again; needs the public data sets (burnish data get NAME).
results: $(INSTALLED)
	$(BIN)/python benchmarks/results.py

# Carries out every use case that has no figures yet and writes their pages and plots; nothing is downloaded.
usecases: $(INSTALLED)
	$(BIN)/python benchmarks/usecases/make.py

# Measures every row of docs/performance.md, peers in environments of their own, and writes the page; more than an hour on two quiet cores.
bench: $(INSTALLED)
	$(BIN)/python benchmarks/speed/run.py

# The first two rows alone: LoRA beside TRL, and as a share of what the processor can do.
bench-sft: $(INSTALLED)
	$(BIN)/python benchmarks/speed/run.py sft peak

# torch first and pinned: an open range would take a build with several GB of CUDA packages.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" || \
	  { echo "burnish needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs,dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) runs/demo dist build
