/* The core without Python, for processors that are not at hand: reads one file that
 * tests/test_core_alone.py writes, runs the core on it, and writes what comes out.
 *
 *   run_kernels TIER IN OUT
 *
 * IN, little-endian: uint32 n, T, N, F, H, M, first_static, statics; float32 sigma0_db (n),
 * ndvi (n), angle_deg (n); w, r, b, head, head_bias; tile (T, N, F).
 * OUT: float32 linear (n) of sigma0_db, dB of that (n); soil_db (n), soil_fraction (n), and
 * uint16 flags (n), once with a constant angle and once with angle_deg; float32 sm (N),
 * then sm again with each window run alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kgsm.h"

static void must(int sound, const char *what) {
    if (sound) return;
    fprintf(stderr, "run_kernels: %s\n", what);
    exit(1);
}

static void *room(size_t bytes) {
    void *memory = malloc(bytes);
    must(memory != NULL, "out of memory");
    return memory;
}

static float *read_floats(FILE *from, size_t count) {
    float *x = room(count * sizeof *x);
    must(fread(x, sizeof *x, count, from) == count, "the input file is too short");
    return x;
}

static void write_all(FILE *to, const void *x, size_t size, size_t count) {
    must(fwrite(x, size, count, to) == count, "cannot write");
}

static void isolate_both(FILE *to, size_t n, const float *sigma0_db, const float *ndvi,
                         const float *angle_deg) {
    float *soil_db = room(4 * n), *soil_fraction = room(4 * n);
    uint16_t *flags = room(2 * n);
    kgsm_wcm wcm = {.a = 0.02, .b = 0.084, .vwc_rule = KGSM_VWC_FOLIAGE, .angle_ref_deg = 40,
                    .angle_exponent = 2, .min_soil_fraction = 0.1, .sigma0_db = {-60, 10},
                    .vegetation = {-1, 1}, .angle_deg = {5, 75}, .dense_vwc_kg_m2 = 1};
    for (int rule = KGSM_ANGLE_CONSTANT; rule <= KGSM_ANGLE_COLUMN; rule++) {
        wcm.angle_rule = rule;
        must(kgsm_isolate(&wcm, n, sigma0_db, ndvi, angle_deg, soil_db, soil_fraction,
                          flags) == KGSM_OK, "kgsm_isolate");
        write_all(to, soil_db, 4, n);
        write_all(to, soil_fraction, 4, n);
        write_all(to, flags, 2, n);
    }
    free(soil_db);
    free(soil_fraction);
    free(flags);
}

int main(int count, char **given) {
    must(count == 4, "TIER IN OUT");
    must(kgsm_choose_tier(given[1]) == KGSM_OK, "no such tier here");
    FILE *in = fopen(given[2], "rb"), *out = fopen(given[3], "wb");
    must(in && out, "cannot open a file");
    uint32_t size[8];
    must(fread(size, sizeof *size, 8, in) == 8, "the input file is too short");
    const size_t n = size[0], windows = size[2];
    const kgsm_lstm lstm = {size[1], size[3], size[4], size[5], size[6], size[7]};
    const size_t f = lstm.channels, h = lstm.hidden, m = lstm.members;

    float *sigma0_db = read_floats(in, n), *ndvi = read_floats(in, n);
    float *angle_deg = read_floats(in, n), *linear = room(4 * n), *back = room(4 * n);
    must(kgsm_db_to_linear(n, sigma0_db, linear) == KGSM_OK, "kgsm_db_to_linear");
    must(kgsm_linear_to_db(n, linear, back) == KGSM_OK, "kgsm_linear_to_db");
    write_all(out, linear, 4, n);
    write_all(out, back, 4, n);
    isolate_both(out, n, sigma0_db, ndvi, angle_deg);

    float *w = read_floats(in, m * 4 * h * f), *r = read_floats(in, m * 4 * h * h);
    float *b = read_floats(in, m * 8 * h), *head = read_floats(in, m * h);
    float *head_bias = read_floats(in, m), *tile = read_floats(in, lstm.steps * windows * f);
    float *prepared = room(4 * kgsm_lstm_prepared_floats(&lstm));
    float *scratch = room(4 * kgsm_lstm_scratch_floats(&lstm)), *sm = room(4 * windows);
    must(kgsm_lstm_prepare(&lstm, w, r, b, head, head_bias, prepared) == KGSM_OK,
         "kgsm_lstm_prepare");
    must(kgsm_lstm_run(&lstm, prepared, windows, windows, tile, scratch, sm) == KGSM_OK,
         "kgsm_lstm_run");
    write_all(out, sm, 4, windows);
    for (size_t i = 0; i < windows; i++)
        must(kgsm_lstm_run(&lstm, prepared, 1, windows, tile + i * f, scratch, sm + i) == KGSM_OK,
             "kgsm_lstm_run of one window");
    write_all(out, sm, 4, windows);

    float *const all[] = {sigma0_db, ndvi, angle_deg, linear, back, w, r, b, head, head_bias,
                          tile, prepared, scratch, sm};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    fclose(in);
    must(fclose(out) == 0, "cannot write");
    return 0;
}
