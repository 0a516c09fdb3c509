/* The portable kernels: plain loops over the C library's float functions, and the LSTM on
 * the compiler's own 16-byte vectors (one float where it has none). The reference for
 * every faster tier; kgsm.h states what each function must do. */
#include "kernels.h"

#ifdef __GNUC__
#define KGSM_LANES 4
#else
#define KGSM_LANES 1
#endif
#define KGSM_ROWS 3
#include "lstm_body.h"
#include "domain_body.h"
#include "fusion_body.h"

#include <math.h>

#include "wcm_constants.h"

static inline float to_linear(float db) { return expf(db * DB_TO_NEPER); }

static inline float to_db(float linear) { return 10.0f * log10f(linear); }

/* cos(angle) as the sine of its complement, which is exact: at 75 degrees the cosine of a
 * rounded angle has four times the relative error. */
static inline float cos_deg(float angle_deg) { return sinf((90.0f - angle_deg) * RADIANS); }

static inline float power(float x, float exponent) {
    /* the common exponents without powf: the same values, exact for 0 and 1 */
    if (exponent == 0.0f) return 1.0f;
    if (exponent == 1.0f) return x;
    if (exponent == 2.0f) return x * x;
    return powf(x, exponent);
}

static inline float foliage_kg_m2(float ndvi) {
    /* near its root the plain form loses all digits, and up to 0.01 dB of a weak soil signal */
    float v = VWC_NDVI2 * ndvi * ((ndvi - VWC_ROOT) - VWC_ROOT_LOW);
    return v > 0.0f ? v : 0.0f;
}

/* NaN is missing, not outside. */
static inline int outside(float x, range_f32 limits) { return x < limits.low || x > limits.high; }

static void db_to_linear(size_t n, const float *db, float *linear) {
    for (size_t i = 0; i < n; i++) linear[i] = to_linear(db[i]);
}

static void linear_to_db(size_t n, const float *linear, float *db) {
    for (size_t i = 0; i < n; i++) db[i] = to_db(linear[i]);
}

void kgsm_isolate_portable(const wcm_f32 *wcm, size_t n, const float *sigma0_db,
                           const float *vegetation, const float *angle_deg, float *soil_db,
                           float *soil_fraction, uint16_t *flags) {
    for (size_t i = 0; i < n; i++) {
        const float s = sigma0_db[i], v = vegetation[i];
        int missing = isnan(s) || isnan(v);
        int out = outside(s, wcm->sigma0_db) || outside(v, wcm->vegetation);
        if (angle_deg) {
            missing |= isnan(angle_deg[i]) != 0;
            out |= outside(angle_deg[i], wcm->angle_deg);
        }
        if (missing || out) {
            soil_db[i] = soil_fraction[i] = NAN;
            flags[i] = (uint16_t)((missing ? KGSM_MISSING_INPUT : 0) |
                                  (out ? KGSM_INPUT_OUT_OF_RANGE : 0));
            continue;
        }
        const float vwc = wcm->foliage ? foliage_kg_m2(v) + wcm->stem_kg_m2 : v;
        float cos_theta = wcm->cos_ref, sigma0 = to_linear(s);
        if (angle_deg) {
            const float cos_own = cos_deg(angle_deg[i]);
            if (wcm->normalise)
                sigma0 *= power(wcm->cos_ref / cos_own, wcm->angle_exponent);
            else
                cos_theta = cos_own;
        }
        /* gamma2 = exp(-2 tau / cos theta), tau = B V                           (4) (5) */
        const float two_tau = wcm->two_b * vwc / cos_theta;
        /* sigma_veg = A V**E cos theta (1 - gamma2)                                 (2) */
        const float sigma_veg = wcm->a * power(vwc, wcm->e) * cos_theta * -expm1f(-two_tau);
        /* sigma_soil[dB] = 10 log10((sigma0 - sigma_veg) / gamma2)             (1) (12) */
        const float left = sigma0 - sigma_veg;
        const float fraction = left / sigma0;
        const float soil = to_db(left) + two_tau / DB_TO_NEPER;
        /* not finite: only where limits were widened beyond what float32 can follow */
        const int lost = !(fraction >= wcm->min_soil_fraction) || !isfinite(soil);
        soil_db[i] = lost ? NAN : soil;
        soil_fraction[i] = fraction;
        flags[i] = (uint16_t)((lost ? KGSM_SOIL_SIGNAL_LOST : 0) |
                              (vwc > wcm->dense_vwc_kg_m2 ? KGSM_DENSE_VEGETATION : 0));
    }
}

void kgsm_screen_portable(range_f32 limits, size_t n, const float *sigma0_db,
                          float *screened_db, uint16_t *flags) {
    for (size_t i = 0; i < n; i++) {
        const float s = sigma0_db[i];
        const int out = outside(s, limits);
        screened_db[i] = out ? NAN : s;
        flags[i] = (uint16_t)((isnan(s) ? KGSM_MISSING_INPUT : 0) |
                              (out ? KGSM_INPUT_OUT_OF_RANGE : 0));
    }
}

void kgsm_invert_portable(float c_db, float d_db, size_t n, const float *soil_db, float *sm) {
    /* SM = (sigma_soil - C) / D                                                 (3) (6) */
    for (size_t i = 0; i < n; i++) sm[i] = (soil_db[i] - c_db) / d_db;
}

const kgsm_kernels kgsm_kernels_portable = {
    .name = "portable",
    .db_to_linear = db_to_linear,
    .linear_to_db = linear_to_db,
    .isolate = kgsm_isolate_portable,
    .screen = kgsm_screen_portable,
    .invert = kgsm_invert_portable,
    .pack = kgsm_pack_portable,
    .lstm_prepared = lstm_prepared,
    .lstm_scratch = lstm_scratch,
    .lstm_prepare = lstm_prepare,
    .lstm_run = lstm_run,
    .nearest = nearest_point,
    .fusion_scratch = fusion_scratch,
    .fusion_run = fusion_run,
};
