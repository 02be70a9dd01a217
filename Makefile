# muster. `make help` lists what can be made; everything lands below $(BUILD).
BUILD   ?= build
PREFIX  ?= /usr/local
OPT     ?= -O2
JOBS    ?= $(shell nproc)
SECONDS ?= 60
VERSION := $(shell cat VERSION)
ifeq ($(origin CC),default)
CC := gcc
endif

ROOMS    := base format text model probe plan device kernel comm engine store measure net report \
            serve batch bench health cluster
PACKAGES := jansson yajl libcyaml libpcre2-8 libutf8proc libxxhash smartcols

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla \
        -Wformat=2 -Wcast-qual -Wwrite-strings -Wdouble-promotion -Werror
# No contraction: a*b+c rounds twice wherever the source says so, on every compiler and machine.
FLAGS := -std=c17 -g $(OPT) -ffp-contract=off -fno-math-errno -pthread $(WARN) $(SANITIZE)
# ref's sums are written in lanes for the vectoriser; the families of kernel/cpu are each built for
# their instructions and chosen at run time.
FLAGS_ref         := -O3
FLAGS_segment     := -O3
FLAGS_codec       := -O3
FLAGS_encode      := -O3
FLAGS_codec_packed := -O3
FLAGS_pack        := -O3
VECTOR_OPT        := $(if $(SANITIZE),-O1,-O3)
FLAGS_avx2        := $(VECTOR_OPT) -mavx2 -mfma -mf16c
FLAGS_avx512      := $(VECTOR_OPT) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c
FLAGS_avx512_bf16 := $(FLAGS_avx512) -mavx512bf16
# What costs on this machine depend on: a change of this code or of its flags has them timed again.
TIMED := $(wildcard src/kernel/*.? src/kernel/*/*.? src/measure/*.? src/plan/costs.h src/base/team.c src/bench/step.c \
         src/engine/scheduler.c src/engine/replica.c)
FLAGS_kept = -DMU_COSTS_REVISION='"$(shell (echo "$(CC) $(OPT) $(SANITIZE) $(CHECKS)"; cat $(TIMED)) | cksum | cut -d" " -f1)"'
DEFS  := -D_GNU_SOURCE -DMU_VERSION='"$(VERSION)"' -Isrc $(shell pkg-config --cflags $(PACKAGES)) $(CHECKS)
# All that one file is compiled with; a file that needs a CPU feature has FLAGS_name := -m... here.
CFLAGS_OF = $(FLAGS) $(DEFS) $(FLAGS_$(notdir $(basename $<)))
# Optional: with its header here, the library is looked for when the program wants it.
optional = $(if $(shell pkg-config --exists '$(1)' && echo yes),-DMU_HAVE_$(2) $(shell pkg-config --cflags '$(1)'))
# SQLite is loaded when a file is opened.
DEFS  += $(shell pkg-config --cflags 'sqlite3 >= 3.37')
DEFS  += $(call optional,libcurl >= 7.85,CURL) $(call optional,ncursesw,CURSES) \
         $(call optional,libmicrohttpd,MICROHTTPD)
# MPI, likewise: what calls it is a library of its own, loaded when ranks are processes.
MPI_CFLAGS := $(shell pkg-config --exists ompi-c && pkg-config --cflags-only-I ompi-c)
LIBS  := $(shell pkg-config --libs $(PACKAGES)) -lm -ldl -pthread

ifneq ($(V),1)
Q := @
say = @printf '  %-5s %s\n' $(1) $(2)
endif

MPI_SOURCE := src/comm/mpi.c
SOURCES   := $(filter-out $(MPI_SOURCE),$(foreach r,$(ROOMS),$(wildcard src/$(r)/*.c src/$(r)/*/*.c)))
CLI       := $(wildcard src/cli/*.c)
TESTS     := $(wildcard tests/*/test_*.c)
FUZZERS   := $(wildcard tests/fuzz/fuzz_*.c)
BENCHES   := $(wildcard bench/*.c)
HEADERS   := $(wildcard src/*/*.h src/*/*/*.h tests/*.h tests/*/*.h)
OBJECTS   := $(SOURCES:%.c=$(BUILD)/%.o)
CLI_OBJ   := $(CLI:%.c=$(BUILD)/%.o)
TEST_BINS := $(TESTS:%.c=$(BUILD)/%)
FUZZ_BINS := $(FUZZERS:%.c=$(BUILD)/%)
FAKES     := $(BUILD)/tests/probe/libnvidia-ml.so.1 $(BUILD)/tests/measure/libcuda.so.1
FAKE_C    := tests/probe/nvml_fake.c tests/measure/cuda_fake.c
REPLAYS   := $(FUZZERS:tests/fuzz/fuzz_%.c=$(BUILD)/tests/fuzz/replay_%)
LINTED    := $(SOURCES) $(CLI) $(TESTS) $(FUZZERS) $(BENCHES) tests/fuzz/replay.c $(FAKE_C)
LIB       := $(BUILD)/libmuster.a
BIN       := $(BUILD)/muster
PLUGINS   := $(if $(MPI_CFLAGS),$(BUILD)/libmuster-mpi.so)
LINTED    += $(if $(MPI_CFLAGS),$(MPI_SOURCE))
FLAGS_mpi := -fPIC -fvisibility=hidden $(MPI_CFLAGS)

