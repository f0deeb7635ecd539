# What the project can do, in the words of CONTRIBUTING.md. Each verb installs what it misses.

# Dynamic exclusivity checks guard against mistakes that the tests, which run with them, would
# have found; the shipped program does without (docs/decisions/0007-build-flags.md).
# Searching bits is twice as fast with the instructions for it, which x86-64 has had since 2013; empty
# CPU_FLAGS for older machines. The program checks when it starts.
CPU_FLAGS := $(if $(filter x86_64,$(shell uname -m)),\
	-Xcc -mpopcnt -Xcc -mlzcnt -Xcc -mbmi -Xcc -mbmi2)
PRODUCT_FLAGS := -c release --static-swift-stdlib -Xswiftc -enforce-exclusivity=unchecked \
	$(CPU_FLAGS) --explicit-target-dependency-import-check error --product tally
TEST_FLAGS := --explicit-target-dependency-import-check error
PRODUCT := .build/release/tally
PYTHON := .venv/bin/python

.PHONY: build run cluster chaos test unit clients sim sanitize fuzz bench bench-costs bench-dense bench-cold bench-engine bench-nats bench-cluster bench-failover unit-costs lint manual clean

build:
	swift build $(PRODUCT_FLAGS)

# A generated day of traffic through real connections, checked to the last count.
run: build
	Scripts/demo.sh $(PRODUCT)

test: lint build unit clients

# The tests of the NATS client need the nats-server that is installed with the other tools.
unit: .venv/installed
	swift build --build-tests $(TEST_FLAGS)
	swift test --skip-build

# Real clients, a real redis-server beside it, crashes and bad behaviour.
clients: build .venv/installed
	TALLY_BINARY=$(PRODUCT) $(PYTHON) -m pytest -q Tests/ClientTests

.venv/installed: Tests/ClientTests/requirements.txt Scripts/install-test-tools.sh
	Scripts/install-test-tools.sh
	touch $@

# 2,000 seeds of crashes and disk faults; TALLY_SIMULATION_SEED=N runs one again.
sim:
	swift build --build-tests $(TEST_FLAGS)
	TALLY_SIMULATION_SEEDS=2000 swift test --skip-build --filter SimulationTests

# The whole suite under the thread and the address sanitizer.
sanitize: .venv/installed
	Scripts/sanitize.sh thread
	Scripts/sanitize.sh address

# Three NATS servers and three nodes on loopback, at work.
cluster: build .venv/installed
	Scripts/cluster-demo.sh $(PRODUCT) .venv/bin/nats-server

# Ten minutes of everything that can happen to a cluster, under load whose every reply is checked.
chaos: build .venv/installed
	TALLY_BINARY=$(abspath $(PRODUCT)) $(abspath $(PYTHON)) Tests/ClientTests/chaos.py --seconds 600

# What clients notice when a node or a NATS server is killed.
bench-failover: build .venv/installed
	$(PYTHON) Benchmarks/failover.py --tally $(PRODUCT)

# A cluster beside NATS's own counters and a Redis Cluster.
bench-cluster: build .venv/installed
	$(PYTHON) Benchmarks/cluster.py --tally $(PRODUCT) --write docs/cluster-benchmarks.md

# The unit costs that tally capacity computes with, as this machine has them.
unit-costs: build .venv/installed
	$(PYTHON) Benchmarks/unit_costs.py --tally $(PRODUCT)

# 10 million inputs each for the RESP parser, the journal reader and the NATS parser.
fuzz:
	$(MAKE) -C Fuzz run

# Side by side with redis-server, written to docs/benchmarks.md.
bench: build
	Scripts/install-test-tools.sh
	$(PYTHON) Benchmarks/against_redis.py --tally $(PRODUCT) --write docs/benchmarks.md

# Sizes beside other ways to keep records, reads beside redis-server, with plots in docs.
bench-dense: build
	Scripts/install-test-tools.sh
	.venv/bin/pip install -q -r Benchmarks/requirements.txt
	swift build $(filter-out --product tally,$(PRODUCT_FLAGS)) --product EngineBenchmark
	$(PYTHON) Benchmarks/dense.py --tally $(PRODUCT) --engine .build/release/EngineBenchmark \
		--write docs

# What tokens, TLS, users, HTTP and deadlines cost.
bench-costs: build
	Scripts/install-test-tools.sh
	$(PYTHON) Benchmarks/costs.py --tally $(PRODUCT) --write docs/costs.md

# What a memory-limit costs, and how often the disk is read.
bench-cold: build
	Scripts/install-test-tools.sh
	.venv/bin/pip install -q -r Benchmarks/requirements.txt
	swift build $(filter-out --product tally,$(PRODUCT_FLAGS)) --product EngineBenchmark
	$(PYTHON) Benchmarks/cold.py --tally $(PRODUCT) --engine .build/release/EngineBenchmark

# The engine alone: sizes and speeds of segments and memtables, on generated records.
bench-engine:
	swift build $(filter-out --product tally,$(PRODUCT_FLAGS)) --product EngineBenchmark
	.build/release/EngineBenchmark

# The NATS client against one and three nats-servers that sync every write.
bench-nats: .venv/installed
	swift build $(filter-out --product tally,$(PRODUCT_FLAGS)) --product NATSBenchmark
	$(PYTHON) Benchmarks/nats.py --server .venv/bin/nats-server

# The man page, from what the program tells of its commands.
manual: build
	python3 Scripts/make-manual.py $(PRODUCT) > docs/man/tally.1

lint:
	swift format lint --strict --recursive --parallel Package.swift Sources Tests

clean:
	rm -rf .build .build-* .venv .run
