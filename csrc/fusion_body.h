/* Unbiased ESTARFM for one tier; see kgsm.h for the rule and fusion.c for the planes.
 *
 * A lane is a target pixel: KGSM_LANES neighbours in a row walk through their windows
 * together, one offset at a time, so each sum has one order whatever the tier, the place and
 * the size of a block.
 *
 * float32 is as accurate as float64 here: F - C is exact, or kept in two parts, and so is
 * the bias b. Candidates whose unbiased fine and coarse values almost agree carry nearly all
 * the weight, and (F - C) + b is then the small rest of two large numbers. Sums run in
 * float32 over KGSM_CHUNK candidates and in float64 beyond. A weight costs one division:
 *
 *     1 - S = 1/2 |n1 / s1| + 1/2 |n2 / s2|        n_k = G_k - C_k,  s_k = G_k + C_k
 *     w     = 1 / ((1 - S) D + 1e-7) = q / (t D / 2 + 1e-7 q)
 *             with t = |n1 s2| + |n2 s1| and q = |s1 s2|
 */
#include "fusion.h"
#include "kernels.h"
#include "vec.h"

#include <math.h>

#define KGSM_CHUNK 17 /* 51 = 3 * 17; 17 differences of up to 16 K sum without rounding */
#define KGSM_FUSED_DAYS 6

/* The window of one vector of targets: planes from its top left corner on. */
typedef struct {
    const float *fine1; /* of one day: a day with gaps has a copy, with NaN in the gaps */
    size_t fine1_stride;
    const float *fine2, *less[2], *low[2], *plus[2], *between, *distance;
    size_t stride;
    size_t rows, wide; /* of the window; rows is less at the image's upper and lower edge */
    size_t target;     /* from the corner to the first target in these planes */
    size_t target1;    /* the same in fine1 */
} fusion_window;

/* Results that depend on the pair only, for one vector of targets. */
typedef struct {
    double similar[KGSM_LANES], weight[KGSM_LANES], between[KGSM_LANES]; /* |Q|, sum w, sum w (C1 - C2) */
    double bias[2][KGSM_LANES], gain[KGSM_LANES];                        /* b_k, V */
    double valid[KGSM_LANES], window_between[KGSM_LANES]; /* valid pixels; sum of C1 - C2 over them */
} fusion_pair;

/* sigma's bounds, exact: for any float a, a < above(x) just when a < x. */
static float above(double x) {
    float f = (float)x;
    return (double)f < x ? nextafterf(f, INFINITY) : f;
}

static float below(double x) { return -above(-x); }

/* Sum of a plane over the valid pixels of each target's window: down the columns first. */
static void window_sum(const fusion_window *at, const float *plane, size_t stride,
                       double *columns, double *sums) {
    const size_t across = at->wide - 1 + KGSM_LANES;
    for (size_t x = 0; x < across; x += KGSM_LANES) {
        vd sum = {0};
        for (size_t y = 0; y < at->rows; y++) {
            const vf fine = vf_load(at->fine1 + y * at->fine1_stride + x);
            const vf value = plane ? vf_load(plane + y * stride + x) : vf_all(1.0f);
            sum = vd_add(sum, vf_choose(vm_nan(fine), vf_all(0.0f), value));
        }
        vd_store(columns + x, sum);
    }
    vd sum = {0};
    for (size_t x = 0; x < at->wide; x++) sum = vd_add_at(sum, columns + x);
    vd_store(sums, sum);
}

/* V from n points and their sums: the slope, where it is significant and plausible, or 1. */
static double slope(double n, double x, double y, double xx, double xy, double yy) {
    const double sxx = xx - x * x / n, sxy = xy - x * y / n, syy = yy - y * y / n, free = n - 2;
    /* Student's t, two-sided 5 %: within 0.002 for the ten and more degrees there are */
    const double t = 1.959964 + 2.37227 / free + 2.8224 / (free * free);
    const double v = sxy / sxx, left = syy - v * sxy;
    const int significant = sxy * v * free > t * t * (left > 0 ? left : 0);
    /* coarse values all alike but for rounding tell nothing */
    return sxx > 1e-5 * xx && significant && v >= 0 && v <= 5 ? v : 1;
}

