/* The distance to the nearest training point, for one tier; see kgsm.h.
 *
 *     distance[i] = min over j of sqrt(sum over k of (x_ik - p_jk)**2)
 *
 * A lane is a training point. The sum runs over the channels in order, one fused step at a
 * time. Where the points do not fill the last vector, it starts early and reads some points
 * twice, which does not change the minimum.
 * A NaN in x makes every sum NaN, which vf_min keeps. */
#include "kernels.h"
#include "vec.h"

#include <math.h>

#define KGSM_NEAREST_ROWS 6

/* KGSM_LANES points from `first` on, one channel; the last point is repeated to fill a vector. */
KGSM_INLINE vf some_points(const float *channel, size_t count, size_t first) {
    if (count >= KGSM_LANES) return vf_load(channel + first);
    float filled[KGSM_LANES];
    for (size_t lane = 0; lane < KGSM_LANES; lane++)
        filled[lane] = channel[lane < count ? lane : count - 1];
    return vf_load(filled);
}

/* `rows` lines (a constant) share a pass over the points. */
KGSM_INLINE void nearest_of_rows(const int rows, size_t stride, size_t channels, const float *x,
                                 size_t count, const float *points, float *distance) {
    vf least[KGSM_NEAREST_ROWS];
    for (int i = 0; i < rows; i++) least[i] = vf_all(INFINITY);
    for (size_t at = 0; at < count; at += KGSM_LANES) {
        const int whole = at + KGSM_LANES <= count || count < KGSM_LANES;
        const size_t first = whole ? at : count - KGSM_LANES;
        vf sum[KGSM_NEAREST_ROWS];
        for (int i = 0; i < rows; i++) sum[i] = vf_all(0.0f);
        for (size_t k = 0; k < channels; k++) {
            const vf point = some_points(points + k * count, count, first);
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) {
                const vf apart = vf_all(x[i * stride + k]) - point;
                sum[i] = vf_fma(apart, apart, sum[i]);
            }
        }
        for (int i = 0; i < rows; i++) least[i] = vf_min(least[i], sum[i]);
    }
    for (int i = 0; i < rows; i++) {
        float square = vf_lane(least[i], 0);
        for (int lane = 1; lane < KGSM_LANES; lane++)
            if (vf_lane(least[i], lane) < square) square = vf_lane(least[i], lane);
        distance[i] = sqrtf(square);
    }
}

static void nearest_point(size_t n, size_t stride, size_t channels, const float *x,
                          size_t count, const float *points, float *distance) {
    const int rows = KGSM_NEAREST_ROWS;
    size_t i = 0;
    for (; i + rows <= n; i += rows)
        nearest_of_rows(rows, stride, channels, x + i * stride, count, points, distance + i);
    for (; i < n; i++)
        nearest_of_rows(1, stride, channels, x + i * stride, count, points, distance + i);
}
