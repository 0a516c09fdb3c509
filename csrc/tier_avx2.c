/* AVX2 with FMA: eight floats, 16 registers: 3 rows of 4 gates, 3 inputs, and a weight. */
#include "kernels.h"

#ifdef KGSM_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define KGSM_AVX2
#define KGSM_LANES 8
#define KGSM_ROWS 3
#include "lstm_body.h"
#include "wcm_body.h"
#include "domain_body.h"
#include "fusion_body.h"

const kgsm_kernels kgsm_kernels_avx2 = KGSM_TIER("avx2");

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
