/* The seam between the public functions (kgsm.c) and the loops that do the work.
 *
 * kgsm.c checks the arguments, turns parameters into float32 once, and calls the loops
 * through one constant table. Loops see only valid arguments.
 *
 * How a tier (AVX2, AVX-512, NEON ...) joins:
 *   1. one file, say avx2.c, defines `const kgsm_kernels kgsm_kernels_avx2`; entries it
 *      has no better loop for name the portable function;
 *   2. setup.py compiles that file, and only that file, with the tier's -m flags;
 *   3. kernels() in kgsm.c returns its address where the CPU has the instructions.
 * tests/test_kernels.py is the judge of every tier. */
#ifndef KGSM_KERNELS_H
#define KGSM_KERNELS_H

#include "kgsm.h"

typedef struct {
    float low, high;
} range_f32;

/* kgsm_wcm in float32, with what does not change over the loop worked out. */
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
                 const float *channel_db, const uint16_t *step_flags, const float *day,
                 const float *dynamic, const float *statics, float *tile,
                 uint16_t *window_flags);
} kgsm_kernels;

extern const kgsm_kernels kgsm_kernels_portable; /* portable.c */

/* pack.c; named here because the portable table (portable.c) points to it */
void kgsm_pack_portable(const kgsm_layout *layout, size_t n, const int64_t *rows,
                        const float *channel_db, const uint16_t *step_flags,
                        const float *day, const float *dynamic, const float *statics,
                        float *tile, uint16_t *window_flags);

#endif
