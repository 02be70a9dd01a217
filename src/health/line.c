/*
 * One line of a log: takes off what containers, collectors, launchers and loggers put in front, and
 * keeps what they said: time, rank, process, service, level. Knows no catalogue. A table of small
 * readers, each of which takes one kind of prefix or nothing; outside bytes, so each is bounded.
 */
#include "base/number.h"
#include "base/utf8.h"
#include "health/health_int.h"

#include <ctype.h>

#define PREFIXES_MAX 10
#define ESC          '\x1b'

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

static size_t digits(struct mu_str s)
{
    size_t n = 0;
    while (n < s.len && digit(s.p[n]))
        n++;
    return n;
}

static unsigned number(struct mu_str s, size_t from, size_t len)
{
    uint64_t value = 0;
    (void)mu_parse_u64((struct mu_str){s.p + from, len}, 0, 999999, &value);
    return (unsigned)value;
}

static bool starts(struct mu_str s, const char *with)
{
    size_t len = strlen(with);
    return s.len >= len && memcmp(s.p, with, len) == 0;
}

static struct mu_str behind(struct mu_str s, size_t n)
{
    return (struct mu_str){s.p + n, s.len - n};
}

/* The length of a control sequence at `p` (which is ESC), at least 1. */
static size_t control_len(const char *p, size_t len)
{
    size_t n = 1;
    if (n >= len) return n;
    if (p[n] == ']') { /* a title: up to BEL or ESC */
        while (n < len && n < 256 && p[n] != '\a' && p[n] != ESC)
            n++;
        return n < len && p[n] == '\a' ? n + 1 : n;
    }
    if (p[n] != '[') return n + 1;
    for (n++; n < len && n < 64 && (unsigned char)p[n] >= 0x20 && (unsigned char)p[n] < 0x40; n++)
        ;
    return n < len ? n + 1 : n;
}

size_t mu_health_strip_controls(char *p, size_t len)
{
    char *from = memchr(p, ESC, len);
    if (!from) return len;
    char *to = from, *end = p + len;
    while (from < end) {
        /* A sequence that is cut by the line's end must not swallow the newline. */
        const char *line_end = memchr(from, '\n', (size_t)(end - from));
        size_t room = (size_t)((line_end ? line_end : end) - from);
        from += MU_MIN(control_len(from, room), MU_MAX(room, (size_t)1));
        char *next = from < end ? memchr(from, ESC, (size_t)(end - from)) : NULL;
        size_t n = (size_t)((next ? next : end) - from);
        memmove(to, from, n);
        to += n;
        from += n;
    }
    return (size_t)(to - p);
}

/* "2026-06-01T15:55:06.218036+03:00", "2025-05-26 18:53:52,518", "06-13 20:05:02": its length. */
static size_t time_read(struct mu_str s, struct mu_health_line *line)
{
    size_t at = s.len > 10 && digits(s) == 4 && s.p[4] == '-' ? 5 : 0;
    if (s.len < at + 14 || s.p[at + 2] != '-' || (s.p[at + 5] != ' ' && s.p[at + 5] != 'T') ||
        s.p[at + 8] != ':' || s.p[at + 11] != ':')
        return 0;
    for (unsigned i = 0; i < 14; i += 3)
        if (!digit(s.p[at + i]) || !digit(s.p[at + i + 1])) return 0;
    unsigned month = number(s, at, 2), day = number(s, at + 3, 2), hour = number(s, at + 6, 2);
    unsigned minute = number(s, at + 9, 2), second = number(s, at + 12, 2), ms = 0;
    size_t n = at + 14;
    if (n + 1 < s.len && (s.p[n] == '.' || s.p[n] == ',') && digit(s.p[n + 1])) {
        size_t len = digits(behind(s, n + 1));
        if (len >= 3) ms = number(s, n + 1, 3);
        n += 1 + len;
    }
    if (n < s.len && s.p[n] == 'Z')
        n++;
    else if (n + 5 < s.len && (s.p[n] == '+' || s.p[n] == '-') && digit(s.p[n + 1]))
        n += s.p[n + 3] == ':' && n + 6 <= s.len ? 6 : 5;
    if (month < 1 || month > 12 || day < 1 || day > 31) return 0;
    line->time = (struct mu_str){s.p, n};
    /* Months of 31 days keep the order, which is all that times are for. */
    line->time_ms =
        ((((int64_t)month * 31 + day) * 24 + hour) * 60 + minute) * 60000 + second * 1000 + ms;
    return n;
}

