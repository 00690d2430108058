# Two commands do all set-up: `make demo` runs the main job on real digits, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DIGITS := examples/digits
DEMO := build
# xdist workers; every test is independent.
JOBS ?= auto
# The CPU build is all the tests need.
TORCH ?= torch==2.13.0

.PHONY: demo test lint format tables clean

demo: $(VENV)/.demo
	$(BIN)/mcucompile $(DIGITS)/models/four_view_64_16_10.onnx --target hifive1 --weights dlq4 --no-multiply \
	    --samples $(DIGITS)/calibration.npy --toolchain zig -o $(DEMO)
	$(BIN)/mcucompile verify $(DEMO) --on emulator \
	    --inputs $(DIGITS)/test_images.npy --labels $(DIGITS)/test_labels.npy
	$(BIN)/mcucompile bench $(DEMO) --on emulator

test: $(VENV)/.test lint
	$(BIN)/pytest -n $(JOBS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.c' '*.h' ':!tests/golden')

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files '*.c' '*.h' ':!tests/golden')

# Regenerates the README's tables; minutes, see benchmarks/.
tables: $(VENV)/.test
	$(BIN)/python benchmarks/digits_accuracy.py
	$(BIN)/python benchmarks/digits_firmware.py
	$(BIN)/python benchmarks/compile_speed.py
	$(BIN)/python benchmarks/conformance.py
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/multiplication_free_claims.py
	$(BIN)/python benchmarks/activation_methods.py
	$(BIN)/python benchmarks/multiplication_free.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/multiplication_free.py --network resnet8
	$(BIN)/python benchmarks/shift_digits.py
	$(BIN)/python benchmarks/tables.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: $(PYTHON) is too old\n  mcucompile needs Python 3.11 or newer\n  fix: make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	    || { echo "error: $(PYTHON) cannot make a virtual environment\n  its ensurepip module is missing\n  fix: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[toolchain]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[toolchain,torch,plot,test]'
	touch $@

clean:
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
