/* The C core alone, without Python, on every tier of this machine, for ASan, UBSan and
 * valgrind to look on. Reads what fixtures.py wrote: check FOLDER. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kgsm.h"

static int failures;

#define EXPECT(what, ...)                                  \
    do {                                                   \
        if (!(what)) {                                     \
            failures++;                                    \
            printf("%s: %s: ", kgsm_tier(), #what);        \
            printf(__VA_ARGS__);                           \
            printf("\n");                                  \
        }                                                  \
    } while (0)

/* The next array of a fixture, exactly as large as it is, so that a byte beyond is caught. */
static void *next(FILE *file, int64_t tag, size_t *n) {
    int64_t head[2];
    if (fread(head, sizeof *head, 2, file) != 2 || head[0] != tag) {
        fprintf(stderr, "fixture broken: run fixtures.py\n");
        exit(2);
    }
    const size_t size = (size_t)head[1] * (size_t)tag;
    void *data = malloc(size ? size : 1);
    if (!data || fread(data, 1, size, file) != size) exit(2);
    if (n) *n = (size_t)head[1];
    return data;
}

static FILE *fixture(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.bin", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: not there; run fixtures.py\n", path);
        exit(2);
    }
    return file;
}

static int near(float got, float expected, double relative, double absolute) {
    if (isnan(expected) || isinf(expected)) return isnan(expected) ? isnan(got) : got == expected;
    return fabs((double)got - expected) <= absolute + relative * fabs((double)expected);
}

typedef int map(size_t, const float *, float *);

static void check_map(const char *folder, const char *name, map *f, double relative,
                      double absolute) {
    FILE *file = fixture(folder, name);
    size_t n;
    float *in = next(file, 4, &n), *expected = next(file, 4, NULL);
    float *out = malloc(n * sizeof *out);
    EXPECT(f(n, in, out) == KGSM_OK, "%s", name);
    for (size_t i = 0; i < n; i++)
        EXPECT(near(out[i], expected[i], relative, absolute), "%s(%g) = %g, expected %g", name,
               in[i], out[i], expected[i]);
    EXPECT(f(n, NULL, out) == KGSM_ERR_NULL && f(0, NULL, NULL) == KGSM_OK, "%s", name);
    fclose(file);
    free(in), free(expected), free(out);
}

static void check_isolate(const char *folder, const char *name, int rule) {
    FILE *file = fixture(folder, name);
    size_t n;
    float *s = next(file, 4, &n), *v = next(file, 4, NULL), *angle = next(file, 4, NULL);
    float *soil = next(file, 4, NULL), *fraction = next(file, 4, NULL);
    uint16_t *flags = next(file, 2, NULL);
    float *got = malloc(n * sizeof *got), *got_fraction = malloc(n * sizeof *got);
    uint16_t *got_flags = malloc(n * sizeof *got_flags);
    kgsm_wcm wcm = {.a = 0.02, .b = 0.084, .vwc_rule = KGSM_VWC_FOLIAGE, .angle_rule = rule,
                    .angle_ref_deg = 40, .angle_exponent = 2, .min_soil_fraction = 0.1,
                    .sigma0_db = {-60, 20}, .vegetation = {-1, 1}, .angle_deg = {0, 75},
                    .dense_vwc_kg_m2 = 1e9};
    const float *given = rule == KGSM_ANGLE_CONSTANT ? NULL : angle;
    EXPECT(kgsm_isolate(&wcm, n, s, v, given, got, got_fraction, got_flags) == KGSM_OK, "%s", name);
    for (size_t i = 0; i < n; i++) {
        if (isfinite(soil[i]) && isfinite(got[i]))
            EXPECT(near(got[i], soil[i], 0, 2e-4), "%s[%zu] %g, expected %g", name, i, got[i], soil[i]);
        EXPECT(isnan(got[i]) == ((got_flags[i] & KGSM_NO_NUMBER) != 0), "%s[%zu]", name, i);
        EXPECT(isnan(fraction[i]) || near(got_fraction[i], fraction[i], 1e-4, 1e-4) ||
                   isnan(got_fraction[i]), "%s[%zu] fraction %g, expected %g", name, i,
               got_fraction[i], fraction[i]);
        (void)flags;
    }
    wcm.b = NAN;
    EXPECT(kgsm_isolate(&wcm, n, s, v, given, got, got_fraction, got_flags) == KGSM_ERR_PARAM, "%s", name);
    fclose(file);
    free(s), free(v), free(angle), free(soil), free(fraction), free(flags);
    free(got), free(got_fraction), free(got_flags);
}