/* "Nov 21 14:07:00" of syslog. */
static size_t syslog_time(struct mu_str s, struct mu_health_line *line)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    if (s.len < 16 || s.p[3] != ' ' || s.p[6] != ' ' || s.p[9] != ':' || s.p[12] != ':') return 0;
    char name[4] = {s.p[0], s.p[1], s.p[2], 0};
    const char *month = strstr(months, name);
    if (!name[0] || !month || (month - months) % 3 != 0) return 0;
    unsigned day = number(s, s.p[4] == ' ' ? 5 : 4, s.p[4] == ' ' ? 1 : 2);
    line->time = (struct mu_str){s.p, 15};
    line->time_ms =
        ((((month - months) / 3 + 1) * 31 + (int64_t)day) * 24 + number(s, 7, 2)) * 3600000 +
        (int64_t)number(s, 10, 2) * 60000 + (int64_t)number(s, 13, 2) * 1000;
    return 15;
}

static enum mu_health_level level_of(struct mu_str s)
{
    static const struct {
        const char *word;
        enum mu_health_level level;
    } levels[] = {
        {"DEBUG", MU_HEALTH_LEVEL_INFO},   {"INFO", MU_HEALTH_LEVEL_INFO},
        {"WARNING", MU_HEALTH_LEVEL_WARN}, {"WARN", MU_HEALTH_LEVEL_WARN},
        {"ERROR", MU_HEALTH_LEVEL_ERROR},  {"CRITICAL", MU_HEALTH_LEVEL_FATAL},
        {"FATAL", MU_HEALTH_LEVEL_FATAL},  {"TRACE", MU_HEALTH_LEVEL_INFO},
        {"SUCCESS", MU_HEALTH_LEVEL_INFO}, {"D", MU_HEALTH_LEVEL_INFO},
        {"I", MU_HEALTH_LEVEL_INFO},       {"W", MU_HEALTH_LEVEL_WARN},
        {"E", MU_HEALTH_LEVEL_ERROR},      {"F", MU_HEALTH_LEVEL_FATAL},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(levels); i++)
        if (mu_str_is(s, levels[i].word)) return levels[i].level;
    return MU_HEALTH_LEVEL_NONE;
}

/* "TP3", "DP0", "rank=2", "Worker_TP1": the rank within its group, tensor rank before others. */
static void rank_read(struct mu_str s, struct mu_health_line *line)
{
    static const char *const keys[] = {"rank=", "TP", "rank", "PP", "DP"};
    for (size_t k = 0; k < MU_ARRAY_LEN(keys); k++) {
        size_t len = strlen(keys[k]);
        for (size_t i = 0; i + len < s.len; i++) {
            if (memcmp(s.p + i, keys[k], len) != 0 || !digit(s.p[i + len])) continue;
            size_t n = digits(behind(s, i + len));
            if (n > 5) continue;
            line->rank = (int)number(s, i + len, n);
            return;
        }
    }
}

/* "(EngineCore_DP0 pid=41565) ", "(VllmWorker rank=3 pid=12)", "(raylet) ". */
static size_t paren_prefix(struct mu_str s, struct mu_health_line *line)
{
    if (s.len < 4 || s.p[0] != '(' || !isalpha((unsigned char)s.p[1])) return 0;
    const char *end = memchr(s.p, ')', MU_MIN(s.len, (size_t)120));
    if (!end) return 0;
    struct mu_str in = {s.p + 1, (size_t)(end - s.p) - 1};
    if (!memmem(in.p, in.len, "pid=", 4) && !starts(in, "raylet") && !starts(in, "Worker") &&
        !starts(in, "autoscaler"))
        return 0;
    line->process = in;
    rank_read(in, line);
    return in.len + 2;
}

