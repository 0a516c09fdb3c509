/* The water cloud model's loops for one tier: portable.c's formulas, a vector at a time.
 *
 * Elementary functions are polynomials on a range reduced exactly, minimax in relative error
 * (tools/polynomials.py), with the error stated above each and measured over all floats by
 * tests/kernels/test_tiers.py. The last, shorter vector is copied to a padded one and takes the
 * same path, so an element's result does not depend on its place. */
#include "kernels.h"
#include "vec.h"
#include "wcm_constants.h"

/* 2**f - 1 for f in [-0.5, 0.5], relative error 1.1e-8 and its rounding. */
KGSM_INLINE vf exp2_minus_one(vf f) {
    vf p = vf_all(0x1.4308fap-13f);
    p = vf_fma(p, f, vf_all(0x1.5f07b4p-10f));
    p = vf_fma(p, f, vf_all(0x1.3b2ba0p-7f));
    p = vf_fma(p, f, vf_all(0x1.c6af6ep-5f));
    p = vf_fma(p, f, vf_all(0x1.ebfbdep-3f));
    p = vf_fma(p, f, vf_all(0x1.62e430p-1f));
    return p * f;
}

/* 2**n for whole n in -126 .. 127. */
KGSM_INLINE vf power_of_two(vf n) {
    return vf_of_bits((vf_bits(n + 12582912.0f) << 23) + 0x3f800000u);
}

/* 10**(db / 10). Against float64: 1.3 ULP at most where the result is normal (db within
 * -379 .. 385); below it rounds through subnormals to 0, above it is infinite. */
KGSM_INLINE vf to_linear_v(vf db) {
    /* beyond these the result is 0 or infinite anyway; NaN stays */
    db = vf_min(vf_all(400.0f), vf_max(vf_all(-460.0f), db));
    const vf bits = db * LOG2_10_TENTH;
    const vf n = vf_round(bits);
    /* the fraction, with what the product lost */
    vf f = vf_fma(db, vf_all(LOG2_10_TENTH), -n);
    f = vf_fma(db, vf_all(LOG2_10_TENTH_LOW), f);
    const vf mantissa = 1.0f + exp2_minus_one(f);
    const vf half = vf_round(n * 0.5f); /* in two factors: 2**n may be no normal number */
    return mantissa * power_of_two(half) * power_of_two(n - half);
}

/* 10 log10(x). Against float64: 2.35 ULP at most, subnormals included. 0 gives -inf, below 0
 * and NaN give NaN, +inf gives +inf. */
