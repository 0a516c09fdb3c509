/* The LSTM of the ONNX standard, its head and the mean of members, for one tier.
 *
 * Per step and unit, with the gates in ONNX's order i, o, f, c:
 *
 *     i = sigmoid(Wi x + Ri h + bi)      o, f alike
 *     g = tanh(Wc x + Rc h + bc)
 *     C = f C + i g
 *     h = o tanh(C)
 *
 * Activations are computed from 2**a: sigmoid(z) = 1 / (1 + 2**a) with a = -z log2(e), and
 * tanh(z) = (1 - 2**a) / (1 + 2**a) with a = -2 z log2(e). The factors are folded into the
 * prepared weights, so a gate leaves the product as the exponent it is needed as, and the
 * two divisions of
 *
 *     C' = (C (1 + Ei) (1 + Eg) + (1 - Eg) (1 + Ef)) / ((1 + Ef) (1 + Ei) (1 + Eg))
 *     h' = (1 - Ec) / ((1 + Eo) (1 + Ec))
 *
 * are all there are. Exponents are clamped to +-40 first (a gate is then within 1e-12 of 0
 * or 1), so that the product of three stays in float32. NaN passes through all of it.
 *
 * The static inputs' share of the sums is the same in every valid step of a window: it is added
 * to the bias once, and a step starts from that sum, or from the bias where it is not valid.
 *
 * A unit's sum runs over the statics, the other inputs, then h, one fused step at a time, in every
 * batch: a row's result has the same bits alone and among a million. */
#include "kernels.h"
#include "vec.h"

#define LOG2_E 1.44269504088896341f
#define GATES 4

/* Rows of a tile share one pass over the weights; they fit the cache with their state. */
#define TILE_ROWS 60

/* 2**x for |x| <= 40, x clamped there; NaN gives NaN. Relative error below 1.9e-7 (2.5 ULP,
 * worst found at the ends of [-0.5, 0.5]); a minimax polynomial of degree 5 on the fraction. */
KGSM_INLINE vf exp2_clamped(vf x) {
    x = vf_min(vf_all(40.0f), vf_max(vf_all(-40.0f), x));
#ifdef KGSM_AVX512 /* the same values in fewer instructions */
    const vf integer = vf_round(x), fraction = x - integer;
#else
    const vf shifted = x + 12582912.0f; /* 1.5 * 2**23: the integer is in the low bits */
    const vf fraction = x - (shifted - 12582912.0f);
    const vf scale = vf_of_bits((vf_bits(shifted) << 23) + 0x3f800000u); /* 2**integer */
#endif
    vf p = vf_all(0x1.5c08e6p-10f);
    p = vf_fma(p, fraction, vf_all(0x1.3d0c52p-7f));
    p = vf_fma(p, fraction, vf_all(0x1.c6b6e4p-5f));
    p = vf_fma(p, fraction, vf_all(0x1.ebf918p-3f));
    p = vf_fma(p, fraction, vf_all(0x1.62e428p-1f));
    p = vf_fma(p, fraction, vf_all(0x1.000002p+0f));
#ifdef KGSM_AVX512
    return vf_scale(p, integer);
#else
    return p * scale;
#endif
}

/* Offsets in the prepared weights of one member, in floats. Hp is H rounded up to
 * whole vectors; the units made up to fill one have weights 0, so their h stays 0.
 *
 *   panels   (Hp / LANES, F - Fs + H, GATES, LANES)   weights, scaled as above
 *   bias     (Hp / LANES, GATES, LANES)               Wb + Rb, scaled alike
 *   fixed    (Hp / LANES, Fs, GATES, LANES)           weights of the statics
 *   head     (Hp)
 *   head bias in the first of LANES */
typedef struct {
    size_t inputs, before, statics, after, hidden, padded, units;
    size_t panel, bias, fixed, head, head_bias, size;
} places;

static places places_of(const kgsm_lstm *lstm) {
    places at;
    at.inputs = lstm->channels;
    at.before = lstm->first_static;
    at.statics = lstm->statics;
    at.after = at.inputs - at.before - at.statics;
    at.hidden = lstm->hidden;
    at.padded = (lstm->hidden + KGSM_LANES - 1) / KGSM_LANES * KGSM_LANES;
    at.units = at.padded / KGSM_LANES;
    at.panel = (at.before + at.after + at.hidden) * GATES * KGSM_LANES;
    at.bias = at.units * at.panel;
    at.fixed = at.bias + at.padded * GATES;
    at.head = at.fixed + at.statics * at.padded * GATES;
    at.head_bias = at.head + at.padded;
    at.size = at.head_bias + KGSM_LANES;
    return at;
}

