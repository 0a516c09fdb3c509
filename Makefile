# Needs Python >= 3.11, a C compiler and make; everything else goes into .venv here.
# Another virtual environment may be active; only its Python is used.

PYTHON ?= python3
# one environment for each Python: make PYTHON=python3.12 uses .venv-python3.12
VENV   ?= .venv$(if $(filter-out python3,$(notdir $(PYTHON))),-$(notdir $(PYTHON)))
OUT    ?= demo-out
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# PYTHONDONTWRITEBYTECODE: each of the many processes of the tests would compile every module again
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

# The demo's table: the simulated twin, or your own (make demo TABLE=path CONFIG=experiment.toml)
ifdef TABLE
CONFIG ?= examples/anand.toml
DATA   := $(TABLE)
else
CONFIG ?= examples/twin.toml
DATA   := $(OUT)/twin.csv
endif

BUILT_FROM := pyproject.toml setup.py constraints.txt $(wildcard csrc/*) kgsm_infer/kernels/_core.pyx

.PHONY: help demo demo-real docs test bench javascript beam home-assistant fuzz check-native lint pins audit wheel wheels clean

help:
	@echo "make demo     simulate, cross-validate, fit, export, predict, map; results in $(OUT)/"
	@echo "make demo TABLE=t.csv [CONFIG=c.toml]   the same on your table (examples/anand.toml)"
	@echo "make demo-real   real radar of French fields: index, daily values with rain, a chart"
	@echo "make test     the whole suite, on the C core and on the NumPy twin"
	@echo "make bench    time the C core against peers and bounds; ratios in $(OUT)/bench.md"
	@echo "make bench-end   whole commands at two sizes beside plain alternatives, into docs/performance.md"
	@echo "make check-native   the C core under sanitizers, valgrind and fuzzers (gcc, clang, valgrind)"
	@echo "make beam     the Apache Beam example against the local run, in an environment of its own"
	@echo "make home-assistant  discovery messages against the schemas of Home Assistant"
	@echo "make fuzz     FUZZ_FILES (10000) damaged files of each kind against every reader"
	@echo "make lint     ruff, mypy and the walls of the house"
	@echo "make pins     pin the small machine's packages by hash; make audit: known faults in them"
	@echo "make docs     the documentation as a site in build/site"
	@echo "make wheel    wheel and sdist of this machine in dist/"
	@echo "make wheels   wheels of Linux (x86-64, aarch64; glibc, musl) in dist/, cross-compiled, tested"
	@echo "make clean    remove what make made, .venv too"

$(STAMP): $(BUILT_FROM)
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) or \
	  sys.exit(f"kgsm needs Python 3.11 or later, $(PYTHON) is {v}; try make PYTHON=python3.12")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	KGSM_REQUIRE_C=1 $(BIN)/python -m pip install -q -e '.[train,raster,prepare,gateway,cluster,parquet,ismn,test,bench]' -c constraints.txt
	@touch $@

DEMO_STAMP := $(VENV)/.installed-demo

$(DEMO_STAMP): $(BUILT_FROM) tools/install_demo.py
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) or \
	  sys.exit(f"kgsm needs Python 3.11 or later, $(PYTHON) is {v}; try make PYTHON=python3.12")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@KGSM_REQUIRE_C=1 $(BIN)/python tools/install_demo.py train,gateway
	@touch $@

demo: $(DEMO_STAMP)
	@mkdir -p $(OUT)
ifndef TABLE
	$(BIN)/kgsm-train simulate -o $(DATA)
endif
	$(BIN)/kgsm-train crossval $(CONFIG) --table $(DATA) -o $(OUT)
	$(BIN)/kgsm-train fit $(CONFIG) --table $(DATA) -o $(OUT)
	$(BIN)/kgsm-infer predict $(OUT)/model.onnx $(DATA) -o $(OUT)/soil_moisture.csv
ifndef TABLE
	$(BIN)/kgsm-infer paddocks $(OUT)/model.onnx $(DATA) examples/farm/paddocks.geojson \
	  --id site -o $(OUT)/paddocks.geojson --quicklook $(OUT)/paddocks.png
	cp $(OUT)/model.onnx examples/farm/model.onnx
	cp $(DATA) examples/farm/spool/
endif
	$(BIN)/kgsm-infer info $(OUT)/model.onnx
	@echo; echo "Open:"; echo "  $(OUT)/report.html        scores and figures"
ifndef TABLE
	@echo "  $(OUT)/paddocks.png       map of the paddocks"
	@echo "Start the gateway, then open http://127.0.0.1:8480/ :"
	@echo "  $(BIN)/kgsm-infer watch examples/farm/gateway.toml"
endif

# Two runs: tests marked both_engines on the NumPy twin, then every test on the C core. The second
# runs even if the first fails. Line coverage is that of both runs together, of the tests without
# the marker no_cover. The numeric libraries get one thread for each process, since there are more
# processes than cores.
WORKERS  ?= 3
COVERAGE := $(CURDIR)/.coverage
PYTEST   := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=

test: $(STAMP)
	@rm -f $(COVERAGE) $(COVERAGE).*
	@failed=0; \
	echo "== on the NumPy twin"; \
	KGSM_PURE=1 COVERAGE_FILE=$(COVERAGE).numpy $(PYTEST) -m "both_engines and not exhaustive and not wheels" || failed=1; \
	echo "== on the C core"; \
	KGSM_REQUIRE_C=1 COVERAGE_FILE=$(COVERAGE).c $(PYTEST) || failed=1; \
	COVERAGE_FILE=$(COVERAGE) $(BIN)/coverage combine -q $(COVERAGE).numpy $(COVERAGE).c && \
	COVERAGE_FILE=$(COVERAGE) $(BIN)/coverage report --fail-under=90 || failed=1; \
	exit $$failed

# Peers are wanted only here. The table and the figure are made from the one run's JSON. Some
# environments pin the BLAS to an older kernel; then no peer and no bound would be at its best.
UNPINNED := env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE -u MKL_CBWR -u MKL_ENABLE_INSTRUCTIONS

bench: $(STAMP)
	$(BIN)/python -m pip install -q -e '.[peers]' -c constraints.txt
	@mkdir -p $(OUT)
	$(UNPINNED) OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks --benchmark-json=$(OUT)/bench.json
	$(BIN)/python benchmarks/report.py $(OUT)/bench.json $(OUT)/bench.png | tee $(OUT)/bench.md

# Whole commands beside plain alternatives, with a model of the simulated twin.
END := $(OUT)/bench-end

bench-end: $(STAMP)
	$(BIN)/python -m pip install -q -e '.[peers]' -c constraints.txt
	@mkdir -p $(END)
	$(BIN)/kgsm-train simulate -o $(END)/twin.csv
	$(BIN)/kgsm-train fit examples/twin.toml --table $(END)/twin.csv -o $(END)
	$(UNPINNED) $(BIN)/python benchmarks/end_to_end.py $(END)/model.onnx --page docs/performance.md

# onnxruntime-web of npm, for the JavaScript example: set KGSM_NODE_MODULES to the folder printed.
NODE := build/node
javascript: $(NODE)/.installed
	@echo "KGSM_NODE_MODULES=$(CURDIR)/$(NODE)/node_modules"

$(NODE)/.installed:
	@mkdir -p $(NODE)
	npm install --silent --no-audit --no-fund --prefix $(NODE) onnxruntime-web@1.30.0
	@touch $@

# The Apache Beam example in an environment of its own: apache-beam requires older versions of
# protobuf and pyarrow than the rest is tested with.
BEAM := build/beam
beam: $(STAMP)
	test -x $(BEAM)/bin/python || $(PYTHON) -m venv $(BEAM)
	$(BEAM)/bin/python -m pip install -q apache-beam==2.77.0 xarray-beam==0.11.5
	KGSM_BEAM_PYTHON=$(CURDIR)/$(BEAM)/bin/python $(BIN)/python -m pytest -q tests/maps/test_beam.py

# Home Assistant's own schemas of discovery messages, in an environment of its own: homeassistant
# pins its dependencies. 2024.3.3 is the newest that Python 3.11 can install.
HOME_ASSISTANT := build/home-assistant
home-assistant: $(STAMP)
	test -x $(HOME_ASSISTANT)/bin/python || $(PYTHON) -m venv $(HOME_ASSISTANT)
	$(HOME_ASSISTANT)/bin/python -m pip install -q homeassistant==2024.3.3 paho-mqtt
	KGSM_HOME_ASSISTANT_PYTHON=$(CURDIR)/$(HOME_ASSISTANT)/bin/python \
		$(BIN)/python -m pytest -q tests/gateway/test_home_assistant.py

# The C core under AddressSanitizer, UndefinedBehaviorSanitizer and valgrind: alone
# (tests/native/check.c) and under the Python tests of the kernels; then each public function
# fuzzed for FUZZ_SECONDS. valgrind knows no AVX-512 and runs the tiers it knows.
NATIVE       := build/native
SANITIZE     := -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_TARGETS := decibels isolate pack lstm readout nearest fusion csv text float_text
FUZZ_SECONDS ?= 20

check-native: $(STAMP)
	@mkdir -p $(NATIVE)/fixtures
	$(BIN)/python tests/native/fixtures.py $(NATIVE)/fixtures
	gcc -std=c11 -Wall -Wextra -Werror -ffp-contract=off $(SANITIZE) -Icsrc tests/native/check.c csrc/*.c -lm -o $(NATIVE)/check-san
	$(NATIVE)/check-san $(NATIVE)/fixtures
	gcc -std=c11 -Wall -Wextra -Werror -ffp-contract=off -g -O2 -Icsrc tests/native/check.c csrc/*.c -lm -o $(NATIVE)/check
	valgrind -q --error-exitcode=9 --leak-check=full $(NATIVE)/check $(NATIVE)/fixtures
	CFLAGS="$(SANITIZE)" LDFLAGS="-fsanitize=address,undefined" $(BIN)/python setup.py -q build_ext --build-lib $(NATIVE)/lib --build-temp $(NATIVE)/temp
	cp -rn kgsm_infer/. $(NATIVE)/lib/kgsm_infer/
	PYTHONPATH=$(NATIVE)/lib LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 KGSM_REQUIRE_C=1 \
	  $(BIN)/python -m pytest -q -p no:cacheprovider --rootdir=. tests/kernels/test_kernels.py tests/kernels/test_window.py tests/kernels/test_fusion.py -m "not realdata and not exhaustive" -k "not environment and not extension and not door"
	for target in $(FUZZ_TARGETS); do \
	  clang -std=c11 -ffp-contract=off -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DTARGET=fuzz_$$target \
	    -Icsrc tests/native/fuzz.c csrc/*.c -lm -o $(NATIVE)/fuzz-$$target && \
	  $(NATIVE)/fuzz-$$target -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 -artifact_prefix=$(NATIVE)/ || exit 1; \
	done

# Damaged models, cards, tables, GeoJSON, manifests, configs, parts, GeoTIFFs, masks, NetCDF and Zarr
# cubes, STAC items, state files and ISMN series: no traceback, no other number.
FUZZ_FILES ?= 10000

fuzz: $(STAMP)
	$(BIN)/python tools/fuzz.py --count $(FUZZ_FILES)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache


# The base install and the gateway, pinned to files by their hashes; and what is known against them.
pins: $(STAMP)
	$(BIN)/python -m pip install -q uv
	@sed -n '/^#/p' requirements-edge.txt > requirements-edge.new
	$(BIN)/uv pip compile -q pyproject.toml --extra gateway --extra onnxruntime --generate-hashes --universal \
	  --python-version 3.11 --no-header | sed '/^#/d' >> requirements-edge.new
	mv requirements-edge.new requirements-edge.txt

audit: $(STAMP)
	$(BIN)/python -m pip install -q pip-audit
	$(BIN)/pip-audit -r requirements-edge.txt --require-hashes --disable-pip

# The site, in build/site. The reference pages come from the code, figures from tools/figures.py.
docs: $(STAMP)
	$(BIN)/python -m pip install -q -e '.[docs]' -c constraints.txt
	$(BIN)/python tools/figures.py build/figures
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open build/site/index.html"

# Real radar of French fields, without a label: index, daily values with rain, and a chart.
FIELDS   ?= ../shared/data/worldcereal_fields/dekad_2023_FRA.geoparquet
REAL_OUT ?= demo-out/france

REAL_STAMP := $(VENV)/.installed-demo-real

$(REAL_STAMP): $(BUILT_FROM) tools/install_demo.py
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@KGSM_REQUIRE_C=1 $(BIN)/python tools/install_demo.py raster,parquet
	@touch $@

demo-real: $(REAL_STAMP)
	@test -f $(FIELDS) || { echo "no $(FIELDS); pass FIELDS=dekad_2023_FRA.geoparquet"; exit 3; }
	$(BIN)/python examples/france/tables.py $(FIELDS) $(REAL_OUT)
	$(BIN)/kgsm-infer wetness $(REAL_OUT)/radar.csv -o $(REAL_OUT)/wetness.csv
	$(BIN)/kgsm-infer daily $(REAL_OUT)/wetness.csv --weather $(REAL_OUT)/rain.csv \
	  --hemisphere north --today 2024-01-30 -o $(REAL_OUT)/daily.csv
	$(BIN)/kgsm-infer plot $(REAL_OUT)/daily.csv --paddock 595430 --paddock 2870709 \
	  -o $(REAL_OUT)/fields.png
	@echo; echo "Open:"; echo "  $(REAL_OUT)/fields.png    index of two fields, day by day, with rain"

wheel: $(STAMP)
	$(BIN)/python -m build

# Wheels of Linux for x86-64 and aarch64, glibc and musl, a pure wheel and the sdist, by zig; then
# the C core on other processors: run under qemu and in node where they are installed.
wheels: $(STAMP)
	$(BIN)/python -m pip install -q -e '.[wheels]' -c constraints.txt
	$(BIN)/python tools/wheels.py -o dist
	$(BIN)/python -m pytest -q -m wheels tests/packages tests/house/test_embed.py

clean:
	rm -rf $(VENV) demo-out build dist kgsm.egg-info kgsm_infer/kernels/_core.*.so kgsm_infer/kernels/_core*.pyd .coverage*
	rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