/* "[  123.456789]" of the kernel's log, without the brackets. */
static bool is_kernel_seconds(struct mu_str in)
{
    return digits(in) == in.len || (memchr(in.p, '.', in.len) && digit(in.p[in.len - 1]) &&
                                    strspn(in.p, " 0123456789.") >= in.len);
}

/* "[core.py:1231]", without the brackets. */
static bool is_source_place(struct mu_str in)
{
    return !memchr(in.p, ' ', in.len) && memchr(in.p, ':', in.len) && digit(in.p[in.len - 1]);
}

/* "[rank3]:", "[default0]:", "[1,3]<stderr>:", "[2025-01-01 10:00:00 DP0 TP2] ", "[W803 21:49 x]".
 */
static size_t bracket_prefix(struct mu_str s, struct mu_health_line *line)
{
    if (s.len < 4 || s.p[0] != '[') return 0;
    const char *end = memchr(s.p, ']', MU_MIN(s.len, (size_t)120));
    if (!end) return 0;
    struct mu_str in = {s.p + 1, (size_t)(end - s.p) - 1};
    size_t used = in.len + 2, stamp = time_read(in, line);
    if (stamp) {
        struct mu_str tags = behind(in, stamp);
        rank_read(tags, line);
        if (tags.len > 2 && tags.p[0] == ' ' && (tags.p[2] == ' ' || tags.len == 2))
            line->level = level_of((struct mu_str){tags.p + 1, 1});
        else if (tags.len > 1 && line->rank >= 0)
            line->process = behind(tags, 1);
    } else if ((starts(in, "rank") || starts(in, "Rank ") || starts(in, "default")) &&
               in.len < 14) {
        size_t skip = starts(in, "default") ? 7 : in.p[4] == ' ' ? 5 : 4;
        struct mu_str n = behind(in, skip);
        if (!n.len || digits(n) != n.len) return 0;
        line->rank = (int)number(n, 0, n.len);
        line->process = in;
    } else if (in.len > 4 && strchr("WEFI", in.p[0]) &&
               (digits(behind(in, 1)) >= 3 || in.p[1] == ' ')) {
        line->level = level_of((struct mu_str){in.p, 1});
    } else if (in.len < 10 && memchr(in.p, ',', in.len) && digit(in.p[0])) {
        size_t comma = digits(in) + 1;
        if (comma >= in.len || digits(behind(in, comma)) != in.len - comma) return 0;
        line->rank = (int)number(in, comma, in.len - comma);
        const char *close = used < s.len && s.p[used] == '<'
                                ? memchr(s.p + used, '>', MU_MIN(s.len - used, (size_t)10))
                                : NULL;
        if (close) used = (size_t)(close - s.p) + 1;
    } else if (level_of(in) != MU_HEALTH_LEVEL_NONE) {
        line->level = level_of(in);
    } else if (!is_kernel_seconds(in) && !is_source_place(in)) {
        return 0;
    }
    return used < s.len && s.p[used] == ':' ? used + 1 : used;
}

/* "service-1  | ". */
static size_t compose_prefix(struct mu_str s, struct mu_health_line *line)
{
    size_t n = 0;
    while (n < s.len && n < 64 && word(s.p[n]))
        n++;
    size_t bar = n;
    while (bar < s.len && bar < 96 && s.p[bar] == ' ')
        bar++;
    if (n == 0 || bar == n || bar + 1 >= s.len || s.p[bar] != '|' || s.p[bar + 1] != ' ') return 0;
    if (level_of((struct mu_str){s.p, n}) != MU_HEALTH_LEVEL_NONE) return 0; /* loguru's columns */
    line->service = (struct mu_str){s.p, n};
    return bar + 2;
}

