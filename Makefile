# make demo: install into .venv and run the main job on data that needs no download.
# make test, make test-all, make check, make docs: the same set-up, then the tests (without or with the slow ones), the
# checks, or the pages in site/.
# make release: the wheel and the source distribution in dist/, each of them tried in an environment of its own.
# Another Python: make demo PYTHON=python3.12
# The tests on an accelerator: make test PLATFORM=gpu, after .venv/bin/python -m pip install -e '.[cuda]'
# The code for accelerators, on the CPU: make test PLATFORM=imitated

PYTHON ?= python3
PLATFORM ?= cpu
export WNA_JAX_TEST_PLATFORM = $(PLATFORM)
VENV = .venv/.installed
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable

.PHONY: demo test test-all check docs release clean

demo: $(VENV)
	.venv/bin/python -m experiments.noise_maps --dataset=digits --num_samples=300000 --out_dir=runs/demo

test: $(VENV)
	.venv/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile -m 'not slow'

test-all: $(VENV)
	.venv/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

check: $(VENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

# Outside the checkout, so that what is imported is what was installed.
release: $(VENV)
	rm -rf dist
	.venv/bin/python -m build
	set -e; for given in dist/*.whl dist/*.tar.gz; do \
		empty=$$(mktemp -d); \
		$(PYTHON) -m venv $$empty/venv; \
		$$empty/venv/bin/python -m pip install --quiet --disable-pip-version-check $$given; \
		(cd $$empty; venv/bin/python -m wna_jax demo; test -s demo/report.html); \
		rm -rf $$empty; \
		echo "$$given is installed and works in an empty environment"; \
	done

$(VENV): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(PIP) '.[dev]'
	@touch $@

.venv/.docs: $(VENV)
	$(PIP) '.[docs]'
	@touch $@

clean:
	rm -rf .venv dist runs site
