/* Planes of numbers for one block of rows, made by fusion.c and read by fusion_body.h.
 *
 * Every line begins with `radius` columns that are missing and ends with more of them, so
 * that a window, or a vector of windows, is never cut at the left or right. */
#ifndef KGSM_FUSION_H
#define KGSM_FUSION_H

#include "kgsm.h"

#define KGSM_FUSION_SIMILAR 6 /* fewer similar pixels: the mean of the whole window */
#define KGSM_FUSION_MOST_LANES 16

typedef struct {
    size_t rows, columns, radius;
    size_t stride, plane;   /* floats of a line, and of a plane */
    size_t groups;          /* of KGSM_FUSION_MOST_LANES targets in a line */
    int inexact;            /* some F - C needs two floats */
    float *flags;           /* [0] is `inexact` */
    float *distance;        /* (wide, wide) D / 2 */
    float *fine1, *fine2;   /* F_k; where an input of the pair is missing NaN, and 0 */
    float *less[2], *low[2]; /* F_k - C_k, and what its float leaves of it */
    float *plus[2];         /* F_k + C_k */
    float *between;         /* C_1 - C_2 */
    float *change;          /* (days) C_0 - C_1; NaN where only C_0 is missing */
    float *gaps;            /* (days, rows, groups) 1 where a window's line has such a gap */
} fusion_planes;

/* Floats across a window of a whole vector of targets, and a multiple of all vectors. */
static inline size_t kgsm_fusion_across(size_t radius) {
    return (2 * radius + 2 * KGSM_FUSION_MOST_LANES - 1) / KGSM_FUSION_MOST_LANES *
           KGSM_FUSION_MOST_LANES;
}

static inline size_t kgsm_fusion_groups(const kgsm_fusion *fusion) {
    return (fusion->columns + KGSM_FUSION_MOST_LANES - 1) / KGSM_FUSION_MOST_LANES;
}

/* An odd number of cache lines, so that the rows of a window fall in different sets. */
static inline size_t kgsm_fusion_stride(const kgsm_fusion *fusion) {
    const size_t floats = (kgsm_fusion_groups(fusion) - 1) * KGSM_FUSION_MOST_LANES +
                          kgsm_fusion_across(fusion->radius);
    return floats / 16 % 2 ? floats : floats + 16;
}

static inline fusion_planes kgsm_fusion_planes(const kgsm_fusion *fusion, float *prepared) {
    const size_t wide = 2 * fusion->radius + 1, stride = kgsm_fusion_stride(fusion);
    const size_t plane = stride * fusion->rows;
    float *first = prepared + 16 + wide * wide;
    return (fusion_planes){
        .rows = fusion->rows,
        .columns = fusion->columns,
        .radius = fusion->radius,
        .stride = stride,
        .plane = plane,
        .groups = kgsm_fusion_groups(fusion),
        .inexact = prepared[0] != 0.0f,
        .flags = prepared,
        .distance = prepared + 16,
        .fine1 = first,
        .fine2 = first + plane,
        .less = {first + 2 * plane, first + 3 * plane},
        .low = {first + 4 * plane, first + 5 * plane},
        .plus = {first + 6 * plane, first + 7 * plane},
        .between = first + 8 * plane,
        .change = first + 9 * plane,
        .gaps = first + (9 + fusion->days) * plane,
    };
}

/* True where a gap of this day touches a window of the vector of targets at (row, x). */
static inline int kgsm_fusion_has_gap(const fusion_planes *planes, size_t day, size_t row,
                                      size_t x) {
    const size_t top = row > planes->radius ? row - planes->radius : 0;
    size_t end = row + planes->radius + 1;
    if (end > planes->rows) end = planes->rows;
    const float *gaps = planes->gaps + day * planes->rows * planes->groups;
    for (size_t y = top; y < end; y++)
        if (gaps[y * planes->groups + x / KGSM_FUSION_MOST_LANES] != 0.0f) return 1;
    return 0;
}

#endif
