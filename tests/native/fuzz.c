/* A libFuzzer target per public function, all in this file: clang -DTARGET=fuzz_pack ...
 * The bytes given become parameters and arrays of exactly the size a call may touch, so that
 * the sanitizers see a byte beyond. Besides not crashing, each call must keep its word. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kgsm.h"

typedef struct {
    const uint8_t *at;
    size_t left;
} bytes;

static void take(bytes *from, void *to, size_t size) {
    const size_t have = from->left < size ? from->left : size;
    memset(to, 0, size);
    if (have) memcpy(to, from->at, have);
    from->at += have;
    from->left -= have;
}

static size_t small(bytes *from, size_t most) {
    uint8_t byte;
    take(from, &byte, 1);
    return byte % (most + 1);
}

static float *floats(bytes *from, size_t n) {
    float *values = malloc(n * sizeof *values + !n);
    take(from, values, n * sizeof *values);
    return values;
}

static void choose(bytes *from) {
    size_t n = 0;
    while (kgsm_tier_name(n)) n++;
    kgsm_choose_tier(kgsm_tier_name(small(from, n - 1)));
}

static void must(int true_) {
    if (!true_) abort();
}

void fuzz_decibels(bytes *from) {
    const size_t n = small(from, 70);
    float *in = floats(from, n), *out = floats(from, n);
    must(kgsm_db_to_linear(n, in, out) == KGSM_OK);
    for (size_t i = 0; i < n; i++) must(isnan(in[i]) ? isnan(out[i]) : out[i] >= 0);
    must(kgsm_linear_to_db(n, in, out) == KGSM_OK);
    for (size_t i = 0; i < n; i++) must(in[i] > 0 ? !isnan(out[i]) : isnan(out[i]) || in[i] == 0);
    must(kgsm_invert(-20, 25, n, in, out) == KGSM_OK);
    free(in), free(out);
}

void fuzz_isolate(bytes *from) {
    kgsm_wcm wcm;
    take(from, &wcm, sizeof wcm);
    if (small(from, 3)) { /* mostly sound parameters, or little else would be reached */
        wcm = (kgsm_wcm){.a = 0.02, .b = 0.084, .e = (double)small(from, 3),
                         .vwc_rule = (int)small(from, 1), .angle_rule = (int)small(from, 2),
                         .angle_ref_deg = 40, .angle_exponent = (double)small(from, 3),
                         .min_soil_fraction = 0.1, .sigma0_db = {-60, 20},
                         .vegetation = {-1, 50}, .angle_deg = {0, 90}, .dense_vwc_kg_m2 = 3};
    }
    const size_t n = small(from, 70);
    float *s = floats(from, n), *v = floats(from, n), *angle = floats(from, n);
    float *soil = floats(from, n), *fraction = floats(from, n);
    uint16_t *flags = malloc(n * sizeof *flags + !n);
    if (kgsm_isolate(&wcm, n, s, v, angle, soil, fraction, flags) == KGSM_OK)
        for (size_t i = 0; i < n; i++)
            must(flags[i] & KGSM_NO_NUMBER ? isnan(soil[i]) : isfinite(soil[i]));
    if (kgsm_screen(wcm.sigma0_db, n, s, soil, flags) == KGSM_OK)
        for (size_t i = 0; i < n; i++)
            must(flags[i] & KGSM_NO_NUMBER ? isnan(soil[i]) : soil[i] == s[i]);
    free(s), free(v), free(angle), free(soil), free(fraction), free(flags);
}

void fuzz_pack(bytes *from) {
    const size_t steps = small(from, 6), fd = small(from, 4), fs = small(from, 3);
    const size_t n = small(from, 20), r = small(from, 30), scaled = 1 + fd + fs + 1;
    float *mean = floats(from, scaled), *inv_std = floats(from, scaled);
    for (size_t i = 0; i < scaled; i++) { /* scaling that overflows is the caller's */
        if (!(fabsf(mean[i]) < 1e3f)) mean[i] = 0;
        if (!(inv_std[i] > 1e-3f && inv_std[i] < 1e3f)) inv_std[i] = 1;
    }
    int64_t *rows = malloc(n * steps * sizeof *rows + 1);
    for (size_t i = 0; i < n * steps; i++) rows[i] = (int64_t)small(from, r + 1) - 1;
    float *channel_db = floats(from, r);
    double *day = malloc(r * sizeof *day + !r);
    take(from, day, r * sizeof *day);
    float *dynamic = floats(from, r * fd), *statics = floats(from, n * fs);
    uint16_t *step_flags = malloc(r * sizeof *step_flags + !r);
    take(from, step_flags, r * sizeof *step_flags);
    const size_t size = steps * n * (scaled + 1);
    float *tile = floats(from, size);
    uint16_t *flags = malloc(n * sizeof *flags + !n);
    const kgsm_layout layout = {steps, fd, fs, mean, inv_std};
    kgsm_pack(&layout, n, r, rows, channel_db, step_flags, day, dynamic, statics, tile, flags);
    free(mean), free(inv_std), free(rows), free(channel_db), free(day), free(dynamic);
    free(statics), free(step_flags), free(tile), free(flags);
}

