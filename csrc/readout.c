/* The head's estimate on the tile (T, n, F), one window after the other:
 *
 *     line  = bias + sum over t, f of weight[t][f] tile[t][i][f]
 *     sm[i] = line                                       KGSM_LINK_IDENTITY
 *     sm[i] = low (1 - p) + high p,  p = Phi(line)       KGSM_LINK_NORMAL
 *
 * Phi(x) = (1 + erf(x / sqrt 2)) / 2 is the standard normal distribution function. Rounding may
 * put the sum one unit beyond low .. high; it is clamped, so that no result counts as clipped.
 *
 * A channel with weight 0 is skipped, so its NaN does not reach the result. The sum is float64
 * in the order of the tile, so a window gives the same bits in any batch. */
#include <math.h>

#include "kernels.h"

static const double sqrt_half = 0.70710678118654752440;

void kgsm_readout_portable(const kgsm_head *head, size_t n, const float *tile, float *sm) {
    const size_t steps = head->steps, channels = head->channels;
    for (size_t i = 0; i < n; i++) {
        double line = head->bias;
        for (size_t t = 0; t < steps; t++) {
            const float *w = head->weight + t * channels, *x = tile + (t * n + i) * channels;
            for (size_t f = 0; f < channels; f++)
                if (w[f] != 0.0f) line += (double)w[f] * x[f];
        }
        if (head->link == KGSM_LINK_NORMAL) {
            const float p = 0.5f + 0.5f * erff((float)(line * sqrt_half));
            const float x = head->low * (1.0f - p) + head->high * p; /* NaN passes the clamp */
            sm[i] = x < head->low ? head->low : x > head->high ? head->high : x;
        } else {
            sm[i] = (float)line;
        }
    }
}
