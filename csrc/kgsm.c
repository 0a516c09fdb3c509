/* The public functions: check every argument, then run the chosen kernel. */
#include "kgsm.h"

#include <math.h>
#include <string.h>

#include "kernels.h"

/* Every tier this machine has, the plainest first. */
static size_t tiers(const kgsm_kernels *found[4]) {
    size_t n = 0;
    found[n++] = &kgsm_kernels_portable;
#ifdef KGSM_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        found[n++] = &kgsm_kernels_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("fma"))
        found[n++] = &kgsm_kernels_avx512;
#endif
#ifdef KGSM_ARM64
    found[n++] = &kgsm_kernels_neon;
#endif
    return n;
}

/* The only state of the core: the kernels of the chosen tier, portable at first. */
static const kgsm_kernels *chosen = &kgsm_kernels_portable;

const kgsm_kernels *kgsm_kernels_chosen(void) { return chosen; }

static const kgsm_kernels *kernels(void) { return chosen; }

int kgsm_choose_tier(const char *name) {
    const kgsm_kernels *found[4];
    const size_t n = tiers(found);
    if (!name) {
        chosen = found[n - 1];
        return KGSM_OK;
    }
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, found[i]->name)) {
            chosen = found[i];
            return KGSM_OK;
        }
    return KGSM_ERR_TIER;
}

const char *kgsm_tier(void) { return kernels()->name; }

const char *kgsm_tier_name(size_t i) {
    const kgsm_kernels *found[4];
    return i < tiers(found) ? found[i]->name : NULL;
}

const char *kgsm_version(void) { return KGSM_VERSION; }

const char *kgsm_strerror(int code) {
    switch (code) {
    case KGSM_OK: return "ok";
    case KGSM_ERR_NULL: return "an array is missing";
    case KGSM_ERR_PARAM: return "a parameter, limit or rule is outside what it may be";
    case KGSM_ERR_ANGLE: return "the angle rule needs angle_deg";
    case KGSM_ERR_SHAPE: return "a size is 0, or too large to address";
    case KGSM_ERR_SCALE: return "a mean is not finite, or a std is not finite and > 0";
    case KGSM_ERR_TIER: return "this machine has no tier of that name";
    case KGSM_ERR_TEXT: return "the text is irregular";
    case KGSM_ERR_INDEX: return "a window names a row that is not in the table";
    default: return "unknown error code";
    }
}

/* Comparisons are written so that NaN fails them. */
static int finite_not_negative(double x) { return isfinite((float)x) && x >= 0; }

static int in_order(kgsm_range range) { return range.low <= range.high; }

static range_f32 to_f32(kgsm_range range) {
    return (range_f32){(float)range.low, (float)range.high};
}

static int wcm_is_sound(const kgsm_wcm *wcm) {
    const float min_soil_fraction = (float)wcm->min_soil_fraction;
    return finite_not_negative(wcm->a) && finite_not_negative(2 * wcm->b) &&
           finite_not_negative(wcm->e) && finite_not_negative(wcm->stem_kg_m2) &&
           (wcm->vwc_rule == KGSM_VWC_FOLIAGE || wcm->vwc_rule == KGSM_VWC_COLUMN) &&
           wcm->angle_rule >= KGSM_ANGLE_CONSTANT && wcm->angle_rule <= KGSM_ANGLE_NORMALISE &&
           wcm->angle_ref_deg > 0 && wcm->angle_ref_deg < 90 &&
           isfinite((float)wcm->angle_exponent) && min_soil_fraction > 0 &&
           min_soil_fraction < 1 && in_order(wcm->sigma0_db) && in_order(wcm->vegetation) &&
           in_order(wcm->angle_deg) && !isnan(wcm->dense_vwc_kg_m2);
}

int kgsm_db_to_linear(size_t n, const float *db, float *linear) {
    if (n == 0) return KGSM_OK;
    if (!db || !linear) return KGSM_ERR_NULL;
    kernels()->db_to_linear(n, db, linear);
    return KGSM_OK;
}

int kgsm_linear_to_db(size_t n, const float *linear, float *db) {
    if (n == 0) return KGSM_OK;
    if (!linear || !db) return KGSM_ERR_NULL;
    kernels()->linear_to_db(n, linear, db);
    return KGSM_OK;
}