static size_t lstm_prepared(const kgsm_lstm *lstm) {
    return places_of(lstm).size * lstm->members;
}

static size_t lstm_scratch(const kgsm_lstm *lstm) {
    return (3 + GATES) * TILE_ROWS * places_of(lstm).padded; /* C, h, next h; with statics */
}

static void lstm_prepare(const kgsm_lstm *lstm, const float *w, const float *r, const float *b,
                         const float *head, const float *head_bias, float *prepared) {
    const places at = places_of(lstm);
    const size_t f = at.inputs, h = at.hidden;
    static const float exponent[GATES] = {-LOG2_E, -LOG2_E, -LOG2_E, -2.0f * LOG2_E};
    memset(prepared, 0, at.size * lstm->members * sizeof *prepared);
    for (size_t m = 0; m < lstm->members; m++, prepared += at.size) {
        for (size_t unit = 0; unit < h; unit++) {
            const size_t block = unit / KGSM_LANES, lane = unit % KGSM_LANES;
            for (size_t gate = 0; gate < GATES; gate++) {
                const size_t line = (m * GATES + gate) * h + unit;
                float *panel = prepared + block * at.panel + gate * KGSM_LANES + lane;
                float *fixed = prepared + at.fixed + gate * KGSM_LANES + lane +
                               block * at.statics * GATES * KGSM_LANES;
                for (size_t k = 0; k < f; k++) {
                    float **to = k - at.before < at.statics ? &fixed : &panel; /* unsigned */
                    **to = w[line * f + k] * exponent[gate];
                    *to += GATES * KGSM_LANES;
                }
                for (size_t k = 0; k < h; k++, panel += GATES * KGSM_LANES)
                    *panel = r[line * h + k] * exponent[gate];
                const size_t input_bias = (m * 2 * GATES + gate) * h + unit;
                prepared[at.bias + (block * GATES + gate) * KGSM_LANES + lane] =
                    (b[input_bias] + b[input_bias + GATES * h]) * exponent[gate];
            }
            prepared[at.head + unit] = head[m * h + unit];
        }
        prepared[at.head_bias] = head_bias[m];
    }
}

/* sum[row][gate] += x[row * stride + k] * weights (count, GATES, LANES), k by k. */
KGSM_INLINE const float *add_products(const int rows, vf sum[][GATES], size_t count,
                                      const float *x, size_t stride, const float *weights) {
    for (size_t k = 0; k < count; k++, weights += GATES * KGSM_LANES)
#pragma GCC unroll 4
        for (int gate = 0; gate < GATES; gate++) {
            const vf weight = vf_load(weights + gate * KGSM_LANES);
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++)
                sum[i][gate] = vf_fma(vf_all(x[i * stride + k]), weight, sum[i][gate]);
        }
    return weights;
}

/* bias + static inputs (statics) of one window for one vector of units: (GATES, LANES). */
static void add_statics(const places *at, const float *bias, const float *fixed,
                        const float *statics, float *start) {
    vf sum[1][GATES];
    for (int gate = 0; gate < GATES; gate++) sum[0][gate] = vf_load(bias + gate * KGSM_LANES);
    add_products(1, sum, at->statics, statics, 0, fixed);
    for (int gate = 0; gate < GATES; gate++) vf_store(start + gate * KGSM_LANES, sum[0][gate]);
}

/* One step of `rows` rows (a constant) for one vector of units. start: where the sums begin,
 * (rows, GATES, LANES), or NULL without statics: the bias. x: (rows, F); h: (rows, Hp) or NULL
 * at the first step, where it is 0; cell, next: (rows, Hp) at these units. */
KGSM_INLINE void units_of_rows(const int rows, const places *at, const float *panel,
                               const float *bias, const float *start, const float *x,
                               const float *h, float *cell, float *next) {
    vf sum[KGSM_ROWS][GATES];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        const int valid = x[i * at->inputs + at->inputs - 1] != 0.0f;
        const float *from = start && valid ? start + i * GATES * KGSM_LANES : bias;
#pragma GCC unroll 4
        for (int gate = 0; gate < GATES; gate++)
            sum[i][gate] = vf_load(from + gate * KGSM_LANES);
    }
    panel = add_products(rows, sum, at->before, x, at->inputs, panel);
    panel = add_products(rows, sum, at->after, x + at->before + at->statics, at->inputs, panel);
    if (h) add_products(rows, sum, at->hidden, h, at->padded, panel);

