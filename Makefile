# Everything that is done with this project by hand or by CI. Each target sets up what it needs
# first: a machine with Python 3.11, make, and the right to install packages is enough. What is
# already there is left alone. Written for GNU Make 3.81, which is what macOS has.

VENV := .venv
BIN := $(VENV)/bin

# The first that is new enough; `make PYTHON=/path/to/python3 setup` takes another one.
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c '$(IS_NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

# Named after what the environment is made from, and where: a change to either file makes it anew, a
# new checkout of the same content does not. It must also hold a Python that still exists.
INSTALLED := $(VENV)/installed-$(shell (pwd; cat pyproject.toml requirements.txt) | cksum | tr ' ' -)
ifneq ($(shell test -x $(BIN)/python && echo usable),usable)
.PHONY: $(INSTALLED)
endif

# For `make fuzz` alone; it exists only for Linux on x86-64.
FUZZER := atheris==3.0.0

# For `make mutants` alone, which needs the operators of mutmut and nothing that they do not import.
MUTATOR := mutmut==3.8.1 libcst==1.9.0

.DEFAULT_GOAL := help
.PHONY: help setup demo test simulate bench faults fuzz mutants lint format clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(INSTALLED) ## install all that the other targets need: .venv, RabbitMQ, MongoDB
	@$(INSTALL_SERVERS)

demo: setup ## a premiere rush on real servers, audited from outside (ARGS="--requests 5000")
	$(BIN)/reservation-worker demo $(ARGS)

test: setup ## every test, on real servers (ARGS="-k settings -x")
	$(BIN)/python -m pytest $(ARGS)

simulate: $(INSTALLED) ## worlds in which everything goes wrong (SEEDS=400000), or one (SEED=17)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

bench: setup ## the worker beside an echo and the sketch (ARGS="--quick", ARGS=--help)
	$(BIN)/python -m tests.benchmarks $(ARGS)

faults: setup ## break servers, wires and workers under load, and audit (ARGS=--list, ARGS=--help)
	$(BIN)/python -m tests.faults $(ARGS)

fuzz: setup ## a coverage-guided fuzzer over what others send (ARGS="--seconds 3600", ARGS=--help)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet \
		--no-input --disable-pip-version-check $(FUZZER)
	nice -n 19 $(BIN)/python -m tests.fuzz $(ARGS)

mutants: $(INSTALLED) ## change the code place by place: do the tests notice? (ARGS=--help)
	@$(BIN)/python -c 'import libcst, mutmut' 2>/dev/null || $(BIN)/python -m pip install --quiet \
		--no-input --disable-pip-version-check --no-deps $(MUTATOR)
	nice -n 19 $(BIN)/python -m tests.mutation $(ARGS)

lint: $(INSTALLED) ## check the code with ruff and mypy
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

format: $(INSTALLED) ## format the code with ruff, and fix what it safely can
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

clean: ## remove what was made here, but no system packages
	rm -rf $(VENV) dist .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED):
	@$(CREATE_VENV)
	@echo "==> installing what requirements.txt names into $(VENV)"
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check \
		--requirement requirements.txt --editable .
	@rm -f $(VENV)/installed-*
	@touch $@

# ---- the recipes that take more than a line ----------------------------------------------------

# An environment without pip is what an interrupted or refused `python -m venv` leaves behind.
# Debian keeps the part that installs pip in a package of its own.
define CREATE_VENV
$(BIN)/python -m pip --version >/dev/null 2>&1 && exit 0; \
python='$(PYTHON)'; \
if ! "$${python:-false}" -c '$(IS_NEW_ENOUGH)' 2>/dev/null; then \
	echo "Python 3.11 or newer is needed: install it, or name one with make PYTHON=..." >&2; \
	exit 1; \
fi; \
echo "==> creating $(VENV) with $$("$$python" --version)"; \
"$$python" -m venv --clear $(VENV) >/dev/null 2>&1 && exit 0; \
if command -v apt-get >/dev/null; then \
	package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	sh -c "$$INSTALL_PACKAGES" sh "$$package" || exit 1; \
fi; \
"$$python" -m venv --clear $(VENV)
endef

# The mongod in $(VENV) needs libcurl 4 and OpenSSL 3, which a minimal Debian does not have;
# the package of the first depends on the second.
define INSTALL_SERVERS
PATH="$$PATH:/usr/lib/rabbitmq/bin:/opt/homebrew/opt/rabbitmq/sbin:/usr/local/opt/rabbitmq/sbin"; \
set --; \
command -v rabbitmq-server >/dev/null || set -- rabbitmq-server; \
for mongod in $(VENV)/lib/python3*/site-packages/fiftyone/db/bin/mongod; do \
	! ldd $$mongod 2>/dev/null | grep -q 'not found' || set -- "$$@" libcurl4; \
done; \
test $$# -eq 0 || sh -c "$$INSTALL_PACKAGES" sh "$$@"
endef

# Takes the names of Debian packages. Their services do not start, as every server here is a private
# one: policy-rc.d, which Debian's packages ask, forbids it for as long as this runs (one that is
# already there is not touched), and the system's RabbitMQ is kept from starting at boot.
define INSTALL_PACKAGES
set -eu
need() {
	echo "$$1 needed: $$2, then run make again" >&2
	exit 1
}

if [ "$$(uname)" = Darwin ]; then
	command -v brew >/dev/null || need "RabbitMQ is" "install it, or Homebrew to get it from"
	echo "==> installing RabbitMQ with Homebrew"
	# Homebrew refuses to work as root.
	exec $${SUDO_USER:+sudo -u "$$SUDO_USER"} brew install --quiet rabbitmq
fi

command -v apt-get >/dev/null || need "$$* is" "install it with this system's package manager"
if [ "$$(id -u)" -eq 0 ]; then
	as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	as_root="sudo -n"
elif command -v sudo >/dev/null && [ -t 0 ]; then
	as_root=sudo
	sudo -v
else
	need "$$* is" "install it as root with: apt-get install $$*"
fi

echo "==> installing $$* with apt-get"
log=$$(mktemp)
trap 'rm -f "$$log"' EXIT
$$as_root sh -c '
	set -eu
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $$policy ]; then
		trap "rm -f $$policy" EXIT
		trap "exit 1" HUP INT TERM
		printf "#!/bin/sh\nexit 101\n" >$$policy
		chmod 755 $$policy
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update || echo "trying with the package lists that are there"
	apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$$@"
	case " $$* " in
		*" rabbitmq-server "*) systemctl disable rabbitmq-server || : ;;
	esac
' sh "$$@" >"$$log" 2>&1 </dev/null || { cat "$$log" >&2; exit 1; }
endef
export INSTALL_PACKAGES
