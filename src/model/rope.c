/* Inverse frequencies of the rope kinds, rounded where transformers rounds; see model.h. */
#include "model/model.h"

#include <math.h>

uint32_t mu_rope_width(const struct mu_config *config)
{
    double partial = config->rope.partial > 0 ? config->rope.partial : 1;
    uint32_t head = config->kv_lora_rank ? config->qk_rope_head_dim : config->head_dim;
    return (uint32_t)((double)head * partial);
}

static void plain(double theta, uint32_t n, float *inverse)
{
    for (uint32_t j = 0; j < n / 2; j++) {
        float exponent = (float)(2 * j) / (float)n;
        inverse[j] = 1.0f / (float)pow(theta, (double)exponent);
    }
}

static void llama3(const struct mu_rope_config *r, uint64_t original, uint32_t n, float *inverse)
{
    double low_wavelength = (double)original / r->low_freq_factor;
    double high_wavelength = (double)original / r->high_freq_factor;
    for (uint32_t j = 0; j < n / 2; j++) {
        double f = (double)inverse[j], wavelength = 2 * M_PI / f;
        if (wavelength > low_wavelength) {
            f /= r->factor;
        } else if (wavelength >= high_wavelength) {
            double smooth = ((double)original / wavelength - r->low_freq_factor) /
                            (r->high_freq_factor - r->low_freq_factor);
            f = (1 - smooth) * f / r->factor + smooth * f;
        }
        inverse[j] = (float)f;
    }
}

/* The dimension whose wave turns `rotations` times over the original context. */
static double yarn_dimension(const struct mu_rope_config *r, uint64_t original, uint32_t n,
                             double rotations)
{
    return n * log((double)original / (rotations * 2 * M_PI)) / (2 * log(r->theta));
}

double mu_rope_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static double yarn(const struct mu_rope_config *r, uint64_t original, uint32_t n, float *inverse)
{
    double low = yarn_dimension(r, original, n, r->beta_fast > 0 ? r->beta_fast : 32);
    double high = yarn_dimension(r, original, n, r->beta_slow > 0 ? r->beta_slow : 1);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, n - 1);
    if (low == high) high += 0.001;
    for (uint32_t j = 0; j < n / 2; j++) {
        double ramp = fmin(fmax((j - low) / (high - low), 0), 1);
        double f = (double)inverse[j];
        inverse[j] = (float)(f / r->factor * ramp + f * (1 - ramp));
    }
    if (r->attention_factor > 0) return r->attention_factor;
    if (r->mscale > 0 && r->mscale_all_dim > 0)
        return mu_rope_mscale(r->factor, r->mscale) / mu_rope_mscale(r->factor, r->mscale_all_dim);
    return mu_rope_mscale(r->factor, 1);
}

static double longrope(const struct mu_config *c, uint64_t original, uint64_t context, uint32_t n,
                       float *inverse)
{
    const struct mu_rope_config *r = &c->rope;
    const double *factors = context > original ? r->long_factor : r->short_factor;
    for (uint32_t j = 0; j < n / 2 && j < r->n_factors; j++)
        inverse[j] = (float)((double)inverse[j] / factors[j]);
    if (r->attention_factor > 0) return r->attention_factor;
    double factor = r->original_context ? (double)c->context / (double)original : r->factor;
    return factor <= 1 ? 1 : sqrt(1 + log(factor) / log((double)original));
}

void mu_rope_frequencies(const struct mu_config *config, uint64_t context, bool local,
                         float *inverse, float *scale)
{
    const struct mu_rope_config *r = &config->rope;
    uint32_t n = mu_rope_width(config);
    uint64_t original = r->original_context ? r->original_context : config->context;
    *scale = 1;
    if (local && config->rope_local_theta > 0) {
        plain(config->rope_local_theta, n, inverse);
        return;
    }
    double theta = r->theta;
    if (r->kind == MU_ROPE_DYNAMIC) {
        double length = (double)MU_MAX(context, config->context);
        double stretch = r->factor * length / (double)config->context - (r->factor - 1);
        theta *= pow(stretch, (double)n / (n - 2.0));
    }
    plain(theta, n, inverse);
    switch (r->kind) {
    case MU_ROPE_DEFAULT:
    case MU_ROPE_DYNAMIC:
        break;
    case MU_ROPE_LINEAR:
        for (uint32_t j = 0; j < n / 2; j++)
            inverse[j] = (float)((double)inverse[j] / r->factor);
        break;
    case MU_ROPE_LLAMA3:
        llama3(r, original, n, inverse);
        break;
    case MU_ROPE_YARN:
        *scale = (float)yarn(r, original, n, inverse);
        break;
    case MU_ROPE_LONGROPE:
        *scale = (float)longrope(config, original, context, n, inverse);
        break;
    }
}
