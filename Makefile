# flpoc: two commands to begin with: `make demo` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
# processes that run tests side by side: most tests wait for processes of their own
TESTERS ?= 3
SOURCES := core/src $(wildcard plugins/*/src)
PROJECTS := $(wildcard core/pyproject.toml plugins/*/pyproject.toml)
PEERS := $(patsubst tests/bench/peer-%.txt,%,$(wildcard tests/bench/peer-*.txt))
# what builds packages; at hand, it need not be fetched for each of them (pyhocon comes as source)
BUILDERS := hatchling editables setuptools wheel

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint rows bench chaos docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Train on two sites of this machine: prepare, start, submit, watch, download, stop
	@PATH="$(abspath $(VENV))/bin:$$PATH" docs/examples/digits/demo.sh results

test: lint ## Check and test everything
	@base=$$(mktemp -d /tmp/f.XXXX) && { \
	    $(PY) -m pytest -n $(TESTERS) --dist loadfile --basetemp $$base/t $(ARGS); status=$$?; \
	    rm -rf $$base; exit $$status; }

lint: $(VENV)/.dev ## Check style and types
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy $(SOURCES)

rows: $(VENV)/.dev ## Cause every bad input of the catalogue and print what came of it
	@$(PY) tests/catalogue/report.py $(ARGS)

bench: $(VENV)/.dev $(PEER:%=.venv-%/.ready) ## Measure flpoc on this machine; PEER="nvflare flwr" measures these, too; ARGS="..." are passed on
	@$(PY) tests/bench/run.py $(if $(PEER),--peer $(PEER)) $(ARGS)

chaos: $(VENV)/.dev ## Kill processes at random instants and compare the models; ARGS="..." are passed on
	@$(PY) tests/chaos/run.py $(ARGS)

docs: $(VENV)/.dev ## Write the reference pages anew from the source
	@$(PY) docs/reference/generate.py

clean: ## Remove the environment and what tools have left; results stay
	@rm -rf $(VENV) $(foreach peer,$(PEERS),.venv-$(peer)) build dist .pytest_cache .mypy_cache .ruff_cache
	@find . -name .git -prune -o \( -name __pycache__ -o -name .mypy_cache -o -name '*.egg-info' \) -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "flpoc needs Python 3.11 or newer; $(PYTHON) is not. Name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	    echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# what the demo needs: core, the local launcher, and what its example imports
$(VENV)/.demo: $(PY) $(PROJECTS) docs/examples/digits/requirements.txt
	@echo "Installing flpoc into $(VENV) ..."
	@$(PY) -m pip install --quiet --no-compile $(BUILDERS)
	@$(PY) -m pip install --quiet --no-build-isolation -e ./core -e ./plugins/builtin_local -r docs/examples/digits/requirements.txt
	@touch $@

# everything of this repository, and the tools
$(VENV)/.dev: $(VENV)/.demo requirements-dev.txt
	@echo "Installing plugins and tools into $(VENV) ..."
	@$(PY) -m pip install --quiet --no-build-isolation -r requirements-dev.txt
	@touch $@

# a comparable system has an environment of its own
.venv-%/.ready: tests/bench/peer-%.txt
	@echo "Installing $* into $(@D) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet -r $<
	@touch $@
