/* NEON of 64-bit ARM, always there: four floats, 32 registers. */
#include "kernels.h"

#ifdef KGSM_ARM64
#define KGSM_NEON
#define KGSM_LANES 4
#define KGSM_ROWS 6
#include "lstm_body.h"
#include "wcm_body.h"
#include "domain_body.h"
#include "fusion_body.h"

const kgsm_kernels kgsm_kernels_neon = KGSM_TIER("neon");
#endif