void fuzz_lstm(bytes *from) {
    const kgsm_lstm lstm = {small(from, 3), small(from, 5), small(from, 40),
                            small(from, 2), small(from, 5), small(from, 5)};
    const size_t n = small(from, 70), gates = lstm.members * 4 * lstm.hidden;
    float *w = floats(from, gates * lstm.channels), *r = floats(from, gates * lstm.hidden);
    float *b = floats(from, 2 * gates), *head = floats(from, lstm.members * lstm.hidden);
    float *head_bias = floats(from, lstm.members), *tile = floats(from, lstm.steps * n * lstm.channels);
    float *prepared = malloc(kgsm_lstm_prepared_floats(&lstm) * sizeof *prepared + 1);
    float *scratch = malloc(kgsm_lstm_scratch_floats(&lstm) * sizeof *scratch + 1);
    float *sm = floats(from, n);
    if (kgsm_lstm_prepare(&lstm, w, r, b, head, head_bias, prepared) == KGSM_OK)
        must(kgsm_lstm_run(&lstm, prepared, n, n, tile, scratch, sm) == KGSM_OK);
    free(w), free(r), free(b), free(head), free(head_bias), free(tile);
    free(prepared), free(scratch), free(sm);
}

void fuzz_readout(bytes *from) {
    const size_t steps = small(from, 6), channels = small(from, 8), n = small(from, 20);
    float *weight = floats(from, steps * channels), *tile = floats(from, steps * n * channels);
    float *sm = floats(from, n);
    kgsm_head head = {steps, channels, weight, 0, (int)small(from, 2), 0, 1};
    take(from, &head.bias, sizeof head.bias);
    take(from, &head.low, sizeof head.low);
    take(from, &head.high, sizeof head.high);
    if (kgsm_readout(&head, n, tile, sm) == KGSM_OK) {
        must(isfinite(head.bias) && steps > 0 && channels > 0 && head.link < 2);
        for (size_t i = 0; head.link == KGSM_LINK_NORMAL && i < n; i++)
            must(isnan(sm[i]) || (sm[i] >= head.low && sm[i] <= head.high));
    }
    free(weight), free(tile), free(sm);
}

void fuzz_nearest(bytes *from) {
    const size_t n = small(from, 20), channels = small(from, 5), count = small(from, 40);
    const size_t stride = channels + small(from, 3);
    float *x = floats(from, n ? (n - 1) * stride + channels : 0);
    float *points = floats(from, channels * count), *distance = floats(from, n);
    if (kgsm_nearest(n, stride, channels, x, count, points, distance) == KGSM_OK)
        for (size_t i = 0; i < n; i++) must(isnan(distance[i]) || distance[i] >= 0);
    free(x), free(points), free(distance);
}

void fuzz_fusion(bytes *from) {
    kgsm_fusion fusion = {small(from, 6), small(from, 40), small(from, 8), small(from, 4), 0, 1,
                          (int)small(from, 3)};
    take(from, &fusion.low, sizeof fusion.low);
    const size_t pixels = fusion.rows * fusion.columns;
    float *image[4];
    for (int k = 0; k < 4; k++) image[k] = floats(from, pixels);
    float *coarse0 = floats(from, fusion.days * pixels);
    double *sigma = malloc(2 * fusion.columns * sizeof *sigma + 1);
    take(from, sigma, 2 * fusion.columns * sizeof *sigma);
    float *prepared = malloc(kgsm_fusion_prepared_floats(&fusion) * sizeof *prepared + 1);
    float *scratch = malloc(kgsm_fusion_scratch_floats(&fusion) * sizeof *scratch + 1);
    float *fused = malloc(fusion.days * pixels * sizeof *fused + 1);
    if (kgsm_fusion_prepare(&fusion, image[0], image[1], image[2], image[3], coarse0, prepared) ==
        KGSM_OK) {
        must(kgsm_fusion_run(&fusion, prepared, 0, fusion.rows, sigma, scratch, fused) == KGSM_OK);
        for (size_t i = 0; i < fusion.days * pixels; i++) {
            int present = isfinite(coarse0[i]);
            for (int k = 0; k < 4; k++) present &= isfinite(image[k][i % pixels]);
            must(isfinite(fused[i]) ? present : isnan(fused[i]));
        }
    }
    for (int k = 0; k < 4; k++) free(image[k]);
    free(coarse0), free(sigma), free(prepared), free(scratch), free(fused);
}