/* Sums over Q of both days for V, of values less those of the first target. */
KGSM_INLINE void regress(const fusion_window *at, const char *mask, fusion_pair *pair) {
    const float *fine[2] = {at->fine1, at->fine2};
    const size_t stride[2] = {at->fine1_stride, at->stride};
    const vf none = vf_all(0.0f), fine_p = vf_load(at->fine1 + at->target1);
    const vf from_y = vf_choose(vm_nan(fine_p), none, fine_p);
    const vf from_x = from_y - vf_load(at->less[0] + at->target);
    vd total[5];
    for (int k = 0; k < 5; k++) total[k] = (vd){0};
    for (size_t y = 0; y < at->rows; y++)
        for (size_t first = 0; first < at->wide; first += KGSM_CHUNK) {
            const size_t end = first + KGSM_CHUNK < at->wide ? first + KGSM_CHUNK : at->wide;
            vf part[5] = {none, none, none, none, none};
            for (size_t i = first; i < end; i++) {
                vm m;
                memcpy(&m, mask + (y * at->wide + i) * sizeof m, sizeof m);
                for (int k = 0; k < 2; k++) {
                    const vf f = vf_load(fine[k] + y * stride[k] + i);
                    const vf less = vf_load(at->less[k] + y * at->stride + i);
                    const vf fy = vf_choose(m, f - from_y, none);
                    const vf cx = vf_choose(m, (f - less) - from_x, none);
                    part[0] += cx;
                    part[1] += fy;
                    part[2] = vf_fma(cx, cx, part[2]);
                    part[3] = vf_fma(cx, fy, part[3]);
                    part[4] = vf_fma(fy, fy, part[4]);
                }
            }
            for (int k = 0; k < 5; k++) total[k] = vd_add(total[k], part[k]);
        }
    double sums[5][KGSM_LANES];
    for (int k = 0; k < 5; k++) vd_store(sums[k], total[k]);
    for (int i = 0; i < KGSM_LANES; i++)
        pair->gain[i] = slope(2 * pair->similar[i], sums[0][i], sums[1][i], sums[2][i],
                              sums[3][i], sums[4][i]);
}

/* Q: the candidates similar to the target in both fine images, and b over them. */
KGSM_INLINE void find_similar(const int low, const fusion_window *given, const vf bound[4],
                              char *mask, fusion_pair *pair) {
    const fusion_window own = *given, *at = &own; /* no store can change it */
    vd count = {0}, sum1 = {0}, sum2 = {0};
    for (size_t y = 0; y < at->rows; y++) {
        const size_t line = y * at->stride;
        const float *fine1 = at->fine1 + y * at->fine1_stride;
        for (size_t first = 0; first < at->wide; first += KGSM_CHUNK) {
            const size_t end = first + KGSM_CHUNK < at->wide ? first + KGSM_CHUNK : at->wide;
            vf n = vf_all(0.0f), part1 = vf_all(0.0f), part2 = vf_all(0.0f);
            vf small1 = vf_all(0.0f), small2 = vf_all(0.0f);
            for (size_t x = first; x < end; x++) {
                vm m = vm_inside(vm_all(), vf_load(fine1 + x), bound[0], bound[1]);
                m = vm_inside(m, vf_load(at->fine2 + line + x), bound[2], bound[3]);
                memcpy(mask + (y * at->wide + x) * sizeof m, &m, sizeof m);
                n = vf_add_where(n, m, vf_all(1.0f));
                part1 = vf_add_where(part1, m, vf_load(at->less[0] + line + x));
                part2 = vf_add_where(part2, m, vf_load(at->less[1] + line + x));
                if (low) {
                    small1 = vf_add_where(small1, m, vf_load(at->low[0] + line + x));
                    small2 = vf_add_where(small2, m, vf_load(at->low[1] + line + x));
                }
            }
            count = vd_add(count, n);
            sum1 = vd_add(sum1, part1);
            sum2 = vd_add(sum2, part2);
            if (low) {
                sum1 = vd_add(sum1, small1);
                sum2 = vd_add(sum2, small2);
            }
        }
    }
    vd_store(pair->similar, count);
    vd_store(pair->bias[0], sum1);
    vd_store(pair->bias[1], sum2);
    for (int k = 0; k < 2; k++) /* b_k = mean(C_k) - mean(F_k); unused where none is similar */
        for (int lane = 0; lane < KGSM_LANES; lane++)
            pair->bias[k][lane] = pair->similar[lane] ? -pair->bias[k][lane] / pair->similar[lane] : 0;
}

