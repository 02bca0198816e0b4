# make demo     a first model: train, export, score, generate
# make test     the whole test suite on the first backend, then the tests that compute on a backend on the others
# make check    format, lint, types
# make clients  scores of exported files in the programs that read them, which it installs: docs/how-to/targets.md
# make bench    training speed compared with PyTorch and stock Keras
# make torture  kill training runs, make disks fail, damage files, load a server: docs/explanation/reliability.md; about three hours
# make parallel  training on 1, 2 and 4 devices and in parts, compared window by window
# make docs     write the generated pages of docs/reference and the drawings, and build the documentation in site/
# make commands  run the commands of the how-to pages with the demo's model, and write their output into the pages
# make tutorials  run the tutorials, show which outputs have changed, write pages and notebooks; about five minutes
# make dist     wheel and sdist in dist/
# make release-check   build and check both, install the wheel for each Python, and score text with it
#
# JOBS is the number of test processes, BACKENDS the backends to test, PYTHON the interpreter for .venv, and PYTHONS those
# of make release-check.

PYTHON ?= python3
BACKENDS ?= jax tensorflow torch
JOBS ?= 2
PYTHONS ?= python3.11 python3.12 python3.13
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test clients check format bench parallel torture docs commands tutorials dist release-check clean

demo: .venv/demo
	@echo "== Train on the language reference that is part of Python"
	$(BIN)/keraslm train --backend=jax --run runs/demo --overwrite
	@echo "== Export to one ONNX file, verified against Keras"
	$(BIN)/keraslm export model.onnx
	@echo "== Score: surprisal of each word, in bits"
	echo "the value of the expression is returned ." | $(BIN)/keraslm score model.onnx
	@echo "== Score a file: perplexity"
	$(BIN)/keraslm score model.onnx LICENSE --level summary
	@echo "== Generate"
	$(BIN)/keraslm generate model.onnx "the statement" --temperature 0.7 --seed 1

test: .venv/dev
	@only=; for backend in $(BACKENDS); do \
	  echo "== $$backend $$only"; \
	  KERAS_BACKEND=$$backend OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $$only || exit 1; \
	  only=--backend-only; \
	done

clients: .venv/dev
	KERASLM_CLIENTS=.venv/clients OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/clients

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev
	$(BIN)/python benchmarks/train_speed.py

parallel: .venv/dev
	@for backend in $(BACKENDS); do \
	  KERASLM_PARALLEL=all KERAS_BACKEND=$$backend $(BIN)/python -m pytest tests/training/test_parallel.py || exit 1; \
	done

torture: .venv/dev
	@for backend in $(BACKENDS); do \
	  $(BIN)/python tests/torture/kill_training.py --backend $$backend --kills 120 || exit 1; \
	done
	$(BIN)/python tests/torture/kill_training.py --backend torch --kills 50 --processes 2
	$(BIN)/python tests/torture/damaged_checkpoints.py --count 4000
	$(BIN)/python tests/torture/faulty_training.py
	$(BIN)/python tests/torture/write_faults.py
	$(BIN)/python tests/torture/model_files.py --count 10000
	$(BIN)/python tests/torture/serve_load.py

docs: .venv/dev
	$(BIN)/python docs/write_reference.py
	$(BIN)/python docs/draw_architecture.py
	$(BIN)/python docs/build_site.py

commands: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python docs/run_commands.py

tutorials: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python docs/write_tutorials.py --run
	$(BIN)/python docs/draw_tutorials.py

dist: .venv/dev
	$(BIN)/python -m build --outdir dist

release-check: .venv/dev
	rm -rf dist build/release
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m venv build/release/tools
	build/release/tools/bin/python -m pip install --quiet --disable-pip-version-check twine
	build/release/tools/bin/twine check --strict dist/*
	$(BIN)/python -c 'import pathlib; from tests.support import fake_model; fake_model.write(pathlib.Path("build/release/model.onnx"))'
	@for python in $(PYTHONS); do \
	  if ! $$python --version 2>/dev/null; then echo "$$python is not here: skipped"; continue; fi; \
	  $$python -m venv build/release/$$python && \
	  build/release/$$python/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl && \
	  echo "the cat" | build/release/$$python/bin/keraslm score build/release/model.onnx --level summary --json || exit 1; \
	done

clean:
	rm -rf .venv build dist site runs model.onnx

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "keraslm needs Python 3.11 or newer; choose one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/demo: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --editable ".[jax,export,plot]"
	@touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --editable ".[jax,tensorflow,torch,export,hf,plot,tensorboard,zstd,sentencepiece,cluster,wer,serve,docs,dev]"
	@touch $@