.PHONY: all run test asan tsan fuzz lint lint-files format bench prove faults peers servers \
        predictions oracle install clean help test-programs fuzz-programs
all: $(BIN) $(PLUGINS) ## the program, build/muster

$(BUILD)/%.o: %.c Makefile VERSION
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_OF) -MMD -MP -c $< -o $@

# The assembler includes these tables, which the compiler's dependency files do not see.
$(BUILD)/src/format/share.o: share/models.tsv
$(BUILD)/src/measure/kept.o: $(TIMED)
$(BUILD)/src/health/share.o: share/logs.tsv
$(BUILD)/src/probe/catalog.o: $(addprefix share/,devices.tsv links.tsv engines.tsv published.tsv)

$(LIB): $(OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BIN): $(CLI_OBJ) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(FLAGS) -o $@ $(CLI_OBJ) $(LIB) $(LIBS)

$(BUILD)/libmuster-mpi.so: $(MPI_SOURCE:%.c=$(BUILD)/%.o)
	$(call say,LINK,$@)
	$(Q)$(CC) $(FLAGS) -shared -o $@ $^ $(shell pkg-config --libs ompi-c)

$(BUILD)/tests/fuzz/replay_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/tests/fuzz/replay.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(FLAGS) -o $@ $^ $(LIBS)