static void check_pack(const char *folder) {
    FILE *file = fixture(folder, "pack");
    int64_t *size = next(file, 8, NULL);
    float *mean = next(file, 4, NULL), *inv_std = next(file, 4, NULL);
    int64_t *rows = next(file, 8, NULL);
    float *channel_db = next(file, 4, NULL);
    uint16_t *step_flags = next(file, 2, NULL);
    double *day = next(file, 8, NULL);
    float *dynamic = next(file, 4, NULL), *statics = next(file, 4, NULL);
    size_t tile_size, n;
    float *expected = next(file, 4, &tile_size);
    uint16_t *expected_flags = next(file, 2, &n);
    const kgsm_layout layout = {(size_t)size[0], (size_t)size[1], (size_t)size[2], mean, inv_std};
    float *tile = malloc(tile_size * sizeof *tile);
    uint16_t *flags = malloc(n * sizeof *flags);
    EXPECT(kgsm_pack(&layout, n, (size_t)size[4], rows, channel_db, step_flags, day, dynamic,
                     statics, tile, flags) == KGSM_OK, "pack");
    EXPECT(!memcmp(tile, expected, tile_size * sizeof *tile), "tile differs from the twin's");
    EXPECT(!memcmp(flags, expected_flags, n * sizeof *flags), "flags differ from the twin's");
    rows[3] = size[4];
    EXPECT(kgsm_pack(&layout, n, (size_t)size[4], rows, channel_db, step_flags, day, dynamic,
                     statics, tile, flags) == KGSM_ERR_INDEX, "a row beyond the table");
    fclose(file);
    free(size), free(mean), free(inv_std), free(rows), free(channel_db), free(step_flags);
    free(day), free(dynamic), free(statics), free(expected), free(expected_flags);
    free(tile), free(flags);
}

static void check_lstm(const char *folder, const char *name) {
    FILE *file = fixture(folder, name);
    int64_t *size = next(file, 8, NULL);
    float *w = next(file, 4, NULL), *r = next(file, 4, NULL), *b = next(file, 4, NULL);
    float *head = next(file, 4, NULL), *head_bias = next(file, 4, NULL);
    float *tile = next(file, 4, NULL);
    size_t n;
    float *expected = next(file, 4, &n), *sm = malloc(n * sizeof *sm);
    const kgsm_lstm lstm = {(size_t)size[0], (size_t)size[1], (size_t)size[2], (size_t)size[3],
                            0, 0};
    float *prepared = malloc(kgsm_lstm_prepared_floats(&lstm) * sizeof *prepared);
    float *scratch = malloc(kgsm_lstm_scratch_floats(&lstm) * sizeof *scratch);
    EXPECT(kgsm_lstm_prepare(&lstm, w, r, b, head, head_bias, prepared) == KGSM_OK, "%s", name);
    EXPECT(kgsm_lstm_run(&lstm, prepared, n, n, tile, scratch, sm) == KGSM_OK, "%s", name);
    for (size_t i = 0; i < n; i++)
        EXPECT(near(sm[i], expected[i], 0, 5e-6), "%s[%zu] %g, expected %g", name, i, sm[i], expected[i]);
    /* a part of a wider tile is the same windows */
    const size_t first = 7, some = n > 12 ? n - 12 : 0;
    float *part = malloc(some * sizeof *part);
    EXPECT(kgsm_lstm_run(&lstm, prepared, some, n, tile + first * lstm.channels, scratch, part) ==
               KGSM_OK, "%s", name);
    for (size_t i = 0; i < some; i++)
        EXPECT(!memcmp(&part[i], &sm[first + i], sizeof *sm), "%s part[%zu]", name, i);
    EXPECT(kgsm_lstm_run(&lstm, prepared, n, n - 1, tile, scratch, sm) == KGSM_ERR_SHAPE, "%s", name);
    EXPECT(kgsm_lstm_prepared_floats(&(kgsm_lstm){0, 1, 1, 1, 0, 0}) == 0, "no steps");
    EXPECT(kgsm_lstm_prepared_floats(&(kgsm_lstm){1, 4, 1, 1, 2, 2}) == 0, "a static valid");
    fclose(file);
    free(size), free(w), free(r), free(b), free(head), free(head_bias), free(tile);
    free(expected), free(sm), free(prepared), free(scratch), free(part);
}