KGSM_INLINE void weigh(const int low, const fusion_window *given, const char *mask,
                       float *weights, fusion_pair *pair) {
    const fusion_window own = *given, *at = &own; /* no store can change it */
    float part_of[4][KGSM_LANES]; /* each bias as a float and what that leaves of it */
    for (int lane = 0; lane < KGSM_LANES; lane++)
        for (int k = 0; k < 2; k++) {
            part_of[k][lane] = (float)pair->bias[k][lane];
            part_of[2 + k][lane] = (float)(pair->bias[k][lane] - (double)part_of[k][lane]);
        }
    const vf bias1 = vf_load(part_of[0]), bias2 = vf_load(part_of[1]);
    const vf rest1 = vf_load(part_of[2]), rest2 = vf_load(part_of[3]);
    vd sum = {0}, between = {0};
    for (size_t y = 0; y < at->rows; y++) {
        const size_t line = y * at->stride;
        for (size_t first = 0; first < at->wide; first += KGSM_CHUNK) {
            const size_t end = first + KGSM_CHUNK < at->wide ? first + KGSM_CHUNK : at->wide;
            vf part = vf_all(0.0f), part_between = vf_all(0.0f);
            for (size_t x = first; x < end; x++) {
                vf n1 = vf_load(at->less[0] + line + x) + bias1;
                vf n2 = vf_load(at->less[1] + line + x) + bias2;
                if (low) {
                    n1 += vf_load(at->low[0] + line + x) + rest1;
                    n2 += vf_load(at->low[1] + line + x) + rest2;
                } else {
                    n1 += rest1;
                    n2 += rest2;
                }
                const vf s1 = vf_load(at->plus[0] + line + x) + bias1;
                const vf s2 = vf_load(at->plus[1] + line + x) + bias2;
                vf t = vf_abs(n1 * s2) + vf_abs(n2 * s1), q = vf_abs(s1 * s2);
                /* S outside [-1, 1], or no number: 0.5 */
                const vm good = vm_less(vf_all(0.0f), q) & vm_not(vm_less(4.0f * q, t));
                t = vf_choose(good, t, vf_all(1.0f));
                q = vf_choose(good, q, vf_all(1.0f));
                const vf half_distance = vf_all(at->distance[y * at->wide + x]);
                vf w = q / vf_fma(t, half_distance, 1e-7f * q);
                vm m;
                memcpy(&m, mask + (y * at->wide + x) * sizeof m, sizeof m);
                w = vf_choose(m, w, vf_all(0.0f));
                vf_store(weights + (y * at->wide + x) * KGSM_LANES, w);
                part += w;
                part_between = vf_fma(w, vf_load(at->between + line + x), part_between);
            }
            sum = vd_add(sum, part);
            between = vd_add(between, part_between);
        }
    }
    vd_store(pair->weight, sum);
    vd_store(pair->between, between);
}

/* sum w x over the window for `days` planes (a constant number of them). */
KGSM_INLINE void weighted_sums(const int days, const fusion_window *at, const float *weights,
                               const float *const *planes, size_t stride,
                               double (*sums)[KGSM_LANES]) {
    vd total[KGSM_FUSED_DAYS];
    for (int k = 0; k < days; k++) total[k] = (vd){0};
    for (size_t y = 0; y < at->rows; y++)
        for (size_t first = 0; first < at->wide; first += KGSM_CHUNK) {
            const size_t end = first + KGSM_CHUNK < at->wide ? first + KGSM_CHUNK : at->wide;
            vf part[KGSM_FUSED_DAYS];
            for (int k = 0; k < days; k++) part[k] = vf_all(0.0f);
            for (size_t x = first; x < end; x++) {
                const vf w = vf_load(weights + (y * at->wide + x) * KGSM_LANES);
#pragma GCC unroll 8
                for (int k = 0; k < days; k++)
                    part[k] = vf_fma(w, vf_load(planes[k] + y * stride + x), part[k]);
            }
            for (int k = 0; k < days; k++) total[k] = vd_add(total[k], part[k]);
        }
    for (int k = 0; k < days; k++) vd_store(sums[k], total[k]);
}

