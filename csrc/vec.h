/* vec.h - a vector of KGSM_LANES floats, the same few operations on every instruction set.
 *
 * A tier (tier_*.c) defines KGSM_LANES and, for its instruction set, KGSM_AVX512, KGSM_AVX2 or
 * KGSM_NEON before it includes this. Without one the vectors are the compiler's own (16
 * bytes, on whatever the machine has), and without such a compiler they are one float.
 *
 *   vf, vu, vh, vd  floats; as many uint32_t; as many uint16_t; as many doubles
 *   vf_fma(a, b, c) a b + c, fused where the set has it: always so or never so in one tier,
 *                   because the global flag -ffp-contract=off keeps all else apart
 *   vd_add(a, b)    a + b, a in doubles and b in floats; vd_add_at: b is doubles in memory
 *   vf_round(x)     the nearest integer, of halves the even one, for |x| < 2**22
 *   vf_scale(x, n)  x 2**n for an integer n; AVX-512 alone has it as an instruction
 *   vf_min(k, x)    x where x is NaN, or below k; k elsewhere.  vf_max alike.
 *
 * Nothing here depends on where in a vector an element stands: a result is the same in any
 * lane, so it does not depend on the size of a batch. */
#ifndef KGSM_VEC_H
#define KGSM_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(KGSM_AVX512) || defined(KGSM_AVX2)
#include <immintrin.h>
#elif defined(KGSM_NEON)
#include <arm_neon.h>
#endif

#define KGSM_INLINE static inline __attribute__((always_inline))

#if KGSM_LANES > 1
typedef float vf __attribute__((vector_size(4 * KGSM_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * KGSM_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * KGSM_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * KGSM_LANES)));
KGSM_INLINE vu vf_bits(vf x) { return (vu)x; }
KGSM_INLINE vf vf_of_bits(vu x) { return (vf)x; }
KGSM_INLINE vf vf_all(float x) { return x - (vf){0}; } /* -0 and NaN stay what they are */
KGSM_INLINE float vf_lane(vf x, int lane) { return x[lane]; }

/* twice the bytes of a vf, so two vectors */
typedef float vf_half __attribute__((vector_size(2 * KGSM_LANES)));
typedef double vd_half __attribute__((vector_size(4 * KGSM_LANES)));
typedef struct {
    vd_half first, last;
} vd;
KGSM_INLINE vd vd_add(vd a, vf b) {
#if defined(KGSM_AVX512) /* by name: through memory b would stay there for the whole loop */
    a.first += (vd_half)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)b));
    a.last += (vd_half)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)b, 1));
#elif defined(KGSM_AVX2)
    a.first += (vd_half)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)b));
    a.last += (vd_half)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)b, 1));
#elif defined(KGSM_NEON)
    a.first += (vd_half)vcvt_f64_f32(vget_low_f32((float32x4_t)b));
    a.last += (vd_half)vcvt_high_f64_f32((float32x4_t)b);
#else
    vf_half first, last;
    memcpy(&first, &b, sizeof first);
    memcpy(&last, (const char *)&b + sizeof first, sizeof last);
    a.first += __builtin_convertvector(first, vd_half);
    a.last += __builtin_convertvector(last, vd_half);
