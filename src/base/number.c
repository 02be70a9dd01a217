/* Strict numbers; see number.h. */
#include "base/number.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool mu_parse_u64(struct mu_str s, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0) return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, digit, &v))
            return false;
    }
    if (v < min || v > max) return false;
    *out = v;
    return true;
}

bool mu_parse_i64(struct mu_str s, int64_t min, int64_t max, int64_t *out)
{
    bool negative = s.len > 0 && s.p[0] == '-';
    uint64_t magnitude;
    if (negative || (s.len > 0 && s.p[0] == '+')) s = (struct mu_str){s.p + 1, s.len - 1};
    if (!mu_parse_u64(s, 0, negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX, &magnitude))
        return false;
    int64_t v = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    if (v < min || v > max) return false;
    *out = v;
    return true;
}

/* Copies what looks like a decimal number (so that strtod's other spellings stay out) and returns
 * how much of `s` it was. */
static size_t decimal_prefix(struct mu_str s, char *copy, size_t size)
{
    size_t i = 0, digits = 0;
    if (i < s.len && (s.p[i] == '-' || s.p[i] == '+')) i++;
    for (int part = 0; part < 2; part++) {
        while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9')
            i++, digits++;
        if (part == 0 && i < s.len && s.p[i] == '.')
            i++;
        else
            break;
    }
    if (digits == 0) return 0;
    if (i < s.len && (s.p[i] == 'e' || s.p[i] == 'E')) {
        size_t j = i + 1;
        if (j < s.len && (s.p[j] == '-' || s.p[j] == '+')) j++;
        if (j < s.len && s.p[j] >= '0' && s.p[j] <= '9') {
            while (j < s.len && s.p[j] >= '0' && s.p[j] <= '9')
                j++;
            i = j;
        }
    }
    if (i >= size) return 0;
    memcpy(copy, s.p, i);
    copy[i] = '\0';
    return i;
}

bool mu_parse_f64(struct mu_str s, double *out)
{
    char copy[64];
    if (s.len == 0 || decimal_prefix(s, copy, sizeof copy) != s.len) return false;
    /* The program never calls setlocale for LC_NUMERIC, so the point is a point. */
    double v = strtod(copy, NULL);
    if (!isfinite(v)) return false;
    *out = v;
    return true;
}

bool mu_parse_bytes(struct mu_str s, uint64_t *out)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"", 1},         {"B", 1},      {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30},
                 {"TiB", 0x1p40}, {"KB", 1e3},   {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},
                 {"K", 0x1p10},   {"M", 0x1p20}, {"G", 0x1p30},   {"T", 0x1p40}};
    char copy[64];
    size_t n = decimal_prefix(s, copy, sizeof copy);
    if (n == 0) return false;
    struct mu_str unit = {s.p + n, s.len - n};
    while (unit.len > 0 && unit.p[0] == ' ')
        unit = (struct mu_str){unit.p + 1, unit.len - 1};
    for (size_t i = 0; i < MU_ARRAY_LEN(units); i++) {
        if (!mu_str_is(unit, units[i].unit)) continue;
        double v = strtod(copy, NULL) * units[i].bytes;
        if (!(v >= 0 && v < 0x1p63)) return false;
        *out = (uint64_t)v;
        return true;
    }
    return false;
}

const char *mu_format_bytes(uint64_t bytes, char out[MU_BYTES_TEXT])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 999.5 && u + 1 < MU_ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    /* What rounds up to 10 or 100 has a digit more before the point. */
    int decimals = u == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;
    (void)snprintf(out, MU_BYTES_TEXT, "%.*f %s", decimals, v, units[u]);
    return out;
}

const char *mu_format_f32(float value, char out[MU_FLOAT_TEXT])
{
    /* Six digits always survive (and %g drops zeros at their end); subnormals hold fewer. */
    for (int digits = fabsf(value) < FLT_MIN ? 1 : 6; digits <= 9; digits++) {
        (void)snprintf(out, MU_FLOAT_TEXT, "%.*g", digits, (double)value);
        if (strtof(out, NULL) == value) break;
    }
    return out;
}

const char *mu_format_f64(double value, char out[MU_FLOAT_TEXT])
{
    for (int digits = fabs(value) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        (void)snprintf(out, MU_FLOAT_TEXT, "%.*g", digits, value);
        if (strtod(out, NULL) == value) break;
    }
    return out;
}
