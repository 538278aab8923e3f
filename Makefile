PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
# Processes of their own, a file of tests in one of them: fixtures of a file are made once.
TOGETHER = -n 2 --dist loadfile

.PHONY: demo test test-slow lint audit clean

# torch and torchvision first and by exact version: every later package then finds them present.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes, about 6 GB with CUDA wheels)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt torch torchvision
	@$(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(INSTALLED)

demo: $(INSTALLED)
	@$(BIN)/discl run --preset digits --output runs/demo

test: $(INSTALLED)
	@$(BIN)/pytest $(TOGETHER) --durations=5

test-slow: $(INSTALLED)
	@$(BIN)/pytest $(TOGETHER) -m slow --durations=5 --timeout=600

lint: $(INSTALLED)
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

# Needs PyPI's advisories; mirrors mostly have none, and then nothing is found of anything.
audit: $(INSTALLED)
	@$(BIN)/pip-audit --requirement constraints.txt --disable-pip --no-deps

clean:
	rm -rf $(VENV) runs build *.egg-info