KGSM_INLINE vf to_db_v(vf x) {
    const vf tiny = vf_all(0x1p-126f);
    const vm small = vm_less(x, tiny);
    const vf y = vf_choose(small, x * 0x1p24f, x);
    /* y = m 2**e with m in [sqrt(1/2), sqrt(2)) */
    const vu offset = vf_bits(y) - 0x3f3504f3u;
    const vf e = __builtin_convertvector((vi)offset >> 23, vf) - vf_choose(small, vf_all(24.0f), vf_all(0.0f));
    const vf f = vf_of_bits((offset & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    /* log2(1 + f) / f, relative error 4.1e-9 and its rounding */
    vf p = vf_all(-0x1.c25a76p-4f);
    p = vf_fma(p, f, vf_all(0x1.7d494cp-3f));
    p = vf_fma(p, f, vf_all(-0x1.874be8p-3f));
    p = vf_fma(p, f, vf_all(0x1.a305a6p-3f));
    p = vf_fma(p, f, vf_all(-0x1.eabc88p-3f));
    p = vf_fma(p, f, vf_all(0x1.277e36p-2f));
    p = vf_fma(p, f, vf_all(-0x1.715a76p-2f));
    p = vf_fma(p, f, vf_all(0x1.ec7096p-2f));
    p = vf_fma(p, f, vf_all(-0x1.715470p-1f));
    p = vf_fma(p, f, vf_all(0x1.715476p+0f));
    const vf db = vf_fma(p * f, vf_all(TEN_LOG10_2), e * TEN_LOG10_2);
    const vf infinite = vf_all(__builtin_inff());
    const vm whole = vm_less(vf_all(0.0f), x) & vm_less(x, infinite);
    /* remaining cases: 0, negative, infinite, NaN; x - inf is -inf only at 0 and above */
    const vm zero = vm_not(vm_less(x, vf_all(0.0f))) & vm_not(vm_less(vf_all(0.0f), x)) & vm_not(vm_nan(x));
    const vm above = vm_not(vm_less(x, infinite)) & vm_not(vm_nan(x));
    const vf odd = vf_choose(zero, -infinite, vf_choose(above, infinite, vf_all(__builtin_nanf(""))));
    return vf_choose(whole, db, odd);
}

/* cos(angle) for 0 .. 90 degrees, as the sine of its complement, which is exact. Relative
 * error 5.3e-9 and its rounding. */
KGSM_INLINE vf cos_deg_v(vf angle_deg) {
    const vf x = (90.0f - angle_deg) * RADIANS, square = x * x;
    vf p = vf_all(0x1.5d38b6p-19f);
    p = vf_fma(p, square, vf_all(-0x1.9f6446p-13f));
    p = vf_fma(p, square, vf_all(0x1.110e7cp-7f));
    p = vf_fma(p, square, vf_all(-0x1.555548p-3f));
    p = vf_fma(p, square, vf_all(1.0f));
    return p * x;
}

/* x**exponent for exponents 0, 1 and 2: the others go to the portable loop. */
KGSM_INLINE vf small_power(vf x, float exponent) {
    return exponent == 0.0f ? vf_all(1.0f) : exponent == 1.0f ? x : x * x;
}

/* 10 log10(x) for a normal x in (0, 1]. Absolute error 1.0e-6 dB for x >= 0.05 (worst at
 * 0.086696), 2e-5 dB down to 1e-30. */
KGSM_INLINE vf db_of_share(vf x) {
    const vu offset = vf_bits(x) - 0x3f3504f3u; /* x = m 2**e, m in [sqrt(1/2), sqrt(2)) */
    const vf e = __builtin_convertvector((vi)offset >> 23, vf);
    const vf f = vf_of_bits((offset & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    /* 10 log10(1 + f) / f, relative error 1.8e-7 */
    vf p = vf_all(-0.438936859f);
    p = vf_fma(p, f, vf_all(0.704537928f));
    p = vf_fma(p, f, vf_all(-0.749194086f));
    p = vf_fma(p, f, vf_all(0.864253163f));
    p = vf_fma(p, f, vf_all(-1.08442938f));
    p = vf_fma(p, f, vf_all(1.44772327f));
    p = vf_fma(p, f, vf_all(-2.17148829f));
    p = vf_fma(p, f, vf_all(4.34294462f));
    return vf_fma(e, vf_all(TEN_LOG10_2), p * f);
}

/* kgsm_wcm's constants as this loop needs them. */
typedef struct {
    wcm_f32 wcm;
    float bits_per_vwc; /* constant angle: 2 B / cos theta log2(e), gamma2 = 2**-(bits V) */
    float db_per_vwc;   /* the same in dB */
    float a_cos;        /* A cos theta */
} isolation;

/* One vector. `angles` is a constant, so that the branches on it vanish.
 *
 * With s = sigma0 in dB, Eqs 1 and 12 are computed as
 *
 *     fraction    = 1 - sigma_veg / sigma0 = 1 - A V**E cos theta (1 - gamma2) 10**(-s / 10)
 *     sigma_soil  = s + 10 log10(fraction) + 2 tau / cos theta in dB
 *
 * which needs no division, and leaves s as it came. Nothing is clamped: isolate() passes only
 * limits inside which no exponent overflows, and values outside them are masked. */
KGSM_INLINE void isolate_vector(const isolation *p, const int angles, vf s, vf v, vf angle_deg,
                                vf *soil_db, vf *soil_fraction, vu *flags) {
    const wcm_f32 *wcm = &p->wcm;
    vm present = vm_none_nan(vm_all(), s, v);
    vm inside = vm_not_outside(vm_all(), s, vf_all(wcm->sigma0_db.low),
                               vf_all(wcm->sigma0_db.high));
    inside = vm_not_outside(inside, v, vf_all(wcm->vegetation.low),
                            vf_all(wcm->vegetation.high));
    vf vwc = v, share = vf_all(p->a_cos), to_ref = vf_all(1.0f);
    vf bits_per_vwc = vf_all(p->bits_per_vwc), db_per_vwc = vf_all(p->db_per_vwc);
    if (wcm->foliage) { /* never below the stem, which is >= 0 */
        const vf above_root = (v - VWC_ROOT) - VWC_ROOT_LOW, stem = vf_all(wcm->stem_kg_m2);
        vwc = vf_max(stem, vf_fma(VWC_NDVI2 * v, above_root, stem));
    }
    if (angles) {
        present = vm_none_nan(present, angle_deg, angle_deg);
        inside = vm_not_outside(inside, angle_deg, vf_all(wcm->angle_deg.low),
                                vf_all(wcm->angle_deg.high));
        const vf cos_own = cos_deg_v(angle_deg);
        if (wcm->normalise) {
            to_ref = small_power(wcm->cos_ref / cos_own, wcm->angle_exponent);
        } else {
            const vf two_b = wcm->two_b / cos_own;
            share = wcm->a * cos_own;
            bits_per_vwc = two_b * NEPER_TO_BITS;
            db_per_vwc = two_b * NEPER_TO_DB;
        }
    }
    /* gamma2 = exp(-2 tau / cos theta) = 2**-x, tau = B V; with x = n + f           (4) (5)
     * 1 - gamma2 = (1 - 2**-n) - 2**-n (2**-f - 1): thin vegetation keeps its digits */
    const vf n = vf_round(vwc * bits_per_vwc), power = power_of_two(-n);
    const vf less = exp2_minus_one(n - vwc * bits_per_vwc);
    const vf absorbed = vf_fma(-power, less, 1.0f - power);
    /* 1 / sigma0 = 2**(-s log2(10) / 10), with what the product lost */
    const vf k = vf_round(s * -LOG2_10_TENTH);
    vf f = vf_fma(s, vf_all(-LOG2_10_TENTH), -k);
    f = vf_fma(s, vf_all(-LOG2_10_TENTH_LOW), f);
    vf inverse = (1.0f + exp2_minus_one(f)) * power_of_two(k);
    if (angles && wcm->normalise) inverse = inverse / to_ref;
    /* sigma_veg = A V**E cos theta (1 - gamma2)                                     (2) */
    if (wcm->e != 0.0f) share = share * small_power(vwc, wcm->e);
    const vf fraction = vf_fma(-(share * absorbed), inverse, vf_all(1.0f));
    /* sigma_soil[dB] = 10 log10((sigma0 - sigma_veg) / gamma2)                 (1) (12) */
    vf soil = vf_fma(vwc, db_per_vwc, s);
    soil += db_of_share(angles && wcm->normalise ? fraction * to_ref : fraction);

    const vf nan = vf_all(__builtin_nanf(""));
    const vm good = present & inside;
    const vm lost = good & vm_less(fraction, vf_all(wcm->min_soil_fraction));
    *soil_db = vf_choose(good & vm_not(lost), soil, nan);
    *soil_fraction = vf_choose(good, fraction, nan);
    vu mask = vu_set_where((vu){0}, vm_not(present), KGSM_MISSING_INPUT);
    mask = vu_set_where(mask, vm_not(inside), KGSM_INPUT_OUT_OF_RANGE);
    mask = vu_set_where(mask, lost, KGSM_SOIL_SIGNAL_LOST);
    *flags = vu_set_where(mask, good & vm_less(vf_all(wcm->dense_vwc_kg_m2), vwc),
                          KGSM_DENSE_VEGETATION);
}

KGSM_INLINE void store_flags(uint16_t *p, vu flags) {
    const vh narrow = __builtin_convertvector(flags, vh);
    memcpy(p, &narrow, sizeof narrow);
}

KGSM_INLINE void isolate_loop(const isolation *p, const int angles, size_t n,
                              const float *sigma0_db, const float *vegetation,
                              const float *angle_deg, float *soil_db, float *soil_fraction,
                              uint16_t *flags) {
    const isolation own = *p; /* no store to the outputs can change it */
    vf soil, fraction;
    vu mask;
    size_t i = 0;
    for (; i + KGSM_LANES <= n; i += KGSM_LANES) {
        isolate_vector(&own, angles, vf_load(sigma0_db + i), vf_load(vegetation + i),
                       angles ? vf_load(angle_deg + i) : vf_all(0.0f), &soil, &fraction, &mask);
        vf_store(soil_db + i, soil);
        vf_store(soil_fraction + i, fraction);
        store_flags(flags + i, mask);
    }
    if (i < n) {
        float in[3][KGSM_LANES] = {{0}}, out[2][KGSM_LANES];
        uint16_t out_flags[KGSM_LANES];
        const size_t left = n - i;
        memcpy(in[0], sigma0_db + i, left * sizeof(float));
        memcpy(in[1], vegetation + i, left * sizeof(float));
        if (angles) memcpy(in[2], angle_deg + i, left * sizeof(float));
        isolate_vector(&own, angles, vf_load(in[0]), vf_load(in[1]), vf_load(in[2]), &soil,
                       &fraction, &mask);
        vf_store(out[0], soil);
        vf_store(out[1], fraction);
        store_flags(out_flags, mask);
        memcpy(soil_db + i, out[0], left * sizeof(float));
        memcpy(soil_fraction + i, out[1], left * sizeof(float));
        memcpy(flags + i, out_flags, left * sizeof(uint16_t));
    }
}

static int has_loop(float exponent) {
    return exponent == 0.0f || exponent == 1.0f || exponent == 2.0f;
}

/* Within limits like the default ones the vector loop needs no clamp. Wider limits and rare
 * exponents use the portable loop. */
static int fits_loop(const wcm_f32 *wcm, int angles) {
    const float low = wcm->vegetation.low, high = wcm->vegetation.high;
    const float widest = -low > high ? -low : high;
    const float most_vwc = wcm->foliage ? 2.24f * widest * widest + 1.0f + wcm->stem_kg_m2 : high;
    const int steep = angles && !(wcm->angle_deg.low >= 0 && wcm->angle_deg.high <= 85);
    const float least_cos = angles && !wcm->normalise ? 0.087f : wcm->cos_ref;
    return has_loop(wcm->e) && (!wcm->normalise || has_loop(wcm->angle_exponent)) && !steep &&
           wcm->sigma0_db.low >= -300 && wcm->sigma0_db.high <= 300 &&
           (wcm->foliage || low >= 0) && most_vwc * wcm->two_b / least_cos <= 80 &&
           wcm->min_soil_fraction >= 1e-30f;
}

static void isolate(const wcm_f32 *wcm, size_t n, const float *sigma0_db,
                    const float *vegetation, const float *angle_deg, float *soil_db,
                    float *soil_fraction, uint16_t *flags) {
    if (!fits_loop(wcm, angle_deg != NULL)) {
        kgsm_isolate_portable(wcm, n, sigma0_db, vegetation, angle_deg, soil_db, soil_fraction,
                              flags);
        return;
    }
    const float two_b = wcm->two_b / wcm->cos_ref;
    const isolation p = {*wcm, two_b * NEPER_TO_BITS, two_b * NEPER_TO_DB, wcm->a * wcm->cos_ref};
    if (angle_deg)
        isolate_loop(&p, 1, n, sigma0_db, vegetation, angle_deg, soil_db, soil_fraction, flags);
    else
        isolate_loop(&p, 0, n, sigma0_db, vegetation, NULL, soil_db, soil_fraction, flags);
}

/* out[i] = f(in[i]), the last vector through a padded copy */
#define KGSM_MAP(name, f)                                               \
    static void name(size_t n, const float *in, float *out) {           \
        size_t i = 0;                                                   \
        for (; i + KGSM_LANES <= n; i += KGSM_LANES)                    \
            vf_store(out + i, f(vf_load(in + i)));                      \
        if (i < n) {                                                    \
            float last[KGSM_LANES] = {0};                               \
            memcpy(last, in + i, (n - i) * sizeof(float));              \
            vf_store(last, f(vf_load(last)));                           \
            memcpy(out + i, last, (n - i) * sizeof(float));             \
        }                                                               \
    }

KGSM_MAP(db_to_linear, to_linear_v)
KGSM_MAP(linear_to_db, to_db_v)

/* Screening and inversion are limited by memory: the compiler's loop is enough. */
#define KGSM_TIER(tier_name)              \
    {                                     \
        .name = tier_name,                \
        .db_to_linear = db_to_linear,     \
        .linear_to_db = linear_to_db,     \
        .isolate = isolate,               \
        .screen = kgsm_screen_portable,   \
        .invert = kgsm_invert_portable,   \
        .pack = kgsm_pack_portable,       \
        .lstm_prepared = lstm_prepared,   \
        .lstm_scratch = lstm_scratch,     \
        .lstm_prepare = lstm_prepare,     \
        .lstm_run = lstm_run,             \
        .nearest = nearest_point,         \
        .fusion_scratch = fusion_scratch, \
        .fusion_run = fusion_run,         \
    }
