# Everything a newcomer needs: `make demo` and `make test` do all the set-up by themselves.
# PYTHON chooses the interpreter: make test PYTHON=python3.12. A .venv of another version is replaced.

PYTHON ?= python3
# Not by the scripts in bin/: their first line breaks when a folder's name has a blank. zizmor is a binary.
PY := .venv/bin/python
# `lab` and `drills`, which tests import, are packages there.
IN_TESTS := PYTHONPATH=tests $(PY)
FUZZ_SECONDS ?= 60
JOBS ?= 4
# Floors of the coverage of Python, in per cent.
COVERED_LINES := 97
COVERED_BRANCHES := 93
# Lines of nats-server that the suite runs on besides the newest; fetched when there is a network.
SERVER_LINES := 2.10.26 2.12.8
# NATS_SERVER=2.10 or NATS_SERVER=/path/to/nats-server: the server that stands in for the newest one.
# All C but what only CFFI reads: a cdef is no C file.
C_FILES := $(filter-out %cdef.h,$(wildcard $(addsuffix /*.[ch],csrc tests/csrc tests/fuzz tests/loops bench examples/*)))
CLANG_FORMAT := .venv/bin/clang-format

.PHONY: demo check test build counts stubs lint format structure coverage coverage-c pytest bench bench-full bench-js \
    bench-objects packaging wheel release-notes fuzz sanitize references soak soak-js tls-soak reconnects chaos cuts monkey \
    interrupts handovers jobs groups loops webserver bigobject mutants servers peers system install-core docs clean

demo: build
	$(PY) examples/demo.py

# While working: style, types, and every test that needs no server and takes no long time.
check: lint
	$(PY) -m pytest -q -n $(JOBS) --dist worksteal -m "not server and not slow"

test: lint pytest

# More processes than cores: many tests wait for a server or for a time. JOBS=0 is one after the other.
# COVERAGE=1 measures the same run, and fails below the floors.
pytest: build .venv/.servers .venv/.peers
ifdef COVERAGE
	@$(MAKE) --no-print-directory coverage
else
	$(PY) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)
endif

lint: build
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)
	$(PY) -m mypy
	$(IN_TESTS) -m lab.planted
	$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/bin/zizmor --offline --quiet --no-progress --persona=pedantic .github

# The suite once, with programs that the tests start; the report as pages is .cache/coverage/html.
coverage: build .venv/.servers .venv/.peers
	rm -rf .cache/coverage
	$(PY) -m coverage run -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage json --quiet -o .cache/coverage/report.json
	$(PY) -m coverage html --quiet -d .cache/coverage/html
	$(PY) tests/lab/coverage_floor.py --lines $(COVERED_LINES) --branches $(COVERED_BRANCHES) .cache/coverage/report.json
	$(MAKE) --no-print-directory coverage-c

format: build
	$(PY) -m ruff format .
	$(CLANG_FORMAT) -i $(C_FILES)

# Rooms, floors, arrows and circles of nats_ev/, and its longest files.
structure:
	@PYTHONPATH=tests $(PYTHON) -m lab.structure

build: .venv/.built

# The build scripts compile in place; .venv refers to this folder.
.venv/.built: .venv/.installed .venv/.flags _parser_build.py _libev_build.py _build_flags.py $(wildcard csrc/*.c csrc/*.h)
	$(PY) _parser_build.py > .venv/build.log 2>&1 || { cat .venv/build.log; exit 1; }
	$(PY) _libev_build.py >> .venv/build.log 2>&1 || { cat .venv/build.log; exit 1; }
	@touch $@

# What decides how C is compiled, besides the files: a change of it compiles again.
.venv/.flags: .venv/.installed FORCE
	@env | grep -E '^(CC|CFLAGS|CPPFLAGS|LDFLAGS|LIBEV_PREFIX|NATS_EV_DEBUG|NATS_EV_WERROR)=' | sort > $@.new; \
	    cmp -s $@.new $@ && rm $@.new || mv $@.new $@

.venv/.python: FORCE
	@version='import sys; print("%d.%d%s" % (*sys.version_info[:2], sys.abiflags))'; \
	    wanted=$$('$(PYTHON)' -c "$$version" 2>/dev/null); has=$$($(PY) -c "$$version" 2>/dev/null); \
	    if [ '$(origin PYTHON)' != file ] && [ -n "$$wanted" ] && [ -n "$$has" ] && [ "$$wanted" != "$$has" ]; then \
	        echo "PYTHON=$(PYTHON) is $$wanted: replacing the .venv of $$has"; rm -rf .venv; \
	    fi; test -e $@ || { mkdir -p .venv && touch $@; }

FORCE:

.venv/.installed: pyproject.toml setup.py .venv/.python
	@$(MAKE) --no-print-directory system
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $@

# Older servers are welcome, not necessary: without them their tests say that they were skipped.
# What could not be fetched, the next run tries to fetch again.
servers .venv/.servers: .venv/.installed
	@missing=; for version in $(SERVER_LINES); do \
	    test -x .cache/nats-server/$$version/nats-server && continue; \
	    $(IN_TESTS) -m lab.fetch_server $$version || { echo "nats-server $$version: not fetched"; missing=1; }; \
	done; test -n "$$missing" || touch .venv/.servers

# What tests talk to: the official client for Node.js, and web servers and proxies.
peers .venv/.peers: tests/lab/js/package.json tests/lab/debian.py .venv/.installed
	@if $(IN_TESTS) -m lab.peers && $(IN_TESTS) -m lab.debian; then touch .venv/.peers; fi

system:
	@PYTHON='$(PYTHON)' sh tests/lab/system_packages.sh

# The C core for programs without Python: make install-core PREFIX=/usr/local DESTDIR=/tmp/package
install-core:
	@CC='$(CC)' AR='$(AR)' PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' sh csrc/install.sh

packaging: build
	$(IN_TESTS) -m drills.packaging_steps

# What CHANGELOG.md says about a tag, for the page of a release: make release-notes TAG=vX.Y.Z
release-notes:
	@$(PYTHON) tests/lab/release_notes.py '$(TAG)'

# A wheel with libev inside, in dist/, tried where there is no compiler and no libev.
wheel: build
	$(IN_TESTS) -m drills.wheel_steps

bench: build
	$(PY) bench/benchmark.py

# Instructions and calls for each message, which tests/repo/test_hot_path.py bounds; needs valgrind.
counts: build
	$(IN_TESTS) -m lab.hot_path renew

# Every row for every client that is there, and decades; renews docs/performance.md. A quarter of an hour.
bench-full: build
	$(PY) bench/full.py $(BENCH_ARGS)

# The documentation as a site, in site/; a warning is an error. Another client's figures make another chart.
docs: build
	$(PY) bench/chart.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict -f docs/_site/mkdocs.yml

bench-js: build
	$(PY) bench/bench_js.py

bench-objects: build
	$(PY) bench/bench_objects.py $(BENCH_ARGS)

# The types of the faces, nats_ev/aio.pyi and its like, from the signatures of the callback API.
stubs: build
	$(IN_TESTS) -m lab.face_stubs

sanitize: build
	$(PY) -m pytest -q tests/repo/test_csrc.py
	sh tests/csrc/memcheck.sh
	sh tests/csrc/sanitized_suite.sh $(SANITIZE_ARGS)

# Lines of csrc/nats_*.c that the C tests run, by gcov; fails below the floor.
coverage-c: build
	$(PY) tests/csrc/line_coverage.py

fuzz: build
	FUZZ_SECONDS=$(FUZZ_SECONDS) sh tests/fuzz/run.sh

# References left by a million operations, by the total of a debug build of CPython: DEBUG_PYTHON (python3-dbg).
references: build
	sh tests/csrc/references.sh

# Millions of messages, ten thousand connections, a million time-outs: flat memory.
soak: build
	$(IN_TESTS) -m drills.soak
	$(IN_TESTS) -m drills.reconnects
	$(IN_TESTS) -m drills.timeouts

# The behavioural tests on every kind of loop but the default one, LOOPS or all; an hour on two cores.
loops: build .venv/.servers .venv/.peers
	$(IN_TESTS) -m lab.loops --jobs $(JOBS) $(LOOPS)

# The ten thousand connections on every loop: half an hour.
reconnects: build
	$(IN_TESTS) -m drills.reconnects 10000 all

cuts monkey interrupts handovers jobs groups webserver bigobject mutants: build
	$(IN_TESTS) -m drills.$@

# Rolling restarts under a publisher; then leaders killed and suspended under JetStream, on each server line.
chaos: build .venv/.servers
	$(IN_TESTS) -m drills.chaos
	$(IN_TESTS) -m drills.clusters

# 1 GB each way through TLS past a slow reader, byte-exact.
tls-soak: build
	$(IN_TESTS) -m drills.tls_soak $(TLS_SOAK_MB)

soak-js: build
	$(IN_TESTS) -m drills.soak_js

clean:
	rm -rf .venv .cache build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find nats_ev csrc \( -name '*.so' -o -name '*.o' \) -exec rm -f {} +
	rm -f nats_ev/_parser.c nats_ev/pyev/_libev.c
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
