/* AVX-512: sixteen floats, 32 registers: 6 rows of 4 gates, 6 inputs, and weights. */
#include "kernels.h"

#ifdef KGSM_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,fma")
#endif

#define KGSM_AVX512
#define KGSM_LANES 16
#define KGSM_ROWS 6
#include "lstm_body.h"
#include "wcm_body.h"
#include "domain_body.h"
#include "fusion_body.h"

const kgsm_kernels kgsm_kernels_avx512 = KGSM_TIER("avx512");

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
