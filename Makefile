# `make serve` runs a generated service, `make test` all tests, `make soak` long versions of them.
# Requires only Python 3.11 or newer: uv is installed into .tools if it is not on the PATH.

PYTHON ?= python3
PORT ?= 8000
BASE ?= HEAD
ARGS ?=
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := $(UV) run --quiet
TEMPLATE := {{cookiecutter.project_slug}}
DEMO := build/streaming-service
CODE := .ci docs hooks tests $(wildcard benchmarks)

# A cache in the template's folder would be copied into every generated project.
export RUFF_CACHE_DIR := build/cache/ruff
export MYPY_CACHE_DIR := build/cache/mypy
export PYTHONUTF8 := 1

# make exits with an error when it receives Ctrl-C. Therefore the service runs in the foreground
# process group, like a job of a shell, and make only gets its exit code.
define IN_THE_FOREGROUND
import os, signal, sys
if os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp():
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
endef
export IN_THE_FOREGROUND

# Without this check, the address could be that of another service.
define CHECK_PORT
import socket, sys
port = sys.argv[1]
try:
    socket.create_server(("127.0.0.1", int(port))).close()
except (OSError, OverflowError, ValueError) as error:
    sys.exit(f"Port {port} cannot be used: {error}. Choose another one: make serve PORT=8001")
endef
export CHECK_PORT

.PHONY: serve port test soak prove-faults bench bench-upload bench-download bench-nginx bench-realtime bench-runs bench-overhead bench-hostile bench-single bench-s3 bench-compare lint format clean caches

serve: port caches | $(UV)
	@echo "Generating a service with every module in $(DEMO) ..."
	@mkdir -p build && $(RM) -r $(DEMO)/src $(DEMO)/tests
	@printf 'cookiecutters_dir: build/cache\nreplay_dir: build/cache\n' > build/cookiecutter.yaml
	@$(UV) tool run --quiet --from 'cookiecutter>=2.7' cookiecutter . --no-input \
	    --config-file build/cookiecutter.yaml --overwrite-if-exists --output-dir build \
	    broker=redis use_chat=yes > build/generate.log || { cat build/generate.log; exit 1; }
	@echo "Installing it ..."
	@$(UV) --directory $(DEMO) sync --quiet --no-dev
	@echo "Starting it at http://127.0.0.1:$(PORT) ... Ctrl-C ends it."
	@cd $(DEMO) && APP_SERVER__PORT=$(PORT) \
	    exec .venv/bin/python -c "$$IN_THE_FOREGROUND" .venv/bin/serve

port:
	@$(PYTHON) -c "$$CHECK_PORT" "$(PORT)"

test: | $(UV)
	@$(RUN) pytest --numprocesses=auto --dist=loadscope --no-loadscope-reorder $(ARGS)

# The same tests with large numbers: SOAK multiplies the rounds and sizes of some tests.
soak: | $(UV)
	@SOAK=20 $(RUN) pytest --numprocesses=auto --dist=loadscope --no-loadscope-reorder $(ARGS)

# The tests of faults and bounds on the last version before each fix, where all must fail.
prove-faults: | $(UV)
	@$(RUN) python tests/prove_faults.py $(ARGS)

# Run every benchmark in 15 minutes, and write benchmarks/results.
bench: | $(UV)
	@$(RUN) python benchmarks/everything.py $(ARGS)

# Compare uploads with other servers in one run. benchmarks/README.md describes the results and the
# ARGS: --smoke is a quick check of the benchmark, --bars fails if a target is missed.
bench-upload: | $(UV)
	@$(RUN) python benchmarks/upload.py $(ARGS)

# Compare downloads with other servers.
bench-download: | $(UV)
	@$(RUN) python benchmarks/download.py $(ARGS)

# Measure the service behind nginx.
bench-nginx: | $(UV)
	@$(RUN) python benchmarks/behind_nginx.py $(ARGS)

# Compare events with other servers, with up to 10,000 subscribers.
bench-realtime: | $(UV)
	@$(RUN) python benchmarks/realtime.py $(ARGS)

# Compare the tokens of a run, in each of its formats, with FastAPI's own SSE.
bench-runs: | $(UV)
	@$(RUN) python benchmarks/runs.py $(ARGS)

# Compare the overhead around a path operation with a bare application.
bench-overhead: | $(UV)
	@$(RUN) python benchmarks/overhead.py $(ARGS)

# Measure the service for other clients during attacks.
bench-hostile: | $(UV)
	@$(RUN) python benchmarks/hostile.py $(ARGS)

# Measure the cost of single requests on a service with much data.
bench-single: | $(UV)
	@$(RUN) python benchmarks/single_request.py $(ARGS)

# Compare transfers to and from S3 with the client library alone.
bench-s3: | $(UV)
	@$(RUN) python benchmarks/object_storage.py $(ARGS)

# Compare the costs of the work tree with an earlier commit.
bench-compare: | $(UV)
	@$(RUN) python benchmarks/compare.py $(ARGS) $(BASE)

lint: | $(UV)
	$(RUN) ruff check $(CODE)
	$(RUN) ruff format --check $(CODE)
	$(RUN) ruff check --ignore=I001,N999,PIE794 '$(TEMPLATE)/src'
	$(RUN) mypy
	$(RUN) python tests/plain_english.py
	$(RUN) actionlint .github/workflows/*.yml
	$(RUN) zizmor --offline --quiet .github

format: | $(UV)
	$(RUN) ruff check --fix $(CODE)
	$(RUN) ruff format $(CODE)

clean: caches
	@$(RM) -r .tools .venv build .pytest_cache

# Files of tools or editors in the template's folder would be copied into generated projects.
caches:
	@find '$(TEMPLATE)' -type d \( -name __pycache__ -o -name '.*_cache' \) -prune -exec $(RM) -r {} +

# Debian's python3 may lack venv, which `pip --target` does not need.
.tools/bin/uv:
	@echo "Installing uv into .tools ..."
	@$(PYTHON) -m venv .tools && .tools/bin/python -m pip install --quiet uv \
	    || { $(RM) -r .tools; $(PYTHON) -m pip install --quiet --target .tools uv; } \
	    || { $(RM) -r .tools; echo "Please install uv, or Python's venv or pip module."; exit 1; }