int kgsm_isolate(const kgsm_wcm *wcm, size_t n, const float *sigma0_db,
                 const float *vegetation, const float *angle_deg, float *soil_db,
                 float *soil_fraction, uint16_t *flags) {
    if (!wcm) return KGSM_ERR_NULL;
    if (!wcm_is_sound(wcm)) return KGSM_ERR_PARAM;
    if (n == 0) return KGSM_OK;
    if (!sigma0_db || !vegetation || !soil_db || !soil_fraction || !flags)
        return KGSM_ERR_NULL;
    if (wcm->angle_rule == KGSM_ANGLE_CONSTANT)
        angle_deg = NULL;
    else if (!angle_deg)
        return KGSM_ERR_ANGLE;

    const double degree = 3.14159265358979323846 / 180;
    const wcm_f32 prepared = {
        .a = (float)wcm->a,
        .two_b = (float)(2 * wcm->b),
        .e = (float)wcm->e,
        .stem_kg_m2 = (float)wcm->stem_kg_m2,
        .foliage = wcm->vwc_rule == KGSM_VWC_FOLIAGE,
        .normalise = wcm->angle_rule == KGSM_ANGLE_NORMALISE,
        .cos_ref = (float)cos(wcm->angle_ref_deg * degree),
        .angle_exponent = (float)wcm->angle_exponent,
        .min_soil_fraction = (float)wcm->min_soil_fraction,
        .dense_vwc_kg_m2 = (float)wcm->dense_vwc_kg_m2,
        .sigma0_db = to_f32(wcm->sigma0_db),
        .vegetation = to_f32(wcm->vegetation),
        .angle_deg = to_f32(wcm->angle_deg),
    };
    kernels()->isolate(&prepared, n, sigma0_db, vegetation, angle_deg, soil_db, soil_fraction,
                       flags);
    return KGSM_OK;
}

int kgsm_screen(kgsm_range limits, size_t n, const float *sigma0_db, float *screened_db,
                uint16_t *flags) {
    if (!in_order(limits)) return KGSM_ERR_PARAM;
    if (n == 0) return KGSM_OK;
    if (!sigma0_db || !screened_db || !flags) return KGSM_ERR_NULL;
    kernels()->screen(to_f32(limits), n, sigma0_db, screened_db, flags);
    return KGSM_OK;
}

int kgsm_invert(double c_db, double d_db, size_t n, const float *soil_db, float *sm) {
    const float c = (float)c_db, d = (float)d_db;
    if (!(isfinite(c) && isfinite(d) && d != 0)) return KGSM_ERR_PARAM;
    if (n == 0) return KGSM_OK;
    if (!soil_db || !sm) return KGSM_ERR_NULL;
    kernels()->invert(c, d, n, soil_db, sm);
    return KGSM_OK;
}

/* a * b, or SIZE_MAX on overflow: larger than any array. */
static size_t product(size_t a, size_t b) { return b && a > SIZE_MAX / b ? SIZE_MAX : a * b; }

int kgsm_pack(const kgsm_layout *layout, size_t n, size_t r, const int64_t *rows,
              const float *channel_db, const uint16_t *step_flags, const double *day,
              const float *dynamic, const float *statics, float *tile,
              uint16_t *window_flags) {
    if (!layout) return KGSM_ERR_NULL;
    const size_t fd = layout->dynamic, fs = layout->statics, most = SIZE_MAX / sizeof(float);
    if (layout->steps < 1 || fd > most / 4 || fs > most / 4) return KGSM_ERR_SHAPE;
    const size_t scaled = 1 + fd + fs + 1;
    if (product(product(layout->steps, n), scaled + 1) > most || product(r, fd) > most)
        return KGSM_ERR_SHAPE;
    if (!layout->mean || !layout->inv_std) return KGSM_ERR_NULL;
    for (size_t c = 0; c < scaled; c++)
        if (!isfinite(layout->mean[c]) || !isfinite(layout->inv_std[c]) ||
            !(layout->inv_std[c] > 0))
            return KGSM_ERR_SCALE;
    if (n == 0) return KGSM_OK;
    if (!rows || !tile || !window_flags || (fs && !statics)) return KGSM_ERR_NULL;
    if (r && (!channel_db || !step_flags || !day || (fd && !dynamic))) return KGSM_ERR_NULL;
    for (size_t i = 0; i < n * layout->steps; i++)
        if (rows[i] < -1 || (rows[i] >= 0 && (uint64_t)rows[i] >= r)) return KGSM_ERR_INDEX;

    kernels()->pack(layout, n, rows, channel_db, step_flags, day, dynamic, statics, tile,
                    window_flags);
    return KGSM_OK;
}

