# Everything a newcomer needs: `make demo` and `make test` do all the set-up by themselves.
# The interpreter is chosen by PYTHON when .venv is made: make test PYTHON=python3.12

PYTHON ?= python3
# Not by the scripts in bin/: their first line breaks when a folder's name has a blank.
PY := .venv/bin/python
FUZZ_SECONDS ?= 60
# Lines of nats-server that the suite runs on besides the newest; fetched when there is a network.
SERVER_LINES := 2.10.26 2.12.8
# All C but what only CFFI reads: a cdef is no C file.
C_FILES := $(filter-out %cdef.h,$(wildcard csrc/*.[ch] tests/csrc/*.[ch] tests/fuzz/*.[ch] bench/*.[ch]))
CLANG_FORMAT := .venv/bin/clang-format

.PHONY: tls-soak demo test build lint format coverage-c pytest bench bench-js soak-js packaging fuzz sanitize soak chaos cuts monkey handovers bigobject mutants servers peers system clean

demo: build
	$(PY) examples/demo.py

test: lint pytest

pytest: build .venv/.servers .venv/.peers
	$(PY) -m pytest $(PYTEST_ARGS)

lint: build
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)
	$(PY) -m mypy

format: build
	$(PY) -m ruff format .
	$(CLANG_FORMAT) -i $(C_FILES)

build: .venv/.built

# The build scripts compile in place; .venv refers to this folder.
.venv/.built: .venv/.installed _parser_build.py _libev_build.py _build_flags.py $(wildcard csrc/*.c csrc/*.h)
	$(PY) _parser_build.py > .venv/build.log 2>&1 || { cat .venv/build.log; exit 1; }
	$(PY) _libev_build.py >> .venv/build.log 2>&1 || { cat .venv/build.log; exit 1; }
	@touch $@

.venv/.installed: pyproject.toml setup.py
	@$(MAKE) --no-print-directory system
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $@

# Older servers are welcome, not necessary: without them their tests say that they were skipped.
servers .venv/.servers: .venv/.installed
	@for version in $(SERVER_LINES); do \
	    test -x .cache/nats-server/$$version/nats-server && continue; \
	    $(PY) tests/fetch_server.py $$version || echo "nats-server $$version: not fetched"; \
	done; touch .venv/.servers

# The official client for Node.js, which the cross tests talk to.
peers .venv/.peers: tests/js/package.json .venv/.installed
	@$(PY) tests/peers.py || true; touch .venv/.peers

system:
	@PYTHON='$(PYTHON)' sh tests/system_packages.sh

packaging: build
	$(PY) tests/packaging_steps.py

bench: build
	$(PY) bench/benchmark.py

bench-js: build
	$(PY) bench/bench_js.py

sanitize: build
	$(PY) -m pytest -q tests/test_csrc.py
	sh tests/csrc/memcheck.sh
	sh tests/csrc/sanitized_suite.sh $(SANITIZE_ARGS)

# Lines of csrc/nats_*.c that the C tests run, by gcov; fails below the floor.
coverage-c: build
	$(PY) tests/csrc/line_coverage.py

fuzz: build
	FUZZ_SECONDS=$(FUZZ_SECONDS) sh tests/fuzz/run.sh

soak chaos cuts monkey handovers bigobject mutants: build
	$(PY) tests/$@.py

# 1 GB each way through TLS past a slow reader, byte-exact.
tls-soak: build
	$(PY) tests/tls_soak.py $(TLS_SOAK_MB)

soak-js: build
	$(PY) tests/soak_js.py

clean:
	rm -rf .venv .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f nats_ev/*.so nats_ev/*.o nats_ev/pyev/*.so nats_ev/pyev/*.o csrc/*.o
	rm -f nats_ev/_parser.c nats_ev/pyev/_libev.c
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