/* sum w (x - from) over the window: keeps the digits of values that are all alike. */
static void weighted_apart(const fusion_window *at, const float *weights, const float *plane,
                           size_t stride, vf from, double *sums) {
    vd sum = {0};
    for (size_t y = 0; y < at->rows; y++)
        for (size_t x = 0; x < at->wide; x++) {
            const vf apart = vf_load(plane + y * stride + x) - from;
            const vf w = vf_load(weights + (y * at->wide + x) * KGSM_LANES);
            sum = vd_add(sum, w * vf_choose(vm_nan(apart), vf_all(0.0f), apart));
        }
    vd_store(sums, sum);
}

/* The pair's share of the work. `low` is a constant: whether F - C needs its second part. */
KGSM_INLINE void fuse_pair(const int low, int rule, const fusion_window *at,
                           const vf bound[4], char *mask, float *weights, double *columns, fusion_pair *pair) {
    window_sum(at, NULL, 0, columns, pair->valid);
    window_sum(at, at->between, at->stride, columns, pair->window_between);
    find_similar(low, at, bound, mask, pair);
    for (int i = 0; i < KGSM_LANES; i++) {
        pair->gain[i] = 1;
        if (rule != KGSM_FUSION_UNBIASED) pair->bias[0][i] = pair->bias[1][i] = 0;
    }
    if (rule == KGSM_FUSION_REGRESSED) regress(at, mask, pair);
    weigh(low, at, mask, weights, pair);
}

typedef struct {
    const kgsm_fusion *fusion;
    const fusion_planes *planes;
    char *mask;      /* (wide, wide) vm */
    float *weights;  /* (wide, wide, LANES) */
    double *columns; /* room for window_sum */
    float *own;      /* two windows of a day with gaps: fine1, then C0 - C1 */
    size_t own_stride;
} fusion_work;

/* One pixel from its sums: t_k from the window's mean change, then the two predictions. */
typedef struct {
    double fine[2], bias[2], change[2]; /* F_k(p), b_k, sum w (C0 - C_k) / sum w */
    double mean[2];                     /* mean over the valid window of C0 - C_k */
} fusion_pixel;

static double two_sided(const double mean[2], double first, double second) {
    const double e1 = 1 / (fabs(mean[0]) + 1e-10), e2 = 1 / (fabs(mean[1]) + 1e-10);
    return e1 / (e1 + e2) * first + e2 / (e1 + e2) * second;
}

static double few_similar(const fusion_pixel *p) { /* bias: over the valid window */
    const double m1 = p->mean[0] + 1e-10, m2 = p->mean[1] + 1e-10;
    const double e1 = 1 / fabs(m1), e2 = 1 / fabs(m2);
    return e1 / (e1 + e2) * (p->fine[0] + p->bias[0] + m1) +
           e2 / (e1 + e2) * (p->fine[1] + p->bias[1] + m2);
}

static double from_similar(const fusion_pixel *p) {
    return two_sided(p->mean, p->fine[0] + p->bias[0] + p->change[0],
                     p->fine[1] + p->bias[1] + p->change[1]);
}

/* Some days whose gaps, if any, are those of at->fine1. change[k] is C0 - C1 of the day from
 * the window's corner on; out[k] the first target's place. */
