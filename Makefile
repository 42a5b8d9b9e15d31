# Everything runs in an environment of its own, .venv, made on first use.
#   make PYTHON=python3.13 demo          another Python
#   make TORCH_INDEX= demo               pip's own choice of torch: with CUDA on Linux

PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
JOBS ?= 2

BIN := .venv/bin
READY := .venv/.ready
TORCH_FROM := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# pytest runs JOBS processes: with more than one thread each, they would only get in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal

GALLERY := vanishing exploding overfitting

.DEFAULT_GOAL := help
.PHONY: help demo test slow zoo check gallery moving twin format clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## train a network that learns and one that does not, and draw why
	@$(BIN)/nnvis demo

test: $(READY) ## the whole test suite
	@$(PYTEST)

slow: $(READY) ## the tests that take minutes: accuracies that the shipped configs promise
	@$(PYTEST) -m slow

zoo: $(READY) ## the tests that train many architectures of another package, watched and not
	@$(PYTEST) -m zoo

check: $(READY) ## what CI runs: format, lint, types, import rules, tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(PYTEST)

gallery: $(READY) ## the pictures of three studies that the README shows, made anew: a few minutes
	@for study in $(GALLERY); do $(BIN)/nnvis compare $$study --jobs $(JOBS) || exit; done
	@cp runs/vanishing/figures/gradient_flow.png .github/study_vanishing.png
	@cp runs/exploding/figures/signal_propagation.png .github/study_exploding.png
	@cp runs/overfitting/figures/overfitting.png .github/study_overfitting.png

moving: $(READY) ## the moving picture that the README shows, made anew
	@run=$$($(BIN)/nnvis train moons_mlp --quiet) && $(BIN)/nnvis animate $$run --out .github/training.gif

twin: $(READY) ## a sick run beside its fixed twin, the picture that the README shows: two minutes
	@run=$$($(BIN)/nnvis train vanishing_sigmoid training.threads=1 | tail -n 1) && \
		$(BIN)/nnvis fix $$run --jobs $(JOBS) && \
		cp runs/vanishing-sigmoid-$$(basename $$run)-fix/figures/twin.png .github/twin.png

format: $(READY) ## put the code into shape
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove what make made; runs/ stays
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find nnvis tests -name __pycache__ -type d -exec rm -rf {} +

# torch comes first and alone: its CPU build is 0.2 GB, the CUDA build that pip would take by itself on Linux is 3 GB.
# Where TORCH_INDEX cannot be reached, pip goes on with what it finds elsewhere.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nnvis needs Python 3.11 or newer as $(PYTHON); name another: make PYTHON=python3.13 …"; exit 1; }
	@echo "Setting up .venv (once, a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --retries 1 --timeout 15 --no-deps -c constraints.txt $(TORCH_FROM) torch
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@
