# make demo     solve bundled tasks in context, by training, and with the router deciding
# make test     lint, types and every test, most of them in two processes side by side
# make faults   break the stores on purpose, under an hour; figures go to docs/reliability.md
# make bench    measure throughput beside other ways to train, some hours with nothing else running, into
#               docs/performance.md; make bench-gpu the same at larger sizes on a GPU
# make mlflow   install MLflow apart, in .venv-mlflow, as make test does to read traces back from a real server
# make lint     ruff and mypy        make fmt     format in place        make clean     remove what make made
#
# All need Python 3.11 or later and nothing else. PYTHON=... chooses the interpreter. pip takes torch from wherever it is
# set up to look: the pinned version fits the ordinary build and the smaller one for CPUs alike.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=

# The pins hold for what pip needs to build the project, too; older versions of pip read the first name, newer the second.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt

.PHONY: help demo test faults bench bench-gpu mlflow lint fmt clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^# make/s/^# //p' Makefile

demo: $(VENV)/.installed
	@$(BIN)/ttt-router demo

test: lint mlflow
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile -m "not alone"
	$(BIN)/pytest -q -m alone tests

faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.throughput --size cpu --device cpu --results runs/throughput-cpu.jsonl --out docs/performance.md

bench-gpu: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.throughput --size gpu --device cuda --results runs/throughput-cuda.jsonl --out docs/performance.md
	$(BIN)/python -m benchmarks.throughput --size gpu --device cuda --shape llama-3.2-1b --section compare --n-tasks 16 --results runs/throughput-cuda-1b.jsonl --out docs/performance.md

mlflow: $(VENV)-mlflow/.installed

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(VENV)-mlflow build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@PYTHON="$(PYTHON)" sh .ci/make-venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.created constraints.txt
	@echo "Installing torch (up to a few minutes, once) ..."
	@$(PIP_INSTALL) torch==2.13.0
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	@echo "Installing ttt-router and what it needs ..."
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	@echo "Installing what the benchmarks compare with ..."
	@$(PIP_INSTALL) -e '.[dev,bench]'
	@touch $@

$(VENV)-mlflow/.installed: constraints-mlflow.txt  # what it depends on and what we pin do not agree
	@PYTHON="$(PYTHON)" sh .ci/make-venv $(VENV)-mlflow
	@echo "Installing MLflow ..."
	@PIP_CONSTRAINT=constraints-mlflow.txt $(VENV)-mlflow/bin/python -m pip install --quiet -c constraints-mlflow.txt mlflow
	@touch $@