#endif
    return a;
}
KGSM_INLINE vd vd_add_at(vd a, const double *p) {
    vd b;
    memcpy(&b, p, sizeof b);
    a.first += b.first;
    a.last += b.last;
    return a;
}
#else
#undef KGSM_INLINE
#define KGSM_INLINE static inline
typedef struct {
    double only;
} vd;
typedef float vf;
typedef uint32_t vu;
typedef int vm;
KGSM_INLINE vd vd_add(vd a, vf b) { return (vd){a.only + (double)b}; }
KGSM_INLINE vd vd_add_at(vd a, const double *p) { return (vd){a.only + *p}; }
KGSM_INLINE vu vf_bits(vf x) {
    vu bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
KGSM_INLINE vf vf_of_bits(vu bits) {
    vf x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
KGSM_INLINE vf vf_all(float x) { return x; }
KGSM_INLINE float vf_lane(vf x, int lane) { return (void)lane, x; }
#endif

KGSM_INLINE vf vf_load(const float *p) {
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}

KGSM_INLINE void vf_store(float *p, vf x) { memcpy(p, &x, sizeof x); }

KGSM_INLINE void vd_store(double *p, vd x) { memcpy(p, &x, sizeof x); }

KGSM_INLINE vf vf_abs(vf x) { return vf_of_bits(vf_bits(x) & 0x7fffffffu); }

/* Masks: one bit, or one lane of 0 or -1, for each element. vm_not_outside, vm_none_nan and
 * vm_inside narrow a mask down; where x is NaN it is neither outside low .. high nor inside. */
#if defined(KGSM_AVX512)
typedef __mmask16 vm;
KGSM_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
KGSM_INLINE vf vf_min(vf k, vf x) { return (vf)_mm512_min_ps((__m512)k, (__m512)x); }
KGSM_INLINE vf vf_max(vf k, vf x) { return (vf)_mm512_max_ps((__m512)k, (__m512)x); }
KGSM_INLINE vf vf_round(vf x) { return (vf)_mm512_roundscale_ps((__m512)x, 0); }
KGSM_INLINE vf vf_scale(vf x, vf n) { return (vf)_mm512_scalef_ps((__m512)x, (__m512)n); }
KGSM_INLINE vm vm_less(vf a, vf b) {
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
}
KGSM_INLINE vm vm_nan(vf x) { return _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q); }
KGSM_INLINE vm vm_none_nan(vm so_far, vf a, vf b) {
    return _mm512_mask_cmp_ps_mask(so_far, (__m512)a, (__m512)b, _CMP_ORD_Q);
}
KGSM_INLINE vm vm_not_outside(vm so_far, vf x, vf low, vf high) {
    so_far = _mm512_mask_cmp_ps_mask(so_far, (__m512)x, (__m512)low, _CMP_NLT_UQ);
    return _mm512_mask_cmp_ps_mask(so_far, (__m512)x, (__m512)high, _CMP_NGT_UQ);
}
KGSM_INLINE vm vm_inside(vm so_far, vf x, vf low, vf high) {
    so_far = _mm512_mask_cmp_ps_mask(so_far, (__m512)x, (__m512)low, _CMP_GT_OQ);
    return _mm512_mask_cmp_ps_mask(so_far, (__m512)x, (__m512)high, _CMP_LT_OQ);
}
KGSM_INLINE vf vf_add_where(vf a, vm m, vf b) {
    return (vf)_mm512_mask_add_ps((__m512)a, m, (__m512)a, (__m512)b);
}
KGSM_INLINE vm vm_all(void) { return (vm)0xffff; }
KGSM_INLINE vm vm_not(vm m) { return (vm)~m; }
KGSM_INLINE vf vf_choose(vm m, vf yes, vf no) {
    return (vf)_mm512_mask_blend_ps(m, (__m512)no, (__m512)yes);
}
KGSM_INLINE vu vu_set_where(vu flags, vm m, uint32_t bits) {
    const __m512i set = _mm512_set1_epi32((int)bits);
    return (vu)_mm512_mask_or_epi32((__m512i)flags, m, (__m512i)flags, set);
}
#elif KGSM_LANES > 1
typedef vi vm;
KGSM_INLINE vm vm_less(vf a, vf b) { return a < b; }
KGSM_INLINE vm vm_nan(vf x) { return x != x; }
KGSM_INLINE vm vm_none_nan(vm so_far, vf a, vf b) { return so_far & (a == a) & (b == b); }
KGSM_INLINE vm vm_not_outside(vm so_far, vf x, vf low, vf high) {
    return so_far & ~((x < low) | (x > high));
}
KGSM_INLINE vm vm_inside(vm so_far, vf x, vf low, vf high) {
    return so_far & (x > low) & (x < high);
}
KGSM_INLINE vf vf_add_where(vf a, vm m, vf b) { return a + (vf)((vu)m & (vu)b); }
KGSM_INLINE vm vm_all(void) { return ~(vm){0}; }
KGSM_INLINE vm vm_not(vm m) { return ~m; }
KGSM_INLINE vf vf_choose(vm m, vf yes, vf no) {
    return (vf)(((vu)m & (vu)yes) | (~(vu)m & (vu)no));
}
KGSM_INLINE vu vu_set_where(vu flags, vm m, uint32_t bits) { return flags | ((vu)m & bits); }
#if defined(KGSM_AVX2)
KGSM_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
KGSM_INLINE vf vf_min(vf k, vf x) { return (vf)_mm256_min_ps((__m256)k, (__m256)x); }
KGSM_INLINE vf vf_max(vf k, vf x) { return (vf)_mm256_max_ps((__m256)k, (__m256)x); }
#elif defined(KGSM_NEON)
KGSM_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
KGSM_INLINE vf vf_min(vf k, vf x) { return vf_choose(k < x, k, x); }
KGSM_INLINE vf vf_max(vf k, vf x) { return vf_choose(x < k, k, x); }
#else
KGSM_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
KGSM_INLINE vf vf_min(vf k, vf x) { return vf_choose(k < x, k, x); }
KGSM_INLINE vf vf_max(vf k, vf x) { return vf_choose(x < k, k, x); }
#endif
#else
KGSM_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
KGSM_INLINE vm vm_less(vf a, vf b) { return a < b; }
KGSM_INLINE vm vm_nan(vf x) { return x != x; }
KGSM_INLINE vm vm_inside(vm so_far, vf x, vf low, vf high) { return so_far & (x > low) & (x < high); }
KGSM_INLINE vf vf_add_where(vf a, vm m, vf b) { return m ? a + b : a; }
KGSM_INLINE vm vm_all(void) { return 1; }
KGSM_INLINE vm vm_not(vm m) { return !m; }
KGSM_INLINE vf vf_choose(vm m, vf yes, vf no) { return m ? yes : no; }
KGSM_INLINE vf vf_min(vf k, vf x) { return x > k ? k : x; }
KGSM_INLINE vf vf_max(vf k, vf x) { return x < k ? k : x; }
#endif

#ifndef KGSM_AVX512
KGSM_INLINE vf vf_round(vf x) { return (x + 12582912.0f) - 12582912.0f; } /* 1.5 * 2**23 */
#endif

#endif