/* "host:1234:5678 [2] " of NCCL; the number in brackets is the device. */
static size_t nccl_prefix(struct mu_str s, struct mu_health_line *line)
{
    size_t host = 0;
    while (host < s.len && host < 80 && word(s.p[host]))
        host++;
    if (host == 0 || host >= s.len || s.p[host] != ':') return 0;
    size_t pid = digits(behind(s, host + 1)), at = host + 1 + pid;
    if (pid == 0 || at >= s.len || s.p[at] != ':') return 0;
    size_t tid = digits(behind(s, at + 1));
    at += 1 + tid;
    if (tid == 0 || at + 4 > s.len || s.p[at] != ' ' || s.p[at + 1] != '[') return 0;
    size_t device = digits(behind(s, at + 2));
    if (device == 0 || device > 5 || at + 2 + device >= s.len || s.p[at + 2 + device] != ']')
        return 0;
    if (line->rank < 0) line->rank = (int)number(s, at + 2, device);
    line->process = (struct mu_str){s.p, host + 1 + pid};
    return at + 3 + device;
}

/* "ERROR ", "INFO:     ", "WARNING | ". */
static size_t level_prefix(struct mu_str s, struct mu_health_line *line)
{
    size_t n = 0;
    while (n < s.len && n < 9 && s.p[n] >= 'A' && s.p[n] <= 'Z')
        n++;
    if (n < 4 || n >= s.len || (s.p[n] != ' ' && s.p[n] != ':')) return 0;
    enum mu_health_level level = level_of((struct mu_str){s.p, n});
    if (level == MU_HEALTH_LEVEL_NONE) return 0;
    line->level = level;
    for (n++; n < s.len && (s.p[n] == ' ' || s.p[n] == '|' || s.p[n] == ':'); n++)
        ;
    return n;
}

static size_t stamp_prefix(struct mu_str s, struct mu_health_line *line)
{
    size_t n = time_read(s, line);
    if (!n) n = syslog_time(s, line);
    if (!n) return 0;
    struct mu_str rest = behind(s, n);
    if (starts(rest, " stdout ") || starts(rest, " stderr ")) /* kubernetes: and one flag */
        return rest.len > 10 ? n + 10 : n;
    for (; n < s.len && strchr(" \t|-", s.p[n]); n++)
        ;
    return n;
}

/* "host kernel: ", "host unit[12]: " behind a time. */
static size_t journal_prefix(struct mu_str s, struct mu_health_line *line)
{
    size_t host = 0, n;
    if (!line->time.len) return 0;
    while (host < s.len && host < 64 && word(s.p[host]))
        host++;
    if (host == 0 || host + 2 >= s.len || s.p[host] != ' ') return 0;
    for (n = host + 1; n < s.len && n < host + 64 && word(s.p[n]); n++)
        ;
    size_t name = n;
    if (name == host + 1) return 0;
    if (n < s.len && s.p[n] == '[') n += 1 + digits(behind(s, n + 1)) + 1;
    if (n + 1 >= s.len || s.p[n] != ':' || s.p[n + 1] != ' ') return 0;
    line->service = (struct mu_str){s.p + host + 1, name - host - 1};
    return n + 2;
}

/* "0.01.928.747 E " of llama.cpp; "6,1234,567,-;" of /dev/kmsg; "core.py:1231] " of old vLLM. */
static size_t odd_prefix(struct mu_str s, struct mu_health_line *line)
{
    size_t n = 0;
    if (s.len > 8 && digit(s.p[0])) {
        while (n < s.len && n < 24 && (digit(s.p[n]) || s.p[n] == '.'))
            n++;
        if (n > 6 && n + 3 < s.len && s.p[n] == ' ' && s.p[n + 2] == ' ' &&
            strchr("DIWE", s.p[n + 1])) {
            line->level = level_of((struct mu_str){s.p + n + 1, 1});
            return n + 3;
        }
        for (n = 0; n < s.len && n < 48 && (digit(s.p[n]) || s.p[n] == ',' || s.p[n] == '-'); n++)
            ;
        return n > 5 && n < s.len && s.p[n] == ';' ? n + 1 : 0;
    }
    while (n < s.len && n < 64 && word(s.p[n]))
        n++;
    if (n < 4 || n + 3 >= s.len || memcmp(s.p + n - 3, ".py", 3) != 0 || s.p[n] != ':') return 0;
    size_t end = n + 1 + digits(behind(s, n + 1));
    return end < s.len && s.p[end] == ']' ? end + 1 : 0;
}