/* A text column of random cells; ends may be unsound. */
static size_t cells_of(bytes *from, char **buffer, int64_t **ends, size_t *size) {
    const size_t n = small(from, 20);
    *size = small(from, 200);
    *buffer = malloc(*size + !*size);
    take(from, *buffer, *size);
    *ends = malloc(n * sizeof **ends + !n);
    int64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        end += (int64_t)small(from, 24);
        (*ends)[i] = (size_t)end > *size && small(from, 9) ? (int64_t)*size : end;
    }
    return n;
}

void fuzz_csv(bytes *from) {
    const size_t width = small(from, 5), most = small(from, 20), size = small(from, 250);
    char *text = malloc(size + !size), *column = malloc(size + !size);
    take(from, text, size);
    int64_t *begin = malloc(most * width * sizeof *begin + 1), rows = -1;
    int64_t *length = malloc(most * width * sizeof *length + 1);
    if (kgsm_csv_cells(size, text, ',', width, most, &rows, begin, length) == KGSM_OK) {
        must(rows >= 0 && (size_t)rows <= most);
        for (size_t k = 0; k < width; k++)
            must(kgsm_csv_column(size, text, (size_t)rows, width, k, begin, length, size, column) ==
                 KGSM_OK);
    }
    free(text), free(column), free(begin), free(length);
}

void fuzz_text(bytes *from) {
    char *buffer;
    int64_t *ends;
    size_t size;
    const size_t n = cells_of(from, &buffer, &ends, &size), room = small(from, 250);
    double *values = malloc(n * sizeof *values + 1);
    int64_t *seconds = malloc(n * sizeof *seconds + 1), *codes = malloc(n * sizeof *codes + 1);
    int64_t *at = malloc(n * sizeof *at + 1), table[64], count;
    uint8_t *irregular = malloc(n + 1);
    char *text = malloc(room + !room);
    if (kgsm_text_floats(size, buffer, n, ends, values, irregular) == KGSM_OK)
        for (size_t i = 0; i < n; i++) must(!irregular[i] || isnan(values[i]));
    if (kgsm_text_dates(size, buffer, n, ends, seconds, irregular) == KGSM_OK)
        for (size_t i = 0; i < n; i++) must(irregular[i] ? seconds[i] == 0 : 1);
    if (kgsm_text_codes(size, buffer, n, ends, 64, table, codes, &count) == KGSM_OK)
        for (size_t i = 0; i < n; i++) must(codes[i] >= 0 && codes[i] < count);
    kgsm_text_is_plain(size, buffer, n, ends);
    for (size_t i = 0; i < n; i++) at[i] = (int64_t)small(from, 255) - 2;
    kgsm_csv_put(size, buffer, n, ends, ',', at, room, text);
    free(buffer), free(ends), free(values), free(seconds), free(codes), free(at);
    free(irregular), free(text);
}

void fuzz_float_text(bytes *from) {
    const size_t n = small(from, 40);
    float *values = floats(from, n);
    char *buffer = malloc(n * KGSM_FLOAT_TEXT + 1), text[KGSM_FLOAT_TEXT + 1];
    int64_t *ends = malloc(n * sizeof *ends + 1), first = 0;
    uint8_t *irregular = malloc(n + 1);
    must(kgsm_float_text(n, values, buffer, ends, irregular) == KGSM_OK);
    for (size_t i = 0; i < n; i++) {
        const size_t length = (size_t)(ends[i] - first);
        must(length < KGSM_FLOAT_TEXT);
        memcpy(text, buffer + first, length);
        text[length] = 0;
        if (length) must(strtof(text, NULL) == values[i]);
        else must(irregular[i] || isnan(values[i]));
        first = ends[i];
    }
    free(values), free(buffer), free(ends), free(irregular);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bytes from = {data, size};
    choose(&from);
    TARGET(&from);
    return 0;
}
