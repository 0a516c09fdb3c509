/* Interface between the public functions (kgsm.c) and the loops.
 *
 * kgsm.c checks the arguments, turns parameters into float32 once, and calls the loops
 * through one table per tier. Loops receive valid arguments only.
 *
 * To add a tier, write tier_NAME.c. It sets the number of lanes and the instruction set, includes
 * the bodies (wcm_body.h, lstm_body.h, domain_body.h, fusion_body.h) and defines
 * `const kgsm_kernels kgsm_kernels_NAME`. An entry without a faster loop names the portable
 * function. kgsm.c offers the tier on CPUs with these instructions. Every tier passes the same
 * tests. */
#ifndef KGSM_KERNELS_H
#define KGSM_KERNELS_H

#include "kgsm.h"

typedef struct {
    float low, high;
} range_f32;

/* kgsm_wcm in float32, with the constants of the loop computed. */
typedef struct {
    float a, two_b, e, stem_kg_m2;
    int foliage;   /* vegetation is NDVI */
    int normalise; /* sigma0 is brought to the reference angle */
    float cos_ref, angle_exponent;
    float min_soil_fraction, dense_vwc_kg_m2;
    range_f32 sigma0_db, vegetation, angle_deg;
} wcm_f32;

typedef struct {
    const char *name;
    void (*db_to_linear)(size_t n, const float *db, float *linear);
    void (*linear_to_db)(size_t n, const float *linear, float *db);
    /* angle_deg is NULL with the constant rule */
    void (*isolate)(const wcm_f32 *wcm, size_t n, const float *sigma0_db,
                    const float *vegetation, const float *angle_deg, float *soil_db,
                    float *soil_fraction, uint16_t *flags);
    void (*screen)(range_f32 limits, size_t n, const float *sigma0_db, float *screened_db,
                   uint16_t *flags);
    void (*invert)(float c_db, float d_db, size_t n, const float *soil_db, float *sm);
    void (*pack)(const kgsm_layout *layout, size_t n, const int64_t *rows,
                 const float *channel_db, const uint16_t *step_flags, const double *day,
                 const float *dynamic, const float *statics, float *tile,
                 uint16_t *window_flags);
    size_t (*lstm_prepared)(const kgsm_lstm *lstm);
    size_t (*lstm_scratch)(const kgsm_lstm *lstm);
    void (*lstm_prepare)(const kgsm_lstm *lstm, const float *w, const float *r, const float *b,
                         const float *head, const float *head_bias, float *prepared);
    void (*lstm_run)(const kgsm_lstm *lstm, const float *prepared, size_t n, size_t lines,
                     const float *tile, float *scratch, float *sm);
    void (*nearest)(size_t n, size_t stride, size_t channels, const float *x, size_t count,
                    const float *points, float *distance);
    size_t (*fusion_scratch)(const kgsm_fusion *fusion);
    void (*fusion_run)(const kgsm_fusion *fusion, const float *prepared, size_t first,
                       size_t count, const double *sigma, float *scratch, float *fused);
} kgsm_kernels;

/* kgsm.c: the table of the tier in use */
const kgsm_kernels *kgsm_kernels_chosen(void);

/* GNU C on processors with vector tiers; elsewhere only the portable tier is built. */
#if defined(__GNUC__) && defined(__x86_64__)
#define KGSM_X86
#elif defined(__GNUC__) && defined(__aarch64__)
#define KGSM_ARM64
#endif

extern const kgsm_kernels kgsm_kernels_portable; /* portable.c */
#ifdef KGSM_X86
extern const kgsm_kernels kgsm_kernels_avx2;   /* tier_avx2.c */
extern const kgsm_kernels kgsm_kernels_avx512; /* tier_avx512.c */
#endif
#ifdef KGSM_ARM64
extern const kgsm_kernels kgsm_kernels_neon; /* tier_neon.c */
#endif

/* portable.c; tiers name these for rare cases */
void kgsm_isolate_portable(const wcm_f32 *wcm, size_t n, const float *sigma0_db,
                           const float *vegetation, const float *angle_deg, float *soil_db,
                           float *soil_fraction, uint16_t *flags);
void kgsm_screen_portable(range_f32 limits, size_t n, const float *sigma0_db,
                          float *screened_db, uint16_t *flags);
void kgsm_invert_portable(float c_db, float d_db, size_t n, const float *soil_db, float *sm);

/* pack.c; the portable table (portable.c) points to it */
void kgsm_pack_portable(const kgsm_layout *layout, size_t n, const int64_t *rows,
                        const float *channel_db, const uint16_t *step_flags,
                        const double *day, const float *dynamic, const float *statics,
                        float *tile, uint16_t *window_flags);

/* readout.c; a few numbers per window, the same loop in every tier */
void kgsm_readout_portable(const kgsm_head *head, size_t n, const float *tile, float *sm);

#endif
