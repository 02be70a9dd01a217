/*
 * The small kernels of a CPU family: activation forms, norm, rope, gate, cache. Included by the
 * family's file after linear.h.
 */

static enum mu_form form(enum mu_dtype type, enum mu_compute compute)
{
    if (mu_coding(type) == MU_CODING_INTEGERS)
        return compute == MU_COMPUTE_F32 ? MU_FORM_F32 : MU_FORM_Q8;
#ifdef __AVX512BF16__
    if (type == MU_DTYPE_BF16 && compute != MU_COMPUTE_F32) return MU_FORM_BF16;
#endif
    return MU_FORM_F32;
}

static size_t form_bytes(enum mu_form f, uint32_t cols)
{
    switch (f) {
    case MU_FORM_BF16:
        return MU_ROUND_UP(cols, 2u) * sizeof(uint16_t);
    case MU_FORM_Q8:
        return MU_CEIL_DIV(cols, MU_CELL) * sizeof(struct q8_block);
    case MU_FORM_F32:
    case MU_FORM_COUNT:
        break;
    }
    return cols * sizeof(float);
}

/* The step of the block that holds its largest value, and the largest of the others. */
static unsigned widest_step(const float *x, float *largest, float *others)
{
    float size[MU_CELL], most = -1, rest = 0;
    unsigned step = 0;
    vf_store(size, vf_abs(vf_load(x)));
    vf_store(size + MU_LANES, vf_abs(vf_load(x + MU_LANES)));
    for (unsigned s = 0; s < MU_CELL / MU_CELL_STEP; s++) {
        const float *p = size + MU_CELL_STEP * s;
        float m = MU_MAX(MU_MAX(p[0], p[1]), MU_MAX(p[2], p[3]));
        rest = MU_MAX(rest, MU_MIN(m, most));
        if (m > most) {
            most = m;
            step = s;
        }
    }
    *largest = most;
    *others = rest;
    return step;
}

/* How much larger than all others the largest step of a block must be to get top codes. They cost
 * time: at 3 some 12 % of blocks have them, and four fifths of the rounding is gone. */
#define TOP_RATIO 3.0f

/*
 * 32 values to codes in -127..127, the largest magnitude at 127. Models have channels with values
 * far above all others, and with the scale of such a value its neighbours would keep few bits. Then
 * the others get the scale, and the step that it is in seven bits more, in the top codes.
 */
static void q8_store(struct q8_block *b, const float *x)
{
    float largest, others;
    int32_t wide[MU_CELL];
    b->step = widest_step(x, &largest, &others);
    float most = others * TOP_RATIO > largest ? largest : MU_MAX(others, largest / (1 << TOP_BITS));
    float inverse = most > 0 ? 127.0f / most : 0;
    vi low = vf_to_int(vf_mul(vf_load(x), vf_set1(inverse)));
    vi high = vf_to_int(vf_mul(vf_load(x + MU_LANES), vf_set1(inverse)));
    vi_store(wide, low);
    vi_store(wide + MU_LANES, high);
    vi_store_s8(b->code, low);
    vi_store_s8(b->code + MU_LANES, high);
    b->scale = most / 127.0f;
    memset(b->top, 0, sizeof b->top);
    b->half = -vi_sum(low);
    b->total = b->half - vi_sum(high);
    for (unsigned i = 0; i < MU_CELL_STEP && most < largest; i++) {
        unsigned at = MU_CELL_STEP * b->step + i;
        int32_t top = (wide[at] + (1 << (TOP_BITS - 1))) >> TOP_BITS;
        b->top[b->step / 4][i] = (int8_t)top;
        b->code[at] = (int8_t)(wide[at] - top * (1 << TOP_BITS));
    }
}

static void bf16_store(uint16_t *out, const float *x, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        vi_store_16(out + i, vf_to_bf16(vf_load(x + i)));
    for (; i < n; i++)
        out[i] = mu_f32_to_bf16(x[i]);
}