static void finish_days(const fusion_work *work, const fusion_window *at,
                        const fusion_pair *pair, size_t lanes, size_t days,
                        const float *const *change, size_t stride, float *const *out) {
    const kgsm_fusion *fusion = work->fusion;
    double sums[KGSM_FUSED_DAYS][KGSM_LANES];
    if (days == KGSM_FUSED_DAYS)
        weighted_sums(KGSM_FUSED_DAYS, at, work->weights, change, stride, sums);
    else
        for (size_t k = 0; k < days; k++)
            weighted_sums(1, at, work->weights, change + k, stride, sums + k);
    const vf fine1 = vf_load(at->fine1 + at->target1), fine2 = vf_load(at->fine2 + at->target);
    double window_bias[2][KGSM_LANES], window_low[KGSM_LANES], similar_fine[2][KGSM_LANES];
    double window_change[KGSM_LANES];
    int have_bias = 0, have_fine = 0;
    const int unbiased = fusion->rule == KGSM_FUSION_UNBIASED;
    for (size_t k = 0; k < days; k++) {
        window_sum(at, change[k], stride, work->columns, window_change);
        for (int lane = 0; lane < (int)lanes; lane++) {
            const double valid = pair->valid[lane];
            const double first = window_change[lane];
            const double second = first + pair->window_between[lane];
            fusion_pixel p = {.fine = {vf_lane(fine1, lane), vf_lane(fine2, lane)},
                              .mean = {first / valid, second / valid}};
            double value = NAN;
            if (isnan(p.fine[0])) {
                /* an input is missing here */
            } else if (pair->similar[lane] < KGSM_FUSION_SIMILAR) {
                if (!have_bias) {
                    for (int s = 0; s < 2; s++) {
                        window_sum(at, at->less[s], at->stride, work->columns, window_bias[s]);
                        window_sum(at, at->low[s], at->stride, work->columns, window_low);
                        for (int i = 0; i < KGSM_LANES; i++) window_bias[s][i] += window_low[i];
                    }
                    have_bias = 1;
                }
                for (int s = 0; s < 2; s++) p.bias[s] = unbiased ? -window_bias[s][lane] / valid : 0;
                value = few_similar(&p);
            } else {
                const double weight = pair->weight[lane];
                const double sum = sums[k][lane];
                p.change[0] = pair->gain[lane] * sum / weight;
                p.change[1] = pair->gain[lane] * (sum + pair->between[lane]) / weight;
                for (int s = 0; s < 2; s++) p.bias[s] = pair->bias[s][lane];
                value = from_similar(&p);
                if (value <= fusion->low || value >= fusion->high) {
                    if (!have_fine) {
                        weighted_apart(at, work->weights, at->fine1, at->fine1_stride, fine1,
                                       similar_fine[0]);
                        weighted_apart(at, work->weights, at->fine2, at->stride, fine2,
                                       similar_fine[1]);
                        have_fine = 1;
                    }
                    for (int s = 0; s < 2; s++)
                        p.change[s] = similar_fine[s][lane] / weight;
                    value = from_similar(&p);
                }
            }
            out[k][lane] = isfinite((float)value) ? (float)value : NAN;
        }
    }
}

/* The window of the targets from (row, x) on. */
static fusion_window window_at(const fusion_planes *planes, size_t row, size_t x) {
    const size_t top = row > planes->radius ? row - planes->radius : 0;
    const size_t end = row + planes->radius + 1 < planes->rows ? row + planes->radius + 1
                                                                : planes->rows;
    const size_t corner = top * planes->stride + x;
    const size_t wide = 2 * planes->radius + 1;
    return (fusion_window){
        .fine1 = planes->fine1 + corner,
        .fine1_stride = planes->stride,
        .fine2 = planes->fine2 + corner,
        .less = {planes->less[0] + corner, planes->less[1] + corner},
        .low = {planes->low[0] + corner, planes->low[1] + corner},
        .plus = {planes->plus[0] + corner, planes->plus[1] + corner},
        .between = planes->between + corner,
        .distance = planes->distance + (top + planes->radius - row) * wide,
        .stride = planes->stride,
        .rows = end - top,
        .wide = wide,
        .target = (row - top) * planes->stride + planes->radius,
        .target1 = (row - top) * planes->stride + planes->radius,
    };
}

/* The bounds of similar values around the targets, |F_k(q) - F_k(p)| < sigma_k. */
static void bounds_at(const fusion_window *at, size_t columns, size_t x, size_t lanes,
                      const double *sigma, vf bound[4]) {
    float limit[4][KGSM_LANES];
    for (size_t lane = 0; lane < KGSM_LANES; lane++) {
        const size_t own = lane < lanes ? lane : 0;
        const double fine1 = at->fine1[at->target1 + own], fine2 = at->fine2[at->target + own];
        limit[0][lane] = below(fine1 - sigma[x + own]);
        limit[1][lane] = above(fine1 + sigma[x + own]);
        limit[2][lane] = below(fine2 - sigma[columns + x + own]);
        limit[3][lane] = above(fine2 + sigma[columns + x + own]);
    }
    for (int k = 0; k < 4; k++) bound[k] = vf_load(limit[k]);
}

