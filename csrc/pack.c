/* From per-acquisition arrays to the LSTM's input tile (T, N, F), one step at a time:
 * the (R, F) or (N, T, F) array of features never exists. */
#include "kernels.h"

#include <math.h>
#include <string.h>

static inline float scale(float x, float mean, float inv_std) { return (x - mean) * inv_std; }

/* Why the k numbers of one line cannot be used: NaN is missing, infinite out of range. */
static inline unsigned lacking(size_t k, const float *x) {
    unsigned flags = 0;
    for (size_t i = 0; i < k; i++)
        if (!isfinite(x[i])) flags |= isnan(x[i]) ? KGSM_MISSING_INPUT : KGSM_INPUT_OUT_OF_RANGE;
    return flags;
}

void kgsm_pack_portable(const kgsm_layout *layout, size_t n, const int64_t *rows,
                        const float *channel_db, const uint16_t *step_flags,
                        const double *day, const float *dynamic, const float *statics,
                        float *tile, uint16_t *window_flags) {
    const size_t steps = layout->steps, fd = layout->dynamic, fs = layout->statics;
    const size_t channels = 1 + fd + fs + 2;
    const float *mean = layout->mean, *inv_std = layout->inv_std;

    for (size_t i = 0; i < n; i++) {
        const int64_t *window = rows + i * steps; /* (T) */
        const float *at_site = NULL; /* the scaled statics, once a step of the window has them */
        unsigned lacks = fs ? lacking(fs, statics + i * fs) : 0;

        for (size_t t = 0; t < steps; t++) {
            float *x = tile + (t * n + i) * channels; /* (F) */
            const int64_t row = window[t];
            const int64_t before = t ? window[t - 1] : -1;

            unsigned flags = KGSM_MISSING_INPUT; /* padding has nothing */
            if (row >= 0) {
                flags = step_flags[row];
                /* a backscatter that is NaN for no stated reason is a missing one */
                if (!(flags & KGSM_NO_NUMBER)) flags |= lacking(1, channel_db + row);
                if (!isfinite(day[row]))
                    flags |= isnan(day[row]) ? KGSM_MISSING_INPUT : KGSM_INPUT_OUT_OF_RANGE;
                if (fd) flags |= lacking(fd, dynamic + (size_t)row * fd);
            }
            const int valid = row >= 0 && !(flags & KGSM_NO_NUMBER);
            if (t == steps - 1)
                lacks |= flags;
            else if (!valid)
                lacks |= KGSM_SHORT_HISTORY;
            if (!valid) {
                memset(x, 0, channels * sizeof *x);
                continue;
            }

            size_t c = 0;
            x[c] = scale(channel_db[row], mean[c], inv_std[c]);
            c++;
            for (size_t k = 0; k < fd; k++, c++)
                x[c] = scale(dynamic[(size_t)row * fd + k], mean[c], inv_std[c]);
            for (size_t k = 0; k < fs; k++, c++) {
                const float value = statics[i * fs + k];
                if (at_site)
                    x[c] = at_site[k];
                else
                    x[c] = isfinite(value) ? scale(value, mean[c], inv_std[c]) : 0.0f;
            }
            if (fs) at_site = x + 1 + fd;
            /* a difference of doubles: days since 1970 keep their seconds */
            const float gap = before >= 0 ? (float)(day[row] - day[before]) : 0.0f;
            x[c] = scale(isfinite(gap) ? gap : 0.0f, mean[c], inv_std[c]);
            x[c + 1] = 1.0f;
        }
        window_flags[i] = (uint16_t)lacks;
    }
}