static int lstm_is_sound(const kgsm_lstm *lstm) {
    /* no more than 2**20 of anything: no product below overflows */
    const size_t most = (size_t)1 << 20;
    return lstm->steps && lstm->channels && lstm->hidden && lstm->members &&
           lstm->steps <= most && lstm->channels <= most && lstm->hidden <= most / 64 &&
           lstm->members <= most / 1024 && lstm->statics < lstm->channels &&
           lstm->first_static < lstm->channels - lstm->statics;
}

size_t kgsm_lstm_prepared_floats(const kgsm_lstm *lstm) {
    return lstm && lstm_is_sound(lstm) ? kernels()->lstm_prepared(lstm) : 0;
}

size_t kgsm_lstm_scratch_floats(const kgsm_lstm *lstm) {
    return lstm && lstm_is_sound(lstm) ? kernels()->lstm_scratch(lstm) : 0;
}

int kgsm_lstm_prepare(const kgsm_lstm *lstm, const float *w, const float *r, const float *b,
                      const float *head, const float *head_bias, float *prepared) {
    if (!lstm || !w || !r || !b || !head || !head_bias || !prepared) return KGSM_ERR_NULL;
    if (!lstm_is_sound(lstm)) return KGSM_ERR_SHAPE;
    kernels()->lstm_prepare(lstm, w, r, b, head, head_bias, prepared);
    return KGSM_OK;
}

int kgsm_lstm_run(const kgsm_lstm *lstm, const float *prepared, size_t n, size_t lines,
                  const float *tile, float *scratch, float *sm) {
    if (!lstm) return KGSM_ERR_NULL;
    if (!lstm_is_sound(lstm) || lines < n) return KGSM_ERR_SHAPE;
    if (n == 0) return KGSM_OK;
    if (lines > SIZE_MAX / sizeof(float) / lstm->steps / lstm->channels) return KGSM_ERR_SHAPE;
    if (!prepared || !tile || !scratch || !sm) return KGSM_ERR_NULL;
    kernels()->lstm_run(lstm, prepared, n, lines, tile, scratch, sm);
    return KGSM_OK;
}

static int link_is_sound(const kgsm_head *head) {
    if (head->link == KGSM_LINK_IDENTITY) return 1;
    return head->link == KGSM_LINK_NORMAL && isfinite(head->low) && isfinite(head->high) &&
           head->low < head->high;
}

int kgsm_readout(const kgsm_head *head, size_t n, const float *tile, float *sm) {
    const size_t most = SIZE_MAX / sizeof(float);
    if (!head) return KGSM_ERR_NULL;
    const size_t weights = product(head->steps, head->channels);
    if (!head->steps || !head->channels || product(weights, n ? n : 1) > most)
        return KGSM_ERR_SHAPE;
    if (!head->weight) return KGSM_ERR_NULL;
    for (size_t i = 0; i < weights; i++)
        if (!isfinite(head->weight[i])) return KGSM_ERR_PARAM;
    if (!isfinite(head->bias) || !link_is_sound(head)) return KGSM_ERR_PARAM;
    if (n == 0) return KGSM_OK;
    if (!tile || !sm) return KGSM_ERR_NULL;
    kgsm_readout_portable(head, n, tile, sm);
    return KGSM_OK;
}

int kgsm_nearest(size_t n, size_t stride, size_t channels, const float *x, size_t count,
                 const float *points, float *distance) {
    const size_t most = SIZE_MAX / sizeof(float);
    if (!channels || !count || stride < channels) return KGSM_ERR_SHAPE;
    if (product(n, stride) > most || product(channels, count) > most) return KGSM_ERR_SHAPE;
    if (n == 0) return KGSM_OK;
    if (!x || !points || !distance) return KGSM_ERR_NULL;
    kernels()->nearest(n, stride, channels, x, count, points, distance);
    return KGSM_OK;
}