static void check_readout(const char *folder) {
    FILE *file = fixture(folder, "readout");
    int64_t *size = next(file, 8, NULL);
    float *weight = next(file, 4, NULL), *bias = next(file, 4, NULL), *tile = next(file, 4, NULL);
    float *line = next(file, 4, NULL), *index = next(file, 4, NULL);
    const size_t n = (size_t)size[1];
    const kgsm_head head = {(size_t)size[0], (size_t)size[2], weight, *bias, KGSM_LINK_IDENTITY, 0, 0};
    float *sm = malloc(n * sizeof *sm);
    EXPECT(kgsm_readout(&head, n, tile, sm) == KGSM_OK, "readout");
    for (size_t i = 0; i < n; i++)
        EXPECT(near(sm[i], line[i], 1e-6, 1e-6), "readout[%zu] %g, expected %g", i, sm[i], line[i]);
    kgsm_head other = head;
    other.link = KGSM_LINK_NORMAL, other.low = 0.05f, other.high = 0.40f;
    EXPECT(kgsm_readout(&other, n, tile, sm) == KGSM_OK, "index");
    for (size_t i = 0; i < n; i++)
        EXPECT(near(sm[i], index[i], 2e-7, 2e-7), "index[%zu] %g, expected %g", i, sm[i], index[i]);
    other.high = 0.05f;
    EXPECT(kgsm_readout(&other, n, tile, sm) == KGSM_ERR_PARAM, "limits of no width");
    other.high = NAN;
    EXPECT(kgsm_readout(&other, n, tile, sm) == KGSM_ERR_PARAM, "NaN limit");
    other = head, other.link = 2;
    EXPECT(kgsm_readout(&other, n, tile, sm) == KGSM_ERR_PARAM, "unknown link");
    other = head, other.steps = 0;
    EXPECT(kgsm_readout(&other, n, tile, sm) == KGSM_ERR_SHAPE, "no step");
    other = head, other.bias = NAN;
    EXPECT(kgsm_readout(&other, n, tile, sm) == KGSM_ERR_PARAM, "NaN bias");
    other = head, other.weight = NULL;
    EXPECT(kgsm_readout(&other, n, tile, sm) == KGSM_ERR_NULL, "no weight");
    EXPECT(kgsm_readout(NULL, n, tile, sm) == KGSM_ERR_NULL, "no head");
    fclose(file);
    free(size), free(weight), free(bias), free(tile), free(line), free(index), free(sm);
}

static void check_nearest(const char *folder, const char *name) {
    FILE *file = fixture(folder, name);
    int64_t *size = next(file, 8, NULL);
    float *x = next(file, 4, NULL), *points = next(file, 4, NULL);
    size_t n;
    float *expected = next(file, 4, &n), *distance = malloc(n * sizeof *distance);
    const size_t stride = (size_t)size[0], channels = (size_t)size[1], count = (size_t)size[2];
    EXPECT(kgsm_nearest(n, stride, channels, x, count, points, distance) == KGSM_OK, "%s", name);
    for (size_t i = 0; i < n; i++)
        EXPECT(near(distance[i], expected[i], 1e-6, 0), "%s[%zu] %g, expected %g", name, i,
               distance[i], expected[i]);
    EXPECT(kgsm_nearest(n, channels - 1, channels, x, count, points, distance) == KGSM_ERR_SHAPE,
           "%s", name);
    EXPECT(kgsm_nearest(n, stride, channels, x, 0, points, distance) == KGSM_ERR_SHAPE, "%s", name);
    fclose(file);
    free(size), free(x), free(points), free(expected), free(distance);
}