#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        const vf one = vf_all(1.0f), old = vf_load(cell + i * at->padded);
        const vf ei = exp2_clamped(sum[i][0]), eo = exp2_clamped(sum[i][1]);
        const vf ef = exp2_clamped(sum[i][2]), eg = exp2_clamped(sum[i][3]);
        const vf ig = (one + ei) * (one + eg), forget = one + ef;
        /* C' = f C + i g */
        const vf c = (old * ig + (one - eg) * forget) / (forget * ig);
        /* h' = o tanh(C') */
        const vf ec = exp2_clamped(c * (-2.0f * LOG2_E));
        vf_store(cell + i * at->padded, c);
        vf_store(next + i * at->padded, (one - ec) / ((one + eo) * (one + ec)));
    }
}

/* The window's inputs (F) at its last valid step, or at its first where none is valid. */
static const float *last_valid_step(const places *at, size_t steps, size_t lines,
                                    const float *window) {
    size_t t = steps - 1;
    while (t > 0 && window[t * lines * at->inputs + at->inputs - 1] == 0.0f) t--;
    return window + t * lines * at->inputs;
}

static void lstm_run(const kgsm_lstm *lstm, const float *prepared, size_t n, size_t lines,
                     const float *tile, float *scratch, float *sm) {
    const places at = places_of(lstm);
    const size_t f = at.inputs, hp = at.padded;
    for (size_t first = 0; first < n; first += TILE_ROWS) {
        const size_t rows = n - first < TILE_ROWS ? n - first : TILE_ROWS;
        float *cell = scratch, *h = cell + TILE_ROWS * hp, *next = h + TILE_ROWS * hp;
        float *starts = next + TILE_ROWS * hp; /* (Hp / LANES, rows, GATES, LANES) */
        for (size_t m = 0; m < lstm->members; m++) {
            const float *weights = prepared + m * at.size;
            memset(cell, 0, rows * hp * sizeof *cell);
            for (size_t i = 0; at.statics && i < rows; i++) {
                const float *statics = last_valid_step(&at, lstm->steps, lines,
                                                       tile + (first + i) * f) + at.before;
                for (size_t u = 0; u < at.units; u++)
                    add_statics(&at, weights + at.bias + u * GATES * KGSM_LANES,
                                weights + at.fixed + u * at.statics * GATES * KGSM_LANES,
                                statics, starts + (u * rows + i) * GATES * KGSM_LANES);
            }
            for (size_t t = 0; t < lstm->steps; t++) {
                const float *x = tile + (t * lines + first) * f;
                for (size_t unit = 0; unit < hp; unit += KGSM_LANES) {
                    const float *panel = weights + unit / KGSM_LANES * at.panel;
                    const float *bias = weights + at.bias + unit * GATES;
                    const float *start = at.statics ? starts + unit * rows * GATES : NULL;
                    size_t i = 0;
                    for (; i + KGSM_ROWS <= rows; i += KGSM_ROWS)
                        units_of_rows(KGSM_ROWS, &at, panel, bias,
                                      start ? start + i * GATES * KGSM_LANES : NULL, x + i * f,
                                      t ? h + i * hp : NULL, cell + i * hp + unit,
                                      next + i * hp + unit);
                    for (; i < rows; i++)
                        units_of_rows(1, &at, panel, bias,
                                      start ? start + i * GATES * KGSM_LANES : NULL, x + i * f,
                                      t ? h + i * hp : NULL, cell + i * hp + unit,
                                      next + i * hp + unit);
                }
                float *swap = h;
                h = next;
                next = swap;
            }
            /* the head, and the mean over members: added up in their order */
            for (size_t i = 0; i < rows; i++) {
                vf sum = vf_load(weights + at.head_bias);
                for (size_t unit = 0; unit < hp; unit += KGSM_LANES)
                    sum = vf_fma(vf_load(weights + at.head + unit), vf_load(h + i * hp + unit), sum);
                float total = 0;
                for (int lane = 0; lane < KGSM_LANES; lane++) total += vf_lane(sum, lane);
                sm[first + i] = m ? sm[first + i] + total : total;
            }
        }
        for (size_t i = first; i < first + rows; i++) sm[i] /= (float)lstm->members;
    }
}
