# Two commands: `make demo` shows the whole of KRR-ST on embedded data, `make test` checks everything.
# VENV names the folder of the environment, PYTHON an interpreter that it is made by (else python3).
export VENV ?= .venv

.PHONY: demo test install check fast slow torture extras wheel same coverage speed gpu-toy clean

demo: install
	$(VENV)/bin/datastill run quick --out runs/quick --resume

test: install check fast

install:
	@scripts/install

check: install
	scripts/check

fast: install
	scripts/test -m "not slow and not torture"

slow: install
	scripts/test -m "slow and not torture"

torture: install
	scripts/test -m torture

extras:
	scripts/extras

wheel:
	scripts/wheel

same: install
	scripts/same

coverage: install
	scripts/coverage

gpu-toy: install
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" OMP_NUM_THREADS=2 bash benchmarks/gpu/run.sh first 540 --toy

speed: install
	OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python benchmarks/speed/regression.py

clean:
	rm -rf $(VENV) $(VENV)-extras build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