typedef size_t prefix_fn(struct mu_str s, struct mu_health_line *line);
static prefix_fn *const prefixes[] = {compose_prefix, stamp_prefix, bracket_prefix, paren_prefix,
                                      level_prefix,   nccl_prefix,  journal_prefix, odd_prefix};

static struct mu_str spaces_skip(struct mu_str s)
{
    while (s.len && (s.p[0] == ' ' || s.p[0] == '\r' || s.p[0] == '\t'))
        s = behind(s, 1);
    return s;
}

static unsigned hex4(const char *p)
{
    unsigned value = 0;
    for (unsigned i = 0; i < 4; i++) {
        const char *hex = "0123456789abcdef", *at = strchr(hex, tolower((unsigned char)p[i]));
        if (!p[i] || !at) return 0xfffd;
        value = value * 16 + (unsigned)(at - hex);
    }
    return value;
}

/* One escape behind a backslash; returns how many bytes it took. */
static size_t escape_read(struct mu_str s, struct mu_text *out)
{
    static const char from[] = "nrtbf\"\\/", to[] = "\n\r\t\b\f\"\\/";
    const char *at = s.p[0] ? strchr(from, s.p[0]) : NULL;
    if (at) {
        mu_text_char(out, to[at - from]);
        return 1;
    }
    if (s.p[0] != 'u' || s.len < 5) return 1;
    char bytes[4];
    unsigned cp = hex4(s.p + 1);
    if (cp >= 0xd800 && cp < 0xe000) cp = 0xfffd;
    mu_text_add(out, bytes, mu_utf8_encode(cp, bytes));
    return 5;
}

/* {"log":"text\n","stream":"stderr","time":"..."}: the text, without its escapes. */
static bool docker_unwrap(struct mu_str raw, struct mu_text *out, struct mu_health_line *line)
{
    if (!starts(raw, "{\"log\":\"")) return false;
    struct mu_str s = behind(raw, 8);
    mu_text_clear(out);
    while (s.len && s.p[0] != '"') {
        size_t n = 0;
        while (n < s.len && s.p[n] != '"' && s.p[n] != '\\')
            n++;
        mu_text_add(out, s.p, n);
        s = behind(s, n);
        if (s.len < 2 || s.p[0] != '\\') continue;
        s = behind(s, 1);
        s = behind(s, escape_read(s, out));
    }
    const char *stamp = memmem(s.p, s.len, "\"time\":\"", 8);
    if (stamp) (void)time_read(behind(s, (size_t)(stamp - s.p) + 8), line);
    if (out->status != MU_OK) return false;
    if (out->p) out->len = mu_health_strip_controls(out->p, out->len);
    return true;
}

static struct mu_str trimmed(struct mu_str s)
{
    while (s.len && strchr("\r\n \t", s.p[s.len - 1]))
        s.len--;
    return s;
}

void mu_health_line_parse(struct mu_str raw, struct mu_text *unwrapped, struct mu_health_line *out)
{
    *out = (struct mu_health_line){.time_ms = -1, .rank = -1};
    struct mu_str s = raw;
    if (docker_unwrap(raw, unwrapped, out))
        s = (struct mu_str){mu_text_get(unwrapped), unwrapped->len};
    out->text = trimmed(s);
    s = out->text;
    for (unsigned i = 0, took = 1; took && i < PREFIXES_MAX; i++) {
        s = spaces_skip(s);
        took = 0;
        for (size_t k = 0; !took && k < MU_ARRAY_LEN(prefixes); k++) {
            size_t n = prefixes[k](s, out);
            if (n == 0 || n > s.len) continue;
            s = behind(s, n);
            took = 1;
        }
    }
    out->body = spaces_skip(s);
}
