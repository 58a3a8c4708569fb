# `make serve` shows a generated service, `make test` tests everything, `make soak` does so for long.
# Python 3.11 or newer is enough: uv is installed into .tools when it is not on the PATH.

PYTHON ?= python3
PORT ?= 8000
BASE ?= HEAD
ARGS ?=
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := $(UV) run --quiet
TEMPLATE := {{cookiecutter.project_slug}}
DEMO := build/streaming-service
CODE := .ci hooks tests $(wildcard benchmarks)

# A cache inside the template's folder would be generated into every project.
export RUFF_CACHE_DIR := build/cache/ruff
export MYPY_CACHE_DIR := build/cache/mypy
export PYTHONUTF8 := 1

# make ends with an error of its own when Ctrl-C reaches it. So the service takes the terminal, as a
# job of a shell does, and make sees only its exit code.
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

# Else the address that is shown would be that of another service.
define CHECK_PORT
import socket, sys
port = sys.argv[1]
try:
    socket.create_server(("127.0.0.1", int(port))).close()
except (OSError, OverflowError, ValueError) as error:
    sys.exit(f"Port {port} cannot be used: {error}. Choose another one: make serve PORT=8001")
endef
export CHECK_PORT

.PHONY: serve port test soak prove-faults bench-upload bench-download bench-realtime bench-overhead bench-hostile bench-single bench-compare lint format clean caches

serve: port caches | $(UV)
	@echo "Generating a service with every module in $(DEMO) ..."
	@mkdir -p build && $(RM) -r $(DEMO)/src $(DEMO)/tests
	@printf 'cookiecutters_dir: build/cache\nreplay_dir: build/cache\n' > build/cookiecutter.yaml
	@$(UV) tool run --quiet --from 'cookiecutter>=2.7' cookiecutter . --no-input \
	    --config-file build/cookiecutter.yaml --overwrite-if-exists --output-dir build \
	    broker=redis > build/generate.log || { cat build/generate.log; exit 1; }
	@echo "Installing it ..."
	@$(UV) --directory $(DEMO) sync --quiet --no-dev
	@echo "Open http://127.0.0.1:$(PORT) in a browser; Ctrl-C ends the service."
	@cd $(DEMO) && APP_SERVER__PORT=$(PORT) \
	    exec .venv/bin/python -c "$$IN_THE_FOREGROUND" .venv/bin/serve

port:
	@$(PYTHON) -c "$$CHECK_PORT" "$(PORT)"

test: | $(UV)
	@$(RUN) pytest --numprocesses=auto --dist=loadgroup --no-loadscope-reorder $(ARGS)

# The same tests with large numbers: SOAK multiplies the rounds and sizes of the heavy ones.
soak: | $(UV)
	@SOAK=20 $(RUN) pytest --numprocesses=auto --dist=loadgroup --no-loadscope-reorder $(ARGS)

# The tests of faults and bounds on the last version without the repair: each has to fail there.
prove-faults: | $(UV)
	@$(RUN) python tests/prove_faults.py $(ARGS)

# Our uploads beside those of others, in one run; benchmarks/README.md says how to read it, and what
# ARGS there are: --smoke sees quickly whether all works, --bars fails when a promise is not kept.
bench-upload: | $(UV)
	@$(RUN) python benchmarks/upload.py $(ARGS)

# Our downloads beside those of others.
bench-download: | $(UV)
	@$(RUN) python benchmarks/download.py $(ARGS)

# Our events beside those of others, to up to 10,000 subscribers.
bench-realtime: | $(UV)
	@$(RUN) python benchmarks/realtime.py $(ARGS)

# What stands around a path operation, beside a bare application.
bench-overhead: | $(UV)
	@$(RUN) python benchmarks/overhead.py $(ARGS)

# How others are served while hostile clients send all they can.
bench-hostile: | $(UV)
	@$(RUN) python benchmarks/hostile.py $(ARGS)

# What any single request can cost, on a service that is full.
bench-single: | $(UV)
	@$(RUN) python benchmarks/single_request.py $(ARGS)

# The work tree beside an earlier commit: what costs more than it did?
bench-compare: | $(UV)
	@$(RUN) python benchmarks/compare.py $(ARGS) $(BASE)

lint: | $(UV)
	$(RUN) ruff check $(CODE)
	$(RUN) ruff format --check $(CODE)
	$(RUN) ruff check --ignore=I001,N999,PIE794 '$(TEMPLATE)/src'
	$(RUN) mypy
	$(RUN) actionlint .github/workflows/*.yml
	$(RUN) zizmor --offline --quiet .github

format: | $(UV)
	$(RUN) ruff check --fix $(CODE)
	$(RUN) ruff format $(CODE)

clean: caches
	@$(RM) -r .tools .venv build .pytest_cache

# What a tool or an editor left in the template's folder would be generated too.
caches:
	@find '$(TEMPLATE)' -type d \( -name __pycache__ -o -name '.*_cache' \) -prune -exec $(RM) -r {} +

# Debian's python3 may come without venv, and `pip --target` does without it.
.tools/bin/uv:
	@echo "Installing uv into .tools ..."
	@$(PYTHON) -m venv .tools && .tools/bin/python -m pip install --quiet uv \
	    || { $(RM) -r .tools; $(PYTHON) -m pip install --quiet --target .tools uv; } \
	    || { $(RM) -r .tools; echo "Please install uv, or Python's venv or pip module."; exit 1; }
