/* Fusion of fine and coarse images: checks, and the planes every tier reads. */
#include "fusion.h"

#include <math.h>
#include <string.h>

#include "kernels.h"

static int is_sound(const kgsm_fusion *fusion) {
    /* no more than 2**24 across and 2**16 days of at most 2**40 pixels: no product overflows */
    const size_t most = (size_t)1 << 24;
    return fusion->rows && fusion->columns && fusion->days && fusion->radius &&
           fusion->rows <= most && fusion->columns <= most && fusion->days <= most >> 8 &&
           fusion->radius <= 1024 &&
           (uint64_t)fusion->rows * fusion->columns <= (uint64_t)1 << 40 &&
           (uint64_t)fusion->rows * (fusion->columns + 4096) <
               (uint64_t)SIZE_MAX / sizeof(float) / (fusion->days * 2 + 16);
}

static int has_rule(const kgsm_fusion *fusion) {
    return fusion->low <= fusion->high && fusion->rule >= KGSM_FUSION_UNBIASED &&
           fusion->rule <= KGSM_FUSION_REGRESSED;
}

size_t kgsm_fusion_prepared_floats(const kgsm_fusion *fusion) {
    if (!fusion || !is_sound(fusion)) return 0;
    const size_t wide = 2 * fusion->radius + 1;
    return 16 + wide * wide +
           (9 + fusion->days) * fusion->rows * kgsm_fusion_stride(fusion) +
           fusion->days * fusion->rows * kgsm_fusion_groups(fusion);
}

size_t kgsm_fusion_scratch_floats(const kgsm_fusion *fusion) {
    return fusion && is_sound(fusion) ? kgsm_kernels_chosen()->fusion_scratch(fusion) : 0;
}

/* x - y as a float and its exact remainder (Knuth's two-sum). */
static float difference(float x, float y, float *rest) {
    const float d = x - y, back = d - x;
    *rest = (x - (d - back)) - (y + back);
    return d;
}

static void lay_out_pair(const fusion_planes *to, const float *fine1, const float *coarse1,
                         const float *fine2, const float *coarse2) {
    int inexact = 0;
    for (size_t y = 0; y < to->rows; y++)
        for (size_t x = 0; x < to->columns; x++) {
            const size_t from = y * to->columns + x, at = y * to->stride + to->radius + x;
            const float f[2] = {fine1[from], fine2[from]}, c[2] = {coarse1[from], coarse2[from]};
            if (!(isfinite(f[0]) && isfinite(f[1]) && isfinite(c[0]) && isfinite(c[1]))) continue;
            to->fine1[at] = f[0];
            to->fine2[at] = f[1];
            for (int k = 0; k < 2; k++) {
                to->less[k][at] = difference(f[k], c[k], &to->low[k][at]);
                to->plus[k][at] = f[k] + c[k];
                inexact |= to->low[k][at] != 0.0f;
            }
            to->between[at] = c[0] - c[1];
        }
    to->flags[0] = inexact ? 1.0f : 0.0f;
}

static void lay_out_day(const fusion_planes *to, size_t day, const float *coarse1,
                        const float *coarse0) {
    float *change = to->change + day * to->plane;
    float *gaps = to->gaps + day * to->rows * to->groups;
    for (size_t y = 0; y < to->rows; y++)
        for (size_t x = 0; x < to->columns; x++) {
            const size_t at = y * to->stride + to->radius + x;
            if (isnan(to->fine1[at])) continue;
            const float c = coarse0[y * to->columns + x];
            change[at] = isfinite(c) ? c - coarse1[y * to->columns + x] : NAN;
            if (isfinite(c)) continue;
            /* the vectors whose windows reach x */
            const size_t lanes = KGSM_FUSION_MOST_LANES;
            const size_t low = x > to->radius ? (x - to->radius) / lanes : 0;
            size_t high = (x + to->radius) / lanes;
            if (high >= to->groups) high = to->groups - 1;
            for (size_t g = low; g <= high; g++) gaps[y * to->groups + g] = 1.0f;
        }
}

int kgsm_fusion_prepare(const kgsm_fusion *fusion, const float *fine1, const float *coarse1,
                        const float *fine2, const float *coarse2, const float *coarse0,
                        float *prepared) {
    if (!fusion) return KGSM_ERR_NULL;
    if (!is_sound(fusion)) return KGSM_ERR_SHAPE;
    if (!has_rule(fusion)) return KGSM_ERR_PARAM;
    if (!fine1 || !coarse1 || !fine2 || !coarse2 || !coarse0 || !prepared) return KGSM_ERR_NULL;
    memset(prepared, 0, kgsm_fusion_prepared_floats(fusion) * sizeof *prepared);
    const fusion_planes planes = kgsm_fusion_planes(fusion, prepared);
    const size_t wide = 2 * fusion->radius + 1;
    const double radius = (double)fusion->radius;
    for (size_t y = 0; y < wide; y++)
        for (size_t x = 0; x < wide; x++) {
            const double dy = (double)y - radius, dx = (double)x - radius;
            planes.distance[y * wide + x] = (float)((1 + sqrt(dx * dx + dy * dy) / radius) / 2);
        }
    for (size_t i = 0; i < planes.plane; i++) planes.fine1[i] = NAN;
    lay_out_pair(&planes, fine1, coarse1, fine2, coarse2);
    for (size_t day = 0; day < fusion->days; day++)
        lay_out_day(&planes, day, coarse1, coarse0 + day * fusion->rows * fusion->columns);
    return KGSM_OK;
}

int kgsm_fusion_run(const kgsm_fusion *fusion, const float *prepared, size_t first, size_t count,
                    const double *sigma, float *scratch, float *fused) {
    if (!fusion) return KGSM_ERR_NULL;
    if (!is_sound(fusion) || first > fusion->rows || count > fusion->rows - first)
        return KGSM_ERR_SHAPE;
    if (!has_rule(fusion)) return KGSM_ERR_PARAM;
    if (count == 0) return KGSM_OK;
    if (!prepared || !sigma || !scratch || !fused) return KGSM_ERR_NULL;
    kgsm_kernels_chosen()->fusion_run(fusion, prepared, first, count, sigma, scratch, fused);
    return KGSM_OK;
}
