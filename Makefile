# make demo         set up, then run the main job
# make test         set up, then lint and test
# make bench        set up, then measure beside the peers
# make gpu-results  set up, then test and measure this machine's gpu, and keep what comes of it
# make soak         set up, then ten minutes of calls to servers that are killed and stopped
# make lint         only ruff, mypy and pyright
# make clean        back to a fresh checkout

PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start thousands of interpreters. Where none of them kept what it compiles, each would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test bench gpu-results soak lint clean ruff mypy basedpyright

demo: .venv/dev
	$(BIN)/hybrid-compute demo

test: lint .venv/vulkan
	$(BIN)/pytest --numprocesses auto --dist loadfile

bench: .venv/bench
	$(BIN)/python -m benchmarks

gpu-results: .venv/dev .venv/bench
	$(BIN)/python -m benchmarks.gpu_results

soak: .venv/bench
	$(BIN)/python -m benchmarks.soak --minutes 10

# The two type checkers use one core each.
lint: .venv/dev
	@$(MAKE) --no-print-directory --jobs 2 ruff mypy basedpyright

ruff:
	$(BIN)/ruff check
	$(BIN)/ruff format --check

mypy basedpyright:
	$(BIN)/$@

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

# A stamp for each extra: a second run finds it newer than pyproject.toml and installs nothing.
.venv/dev .venv/bench: .venv/%: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

# Where there is no gpu, its tests run on Mesa's driver, which computes on the processor. Without any they are skipped.
.venv/vulkan: .venv/dev
	if [ -n "$(wildcard /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json)" ]; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; \
	then apt-get update -qq && apt-get install -qq --no-install-recommends mesa-vulkan-drivers libvulkan1; \
	else echo "No driver for Vulkan is installed: tests that need one are skipped (mesa-vulkan-drivers is one)"; fi
	touch $@

# Debian keeps ensurepip, and with it `venv` as everybody knows it, in a package of its own (python3-venv).
# Without it the environment starts empty and the pip outside fills it; nothing is installed outside.
$(BIN)/pip:
	if $(PYTHON) -m ensurepip --version >/dev/null 2>&1; \
	then $(PYTHON) -m venv --clear .venv; \
	else $(PYTHON) -m venv --clear --without-pip .venv && \
	     $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; fi