static void form_store(enum mu_form f, void *out, uint32_t cols, uint32_t first, uint32_t n,
                       const float *x)
{
    (void)cols; /* no form here has parts that lie behind the whole row */
    switch (f) {
    case MU_FORM_F32:
    case MU_FORM_COUNT:
        memcpy((float *)out + first, x, n * sizeof *x);
        break;
    case MU_FORM_BF16:
        bf16_store((uint16_t *)out + first, x, n);
        if ((first + n) % 2) ((uint16_t *)out)[first + n] = 0; /* the last pair's other half */
        break;
    case MU_FORM_Q8:
        for (uint32_t i = 0; i < n; i += MU_CELL) {
            float last[MU_CELL] = {0};
            if (n - i < MU_CELL) memcpy(last, x + i, (n - i) * sizeof *x);
            q8_store((struct q8_block *)out + (first + i) / MU_CELL,
                     n - i < MU_CELL ? last : x + i);
        }
        break;
    }
}

/* Four sums of every fourth vector, so that additions do not wait for each other. */
static float sum_of_squares(const float *x, uint32_t n)
{
    vf sum[4] = {vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)};
    uint32_t i = 0, lane = 0;
    for (; i + 64 <= n; i += 64)
        UNROLL for (unsigned j = 0; j < 4; j++)
        {
            vf v = vf_load(x + i + 16 * j);
            sum[j] = vf_fma(v, v, sum[j]);
        }
    for (; i < n; i += 16, lane++) {
        vf v = n - i < 16 ? vf_load_some(x + i, n - i) : vf_load(x + i);
        sum[lane] = vf_fma(v, v, sum[lane]);
    }
    return vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

static void norm(float *y, const float *x, const float *w, uint32_t n, float eps, float offset)
{
    float r = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * r * (offset + w[i]);
}

static void rope(float *x, const float *cosine, const float *sine, uint32_t n)
{
    float *low = x, *high = x + n / 2;
    for (uint32_t i = 0; i < n / 2; i++) {
        float a = low[i], b = high[i];
        low[i] = a * cosine[i] - b * sine[i];
        high[i] = b * cosine[i] + a * sine[i];
    }
}

SIMD vf sigmoid(vf x)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_set1(0), x))));
}

SIMD vf activate(vf gate, vf up, enum mu_activation act)
{
    if (act == MU_ACT_GELU_TANH) { /* (1 + tanh u) / 2 is the sigmoid of 2 u */
        vf cube = vf_mul(vf_mul(gate, gate), gate);
        vf u = vf_mul(vf_set1(0x1.988454p0f), vf_fma(vf_set1(0x1.6e4e26p-5f), cube, gate));
        return vf_mul(vf_mul(gate, sigmoid(u)), up);
    }
    if (act == MU_ACT_SWIGLU_OAI) {
        gate = vf_min(vf_set1(7.0f), gate);
        up = vf_max(vf_set1(-7.0f), vf_min(vf_set1(7.0f), up));
        vf share = vf_mul(gate, sigmoid(vf_mul(vf_set1(1.702f), gate)));
        return vf_mul(share, vf_add(up, vf_set1(1.0f)));
    }
    return vf_mul(vf_mul(gate, sigmoid(gate)), up);
}

static void glu(float *y, const float *gate, const float *up, uint32_t n, enum mu_activation act)
{
    if (act == MU_ACT_GELU) {
        for (uint32_t i = 0; i < n; i++)
            y[i] = gate[i] * (0.5f * (1.0f + mu_erff(gate[i] * 0x1.6a09e6p-1f))) * up[i];
        return;
    }
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_store(y + i, activate(vf_load(gate + i), vf_load(up + i), act));
    if (i < n)
        vf_store_some(y + i,
                      activate(vf_load_some(gate + i, n - i), vf_load_some(up + i, n - i), act),
                      n - i);
}

static void kv_store(void *out, enum mu_dtype type, const float *x, uint32_t n)
{
    uint16_t *half = out;
    uint32_t i = 0;
    if (type == MU_DTYPE_F32) {
        memcpy(out, x, n * sizeof *x);
    } else if (type == MU_DTYPE_BF16) {
        bf16_store(half, x, n);
    } else {
        for (; i + 16 <= n; i += 16)
            vf_store_f16(half + i, vf_load(x + i));
        for (; i < n; i++)
            half[i] = mu_f32_to_f16(x[i]);
    }
}
