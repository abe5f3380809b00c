# Every target sets up .venv first. It needs Python 3.11 or later, make and a package index.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint docs pictures bench bundles figures evidence apk web web-build web-screenshot assets demo-model zoo npu-zoo ladder runtimes npu clean

demo: $(READY)
	$(BIN)/panns-litert demo

# One worker per core; see tests/suite.py. A single test: .venv/bin/python -m pytest -k NAME
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Writes the site of docs/ to build/site. A broken link fails, and so does a page that is not in the nav of mkdocs.yml;
# `--quiet` would let both pass.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Draws the picture of README.md, of a real recording, with mn04's published weights and windows of 2 s.
RECORDING := ../shared/audio/metro_station-paris.wav
WEIGHTS := ../shared/weights/mn04_as_mAP_432.pt

pictures: $(READY)
	$(BIN)/panns-litert convert mn04 --checkpoint $(WEIGHTS) --seconds 2 --out build/pictures/mn04
	$(BIN)/panns-litert plot $(RECORDING) --model build/pictures/mn04 --hop 0.25 --top 6 --out docs/heard.png

bench: $(READY)
	$(BIN)/python tests/bench/bench.py

# Measures every time that the documents show, in one run on a machine that does nothing else, and writes the documents:
# about half an hour on two cores, and once 40 minutes before for the bundles in build/zoo. An interrupted run is resumed.
figures: bundles
	$(BIN)/python tests/bench/figures.py

bundles: $(READY)
	$(BIN)/python tests/bench/bundles.py

# Measures tags, events and fine-tuning on real labelled clips, and writes the tables of docs/evidence.md: about an hour
# on two cores. An interrupted run continues.
evidence: $(READY)
	$(BIN)/python tests/bench/evidence.py

# Builds the Android app without LiteRT, which only Google's Maven has: it shows that the app builds, and cannot run.
apk: $(READY)
	mkdir -p build
	$(BIN)/python tests/android/apk.py build/app.apk

# Builds the page of web_demo and serves it on this computer. MN04_CHECKPOINT=FILE takes mn04's weights from a file.
WEB_PORT := 4173

web: web-build
	cd web_demo && npm run serve -- --port $(WEB_PORT)

web-build: $(READY)
	@command -v npm >/dev/null || { echo "make: no npm; expected Node 18 or later with npm: https://nodejs.org"; exit 2; }
	$(BIN)/python web_demo/make_public.py
	cd web_demo && npm ci --loglevel=error && npm run build --silent

# Takes the picture of web_demo/README.md again, with the same code that checks it in the tests.
web-screenshot: $(READY)
	WEB_SCREENSHOT=1 $(BIN)/python -m pytest tests/web/test_page.py -k screenshot

# Makes the derived files of assets/ again: the clips, and everything that depends on the demo checkpoint.
assets: $(READY)
	$(BIN)/python -m panns_litert_convert.demo.clips --out assets/clips
	$(BIN)/python -m panns_litert_convert.assets --out assets

# Makes a demo checkpoint, from synthesis to evaluation: many steps on short clips, then some on whole windows. Takes
# about 25 minutes on one core. To ship the checkpoint: set DEMO_OUT=assets, write its sha256 to zoo.py, run
# `make assets` and the suite. The numbers are variables so that a test can run a small version.
DEMO := build/demo
DEMO_OUT := build/demo/ship
DEMO_CLIPS := 8000
DEMO_STEPS := 3000
DEMO_LONG_CLIPS := 2000
DEMO_LONG_STEPS := 600
DEMO_EVALUATED := 400
DEMO_WINDOWS := 500

# Arguments: folder in $(DEMO), options of the data set, seconds of a packed clip, options of the training.
define demo_stage
	$(BIN)/python -m panns_litert_convert.demo.audioset --out $(DEMO)/$(1) --evaluate $(DEMO_EVALUATED) $(2)
	for table in balanced_train eval; do \
		$(BIN)/panns-litert pack --metadata $(DEMO)/$(1)/$${table}_segments.csv --clips $(DEMO)/$(1)/clips \
			--classes $(DEMO)/$(1)/class_labels_indices.csv --seconds $(3) --out $(DEMO)/$(1)/$$table.h5 || exit; \
	done
	OMP_NUM_THREADS=1 $(BIN)/panns-litert train --model demo --data $(DEMO)/$(1)/balanced_train.h5 \
		--evaluate $(DEMO)/$(1)/eval.h5 --out $(DEMO)/$(1)/run $(4) --every 500 --batch-size 16 \
		--schedule one-cycle --weight-decay 1e-3 --settle 100 --sampler plain --mixup 0 --no-spec-augment --no-dropout
endef

demo-model: $(READY)
	$(call demo_stage,short,--train $(DEMO_CLIPS) --seconds 1.2 3,3,--steps $(DEMO_STEPS) --learning-rate 4e-3)
	$(call demo_stage,long,--train $(DEMO_LONG_CLIPS) --seconds 2 10 --rough -75 -38 --seed 1,10,--steps $(DEMO_LONG_STEPS) \
		--learning-rate 1e-3 --checkpoint $(DEMO)/short/run/checkpoint.safetensors)
	$(BIN)/python -m panns_litert_convert.demo.model --checkpoint $(DEMO)/long/run/checkpoint.safetensors \
		--out $(DEMO_OUT) --clips $(DEMO_WINDOWS)

# Converts and proves every model at full size: about 20 minutes. An interrupted run is resumed.
zoo: $(READY)
	$(BIN)/python -m panns_litert_convert.sweep --out assets/zoo.json --document docs/zoo.md --brief docs/choose.md

# Compiles the bundles of `make bundles` for every generation of Qualcomm's NPU, and runs small ones on its emulator, with
# the parts that `make npu` or you installed. An interrupted run is resumed.
npu-zoo: bundles
	PYTHONPATH=build/npu $(BIN)/python -m panns_litert_convert.npu_sweep --bundles build/zoo --out assets/npu.json --document docs/npu.md

# Measures every model at every precision. Slow, since layers that need a finer precision are found one by one. An
# interrupted run is resumed.
ladder: $(READY)
	$(BIN)/python -m panns_litert_convert.ladder --out assets/ladder.json --document docs/ladder.md --brief docs/choose.md

# Runs the same files in every runtime that plain .tflite files are for, each in an environment of its own under build/.
# Takes 5 minutes on two cores. `make figures` runs it, too.
runtimes: $(READY)
	$(BIN)/python tests/runtimes/runtimes.py --out assets/runtimes.json --document docs/runtimes.md

# Compiles demo, mn04 and cnn14 for NPUs and runs them on the vendors' emulators. Qualcomm's has a licence of its own:
# `make npu QUALCOMM_LICENCE=accepted` accepts it for you and installs it under build/npu, where nothing else sees it.
# Otherwise the one that you installed is used. NPU_SOCS=sm8650,sm8850 chooses the SoCs.
NPU_SOCS := sm8350,sm8450,sm8550,sm8650,sm8850,intel-cpu

npu: $(READY)
	@if [ "$(QUALCOMM_LICENCE)" = accepted ]; then $(BIN)/python -m pip install --quiet --no-deps --upgrade \
		--target build/npu onnxruntime-qnn==2.7.0 onnxruntime==1.32.0; fi
	PYTHONPATH=build/npu $(BIN)/python tests/bench/npu.py --soc $(NPU_SOCS)

# The marker is written last, so that an interrupted installation is repeated.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $(PYTHON) is too old; expected Python 3.11 or later: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[convert,docs,evidence,train,test]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist web_demo/public web_demo/dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