static void pair_at(const fusion_work *work, const fusion_window *at, size_t columns, size_t x,
                    size_t lanes, const double *sigma, fusion_pair *pair) {
    vf bound[4];
    bounds_at(at, columns, x, lanes, sigma, bound);
    if (work->planes->inexact)
        fuse_pair(1, work->fusion->rule, at, bound, work->mask, work->weights, work->columns, pair);
    else
        fuse_pair(0, work->fusion->rule, at, bound, work->mask, work->weights, work->columns, pair);
}

/* A day with a gap in the window has other valid pixels, hence another Q, b and w. */
static void day_with_gaps(const fusion_work *work, const fusion_window *shared, size_t columns,
                          size_t x, size_t lanes, const double *sigma, const float *change,
                          float *out) {
    const size_t across = work->own_stride, row = shared->target / shared->stride;
    const size_t used = (shared->wide + 2 * KGSM_LANES - 2) / KGSM_LANES * KGSM_LANES;
    float *fine1 = work->own, *own_change = work->own + across * shared->wide;
    for (size_t y = 0; y < shared->rows; y++)
        for (size_t i = 0; i < used; i++) {
            const float c = change[y * shared->stride + i];
            fine1[y * across + i] = isnan(c) ? NAN : shared->fine1[y * shared->stride + i];
            own_change[y * across + i] = isnan(c) ? 0.0f : c;
        }
    fusion_window at = *shared;
    at.fine1 = fine1;
    at.fine1_stride = across;
    at.target1 = row * across + (shared->target - row * shared->stride);
    fusion_pair pair;
    pair_at(work, &at, columns, x, lanes, sigma, &pair);
    const float *const own = own_change;
    finish_days(work, &at, &pair, lanes, 1, &own, across, &out);
}

static size_t fusion_scratch(const kgsm_fusion *fusion) {
    const size_t wide = 2 * fusion->radius + 1, across = kgsm_fusion_across(fusion->radius);
    return wide * wide * KGSM_LANES + (wide * wide * sizeof(vm) + 3) / 4 + 2 * across +
           2 * wide * across + 2;
}

static void fusion_run(const kgsm_fusion *fusion, const float *prepared, size_t first,
                       size_t count, const double *sigma, float *scratch, float *fused) {
    const fusion_planes planes = kgsm_fusion_planes(fusion, (float *)prepared);
    const size_t wide = 2 * fusion->radius + 1, across = kgsm_fusion_across(fusion->radius);
    const size_t columns = fusion->columns, size = fusion->rows * columns;
    fusion_work work = {.fusion = fusion, .planes = &planes, .own_stride = across};
    /* doubles first, where doubles may stand */
    scratch += (uintptr_t)scratch / sizeof(float) % 2;
    work.columns = (double *)scratch;
    work.weights = scratch + 2 * across;
    work.own = work.weights + wide * wide * KGSM_LANES;
    work.mask = (char *)(work.own + 2 * wide * across);
    for (size_t x = 0; x < columns; x += KGSM_LANES) {
        const size_t lanes = columns - x < KGSM_LANES ? columns - x : KGSM_LANES;
        for (size_t row = first; row < first + count; row++) {
            const fusion_window at = window_at(&planes, row, x);
            const size_t corner = (size_t)(at.fine1 - planes.fine1);
            const float *change[KGSM_FUSED_DAYS];
            float *out[KGSM_FUSED_DAYS];
            size_t together = 0;
            fusion_pair pair;
            int have_pair = 0;
            for (size_t day = 0; day < fusion->days; day++)
                if (kgsm_fusion_has_gap(&planes, day, row, x))
                    day_with_gaps(&work, &at, columns, x, lanes, sigma,
                                  planes.change + day * planes.plane + corner,
                                  fused + day * size + row * columns + x);
            for (size_t day = 0; day <= fusion->days; day++) {
                if (together == KGSM_FUSED_DAYS || (day == fusion->days && together)) {
                    finish_days(&work, &at, &pair, lanes, together, change, planes.stride, out);
                    together = 0;
                }
                if (day == fusion->days || kgsm_fusion_has_gap(&planes, day, row, x)) continue;
                if (!have_pair) pair_at(&work, &at, columns, x, lanes, sigma, &pair);
                have_pair = 1;
                change[together] = planes.change + day * planes.plane + corner;
                out[together++] = fused + day * size + row * columns + x;
            }
        }
    }
}