static void check_fusion(const char *folder, const char *name) {
    FILE *file = fixture(folder, name);
    int64_t *size = next(file, 8, NULL);
    float *image[5];
    for (int k = 0; k < 5; k++) image[k] = next(file, 4, NULL);
    double *sigma = next(file, 8, NULL);
    size_t n;
    float *expected = next(file, 4, &n), *fused = malloc(n * sizeof *fused);
    const kgsm_fusion fusion = {(size_t)size[0], (size_t)size[1], (size_t)size[2],
                                (size_t)size[3], 250, 350, (int)size[4]};
    float *prepared = malloc(kgsm_fusion_prepared_floats(&fusion) * sizeof *prepared);
    float *scratch = malloc(kgsm_fusion_scratch_floats(&fusion) * sizeof *scratch);
    EXPECT(kgsm_fusion_prepare(&fusion, image[0], image[1], image[2], image[3], image[4],
                               prepared) == KGSM_OK, "%s", name);
    for (size_t row = 0; row < fusion.rows; row += 5) { /* in parts, as threads do */
        const size_t count = fusion.rows - row < 5 ? fusion.rows - row : 5;
        EXPECT(kgsm_fusion_run(&fusion, prepared, row, count, sigma, scratch, fused) == KGSM_OK,
               "%s", name);
    }
    for (size_t i = 0; i < n; i++)
        EXPECT(near(fused[i], expected[i], 1.2e-7, 0), "%s[%zu] %.9g, expected %.9g", name, i,
               fused[i], expected[i]);
    EXPECT(kgsm_fusion_run(&fusion, prepared, 1, fusion.rows, sigma, scratch, fused) ==
               KGSM_ERR_SHAPE, "%s: a row too many", name);
    EXPECT(kgsm_fusion_run(&fusion, prepared, 0, 1, NULL, scratch, fused) == KGSM_ERR_NULL,
           "%s", name);
    const kgsm_fusion odd = {fusion.rows, fusion.columns, fusion.days, fusion.radius, 1, NAN, 0};
    EXPECT(kgsm_fusion_run(&odd, prepared, 0, 1, sigma, scratch, fused) == KGSM_ERR_PARAM,
           "%s", name);
    EXPECT(kgsm_fusion_prepared_floats(&(kgsm_fusion){0, 1, 1, 1, 0, 1, 0}) == 0, "no rows");
    fclose(file);
    for (int k = 0; k < 5; k++) free(image[k]);
    free(size), free(sigma), free(expected), free(fused), free(prepared), free(scratch);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: check FOLDER\n"), 2;
    const char *folder = argv[1];
    EXPECT(kgsm_choose_tier("no such tier") == KGSM_ERR_TIER, "an unknown tier");
    for (size_t i = 0; kgsm_tier_name(i); i++) {
        kgsm_choose_tier(kgsm_tier_name(i));
        const int before = failures;
        check_map(folder, "db_to_linear", kgsm_db_to_linear, 5e-6, 1e-44);
        check_map(folder, "linear_to_db", kgsm_linear_to_db, 3e-7, 1e-6);
        check_isolate(folder, "isolate_constant", KGSM_ANGLE_CONSTANT);
        check_isolate(folder, "isolate_column", KGSM_ANGLE_COLUMN);
        check_isolate(folder, "isolate_normalise", KGSM_ANGLE_NORMALISE);
        check_pack(folder);
        check_lstm(folder, "lstm_1");
        check_lstm(folder, "lstm_16");
        check_lstm(folder, "lstm_33");
        check_readout(folder);
        check_nearest(folder, "nearest_3");
        check_nearest(folder, "nearest_16");
        check_nearest(folder, "nearest_37");
        check_fusion(folder, "fusion_gaps");
        check_fusion(folder, "fusion_days");
        check_fusion(folder, "fusion_regressed");
        printf("%s: %s\n", kgsm_tier(), failures == before ? "ok" : "FAILED");
    }
    return failures != 0;
}