$(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(FLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(FLAGS) -o $@ $< $(LIB) $(LIBS) -lcmocka

# Stand in for the driver's libraries; the loader finds them where LD_LIBRARY_PATH says.
$(BUILD)/tests/probe/libnvidia-ml.so.1: tests/probe/nvml_fake.c
$(BUILD)/tests/measure/libcuda.so.1: tests/measure/cuda_fake.c
$(FAKES): Makefile
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) -D_GNU_SOURCE -fPIC -shared -o $@ $(filter %.c,$^)

# Programs that measure; bench/results/ has what they printed.
$(BUILD)/bench/%: $(BUILD)/bench/%.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(FLAGS) -o $@ $< $(LIB) $(LIBS)

test-programs: $(BIN) $(PLUGINS) $(TEST_BINS) $(REPLAYS) $(FAKES)
fuzz-programs: $(FUZZ_BINS)

# One more build of everything below its own folder: $(call variant,NAME,GOAL,VARIABLES).
# Instrumented code makes gcc's flow warnings guess wrong, so -w there: the plain builds show all.
variant = +$(Q)$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/$(1) CHECKS=-DMU_CHECKS $(3) $(2)
run_tests = $(Q)python3 tests/run.py --build $(BUILD)/$(1) $(TESTS_FLAGS)

run: all ## shows what muster does, on a small real model
	$(Q)tools/demo.sh $(BIN)

test: ## builds with internal checks on, runs every test and replays the fuzz corpora
	$(call variant,checks,test-programs)
	$(call run_tests,checks)

asan: ## the same under the address and undefined-behaviour sanitizers
	$(call variant,asan,test-programs,OPT=-O1 SANITIZE='-w -fsanitize=address$(,)undefined -fno-sanitize-recover=all')
	$(call run_tests,asan)

tsan: ## the same under the thread sanitizer
	$(call variant,tsan,test-programs,OPT=-O1 SANITIZE='-w -fsanitize=thread')
	$(call run_tests,tsan)

fuzz: ## libFuzzer on every target, SECONDS=60 each; adds to bench/results/fuzz.tsv
	$(call variant,fuzz,fuzz-programs,CC=clang SANITIZE='-fsanitize=fuzzer-no-link$(,)address$(,)undefined -fno-sanitize-recover=all')
	$(Q)python3 tools/fuzz.py --build $(BUILD)/fuzz --seconds $(SECONDS) $(FUZZ_BINS:$(BUILD)/tests/fuzz/fuzz_%=%)

lint: ## layers, banned calls, format, gcc and clang warnings, clang-tidy, cppcheck
	$(Q)python3 tools/check_layers.py src tools/layers.allow
	$(Q)python3 tools/check_source.py
	$(Q)clang-format --dry-run -Werror $(LINTED) $(HEADERS)
	+$(Q)$(MAKE) --no-print-directory -k -j$(JOBS) BUILD=$(BUILD)/lint lint-files

lint-files: $(LINTED:%.c=$(BUILD)/%.o) $(LINTED:%.c=$(BUILD)/%.tidy)

# cppcheck's uninitvar does not follow loops (clang's analyser does), and its comparePointers does
# not know that the linker's symbols bound one object.
CPPCHECK := cppcheck --quiet --std=c11 --enable=warning,performance,portability --error-exitcode=1 \
            --inline-suppr --suppress=uninitvar --suppress=legacyUninitvar --suppress=comparePointers

$(BUILD)/%.tidy: %.c .clang-tidy Makefile
	$(call say,TIDY,$<)
	@mkdir -p $(@D)
	$(Q)clang -fsyntax-only $(CFLAGS_OF) -DMU_CHECKS -MMD -MP -MT $@ -MF $@.d $<
	$(Q)$(CPPCHECK) $(DEFS) $<
	$(Q)clang-tidy --quiet $< -- $(CFLAGS_OF) 2>/dev/null
	$(Q)touch $@

format: ## clang-format on every file of ours
	$(Q)clang-format -i $(LINTED) $(HEADERS)

TIMES ?= 10
faults: ## kills, stops and confuses ranks that are processes, TIMES=10 each, as root also between hosts; fails each allocation
	$(call variant,checks,test-programs)
	$(Q)for t in tests/faults/mpi_*.py; do TIMES=$(TIMES) MUSTER=$(CURDIR)/$(BUILD)/checks/muster python3 $$t || exit 1; done
	$(call variant,asan,test-programs,OPT=-O1 SANITIZE='-w -fsanitize=address$(,)undefined -fno-sanitize-recover=all')
	$(Q)MUSTER=$(CURDIR)/$(BUILD)/asan/muster python3 tests/faults/allocations.py

oracle: all ## compares with results computed by others: ORACLE=folder
	$(Q)python3 tests/run.py --oracle "$(ORACLE)" --build $(BUILD)

# What can be proved without a download: every architecture of the golden models, and each type
# that weights can have. PROVED="MODEL ..." proves others.
GOLDEN := tests/golden
PROVED ?= $(patsubst %/config.json,%,$(wildcard $(GOLDEN)/1_tiny/*/config.json)) \
          $(wildcard $(GOLDEN)/6_quant/gguf/*.gguf) synth:nano synth:nano-moe synth:nano-latent \
          $(foreach t,f32 f16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4, \
            synth:micro@$(t)) synth:nano-moe@q4_0 synth:nano-latent@q8_0

prove: all ## the same bits under many placements, for every kind of small model
	$(Q)for m in $(PROVED); do $(BIN) prove $$m $(PROVE_FLAGS) || exit 1; done

bench: $(filter-out %/predict,$(BENCHES:%.c=$(BUILD)/%)) ## times the kernels alone beside what the machine can do
	$(Q)for b in $^; do $$b || exit 1; done

predictions: $(BUILD)/bench/predict ## predictions beside measurements, here: PREDICTIONS_FLAGS="--seconds 170"
	$(Q)python3 bench/predictions.py --predict $(BUILD)/bench/predict --kept $(BUILD)/predictions $(PREDICTIONS_FLAGS)

peers: all ## times it beside llama.cpp, which is fetched and built: PEERS_FLAGS="--quick MODEL"
	$(Q)python3 bench/peers.py --muster $(BIN) $(PEERS_FLAGS)

servers: test-programs ## asks a real llama-server, which is fetched and built, and breaks it
	$(Q)MUSTER=$(BIN) python3 tests/servers/llama_server.py $(SERVERS_FLAGS)

install: all ## into $(DESTDIR)$(PREFIX): program, man page, completions
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/muster
	$(if $(PLUGINS),install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/muster $(PLUGINS))
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	    $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN) --man > $(DESTDIR)$(PREFIX)/share/man/man1/muster.1
	$(BIN) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/muster
	$(BIN) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_muster
	$(BIN) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/muster.fish

clean: ## removes $(BUILD)
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

, := ,
-include $(LINTED:%.c=$(BUILD)/%.d) $(LINTED:%.c=$(BUILD)/%.tidy.d)
.SECONDARY:
