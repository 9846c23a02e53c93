# Everything a person types. Nothing here needs an activated environment.
#   make demo | test | chaos | mutants | check | up | down | bench | clean        PYTHON=python3.12 chooses the interpreter
.DELETE_ON_ERROR:
.PHONY: setup demo test test-torch test-product chaos mutants check up down bench clean lock
.DEFAULT_GOAL := setup

PIP = -m pip install --quiet --disable-pip-version-check --no-input

setup: .venv/.made .venv-triton/.made

# Each environment is made in one go: if a step fails, the stamp is missing and the next run repeats it.
.venv/.made: requirements/all.txt pyproject.toml stack/preflight.py stack/jgo.lock.toml
	@python=$$(sh stack/find-python.sh) || exit 1; \
	echo "setting up .venv with $$python (about 1 GB on disk)"; \
	test -x .venv/bin/python || "$$python" -m venv .venv
	.venv/bin/python $(PIP) --require-hashes -r requirements/all.txt
	.venv/bin/python $(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	.venv/bin/python -m stack.jars
	@touch $@

.venv-triton/.made: requirements/triton.txt requirements/triton-server.txt stack/preflight.py
	@python=$$(sh stack/find-python.sh) || exit 1; \
	echo "setting up .venv-triton with $$python (about 700 MB on disk)"; \
	test -x .venv-triton/bin/python || "$$python" -m venv .venv-triton
	.venv-triton/bin/python $(PIP) --require-hashes -r requirements/triton.txt
	.venv-triton/bin/python $(PIP) --no-deps --require-hashes -r requirements/triton-server.txt
	@touch $@

# The product's packages and torch. For the tests and for Phi-4 only: `make setup` and `make demo` do without.
.venv-torch/.made: requirements/torch.txt pyproject.toml stack/preflight.py
	@python=$$(sh stack/find-python.sh) || exit 1; \
	echo "setting up .venv-torch with $$python (about 6 GB on disk: torch brings CUDA's libraries)"; \
	test -x .venv-torch/bin/python || "$$python" -m venv .venv-torch
	.venv-torch/bin/python $(PIP) --require-hashes -r requirements/torch.txt
	.venv-torch/bin/python $(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

demo: setup
	@.venv/bin/earful demo

up: setup
	@.venv/bin/earful up

down:
	@if test -x .venv/bin/earful; then .venv/bin/earful down; fi

# What needs torch runs in its environment, without the fixtures of tests/conftest.py, and all else beside it in the product's:
# each keeps one core busy. What the first says comes in one piece when it ends, long before the second, whose closing line
# is the last one. A failure of either fails both.
TORCH_TESTS = $(wildcard tests/speech/phi4 tests/sentiment/test_torch.py tests/sentiment/test_training.py \
	tests/sentiment/test_own_models.py tests/sentiment/test_in_domain.py)
test: setup
	@$(MAKE) --no-print-directory --keep-going --jobs=2 test-torch test-product

test-torch: .venv-torch/.made
	@status=0; .venv-torch/bin/python -m pytest --confcutdir tests/speech $(TORCH_TESTS) > .venv-torch/tests.log 2>&1 || status=$$?; \
	cat .venv-torch/tests.log; exit $$status

test-product: setup
	@.venv/bin/python -m pytest $(addprefix --ignore=,$(TORCH_TESTS))

# What `make test` leaves out, hours in all; goes on where it was broken off. FORMS chooses of: starred short long
FORMS ?= short long
chaos: setup
	@.venv/bin/python -m tests.faults.campaign $(FORMS)

mutants: setup
	@.venv/bin/python -m tests.faults.mutate

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: setup
	@.venv/bin/python -m bench

# Resolves every dependency anew and writes the locks.
UV = .venv/bin/uv pip compile --generate-hashes --no-emit-index-url --python-version 3.11 --quiet
lock: .venv/.made
	$(UV) pyproject.toml --extra stack --group dev -o requirements/all.txt
	$(UV) pyproject.toml -o requirements/runtime.txt
	$(UV) pyproject.toml --extra train requirements/torch.in -o requirements/torch.txt
	$(UV) requirements/triton.in -o requirements/triton.txt
	$(UV) requirements/triton-server.in --no-deps -o requirements/triton-server.txt
	.venv/bin/python -m stack.jars --lock

clean:
	@if test -x .venv/bin/earful; then .venv/bin/earful down; fi
	rm -rf .venv .venv-triton .venv-torch .earful bench.json bench-phi4.json
