# muster. `make help` lists what can be made; everything lands below $(BUILD).
BUILD   ?= build
PREFIX  ?= /usr/local
CC      ?= gcc
OPT     ?= -O2
VERSION := $(shell cat VERSION)

ROOMS    := base format text model probe plan device kernel comm engine store measure net report \
            serve batch bench health cluster
PACKAGES := jansson yajl libpcre2-8 libutf8proc libxxhash smartcols

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla \
        -Wformat=2 -Wcast-qual -Wwrite-strings -Wdouble-promotion -Werror
# No contraction: a*b+c rounds twice wherever the source says so, on every compiler and machine.
FLAGS := -std=c17 -g $(OPT) -ffp-contract=off -fno-math-errno -pthread $(WARN) $(SANITIZE)
DEFS  := -D_GNU_SOURCE -DMU_VERSION='"$(VERSION)"' -Isrc $(shell pkg-config --cflags $(PACKAGES)) $(CHECKS)
LIBS  := $(shell pkg-config --libs $(PACKAGES)) -lm -ldl -pthread

ifneq ($(V),1)
Q := @
say = @printf '  %-5s %s\n' $(1) $(2)
endif

SOURCES   := $(foreach r,$(ROOMS),$(wildcard src/$(r)/*.c src/$(r)/*/*.c))
CLI       := $(wildcard src/cli/*.c)
TESTS     := $(wildcard tests/*/test_*.c)
FUZZERS   := $(wildcard tests/fuzz/fuzz_*.c)
OBJECTS   := $(SOURCES:%.c=$(BUILD)/%.o)
CLI_OBJ   := $(CLI:%.c=$(BUILD)/%.o)
TEST_BINS := $(TESTS:%.c=$(BUILD)/%)
LIB       := $(BUILD)/libmuster.a
BIN       := $(BUILD)/muster

.PHONY: all
all: $(BIN)

$(BUILD)/%.o: %.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) $(DEFS) $(FLAGS_$(notdir $(basename $<))) -MMD -MP -c $< -o $@

$(LIB): $(OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BIN): $(CLI_OBJ) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(FLAGS) -o $@ $(CLI_OBJ) $(LIB) $(LIBS)

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(FLAGS) -o $@ $< $(LIB) $(LIBS) -lcmocka

-include $(OBJECTS:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_BINS:=.d)
.SECONDARY: $(TEST_BINS:=.o)
