# Windtunnel on a laptop. `make help` lists what there is; the first call of any target sets everything up in .venv.
# PYTHON=/path/to/python3.11 names another interpreter; ARGS=... is handed to the command behind a target.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.windtunnel-installed
TEST_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test test-kubernetes lint bench clean

help: ## show this list
	@echo "make TARGET [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## install everything into .venv (the other targets do it by themselves)

demo: $(STAMP) ## the whole life of one model; ARGS=--exit ends by itself, SOURCE=path uses your data
	@$(BIN)/windtunnel demo $(if $(SOURCE),--source "$(SOURCE)") $(ARGS)

up: $(STAMP) ## start Airflow, MLflow and the gateway in the background
	@$(BIN)/windtunnel up $(ARGS)

down: ## stop them
	@if [ -x $(BIN)/windtunnel ]; then $(BIN)/windtunnel down $(ARGS); else echo "nothing is installed, so nothing runs"; fi

test: $(STAMP) ## all tests, the end-to-end ones included; TEST_PROCESSES=N runs N files at a time
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-kubernetes: $(STAMP) ## steps in real pods: of the cluster that KUBECONFIG names, whose node is this machine
	@WINDTUNNEL_TEST_KUBERNETES=1 $(BIN)/python -m pytest tests/kubernetes $(ARGS)

lint: $(STAMP) ## style, types and import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(STAMP) ## all benchmarks; writes the README's table
	@$(BIN)/python -m benchmarks all $(or $(ARGS),--write-readme)

clean: down ## stop the system and remove everything that it wrote (.windtunnel)
	@rm -rf .windtunnel && echo "removed .windtunnel"

# Set-up: again only when what it depends on changes.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "set-up: there is no $(PYTHON)"; \
	  echo "  what to do: install Python 3.11 (apt install python3.11 python3.11-venv, dnf install python3.11,"; \
	  echo "  brew install python@3.11), or name one: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m include.embedded.install $(VENV)
	@touch $(STAMP)
