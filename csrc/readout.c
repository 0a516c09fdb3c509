/* The head's straight line on the tile (T, n, F), one window after the other:
 *
 *     sm[i] = bias + sum over t, f of weight[t][f] tile[t][i][f]
 *
 * A weight of 0 is not looked at, so a NaN that the head does not read does not reach it.
 * The sum is float64 in the order of the tile: the same bits for a window anywhere. */
#include "kernels.h"

void kgsm_readout_portable(size_t steps, size_t channels, const float *weight, float bias,
                           size_t n, const float *tile, float *sm) {
    for (size_t i = 0; i < n; i++) {
        double sum = bias;
        for (size_t t = 0; t < steps; t++) {
            const float *w = weight + t * channels, *x = tile + (t * n + i) * channels;
            for (size_t f = 0; f < channels; f++)
                if (w[f] != 0.0f) sum += (double)w[f] * x[f];
        }
        sm[i] = (float)sum;
    }
}
