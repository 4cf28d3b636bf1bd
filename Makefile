# make setup | test | lint | docs | demo | bench | clean       (PYTHON=python3.12 picks another Python)

PYTHON ?= python3
VENV := .venv
CONSTRAINTS := constraints.txt
TESTS :=
BIN := $(VENV)/bin
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
EXTRAS := demo,espeak,export,dev
comma := ,
FSDD ?= data/downloads/fsdd/free-spoken-digit-dataset-1.0.10
LJSPEECH ?= data/downloads/ljspeech/LJSpeech-1.1
SENTENCE ?= The queen gave my sister a yellow box.

.PHONY: help setup test test-faults test-load lint docs demo bench gpu-check clean

help:
	@echo "make setup   install everything into $(VENV)"
	@echo "make test    the tests, without those that are slow or want a GPU"
	@echo "make test-faults   kills, full disks, damaged and hostile files: up to twenty minutes"
	@echo "make test-load   an hour of work on good and bad input"
	@echo "make lint    ruff, mypy and the sizes of the code"
	@echo "make docs    the documentation as a site in build/site; fails on a broken link"
	@echo "make demo    train a voice and a recognizer in minutes, write demo.wav and demo.png"
	@echo "make bench   speed beside the peers, whom it installs: half an hour (FSDD=folder LJSPEECH=folder)"
	@echo "make gpu-check   check and measure on a GPU: eight minutes"
	@echo "make clean   remove $(VENV), caches and what demo wrote; runs/ and data/ stay"

INSTALLED := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

setup: $(INSTALLED)

# Done again only when what to install has changed.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else \
	"tacoskip needs Python 3.11 to 3.13, got %d.%d: make setup PYTHON=python3.12" % v)'
ifeq ($(UV),)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
else
	uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	uv pip install --compile-bytecode --python $(BIN)/python -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
endif
	@touch $@

test: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow and not gpu and not ray and not faults and not load" $(TESTS)

# Ray, for the cluster that loses a node; where it cannot be installed the rest is run without.
test-faults: setup
	-@$(MAKE) --no-print-directory setup EXTRAS=$(EXTRAS),ray
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "faults or hostile" tests/faults tests

test-load: setup
	$(BIN)/python -m pytest -s -m load tests/faults

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/sizes.py

docs:
	@$(MAKE) --no-print-directory setup EXTRAS=$(EXTRAS),docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "documentation: build/site/index.html"

# The recognizer learns beside the voice, on the second core.
demo: setup
	$(BIN)/tacoskip prepare recipe=demo
	@mkdir -p runs
	@echo "a recognizer learns beside the voice, its progress is in runs/demo_asr.log"
	@$(BIN)/tacoskip train recipe=demo_asr >runs/demo_asr.log 2>&1 & recognizer=$$!; \
	trap 'kill $$recognizer 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	$(BIN)/tacoskip train recipe=demo && \
	{ wait $$recognizer || { cat runs/demo_asr.log; false; }; }
	$(BIN)/tacoskip synthesize runs/demo "$(SENTENCE)" -o demo.wav --plot
	@echo "what runs/demo_asr hears in demo.wav:"
	@$(BIN)/tacoskip transcribe runs/demo_asr demo.wav

# Speed beside the peers first, on all cores. attention.py trains networks: started by hand.
bench:
	@$(MAKE) --no-print-directory setup EXTRAS=$(EXTRAS),bench
	$(BIN)/python benchmarks/speed.py --save build/speed.json $(if $(wildcard $(LJSPEECH)/wavs),--wavs $(LJSPEECH)/wavs)
	$(BIN)/python benchmarks/step_parts.py
	$(BIN)/python benchmarks/step_parts.py --precision bf16
	$(BENCH)/stacks.py memory
	$(BENCH)/stacks.py gates
	$(call bench,$(FSDD)/recordings,metric_anchors.py --root $(FSDD))
	$(call bench,$(FSDD)/recordings,griffin_lim.py $(FSDD)/recordings)
	$(call bench,$(LJSPEECH)/wavs,griffin_lim.py $(LJSPEECH)/wavs)
	$(call bench,$(LJSPEECH)/metadata.csv,text_ljspeech.py $(LJSPEECH)/metadata.csv)

BENCH = OMP_NUM_THREADS=1 $(BIN)/python benchmarks
bench = @if [ -e "$(1)" ]; then echo "== $(2)"; $(BENCH)/$(2); \
	else echo "skipped $(2): no $(1) (make bench FSDD=folder LJSPEECH=folder)"; fi

# Without a GPU: make gpu-check CHECK="--device cpu --quick". Without network: benchmarks/gpu_bundle.py.
gpu-check: setup
	$(BIN)/python benchmarks/gpu_check.py $(CHECK)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache demo.wav demo.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
